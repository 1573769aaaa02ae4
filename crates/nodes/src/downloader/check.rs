//! What a check server says: who lives, as it changes.

use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::client::conn::http1;
use hyper::header::HOST;
use hyper::{Method, Request, Response, StatusCode, body::Incoming};
use hyper_util::rt::TokioIo;
use tokio::sync::mpsc::Sender;
use tokio::time::timeout_at;

use super::driver::Control;
use super::trouble::Trouble;
use crate::check_server::board::{ROLE, ServerView, StatusView};
use crate::clock;
use crate::http::Url;
use crate::http::dial::dial;

/// Between two attempts to listen to a check server.
const AGAIN: Duration = Duration::from_millis(200);

/// It sends a comment every interval, 500 ms unless told otherwise: silent for this long, it is gone.
const SILENCE: Duration = Duration::from_secs(10);

/// How long it may take to connect, to answer, to be told the end.
const PATIENCE: Duration = Duration::from_secs(1);

/// Longer lines and documents are not from a check server, in bytes.
const LONGEST: usize = 1 << 20;

/// Listens for ever, through every death of the check server, and hands on what it says.
pub(crate) async fn listen(check: Url, tell: Sender<Control>) {
    loop {
        if let Err(trouble) = follow(&check, &tell).await {
            tracing::debug!(%check, "{}", trouble.line());
        }
        if tell.is_closed() {
            return;
        }
        tokio::time::sleep_until(clock::instant(clock::now()) + AGAIN).await;
    }
}

async fn follow(check: &Url, tell: &Sender<Control>) -> Result<(), Trouble> {
    let mut response = patiently(exchange(check, Method::GET, "/events")).await?;
    if response.status() != StatusCode::OK {
        return Err(Trouble::Status(response.status()));
    }
    let mut text = BytesMut::new();
    loop {
        let deadline = clock::instant(clock::now()) + SILENCE;
        let Ok(Some(frame)) = timeout_at(deadline, response.frame()).await else { return Ok(()) };
        let Ok(bytes) = frame?.into_data() else { continue };
        text.extend_from_slice(&bytes);
        while let Some(end) = text.iter().position(|b| *b == b'\n') {
            let line = text.split_to(end);
            text.advance(1);
            if let Some((server, alive)) = parse(&line)
                && tell.send(Control::Liveness(server, alive)).await.is_err()
            {
                return Ok(());
            }
        }
        if text.len() > LONGEST {
            return Err(Trouble::Violation("sends a line without end".into()));
        }
    }
}

/// One line of server-sent events, if it tells of a server.
fn parse(line: &[u8]) -> Option<(Url, bool)> {
    let data = line.strip_prefix(b"data:")?;
    let view: ServerView = serde_json::from_slice(data).ok()?;
    Some((view.url.parse().ok()?, view.alive))
}

/// Tells the check server that the download is complete. It may be dead; nothing depends on it.
pub(crate) async fn tell_done(check: &Url) {
    if let Err(trouble) = patiently(exchange(check, Method::POST, "/done")).await {
        tracing::debug!(%check, "not told: {}", trouble.line());
    }
}

/// Whether the server at `url` is a check server; an error if nothing sensible answers.
pub(crate) async fn is_check_server(url: &Url) -> Result<bool, Trouble> {
    patiently(async {
        let response = exchange(url, Method::GET, "/status").await?;
        if response.status() != StatusCode::OK {
            return Ok(false);
        }
        let body = Limited::new(response.into_body(), LONGEST).collect().await;
        let document = body.map(|body| body.to_bytes()).unwrap_or_default();
        Ok(serde_json::from_slice::<StatusView>(&document).is_ok_and(|status| status.role == ROLE))
    })
    .await
}

async fn exchange(server: &Url, method: Method, path: &str) -> Result<Response<Incoming>, Trouble> {
    let stream = dial(server).await.map_err(Trouble::Dial)?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(async move {
        // Ends with the body; what broke it is told to whoever reads that.
        let _ = connection.await;
    });
    let request = Request::builder().method(method).uri(path).header(HOST, server.authority());
    let request = request.body(Empty::<Bytes>::new()).expect("a parsed URL makes a valid request");
    Ok(sender.send_request(request).await?)
}

async fn patiently<T>(work: impl Future<Output = Result<T, Trouble>>) -> Result<T, Trouble> {
    let deadline = clock::instant(clock::now()) + PATIENCE;
    let late = |_| Err(Trouble::Dial(std::io::ErrorKind::TimedOut.into()));
    timeout_at(deadline, work).await.unwrap_or_else(late)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_that_tell_of_a_server_are_understood_and_others_passed_over() {
        let line = br#"data: {"url":"http://server-2/","name":"server-2","alive":false,"since_ms":3}"#;
        assert_eq!(parse(line), Some(("http://server-2/".parse().unwrap(), false)));
        for other in
            [&b"event: server"[..], b":", b"", b"data: 7", b"data: {\"url\":\"x\",\"name\":\"\",\"alive\":true}"]
        {
            assert_eq!(parse(other), None);
        }
    }
}

//! What a check server says: who lives, and what the file is, as it changes.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use bytes::{Buf, BytesMut};
use hyper::StatusCode;
use hyper::header::CONTENT_TYPE;
use tokio::sync::mpsc::Sender;
use tokio::time::timeout_at;

use super::ask::{read, text};
use super::roster::{Control, Liveness};
use super::trouble::Trouble;
use crate::check_server::board::{FileView, ROLE, ServerView, StatusView};
use crate::clock;
use crate::http::Url;
use crate::http::connection::{Answer, Connection, ExchangeError};
use crate::http::dial::{dial, resolve};
use crate::http::request::request;
use crate::http::tls::Trust;

/// Between two attempts to listen to a check server.
const AGAIN: Duration = Duration::from_millis(200);

/// It sends a comment every interval, 500 ms unless told otherwise: silent for this long, it is gone.
const SILENCE: Duration = Duration::from_secs(10);

/// How long it may take to connect, to answer, to be told the end.
const PATIENCE: Duration = Duration::from_secs(1);

/// One that has more to say than this is listened to slowly: this many bytes, then a pause. A thousand servers fit.
const AT_ONCE: usize = 128 << 10;

/// The pause.
const PAUSE: Duration = Duration::from_millis(100);

/// The media type of server-sent events.
const EVENTS: &str = "text/event-stream";

/// Longer lines and documents are not from a check server, in bytes.
const LONGEST: usize = 1 << 20;

/// Listens for ever, through every death of the check server, and hands on what it says.
pub(crate) async fn listen(check: Url, trust: Trust, tell: Sender<Control>) {
    let mut said = String::new();
    loop {
        if let Err(trouble) = follow(&check, &trust, &tell, &mut said).await {
            let line = format!("check server {check}: {}", trouble.line());
            // The same again and again is of no interest.
            if line != said {
                let _ = tell.send(Control::Remark(line.clone())).await;
                said = line;
            }
        }
        if tell.send(Control::File(None)).await.is_err() {
            return;
        }
        tokio::time::sleep_until(clock::instant(clock::now()) + AGAIN).await;
    }
}

async fn follow(check: &Url, trust: &Trust, tell: &Sender<Control>, said: &mut String) -> Result<(), Trouble> {
    let mut answer = patiently(exchange(check, trust, "GET", "/events")).await?;
    if answer.head.status() != StatusCode::OK {
        return Err(Trouble::Status(answer.head.status()));
    }
    if !text(answer.head.headers(), &CONTENT_TYPE).is_some_and(|kind| kind.starts_with(EVENTS)) {
        return Err(Trouble::Violation("it is no check server".into()));
    }
    if !said.is_empty() {
        said.clear();
        let _ = tell.send(Control::Remark(format!("check server {check}: alive"))).await;
    }
    let at: Vec<_> = resolve(check).await.map(Vec::from_iter).unwrap_or_default();
    let host = at.iter().find(|address| address.ip().is_loopback()).or(at.first()).map(SocketAddr::ip);
    let mut events = Events { host, ..Events::default() };
    let mut lines = BytesMut::new();
    let mut heard = 0;
    loop {
        let deadline = clock::instant(clock::now()) + SILENCE;
        let silent = |_| Err(ExchangeError::Io(std::io::ErrorKind::TimedOut.into()));
        let chunk = timeout_at(deadline, answer.chunk()).await.unwrap_or_else(silent)?;
        let bytes = chunk.ok_or(ExchangeError::Truncated)?;
        heard += bytes.len();
        lines.extend_from_slice(&bytes);
        while let Some(end) = lines.iter().position(|b| *b == b'\n') {
            let line = lines.split_to(end);
            lines.advance(1);
            for control in events.line(&line) {
                if tell.send(control).await.is_err() {
                    return Ok(());
                }
            }
        }
        if lines.len() > LONGEST {
            return Err(Trouble::Violation("it sends a line without end".into()));
        }
        if heard > AT_ONCE {
            heard = 0;
            tokio::time::sleep_until(clock::instant(clock::now()) + PAUSE).await;
        }
    }
}

/// Server-sent events, line by line.
#[derive(Debug, Default)]
struct Events {
    /// Where the check server is, as seen from here.
    host: Option<IpAddr>,
    /// The event under way tells of the file.
    of_file: bool,
    /// It was said what is known of the file, if only that nothing is.
    told_of_file: bool,
}

impl Events {
    /// What a line tells.
    fn line(&mut self, line: &[u8]) -> Vec<Control> {
        let mut told = Vec::new();
        if let Some(kind) = line.strip_prefix(b"event:") {
            self.of_file = kind.trim_ascii() == b"file";
        }
        // What is known of the file comes first: after anything else, nothing is.
        if !self.of_file && !self.told_of_file {
            self.told_of_file = true;
            told.push(Control::File(None));
        }
        let Some(data) = line.strip_prefix(b"data:") else { return told };
        if self.of_file {
            self.told_of_file = true;
            told.extend(serde_json::from_slice::<FileView>(data).ok().map(|view| Control::File(Some(view))));
        } else if let Ok(view) = serde_json::from_slice::<ServerView>(data)
            && let Ok(url) = view.url.parse()
        {
            let peer = view.peer.and_then(|peer| seen_from_here(peer, self.host));
            told.push(Control::Liveness(Liveness { url, peer, alive: view.alive }));
        }
        told
    }
}

/// Where a server is that the check server at `host` reached at `peer`. On its own loopback is on its machine: one that
/// listens on all addresses is to be found at the check server's.
fn seen_from_here(peer: SocketAddr, host: Option<IpAddr>) -> Option<SocketAddr> {
    if !peer.ip().to_canonical().is_loopback() {
        return Some(peer);
    }
    host.map(|host| if host.to_canonical().is_loopback() { peer } else { SocketAddr::new(host, peer.port()) })
}

/// Tells the check server that the download is complete. It may be dead; nothing depends on it.
pub(crate) async fn tell_done(check: &Url, trust: &Trust) {
    if let Err(trouble) = patiently(exchange(check, trust, "POST", "/done")).await {
        tracing::debug!(%check, "not told: {}", trouble.line());
    }
}

/// Whether the server at `url` is a check server; an error if nothing sensible answers.
pub(crate) async fn is_check_server(url: &Url, trust: &Trust) -> Result<bool, Trouble> {
    patiently(async {
        let answer = exchange(url, trust, "GET", "/status").await?;
        if answer.head.status() != StatusCode::OK {
            return Ok(false);
        }
        let document = read(answer, LONGEST).await.ok().flatten().unwrap_or_default();
        Ok(serde_json::from_slice::<StatusView>(&document).is_ok_and(|status| status.role == ROLE))
    })
    .await
}

async fn exchange(server: &Url, trust: &Trust, method: &str, path: &str) -> Result<Answer, Trouble> {
    let connection = Connection::new(dial(server, trust).await.map_err(Trouble::Dial)?);
    let url = server.join(path).expect("a path is a reference");
    Ok(connection.send(&request(method, &url, &[])).await?.answer().await?)
}

async fn patiently<T>(work: impl Future<Output = Result<T, Trouble>>) -> Result<T, Trouble> {
    let deadline = clock::instant(clock::now()) + PATIENCE;
    let late = |_| Err(ExchangeError::Io(std::io::ErrorKind::TimedOut.into()).into());
    timeout_at(deadline, work).await.unwrap_or_else(late)
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn no_line_panics_or_tells_more_than_it_may(lines in prop::collection::vec(line(), 0..20)) {
            let mut events = Events::default();
            for line in lines {
                prop_assert!(events.line(&line).len() <= 2);
            }
        }
    }

    fn line() -> impl Strategy<Value = Vec<u8>> {
        let data = r#"data: {"url":"http://a/","name":"a","alive":true,"peer":"127.0.0.1:1","since_ms":1,"length":1}"#;
        prop_oneof![
            any::<Vec<u8>>(),
            prop_oneof![Just("event: file"), Just("event: server"), Just("event:"), Just("data:")].prop_map(Into::into),
            // Cut short, with anything after it.
            (0..=data.len(), any::<Vec<u8>>()).prop_map(move |(cut, rest)| [&data.as_bytes()[..cut], &rest].concat()),
        ]
    }

    #[test]
    fn lines_that_tell_of_servers_and_the_file_are_understood_and_others_passed_over() {
        let told = |events: &mut Events, text: &str| -> Vec<String> {
            text.lines().flat_map(|line| events.line(line.as_bytes())).map(|control| format!("{control:?}")).collect()
        };
        let server =
            r#"data: {"url":"http://server-2/","name":"server-2","alive":false,"peer":"127.0.0.1:80","since_ms":3}"#;
        let server = format!("event: server\n{server}\n\n");
        let file = "event: file\ndata: {\"sha256\":null,\"length\":7}\n\n";
        let mut first = Events { host: Some(Ipv4Addr::LOCALHOST.into()), ..Events::default() };
        let said = told(&mut first, &format!("{file}{server}"));
        assert_eq!(said.len(), 2, "{said:?}");
        assert!(said[0].contains("length: Some(7)") && said[1].contains("peer: Some(127.0.0.1:80)"), "{said:?}");
        let said = told(&mut Events::default(), &server);
        assert_eq!(said[0], "File(None)", "whoever knows of the file says so first");
        assert!(said[1].contains("peer: None"), "another machine's loopback is not here: {said:?}");
        let mut elsewhere = Events { host: Some(Ipv4Addr::new(10, 0, 0, 5).into()), ..Events::default() };
        assert!(told(&mut elsewhere, &server)[1].contains("peer: Some(10.0.0.5:80)"), "but where its owner is");
        for other in [
            "event: server",
            ":",
            "",
            "data: 7",
            "data: {\"url\":\"x\",\"name\":\"\",\"alive\":true}",
            "event: file\ndata: 7",
        ] {
            let mut later = Events { told_of_file: true, ..Events::default() };
            assert!(told(&mut later, other).is_empty(), "{other}");
        }
    }
}

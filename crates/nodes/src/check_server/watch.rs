//! One server watched over a kept connection.
//!
//! A process that dies closes its connections: that is noticed at once, because somebody always reads from this one. A
//! machine that dies says nothing: a question goes out every interval and must be answered within nine tenths of the
//! next. A server is alive when it *answers*: the kernel of a frozen process still accepts connections.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use http_body_util::Empty;
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::header::HOST;
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use machine::Span;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};

use crate::clock;
use crate::http::Url;
use crate::http::dial;

/// Between two attempts to connect to a server that does not answer.
const DIAL_EVERY: Duration = Duration::from_millis(50);

/// An attempt is given up after this long: beyond it TCP repeats its question only in long intervals.
const DIAL_PATIENCE: Duration = Duration::from_millis(1200);

/// Answers to questions have no body; heads larger than this are not read.
const LONGEST_HEAD: usize = 16 << 10;

/// Watches for ever; `tell` hears of every finding, also when it is not new, and where the server was reached.
pub(crate) async fn watch(url: &Url, interval: Span, mut tell: impl FnMut(bool, Option<SocketAddr>)) {
    let interval = Duration::from(interval);
    loop {
        let stream = connect(url).await;
        let peer = stream.peer_addr().ok();
        let why = accompany(stream, url, interval, &mut |alive| tell(alive, peer)).await;
        tell(false, peer);
        tracing::debug!(%url, why = %why, "lost");
        // One that answers and closes each connection must not be asked without pause.
        tokio::time::sleep_until(in_future(DIAL_EVERY)).await;
    }
}

/// A connection, as soon as one can be had. A machine that was dead does not answer the attempts made before it came
/// back, so a new one starts every 50 ms while the older are still waited for.
async fn connect(url: &Url) -> TcpStream {
    let mut attempts = FuturesUnordered::new();
    loop {
        attempts.push(timeout_at(in_future(DIAL_PATIENCE), dial::connect(url)));
        let next = in_future(DIAL_EVERY);
        while let Ok(Some(ended)) = timeout_at(next, attempts.next()).await {
            match ended {
                Ok(Ok(stream)) => return stream,
                Ok(Err(error)) => tracing::trace!(%url, %error, "no connection"),
                Err(_) => {}
            }
        }
        tokio::time::sleep_until(next).await;
    }
}

/// Asks over one connection until it fails, and tells why it did.
async fn accompany(stream: TcpStream, url: &Url, interval: Duration, tell: &mut impl FnMut(bool)) -> io::Error {
    let handshake = http1::Builder::new().max_buf_size(LONGEST_HEAD).handshake(TokioIo::new(stream));
    let (mut sender, connection) = match handshake.await {
        Ok(parts) => parts,
        Err(error) => return io::Error::other(error),
    };
    let asking = async {
        loop {
            let asked = clock::instant(clock::now());
            let request = Request::builder()
                .method(Method::HEAD)
                .uri(url.target())
                .header(HOST, url.authority())
                .body(Empty::<Bytes>::new())
                .expect("a parsed URL makes a valid request");
            // The first answer may cost a slow path more than the interval; nothing was published yet.
            let patience = interval.mul_f64(0.9);
            match timeout_at(asked + patience, sender.send_request(request)).await {
                Ok(Ok(_)) => tell(true),
                Ok(Err(error)) => return io::Error::other(error),
                Err(_) => return io::Error::new(io::ErrorKind::TimedOut, "no answer"),
            }
            tokio::time::sleep_until(asked + interval).await;
        }
    };
    tokio::select! {
        biased;
        // Reads all the time: the end of the connection is seen at once, not at the next question.
        ended = connection => ended.err().map_or_else(|| io::ErrorKind::UnexpectedEof.into(), io::Error::other),
        why = asking => why,
    }
}

fn in_future(pause: Duration) -> Instant {
    clock::instant(clock::now()) + pause
}

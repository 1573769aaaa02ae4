//! The tracker: questions out, answers in.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;
use p2p::downloader::Input;
use tokio::net::UdpSocket;
use tokio::sync::mpsc::{Sender, UnboundedReceiver};

use crate::clock;
use crate::endpoint::Endpoint;

/// For the resolver.
const PATIENCE: Duration = Duration::from_secs(5);

/// More than any answer; what is longer is cut, and then no answer.
const LONGEST: usize = 4096;

/// Asks `tracker` what is to be asked, and tells what it says, for ever. Remarks go to `say`.
pub(super) async fn ask(
    tracker: Endpoint,
    port: u16,
    mut questions: UnboundedReceiver<Bytes>,
    to_driver: Sender<Input>,
    say: impl Fn(&str),
) {
    let mut way: Option<(SocketAddr, UdpSocket)> = None;
    let mut is_unknown = false;
    let mut answer = [0; LONGEST];
    loop {
        tokio::select! {
            question = questions.recv() => {
                let Some(question) = question else { return };
                match reach(&tracker, port, &mut way).await {
                    Ok(socket) => {
                        is_unknown = false;
                        // One that is lost is asked again.
                        let _ = socket.send(&question).await;
                    }
                    Err(error) => {
                        if !is_unknown {
                            say(&format!("cannot find the tracker {tracker}: {error}; it is asked on"));
                        }
                        is_unknown = true;
                    }
                }
            }
            length = hear(&way, &mut answer) => {
                let input = Input::Tracker(Bytes::copy_from_slice(&answer[..length]));
                if to_driver.send(input).await.is_err() {
                    return;
                }
            }
        }
    }
}

/// The socket to where the tracker is now: it may come back elsewhere.
async fn reach<'a>(
    tracker: &Endpoint,
    port: u16,
    way: &'a mut Option<(SocketAddr, UdpSocket)>,
) -> io::Result<&'a UdpSocket> {
    let deadline = clock::instant(clock::now()) + PATIENCE;
    let found = tokio::time::timeout_at(deadline, tracker.lookup(port)).await;
    let address = found.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))?;
    if way.as_ref().is_none_or(|(known, _)| *known != address) {
        let any: IpAddr = if address.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
        let socket = UdpSocket::bind((any, 0)).await?;
        // From nobody else.
        socket.connect(address).await?;
        *way = Some((address, socket));
    }
    way.as_ref().map(|(_, socket)| socket).ok_or_else(|| io::ErrorKind::NotConnected.into())
}

/// The next answer's length.
async fn hear(way: &Option<(SocketAddr, UdpSocket)>, answer: &mut [u8]) -> usize {
    let Some((_, socket)) = way else { return std::future::pending().await };
    loop {
        match socket.recv(answer).await {
            Ok(length) => return length,
            // Nobody listens there, yet.
            Err(error) => tracing::debug!(%error, "the tracker does not answer"),
        }
    }
}

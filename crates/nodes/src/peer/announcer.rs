//! Tells one tracker of this peer, again and again.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use p2p::announcement::{Announcement, EVERY};
use p2p::tracker_text::PORT;
use tokio::sync::watch;

use crate::clock;
use crate::endpoint::Endpoint;
use crate::udp::Socket;

/// The resolver's time at the start and at the end, when others wait.
const PATIENCE: Duration = Duration::from_secs(1);

/// What one tracker is told.
pub(super) struct Announcer {
    tracker: Endpoint,
    /// The address that the peer listens on: the tracker knows it by where its datagrams come from.
    own: IpAddr,
    /// Kept: a tracker knows a peer by its port, too.
    socket: std::sync::OnceLock<Socket>,
    told: watch::Receiver<Announcement>,
}

impl Announcer {
    pub(super) fn new(tracker: Endpoint, own: IpAddr, told: watch::Receiver<Announcement>) -> Self {
        Announcer { tracker, own, socket: std::sync::OnceLock::new(), told }
    }

    /// Tells it once what is true now.
    pub(super) async fn tell(&self) {
        let text = self.told.borrow().encode();
        let deadline = clock::instant(clock::now()) + PATIENCE;
        // The name is looked up each time: a tracker may come back elsewhere.
        let sent = match tokio::time::timeout_at(deadline, self.tracker.lookup(PORT)).await {
            Ok(Ok(address)) => self.send(address, text.as_bytes()),
            Ok(Err(error)) => Err(error),
            Err(_) => Err(io::ErrorKind::TimedOut.into()),
        };
        if let Err(error) = sent {
            tracing::warn!(tracker = %self.tracker, %error, "not announced");
        }
    }

    /// For ever: at each change, and every few seconds, as datagrams are lost and trackers restart.
    pub(super) async fn keep_telling(&self) {
        let mut changes = self.told.clone();
        loop {
            changes.mark_unchanged();
            self.tell().await;
            let next = clock::instant(clock::now() + EVERY);
            // Who could change it is gone only when all ends.
            let _ = tokio::time::timeout_at(next, changes.changed()).await;
        }
    }

    fn send(&self, to: SocketAddr, text: &[u8]) -> io::Result<()> {
        let socket = match self.socket.get() {
            Some(socket) => socket,
            None => {
                let opened =
                    if self.own.is_unspecified() { Socket::any(0) } else { Socket::bind(SocketAddr::new(self.own, 0)) };
                let opened = opened?;
                self.socket.get_or_init(|| opened)
            }
        };
        match socket.send_from(None, to, text) {
            None => Ok(()),
            Some(refusal) => Err(io::Error::other(format!("{refusal:?}"))),
        }
    }
}

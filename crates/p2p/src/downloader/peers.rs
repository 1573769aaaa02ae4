//! Who is known to have the file, and what is known of them.

use std::net::SocketAddr;

use fetch::CloseReason;
use machine::{Span, Time};

/// Peers that are remembered. Of more, those that are of least use are forgotten.
const REMEMBERED: usize = 256;

/// A peer that broke off is left alone for this long, twice as long each time after.
const PAUSE: Span = Span::from_secs(1);

/// But no longer than this.
const LONGEST_PAUSE: Span = Span::from_secs(30);

/// One of them.
#[derive(Clone, Debug)]
pub(super) struct Peer {
    pub(super) address: SocketAddr,
    /// Seconds for each byte on a connection, if that was measured.
    pub(super) pace: Option<f64>,
    /// Seconds for each byte at least, as a channel showed that was left before it showed more.
    pub(super) at_least: f64,
    /// Times in a row that it broke off or did not answer.
    failures: u32,
    /// Nothing is asked of it before.
    pub(super) away_until: Time,
    pub(super) is_banned: bool,
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Peers {
    all: Vec<Peer>,
}

impl Peers {
    /// The tracker named one; whether it was not known.
    pub(super) fn named(&mut self, now: Time, address: SocketAddr, is_used: impl Fn(SocketAddr) -> bool) -> bool {
        if let Some(known) = self.get_mut(address) {
            // It is there again, or still.
            known.away_until = known.away_until.min(now);
            return false;
        }
        if self.all.len() >= REMEMBERED {
            let dispensable = |peer: &&Peer| !is_used(peer.address) && !peer.is_banned;
            let worst = self.all.iter().filter(dispensable).max_by(|a, b| {
                let use_of = |peer: &Peer| (peer.away_until > now, peer.pace.unwrap_or(0.0));
                let ((a_away, a_pace), (b_away, b_pace)) = (use_of(a), use_of(b));
                a_away.cmp(&b_away).then(a_pace.total_cmp(&b_pace))
            });
            let Some(worst) = worst.map(|peer| peer.address) else { return false };
            self.all.retain(|peer| peer.address != worst);
        }
        self.all.push(Peer { address, pace: None, at_least: 0.0, failures: 0, away_until: now, is_banned: false });
        true
    }

    pub(super) fn get_mut(&mut self, address: SocketAddr) -> Option<&mut Peer> {
        self.all.iter_mut().find(|peer| peer.address == address)
    }

    pub(super) fn get(&self, address: SocketAddr) -> Option<&Peer> {
        self.all.iter().find(|peer| peer.address == address)
    }

    /// Those that may be asked now.
    pub(super) fn usable(&self, now: Time) -> impl Iterator<Item = &Peer> {
        self.all.iter().filter(move |peer| !peer.is_banned && peer.away_until <= now)
    }

    /// When the next one may be asked that may not now.
    pub(super) fn next_back(&self, now: Time) -> Option<Time> {
        self.all.iter().filter(|peer| !peer.is_banned).map(|peer| peer.away_until).filter(|at| *at > now).min()
    }

    /// A channel to it is over, by its own doing or the network's; `delivered` tells whether anything came on it.
    pub(super) fn lost(&mut self, now: Time, address: SocketAddr, delivered: bool, why: CloseReason) {
        let Some(peer) = self.get_mut(address) else { return };
        if delivered {
            peer.failures = 0;
        }
        let pause = (PAUSE * (1 << peer.failures.min(8))).min(LONGEST_PAUSE);
        peer.failures += 1;
        peer.away_until = peer.away_until.max(now + pause);
        if why == CloseReason::Refused {
            // Nobody is there: whoever comes back may be another one.
            (peer.pace, peer.at_least) = (None, 0.0);
        }
    }
}

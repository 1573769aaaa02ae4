//! Who is connected, on whichever port.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use machine::Seed;
use p2p::admission::{Admission, Excess, Verdict, Visitor};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::AbortHandle;

/// All connections of a peer.
pub(super) struct Visitors {
    state: Mutex<State>,
    /// As many as there are descriptors for.
    room: Arc<Semaphore>,
    seed: Seed,
}

struct State {
    admission: Admission,
    /// How to end each.
    connected: BTreeMap<Visitor, AbortHandle>,
    entered: u64,
}

/// A connection's right to be; given back when it is dropped.
pub(super) struct Seat {
    visitors: Arc<Visitors>,
    client: IpAddr,
    visitor: Visitor,
    /// Of the connection's random draws.
    pub(super) seed: Seed,
    _room: OwnedSemaphorePermit,
}

impl Visitors {
    /// `most` for each client, and `room` in all.
    pub(super) fn new(most: usize, excess: Excess, room: usize, seed: Seed) -> Arc<Self> {
        let admission = Admission::new(most, excess, seed);
        let state = Mutex::new(State { admission, connected: BTreeMap::new(), entered: 0 });
        Arc::new(Visitors { state, room: Arc::new(Semaphore::new(room)), seed })
    }

    /// A client has connected; `None` if it must go. Another one of its connections may end for it.
    pub(super) fn enter(self: &Arc<Self>, client: IpAddr) -> Option<Seat> {
        let room = Arc::clone(&self.room).try_acquire_owned().ok()?;
        let mut state = self.state();
        let visitor = match state.admission.enter(client) {
            Verdict::Welcome(visitor) => visitor,
            Verdict::Refused => return None,
            Verdict::Instead { of, closed } => {
                state.connected.remove(&closed).inspect(AbortHandle::abort);
                of
            }
        };
        state.entered += 1;
        let seed = self.seed.derive(&format!("connection {}", state.entered));
        Some(Seat { visitors: Arc::clone(self), client, visitor, seed, _room: room })
    }

    /// How to end the one that has this seat.
    pub(super) fn serve(&self, visitor: Visitor, connection: AbortHandle) {
        self.state().connected.insert(visitor, connection);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Seat {
    pub(super) fn visitor(&self) -> Visitor {
        self.visitor
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut state = self.visitors.state();
        state.connected.remove(&self.visitor);
        state.admission.leave(self.client, self.visitor);
    }
}

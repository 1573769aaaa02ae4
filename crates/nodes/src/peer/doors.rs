//! The ports of a peer, which come and go as [`p2p::ports`] wants.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use machine::{Machine as _, Seed, Span};
use p2p::ports::{Change, Input, Knobs, Ports};
use tokio::net::TcpListener;
use tokio::task::{AbortHandle, JoinSet};

use super::{Shared, connection};
use crate::clock;
use crate::http::listen::{ListenError, listen_on};

/// Ports that other programs have are replaced, so often in a row.
const MOST_TAKEN: usize = 100;

/// Takes connections on all ports until it is dropped.
pub(super) struct Doors {
    pub(super) machine: Ports,
    listen: IpAddr,
    fixed: u16,
    /// By the machine's number.
    open: BTreeMap<u16, Door>,
}

/// One port. It ends with all its connections when this is dropped.
struct Door {
    address: SocketAddr,
    accepting: AbortHandle,
}

impl Drop for Door {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl Doors {
    /// Opens the first ones. Fails where the fixed one cannot be had; others may be missing.
    pub(super) fn open(
        knobs: Knobs,
        listen: IpAddr,
        fixed: u16,
        seed: Seed,
        shared: &Arc<Shared>,
    ) -> Result<Self, ListenError> {
        let machine = Ports::new(clock::now(), knobs, fixed, seed);
        let mut doors = Doors { machine, listen, fixed, open: BTreeMap::new() };
        doors.carry_out(shared)?;
        Ok(doors)
    }

    /// Where the fixed one is.
    pub(super) fn fixed(&self) -> SocketAddr {
        self.open.get(&self.fixed).expect("it opened, and is never retired").address
    }

    /// Those that are open, the fixed one first.
    pub(super) fn ports(&self) -> Vec<u16> {
        let others = self.open.iter().filter(|(number, _)| **number != self.fixed);
        std::iter::once(self.fixed().port()).chain(others.map(|(_, door)| door.address.port())).collect()
    }

    /// What is due.
    pub(super) fn advance(&mut self, shared: &Arc<Shared>) {
        self.machine.advance(clock::now());
        self.carry_out(shared).expect("the fixed one is opened first, and once");
    }

    fn carry_out(&mut self, shared: &Arc<Shared>) -> Result<(), ListenError> {
        let mut taken = 0;
        while let Some(change) = self.machine.poll() {
            let (port, pace) = match change {
                Change::Open { port, pace } => (port, pace),
                Change::Retire { port } => {
                    self.open.remove(&port);
                    continue;
                }
            };
            match self.open_one(port, pace, shared) {
                Ok(door) => _ = self.open.insert(port, door),
                Err(error) if port == self.fixed => return Err(error),
                Err(error) if error.source.kind() == io::ErrorKind::AddrInUse && taken < MOST_TAKEN => {
                    taken += 1;
                    self.machine.handle(clock::now(), Input::Taken(port));
                }
                Err(error) => tracing::warn!(error = %error.source, port, "a port cannot be opened"),
            }
        }
        Ok(())
    }

    fn open_one(&self, port: u16, pace: Span, shared: &Arc<Shared>) -> Result<Door, ListenError> {
        let listener = listen_on(self.listen, port)?;
        let address = listener.local_addr();
        let address = address.map_err(|source| ListenError { address: (self.listen, port).into(), source })?;
        let accepting = tokio::spawn(accept(listener, pace, Arc::clone(shared))).abort_handle();
        Ok(Door { address, accepting })
    }
}

/// Takes connections for ever. Those that it took end with it.
async fn accept(listener: TcpListener, pace: Span, shared: Arc<Shared>) {
    /// Out of descriptors or memory: some will be given back soon.
    const PAUSE: Duration = Duration::from_millis(20);
    let mut clients = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(_) = clients.join_next() => continue,
        };
        match accepted {
            Ok((stream, client)) => {
                let Some(seat) = shared.visitors.enter(client.ip().to_canonical()) else { continue };
                let (visitor, of_client) = (seat.visitor(), Arc::clone(&shared));
                let connection = clients.spawn(async move {
                    // All of it, to be given back at the end.
                    let seat = seat;
                    let _counted = of_client.meter.connection();
                    if let Err(error) = connection::serve(stream, pace, seat.seed, &of_client).await {
                        tracing::debug!(%client, %error, "connection ended");
                    }
                });
                shared.visitors.serve(visitor, connection);
            }
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(error) => {
                tracing::warn!(%error, "cannot accept");
                tokio::time::sleep_until(clock::instant(clock::now()) + PAUSE).await;
            }
        }
    }
}

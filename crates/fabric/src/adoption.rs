//! Nodes whose namespaces others have made: containers. Each has an init of ours, which connects to a socket, is given what
//! to do in its own network namespace, and does it itself.
//!
//! ```text
//!  init in the container                      sandbox
//!     ── hello: the node's name ─────────────►
//!     ◄─ order, and the hub's namespace ──────
//!     makes its veth pairs, far ends in the hub
//!     ── wired ──────────────────────────────►  attaches the far ends to bridges and relay
//!     ── ready, and packet sockets ──────────►  from here on the connection is the node's control
//! ```
//!
//! That way round nobody needs power over a namespace of the other's, with or without root: an init with NET_ADMIN in the
//! machine's user namespace has it in the sandbox's network namespace, which belongs to the same user namespace or to one
//! below it; a sandbox without root has none in a container's.
#![allow(unsafe_code, reason = "puts a received descriptor under a number of its own")]

use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use nix::cmsg_space;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, recvmsg, sendmsg};

use crate::calibration::probe_socket;
use crate::clock;
use crate::namespace;
use crate::netlink::{Netlink, Refusal};
use crate::spawner::order::{Order, ReceivedOrder, Report, Stage};
use crate::spawner::{Born, CARRIER, Stillborn, errno_of};

/// A container that waits to be wired.
#[derive(Debug)]
pub struct Adoptee {
    connection: UnixStream,
}

/// The longest name in a hello; a node's is at most 63 bytes.
const LONGEST_NAME: u32 = 255;

/// The longest order: a thousand neighbours of a node are 60 KiB.
const LONGEST_ORDER: u32 = 1 << 20;

/// The hub's number starts here: no init has so many descriptors.
const HUB_FROM: RawFd = 200;

/// Descriptors in one message: `SCM_MAX_FD` of the kernel.
const MOST_SOCKETS: usize = 253;

/// A step of a container's init may take so long, beside what its links take to come up. Processors may be busy with a hundred
/// others.
const PATIENCE: Duration = Duration::from_secs(60);

impl Adoptee {
    /// Hears who has connected: the container's name for itself.
    ///
    /// # Errors
    /// When it does not say, or says anything else.
    pub fn welcome(mut connection: UnixStream) -> io::Result<(String, Adoptee)> {
        connection.set_nonblocking(false)?;
        connection.set_read_timeout(Some(PATIENCE))?;
        connection.set_write_timeout(Some(PATIENCE))?;
        let name = read_block(&mut connection, LONGEST_NAME)?;
        let name = String::from_utf8(name).map_err(|_| io::Error::from(io::ErrorKind::InvalidData))?;
        Ok((name, Adoptee { connection }))
    }
}

/// The hub's namespace under a number that is free in every init.
pub(crate) fn hub_descriptor() -> io::Result<OwnedFd> {
    let own = namespace::own_network()?;
    let number = fcntl(&own, FcntlArg::F_DUPFD_CLOEXEC(HUB_FROM))?;
    // SAFETY: the descriptor was just made and belongs to nobody.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// Wires `adoptees`, one for each of `orders`; the results are in that order.
pub(crate) fn adopt(adoptees: Vec<Adoptee>, orders: &[Order], hub: &OwnedFd) -> Vec<Result<Born, Stillborn>> {
    let mut netlink = match Netlink::open() {
        Ok(netlink) => netlink,
        Err(error) => return orders.iter().map(|_| Err(early(Stage::Netlink)(error_of(&error)))).collect(),
    };
    // All inits work at the same time: each has its order before the first is waited for.
    let asked: Vec<Result<Adoptee, Stillborn>> = adoptees
        .into_iter()
        .zip(orders)
        .zip(0..)
        .map(|((adoptee, order), index)| {
            ask(&adoptee.connection, order, index, hub).map_err(|error| early(Stage::Died)(error_of(&error)))?;
            Ok(adoptee)
        })
        .collect();
    let attached: Vec<Result<Adoptee, Stillborn>> = asked
        .into_iter()
        .zip(orders)
        .map(|(asked, order)| {
            let adoptee = asked?;
            hear(&adoptee.connection)?;
            let refused = |Refusal { sequence, errno }| Stillborn { stage: Stage::Hub, sequence, errno };
            netlink.apply(order.hub.bytes(), order.hub.len()).map_err(refused)?;
            Ok(adoptee)
        })
        .collect();
    attached
        .into_iter()
        .zip(orders)
        .map(|(attached, order)| {
            let adoptee = attached?;
            let sockets = hear(&adoptee.connection)?;
            let deadline = clock::now() + CARRIER;
            for &index in &order.far {
                let carrier = |error: io::Error| early(Stage::Carrier)(error_of(&error));
                netlink.await_running(index, deadline).map_err(carrier)?;
            }
            let settled = adoptee.connection.set_read_timeout(None);
            settled
                .and_then(|()| adoptee.connection.set_write_timeout(None))
                .map_err(|error| early(Stage::Died)(error_of(&error)))?;
            Ok(Born { pid: None, control: adoptee.connection.into(), sockets })
        })
        .collect()
}

/// What the init of a container does first: it tells its name on `connection`, makes the node's links in its own network
/// namespace as it is told, and hands over `sockets` packet sockets, one for each of its first interfaces. Returns when its
/// links carry packets and `connection` has become the node's control.
///
/// # Errors
/// When the other side is gone or refuses, or the kernel does; the other side has been told.
pub fn settle(mut connection: &UnixStream, name: &str, sockets: usize) -> io::Result<()> {
    write_block(&mut connection, name.as_bytes())?;
    let (order, hub) = receive_order(connection)?;
    match wire(&order, hub, connection, sockets) {
        Ok(()) => Ok(()),
        Err(Stillborn { stage, sequence, errno }) => {
            let report = Report::Failed { index: order.index, stage, sequence, errno: errno as i32 };
            let _gone_at_worst = connection.write_all(&report.encode());
            Err(io::Error::other(format!("{stage:?}: {errno}")))
        }
    }
}

fn wire(order: &ReceivedOrder, hub: OwnedFd, connection: &UnixStream, sockets: usize) -> Result<(), Stillborn> {
    let failed = |stage| move |error: io::Error| early(stage)(error_of(&error));
    let mut inside = Netlink::open().map_err(failed(Stage::Netlink))?;
    let refused = |Refusal { sequence, errno }| Stillborn { stage: Stage::Inside, sequence, errno };
    inside.apply(&order.inside.bytes, order.inside.count).map_err(refused)?;
    drop(hub);
    let index = order.index;
    let mut connection = connection;
    connection.write_all(&Report::Wired { index }.encode()).map_err(failed(Stage::Died))?;
    let deadline = clock::now() + CARRIER;
    for &near in &order.near {
        inside.await_running(near, deadline).map_err(failed(Stage::Carrier))?;
    }
    let sockets = (0..sockets.min(MOST_SOCKETS)).map(|_| probe_socket());
    let sockets: Vec<OwnedFd> = sockets.collect::<io::Result<_>>().map_err(failed(Stage::Sockets))?;
    let numbers: Vec<RawFd> = sockets.iter().map(AsRawFd::as_raw_fd).collect();
    send_with(connection, &Report::Ready { index }.encode(), &numbers).map_err(failed(Stage::Died))
}

fn ask(connection: &UnixStream, order: &Order, index: u32, hub: &OwnedFd) -> io::Result<()> {
    let order = order.encode(index);
    let mut message = Vec::with_capacity(order.len() + 8);
    message.extend_from_slice(&(hub.as_raw_fd() as u32).to_ne_bytes());
    message.extend_from_slice(&(order.len() as u32).to_ne_bytes());
    message.extend_from_slice(&order);
    send_with(connection, &message, &[hub.as_raw_fd()])
}

/// The order and the hub's namespace, under the number that the order calls it by.
fn receive_order(mut connection: &UnixStream) -> io::Result<(ReceivedOrder, OwnedFd)> {
    let invalid = || io::Error::from(io::ErrorKind::InvalidData);
    let mut number = [0; 4];
    let received = receive_with(connection, &mut number)?.into_iter().next().ok_or_else(invalid)?;
    let number = RawFd::try_from(u32::from_ne_bytes(number)).map_err(|_| invalid())?;
    let body = read_block(&mut connection, LONGEST_ORDER)?;
    let order = ReceivedOrder::decode(&body).ok_or_else(invalid)?;
    if number < HUB_FROM {
        return Err(invalid());
    }
    // SAFETY: nothing in this process owns a descriptor of such a number, and the new one gets an owner at once.
    let hub = unsafe {
        Errno::result(libc::dup3(received.as_raw_fd(), number, libc::O_CLOEXEC))?;
        OwnedFd::from_raw_fd(number)
    };
    Ok((order, hub))
}

/// The next report of an init, if it tells of progress, with what came with it.
fn hear(connection: &UnixStream) -> Result<Vec<OwnedFd>, Stillborn> {
    let died = |error: io::Error| early(Stage::Died)(error_of(&error));
    let mut bytes = [0; Report::BYTES];
    let descriptors = receive_with(connection, &mut bytes).map_err(died)?;
    match Report::decode(&bytes) {
        Some(Report::Wired { .. } | Report::Ready { .. }) => Ok(descriptors),
        Some(Report::Failed { stage, sequence, errno, .. }) => {
            Err(Stillborn { stage, sequence, errno: Errno::from_raw(errno) })
        }
        Some(Report::Cloned { .. }) | None => Err(early(Stage::Died)(Errno::EPROTO)),
    }
}

fn early(stage: Stage) -> impl Fn(Errno) -> Stillborn {
    move |errno| Stillborn { stage, sequence: 0, errno }
}

/// An end of the connection has no number of its own.
fn error_of(error: &io::Error) -> Errno {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => Errno::ECONNRESET,
        io::ErrorKind::WouldBlock => Errno::ETIMEDOUT,
        _ => errno_of(error),
    }
}

fn write_block(connection: &mut &UnixStream, bytes: &[u8]) -> io::Result<()> {
    connection.write_all(&(bytes.len() as u32).to_ne_bytes())?;
    connection.write_all(bytes)
}

fn read_block(mut connection: impl Read, at_most: u32) -> io::Result<Vec<u8>> {
    let mut length = [0; 4];
    connection.read_exact(&mut length)?;
    let length = u32::from_ne_bytes(length);
    if length > at_most {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut bytes = vec![0; length as usize];
    connection.read_exact(&mut bytes)?;
    Ok(bytes)
}

/// The descriptors go with the first byte.
fn send_with(mut connection: &UnixStream, bytes: &[u8], descriptors: &[RawFd]) -> io::Result<()> {
    let rights = [ControlMessage::ScmRights(descriptors)];
    let rights = if descriptors.is_empty() { &[][..] } else { &rights[..] };
    let sent = sendmsg::<()>(connection.as_raw_fd(), &[IoSlice::new(bytes)], rights, MsgFlags::MSG_NOSIGNAL, None)?;
    connection.write_all(&bytes[sent..])
}

/// Fills `bytes`, and takes the descriptors that come with the first of them.
fn receive_with(mut connection: &UnixStream, bytes: &mut [u8]) -> io::Result<Vec<OwnedFd>> {
    let mut space = cmsg_space!([RawFd; MOST_SOCKETS]);
    let (received, descriptors) = {
        let mut parts = [IoSliceMut::new(bytes)];
        let flags = MsgFlags::MSG_CMSG_CLOEXEC;
        let message = recvmsg::<()>(connection.as_raw_fd(), &mut parts, Some(&mut space), flags)?;
        let descriptors = message.cmsgs()?.flat_map(all_descriptors).collect();
        (message.bytes, descriptors)
    };
    if received == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    connection.read_exact(&mut bytes[received..])?;
    Ok(descriptors)
}

fn all_descriptors(message: ControlMessageOwned) -> Vec<OwnedFd> {
    match message {
        ControlMessageOwned::ScmRights(list) => list
            .into_iter()
            // SAFETY: the kernel has just installed them in this process, and nobody else knows of them.
            .map(|fd| unsafe { OwnedFd::from_raw_fd(fd) })
            .collect(),
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_arrives_whole_and_a_hostile_one_is_refused() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        write_block(&mut &ours, b"server-1").unwrap();
        let (name, _adoptee) = Adoptee::welcome(theirs).unwrap();
        assert_eq!(name, "server-1");
        for hostile in [&u32::MAX.to_ne_bytes()[..], &[1, 0, 0, 0, 0xff], &[]] {
            let (mut ours, theirs) = UnixStream::pair().unwrap();
            ours.write_all(hostile).unwrap();
            drop(ours);
            assert!(Adoptee::welcome(theirs).is_err(), "{hostile:?}");
        }
    }

    #[test]
    fn an_order_brings_the_hub_under_its_number() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let order = Order { name: "n".into(), near: vec![32], ..Order::default() };
        let hub = hub_descriptor().unwrap();
        ask(&ours, &order, 5, &hub).unwrap();
        // The number is taken in this process, by the hub itself: the same file stays behind it.
        std::mem::forget(hub);
        let (received, hub) = receive_order(&theirs).unwrap();
        assert_eq!((received.index, received.name.as_str(), received.near), (5, "n", vec![32]));
        assert!(hub.as_raw_fd() >= HUB_FROM);
    }

    #[test]
    fn a_failure_is_told_with_its_stage() {
        let (mut ours, theirs) = UnixStream::pair().unwrap();
        let report = Report::Failed { index: 0, stage: Stage::Inside, sequence: 3, errno: libc::EPERM };
        ours.write_all(&report.encode()).unwrap();
        let Stillborn { stage, sequence, errno } = hear(&theirs).unwrap_err();
        assert_eq!((stage, sequence, errno), (Stage::Inside, 3, Errno::EPERM));
        drop(ours);
        assert_eq!(hear(&theirs).unwrap_err().errno, Errno::ECONNRESET);
    }
}

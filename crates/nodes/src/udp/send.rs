//! Sending: trains of datagrams to many destinations with one system call.
#![allow(unsafe_code, reason = "sendmmsg with control messages is outside of what safe wrappers offer")]

use std::io::{self, IoSlice};
use std::mem::zeroed;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd};
use std::ptr;

use machine::Span;

use super::address::Raw;
use super::socket::Socket;
use super::wait::{Interest, wait};
use super::{LONGEST_TRAIN, MOST_IN_TRAIN};
use crate::clock;

/// Messages of one system call.
const MESSAGES: usize = 64;

/// The kernel takes so many pieces a message (`UIO_MAXIOV`).
const MOST_PIECES: usize = 1024;

/// How often a train that goes datagram by datagram waits for room, and how long each time at most.
const PATIENCE: u32 = 20;
const TURN: Span = Span::from_millis(1);

/// Room for one control message with a `u16`; aligned as control messages are.
type Control = [u64; 3];

/// Datagrams of one length to one destination.
#[derive(Clone, Copy, Debug)]
pub struct Train<'a> {
    /// Where they go.
    pub to: SocketAddr,
    /// Their payloads, one after the other; a datagram may be made of many pieces, as of its header and its payload.
    pub pieces: &'a [IoSlice<'a>],
    /// Bytes of each datagram but the last, which may be shorter. A train is at most [`LONGEST_TRAIN`] bytes,
    /// [`MOST_IN_TRAIN`] datagrams and 1024 pieces long.
    pub datagram: usize,
}

/// What became of trains.
#[derive(Debug)]
pub struct Sent {
    /// How many the kernel took, from the first on.
    pub trains: usize,
    /// Why it did not take the next one, if there was one.
    pub refusal: Option<Refusal>,
}

/// Why the kernel does not take a train.
#[derive(Debug)]
pub enum Refusal {
    /// There is no room: wait until the socket can be written to.
    Full,
    /// Its datagrams are too long for the interface, or what it knows of the path.
    TooLong,
    /// No way leads there, or none that is allowed. It may be different for other destinations, or later.
    Unreachable(io::Error),
}

impl Socket {
    /// Sends one datagram. `None` if the kernel took it.
    pub fn send(&self, to: SocketAddr, datagram: &[u8]) -> Option<Refusal> {
        let pieces = [IoSlice::new(datagram)];
        self.send_trains(&[Train { to, pieces: &pieces, datagram: datagram.len() }]).refusal
    }

    /// Sends trains, in their order, until one is refused. Where kernel or interface cannot cut a train up, its datagrams
    /// go one by one; a train that is refused in the middle then counts as refused.
    pub fn send_trains(&self, trains: &[Train<'_>]) -> Sent {
        let mut done = 0;
        while done < trains.len() {
            let group = &trains[done..trains.len().min(done + MESSAGES)];
            let (sent, error) = self.hand_over(group);
            done += sent;
            let Some(error) = error else { continue };
            let refusal = match error.raw_os_error() {
                // Told once, of something sent before.
                Some(libc::EINTR | libc::ECONNREFUSED) => continue,
                Some(libc::EAGAIN | libc::ENOBUFS | libc::ENOMEM) => Refusal::Full,
                Some(libc::EIO | libc::EINVAL | libc::EMSGSIZE | libc::ENOPROTOOPT | libc::EOPNOTSUPP)
                    if trains[done].is_cut() && self.cuts.get() =>
                {
                    // A device without checksums will not learn it; the others may only mean the length of this one.
                    self.cuts.set(error.raw_os_error() != Some(libc::EIO));
                    match self.send_singly(&trains[done]) {
                        Ok(()) => {
                            done += 1;
                            continue;
                        }
                        Err(refusal) => refusal,
                    }
                }
                Some(libc::EMSGSIZE) => Refusal::TooLong,
                _ => Refusal::Unreachable(error),
            };
            return Sent { trains: done, refusal: Some(refusal) };
        }
        Sent { trains: done, refusal: None }
    }

    /// One system call; how many messages it took, and why not the next.
    fn hand_over(&self, trains: &[Train<'_>]) -> (usize, Option<io::Error>) {
        if !self.cuts.get() && trains[0].is_cut() {
            return match self.send_singly(&trains[0]) {
                Ok(()) => (1, None),
                Err(Refusal::Full) => (0, Some(io::Error::from_raw_os_error(libc::EAGAIN))),
                Err(Refusal::TooLong) => (0, Some(io::Error::from_raw_os_error(libc::EMSGSIZE))),
                Err(Refusal::Unreachable(error)) => (0, Some(error)),
            };
        }
        let mut addresses = [Raw::EMPTY; MESSAGES];
        let mut controls: [Control; MESSAGES] = [[0; 3]; MESSAGES];
        // SAFETY: all-zero is a valid `mmsghdr`: null pointers and no lengths.
        let mut headers: [libc::mmsghdr; MESSAGES] = unsafe { zeroed() };
        let mut count = 0;
        for (slot, train) in trains.iter().enumerate() {
            if train.is_cut() && !self.cuts.get() {
                break;
            }
            debug_assert!(train.pieces.len() <= MOST_PIECES, "the kernel takes {MOST_PIECES} pieces");
            let header = &mut headers[slot].msg_hdr;
            let (raw, length) = Raw::new(train.to, self.is_v6);
            addresses[slot] = raw;
            header.msg_name = (&raw mut addresses[slot]).cast();
            header.msg_namelen = length;
            // An `IoSlice` is an `iovec`, says its documentation.
            header.msg_iov = train.pieces.as_ptr().cast_mut().cast();
            header.msg_iovlen = train.pieces.len() as _;
            if train.is_cut() {
                header.msg_control = (&raw mut controls[slot]).cast();
                // SAFETY: the control buffer has room for one message with two bytes, and is alive and writable.
                unsafe {
                    header.msg_controllen = libc::CMSG_SPACE(size_of::<u16>() as libc::c_uint) as _;
                    let control = libc::CMSG_FIRSTHDR(header);
                    (*control).cmsg_level = libc::SOL_UDP;
                    (*control).cmsg_type = libc::UDP_SEGMENT;
                    (*control).cmsg_len = libc::CMSG_LEN(size_of::<u16>() as libc::c_uint) as _;
                    ptr::write_unaligned(libc::CMSG_DATA(control).cast(), train.datagram as u16);
                }
            }
            count += 1;
        }
        // SAFETY: the headers point to addresses, control messages and pieces that outlive the call; the kernel only
        // reads through them.
        let sent = unsafe {
            libc::sendmmsg(
                self.inner.as_raw_fd(),
                headers.as_mut_ptr(),
                count,
                (libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL) as _,
            )
        };
        // After a partial send the next call tells why.
        usize::try_from(sent).map_or_else(|_| (0, Some(io::Error::last_os_error())), |sent| (sent, None))
    }

    fn send_singly(&self, train: &Train<'_>) -> Result<(), Refusal> {
        let cut = Cut::of(train);
        let singles: Vec<Train<'_>> = cut.datagrams().collect();
        let mut rest = &singles[..];
        let mut patience = PATIENCE;
        while !rest.is_empty() {
            let sent = self.send_trains(rest);
            rest = &rest[sent.trains..];
            match sent.refusal {
                None => {}
                // What went before must not be sent again, so this waits here.
                Some(Refusal::Full) if patience > 0 => {
                    patience -= 1;
                    let until = clock::now() + TURN;
                    wait([(self.as_fd(), Interest::Write)], until).map_err(Refusal::Unreachable)?;
                }
                Some(refusal) => return Err(refusal),
            }
        }
        Ok(())
    }
}

impl Train<'_> {
    /// Bytes of all datagrams.
    pub fn length(&self) -> usize {
        self.pieces.iter().map(|piece| piece.len()).sum()
    }

    /// Whether it is more than one datagram.
    fn is_cut(&self) -> bool {
        let length = self.length();
        let is_cut = length > self.datagram;
        debug_assert!(!is_cut || length <= LONGEST_TRAIN && length <= self.datagram * MOST_IN_TRAIN, "it is bounded");
        is_cut
    }
}

/// A train whose pieces are divided where its datagrams are.
struct Cut<'a> {
    to: SocketAddr,
    pieces: Vec<IoSlice<'a>>,
    /// Where in `pieces` each datagram ends, and how long it is.
    ends: Vec<(usize, usize)>,
}

impl<'a> Cut<'a> {
    fn of(train: &'a Train<'_>) -> Self {
        let mut cut = Cut { to: train.to, pieces: Vec::new(), ends: Vec::new() };
        let mut length = 0;
        for piece in train.pieces {
            let mut rest: &[u8] = piece;
            while !rest.is_empty() {
                let (now, later) = rest.split_at(rest.len().min(train.datagram - length));
                cut.pieces.push(IoSlice::new(now));
                length += now.len();
                rest = later;
                if length == train.datagram {
                    cut.ends.push((cut.pieces.len(), length));
                    length = 0;
                }
            }
        }
        if length > 0 {
            cut.ends.push((cut.pieces.len(), length));
        }
        cut
    }

    fn datagrams(&self) -> impl Iterator<Item = Train<'_>> {
        let mut start = 0;
        self.ends.iter().map(move |&(end, length)| {
            let pieces = &self.pieces[start..end];
            start = end;
            Train { to: self.to, pieces, datagram: length }
        })
    }
}

//! Receiving: up to 32 trains of datagrams with one system call.
#![allow(unsafe_code, reason = "recvmmsg with control messages is outside of what safe wrappers offer")]

use std::io;
use std::mem::zeroed;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsRawFd;
use std::ptr;

use machine::Time;

use super::address::Raw;
use super::answer::destination;
use super::arrival::Moment;
use super::socket::Socket;
use crate::page_buffer::PageBuffer;

/// Messages of one system call.
const MESSAGES: usize = 32;

/// No UDP message is longer, joined or not.
const LONGEST: usize = 65_536;

/// About so many bytes are received at once, and at least as many messages: what is done with them next should find them in
/// a core's own cache.
const CACHED: usize = 256 << 10;
const LEAST_MESSAGES: usize = CACHED / LONGEST;

/// Room for control messages with an `int`, an `in6_pktinfo` and a `timespec`; aligned as control messages are.
type Control = [u64; 12];

/// Room for what one call receives, 2 MiB, used again by the next.
pub struct Batch {
    bytes: PageBuffer,
    sources: Box<[Raw; MESSAGES]>,
    controls: Box<[Control; MESSAGES]>,
    messages: Vec<Message>,
    /// How many messages the last call asked for.
    asked: usize,
}

/// A message as it was received.
#[derive(Clone, Copy, Debug)]
struct Message {
    source: SocketAddr,
    destination: Option<IpAddr>,
    arrived: Option<Time>,
    slot: usize,
    length: usize,
    /// Bytes of each datagram in it, but for the last, which may be shorter. Never 0.
    datagram: usize,
}

/// A datagram that was received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Datagram<'a> {
    /// Who sent it.
    pub source: SocketAddr,
    /// Which address of this machine it was sent to: `None` if that was a group, or unless
    /// [`Socket::tell_destinations`] asked for it.
    pub destination: Option<IpAddr>,
    /// When it reached this machine: `None` unless [`Socket::tell_arrivals`] asked for it.
    pub arrived: Option<Time>,
    /// Its payload.
    pub bytes: &'a [u8],
}

impl Default for Batch {
    fn default() -> Self {
        Batch {
            bytes: PageBuffer::new(MESSAGES * LONGEST),
            sources: Box::new([Raw::EMPTY; MESSAGES]),
            controls: Box::new([[0; 12]; MESSAGES]),
            messages: Vec::with_capacity(MESSAGES),
            asked: MESSAGES,
        }
    }
}

impl std::fmt::Debug for Batch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(&self.messages).finish()
    }
}

impl Batch {
    /// The datagrams in the order of their arrival.
    pub fn datagrams(&self) -> impl Iterator<Item = Datagram<'_>> {
        self.messages.iter().flat_map(|message| {
            let bytes = &self.bytes[message.slot * LONGEST..][..message.length];
            // A datagram without payload is one, too.
            let empty = bytes.is_empty().then_some(bytes);
            let datagrams = bytes.chunks(message.datagram).chain(empty);
            let Message { source, destination, arrived, .. } = *message;
            datagrams.map(move |bytes| Datagram { source, destination, arrived, bytes })
        })
    }

    /// Whether the last call filled it, so that more may have arrived already.
    pub fn is_full(&self) -> bool {
        self.messages.len() == self.asked
    }

    /// How many messages to ask for, by how long the last ones were.
    fn next(&self) -> usize {
        let length: usize = self.messages.iter().map(|message| message.length).sum();
        (CACHED * self.messages.len()).checked_div(length).unwrap_or(MESSAGES).clamp(LEAST_MESSAGES, MESSAGES)
    }
}

impl Socket {
    /// Receives what has arrived, as far as there is room. The batch is empty if nothing has.
    ///
    /// # Errors
    /// When the kernel has no memory, or the socket's network is gone.
    pub fn receive(&self, batch: &mut Batch) -> io::Result<()> {
        batch.asked = batch.next();
        batch.messages.clear();
        let mut vectors = [libc::iovec { iov_base: ptr::null_mut(), iov_len: 0 }; MESSAGES];
        // SAFETY: all-zero is a valid `mmsghdr`: null pointers and no lengths.
        let mut headers: [libc::mmsghdr; MESSAGES] = unsafe { zeroed() };
        for (slot, bytes) in batch.bytes.chunks_exact_mut(LONGEST).take(batch.asked).enumerate() {
            vectors[slot] = libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: LONGEST };
            let header = &mut headers[slot].msg_hdr;
            header.msg_iov = &raw mut vectors[slot];
            header.msg_iovlen = 1;
            header.msg_name = (&raw mut batch.sources[slot]).cast();
            header.msg_namelen = size_of::<Raw>() as libc::socklen_t;
            if self.joins || self.tells_destinations || self.tells_arrivals {
                header.msg_control = (&raw mut batch.controls[slot]).cast();
                header.msg_controllen = size_of::<Control>() as _;
            }
        }
        let received = loop {
            // SAFETY: each header points to a slot's own buffers, which are alive, writable and as long as they say.
            let result = unsafe {
                libc::recvmmsg(
                    self.inner.as_raw_fd(),
                    headers.as_mut_ptr(),
                    batch.asked as libc::c_uint,
                    libc::MSG_DONTWAIT as _,
                    ptr::null_mut(),
                )
            };
            if let Ok(received) = usize::try_from(result) {
                break received;
            }
            match io::Error::last_os_error() {
                error if error.kind() == io::ErrorKind::WouldBlock => break 0,
                error if error.kind() == io::ErrorKind::Interrupted => {}
                // Somebody refused what was sent to him; that was told once, and is gone.
                error if error.kind() == io::ErrorKind::ConnectionRefused => {}
                error => return Err(error),
            }
        };
        let moment = Moment::now();
        for (slot, header) in headers[..received].iter().enumerate() {
            let Some(source) = batch.sources[slot].address() else { continue };
            let length = (header.msg_len as usize).min(LONGEST);
            // SAFETY: the kernel has written the control messages that the header speaks of.
            let told = unsafe { told(&header.msg_hdr) };
            let datagram = told.length.unwrap_or(length).max(1);
            let arrived = told.noted.map(|noted| moment.when(noted));
            batch.messages.push(Message { source, destination: told.destination, arrived, slot, length, datagram });
        }
        Ok(())
    }
}

/// What the kernel tells of a message.
#[derive(Default)]
struct Told {
    /// Of each datagram, if it joined several.
    length: Option<usize>,
    destination: Option<IpAddr>,
    /// When it arrived, by the calendar.
    noted: Option<libc::timespec>,
}

/// What the kernel tells of a message beside its bytes.
///
/// # Safety
/// The header's control messages must be as the kernel left them.
unsafe fn told(header: &libc::msghdr) -> Told {
    let mut told = Told::default();
    // SAFETY: by the contract the control messages are well-formed; these walk them as cmsg(3) says.
    unsafe {
        let mut control = libc::CMSG_FIRSTHDR(header);
        while let Some(found) = control.as_ref() {
            let data = libc::CMSG_DATA(control);
            match (found.cmsg_level, found.cmsg_type) {
                (libc::SOL_UDP, libc::UDP_GRO) => {
                    let joined = ptr::read_unaligned(data.cast::<libc::c_int>());
                    told.length = usize::try_from(joined).ok().filter(|length| *length > 0);
                }
                (libc::SOL_SOCKET, libc::SCM_TIMESTAMPNS) => {
                    told.noted = Some(ptr::read_unaligned(data.cast::<libc::timespec>()));
                }
                (level, kind) => told.destination = told.destination.or(destination(level, kind, data)),
            }
            control = libc::CMSG_NXTHDR(header, control);
        }
    }
    told
}

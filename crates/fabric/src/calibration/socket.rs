//! A packet socket at one interface, for probes alone: sending many frames with one system call, and receiving them with
//! the kernel's own times. See packet(7), and `SO_TIMESTAMPNS` in socket(7).
#![allow(unsafe_code, reason = "packet sockets, many messages in one call and control messages have no safe form")]

use std::io;
use std::mem::{size_of, zeroed};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use nix::errno::Errno;

use super::frame::{self, Label, Mac};

/// Frames of one system call.
const FRAMES: usize = 64;

/// Room for frames that arrive while nobody looks; a shared machine may forget about us for a while. Without privilege it is
/// what the system allows.
const ROOM: libc::c_int = 4 << 20;

/// One that sends at, and receives from, one interface.
#[derive(Debug)]
pub(super) struct ProbeSocket {
    fd: OwnedFd,
}

/// What became of frames that were to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Taken {
    /// So many of them, from the first on, have gone, or were thrown away by the interface's own queue.
    pub frames: usize,
    /// The interface takes no more for now.
    pub is_full: bool,
}

impl ProbeSocket {
    /// Opens one in the calling thread's network namespace.
    pub(super) fn open(index: u32) -> io::Result<Self> {
        ProbeSocket::unbound()?.bound(index)
    }

    /// Of another network namespace, from whoever has [made](Self::unbound) it there.
    pub(super) fn adopted(fd: OwnedFd, index: u32) -> io::Result<Self> {
        ProbeSocket { fd }.bound(index)
    }

    /// The socket alone, at no interface yet.
    pub(super) fn unbound() -> io::Result<Self> {
        let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
        // Protocol 0 receives nothing until it is bound.
        // SAFETY: takes no pointers.
        let fd = checked(unsafe { libc::socket(libc::AF_PACKET, kind, 0) })?;
        // SAFETY: `fd` is new and owned by nobody else.
        let socket = ProbeSocket { fd: unsafe { OwnedFd::from_raw_fd(fd) } };
        socket.set(libc::SOL_SOCKET, libc::SO_TIMESTAMPNS, 1)?;
        for (forced, asked) in [(libc::SO_RCVBUFFORCE, libc::SO_RCVBUF), (libc::SO_SNDBUFFORCE, libc::SO_SNDBUF)] {
            socket.set(libc::SOL_SOCKET, forced, ROOM).or_else(|_| socket.set(libc::SOL_SOCKET, asked, ROOM))?;
        }
        Ok(socket)
    }

    pub(super) fn into_fd(self) -> OwnedFd {
        self.fd
    }

    fn bound(self, index: u32) -> io::Result<Self> {
        let address = libc::sockaddr_ll {
            sll_family: libc::AF_PACKET as u16,
            sll_protocol: frame::ETHERTYPE.to_be(),
            sll_ifindex: index as libc::c_int,
            sll_hatype: 0,
            sll_pkttype: 0,
            sll_halen: 0,
            sll_addr: [0; 8],
        };
        // SAFETY: `address` is a valid `sockaddr_ll` of the given length.
        checked(unsafe {
            libc::bind(
                self.fd.as_raw_fd(),
                (&raw const address).cast(),
                size_of::<libc::sockaddr_ll>() as libc::socklen_t,
            )
        })?;
        Ok(self)
    }

    /// Sends frames of `bytes` with these labels, as many as one system call and the interface take.
    pub(super) fn send(&self, destination: Mac, source: Mac, bytes: usize, labels: &[Label]) -> io::Result<Taken> {
        let labels = &labels[..labels.len().min(FRAMES)];
        let padding = [0u8; 256];
        let heads: Vec<[u8; frame::HEAD]> =
            labels.iter().map(|label| frame::head(destination, source, *label)).collect();
        let rest = bytes.saturating_sub(frame::HEAD);
        let pieces = 1 + rest.div_ceil(padding.len());
        let mut vectors = Vec::with_capacity(pieces * labels.len());
        for head in &heads {
            vectors.push(libc::iovec { iov_base: head.as_ptr().cast_mut().cast(), iov_len: head.len() });
            for at in 1..pieces {
                let length = (rest - (at - 1) * padding.len()).min(padding.len());
                vectors.push(libc::iovec { iov_base: padding.as_ptr().cast_mut().cast(), iov_len: length });
            }
        }
        let mut messages: Vec<libc::mmsghdr> = vectors
            .chunks_mut(pieces)
            .map(|own| {
                // SAFETY: all-zero is a valid `mmsghdr`: null pointers and no lengths.
                let mut message: libc::mmsghdr = unsafe { zeroed() };
                message.msg_hdr.msg_iov = own.as_mut_ptr();
                message.msg_hdr.msg_iovlen = own.len() as _;
                message
            })
            .collect();
        // SAFETY: the messages point to `vectors`, and those to `heads` and `padding`, all of which outlive the call; the
        // kernel only reads through them.
        let sent =
            unsafe { libc::sendmmsg(self.fd.as_raw_fd(), messages.as_mut_ptr(), messages.len() as libc::c_uint, 0) };
        if let Some(frames) = usize::try_from(sent).ok().filter(|frames| *frames > 0) {
            return Ok(Taken { frames, is_full: false });
        }
        match Errno::last() {
            Errno::EAGAIN => Ok(Taken { frames: 0, is_full: true }),
            Errno::EINTR => Ok(Taken { frames: 0, is_full: false }),
            // A queueing discipline, or an interface that is down, has thrown the first of them away.
            Errno::ENOBUFS | Errno::ENETDOWN | Errno::EMSGSIZE => Ok(Taken { frames: 1, is_full: false }),
            errno => Err(errno.into()),
        }
    }

    /// Takes what has arrived: each probe's label and the `CLOCK_REALTIME` of its arrival, in nanoseconds.
    pub(super) fn receive(&self, mut take: impl FnMut(Label, u64)) -> io::Result<()> {
        /// A control message with a `timespec`, and another that nobody asked for.
        type Control = [u64; 16];
        let mut heads = [[0u8; frame::HEAD]; FRAMES];
        let mut controls: [Control; FRAMES] = [[0; 16]; FRAMES];
        loop {
            let mut vectors: Vec<libc::iovec> = heads
                .iter_mut()
                .map(|head| libc::iovec { iov_base: head.as_mut_ptr().cast(), iov_len: head.len() })
                .collect();
            let mut messages: Vec<libc::mmsghdr> = vectors
                .iter_mut()
                .zip(&mut controls)
                .map(|(vector, control)| {
                    // SAFETY: all-zero is a valid `mmsghdr`: null pointers and no lengths.
                    let mut message: libc::mmsghdr = unsafe { zeroed() };
                    message.msg_hdr.msg_iov = vector;
                    message.msg_hdr.msg_iovlen = 1;
                    message.msg_hdr.msg_control = control.as_mut_ptr().cast();
                    message.msg_hdr.msg_controllen = size_of::<Control>() as _;
                    message
                })
                .collect();
            let count = messages.len() as libc::c_uint;
            // SAFETY: the messages point to `vectors` and `controls`, and those to `heads`, all of which outlive the call and
            // are borrowed for it alone.
            let received = unsafe {
                libc::recvmmsg(
                    self.fd.as_raw_fd(),
                    messages.as_mut_ptr(),
                    count,
                    libc::MSG_DONTWAIT,
                    std::ptr::null_mut(),
                )
            };
            let received = match usize::try_from(received) {
                Ok(received) => received,
                Err(_) => match Errno::last() {
                    Errno::EINTR => continue,
                    // An interface that went down tells so once, and may come up again.
                    Errno::EAGAIN | Errno::ENETDOWN => return Ok(()),
                    errno => return Err(errno.into()),
                },
            };
            for message in &messages[..received] {
                // SAFETY: the kernel has filled this header and the control messages behind it.
                let arrived = unsafe { timestamp(&message.msg_hdr) };
                // SAFETY: `msg_iov` is the one vector given above, whose buffer is `heads`' and initialised.
                let head = unsafe { &*(*message.msg_hdr.msg_iov).iov_base.cast::<[u8; frame::HEAD]>() };
                let is_whole = message.msg_len as usize >= frame::HEAD;
                if let (Some(label), Some(arrived)) = (frame::label(head).filter(|_| is_whole), arrived) {
                    take(label, arrived);
                }
            }
            if received < FRAMES {
                return Ok(());
            }
        }
    }

    /// How many frames found no room since the last call.
    pub(super) fn take_drops(&self) -> u64 {
        let mut stats = libc::tpacket_stats { tp_packets: 0, tp_drops: 0 };
        let mut length = size_of::<libc::tpacket_stats>() as libc::socklen_t;
        // SAFETY: `stats` and `length` are valid for the call, and `length` says how large `stats` is.
        let told = unsafe {
            libc::getsockopt(
                self.fd.as_raw_fd(),
                libc::SOL_PACKET,
                libc::PACKET_STATISTICS,
                (&raw mut stats).cast(),
                &raw mut length,
            )
        };
        // Asking a socket of one's own does not fail; if it did, there would be nothing to add.
        if told == 0 { u64::from(stats.tp_drops) } else { 0 }
    }

    fn set(&self, level: libc::c_int, name: libc::c_int, value: libc::c_int) -> io::Result<()> {
        // SAFETY: `value` is valid for the call, and its length is given.
        checked(unsafe {
            libc::setsockopt(
                self.fd.as_raw_fd(),
                level,
                name,
                (&raw const value).cast(),
                size_of::<libc::c_int>() as libc::socklen_t,
            )
        })
        .map(drop)
    }
}

impl AsFd for ProbeSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// The kernel's time of arrival, nanoseconds of `CLOCK_REALTIME`.
///
/// # Safety
///
/// `header` is one that `recvmmsg` has filled, and what it points to is still there.
unsafe fn timestamp(header: &libc::msghdr) -> Option<u64> {
    // SAFETY: as the caller says.
    let mut control = unsafe { libc::CMSG_FIRSTHDR(header) };
    while !control.is_null() {
        // SAFETY: the macros return headers within the buffer of control messages, or null.
        let (level, kind) = unsafe { ((*control).cmsg_level, (*control).cmsg_type) };
        if level == libc::SOL_SOCKET && kind == libc::SCM_TIMESTAMPNS {
            // SAFETY: the data of this kind is a `timespec`, perhaps not aligned as one.
            let time = unsafe { libc::CMSG_DATA(control).cast::<libc::timespec>().read_unaligned() };
            return Some((time.tv_sec as u64).saturating_mul(1_000_000_000) + time.tv_nsec as u64);
        }
        // SAFETY: as above.
        control = unsafe { libc::CMSG_NXTHDR(header, control) };
    }
    None
}

fn checked(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

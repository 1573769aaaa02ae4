//! What measuring a link takes beside a fabric: who sees what arrives at a node, with the kernel's times; senders whose
//! damaged packets arrive; and interfaces without segmentation offload.
#![allow(unsafe_code, reason = "options of sockets and interfaces that no safe wrapper offers")]

use std::io;
use std::net::{Ipv4Addr, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use machine::{Span, Time};

use crate::clock;
use crate::fabric::near_index;
use crate::relay::{PacketSocket, RxRing, Slots};

/// Sees every frame that arrives at a node, whatever becomes of it there: damaged ones, too, which no socket would get.
#[derive(Debug)]
pub struct Witness {
    socket: PacketSocket,
    ring: RxRing,
    realtime_ahead: u64,
}

/// Reading two clocks one after the other takes less, if nothing comes between.
const AT_ONCE: Span = Span::from_micros(2);

impl Witness {
    /// Listens, from now on, to the first `interfaces` interfaces of the node whose network namespace the caller is in.
    ///
    /// # Errors
    ///
    /// When the kernel denies the packet socket.
    pub fn open(interfaces: usize) -> io::Result<Witness> {
        let interfaces = (0..interfaces).map(near_index).collect();
        let (socket, ring) = PacketSocket::open(interfaces, 0..=u32::MAX, Slots::for_packets(1500))?;
        let realtime_ahead = clock::realtime().wrapping_sub(clock::now().as_nanos());
        Ok(Witness { socket, ring, realtime_ahead })
    }

    /// Takes the frame that arrived first, if there is one, with the time at which it did.
    pub fn take<T>(&mut self, use_it: impl FnOnce(Time, &[u8]) -> T) -> Option<T> {
        let received = self.ring.peek()?;
        let (before, realtime, after) = (clock::now(), clock::realtime(), clock::now());
        if after.since(before) <= AT_ONCE {
            self.realtime_ahead = realtime.wrapping_sub(before.as_nanos());
        }
        let at = Time::from_nanos(received.realtime.wrapping_sub(self.realtime_ahead));
        let frame = received.packet.get(RxRing::BEFORE_FRAME..).unwrap_or_default();
        let used = use_it(at, frame);
        self.ring.release();
        Some(used)
    }

    /// How many frames the kernel had no room for since the last call.
    ///
    /// # Errors
    ///
    /// None that is known.
    pub fn take_drops(&self) -> io::Result<u64> {
        self.socket.take_drops()
    }
}

impl AsFd for Witness {
    /// Readable when a frame has arrived.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.fd().as_fd()
    }
}

/// Sends without checksums from now on (RFC 768 has 0 for none), so that nobody on the way completes or repairs them.
///
/// # Errors
///
/// When it is no UDP socket.
pub fn omit_checksums(socket: &UdpSocket) -> io::Result<()> {
    let on: libc::c_int = 1;
    // SAFETY: `on` is valid for the call, and its length is given.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_NO_CHECK,
            (&raw const on).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Tells the kernel where a neighbour is, for good. The first packets to one that it has to ask for wait for the answer, and
/// those that come when it does overtake them.
///
/// # Errors
///
/// When there is no such interface, or the caller may not.
pub fn introduce(interface: &str, address: Ipv4Addr, mac: [u8; 6]) -> io::Result<()> {
    /// Complete, and permanent (`linux/if_arp.h`).
    const FLAGS: libc::c_int = 0x02 | 0x04;
    // SAFETY: all-zero is a valid `arpreq`.
    let mut request: libc::arpreq = unsafe { std::mem::zeroed() };
    request.arp_pa.sa_family = libc::AF_INET as libc::sa_family_t;
    // `sockaddr_in`: a port, then the address.
    copy(&mut request.arp_pa.sa_data[2..6], &address.octets());
    request.arp_ha.sa_family = libc::ARPHRD_ETHER;
    copy(&mut request.arp_ha.sa_data[..6], &mac);
    request.arp_flags = FLAGS;
    // The last byte stays zero.
    let room = request.arp_dev.len() - 1;
    copy(&mut request.arp_dev[..room], interface.as_bytes());
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    // SAFETY: the request is valid for the call.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSARP as libc::Ioctl, &raw const request) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn copy(to: &mut [libc::c_char], from: &[u8]) {
    for (place, byte) in to.iter_mut().zip(from) {
        *place = *byte as libc::c_char;
    }
}

/// Has packets cut before they leave this interface of the caller's network namespace (`ethtool -K … tso off gso off`).
///
/// # Errors
///
/// When there is no such interface, or the caller may not.
pub fn forgo_segmentation_offload(interface: &str) -> io::Result<()> {
    const SIOCETHTOOL: libc::Ioctl = 0x8946;
    const ETHTOOL_STSO: u32 = 0x1f;
    const ETHTOOL_SGSO: u32 = 0x24;
    /// `struct ethtool_value`.
    #[repr(C)]
    struct Value {
        command: u32,
        data: u32,
    }
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    for command in [ETHTOOL_STSO, ETHTOOL_SGSO] {
        let mut value = Value { command, data: 0 };
        // SAFETY: all-zero is a valid `ifreq`.
        let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
        // The last byte stays zero.
        let room = request.ifr_name.len() - 1;
        copy(&mut request.ifr_name[..room], interface.as_bytes());
        request.ifr_ifru.ifru_data = (&raw mut value).cast();
        // SAFETY: the request and the value that it points to are valid for the call.
        if unsafe { libc::ioctl(socket.as_raw_fd(), SIOCETHTOOL, &raw mut request) } < 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

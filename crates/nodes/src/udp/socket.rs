//! One bound UDP socket.
#![allow(unsafe_code, reason = "options of UDP that safe wrappers do not offer")]

use std::cell::Cell;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use libc::c_int;
use socket2::{Domain, Protocol, Type};

use super::interface::Interface;

/// A bound UDP socket that never blocks.
///
/// A refusal by ICMP does not show: datagrams are lost on the way for many reasons, and this is one.
#[derive(Debug)]
pub struct Socket {
    pub(super) inner: socket2::Socket,
    /// Whether IPv4 addresses must be written as mapped IPv6.
    pub(super) is_v6: bool,
    /// Whether IPv4 can be reached.
    reaches_v4: bool,
    /// Whether the kernel joins what arrives.
    pub(super) joins: bool,
    /// Whether the kernel says where what arrives was sent to.
    pub(super) tells_destinations: bool,
    /// Whether it says when what arrives did.
    pub(super) tells_arrivals: bool,
    /// Whether trains are worth a try. A device without checksums refuses them for good.
    pub(super) cuts: Cell<bool>,
}

/// Sizes of a socket's buffers in bytes, as the kernel counts: with its own bookkeeping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Buffers {
    /// Of what has arrived and was not received yet.
    pub receive: usize,
    /// Of what was sent and has not left yet.
    pub send: usize,
}

impl Socket {
    /// A socket of all addresses of this machine, IPv6 and IPv4; of IPv4 alone where there is no IPv6. Port 0 is any.
    ///
    /// # Errors
    /// When the port is taken, or not for this user.
    pub fn any(port: u16) -> io::Result<Self> {
        match Socket::bind((Ipv6Addr::UNSPECIFIED, port).into()) {
            Err(error) if matches!(error.raw_os_error(), Some(libc::EAFNOSUPPORT | libc::EADDRNOTAVAIL)) => {
                Socket::bind((Ipv4Addr::UNSPECIFIED, port).into())
            }
            bound => bound,
        }
    }

    /// A socket of one address. The unspecified IPv6 address takes IPv4, too.
    ///
    /// # Errors
    /// When the port is taken, or not for this user, or the address is not one of this machine.
    pub fn bind(address: SocketAddr) -> io::Result<Self> {
        let inner = socket2::Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
        let is_v6 = address.is_ipv6();
        let both = is_v6 && address.ip().is_unspecified();
        if is_v6 {
            inner.set_only_v6(!both)?;
        }
        inner.set_nonblocking(true)?;
        inner.bind(&address.into())?;
        let mut socket = Socket {
            inner,
            is_v6,
            reaches_v4: both || !is_v6,
            joins: false,
            tells_destinations: false,
            tells_arrivals: false,
            cuts: Cell::new(true),
        };
        // Before Linux 5.0 nothing is joined, which costs time only.
        socket.joins = socket.set(libc::SOL_UDP, libc::UDP_GRO, 1).is_ok();
        // Only groups that this socket joined itself, not those of others on this machine.
        if socket.reaches_v4 {
            socket.set(libc::IPPROTO_IP, libc::IP_MULTICAST_ALL, 0)?;
        }
        if is_v6 {
            const IPV6_MULTICAST_ALL: c_int = 29;
            // Before Linux 4.20 there is no such option.
            let _ = socket.set(libc::IPPROTO_IPV6, IPV6_MULTICAST_ALL, 0);
        }
        Ok(socket)
    }

    /// The address that it is bound to.
    ///
    /// # Errors
    /// Never, for a bound socket.
    pub fn local_address(&self) -> io::Result<SocketAddr> {
        let address = self.inner.local_addr()?;
        address.as_socket().ok_or_else(|| io::ErrorKind::AddrNotAvailable.into())
    }

    /// Whether datagrams to `address` can leave by this socket at all, by their family.
    pub fn can_reach(&self, address: IpAddr) -> bool {
        if address.is_ipv4() { self.reaches_v4 } else { self.is_v6 }
    }

    /// Asks for buffers of so many bytes, beyond the system's bound where that is allowed; what they really are.
    ///
    /// # Errors
    /// When the kernel does not tell.
    pub fn enlarge(&self, wanted: Buffers) -> io::Result<Buffers> {
        let ask = |force, plain, bytes: usize| {
            // The kernel doubles what it is given.
            let bytes = c_int::try_from(bytes / 2).unwrap_or(c_int::MAX / 2);
            self.set(libc::SOL_SOCKET, force, bytes).or_else(|_| self.set(libc::SOL_SOCKET, plain, bytes))
        };
        ask(libc::SO_RCVBUFFORCE, libc::SO_RCVBUF, wanted.receive)?;
        ask(libc::SO_SNDBUFFORCE, libc::SO_SNDBUF, wanted.send)?;
        Ok(Buffers { receive: self.inner.recv_buffer_size()?, send: self.inner.send_buffer_size()? })
    }

    /// Datagrams are never fragmented, and what the kernel believes of the path's MTU does not matter (RFC 8899): one
    /// that is too long for the interface is refused, one that is too long for the path is lost.
    ///
    /// # Errors
    /// When the kernel does not know that.
    pub fn probe_path(&self) -> io::Result<()> {
        if self.reaches_v4 {
            self.set(libc::IPPROTO_IP, libc::IP_MTU_DISCOVER, libc::IP_PMTUDISC_PROBE)?;
        }
        if self.is_v6 {
            self.set(libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER, libc::IPV6_PMTUDISC_PROBE)?;
        }
        Ok(())
    }

    /// Receives what is sent to `group` and arrives on `interface`. Joining again is harmless.
    ///
    /// # Errors
    /// When `group` is none, or the interface takes part in no groups.
    pub fn join(&self, group: IpAddr, interface: &Interface) -> io::Result<()> {
        let joined = match group {
            IpAddr::V4(group) => {
                let by = socket2::InterfaceIndexOrAddress::Index(interface.index());
                self.inner.join_multicast_v4_n(&group, &by)
            }
            IpAddr::V6(group) => self.inner.join_multicast_v6(&group, interface.index()),
        };
        joined.or_else(|error| if error.raw_os_error() == Some(libc::EADDRINUSE) { Ok(()) } else { Err(error) })
    }

    /// No longer receives what is sent to `group`.
    ///
    /// # Errors
    /// When it was not joined there.
    pub fn leave(&self, group: IpAddr, interface: &Interface) -> io::Result<()> {
        match group {
            IpAddr::V4(group) => {
                let by = socket2::InterfaceIndexOrAddress::Index(interface.index());
                self.inner.leave_multicast_v4_n(&group, &by)
            }
            IpAddr::V6(group) => self.inner.leave_multicast_v6(&group, interface.index()),
        }
    }

    /// What is sent to groups leaves by `interface`, passes at most `hops` - 1 routers, and reaches receivers on this
    /// machine if `looped`.
    ///
    /// # Errors
    /// When there is no such interface any more.
    pub fn send_groups_by(&self, interface: &Interface, hops: u8, looped: bool) -> io::Result<()> {
        if self.reaches_v4 {
            let request = libc::ip_mreqn {
                imr_multiaddr: libc::in_addr { s_addr: 0 },
                imr_address: libc::in_addr { s_addr: 0 },
                imr_ifindex: interface.index() as c_int,
            };
            self.set_to(libc::IPPROTO_IP, libc::IP_MULTICAST_IF, &request)?;
            self.set(libc::IPPROTO_IP, libc::IP_MULTICAST_TTL, c_int::from(hops))?;
            self.set(libc::IPPROTO_IP, libc::IP_MULTICAST_LOOP, c_int::from(looped))?;
        }
        if self.is_v6 {
            self.inner.set_multicast_if_v6(interface.index())?;
            self.inner.set_multicast_hops_v6(u32::from(hops))?;
            self.inner.set_multicast_loop_v6(looped)?;
        }
        Ok(())
    }

    pub(super) fn set(&self, level: c_int, name: c_int, value: c_int) -> io::Result<()> {
        self.set_to(level, name, &value)
    }

    fn set_to<T>(&self, level: c_int, name: c_int, value: &T) -> io::Result<()> {
        // SAFETY: `value` is valid for the call, and its length is given.
        let result = unsafe {
            libc::setsockopt(
                self.inner.as_raw_fd(),
                level,
                name,
                std::ptr::from_ref(value).cast(),
                size_of::<T>() as libc::socklen_t,
            )
        };
        if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }
}

/// An option that is a number.
pub(super) fn option(socket: &socket2::Socket, level: c_int, name: c_int) -> io::Result<c_int> {
    let mut value: c_int = 0;
    let mut length = size_of::<c_int>() as libc::socklen_t;
    // SAFETY: `value` and `length` are valid for the call, and `length` says how large `value` is.
    let result = unsafe { libc::getsockopt(socket.as_raw_fd(), level, name, (&raw mut value).cast(), &raw mut length) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(value) }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inner.as_fd()
    }
}

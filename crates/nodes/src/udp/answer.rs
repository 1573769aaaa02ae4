//! Answering from the address that was asked: on a host with several, the kernel would take the one that the route to the
//! asker wants, and whoever knows its peers by their addresses would not know the answer.

use std::io::{self, IoSlice};
use std::net::{IpAddr, SocketAddr, SocketAddrV6};
use std::os::fd::AsRawFd;

use libc::c_int;
use nix::sys::socket::{ControlMessage, MsgFlags, SockaddrStorage, sendmsg};

use super::send::Refusal;
use super::socket::Socket;

impl Socket {
    /// From now on each datagram that is received says which address of this machine it was sent to.
    ///
    /// # Errors
    /// When the kernel does not know that.
    pub fn tell_destinations(&mut self) -> io::Result<()> {
        if self.is_v6 {
            // Of IPv4, too, as a mapped address.
            self.set(libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO, 1)?;
        } else {
            self.set(libc::IPPROTO_IP, libc::IP_PKTINFO, 1)?;
        }
        self.tells_destinations = true;
        Ok(())
    }

    /// Sends one datagram from `own`, an address of this machine, or the one that the kernel chooses if this is none any
    /// more. `None` if the kernel took it.
    pub fn send_from(&self, own: Option<IpAddr>, to: SocketAddr, datagram: &[u8]) -> Option<Refusal> {
        let Some(own) = own.filter(|own| own.is_ipv4() == to.is_ipv4()) else { return self.send(to, datagram) };
        let sent = match (self.is_v6, own) {
            (false, IpAddr::V4(own)) => {
                let no_address = libc::in_addr { s_addr: 0 };
                let ipi_spec_dst = libc::in_addr { s_addr: u32::from_ne_bytes(own.octets()) };
                let from = libc::in_pktinfo { ipi_ifindex: 0, ipi_spec_dst, ipi_addr: no_address };
                self.send_with(to, datagram, ControlMessage::Ipv4PacketInfo(&from))
            }
            (false, IpAddr::V6(_)) => return self.send(to, datagram),
            (true, own) => {
                let mapped = |ip: IpAddr| match ip {
                    IpAddr::V4(ip) => ip.to_ipv6_mapped(),
                    IpAddr::V6(ip) => ip,
                };
                let ipi6_addr = libc::in6_addr { s6_addr: mapped(own).octets() };
                let from = libc::in6_pktinfo { ipi6_addr, ipi6_ifindex: 0 };
                let to = match to {
                    SocketAddr::V4(_) => SocketAddrV6::new(mapped(to.ip()), to.port(), 0, 0).into(),
                    v6 => v6,
                };
                self.send_with(to, datagram, ControlMessage::Ipv6PacketInfo(&from))
            }
        };
        match sent {
            Ok(()) => None,
            Err(nix::Error::EAGAIN | nix::Error::ENOBUFS | nix::Error::ENOMEM) => Some(Refusal::Full),
            // The address is gone, or it was told of something else before: then as any other.
            Err(_) => self.send(to, datagram),
        }
    }

    fn send_with(&self, to: SocketAddr, datagram: &[u8], from: ControlMessage<'_>) -> nix::Result<()> {
        let to = SockaddrStorage::from(to);
        let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
        sendmsg(self.inner.as_raw_fd(), &[IoSlice::new(datagram)], &[from], flags, Some(&to)).map(drop)
    }
}

/// The address in a control message, if it is one of this machine that can be answered from.
///
/// # Safety
/// `data` must be what follows a control message's header of that level and type, as the kernel wrote it.
#[allow(unsafe_code, reason = "reads what the kernel wrote")]
pub(super) unsafe fn destination(level: c_int, kind: c_int, data: *const u8) -> Option<IpAddr> {
    let ip = match (level, kind) {
        (libc::IPPROTO_IP, libc::IP_PKTINFO) => {
            // SAFETY: by the contract this is an `in_pktinfo`, of plain numbers.
            let info = unsafe { data.cast::<libc::in_pktinfo>().read_unaligned() };
            IpAddr::from(info.ipi_addr.s_addr.to_ne_bytes())
        }
        (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) => {
            // SAFETY: by the contract this is an `in6_pktinfo`, of plain numbers.
            let info = unsafe { data.cast::<libc::in6_pktinfo>().read_unaligned() };
            IpAddr::from(info.ipi6_addr.s6_addr).to_canonical()
        }
        _ => return None,
    };
    let is_broadcast = matches!(ip, IpAddr::V4(v4) if v4.is_broadcast());
    (!ip.is_multicast() && !is_broadcast && !ip.is_unspecified()).then_some(ip)
}

//! Addresses as the kernel writes them. A socket of both families speaks of IPv4 as mapped IPv6 (RFC 4291 §2.5.5.2);
//! everybody else here sees plain IPv4.
#![allow(unsafe_code, reason = "reads what the kernel wrote into a sockaddr_storage")]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};

/// An address as the kernel takes it.
#[derive(Clone, Copy)]
pub(super) union Raw {
    v4: libc::sockaddr_in,
    v6: libc::sockaddr_in6,
    family: libc::sa_family_t,
}

impl Raw {
    /// Room for what the kernel will write.
    pub(super) const EMPTY: Raw = Raw {
        v6: libc::sockaddr_in6 {
            sin6_family: 0,
            sin6_port: 0,
            sin6_flowinfo: 0,
            sin6_addr: libc::in6_addr { s6_addr: [0; 16] },
            sin6_scope_id: 0,
        },
    };

    /// `address` for a socket of IPv6 (`mapped`) or of IPv4, and how many bytes of it count.
    pub(super) fn new(address: SocketAddr, mapped: bool) -> (Raw, libc::socklen_t) {
        match address {
            SocketAddr::V4(v4) if !mapped => {
                let sin_addr = libc::in_addr { s_addr: u32::from_ne_bytes(v4.ip().octets()) };
                let raw = libc::sockaddr_in {
                    sin_family: libc::AF_INET as libc::sa_family_t,
                    sin_port: v4.port().to_be(),
                    sin_addr,
                    sin_zero: [0; 8],
                };
                let mut whole = Raw::EMPTY;
                whole.v4 = raw;
                (whole, size_of::<libc::sockaddr_in>() as libc::socklen_t)
            }
            SocketAddr::V4(v4) => Raw::of_v6(SocketAddrV6::new(v4.ip().to_ipv6_mapped(), v4.port(), 0, 0)),
            SocketAddr::V6(v6) => Raw::of_v6(v6),
        }
    }

    fn of_v6(v6: SocketAddrV6) -> (Raw, libc::socklen_t) {
        let raw = libc::sockaddr_in6 {
            sin6_family: libc::AF_INET6 as libc::sa_family_t,
            sin6_port: v6.port().to_be(),
            sin6_flowinfo: v6.flowinfo(),
            sin6_addr: libc::in6_addr { s6_addr: v6.ip().octets() },
            sin6_scope_id: v6.scope_id(),
        };
        (Raw { v6: raw }, size_of::<libc::sockaddr_in6>() as libc::socklen_t)
    }

    /// Mapped IPv4 is told as IPv4. `None` if it is neither IPv4 nor IPv6.
    pub(super) fn address(&self) -> Option<SocketAddr> {
        // SAFETY: every variant is plain numbers, the union is always wholly initialised, and all begin with the family.
        match libc::c_int::from(unsafe { self.family }) {
            libc::AF_INET => {
                // SAFETY: as above; the family says that this is the variant that was written.
                let v4 = unsafe { self.v4 };
                let ip = Ipv4Addr::from(v4.sin_addr.s_addr.to_ne_bytes());
                Some(SocketAddr::new(ip.into(), u16::from_be(v4.sin_port)))
            }
            libc::AF_INET6 => {
                // SAFETY: as above.
                let v6 = unsafe { self.v6 };
                let ip = Ipv6Addr::from(v6.sin6_addr.s6_addr);
                let port = u16::from_be(v6.sin6_port);
                Some(match ip.to_ipv4_mapped() {
                    Some(v4) => SocketAddr::new(v4.into(), port),
                    None => SocketAddrV6::new(ip, port, 0, v6.sin6_scope_id).into(),
                })
            }
            _ => None,
        }
    }
}

/// The address that means any of this family.
pub(super) fn unspecified(like: IpAddr) -> IpAddr {
    match like {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_come_back_as_they_went() {
        for text in ["10.1.2.3:7735", "[2001:db8::1]:9", "[::1]:65535", "255.255.255.255:1"] {
            let address: SocketAddr = text.parse().unwrap();
            for mapped in [false, true] {
                let (raw, length) = Raw::new(address, mapped);
                assert_eq!(raw.address(), Some(address));
                assert_eq!(length, if address.is_ipv4() && !mapped { 16 } else { 28 });
            }
        }
        assert_eq!(Raw::EMPTY.address(), None);
    }
}

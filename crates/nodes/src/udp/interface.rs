//! Network interfaces: by name, by address, or by what they lead to.

use std::io;
use std::net::{IpAddr, SocketAddr};

use nix::ifaddrs::getifaddrs;
use nix::net::if_::if_nametoindex;
use socket2::{Domain, Protocol, Type};

use super::address::unspecified;
use super::socket::option;

/// An interface of this machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interface {
    index: u32,
}

/// Why there is no such interface.
#[derive(Debug, thiserror::Error)]
pub enum InterfaceError {
    /// Neither a name nor an address of one.
    #[error("no interface is called `{text}` or has that address; there are {known}")]
    Unknown {
        /// What the user typed.
        text: String,
        /// Names of those that there are.
        known: String,
    },
    /// No route leads there.
    #[error("no interface leads to {address}")]
    NoRoute {
        /// Where to.
        address: IpAddr,
        /// What the kernel says.
        source: io::Error,
    },
}

impl Interface {
    /// The interface that is called `text` or has that address.
    ///
    /// # Errors
    /// When there is none.
    pub fn named(text: &str) -> Result<Self, InterfaceError> {
        if let Ok(index) = if_nametoindex(text) {
            return Ok(Interface { index });
        }
        let by_address = text.parse().ok().and_then(with_address);
        by_address.ok_or_else(|| InterfaceError::Unknown { text: text.to_owned(), known: known() })
    }

    /// The interface by which `address` is reached.
    ///
    /// # Errors
    /// When no route leads there.
    pub fn towards(address: IpAddr) -> Result<Self, InterfaceError> {
        let no_route = |source| InterfaceError::NoRoute { address, source };
        let local = connected(address).and_then(|socket| socket.local_addr()).map_err(no_route)?;
        let local = local.as_socket().map(|local| local.ip());
        let found = local.and_then(with_address);
        found.ok_or_else(|| no_route(io::ErrorKind::AddrNotAvailable.into()))
    }

    /// As the kernel numbers it; never 0.
    pub fn index(&self) -> u32 {
        self.index
    }
}

/// What the kernel knows of the longest IP packet that reaches `address`, in bytes. Nothing is sent.
///
/// # Errors
/// When no route leads there.
pub fn path_mtu(address: IpAddr) -> io::Result<u32> {
    let socket = connected(address)?;
    let mtu = match address {
        IpAddr::V4(_) => option(&socket, libc::IPPROTO_IP, libc::IP_MTU),
        IpAddr::V6(_) => option(&socket, libc::IPPROTO_IPV6, libc::IPV6_MTU),
    }?;
    u32::try_from(mtu).map_err(|_| io::ErrorKind::InvalidData.into())
}

/// A socket that is bound as the route to `address` wants it.
fn connected(address: IpAddr) -> io::Result<socket2::Socket> {
    // The port does not matter: nothing is sent.
    let to = SocketAddr::new(address, 9);
    let socket = socket2::Socket::new(Domain::for_address(to), Type::DGRAM, Some(Protocol::UDP))?;
    socket.bind(&SocketAddr::new(unspecified(address), 0).into())?;
    socket.connect(&to.into())?;
    Ok(socket)
}

fn with_address(wanted: IpAddr) -> Option<Interface> {
    let mut interfaces = getifaddrs().ok()?;
    let found = interfaces.find(|interface| {
        interface.address.is_some_and(|address| {
            let v4 = address.as_sockaddr_in().map(|v4| IpAddr::from(v4.ip()));
            v4.or_else(|| address.as_sockaddr_in6().map(|v6| v6.ip().into())) == Some(wanted)
        })
    })?;
    if_nametoindex(found.interface_name.as_str()).ok().map(|index| Interface { index })
}

fn known() -> String {
    let mut names: Vec<String> =
        getifaddrs().map(|all| all.map(|interface| interface.interface_name).collect()).unwrap_or_default();
    names.sort_unstable();
    names.dedup();
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}

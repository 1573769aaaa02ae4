//! A host and perhaps a port, as users write them.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::str::FromStr;

/// `HOST`, `HOST:PORT`, an IPv6 address, or one in brackets with a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    host: String,
    port: Option<u16>,
}

/// It is no host with a port.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no HOST or HOST:PORT; an IPv6 address with a port is in brackets")]
pub struct EndpointError(String);

impl FromStr for Endpoint {
    type Err = EndpointError;

    fn from_str(text: &str) -> Result<Self, EndpointError> {
        let wrong = || EndpointError(text.to_owned());
        let (host, port) = match text.strip_prefix('[') {
            Some(rest) => {
                let (host, port) = rest.split_once(']').ok_or_else(wrong)?;
                host.parse::<Ipv6Addr>().map_err(|_| wrong())?;
                let port = if port.is_empty() { None } else { Some(port.strip_prefix(':').ok_or_else(wrong)?) };
                (host, port)
            }
            None if text.parse::<Ipv6Addr>().is_ok() => (text, None),
            None => text.split_once(':').map_or((text, None), |(host, port)| (host, Some(port))),
        };
        let port = port.map(|port| port.parse().ok().filter(|port| *port != 0).ok_or_else(wrong)).transpose()?;
        let is_odd = |c: char| c.is_whitespace() || c.is_control() || "/@[]".contains(c);
        if host.is_empty() || host.contains(is_odd) {
            return Err(wrong());
        }
        Ok(Endpoint { host: host.to_owned(), port })
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.port {
            None => f.write_str(&self.host),
            Some(port) if self.host.contains(':') => write!(f, "[{}]:{port}", self.host),
            Some(port) => write!(f, "{}:{port}", self.host),
        }
    }
}

impl Endpoint {
    /// Its first address, at `default` if it has no port. Asks the resolver, and waits for it.
    pub(crate) fn resolve(&self, default: u16) -> io::Result<SocketAddr> {
        let port = self.port.unwrap_or(default);
        (self.host.as_str(), port).to_socket_addrs()?.next().ok_or_else(no_address)
    }

    /// The same without holding up others.
    pub(crate) async fn lookup(&self, default: u16) -> io::Result<SocketAddr> {
        let port = self.port.unwrap_or(default);
        // An address needs no thread of the resolver's.
        if let Ok(ip) = self.host.parse::<IpAddr>() {
            return Ok(SocketAddr::new(ip, port));
        }
        tokio::net::lookup_host((self.host.as_str(), port)).await?.next().ok_or_else(no_address)
    }
}

fn no_address() -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, "the name has no address")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_read_with_and_without_ports() {
        for (text, host, port) in [
            ("tracker", "tracker", None),
            ("tracker:9", "tracker", Some(9)),
            ("10.0.0.1:65535", "10.0.0.1", Some(65535)),
            ("fd00::1", "fd00::1", None),
            ("[fd00::1]:9", "fd00::1", Some(9)),
        ] {
            let read: Endpoint = text.parse().unwrap();
            assert_eq!((read.host.as_str(), read.port, read.to_string().as_str()), (host, port, text));
        }
        assert_eq!("[::1]".parse::<Endpoint>().unwrap().resolve(7).unwrap(), "[::1]:7".parse().unwrap());
        for wrong in ["", ":9", "a:", "a:0", "a:x", "a:65536", "[a]:9", "[::1]9", "[::1", "a b", "http://a"] {
            assert_eq!(wrong.parse::<Endpoint>(), Err(EndpointError(wrong.into())));
        }
    }
}

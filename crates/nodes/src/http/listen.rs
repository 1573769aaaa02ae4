//! A listening socket on both address families.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::socket::{setsockopt, sockopt};
use tokio::net::{TcpListener, TcpSocket};

/// Connections that wait to be accepted; the kernel lowers it to `net.core.somaxconn`.
const BACKLOG: u32 = 4096;

/// Where a server listens.
#[derive(Clone, Debug, clap::Args)]
pub struct ListenArgs {
    /// Address to listen on; `::` takes IPv4 too, where the machine has IPv6 at all
    #[arg(long, value_name = "ADDR", default_value = "::")]
    pub listen: IpAddr,
    /// Port to listen on; 0 takes a free one and prints it
    #[arg(long, value_name = "N", default_value_t = 8080)]
    pub port: u16,
}

/// Why a server cannot listen.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}")]
pub struct ListenError {
    /// Where.
    pub address: SocketAddr,
    /// What the kernel says.
    pub source: io::Error,
}

impl ListenArgs {
    /// Opens the socket. A killed server may listen again at once.
    pub(crate) fn listen(&self) -> Result<TcpListener, ListenError> {
        listen_on(self.listen, self.port)
    }
}

/// The same for those who have a port of another meaning.
pub(crate) fn listen_on(address: IpAddr, port: u16) -> Result<TcpListener, ListenError> {
    let wanted = SocketAddr::new(address, port);
    let opened = match open(wanted) {
        // No IPv6 in this kernel or namespace.
        Err(error)
            if address == Ipv6Addr::UNSPECIFIED
                && matches!(error.raw_os_error(), Some(libc::EAFNOSUPPORT | libc::EADDRNOTAVAIL)) =>
        {
            open(SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), port))
        }
        other => other,
    };
    opened.map_err(|source| ListenError { address: wanted, source })
}

fn open(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => {
            let socket = TcpSocket::new_v6()?;
            setsockopt(&socket, sockopt::Ipv6V6Only, &false)?;
            socket
        }
    };
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Raises the soft limit of descriptors to the hard one, and tells how many connections fit under it when each takes
/// `each` descriptors.
pub(crate) fn connections_that_fit(each: u64) -> usize {
    /// For the listener, the runtime, standard streams and the file.
    const OWN: u64 = 64;
    const MOST: u64 = 16_384;
    let limit = match getrlimit(Resource::RLIMIT_NOFILE) {
        Ok((soft, hard)) if soft < hard && setrlimit(Resource::RLIMIT_NOFILE, hard, hard).is_ok() => hard,
        Ok((soft, _)) => soft,
        Err(_) => 1024,
    };
    (limit.saturating_sub(OWN) / each).clamp(16, MOST) as usize
}

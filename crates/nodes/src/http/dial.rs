//! A connection to whatever a name resolves to now.

use std::io;
use std::net::SocketAddr;

use tokio::net::TcpStream;

use super::Url;

/// Connects to the first address of the URL's host that answers. The name is resolved each time, so a host that came
/// back under another address is found.
pub(crate) async fn dial(url: &Url) -> io::Result<TcpStream> {
    let mut last = None;
    for address in resolve(url).await? {
        match TcpStream::connect(address).await {
            Ok(stream) => {
                stream.set_nodelay(true)?;
                // SO_RCVBUF stays unset: setting it ends the kernel's own tuning, which reaches further
                // (tcp_rmem against rmem_max).
                return Ok(stream);
            }
            Err(error) => last = Some(error),
        }
    }
    Err(last.unwrap_or_else(|| io::Error::new(io::ErrorKind::NotFound, "the name has no address")))
}

async fn resolve(url: &Url) -> io::Result<Vec<SocketAddr>> {
    // An address needs no thread of the resolver's.
    if let Ok(ip) = url.host().parse() {
        return Ok(vec![SocketAddr::new(ip, url.port())]);
    }
    Ok(tokio::net::lookup_host((url.host(), url.port())).await?.collect())
}

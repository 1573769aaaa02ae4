//! A connection to whatever a name resolves to now.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use super::Url;
use super::tls::Trust;

/// A connection in the clear or under TLS.
#[derive(Debug)]
pub(crate) enum Stream {
    /// `http`
    Plain(TcpStream),
    /// `https`
    Tls(Box<TlsStream<TcpStream>>),
}

/// A stream to the URL's server; under TLS it is surely that server.
pub(crate) async fn dial(url: &Url, trust: &Trust) -> io::Result<Stream> {
    let stream = connect(url).await?;
    if url.is_tls() {
        Ok(Stream::Tls(Box::new(trust.handshake(url.host(), stream).await?)))
    } else {
        Ok(Stream::Plain(stream))
    }
}

/// Connects to the first address of the URL's host that answers. The name is resolved each time, so a host that came
/// back under another address is found.
pub(crate) async fn connect(url: &Url) -> io::Result<TcpStream> {
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

/// The addresses of the URL's host, with its port.
pub(crate) async fn resolve(url: &Url) -> io::Result<Vec<SocketAddr>> {
    // An address needs no thread of the resolver's.
    if let Ok(ip) = url.host().parse() {
        return Ok(vec![SocketAddr::new(ip, url.port())]);
    }
    // A resolver's errors have no kind of their own.
    let unknown = |error| io::Error::new(io::ErrorKind::NotFound, error);
    Ok(tokio::net::lookup_host((url.host(), url.port())).await.map_err(unknown)?.collect())
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Plain(stream) => Pin::new(stream).poll_read(context, buffer),
            Stream::Tls(stream) => Pin::new(stream).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Stream::Plain(stream) => Pin::new(stream).poll_write(context, bytes),
            Stream::Tls(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Plain(stream) => Pin::new(stream).poll_flush(context),
            Stream::Tls(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Plain(stream) => Pin::new(stream).poll_shutdown(context),
            Stream::Tls(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}

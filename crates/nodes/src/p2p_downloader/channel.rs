//! One connection to a peer.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use fetch::CloseReason;
use p2p::downloader::{ChannelId, Input};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc::{Sender, UnboundedReceiver};

use crate::clock;
use crate::downloader::trouble::of_io;

/// A peer that does not answer by then is not there: TCP has asked three times.
const CONNECT_PATIENCE: Duration = Duration::from_secs(5);

/// Read at once, in bytes.
const READ: usize = 64 << 10;

/// Connects, sends what is to be sent and tells what comes, until the connection ends.
pub(super) async fn serve(
    channel: ChannelId,
    peer: SocketAddr,
    requests: UnboundedReceiver<Bytes>,
    to_driver: Sender<Input>,
) {
    let why = match talk(channel, peer, requests, &to_driver).await {
        Ok(()) => CloseReason::Complete,
        Err(error) => of_io(&error),
    };
    // A driver that is gone needs no answer.
    let _ = to_driver.send(Input::Closed { channel, why }).await;
}

async fn talk(
    channel: ChannelId,
    peer: SocketAddr,
    mut requests: UnboundedReceiver<Bytes>,
    to_driver: &Sender<Input>,
) -> io::Result<()> {
    let deadline = clock::instant(clock::now()) + CONNECT_PATIENCE;
    let connecting = tokio::time::timeout_at(deadline, TcpStream::connect(peer));
    let stream = connecting.await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))?;
    stream.set_nodelay(true)?;
    let gone = |_| io::Error::from(io::ErrorKind::BrokenPipe);
    to_driver.send(Input::Connected(channel)).await.map_err(gone)?;
    let (mut read, mut write) = stream.into_split();
    let writing = async {
        while let Some(bytes) = requests.recv().await {
            write.write_all(&bytes).await?;
        }
        // The driver closes by ending this task: until then there may be more to say.
        std::future::pending::<io::Result<()>>().await
    };
    let reading = async {
        let mut buffer = BytesMut::new();
        loop {
            buffer.reserve(READ);
            if read.read_buf(&mut buffer).await? == 0 {
                return Ok(());
            }
            // Waits while the driver does not want more, and the kernel then stops the peer.
            let bytes = buffer.split().freeze();
            to_driver.send(Input::Received { channel, bytes }).await.map_err(gone)?;
        }
    };
    tokio::select! {
        ended = reading => ended,
        failed = writing => failed,
    }
}

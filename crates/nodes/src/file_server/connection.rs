//! One client: reads its requests, answers them in order, sends.

use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::FileExt;
use std::time::Duration;

use bytes::{Buf, BytesMut};
use fetch::ByteRange;
use nix::sys::sendfile::sendfile64;
use nix::sys::socket::{MsgFlags, send};
use tokio::io::{AsyncReadExt, Interest};
use tokio::net::TcpStream;

use super::Shared;
use super::answer::{Answer, Body, decide, refuse};
use super::content::Snapshot;
use super::request::{LONGEST, Parsed, parse};
use super::rot::Rot;
use crate::clock;

/// A client may take this long for a head, counted from its first byte or the connection's begin.
const HEAD_PATIENCE: Duration = Duration::from_secs(10);

/// A connection without a request is kept this long.
const IDLE_PATIENCE: Duration = Duration::from_secs(120);

/// A client that takes no byte for this long is gone.
const SEND_PATIENCE: Duration = Duration::from_secs(60);

/// Given to the kernel at once, in bytes. Between two the file is looked at and others get their turn.
const CHUNK: u64 = 1 << 20;

/// More will follow: wait with the last, partly filled packet. (nix does not name it.)
const MSG_MORE: MsgFlags = MsgFlags::from_bits_retain(libc::MSG_MORE);

/// Serves one connection until its end.
pub(super) async fn serve(mut stream: TcpStream, shared: &Shared) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut input = BytesMut::with_capacity(1024);
    let mut first = true;
    loop {
        let patience = if first { HEAD_PATIENCE } else { IDLE_PATIENCE };
        let answer = match read_head(&mut stream, &mut input, patience).await? {
            None => return Ok(()),
            Some(Parsed::Request(request, length)) => {
                input.advance(length);
                decide(&request, shared).await
            }
            Some(Parsed::Refused(status)) => refuse(status),
            Some(Parsed::Partial) => refuse(408),
        };
        first = false;
        transmit(&stream, &answer, shared).await?;
        if !answer.keep_alive {
            return linger(stream).await;
        }
    }
}

/// The next head; `None` when the client is done. `Partial` when it took too long.
async fn read_head(stream: &mut TcpStream, input: &mut BytesMut, idle: Duration) -> io::Result<Option<Parsed>> {
    let mut deadline = clock::instant(clock::now()) + if input.is_empty() { idle } else { HEAD_PATIENCE };
    loop {
        if !input.is_empty() {
            match parse(input) {
                Parsed::Partial => {}
                parsed => return Ok(Some(parsed)),
            }
        }
        let was_empty = input.is_empty();
        input.reserve(1024);
        match tokio::time::timeout_at(deadline, stream.read_buf(input)).await {
            Ok(Ok(0)) => return Ok(None),
            Ok(Ok(_)) => {}
            Ok(Err(error)) => return Err(error),
            Err(_) => return Ok((!input.is_empty()).then_some(Parsed::Partial)),
        }
        if was_empty {
            deadline = clock::instant(clock::now()) + HEAD_PATIENCE;
        }
        debug_assert!(input.len() < LONGEST + (64 << 10), "a full head is refused before more is read");
    }
}

/// Sends one answer whole.
async fn transmit(stream: &TcpStream, answer: &Answer, shared: &Shared) -> io::Result<()> {
    let more = !matches!(answer.body, Body::Nothing);
    send_all(stream, answer.head.as_bytes(), more, shared).await?;
    match &answer.body {
        Body::Nothing => Ok(()),
        Body::Text(text) => send_all(stream, text, false, shared).await,
        Body::File(snapshot, range) if let Some(rot) = &shared.rot => {
            send_damaged(stream, snapshot, *range, rot, shared).await
        }
        Body::File(snapshot, range) => send_file(stream, snapshot, *range, shared).await,
    }
}

async fn send_all(stream: &TcpStream, mut bytes: &[u8], more: bool, shared: &Shared) -> io::Result<()> {
    // With MSG_MORE the head leaves in one packet with the beginning of the body.
    let flags = if more { MSG_MORE | MsgFlags::MSG_NOSIGNAL } else { MsgFlags::MSG_NOSIGNAL };
    while !bytes.is_empty() {
        let granted = grant(shared, bytes.len() as u64).await as usize;
        let flags = if granted < bytes.len() { flags | MSG_MORE } else { flags };
        let sent = writable(stream, || send(stream.as_raw_fd(), &bytes[..granted], flags)).await?;
        bytes = &bytes[sent..];
    }
    Ok(())
}

async fn send_file(stream: &TcpStream, snapshot: &Snapshot, range: ByteRange, shared: &Shared) -> io::Result<()> {
    let mut at = range.start;
    while at < range.end {
        let granted = grant(shared, (range.end - at).min(CHUNK)).await;
        let end = at + granted;
        while at < end {
            let count = usize::try_from(end - at).expect("at most a chunk");
            let sent = writable(stream, || {
                let mut offset = i64::try_from(at).map_err(|_| nix::Error::EOVERFLOW)?;
                sendfile64(stream.as_fd(), snapshot.file.as_fd(), Some(&mut offset), count)
            })
            .await?;
            if sent == 0 {
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the file was cut short while it was sent"));
            }
            at += sent as u64;
            shared.meter.sent(sent as u64);
        }
        // The length was announced: to close is the only way left to tell the client that this is not the file.
        if !snapshot.is_unchanged() {
            return Err(io::Error::other("the file was changed while it was sent"));
        }
        tokio::task::coop::consume_budget().await;
    }
    Ok(())
}

/// The same by way of memory, where some blocks lose a bit.
async fn send_damaged(
    stream: &TcpStream,
    snapshot: &Snapshot,
    range: ByteRange,
    rot: &Rot,
    shared: &Shared,
) -> io::Result<()> {
    let mut rest = range;
    let mut bytes = Vec::new();
    while !rest.is_empty() {
        let block = Rot::block(rest);
        bytes.resize(usize::try_from(block.len()).expect("a block is small"), 0);
        snapshot.file.read_exact_at(&mut bytes, block.start)?;
        rot.befall(&mut bytes);
        rest.start = block.end;
        send_all(stream, &bytes, !rest.is_empty(), shared).await?;
        shared.meter.sent(block.len());
        if !snapshot.is_unchanged() {
            return Err(io::Error::other("the file was changed while it was sent"));
        }
        tokio::task::coop::consume_budget().await;
    }
    Ok(())
}

async fn grant(shared: &Shared, wanted: u64) -> u64 {
    match &shared.throttle {
        Some(throttle) => throttle.grant(wanted).await,
        None => wanted,
    }
}

/// Tries `call` until the socket takes something, as long as the client is patient.
async fn writable(stream: &TcpStream, mut call: impl FnMut() -> nix::Result<usize>) -> io::Result<usize> {
    match stream.try_io(Interest::WRITABLE, || call().map_err(io::Error::from)) {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
        done => return done,
    }
    let deadline = clock::instant(clock::now()) + SEND_PATIENCE;
    let waiting = stream.async_io(Interest::WRITABLE, || call().map_err(io::Error::from));
    tokio::time::timeout_at(deadline, waiting).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

/// Closes such that the client can read the answer: closing with unread input would make the kernel reset it away.
pub(crate) async fn linger(mut stream: TcpStream) -> io::Result<()> {
    const PATIENCE: Duration = Duration::from_secs(1);
    const MOST: usize = 64 << 10;
    tokio::io::AsyncWriteExt::shutdown(&mut stream).await?;
    let deadline = clock::instant(clock::now()) + PATIENCE;
    let mut rest = [0; 4096];
    let mut seen = 0;
    while let Ok(Ok(read @ 1..)) = tokio::time::timeout_at(deadline, stream.read(&mut rest)).await {
        seen += read;
        if seen > MOST {
            break;
        }
    }
    Ok(())
}

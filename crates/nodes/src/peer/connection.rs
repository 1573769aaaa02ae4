//! One client: reads its requests, and sends when the machine says so.

use std::io;
use std::os::unix::fs::FileExt;

use bytes::{Buf, BytesMut};
use machine::{Machine as _, Seed, Span, Time};
use p2p::layout::Span as Bytes;
use p2p::serving::{Connection, Ending, Knobs, Output};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::Shared;
use crate::clock;
use crate::file_server::connection::linger;

/// What is taken from the machine before the client has taken it, in bytes.
const AHEAD: usize = 64 << 10;

/// Serves one connection until its end.
pub(super) async fn serve(mut stream: TcpStream, pace: Span, seed: Seed, shared: &Shared) -> io::Result<()> {
    stream.set_nodelay(true)?;
    match converse(&mut stream, pace, seed, shared).await? {
        // Requests behind the wrong one are unread.
        Some(Ending::BadRequest) => linger(stream).await,
        Some(Ending::Idle) | None => Ok(()),
    }
}

/// `None` when the client is done.
async fn converse(stream: &mut TcpStream, pace: Span, seed: Seed, shared: &Shared) -> io::Result<Option<Ending>> {
    let Shared { pre_delay, bytes_per_event, idle, layout, .. } = *shared;
    let knobs = Knobs { pre_delay, bytes_per_event, pace, idle };
    let machine = Connection::new(clock::now(), shared.name.clone(), layout, knobs, seed);
    let mut client = Client { machine, ready: BytesMut::new(), body: None, ending: None };
    let (mut read, mut write) = stream.split();
    let mut input = [0; 4096];
    let mut took = clock::now();
    loop {
        if client.ready.is_empty() {
            took = clock::now();
        }
        client.prepare(shared)?;
        let sends = !client.ready.is_empty();
        if !sends && client.ending.is_some() {
            return Ok(client.ending);
        }
        let until = if sends { took + idle } else { client.machine.deadline().map_or(Time::MAX, |(due, _)| due) };
        tokio::select! {
            arrived = read.read(&mut input), if client.machine.wants_input() => match arrived? {
                // One that still waited for answers would hold a place that its client may want for another connection.
                0 => return Ok(None),
                length => client.machine.handle(clock::now(), input[..length].to_vec()),
            },
            sent = write.write(&client.ready), if sends => {
                client.ready.advance(sent?);
                took = clock::now();
            }
            () = tokio::time::sleep_until(clock::instant(until)) => if sends {
                return Err(io::Error::new(io::ErrorKind::TimedOut, "it takes nothing"));
            }
        }
        client.machine.advance(clock::now());
    }
}

struct Client {
    machine: Connection,
    /// To be sent.
    ready: BytesMut,
    /// Of the file, to be sent after that.
    body: Option<Bytes>,
    /// After all that.
    ending: Option<Ending>,
}

impl Client {
    /// Takes from the machine what may leave now, as long as it is not too much.
    fn prepare(&mut self, shared: &Shared) -> io::Result<()> {
        while self.ready.len() < AHEAD && self.ending.is_none() {
            if let Some(body) = self.body.take() {
                self.read(body, shared)?;
                continue;
            }
            match self.machine.poll() {
                Some(Output::Text(text)) => self.ready.extend_from_slice(text.as_bytes()),
                Some(Output::Body(body)) => self.body = Some(body),
                Some(Output::Close(ending)) => self.ending = Some(ending),
                None => break,
            }
        }
        Ok(())
    }

    fn read(&mut self, body: Bytes, shared: &Shared) -> io::Result<()> {
        let length = body.length.min((AHEAD - self.ready.len()) as u64);
        let begin = self.ready.len();
        self.ready.resize(begin + length as usize, 0);
        shared.snapshot.file.read_exact_at(&mut self.ready[begin..], body.offset)?;
        // The length was announced: to close is the only way left to tell the client that this is not the file.
        if !shared.snapshot.is_unchanged() {
            return Err(io::Error::other("the file was changed while it was served"));
        }
        shared.meter.sent(length);
        if length < body.length {
            self.body = Some(Bytes { offset: body.offset + length, length: body.length - length });
        }
        Ok(())
    }
}

//! Sending: up to 64 messages to one interface with one system call, packets that continue each other in one message.
#![allow(unsafe_code, reason = "sendmmsg with addresses of interfaces is outside of what safe wrappers offer")]

use std::cell::Ref;
use std::mem::{size_of, zeroed};
use std::os::fd::{AsRawFd, OwnedFd};
use std::ptr;
use std::sync::OnceLock;

use nix::errno::Errno;
use nix::poll::ppoll;
use nix::sys::time::{TimeSpec, TimeValLike};

use super::frame::Frame;
use super::join::{LONGEST_HEADERS, Run};
use super::socket::link_layer_address;

/// Messages of one system call.
const MESSAGES: usize = 64;

/// Pieces of all messages of one system call.
const PIECES: usize = 512;

/// How often a send of so many messages waits 50 µs for the receiving end. Two milliseconds later it is not a backlog that is
/// full but a machine that stands still.
const PATIENCE: u32 = 40;

/// What became of frames.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Sent {
    /// How many of them have been dealt with.
    pub(super) frames: usize,
    /// How many of those the kernel did not take.
    pub(super) refused: u64,
    /// How many it called invalid: no busy machine has that, they were made wrong here.
    pub(super) invalid: u64,
}

/// A message under construction: packets of a train, or one packet of any kind.
struct Message<'a> {
    run: Option<Run<'a>>,
    /// Range in the list of pieces. Of a train the first is for its headers.
    pieces: std::ops::Range<usize>,
    frames: usize,
}

/// Before Linux 6.2 `virtio_net_hdr` has no word for a train of UDP, and one that is sent is called invalid.
fn takes_udp_trains() -> bool {
    static TAKES: OnceLock<bool> = OnceLock::new();
    *TAKES.get_or_init(crate::fabric::relays_udp_trains)
}

/// Sends frames to an interface, from the first on, as many as fit into one system call.
pub(super) fn send<'a>(socket: &OwnedFd, ifindex: u32, frames: impl IntoIterator<Item = &'a Frame>) -> Sent {
    let packets: Vec<Ref<'_, [u8]>> = frames.into_iter().take(PIECES).map(Frame::bytes).collect();
    let mut pieces: Vec<&[u8]> = Vec::with_capacity(PIECES);
    let mut messages: Vec<Message<'_>> = Vec::with_capacity(MESSAGES);
    for packet in &packets {
        // A second frame of a train takes two more pieces.
        if pieces.len() + 2 > PIECES {
            break;
        }
        let packet: &[u8] = packet;
        if let Some(message) = messages.last_mut()
            && let Some(run) = &mut message.run
            && (!run.is_udp() || takes_udp_trains())
            && run.append(packet)
        {
            if message.frames == 1 {
                pieces.push(run.payload_of(pieces[message.pieces.start]));
            }
            pieces.push(run.payload_of(packet));
            message.frames += 1;
            message.pieces.end = pieces.len();
            continue;
        }
        if messages.len() == MESSAGES {
            break;
        }
        pieces.push(packet);
        messages.push(Message { run: Run::of(packet), pieces: pieces.len() - 1..pieces.len(), frames: 1 });
    }

    let mut headers = [[0; LONGEST_HEADERS]; MESSAGES];
    for (message, headers) in messages.iter().zip(&mut headers) {
        if let (Some(run), 2..) = (&message.run, message.frames) {
            let length = run.write_headers(headers);
            pieces[message.pieces.start] = &headers[..length];
        }
    }
    hand_over(socket, ifindex, &messages, &pieces)
}

fn hand_over(socket: &OwnedFd, ifindex: u32, messages: &[Message<'_>], pieces: &[&[u8]]) -> Sent {
    let mut address = link_layer_address(ifindex);
    let mut vectors: Vec<libc::iovec> = pieces
        .iter()
        .map(|piece| libc::iovec { iov_base: piece.as_ptr().cast_mut().cast(), iov_len: piece.len() })
        .collect();
    let mut raw: Vec<libc::mmsghdr> = Vec::with_capacity(messages.len());
    for message in messages {
        // SAFETY: all-zero is a valid `mmsghdr`: null pointers and no lengths.
        let mut header: libc::mmsghdr = unsafe { zeroed() };
        let own = &mut vectors[message.pieces.clone()];
        header.msg_hdr.msg_iov = own.as_mut_ptr();
        header.msg_hdr.msg_iovlen = own.len() as _;
        header.msg_hdr.msg_name = ptr::from_mut(&mut address).cast();
        header.msg_hdr.msg_namelen = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
        raw.push(header);
    }
    let mut result = Sent { frames: messages.iter().map(|message| message.frames).sum(), ..Sent::default() };
    let mut done = 0;
    let mut patience = PATIENCE;
    while done < raw.len() {
        let left = &mut raw[done..];
        // SAFETY: the messages point to `address` and to `vectors`, and those to frames and headers, all of which outlive
        // the call; the kernel only reads through them.
        let sent = unsafe { libc::sendmmsg(socket.as_raw_fd(), left.as_mut_ptr(), left.len() as libc::c_uint, 0) };
        if let Some(sent) = usize::try_from(sent).ok().filter(|sent| *sent > 0) {
            done += sent;
            continue;
        }
        match Errno::last() {
            Errno::EINTR => {}
            // The receiving end's backlog is full, which says that its kernel thread has not had its turn: it gets one.
            Errno::ENOBUFS | Errno::EAGAIN if patience > 0 => {
                patience -= 1;
                let turn = TimeSpec::nanoseconds(50_000);
                let _nothing_is_waited_for = ppoll(&mut [], Some(turn), None);
            }
            // The first of those left is at fault; the others may pass.
            error => {
                let kind = match error {
                    Errno::EINVAL | Errno::EMSGSIZE => &mut result.invalid,
                    _ => &mut result.refused,
                };
                *kind += messages[done].frames as u64;
                done += 1;
            }
        }
    }
    result
}

//! Sending: up to 64 frames of one interface with one system call.
#![allow(unsafe_code, reason = "sendmmsg with addresses of interfaces is outside of what safe wrappers offer")]

use std::io;
use std::mem::{size_of, zeroed};
use std::os::fd::{AsRawFd, OwnedFd};
use std::ptr;

use super::frame::Frame;
use super::socket::link_layer_address;

/// Frames of one system call.
pub(super) const BATCH: usize = 64;

/// Sends `frames` (at most [`BATCH`]) to an interface; how many of them the kernel did not take.
pub(super) fn send<'a>(socket: &OwnedFd, ifindex: u32, frames: impl IntoIterator<Item = &'a Frame>) -> u64 {
    let mut address = link_layer_address(ifindex);
    // SAFETY: all-zero is a valid `iovec` and a valid `mmsghdr`: null pointers and no lengths.
    let (mut slices, mut messages): ([libc::iovec; BATCH], [libc::mmsghdr; BATCH]) = unsafe { (zeroed(), zeroed()) };
    let mut count = 0;
    for (frame, (slice, message)) in frames.into_iter().zip(slices.iter_mut().zip(&mut messages)) {
        let bytes = frame.bytes();
        *slice = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
        message.msg_hdr.msg_iov = ptr::from_mut(slice);
        message.msg_hdr.msg_iovlen = 1;
        message.msg_hdr.msg_name = (&raw mut address).cast();
        message.msg_hdr.msg_namelen = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
        count += 1;
    }
    let (mut done, mut refused) = (0, 0);
    while done < count {
        // SAFETY: `done < count <= BATCH`; the messages from `done` to `count` point to `address` and to slices of
        // frames, all of which outlive the call, and the kernel only reads through them.
        let sent = unsafe {
            libc::sendmmsg(socket.as_raw_fd(), messages.as_mut_ptr().add(done), (count - done) as libc::c_uint, 0)
        };
        match usize::try_from(sent) {
            Ok(sent) if sent > 0 => done += sent,
            _ if io::Error::last_os_error().kind() == io::ErrorKind::Interrupted => {}
            // The first of those left is at fault; the others may pass.
            _ => {
                refused += 1;
                done += 1;
            }
        }
    }
    refused
}

//! Ends the TCP connections that a dead machine would not have any more.
//!
//! A killed program's connections live on in the kernel, which keeps sending what they held. A machine that lost its power
//! has none when it comes back, so they must be gone before its links are whole again.

use std::io;

use nix::errno::Errno;
use rtnetlink::sys::{Socket, SocketAddr};

use crate::netlink::Answers;

/// Why connections may still be there.
#[derive(Debug, thiserror::Error)]
pub enum PurgeError {
    /// The kernel was built without `INET_DIAG_DESTROY`.
    #[error("this kernel cannot end other programs' connections (it lacks CONFIG_INET_DIAG_DESTROY)")]
    Unsupported,
    /// The kernel refused.
    #[error("end the connections of a dead program")]
    Refused {
        /// Its answer.
        #[from]
        source: io::Error,
    },
}

/// Ends every TCP connection in the calling thread's network namespace and returns how many there were. Needs
/// CAP_NET_ADMIN there.
///
/// To be called after the programs are dead and while the links are cut: the kernel sends a reset for each.
/// [`sock_diag(7)`](https://man7.org/linux/man-pages/man7/sock_diag.7.html), `SOCK_DESTROY`.
pub fn purge_sockets() -> Result<usize, PurgeError> {
    /// `NETLINK_SOCK_DIAG`.
    const PROTOCOL: isize = 4;
    let mut socket = Socket::new(PROTOCOL)?;
    socket.bind_auto()?;
    let mut ended = 0;
    for family in [libc::AF_INET as u8, libc::AF_INET6 as u8] {
        for connection in connections(&socket, family)? {
            if destroy(&socket, family, &connection)? {
                ended += 1;
            }
        }
    }
    Ok(ended)
}

/// `struct inet_diag_sockid`: ports, addresses, interface and cookie of one socket.
type SocketId = [u8; 48];

/// `SOCK_DIAG_BY_FAMILY` and `SOCK_DESTROY`.
const BY_FAMILY: u16 = 20;
const DESTROY: u16 = 21;
/// Bytes of `struct nlmsghdr`, and of the part of `struct inet_diag_req_v2` and `struct inet_diag_msg` before the id.
const HEADER: usize = 16;
const REQUEST_FIXED: usize = 8;
const MESSAGE_FIXED: usize = 4;

fn connections(socket: &Socket, family: u8) -> Result<Vec<SocketId>, PurgeError> {
    let flags = (libc::NLM_F_REQUEST | libc::NLM_F_DUMP) as u16;
    socket.send_to(&request(BY_FAMILY, flags, family, &[0; 48]), &SocketAddr::new(0, 0), 0)?;
    let mut found = Vec::new();
    let mut buffer = vec![0; 32 * 1024];
    loop {
        let length = socket.recv(&mut &mut buffer[..], 0)?;
        for answer in Answers(&buffer[..length]) {
            match i32::from(answer.kind) {
                libc::NLMSG_DONE => return Ok(found),
                libc::NLMSG_ERROR => match code(answer.payload) {
                    // No TCP over this family.
                    libc::ENOENT | libc::EAFNOSUPPORT => return Ok(found),
                    code => return Err(io::Error::from_raw_os_error(code).into()),
                },
                _ => {
                    let id = answer.payload.get(MESSAGE_FIXED..).and_then(|rest| rest.first_chunk());
                    found.extend(id.copied());
                }
            }
        }
    }
}

/// Ends one connection; false if it ended by itself meanwhile.
fn destroy(socket: &Socket, family: u8, id: &SocketId) -> Result<bool, PurgeError> {
    let flags = (libc::NLM_F_REQUEST | libc::NLM_F_ACK) as u16;
    socket.send_to(&request(DESTROY, flags, family, id), &SocketAddr::new(0, 0), 0)?;
    let mut buffer = vec![0; 4096];
    loop {
        let length = socket.recv(&mut &mut buffer[..], 0)?;
        for answer in Answers(&buffer[..length]) {
            if i32::from(answer.kind) == libc::NLMSG_ERROR {
                return match code(answer.payload) {
                    0 => Ok(true),
                    libc::ENOENT => Ok(false),
                    libc::EOPNOTSUPP => Err(PurgeError::Unsupported),
                    code => Err(io::Error::from_raw_os_error(code).into()),
                };
            }
        }
    }
}

fn request(kind: u16, flags: u16, family: u8, id: &SocketId) -> Vec<u8> {
    let length = HEADER + REQUEST_FIXED + id.len();
    let mut out = Vec::with_capacity(length);
    out.extend_from_slice(&(length as u32).to_ne_bytes());
    out.extend_from_slice(&kind.to_ne_bytes());
    out.extend_from_slice(&flags.to_ne_bytes());
    out.extend_from_slice(&[0; 8]);
    out.extend_from_slice(&[family, libc::IPPROTO_TCP as u8, 0, 0]);
    // Sockets in every state.
    out.extend_from_slice(&u32::MAX.to_ne_bytes());
    out.extend_from_slice(id);
    out
}

fn code(payload: &[u8]) -> i32 {
    payload.first_chunk::<4>().map_or(Errno::EIO as i32, |code| -i32::from_ne_bytes(*code))
}

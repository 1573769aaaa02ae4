//! Whether somebody in this network namespace listens on a TCP port. Nobody is connected to: a server that serves one
//! connection is not used up, and no server logs a visit.

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::os::fd::AsRawFd;

use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, socket};

/// Whether any address of this network namespace has a listener on `port`, by IPv4 or IPv6.
pub(super) fn is_listening(port: u16) -> bool {
    [(libc::AF_INET, "/proc/self/net/tcp"), (libc::AF_INET6, "/proc/self/net/tcp6")].into_iter().any(
        // The table in /proc is the slow way: without a listener the kernel walks through every connection of the
        // machine. It is there where the socket monitor is not.
        |(family, table)| ask_socket_monitor(family, port).or_else(|_| find_in_table(table, port)).unwrap_or(false),
    )
}

/// `TCP_LISTEN`
const LISTEN: u8 = 10;
/// `SOCK_DIAG_BY_FAMILY`
const BY_FAMILY: u16 = 20;
/// `NLM_F_REQUEST | NLM_F_DUMP`
const DUMP: u16 = 0x301;
/// A `nlmsghdr` and an `inet_diag_req_v2`.
const REQUEST: usize = 16 + 56;

/// sock_diag(7): dumps the listeners on the port; the kernel filters.
fn ask_socket_monitor(family: i32, port: u16) -> Result<bool, Errno> {
    let monitor =
        socket(AddressFamily::Netlink, SockType::Datagram, SockFlag::SOCK_CLOEXEC, SockProtocol::NetlinkSockDiag)?;
    let mut request = [0; REQUEST];
    request[0..4].copy_from_slice(&(REQUEST as u32).to_ne_bytes());
    request[4..6].copy_from_slice(&BY_FAMILY.to_ne_bytes());
    request[6..8].copy_from_slice(&DUMP.to_ne_bytes());
    request[16] = u8::try_from(family).expect("address families of the Internet are small numbers");
    request[17] = libc::IPPROTO_TCP as u8;
    request[20..24].copy_from_slice(&(1_u32 << LISTEN).to_ne_bytes());
    request[24..26].copy_from_slice(&port.to_be_bytes());
    send(monitor.as_raw_fd(), &request, MsgFlags::empty())?;
    // The kernel has answered before `send` returns. The first message tells: a socket, or the end, or an error.
    let mut answer = [0; 4096];
    let length = recv(monitor.as_raw_fd(), &mut answer, MsgFlags::MSG_DONTWAIT)?;
    if length < 16 {
        return Err(Errno::EPROTO);
    }
    match u16::from_ne_bytes([answer[4], answer[5]]) {
        BY_FAMILY => Ok(true),
        done if i32::from(done) == libc::NLMSG_DONE => Ok(false),
        _ => Err(Errno::ENOTSUP),
    }
}

fn find_in_table(table: &str, port: u16) -> io::Result<bool> {
    for line in BufReader::new(File::open(table)?).lines() {
        if listens(&line?, port) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Whether a line of proc_pid_net_tcp(5) shows a listener on `port`.
fn listens(line: &str, port: u16) -> bool {
    let mut fields = line.split_whitespace();
    let local = fields.nth(1).and_then(|address| address.rsplit_once(':')).map(|(_, port)| port);
    let state = fields.nth(1);
    local.and_then(|text| u16::from_str_radix(text, 16).ok()) == Some(port)
        && state.and_then(|text| u8::from_str_radix(text, 16).ok()) == Some(LISTEN)
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr, TcpListener};

    use super::*;

    #[test]
    fn a_listener_is_seen_and_a_connection_is_not_one() {
        let mut tried = 0;
        for listener in [TcpListener::bind((Ipv4Addr::LOCALHOST, 0)), TcpListener::bind((Ipv6Addr::LOCALHOST, 0))] {
            // A machine may lack IPv6, not both.
            let Ok(listener) = listener else { continue };
            tried += 1;
            let address = listener.local_addr().unwrap();
            let (family, table) = if address.is_ipv4() {
                (libc::AF_INET, "/proc/self/net/tcp")
            } else {
                (libc::AF_INET6, "/proc/self/net/tcp6")
            };
            let connection = std::net::TcpStream::connect(address).unwrap();
            let outgoing = connection.local_addr().unwrap().port();
            for (port, expected) in [(address.port(), true), (outgoing, false)] {
                assert_eq!(ask_socket_monitor(family, port), Ok(expected), "socket monitor, {address}, port {port}");
                assert_eq!(find_in_table(table, port).unwrap(), expected, "table, {address}, port {port}");
            }
            assert!(is_listening(address.port()));
        }
        assert!(tried > 0);
    }

    #[test]
    fn hostile_tables_are_no_listeners() {
        for line in ["", "sl local_address rem st", "0: :", "0: 0100007F:FFFFF 0:0 0A", "0: 0100007F:0050 0:0 01"] {
            assert!(!listens(line, 80), "{line}");
        }
        assert!(listens("   0: 00000000:0050 00000000:0000 0A 00000000:00000000", 80));
    }
}

//! Ports for receivers that come late, or come back.

use std::net::{TcpListener, UdpSocket};
use std::sync::Mutex;

/// Ports of TCP that are held for as long as this process lives: TCP and UDP have ports of their own, so holding one keeps
/// it from the other tests and from nobody else.
static HELD: Mutex<Vec<TcpListener>> = Mutex::new(Vec::new());

/// A port on which nobody receives, and which no other test takes.
pub(crate) fn free_port() -> u16 {
    // Below the ports that the kernel gives to clients; from a place that other tests do not begin at.
    let first = 12_000 + (std::process::id() % 500) as u16 * 16;
    for port in first..32_768 {
        // In this order: a port that another test holds must not be touched, its receiver may be about to listen.
        let Ok(held) = TcpListener::bind(("127.0.0.1", port)) else { continue };
        if UdpSocket::bind(("0.0.0.0", port)).is_ok() {
            HELD.lock().unwrap().push(held);
            return port;
        }
    }
    panic!("this machine has no free ports");
}

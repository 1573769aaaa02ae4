//! Ports for servers that die and come back on them, or that cannot be asked for any.

use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::sync::atomic::{AtomicU32, Ordering};

/// Ports on which nothing listens, kept from other tests for as long as this lives.
pub(crate) struct Ports {
    numbers: Vec<u16>,
    /// TCP and UDP have ports of their own: holding one of UDP keeps it from the other tests and from nobody else.
    _reserved: Vec<UdpSocket>,
}

impl Ports {
    pub(crate) fn free(count: usize) -> Self {
        let (mut numbers, mut reserved) = (Vec::new(), Vec::new());
        // Below the ports that the kernel gives to clients; from a place that other tests do not begin at.
        let first = 12_000 + (std::process::id() % 500) as u16 * 16;
        for port in first..32_768 {
            if numbers.len() == count {
                break;
            }
            // In this order: a port that another test holds must not be touched, its server may be about to listen.
            let Ok(held) = UdpSocket::bind(("127.0.0.1", port)) else { continue };
            if TcpListener::bind(("127.0.0.1", port)).is_ok() {
                numbers.push(port);
                reserved.push(held);
            }
        }
        assert_eq!(numbers.len(), count, "this machine has free ports");
        Ports { numbers, _reserved: reserved }
    }
}

impl std::ops::Deref for Ports {
    type Target = [u16];

    fn deref(&self) -> &[u16] {
        &self.numbers
    }
}

/// An address on loopback that nobody else uses: so no port is another test's.
pub(crate) fn fresh_address() -> Ipv4Addr {
    static COUNT: AtomicU32 = AtomicU32::new(1);
    let (process, count) = (std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
    assert!(count < 255);
    Ipv4Addr::new(127, 64 | (process >> 8 & 63) as u8, process as u8, count as u8)
}

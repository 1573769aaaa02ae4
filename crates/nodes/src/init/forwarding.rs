//! Switching a node's forwarding: a router whose program does not run, or stands still, forwards nothing.

use std::io;

use crate::router::SWITCHES;

/// Lets the kernel forward packets between the interfaces of this network namespace, or not.
///
/// # Errors
/// When it refuses. That a kernel has no IPv6 is none.
pub(super) fn set_forwarding(on: bool) -> io::Result<()> {
    for switch in SWITCHES {
        match std::fs::write(switch, if on { "1" } else { "0" }) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

//! `router`: stands for a node that forwards between its networks. The kernel forwards; whoever starts this program, the
//! testbed or a person, switches that on, and the testbed switches it off with the program's end.

use std::io;
use std::os::fd::AsFd;
use std::path::Path;

use event::NodeReport;
use machine::Time;

use crate::events::EventSink;
use crate::exit::Exit;
use crate::signals::Signals;
use crate::udp::{Interest, wait};

/// What switches forwarding, of IPv4 and of IPv6, in a network namespace (ip-sysctl.rst of the kernel's documentation).
pub(crate) const SWITCHES: [&str; 2] = ["/proc/sys/net/ipv4/ip_forward", "/proc/sys/net/ipv6/conf/all/forwarding"];

/// Forwards between the networks of this namespace until it is stopped
#[derive(Debug, clap::Parser)]
#[command(
    name = "router",
    version,
    after_long_help = "As `role: router` of a topology the testbed switches forwarding on and off. Elsewhere it has to be on \
                       already: `sysctl net.ipv4.ip_forward=1`, for IPv6 net.ipv6.conf.all.forwarding=1."
)]
pub struct Args {}

/// Why nothing is forwarded.
#[derive(Debug, thiserror::Error)]
pub enum RouterError {
    /// The kernel forwards neither IPv4 nor IPv6.
    #[error("the kernel forwards nothing here: {} and {} are 0", SWITCHES[0], SWITCHES[1])]
    Off,
    /// Signals cannot be caught.
    #[error("cannot catch signals")]
    Signals(#[source] io::Error),
}

/// Says that it forwards, and waits to be stopped.
pub(crate) fn run(_args: Args, events: EventSink) -> Result<Exit, RouterError> {
    let signals = Signals::catch().map_err(RouterError::Signals)?;
    if !SWITCHES.iter().any(|switch| is_on(Path::new(switch))) {
        return Err(RouterError::Off);
    }
    events.tell(&NodeReport::Ready);
    loop {
        let [ended] = wait([(signals.as_fd(), Interest::Read)], Time::MAX).map_err(RouterError::Signals)?;
        if ended.read {
            return Ok(Exit::Done);
        }
    }
}

fn is_on(switch: &Path) -> bool {
    std::fs::read_to_string(switch).is_ok_and(|text| text.trim() != "0")
}

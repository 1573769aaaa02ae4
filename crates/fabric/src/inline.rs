//! An interface that others made, impaired from inside its network namespace: a container's `eth0`.
//!
//! ```text
//!  programs ── shaped0 ══ shaped1 ──(sink0)── eth0 ── the network that others made
//!              address,      relay or netem     ▲ keeps its name, has no address
//!              MAC, routes                      and another MAC
//! ```
//!
//! All that makes `eth0` the way to its network goes to one end of a veth pair, and what passes between the other end and
//! `eth0` meets the link model. The relay sees frames before the bridge `sink0` swallows them; it is never up, so nothing
//! reaches the stack by the old way. Where netem shapes, the bridge forwards, and netem acts on what leaves either port.
//!
//! That takes `CAP_NET_ADMIN`, and the relay `CAP_NET_RAW`; neither new namespaces nor `/proc/sys`, which a container forbids.
//!
//! A machine's own network is not touched: only the init of a container may do this, only to a veth end, and not where any
//! interface is a machine's.
//!
//! Questions for addresses pass unimpaired, because nobody here could answer them ([`crate::relay`]).

use std::io;
use std::net::IpAddr;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;

use link::counters::PortCounters;
use link::{HalfLink, Profile};
use machine::{Seed, Size, Span};
use nix::errno::Errno;
use nix::unistd::{geteuid, getpid, getppid};
use thiserror::Error;
use topology::NetemSupport;

use crate::clock;
use crate::namespace;
use crate::netem::Netem;
use crate::netlink::{Batch, Kind, Netlink, QueueWork, Refusal, Surveyed, VethEnd};
use crate::preflight;
use crate::relay::{NetworkConfig, PortConfig, Relay, RelayConfig, RelayError, RelayHandle, RelayStopped};

/// The end of the pair that programs use, …
const INNER: &str = "shaped0";
/// … the other one, …
const OUTER: &str = "shaped1";
/// … and the bridge that it shares with the old interface.
const BRIDGE: &str = "sink0";

/// How long an interface may take to carry packets; the kernel defers that by a second at most.
const CARRIER: Span = Span::from_secs(30);

const NET_ADMIN: u32 = 12;
const NET_RAW: u32 = 13;

/// Why an interface cannot be impaired. Nothing has been changed unless its description says so.
#[derive(Debug, Error)]
pub enum InlineError {
    /// The process lacks what it takes.
    #[error("this takes the capability {capability}, which this process does not have")]
    Capability {
        /// As it is called on a command line: `NET_ADMIN`.
        capability: &'static str,
        /// Whether that is because it does not run as root: given capabilities have no effect then.
        is_ordinary_user: bool,
    },
    /// It is not clear that the network is a container's own.
    #[error("this is process {pid}, child of {parent}, and only the init of a container may change its network")]
    NotAnInit {
        /// This process.
        pid: i32,
        /// Who started it.
        parent: i32,
    },
    /// A container that shares the machine's network.
    #[error("`{name}` is here: this is a machine's own network, not that of a container")]
    Machines {
        /// An interface that a container has not.
        name: String,
    },
    /// It is not known what a change would do to it.
    #[error("`{name}` is not one end of a veth pair, as a container of its own network has it")]
    NotVeth {
        /// The interface.
        name: String,
    },
    /// No interface has this name or address.
    #[error("there is no interface `{wanted}`; there is {}", listed(.known))]
    Unknown {
        /// A name or an address.
        wanted: String,
        /// Those that there are.
        known: Vec<String>,
    },
    /// Nothing leads out of this namespace.
    #[error("there is no network interface that is up and has an address")]
    None,
    /// More than one could be meant.
    #[error("there are several networks: name an interface of {}", listed(.known))]
    Ambiguous {
        /// Those that there are.
        known: Vec<String>,
    },
    /// It was done already.
    #[error("the network of this namespace is shaped already: `{INNER}` is there")]
    AlreadyShaped,
    /// Interfaces cannot be asked for.
    #[error("failed to ask for network interfaces")]
    Survey(#[source] io::Error),
    /// The kernel refused a step, and those before it have been done.
    #[error("{intent}: {errno}")]
    Refused {
        /// What was wanted.
        intent: String,
        /// The kernel's answer.
        errno: Errno,
    },
    /// The relay could not be started, after the interfaces were changed.
    #[error(transparent)]
    Relay(#[from] RelayError),
    /// The interfaces were changed, and do not carry packets.
    #[error("`{INNER}` does not carry packets")]
    Carrier(#[source] io::Error),
    /// The kernel accepted netem and has something else, after the interfaces were changed.
    #[error("netem does not do what it was told")]
    NotKept,
}

fn listed(known: &[String]) -> String {
    if known.is_empty() { "none".to_owned() } else { known.join(", ") }
}

/// What carries out an impairment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Driver {
    /// [`crate::relay`].
    Relay,
    /// [`crate::netem`].
    Netem,
}

/// An interface that can be impaired.
#[derive(Debug)]
pub struct Candidate {
    netlink: Netlink,
    interface: Surveyed,
    /// The largest number that an interface has.
    largest: u32,
}

impl Candidate {
    /// Finds the interface that has this name or address; else the only one that is up and has an address, or that which
    /// leads everywhere.
    ///
    /// # Errors
    /// When there is none, it is not clear which, or this process may not change it.
    pub fn find(wanted: Option<&str>) -> Result<Self, InlineError> {
        ensure_container()?;
        let mut netlink = Netlink::open().map_err(InlineError::Survey)?;
        let (interfaces, largest) = netlink.survey().map_err(InlineError::Survey)?;
        if interfaces.iter().any(|one| one.name == INNER) {
            return Err(InlineError::AlreadyShaped);
        }
        if let Some(machines) = interfaces.iter().find(|one| one.kind == Kind::Machines) {
            return Err(InlineError::Machines { name: machines.name.clone() });
        }
        let interface = choose(interfaces, wanted)?;
        if interface.kind != Kind::Veth {
            return Err(InlineError::NotVeth { name: interface.name });
        }
        if !is_capable(NET_ADMIN) {
            return Err(missing("NET_ADMIN"));
        }
        Ok(Candidate { netlink, interface, largest })
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.interface.name
    }

    /// What the kernel has of netem, tried on interfaces that are gone afterwards.
    pub fn netem(&mut self) -> NetemSupport {
        let (inner, outer) = self.ends(1500, None);
        let mut batch = Batch::default();
        let Ok(own) = namespace::own_network() else { return NetemSupport::Absent };
        batch.add_veth(&outer, &inner, own.as_raw_fd());
        if self.netlink.apply(batch.bytes(), batch.len()).is_err() {
            return NetemSupport::Absent;
        }
        let support = preflight::tried_on(&mut self.netlink, outer.index);
        let mut batch = Batch::default();
        batch.delete(outer.index);
        // One that cannot be deleted is in the way of the real one, which then says so.
        let _ = self.netlink.apply(batch.bytes(), batch.len());
        support
    }

    /// Impairs the interface from now on, for as long as what is returned lives and the namespace is there. `label` names the
    /// streams of chance, which come from `seed`.
    ///
    /// # Errors
    /// When the kernel refuses. Its network may then be gone; whoever owns the namespace starts over with a new one.
    pub fn shape(
        mut self,
        driver: Driver,
        profile: &Profile,
        label: &str,
        seed: Seed,
        memory: Size,
    ) -> Result<Inline, InlineError> {
        if driver == Driver::Relay && !is_capable(NET_RAW) {
            return Err(missing("NET_RAW"));
        }
        let Surveyed { index: old, mac, mtu, .. } = self.interface;
        let (inner, outer) = self.ends(mtu, Some(mac));
        let bridge = self.largest + 3;
        let own = namespace::own_network().map_err(InlineError::Survey)?;
        let mut batch = Batch::default();
        batch.add_sink(BRIDGE, bridge);
        batch.add_veth(&outer, &inner, own.as_raw_fd());
        [inner.index, outer.index, bridge, old].into_iter().for_each(|index| batch.forgo_link_local(index));
        batch.strip(&self.interface);
        batch.set_mac(old, other_mac(mac));
        batch.set_up(inner.index);
        batch.endow(inner.index, &self.interface);
        batch.attach(old, bridge);
        batch.attach(outer.index, bridge);
        if driver == Driver::Netem {
            batch.set_up_mute(bridge);
            batch.add_forwarding(outer.index, mac);
        }
        let netems = (driver == Driver::Netem).then(|| {
            let netem = |half: &HalfLink, name| Netem::of(half, mtu, seed.derive(&format!("{label}/{name}")).value());
            [(old, netem(&profile.up, "up")), (outer.index, netem(&profile.down, "down"))]
        });
        for (index, netem) in netems.iter().flatten() {
            batch.add_netem(*index, netem);
        }
        self.apply(&batch)?;
        if let Some(netems) = &netems {
            let kept = self.netlink.netems().map_err(InlineError::Survey)?;
            let is_kept = |(index, told): &(u32, Netem)| {
                let kept = kept.get(index).and_then(|kept| kept.parameters.as_ref());
                kept.is_some_and(|kept| told.is_kept_as(kept))
            };
            if !netems.iter().all(is_kept) {
                return Err(InlineError::NotKept);
            }
        }
        let running = self.netlink.await_running(inner.index, clock::now() + CARRIER);
        running.map_err(InlineError::Carrier)?;
        let work = match driver {
            Driver::Netem => Work::Netem { up: old, down: outer.index, netlink: self.netlink },
            Driver::Relay => {
                let port = |label: &str, interface: &str, ifindex, mac, profile: &Profile| PortConfig {
                    label: label.to_owned(),
                    interface: interface.to_owned(),
                    ifindex,
                    mac,
                    addresses: Vec::new(),
                    profile: profile.clone(),
                    offload: true,
                };
                let ports = vec![
                    port(label, INNER, outer.index, mac, profile),
                    port("network", &self.interface.name, old, [0; 6], &Profile::default()),
                ];
                let name = "inline".to_owned();
                let networks = vec![NetworkConfig { name, mtu, ports, pairs: Vec::new(), uplink: Some(1) }];
                Work::Relay(Relay::start(RelayConfig { networks, seed, memory, capture: None, probes: Vec::new() })?)
            }
        };
        Ok(Inline { work })
    }

    fn ends(&self, mtu: u32, mac: Option<[u8; 6]>) -> (VethEnd<'static>, VethEnd<'static>) {
        let end = |name, index, mac| VethEnd { name, index, mac, mtu, segmentation_offload: true };
        (end(INNER, self.largest + 1, mac), end(OUTER, self.largest + 2, None))
    }

    fn apply(&mut self, batch: &Batch) -> Result<(), InlineError> {
        self.netlink.apply(batch.bytes(), batch.len()).map_err(|Refusal { sequence, errno }| InlineError::Refused {
            intent: batch.intent(sequence).to_owned(),
            errno,
        })
    }
}

/// An impaired interface.
#[derive(Debug)]
pub struct Inline {
    work: Work,
}

#[derive(Debug)]
enum Work {
    Relay(RelayHandle),
    Netem { netlink: Netlink, up: u32, down: u32 },
}

/// What became of packets.
#[derive(Clone, Debug)]
pub enum Passed {
    /// As the relay knows it, and how many it lost by itself: not because of the link.
    Relay(Box<PortCounters>, u64),
    /// As the kernel tells it.
    Netem {
        /// Leaving the namespace.
        up: QueueWork,
        /// Reaching it.
        down: QueueWork,
    },
}

impl Inline {
    /// What has passed until now.
    ///
    /// # Errors
    /// When the relay has stopped; `None` where the kernel does not say.
    pub fn passed(&mut self) -> Result<Option<Passed>, RelayStopped> {
        match &mut self.work {
            Work::Relay(relay) => {
                let mut snapshot = relay.snapshot()?;
                let lost = snapshot.own_losses();
                let port = snapshot.networks.pop().and_then(|network| network.ports.into_iter().next());
                Ok(port.map(|port| Passed::Relay(Box::new(port), lost)))
            }
            Work::Netem { netlink, up, down } => {
                let Ok(kept) = netlink.netems() else { return Ok(None) };
                let work = |index| kept.get(index).map(|kept| kept.work);
                Ok(work(up).zip(work(down)).map(|(up, down)| Passed::Netem { up, down }))
            }
        }
    }
}

/// In a PID namespace that is not the machine's first, be its process 1, or started by that: some put an init of their own
/// there.
fn ensure_container() -> Result<(), InlineError> {
    /// `PROC_PID_INIT_INO` (`linux/proc_ns.h`): the machine's first PID namespace.
    const FIRST: u64 = 0xEFFF_FFFC;
    let is_first = std::fs::metadata("/proc/self/ns/pid").is_ok_and(|namespace| namespace.ino() == FIRST);
    let (pid, parent) = (getpid().as_raw(), getppid().as_raw());
    if is_first || (pid != 1 && parent != 1) {
        return Err(InlineError::NotAnInit { pid, parent });
    }
    Ok(())
}

fn choose(mut interfaces: Vec<Surveyed>, wanted: Option<&str>) -> Result<Surveyed, InlineError> {
    let names = |all: &[Surveyed]| all.iter().map(|one| one.name.clone()).collect();
    if let Some(wanted) = wanted {
        let address = wanted.parse::<IpAddr>().ok();
        let is_it = |one: &Surveyed| {
            one.name == wanted || address.is_some_and(|address| one.addresses().any(|own| own == address))
        };
        return match interfaces.iter().position(is_it) {
            Some(at) => Ok(interfaces.swap_remove(at)),
            None => Err(InlineError::Unknown { wanted: wanted.to_owned(), known: names(&interfaces) }),
        };
    }
    interfaces.retain(|one| one.is_up && one.addresses().any(|address| !is_link_local(address)));
    if interfaces.len() > 1 {
        let out: Vec<usize> = (0..interfaces.len()).filter(|index| interfaces[*index].is_the_way_out()).collect();
        let [only] = out[..] else { return Err(InlineError::Ambiguous { known: names(&interfaces) }) };
        return Ok(interfaces.swap_remove(only));
    }
    interfaces.pop().ok_or(InlineError::None)
}

fn is_link_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    }
}

/// Another one, as unique as it was: locally administered, and never a group's.
fn other_mac(mac: [u8; 6]) -> [u8; 6] {
    let mut other = mac;
    other[0] = (mac[0] ^ 0x08) | 0x02;
    if other == mac {
        other[1] ^= 0xff;
    }
    other
}

fn missing(capability: &'static str) -> InlineError {
    InlineError::Capability { capability, is_ordinary_user: !geteuid().is_root() }
}

/// Whether a capability is in effect for this process (`proc_pid_status(5)`).
fn is_capable(capability: u32) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let set = effective.and_then(|set| u64::from_str_radix(set.trim(), 16).ok());
    // A kernel that does not tell will refuse by itself.
    set.is_none_or(|set| set >> capability & 1 == 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_ethernet_address_is_no_group_and_not_the_same() {
        for mac in [[2, 0x42, 172, 17, 0, 2], [0, 0, 0, 0, 0, 1], [0xfe, 1, 2, 3, 4, 5], [0x0a, 1, 2, 3, 4, 5]] {
            let other = other_mac(mac);
            assert_ne!(other, mac);
            assert_eq!(other[0] & 3, 2, "{other:02x?}");
        }
    }
}

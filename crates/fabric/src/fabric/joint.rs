//! Where a node's interface meets the bridge of a network that netem shapes.
//!
//! ```text
//!  node      │ hub
//!   eth0 ────┼─ n0-0 ──(l0-0)── u0-0 ──── v0-0 ──(br0)── …
//!            │    ▲ down            ▲ up
//! ```
//!
//! `l0-0` is a bridge of two ports, which are all that it can send to. An interface whose `up` nothing ever impairs does
//! without it: `n0-0` is a port of `br0` itself.

use std::os::fd::RawFd;

use machine::Seed;
use topology::Plan;
use topology::plan::{Interface, Network};

use super::shapers::{ShapedHalves, Shapers};
use crate::netlink::{Batch, VethEnd};
use crate::spawner::order::Order;

/// One such place.
pub(super) struct Joint<'a> {
    /// Node and interface, by position.
    pub id: (usize, usize),
    pub node: &'a str,
    pub network: &'a Network,
    pub interface: &'a Interface,
    /// The hub's end of the node's veth pair.
    pub far: u32,
    /// The network's.
    pub bridge: u32,
    /// The descriptor of the hub's network namespace.
    pub hub: RawFd,
    /// Whether the node hands over trains, which then stay whole.
    pub offload: bool,
}

impl Joint<'_> {
    /// Connects the interface in `order`, with netems for the halves that are ever impaired: (`up`, `down`).
    pub(super) fn connect(
        &self,
        (up, down): (bool, bool),
        order: &mut Order,
        shapers: &mut Shapers,
        seed: Seed,
        index: &mut impl FnMut() -> u32,
    ) -> ShapedHalves {
        let mut halves = ShapedHalves { up: None, down: down.then_some(self.far) };
        let mut port = self.far;
        if up {
            let (own_bridge, this_end, other_end) = (index(), index(), index());
            let (node, nth) = self.id;
            order.hub.add_bridge(&format!("l{node}-{nth}"), own_bridge);
            let (this_name, other_name) = (format!("u{node}-{nth}"), format!("v{node}-{nth}"));
            let ends = (self.end(&this_name, this_end), self.end(&other_name, other_end));
            order.hub.add_veth(&ends.0, &ends.1, self.hub);
            order.hub.attach(self.far, own_bridge);
            order.hub.attach(this_end, own_bridge);
            order.far.extend([this_end, other_end]);
            halves.up = Some(this_end);
            port = other_end;
        }
        order.hub.attach(port, self.bridge);
        order.hub.add_forwarding(port, self.interface.mac);
        let link = &self.interface.link;
        for (at, half, name) in [(halves.up, &link.up, "up"), (halves.down, &link.down, "down")] {
            if let Some(at) = at {
                let name = format!("{}/{}/{name}", self.network.name, self.node);
                shapers.shape(&mut order.hub, at, name, half, self.network.mtu, seed);
            }
        }
        halves
    }

    fn end<'a>(&self, name: &'a str, index: u32) -> VethEnd<'a> {
        VethEnd { name, index, mac: None, mtu: self.network.mtu, segmentation_offload: self.offload }
    }
}

/// Tells the interface `near` of a node all others on its network.
pub(super) fn add_neighbours(plan: &Plan, interface: &Interface, near: u32, batch: &mut Batch) {
    let all = plan.nodes().iter().flat_map(|node| &node.interfaces);
    for other in all.filter(|other| other.network == interface.network && other.address != interface.address) {
        batch.add_neighbour(near, other.address, other.mac);
    }
}

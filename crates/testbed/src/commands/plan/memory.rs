//! How much can be under way on the links of a plan, and what bounds the memory for it.

use std::collections::BTreeMap;

use fabric::Offload;
use fabric::relay::RelayConfig;
use link::{HalfLink, Room};
use machine::Size;
use topology::Plan;
use topology::plan::{Action, Medium, Network, NetworkId};

/// Ethernet without FCS.
const ETHERNET: u64 = 14;

/// Half links without a rate are named up to this many.
const MOST_NAMED: usize = 4;

/// The sum over the half links of a network.
#[derive(Default)]
struct Sum {
    queues: u64,
    delays: u64,
    /// Those in whose delay any amount may be.
    boundless: Vec<String>,
}

/// A line for each network on which packets can wait.
pub(super) fn lines(plan: &Plan, offloads: &[Vec<Offload>]) -> Vec<String> {
    let halves = halves(plan);
    let mut lines = Vec::new();
    for (index, network) in plan.networks().iter().enumerate() {
        let mut sum = Sum::default();
        for ((_, name), half) in halves.iter().filter(|((at, _), _)| *at == index) {
            let frame = Size::from_bytes(u64::from(network.mtu) + ETHERNET);
            let Room { queue, delay } = Room::of(half.iter().copied(), frame);
            sum.queues = sum.queues.saturating_add(queue.as_bytes());
            match delay {
                Some(delay) => sum.delays = sum.delays.saturating_add(delay.as_bytes()),
                None => sum.boundless.push(name.clone()),
            }
        }
        lines.extend(line(network, &sum));
    }
    let relayed = plan.networks().iter().filter(|network| network.medium == Medium::Relay);
    if let Some(mtu) = relayed.map(|network| network.mtu).max() {
        let (bound, rings) = (RelayConfig::DEFAULT_MEMORY, RelayConfig::rings(mtu, hands_over_trains(plan, offloads)));
        lines.push(format!(
            "the relay holds at most {bound} of packets in all, and its rings for what arrives take {rings} of the kernel's memory; \
             a run in which that is not enough is INVALID"
        ));
    }
    lines
}

/// Whether any interface on a relay's network keeps segmentation offload.
fn hands_over_trains(plan: &Plan, offloads: &[Vec<Offload>]) -> bool {
    plan.nodes().iter().zip(offloads).any(|(node, offloads)| {
        let mut interfaces = node.interfaces.iter().zip(offloads);
        interfaces.any(|(interface, offload)| {
            plan.network(interface.network).medium == Medium::Relay && *offload != Offload::Off
        })
    })
}

fn line(network: &Network, sum: &Sum) -> Option<String> {
    let whose = match network.medium {
        Medium::Bridge => return None,
        Medium::Relay => "the relay",
        Medium::Netem => "the kernel",
    };
    let Sum { queues, delays, boundless } = sum;
    let parts = format!("{} in queues, {} in delays", mebibytes(*queues), mebibytes(*delays));
    let name = &network.name;
    if boundless.is_empty() {
        let all = mebibytes(queues.saturating_add(*delays));
        return Some(format!("{name}: {whose} has at most {all} of packets under way: {parts}"));
    }
    let mut named = boundless.iter().take(MOST_NAMED).cloned().collect::<Vec<_>>().join(", ");
    if boundless.len() > MOST_NAMED {
        named.push_str(&format!(" and {} more", boundless.len() - MOST_NAMED));
    }
    Some(format!("{name}: {whose} has {parts}; no rate bounds what is in the delay of {named}"))
}

/// For each half link, by network and name, what it is at the beginning and what events make it.
fn halves(plan: &Plan) -> BTreeMap<(usize, String), Vec<&HalfLink>> {
    let mut halves: BTreeMap<(usize, String), Vec<&HalfLink>> = BTreeMap::new();
    let mut add = |network: NetworkId, name: String, half| {
        halves.entry((network.index(), name)).or_default().push(half);
    };
    for node in plan.nodes() {
        for interface in &node.interfaces {
            add(interface.network, format!("{} up", node.name), &interface.link.up);
            add(interface.network, format!("{} down", node.name), &interface.link.down);
        }
    }
    for event in plan.events() {
        let Action::SetLink { profiles, .. } = &event.action else { continue };
        for (id, nth, profile) in profiles {
            let node = plan.node(*id);
            let network = node.interfaces[*nth].network;
            add(network, format!("{} up", node.name), &profile.up);
            add(network, format!("{} down", node.name), &profile.down);
        }
    }
    for pair in plan.pairs() {
        let (from, to) = (plan.node(pair.from), plan.node(pair.to));
        for one in &from.interfaces {
            if to.interfaces.iter().any(|other| other.network == one.network) {
                add(one.network, format!("{} -> {}", from.name, to.name), &pair.link);
            }
        }
    }
    halves
}

/// To a tenth of a mebibyte, upwards: a bound that is rounded down is none.
fn mebibytes(bytes: u64) -> String {
    format!("{:.1} MiB", (bytes as f64 / f64::from(1 << 20) * 10.0).ceil() / 10.0)
}

//! What carries each network, and why.

use link::{HalfLink, Profile, Queue};
use machine::Span;

use crate::findings::Findings;
use crate::plan::{Action, Event, Interface, Medium, Network, NetworkId, NodeId, Pair};
use crate::spec::{Shaper, Spec};

/// What the kernel that is to carry a plan has of netem, its queueing discipline for impaired links.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum NetemSupport {
    /// Nothing, or nobody has looked.
    #[default]
    Absent,
    /// It draws from a seed of its own, so no run can be repeated whose links leave anything to chance.
    Unseeded,
    /// It draws from the seed that it is told (Linux 6.6).
    Seeded,
}

/// A kernel bridge has 1024 port numbers, of which 0 is none.
const BRIDGE_PORTS: usize = 1023;

/// On a netem network every node knows the Ethernet address of every other from the start, because a question for it
/// would be impaired as any packet; so making the network costs the square of this.
const NETEM_PORTS: usize = 256;

/// netem keeps its jitter in nanoseconds in 31 bits.
const MOST_NETEM_JITTER: Span = Span::from_nanos(i32::MAX as u64);

/// What an explicit netem cannot keep.
const UNSEEDED: &str = ", but this kernel's netem takes no seed (Linux 6.6 does): no other run draws the same";

/// A plan as far as its parts are known when media are chosen.
pub(super) struct Shaped<'a> {
    pub(super) node_names: &'a [String],
    pub(super) interfaces: &'a [Vec<Interface>],
    pub(super) pairs: &'a [Pair],
    pub(super) events: &'a [Event],
    /// Whether what passes is recorded, which only the relay does.
    pub(super) record: bool,
}

pub(super) fn choose_media(
    spec: &Spec,
    networks: &mut [Network],
    plan: &Shaped<'_>,
    netem: NetemSupport,
    findings: &mut Findings<'_>,
) {
    let shaper = spec.shaper.as_ref();
    for (index, network) in networks.iter_mut().enumerate() {
        let id = NetworkId(index as u32);
        let reason = plan.reason(id);
        (network.medium, network.why) = match (shaper.map(|shaper| shaper.value), reason) {
            (Some(Shaper::Relay), _) => (Medium::Relay, "`shaper: relay` asks for it".to_owned()),
            (_, None) => (Medium::Bridge, "no link on it is impaired and no fault touches it".to_owned()),
            (Some(Shaper::Netem), Some(_)) => {
                if let (Some(obstacle), Some(shaper)) = (plan.obstacle(id), shaper) {
                    let message = format!("netem cannot shape network `{}`: {obstacle}", network.name);
                    findings.invalid_but(shaper.place, message, "leave `shaper` out: the relay can");
                }
                network.draws_anew = netem == NetemSupport::Unseeded && plan.chance(id).is_some();
                let limit = if network.draws_anew { UNSEEDED } else { "" };
                (Medium::Netem, format!("`shaper: netem` asks for it{limit}"))
            }
            (Some(Shaper::Auto) | None, Some(reason)) => {
                let on_every_kernel = plan.obstacle(id).or_else(|| plan.difference(id, NetemSupport::Seeded));
                network.netem_may_do = on_every_kernel.is_none();
                let obstacle = on_every_kernel.or_else(|| plan.difference(id, netem));
                match (netem, obstacle) {
                    (NetemSupport::Absent, _) if network.netem_may_do => (Medium::Relay, reason),
                    (_, Some(obstacle)) => (Medium::Relay, format!("{reason}; not netem: {obstacle}")),
                    (_, None) => (Medium::Netem, format!("{reason}, and this kernel's netem does all of that")),
                }
            }
        };
    }
}

impl Shaped<'_> {
    /// Why the network needs more than a bridge, if it does.
    fn reason(&self, id: NetworkId) -> Option<String> {
        if let Some((_, node)) = self.interfaces_on(id).find(|(one, _)| !one.link.is_transparent()) {
            return Some(format!("the link of `{node}` is impaired"));
        }
        if let Some((from, to)) = self.pair_on(id) {
            return Some(format!("the way from `{from}` to `{to}` is impaired"));
        }
        if let Some(event) = self.events_on(id).next() {
            return Some(format!("an event touches its links: {}", event.label));
        }
        let ports = self.interfaces_on(id).count();
        if ports > BRIDGE_PORTS {
            return Some(format!("{ports} nodes are on it, and a kernel bridge has {BRIDGE_PORTS} ports"));
        }
        self.record.then(|| "`--pcap` records what passes, which a kernel bridge does not show".to_owned())
    }

    /// What there is on the network that netem cannot do at all.
    fn obstacle(&self, id: NetworkId) -> Option<String> {
        if self.record {
            return Some("`--pcap` records what the relay carries".to_owned());
        }
        if let Some((from, to)) = self.pair_on(id) {
            return Some(format!("it does not tell the way from `{from}` to `{to}` from others"));
        }
        if let Some(event) = self.events_on(id).find(|event| matches!(event.action, Action::Partition(_))) {
            return Some(format!("it parts nobody: {}", event.label));
        }
        let ports = self.interfaces_on(id).count();
        if ports > NETEM_PORTS {
            return Some(format!("{ports} nodes are on it, and that is done for at most {NETEM_PORTS}"));
        }
        self.halves_on(id).find_map(|(node, half)| impossible(half).map(|what| format!("the link of `{node}` {what}")))
    }

    /// What netem does otherwise than the model, although it does it.
    fn difference(&self, id: NetworkId, netem: NetemSupport) -> Option<String> {
        if let Some(event) = self.events_on(id).next() {
            return Some(format!("packets would overtake others when an event shortens a link: {}", event.label));
        }
        if let Some(node) = self.chance(id).filter(|_| netem < NetemSupport::Seeded) {
            return Some(format!("this kernel's takes no seed (Linux 6.6 does) for the link of `{node}`"));
        }
        self.halves_on(id).find_map(|(node, half)| {
            let is_exact = match half.queue {
                None => true,
                Some(Queue::Packets(_)) => half.delay.is_zero(),
                Some(Queue::Bytes(_)) => false,
            };
            (!is_exact).then(|| format!("it counts packets, those in the delay too, for the `queue` of `{node}`"))
        })
    }

    /// A node on the network whose link leaves something to chance.
    fn chance(&self, id: NetworkId) -> Option<&str> {
        self.halves_on(id).find(|(_, half)| half.is_random()).map(|(node, _)| node)
    }

    fn interfaces_on(&self, id: NetworkId) -> impl Iterator<Item = (&Interface, &str)> {
        let all = self.interfaces.iter().zip(self.node_names);
        all.flat_map(|(all, name)| all.iter().map(move |one| (one, name.as_str())))
            .filter(move |(one, _)| one.network == id)
    }

    /// Every half link on the network, as the topology has it and as events make it, with its node.
    fn halves_on(&self, id: NetworkId) -> impl Iterator<Item = (&str, &HalfLink)> {
        let changed = self.events.iter().flat_map(move |event| {
            let profiles: &[(NodeId, usize, Profile)] = match &event.action {
                Action::SetLink { profiles, .. } => profiles,
                _ => &[],
            };
            let here = profiles.iter().filter(move |(node, nth, _)| self.interfaces[node.index()][*nth].network == id);
            here.map(|(node, _, profile)| (self.node_names[node.index()].as_str(), profile))
        });
        let first = self.interfaces_on(id).map(|(interface, node)| (node, &interface.link));
        first.chain(changed).flat_map(|(node, profile)| [(node, &profile.up), (node, &profile.down)])
    }

    /// The names of the ends of an impaired pair on the network.
    fn pair_on(&self, id: NetworkId) -> Option<(&str, &str)> {
        let pair = self.pairs.iter().find(|pair| self.is_on(pair.from, id) && self.is_on(pair.to, id))?;
        Some((&self.node_names[pair.from.index()], &self.node_names[pair.to.index()]))
    }

    /// The events that touch links of the network.
    fn events_on(&self, id: NetworkId) -> impl Iterator<Item = &Event> {
        self.events.iter().filter(move |event| match &event.action {
            Action::SetLink { nodes, network, .. } => {
                network.is_none_or(|network| network == id) && nodes.iter().any(|node| self.is_on(*node, id))
            }
            Action::Crash(nodes) => nodes.iter().any(|node| self.is_on(*node, id)),
            Action::Partition(lists) => lists.iter().flatten().any(|node| self.is_on(*node, id)),
            _ => false,
        })
    }

    fn is_on(&self, node: NodeId, id: NetworkId) -> bool {
        self.interfaces[node.index()].iter().any(|interface| interface.network == id)
    }
}

/// What a half link asks for and netem has no means to give: tc-netem(8).
fn impossible(half: &HalfLink) -> Option<&'static str> {
    if !half.drop.is_empty() {
        Some("has a list of packets to `drop`, and netem only draws")
    } else if half.trace.is_some() {
        Some("has a `trace`, and netem's rate is constant")
    } else if !half.jitter.is_zero() && !half.may_reorder() {
        Some("has a `jitter` that keeps the order of packets, and netem's does not")
    } else if half.jitter > MOST_NETEM_JITTER {
        Some("has a longer `jitter` than netem's longest, 2.147 s")
    } else if half.may_reorder() && half.rate.is_some() {
        Some("has a `rate` that those that `reorder` names keep, too, and netem exempts them")
    } else {
        None
    }
}

//! Networks: who is on which, with what address, carried by what.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use link::Profile;

use super::links::{self, Profiles, resolve_link};
use super::names::{Directory, check_names};
use super::speaks_for_entry;
use crate::findings::Findings;
use crate::plan::{Interface, Medium, Network, NetworkId, NodeId, Subnet};
use crate::source::Place;
use crate::spec::{AttachmentSpec, CommonSpec, IpSpec, NetworkSpec, Spec};
use crate::yaml::At;

const DEFAULT_NAME: &str = "net";
const DEFAULT_MTU: u32 = 1500;
/// The least that IPv4 and IPv6 demand of a link (RFC 791, RFC 8200), and the most that an IP packet can be.
const MTUS_V4: std::ops::RangeInclusive<u32> = 576..=65_535;
const MIN_MTU_V6: u32 = 1280;
const MAX_NETWORKS: usize = 64;

/// A node's wish for a place on a network.
struct Attachment {
    node: NodeId,
    network: usize,
    link: Profile,
    ip: Option<At<IpSpec>>,
}

/// The networks (carried by a bridge until that is decided) and each node's interfaces.
pub(super) fn resolve_networks(
    spec: &Spec,
    names: &Directory<'_>,
    findings: &mut Findings<'_>,
) -> (Vec<Network>, Vec<Vec<Interface>>) {
    check_names(&spec.networks, "network", findings);
    let default = [(At { value: DEFAULT_NAME.to_owned(), place: Place::Whole }, None)];
    let specs = if spec.networks.is_empty() { &default[..] } else { &spec.networks.0 };
    if let Some((name, _)) = specs.get(MAX_NETWORKS) {
        findings.invalid(name.place, format!("{} networks; a topology may have {MAX_NETWORKS}", specs.len()));
        return (Vec::new(), vec![Vec::new(); names.len()]);
    }
    let mut attachments = Vec::new();
    let profiles = links::profiles(spec);
    for node in names.ids() {
        attach(node, specs, &profiles, names, findings, &mut attachments);
    }
    let subnets = resolve_subnets(specs, &attachments, findings);
    let mut networks = Vec::new();
    let mut interfaces = vec![Vec::new(); names.len()];
    for (index, ((name, network), subnet)) in specs.iter().zip(subnets).enumerate() {
        let mtu = resolve_mtu(network.as_ref(), subnet, findings);
        let here: Vec<&Attachment> = attachments.iter().filter(|attachment| attachment.network == index).collect();
        let addresses = assign(subnet, &here, name, names, findings);
        for (position, (attachment, address)) in here.iter().zip(addresses).enumerate() {
            let [network_high, network_low] = (index as u16).to_be_bytes();
            let [high, low] = (position as u16 + 1).to_be_bytes();
            interfaces[attachment.node.index()].push(Interface {
                name: String::new(),
                network: NetworkId(index as u32),
                address,
                mac: [0x02, 0, network_high, network_low, high, low],
                link: attachment.link.clone(),
            });
        }
        networks.push(Network {
            name: name.value.clone(),
            subnet,
            mtu,
            medium: Medium::Bridge,
            why: String::new(),
            netem_may_do: false,
            draws_anew: false,
        });
    }
    for interfaces in &mut interfaces {
        for (index, interface) in interfaces.iter_mut().enumerate() {
            interface.name = format!("eth{index}");
        }
    }
    (networks, interfaces)
}

type NetworkEntry = (At<String>, Option<NetworkSpec>);

fn attach(
    node: NodeId,
    networks: &[NetworkEntry],
    profiles: &Profiles<'_>,
    names: &Directory<'_>,
    findings: &mut Findings<'_>,
    attachments: &mut Vec<Attachment>,
) {
    let nothing_said = AttachmentSpec::default();
    let CommonSpec { link, ip, networks: wanted, count, .. } = &names.spec(node).common;
    let mut silent = Findings::silent();
    let findings = if speaks_for_entry(node, names) { findings } else { &mut silent };
    let many = count.as_ref().is_some_and(|count| count.value > 1);
    let mut one = |network, link, ip: Option<&At<IpSpec>>, findings: &mut Findings<'_>| {
        if let Some(ip) = ip.filter(|_| many) {
            findings.invalid(ip.place, "`ip` is one address, but the entry makes several nodes");
        }
        let link = resolve_link(link, profiles, findings);
        attachments.push(Attachment { node, network, link, ip: ip.copied().filter(|_| !many) });
    };
    let Some(wanted) = wanted else {
        if networks.len() > 1 {
            let name = names.entry(node);
            let known: Vec<&str> = networks.iter().map(|(name, _)| name.value.as_str()).collect();
            let message = format!("`{}` does not say on which network it is", name.value);
            let help = format!("give it `networks: {{{}: }}`; there are {}", known[0], crate::yaml::listed(&known));
            findings.invalid_but(name.place, message, help);
        }
        return one(0, link.as_ref(), ip.as_ref(), findings);
    };
    if wanted.value.is_empty() {
        findings.invalid(wanted.place, "a node is on one network at least");
    }
    if let Some(ip) = ip.as_ref().filter(|_| wanted.value.0.len() > 1) {
        findings.invalid(ip.place, "the node is on several networks; give each its `ip` under `networks`");
    }
    for (name, attachment) in wanted.value.iter() {
        let Some(network) = networks.iter().position(|(known, _)| known.value == name.value) else {
            findings.unknown(name.place, "network", &name.value, networks.iter().map(|(name, _)| name.value.as_str()));
            continue;
        };
        let own = attachment.value.as_ref().unwrap_or(&nothing_said);
        let ip = own.ip.as_ref().or(ip.as_ref().filter(|_| wanted.value.0.len() == 1));
        one(network, own.link.as_ref().or(link.as_ref()), ip, findings);
    }
}

fn resolve_mtu(network: Option<&NetworkSpec>, subnet: Subnet, findings: &mut Findings<'_>) -> u32 {
    let Some(mtu) = network.and_then(|network| network.mtu.as_ref()) else { return DEFAULT_MTU };
    if !MTUS_V4.contains(&mtu.value) {
        findings.invalid(mtu.place, format!("an MTU is {} to {} bytes", MTUS_V4.start(), MTUS_V4.end()));
    } else if subnet.base.is_ipv6() && mtu.value < MIN_MTU_V6 {
        findings.invalid(mtu.place, format!("IPv6 needs an MTU of at least {MIN_MTU_V6} bytes"));
    }
    mtu.value
}

fn resolve_subnets(networks: &[NetworkEntry], attachments: &[Attachment], findings: &mut Findings<'_>) -> Vec<Subnet> {
    let written: Vec<Option<Subnet>> = networks
        .iter()
        .map(|(_, network)| {
            let text = network.as_ref()?.subnet.as_ref()?;
            parse_subnet(&text.value).map_err(|message| findings.invalid(text.place, message)).ok()
        })
        .collect();
    let mut taken: Vec<Subnet> = Vec::new();
    for (subnet, (name, network)) in written.iter().zip(networks) {
        let Some(subnet) = subnet else { continue };
        if let Some(other) = taken.iter().find(|other| overlap(**other, *subnet)) {
            let place = network.as_ref().and_then(|network| network.subnet.as_ref()).map_or(name.place, |at| at.place);
            findings.invalid(place, format!("{subnet} overlaps {other}, which another network has"));
        }
        taken.push(*subnet);
    }
    let mut subnets = Vec::new();
    for (index, subnet) in written.into_iter().enumerate() {
        let subnet = subnet.unwrap_or_else(|| {
            // Its own address, the broadcast address, and one spare for measuring.
            let needed = attachments.iter().filter(|attachment| attachment.network == index).count() as u32 + 3;
            let derived = derive(needed, &taken);
            taken.push(derived);
            derived
        });
        subnets.push(subnet);
    }
    subnets
}

/// The first free block from 10.50.0.0 on that holds `needed` addresses; a /24 at least.
fn derive(needed: u32, taken: &[Subnet]) -> Subnet {
    let bits = needed.next_power_of_two().trailing_zeros().max(8);
    let block = 1u32 << bits;
    let mut base = u32::from(Ipv4Addr::new(10, 50, 0, 0)).next_multiple_of(block);
    loop {
        let subnet = Subnet { base: IpAddr::V4(Ipv4Addr::from(base)), prefix: (32 - bits) as u8 };
        // Invariant: at most 64 networks of at most 2¹³ addresses, beside at most 64 written ones, leave room in 10.0.0.0/8
        // unless those cover all of it; then 11.0.0.0 and on is as good inside namespaces.
        if !taken.iter().any(|other| overlap(*other, subnet)) || base > u32::from(Ipv4Addr::new(220, 0, 0, 0)) {
            return subnet;
        }
        base += block;
    }
}

fn parse_subnet(text: &str) -> Result<Subnet, String> {
    let wrong = || format!("`{text}` is not a subnet (such as 10.50.0.0/24 or fd00::/64)");
    let (base, prefix) = text.split_once('/').ok_or_else(wrong)?;
    let base: IpAddr = base.parse().map_err(|_| wrong())?;
    let prefix: u8 = prefix.parse().map_err(|_| wrong())?;
    let widest = if base.is_ipv4() { 30 } else { 126 };
    if prefix > widest + 2 {
        return Err(wrong());
    }
    if !(8..=widest).contains(&prefix) {
        return Err(format!("a subnet has a prefix of 8 to {widest} bits, not {prefix}"));
    }
    let unusable = match base {
        IpAddr::V4(ip) => {
            ip.is_loopback() || ip.is_multicast() || ip.is_link_local() || ip.octets()[0] == 0 || ip.octets()[0] >= 240
        }
        IpAddr::V6(ip) => ip.is_loopback() || ip.is_multicast() || ip.is_unicast_link_local() || ip.is_unspecified(),
    };
    if unusable {
        return Err(format!("`{text}` is not for hosts; take a private one such as 10.50.0.0/24 or fd00::/64"));
    }
    let first = Subnet { base: from_number(number(base) & mask(base, prefix), base), prefix };
    if first.base != base {
        return Err(format!("`{text}` has bits set beyond its prefix; the subnet is {first}"));
    }
    Ok(first)
}

fn overlap(a: Subnet, b: Subnet) -> bool {
    let wider = a.prefix.min(b.prefix);
    a.base.is_ipv4() == b.base.is_ipv4() && (number(a.base) ^ number(b.base)) & mask(a.base, wider) == 0
}

/// Gives each attachment its address: the written ones first, the others the lowest that are free.
fn assign(
    subnet: Subnet,
    attachments: &[&Attachment],
    network: &At<String>,
    names: &Directory<'_>,
    findings: &mut Findings<'_>,
) -> Vec<IpAddr> {
    let size = !mask(subnet.base, subnet.prefix) & width(subnet.base);
    // IPv4 has a broadcast address, the last; the first is the network's own (in IPv6 that of its routers, RFC 4291).
    let last = if subnet.base.is_ipv4() { size - 1 } else { size };
    if attachments.len() as u128 > last {
        let message = format!("{subnet} has {last} addresses for {} nodes", attachments.len());
        findings.invalid(network.place, message);
        return vec![subnet.base; attachments.len()];
    }
    let mut taken = BTreeSet::new();
    for attachment in attachments {
        let Some(ip) = &attachment.ip else { continue };
        let address = ip.value.0;
        let offset = number(address).wrapping_sub(number(subnet.base));
        if address.is_ipv4() != subnet.base.is_ipv4() || offset > size {
            findings.invalid(ip.place, format!("{address} is outside {subnet}, the subnet of `{}`", network.value));
        } else if offset == 0 || offset > last {
            findings.invalid(ip.place, format!("{address} is not a host's address in {subnet}"));
        } else if !taken.insert(offset) {
            let other = attachments.iter().find(|other| other.ip.is_some_and(|ip| ip.value.0 == address));
            let other = other.map_or("another node", |other| names.name(other.node));
            findings.invalid(ip.place, format!("{address} is given twice; `{other}` has it"));
        }
    }
    let mut next = 1;
    let mut assigned = Vec::with_capacity(attachments.len());
    for attachment in attachments {
        assigned.push(attachment.ip.map_or_else(
            || {
                while taken.contains(&next) {
                    next += 1;
                }
                next += 1;
                from_number(number(subnet.base) + (next - 1), subnet.base)
            },
            |ip| ip.value.0,
        ));
    }
    assigned
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u128::from(u32::from(address)),
        IpAddr::V6(address) => u128::from(address),
    }
}

/// All ones in the family of `like`.
fn width(like: IpAddr) -> u128 {
    if like.is_ipv4() { u128::from(u32::MAX) } else { u128::MAX }
}

fn mask(like: IpAddr, prefix: u8) -> u128 {
    let bits = if like.is_ipv4() { 32 } else { 128 };
    let host = 1u128.checked_shl(bits - u32::from(prefix)).map_or(u128::MAX, |size| size - 1);
    width(like) & !host
}

fn from_number(number: u128, like: IpAddr) -> IpAddr {
    match like {
        IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::from(number as u32)),
        IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::from(number)),
    }
}

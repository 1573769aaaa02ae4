//! What a namespace's interfaces are and have, asked of the kernel; and all of it given from one interface to another.

use std::io;
use std::net::IpAddr;

use netlink_packet_core::{NetlinkMessage, NetlinkPayload};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::address::{AddressAttribute, AddressFlags, AddressMessage};
use netlink_packet_route::link::{InfoKind, LinkAttribute, LinkExtentMask, LinkFlags, LinkInfo, LinkMessage};
use netlink_packet_route::route::{RouteAttribute, RouteHeader, RouteMessage, RouteProtocol};
use rtnetlink::{LinkBridge, LinkMessageBuilder, LinkUnspec};

use super::{Batch, Netlink};

/// An interface with all that makes it the way to a network.
#[derive(Clone, Debug)]
pub(crate) struct Surveyed {
    pub index: u32,
    pub name: String,
    pub mac: [u8; 6],
    /// Bytes of IP packet.
    pub mtu: u32,
    pub is_up: bool,
    pub kind: Kind,
    addresses: Vec<AddressMessage>,
    /// Those of the main table that no address brings along by itself.
    routes: Vec<RouteMessage>,
}

/// What an interface is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// One end of a veth pair, as a container has it.
    Veth,
    /// A bridge, or nothing that software made: a machine's.
    Machines,
    /// Any other.
    Virtual,
}

impl Surveyed {
    /// Its addresses, link-local ones included.
    pub(crate) fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        self.addresses.iter().filter_map(address_of)
    }

    /// Whether a route without a destination leads out of it.
    pub(crate) fn is_the_way_out(&self) -> bool {
        self.routes.iter().any(|route| route.header.destination_prefix_length == 0)
    }
}

impl Netlink {
    /// Every interface but the loopback, in the order of their numbers, and the largest number that is taken.
    pub(crate) fn survey(&mut self) -> io::Result<(Vec<Surveyed>, u32)> {
        let link = LinkMessageBuilder::<LinkUnspec>::default()
            .append_extra_attribute(LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats]))
            .build();
        let (mut surveyed, mut largest) = (Vec::new(), 0);
        for answer in self.all(RouteNetlinkMessage::GetLink(link))? {
            let RouteNetlinkMessage::NewLink(link) = answer else { continue };
            largest = largest.max(link.header.index);
            surveyed.extend(described(link));
        }
        for answer in self.all(RouteNetlinkMessage::GetAddress(AddressMessage::default()))? {
            let RouteNetlinkMessage::NewAddress(address) = answer else { continue };
            if let Some(owner) = surveyed.iter_mut().find(|one| one.index == address.header.index) {
                owner.addresses.push(address);
            }
        }
        for answer in self.all(RouteNetlinkMessage::GetRoute(RouteMessage::default()))? {
            let RouteNetlinkMessage::NewRoute(route) = answer else { continue };
            let way = route.attributes.iter().find_map(|attribute| match attribute {
                RouteAttribute::Oif(index) => Some(*index),
                _ => None,
            });
            let is_set =
                route.header.table == RouteHeader::RT_TABLE_MAIN && route.header.protocol != RouteProtocol::Kernel;
            if let Some(owner) = surveyed.iter_mut().find(|one| is_set && Some(one.index) == way) {
                owner.routes.push(route);
            }
        }
        surveyed.sort_unstable_by_key(|one| one.index);
        Ok((surveyed, largest))
    }

    fn all(&mut self, question: RouteNetlinkMessage) -> io::Result<Vec<RouteNetlinkMessage>> {
        let mut all = Vec::new();
        self.dump(question, |answer| {
            // What this crate cannot read is nothing that is looked for.
            let message = NetlinkMessage::<RouteNetlinkMessage>::deserialize(answer.whole).ok();
            if let Some(NetlinkPayload::InnerMessage(message)) = message.map(|message| message.payload) {
                all.push(message);
            }
        })?;
        Ok(all)
    }
}

fn described(link: LinkMessage) -> Option<Surveyed> {
    if link.header.flags.contains(LinkFlags::Loopback) {
        return None;
    }
    let (mut name, mut mac, mut mtu, mut kind) = (None, None, None, Kind::Machines);
    for attribute in link.attributes {
        match attribute {
            LinkAttribute::IfName(found) => name = Some(found),
            LinkAttribute::Address(found) => mac = found.try_into().ok(),
            LinkAttribute::Mtu(found) => mtu = Some(found),
            LinkAttribute::LinkInfo(info) => {
                kind = info.iter().fold(kind, |kind, info| match info {
                    LinkInfo::Kind(InfoKind::Veth) => Kind::Veth,
                    LinkInfo::Kind(InfoKind::Bridge) => Kind::Machines,
                    LinkInfo::Kind(_) => Kind::Virtual,
                    _ => kind,
                });
            }
            _ => {}
        }
    }
    let is_up = link.header.flags.contains(LinkFlags::Up);
    let (addresses, routes) = (Vec::new(), Vec::new());
    Some(Surveyed { index: link.header.index, name: name?, mac: mac?, mtu: mtu?, is_up, kind, addresses, routes })
}

fn address_of(message: &AddressMessage) -> Option<IpAddr> {
    // On a way between two ends `Address` is the other one's.
    let local = message.attributes.iter().find_map(|attribute| match attribute {
        AddressAttribute::Local(address) => Some(*address),
        _ => None,
    });
    local.or_else(|| {
        message.attributes.iter().find_map(|attribute| match attribute {
            AddressAttribute::Address(address) => Some(*address),
            _ => None,
        })
    })
}

impl Batch {
    /// Makes a bridge that forwards nothing until it is up: what its ports receive ends in it, after whoever watches them has
    /// seen it, and never reaches this machine's own stack.
    pub(crate) fn add_sink(&mut self, name: &str, index: u32) {
        // The builder makes bridges that are up.
        let message = LinkBridge::new(name).index(index).forward_delay(0).mcast_snooping(false).down();
        self.create(format!("make bridge {name}"), RouteNetlinkMessage::NewLink(message.build()));
    }

    /// Sets such a bridge up, without making it an interface that answers: the kernel would answer there, too, who has an
    /// address of any other interface, and what is sent to that answer would pass neither port.
    pub(crate) fn set_up_mute(&mut self, index: u32) {
        let link = LinkUnspec::new_with_index(index).arp(false).up();
        self.set(format!("set bridge {index} up"), link);
    }

    /// Gives an interface another Ethernet address.
    pub(crate) fn set_mac(&mut self, index: u32, mac: [u8; 6]) {
        let link = LinkUnspec::new_with_index(index).address(mac.to_vec());
        self.set(format!("give interface {index} another Ethernet address"), link);
    }

    /// Takes everything from an interface that makes it the way to a network.
    pub(crate) fn strip(&mut self, from: &Surveyed) {
        for route in &from.routes {
            let intent = format!("take a route from {}", from.name);
            self.push(intent, RouteNetlinkMessage::DelRoute(route.clone()), 0);
        }
        for address in &from.addresses {
            let intent = format!("take an address from {}", from.name);
            self.push(intent, RouteNetlinkMessage::DelAddress(address.clone()), 0);
        }
    }

    /// Gives all of that to another one.
    pub(crate) fn endow(&mut self, index: u32, with: &Surveyed) {
        for address in &with.addresses {
            let mut message = AddressMessage::default();
            message.header = address.header.clone();
            message.header.index = index;
            // The rest is the kernel's own account of it.
            let is_kept = |attribute: &&AddressAttribute| {
                matches!(
                    attribute,
                    AddressAttribute::Address(_) | AddressAttribute::Local(_) | AddressAttribute::Broadcast(_)
                )
            };
            message.attributes = address.attributes.iter().filter(is_kept).cloned().collect();
            // It was looked for duplicates where it comes from.
            message.attributes.push(AddressAttribute::Flags(AddressFlags::Nodad));
            let intent = format!("give interface {index} an address of {}", with.name);
            self.create(intent, RouteNetlinkMessage::NewAddress(message));
        }
        // A gateway must be reachable before a route leads to it: those without one come first.
        let has_gateway = |route: &RouteMessage| {
            route.attributes.iter().any(|attribute| matches!(attribute, RouteAttribute::Gateway(_)))
        };
        let (over, direct): (Vec<_>, Vec<_>) = with.routes.iter().partition(|route| has_gateway(route));
        for route in direct.into_iter().chain(over) {
            let mut message = RouteMessage::default();
            message.header = route.header.clone();
            let kept = route.attributes.iter().filter_map(|attribute| match attribute {
                RouteAttribute::Oif(_) => Some(RouteAttribute::Oif(index)),
                RouteAttribute::Destination(_)
                | RouteAttribute::Gateway(_)
                | RouteAttribute::PrefSource(_)
                | RouteAttribute::Priority(_) => Some(attribute.clone()),
                _ => None,
            });
            message.attributes = kept.collect();
            let intent = format!("give interface {index} a route of {}", with.name);
            self.create(intent, RouteNetlinkMessage::NewRoute(message));
        }
    }
}

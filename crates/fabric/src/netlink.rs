//! The one module that speaks rtnetlink: verbs named for intent, collected in a [`Batch`] and sent in one system call.
//!
//! * `attribute`: what requests and answers consist of.
//! * `discipline`: netem made, changed and read back.
//! * `survey`: what interfaces are and have, and that given to others.
//!
//! The messages are those of the `rtnetlink` crate. Its connection is not used: it sends one message and waits for the
//! answer, while a node's whole network is one send here, from a process that has no runtime.

mod attribute;
mod discipline;
mod survey;

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};

use machine::{Span, Time};
use netlink_packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload,
};
use netlink_packet_route::address::{AddressAttribute, AddressFlags};
use netlink_packet_route::link::{
    AfSpecInet6, AfSpecUnspec, In6AddrGenMode, InfoData, InfoVeth, LinkAttribute, LinkExtentMask, LinkMessage, State,
};
use netlink_packet_route::neighbour::{NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState};
use netlink_packet_route::route::{RouteScope, RouteType};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use rtnetlink::sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};
use rtnetlink::{AddressMessageBuilder, LinkBridge, LinkMessageBuilder, LinkUnspec, LinkVeth, RouteMessageBuilder};

use crate::clock;
pub(crate) use attribute::{Attributes, attribute};
pub(crate) use discipline::KeptNetem;
pub use discipline::QueueWork;
pub(crate) use survey::{Kind, Surveyed};

/// One end of a veth pair that is to be made.
#[derive(Clone, Debug)]
pub(crate) struct VethEnd<'a> {
    /// At most 15 bytes.
    pub name: &'a str,
    /// Chosen beforehand, so that later messages of the same batch can refer to it.
    pub index: u32,
    /// Ethernet address; the kernel draws one where it is absent.
    pub mac: Option<[u8; 6]>,
    /// Bytes of IP packet.
    pub mtu: u32,
    /// Whether packets larger than the MTU may cross it and be cut up later, or never.
    pub segmentation_offload: bool,
}

/// Requests that go to the kernel in one send and are carried out in order.
#[derive(Clone, Debug, Default)]
pub(crate) struct Batch {
    bytes: Vec<u8>,
    /// What each request wants, for the message when the kernel refuses: its sequence number is its position + 1.
    intents: Vec<String>,
    last: usize,
}

impl Batch {
    /// Makes a veth pair, `near` up in the namespace of the socket and `far` in the one that `far_namespace` refers to.
    /// The kernel cannot make the far end up as well.
    pub(crate) fn add_veth(&mut self, near: &VethEnd<'_>, far: &VethEnd<'_>, far_namespace: RawFd) {
        let peer = end(LinkMessageBuilder::<LinkUnspec>::default().name(far.name), far).setns_by_fd(far_namespace);
        let message = end(LinkVeth::new(near.name, far.name), near)
            .set_info_data(InfoData::Veth(InfoVeth::Peer(peer.build())))
            .up();
        self.create(format!("make {}", near.name), RouteNetlinkMessage::NewLink(message.build()));
    }

    /// Keeps an interface that carries nothing yet from giving itself a link-local address, and so from announcing and
    /// soliciting. (The setting under `/proc/sys` that does the same spins for as long as anybody else configures a
    /// network; a new interface cannot be told in the request that makes it.)
    pub(crate) fn forgo_link_local(&mut self, index: u32) {
        let mode = AfSpecUnspec::Inet6(vec![AfSpecInet6::AddrGenMode(In6AddrGenMode::None)]);
        let link = LinkUnspec::new_with_index(index).append_extra_attribute(LinkAttribute::AfSpecUnspec(vec![mode]));
        self.set(format!("keep interface {index} from making addresses"), link);
    }

    /// Makes a bridge that forwards from the start, floods multicast and sends nothing of its own.
    pub(crate) fn add_bridge(&mut self, name: &str, index: u32) {
        let message = LinkBridge::new(name).index(index).forward_delay(0).mcast_snooping(false).up();
        self.create(format!("make bridge {name}"), RouteNetlinkMessage::NewLink(message.build()));
    }

    /// Deletes an interface, with its peer if it has one.
    pub(crate) fn delete(&mut self, index: u32) {
        let message = LinkUnspec::new_with_index(index).build();
        self.push(format!("delete interface {index}"), RouteNetlinkMessage::DelLink(message), 0);
    }

    /// Sets an interface up.
    pub(crate) fn set_up(&mut self, index: u32) {
        self.set(format!("set interface {index} up"), LinkUnspec::new_with_index(index).up());
    }

    /// Sets an interface down.
    pub(crate) fn set_down(&mut self, index: u32) {
        self.set(format!("set interface {index} down"), LinkUnspec::new_with_index(index).down());
    }

    /// Makes an interface a port of a bridge and sets it up.
    pub(crate) fn attach(&mut self, index: u32, bridge: u32) {
        let port = LinkUnspec::new_with_index(index).controller(bridge).up();
        self.set(format!("attach interface {index} to bridge {bridge}"), port);
    }

    /// Gives an interface an address that is valid at once: nobody else can have it, and looking for duplicates would
    /// hold it back for a second.
    pub(crate) fn add_address(&mut self, index: u32, address: IpAddr, prefix: u8) {
        let message = match address {
            IpAddr::V4(v4) => AddressMessageBuilder::<Ipv4Addr>::new().index(index).address(v4, prefix).build(),
            IpAddr::V6(v6) => {
                let mut message = AddressMessageBuilder::<Ipv6Addr>::new().index(index).address(v6, prefix).build();
                message.attributes.push(AddressAttribute::Flags(AddressFlags::Nodad));
                message
            }
        };
        let intent = format!("give interface {index} the address {address}/{prefix}");
        self.create(intent, RouteNetlinkMessage::NewAddress(message));
    }

    /// Sends IPv4 multicast out of an interface unless a program names another; for IPv6 the kernel has such a route.
    pub(crate) fn add_multicast_route(&mut self, index: u32) {
        let route = RouteMessageBuilder::<Ipv4Addr>::new()
            .destination_prefix(Ipv4Addr::new(224, 0, 0, 0), 4)
            .output_interface(index)
            .scope(RouteScope::Link)
            .build();
        self.create(format!("route multicast through interface {index}"), RouteNetlinkMessage::NewRoute(route));
    }

    /// Sends what is for a network to a gateway on another, which need not be there yet.
    pub(crate) fn add_route(&mut self, index: u32, network: IpAddr, prefix: u8, gateway: IpAddr) {
        let message = match (network, gateway) {
            (IpAddr::V4(network), IpAddr::V4(gateway)) => RouteMessageBuilder::<Ipv4Addr>::new()
                .destination_prefix(network, prefix)
                .gateway(gateway)
                .output_interface(index)
                .build(),
            (IpAddr::V6(network), IpAddr::V6(gateway)) => RouteMessageBuilder::<Ipv6Addr>::new()
                .destination_prefix(network, prefix)
                .gateway(gateway)
                .output_interface(index)
                .build(),
            // Invariant of the plan: a way leads over networks of one family.
            _ => unreachable!("a gateway has the family of what it leads to"),
        };
        let intent = format!("route {network}/{prefix} through {gateway}");
        self.create(intent, RouteNetlinkMessage::NewRoute(message));
    }

    /// Tells a node the Ethernet address of another, so that it never asks: a question would be impaired as any packet.
    pub(crate) fn add_neighbour(&mut self, index: u32, address: IpAddr, mac: [u8; 6]) {
        let mut message = NeighbourMessage::default();
        message.header.family = if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
        message.header.ifindex = index;
        message.header.state = NeighbourState::Permanent;
        message.header.kind = RouteType::Unicast;
        message.attributes =
            vec![NeighbourAttribute::Destination(address.into()), NeighbourAttribute::LinkLayerAddress(mac.to_vec())];
        let intent = format!("tell interface {index} the neighbour {address}");
        self.create(intent, RouteNetlinkMessage::NewNeighbour(message));
    }

    /// Tells a bridge behind which of its ports an Ethernet address is, so that it never floods what is for one node.
    pub(crate) fn add_forwarding(&mut self, port: u32, mac: [u8; 6]) {
        let mut message = NeighbourMessage::default();
        message.header.family = AddressFamily::Bridge;
        message.header.ifindex = port;
        // Static, as `bridge fdb add … master static` says it: neither learnt nor the bridge's own.
        message.header.state = NeighbourState::Noarp;
        message.header.flags = NeighbourFlags::Controller;
        message.attributes = vec![NeighbourAttribute::LinkLayerAddress(mac.to_vec())];
        self.create(format!("place a node behind port {port}"), RouteNetlinkMessage::NewNeighbour(message));
    }

    /// What the request with this sequence number wants.
    pub(crate) fn intent(&self, sequence: u32) -> &str {
        (sequence as usize).checked_sub(1).and_then(|at| self.intents.get(at)).map_or("talk to the kernel", |i| i)
    }

    /// How many requests it holds.
    pub(crate) fn len(&self) -> u32 {
        self.intents.len() as u32
    }

    /// The requests as they go to the kernel; the last one asks for an answer.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    fn create(&mut self, intent: String, message: RouteNetlinkMessage) {
        self.push(intent, message, NLM_F_CREATE | NLM_F_EXCL);
    }

    fn set<T>(&mut self, intent: String, link: LinkMessageBuilder<T>) {
        // RTM_NEWLINK without NLM_F_CREATE changes an existing interface, with its controller and flags in one go.
        self.push(intent, RouteNetlinkMessage::NewLink(link.build()), 0);
    }

    fn push(&mut self, intent: String, message: RouteNetlinkMessage, flags: u16) {
        // Refusals are always told; only the last success has to be, to know that all is done.
        const FLAGS: usize = 6;
        if let Some(field) = self.bytes.get_mut(self.last + FLAGS..self.last + FLAGS + 2) {
            let before = u16::from_ne_bytes([field[0], field[1]]);
            field.copy_from_slice(&(before & !NLM_F_ACK).to_ne_bytes());
        }
        self.intents.push(intent);
        self.last = self.bytes.len();
        let sequence = self.intents.len() as u32;
        append(&mut self.bytes, message, NLM_F_REQUEST | NLM_F_ACK | flags, sequence);
    }
}

/// What the kernel refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// Which request of the batch, counted from 1; 0 where the socket itself failed.
    pub sequence: u32,
    /// Why.
    pub errno: Errno,
}

/// A netlink socket in the network namespace of whoever opened it, wherever it is used later.
#[derive(Debug)]
pub(crate) struct Netlink {
    socket: Socket,
    buffer: Vec<u8>,
}

impl Netlink {
    /// Opens a socket in the calling thread's network namespace.
    pub(crate) fn open() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        socket.bind_auto()?;
        Ok(Netlink { socket, buffer: vec![0; 16 * 1024] })
    }

    /// Carries out a batch and returns once all of it is done, or with the first refusal.
    pub(crate) fn apply(&mut self, batch: &[u8], requests: u32) -> Result<(), Refusal> {
        if requests == 0 {
            return Ok(());
        }
        self.socket.send_to(batch, &SocketAddr::new(0, 0), 0).map_err(transport)?;
        let mut refusal: Option<Refusal> = None;
        loop {
            let length = receive(&self.socket, &mut self.buffer).map_err(transport)?;
            for answer in Answers(&self.buffer[..length]) {
                if answer.kind != libc::NLMSG_ERROR as u16 {
                    continue;
                }
                let code = answer.payload.first_chunk::<4>().map_or(0, |code| i32::from_ne_bytes(*code));
                if code != 0 && refusal.is_none() {
                    refusal = Some(Refusal { sequence: answer.sequence, errno: Errno::from_raw(-code) });
                }
                if answer.sequence == requests {
                    return refusal.map_or(Ok(()), Err);
                }
            }
        }
    }

    /// Returns once an interface carries packets: its peer is up and its queue is attached. The kernel attaches it in
    /// the background, up to a second late when hundreds come up, and drops what is sent before; asking for the link
    /// makes it do so now (Linux 6.8), and otherwise its announcement is waited for, until `deadline`.
    pub(crate) fn await_running(&mut self, index: u32, deadline: Time) -> io::Result<()> {
        /// `RTNLGRP_LINK`: announcements of changed interfaces.
        const LINK_GROUP: u32 = 1;
        if self.is_running(index)? {
            return Ok(());
        }
        self.socket.add_membership(LINK_GROUP)?;
        let outcome = loop {
            match self.is_running(index) {
                Ok(true) => break Ok(()),
                Ok(false) => {}
                // Too many announcements for the buffer: ask again.
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => continue,
                Err(error) => break Err(error),
            }
            let left = deadline.since(clock::now());
            if left == Span::ZERO {
                break Err(io::Error::from_raw_os_error(libc::ETIMEDOUT));
            }
            let timeout = PollTimeout::try_from(left.as_millis().max(1)).unwrap_or(PollTimeout::MAX);
            let mut ready = [PollFd::new(self.as_fd(), PollFlags::POLLIN)];
            if poll(&mut ready, timeout)? > 0 {
                match receive(&self.socket, &mut self.buffer) {
                    Err(error) if error.raw_os_error() != Some(libc::ENOBUFS) => break Err(error),
                    _ => {}
                }
            }
        };
        self.socket.drop_membership(LINK_GROUP)?;
        outcome
    }

    /// Hands every answer to `question`, which asks for all of something, to `take`.
    fn dump(&mut self, question: RouteNetlinkMessage, mut take: impl FnMut(&Answer<'_>)) -> io::Result<()> {
        /// No batch has so many requests.
        const SEQUENCE: u32 = u32::MAX - 1;
        let mut bytes = Vec::with_capacity(64);
        append(&mut bytes, question, NLM_F_REQUEST | NLM_F_DUMP, SEQUENCE);
        self.socket.send_to(&bytes, &SocketAddr::new(0, 0), 0)?;
        loop {
            let length = receive(&self.socket, &mut self.buffer)?;
            for answer in Answers(&self.buffer[..length]).filter(|answer| answer.sequence == SEQUENCE) {
                match i32::from(answer.kind) {
                    libc::NLMSG_DONE => return Ok(()),
                    libc::NLMSG_ERROR => {
                        let code = answer.payload.first_chunk::<4>().map_or(0, |code| i32::from_ne_bytes(*code));
                        return Err(io::Error::from_raw_os_error(-code));
                    }
                    _ => take(&answer),
                }
            }
        }
    }

    fn is_running(&mut self, index: u32) -> io::Result<bool> {
        let mut question = Vec::with_capacity(64);
        let link = LinkMessageBuilder::<LinkUnspec>::default()
            .index(index)
            .append_extra_attribute(LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats]))
            .build();
        append(&mut question, RouteNetlinkMessage::GetLink(link), NLM_F_REQUEST, u32::MAX);
        self.socket.send_to(&question, &SocketAddr::new(0, 0), 0)?;
        loop {
            let length = receive(&self.socket, &mut self.buffer)?;
            for answer in Answers(&self.buffer[..length]) {
                if answer.sequence != u32::MAX {
                    continue;
                }
                if answer.kind == libc::NLMSG_ERROR as u16 {
                    let code = answer.payload.first_chunk::<4>().map_or(0, |code| i32::from_ne_bytes(*code));
                    return Err(io::Error::from_raw_os_error(-code));
                }
                return Ok(operational_state(answer.whole) == Some(State::Up));
            }
        }
    }
}

impl AsFd for Netlink {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl AsRawFd for Netlink {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}

fn operational_state(message: &[u8]) -> Option<State> {
    let NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewLink(LinkMessage { attributes, .. })) =
        NetlinkMessage::<RouteNetlinkMessage>::deserialize(message).ok()?.payload
    else {
        return None;
    };
    attributes.into_iter().find_map(|attribute| match attribute {
        LinkAttribute::OperState(state) => Some(state),
        _ => None,
    })
}

fn end<T>(builder: LinkMessageBuilder<T>, end: &VethEnd<'_>) -> LinkMessageBuilder<T> {
    let mut builder = builder.index(end.index).mtu(end.mtu);
    if let Some(mac) = end.mac {
        builder = builder.address(mac.to_vec());
    }
    if !end.segmentation_offload {
        builder = builder.append_extra_attribute(LinkAttribute::GsoMaxSegs(1));
    }
    builder
}

fn append(bytes: &mut Vec<u8>, message: RouteNetlinkMessage, flags: u16, sequence: u32) {
    let mut header = NetlinkHeader::default();
    header.flags = flags;
    header.sequence_number = sequence;
    let mut message = NetlinkMessage::new(header, NetlinkPayload::from(message));
    message.finalize();
    let start = bytes.len();
    // Each message starts at a multiple of four.
    bytes.resize(start + message.buffer_len().next_multiple_of(4), 0);
    message.serialize(&mut bytes[start..]);
}

fn receive(socket: &Socket, buffer: &mut [u8]) -> io::Result<usize> {
    loop {
        match socket.recv(&mut &mut *buffer, 0) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}

fn transport(error: io::Error) -> Refusal {
    Refusal { sequence: 0, errno: Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO)) }
}

/// The messages of one datagram from the kernel.
pub(crate) struct Answers<'a>(pub(crate) &'a [u8]);

/// One message from the kernel.
pub(crate) struct Answer<'a> {
    pub kind: u16,
    pub sequence: u32,
    pub payload: &'a [u8],
    pub whole: &'a [u8],
}

impl<'a> Iterator for Answers<'a> {
    type Item = Answer<'a>;

    fn next(&mut self) -> Option<Answer<'a>> {
        const HEADER: usize = 16;
        let header: &[u8; HEADER] = self.0.first_chunk()?;
        let length = u32::from_ne_bytes([header[0], header[1], header[2], header[3]]) as usize;
        let whole = self.0.get(..length).filter(|whole| whole.len() >= HEADER)?;
        self.0 = self.0.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(Answer {
            kind: u16::from_ne_bytes([header[4], header[5]]),
            sequence: u32::from_ne_bytes([header[8], header[9], header[10], header[11]]),
            payload: &whole[HEADER..],
            whole,
        })
    }
}

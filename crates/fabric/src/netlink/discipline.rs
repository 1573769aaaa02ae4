//! Queueing disciplines: netem made, changed and read back.

use std::collections::BTreeMap;
use std::io;

use netlink_packet_core::{DefaultNla, NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::tc::{TcAttribute, TcHandle, TcMessage};

use super::{Attributes, Batch, Netlink};
use crate::netem::Netem;

/// `TCA_KIND`: the name of a queueing discipline.
const KIND: u16 = 1;
/// `TCA_OPTIONS`: its own parameters.
const OPTIONS: u16 = 2;
/// `TCA_STATS2`: what it has done …
const STATS: u16 = 7;
/// … of which `TCA_STATS_BASIC` is what it has let through: 64 bits of bytes, 32 of packets …
const STATS_BASIC: u16 = 1;
/// … `TCA_STATS_QUEUE` has packets and bytes in it, drops, requeues, overlimits, 32 bits each …
const STATS_QUEUE: u16 = 3;
/// … and `TCA_STATS_PKT64` is there in the place of a number of packets that does not fit into 32 bits (Linux 5.5).
const STATS_PACKETS: u16 = 8;
/// `struct tcmsg`.
const HEADER: usize = 20;

/// The name under which the kernel has netem.
const NETEM: &str = "netem";

/// A netem at work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct KeptNetem {
    /// Its parameters as the kernel tells them; absent where it tells something that nobody here asks for.
    pub parameters: Option<Netem>,
    /// What it has done since it was made.
    pub work: QueueWork,
}

/// What a queueing discipline has done with packets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QueueWork {
    /// Packets that it has let through.
    pub passed: u64,
    /// Ethernet bytes that it has let through.
    pub passed_bytes: u64,
    /// Packets that it has dropped, for whatever reason.
    pub drops: u32,
    /// Packets that are in it.
    pub waiting: u32,
}

impl Batch {
    /// Makes netem the queue of an interface that has none.
    pub(crate) fn add_netem(&mut self, index: u32, netem: &Netem) {
        let intent = format!("shape interface {index} with netem");
        self.push(intent, request(index, netem), NLM_F_CREATE | NLM_F_EXCL);
    }

    /// Takes the queueing discipline of an interface away, with all that is in it.
    pub(crate) fn delete_queue(&mut self, index: u32) {
        let mut message = TcMessage::with_index(index as i32);
        message.header.parent = TcHandle::ROOT;
        let intent = format!("empty the queue of interface {index}");
        self.push(intent, RouteNetlinkMessage::DelQueueDiscipline(message), 0);
    }

    /// Gives the netem of an interface other parameters. Packets in it keep their times.
    pub(crate) fn change_netem(&mut self, index: u32, netem: &Netem) {
        self.push(format!("change the netem of interface {index}"), request(index, netem), 0);
    }
}

fn request(index: u32, netem: &Netem) -> RouteNetlinkMessage {
    let mut message = TcMessage::with_index(index as i32);
    message.header.parent = TcHandle::ROOT;
    message.attributes.push(TcAttribute::Kind(NETEM.to_owned()));
    message.attributes.push(TcAttribute::Other(DefaultNla::new(OPTIONS, netem.encode())));
    RouteNetlinkMessage::NewQueueDiscipline(message)
}

impl Netlink {
    /// All netems of this network namespace, by interface.
    pub(crate) fn netems(&mut self) -> io::Result<BTreeMap<u32, KeptNetem>> {
        let mut netems = BTreeMap::new();
        let message = RouteNetlinkMessage::GetQueueDiscipline(TcMessage::default());
        self.dump(message, |answer| netems.extend(read(answer.payload)))?;
        Ok(netems)
    }
}

/// One answer, if it is about a netem.
fn read(message: &[u8]) -> Option<(u32, KeptNetem)> {
    let (header, attributes) = message.split_at_checked(HEADER)?;
    let index = u32::from_ne_bytes(*header[4..].first_chunk()?);
    let attribute = |wanted| Attributes(attributes).find(|(kind, _)| *kind == wanted).map(|(_, payload)| payload);
    if attribute(KIND)?.strip_suffix(b"\0")? != NETEM.as_bytes() {
        return None;
    }
    let work = attribute(STATS).map(QueueWork::read).unwrap_or_default();
    Some((index, KeptNetem { parameters: attribute(OPTIONS).and_then(Netem::decode), work }))
}

impl QueueWork {
    /// Reads the payload of `TCA_STATS2`; what the kernel does not tell is 0.
    fn read(stats: &[u8]) -> Self {
        let part = |wanted| Attributes(stats).find(|(kind, _)| *kind == wanted).map(|(_, payload)| payload);
        let word = |payload: Option<&[u8]>, at: usize| {
            payload.and_then(|payload| payload.get(at..)?.first_chunk()).map_or(0, |word| u32::from_ne_bytes(*word))
        };
        let long = |payload: Option<&[u8]>| payload.and_then(<[u8]>::first_chunk).map(|word| u64::from_ne_bytes(*word));
        let (basic, queue) = (part(STATS_BASIC), part(STATS_QUEUE));
        QueueWork {
            passed: long(part(STATS_PACKETS)).unwrap_or_else(|| u64::from(word(basic, 8))),
            passed_bytes: long(basic).unwrap_or(0),
            drops: word(queue, 8),
            waiting: word(queue, 0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::attribute;
    use super::*;

    fn answer(kind: &str, options: &[u8], drops: u32) -> Vec<u8> {
        let mut message = vec![0; HEADER];
        message[4..8].copy_from_slice(&42u32.to_ne_bytes());
        let mut name = kind.as_bytes().to_vec();
        name.push(0);
        // The header tells the length without the padding.
        message.extend_from_slice(&((4 + name.len()) as u16).to_ne_bytes());
        message.extend_from_slice(&KIND.to_ne_bytes());
        message.extend_from_slice(&name);
        message.resize(message.len().next_multiple_of(4), 0);
        attribute(&mut message, OPTIONS, options);
        let mut stats = Vec::new();
        let basic = [5000u64.to_ne_bytes().as_slice(), &40u32.to_ne_bytes(), &[0; 4]].concat();
        attribute(&mut stats, STATS_BASIC, &basic);
        let words = [7, 0, drops, 0, 0u32].map(u32::to_ne_bytes).concat();
        attribute(&mut stats, STATS_QUEUE, &words);
        attribute(&mut message, STATS, &stats);
        message
    }

    #[test]
    fn an_answer_tells_the_interface_its_parameters_and_its_work() {
        let netem = Netem { limit: 9, rate: 1000, ..Netem::default() };
        let work = QueueWork { passed: 40, passed_bytes: 5000, drops: 3, waiting: 7 };
        let kept = KeptNetem { parameters: Some(netem.clone()), work };
        assert_eq!(read(&answer("netem", &netem.encode(), 3)), Some((42, kept)));
        assert_eq!(read(&answer("noqueue", &[], 3)), None);
        let unread = KeptNetem { parameters: None, work };
        assert_eq!(read(&answer("netem", &[0; 8], 3)), Some((42, unread)));
    }

    #[test]
    fn more_packets_than_fit_into_32_bits_are_counted() {
        let mut stats = Vec::new();
        attribute(&mut stats, STATS_BASIC, &[0; 16]);
        attribute(&mut stats, STATS_PACKETS, &(1u64 << 33).to_ne_bytes());
        assert_eq!(QueueWork::read(&stats).passed, 1 << 33);
    }

    #[test]
    fn a_cut_answer_does_not_panic() {
        let whole = answer("netem", &Netem::default().encode(), 1);
        for length in 0..whole.len() {
            let _ = read(&whole[..length]);
        }
    }
}

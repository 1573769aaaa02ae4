//! What captures say became of packets, and what a model that is driven by the same packets decides.

use std::collections::{BTreeMap, BTreeSet};

use link::{Cause, Network, Within};
use machine::Time;

use super::pcapng::{Capture, Packet};

/// What entered the model: by its number the sender's port and the packet.
pub(crate) type Sent = BTreeMap<u64, (usize, Packet)>;

/// One end of a packet's way: at which port, and what became of it there.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Fate {
    pub(crate) at: u64,
    pub(crate) id: u64,
    pub(crate) port: usize,
    pub(crate) is_copy: bool,
    /// Bits of the frame, in the order of the halves.
    pub(crate) flips: Vec<u64>,
    /// None for one that arrived; `loss (up)` and so on.
    pub(crate) dropped: Option<String>,
}

/// What the files say of all packets that entered the model: those that were sent, and every fate.
pub(crate) fn recorded(captures: &[Capture]) -> (Sent, BTreeSet<Fate>) {
    let (mut sent, mut fates) = (Sent::new(), BTreeSet::new());
    for (port, capture) in captures.iter().enumerate() {
        for packet in &capture.packets {
            // The others are address resolution, which the relay answers, and what leads nowhere.
            let Some(id) = packet.id else { continue };
            let dropped = packet.said("dropped: ").first().map(|&cause| cause.to_owned());
            // What is lost in its sender's half later is there a second time.
            let is_first = packet.is_outbound && !sent.contains_key(&id);
            if is_first {
                sent.insert(id, (port, packet.clone()));
            }
            if is_first && dropped.is_none() {
                continue;
            }
            let bit = |words: &str| {
                let numbers: Vec<u64> = words.split(' ').filter_map(|word| word.parse().ok()).collect();
                numbers[1] * 8 + numbers[0]
            };
            let flips = packet.said("corrupted: ").into_iter().map(bit).collect();
            let is_copy = !packet.said("duplicate").is_empty();
            fates.insert(Fate { at: packet.at, id, port, is_copy, flips, dropped });
        }
    }
    (sent, fates)
}

/// Takes what a network, whose payloads are the numbers of packets, has decided by `until`.
pub(crate) fn collect(network: &mut Network<u64>, until: Time, sent: &Sent, fates: &mut BTreeSet<Fate>) {
    let bits = |id: &u64, flips: link::Flips| {
        let ethernet = 14 * 8;
        let body = sent[id].1.frame.len() as u32 * 8 - ethernet;
        flips.iter().filter_map(|flip| flip.of(body)).map(|bit| u64::from(ethernet + bit)).collect()
    };
    while let Some(one) = network.poll(until) {
        let flips = bits(&one.payload, one.flips);
        let (at, port) = (one.at.as_nanos(), one.to.index());
        fates.insert(Fate { at, id: one.payload, port, is_copy: one.is_copy, flips, dropped: None });
    }
    while let Some(one) = network.poll_loss() {
        let (port, within) = match one.within {
            Within::Up => (one.from, "up"),
            Within::Pair(to) => (to, "pair"),
            Within::Down(to) => (to, "down"),
        };
        let cause = match one.cause {
            Cause::Loss => "loss",
            Cause::Queue => "queue",
            Cause::Partition => "partition",
            Cause::Cut => "cut",
            Cause::Overflow => panic!("the model has no room"),
        };
        let (dropped, flips) = (Some(format!("{cause} ({within})")), bits(&one.payload, one.flips));
        let (at, port) = (one.at.as_nanos(), port.index());
        fates.insert(Fate { at, id: one.payload, port, is_copy: one.is_copy, flips, dropped });
    }
}

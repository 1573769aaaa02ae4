//! What a plan's transfer should take by the formula of stop-and-wait, where it has one.

use link::HalfLink;
use machine::{Ratio, Size, Span};
use p2mp::classic::published::HEADER;
use p2mp::classic::{StopAndWait, data_segments};
use topology::Plan;
use topology::plan::{NodeId, Program, Role, SegmentTimeout, TransferMode};

use crate::roles;
use crate::run::weigh;

/// The transfer that `plan` is, with all that its links add; none where the formula says nothing: more than one sender,
/// an adaptive timeout, receivers that are not alike, a timeout shorter than the round trip, links that do more to
/// packets than lose each by the same chance, or faults.
pub fn stop_and_wait(plan: &Plan) -> Option<StopAndWait> {
    let mut senders =
        plan.node_ids().filter(|node| matches!(plan.node(*node).program, Program::Role(Role::P2mpSender { .. })));
    let (sender, None) = (senders.next()?, senders.next()) else { return None };
    let Program::Role(Role::P2mpSender { to, file, mss, mode, .. }) = &plan.node(sender).program else { return None };
    let TransferMode::StopAndWait { timeout: SegmentTimeout::Fixed(timeout) | SegmentTimeout::Shared(timeout) } = mode
    else {
        return None;
    };
    let length = roles::size(plan, *file).ok()?;
    // A file of less than a segment has no segment of full size; the last one is shorter for all others, too, which is
    // too little to count.
    let data = (*mss).min(u32::try_from(length).unwrap_or(u32::MAX));
    let mut ways = to.iter().map(|receiver| way(plan, sender, *receiver, data));
    let first = ways.next()??;
    if !plan.events().is_empty() || ways.any(|other| other != Some(first)) || *timeout <= first.round_trip {
        return None;
    }
    Some(StopAndWait {
        // The end is acknowledged as any other.
        segments: data_segments(length, *mss) + 1,
        receivers: to.len() as u32,
        loss: first.loss,
        acknowledgement_loss: first.acknowledgement_loss,
        timeout: *timeout,
        round_trip: first.round_trip,
        sending: first.sending * to.len() as u64,
    })
}

/// One receiver's way from and to the sender.
#[derive(Clone, Copy, PartialEq)]
struct Way {
    loss: Ratio,
    acknowledgement_loss: Ratio,
    round_trip: Span,
    /// How long the sender's own link is busy with one segment.
    sending: Span,
}

fn way(plan: &Plan, sender: NodeId, receiver: NodeId, data: u32) -> Option<Way> {
    let Program::Role(Role::P2mpReceiver { p, .. }) = &plan.node(receiver).program else { return None };
    let there = plan.node(receiver).interfaces.first()?;
    let here = plan.node(sender).interfaces.iter().find(|interface| interface.network == there.network)?;
    let pair = |from: NodeId, to: NodeId| {
        let pair = plan.pairs().iter().find(|pair| (pair.from, pair.to) == (from, to));
        pair.map(|pair| pair.link.clone()).unwrap_or_default()
    };
    let (out, back) = (pair(sender, receiver), pair(receiver, sender));
    let mtu = plan.network(there.network).mtu;
    let weigh = |data: u32| weigh(HEADER as u32 + data, there.address.is_ipv4(), mtu);
    let ((segment_packets, segment_bytes), (ack_packets, ack_bytes)) = (weigh(data), weigh(0));
    let outwards = [&here.link.up, &out, &there.link.down];
    let backwards = [&there.link.up, &back, &here.link.down];
    if outwards.iter().chain(&backwards).any(|half| does_more_than_lose(half)) {
        return None;
    }
    let kept = (1.0 - p.as_f64()) * survival(&outwards, segment_packets);
    let on_the_way = outwards.iter().chain(&backwards).fold(Span::ZERO, |sum, half| sum + half.delay);
    // The sender's own line is counted for all receivers together; everybody has the others to itself.
    let beyond = [&out, &there.link.down].into_iter().map(|half| busy(half, segment_bytes));
    let back_again = backwards.into_iter().map(|half| busy(half, ack_bytes));
    Some(Way {
        loss: share(1.0 - kept)?,
        acknowledgement_loss: share(1.0 - survival(&backwards, ack_packets))?,
        round_trip: beyond.chain(back_again).fold(on_the_way, |sum, span| sum + span),
        sending: busy(&here.link.up, segment_bytes),
    })
}

/// The share of datagrams of so many packets that no half link loses.
fn survival(halves: &[&HalfLink], packets: u32) -> f64 {
    halves.iter().map(|half| (1.0 - half.loss.as_f64()).powi(packets as i32)).product()
}

fn does_more_than_lose(half: &HalfLink) -> bool {
    let mangled = [half.reorder, half.duplicate, half.corrupt].iter().any(|share| *share != Ratio::ZERO);
    mangled || half.burst.is_some() || !half.drop.is_empty() || half.trace.is_some()
}

fn share(value: f64) -> Option<Ratio> {
    Ratio::from_parts_per_billion((value * 1e9).round() as u32)
}

fn busy(half: &HalfLink, bytes: u32) -> Span {
    half.rate.map_or(Span::ZERO, |rate| rate.time_for(Size::from_bytes(u64::from(bytes))))
}

#[cfg(test)]
mod tests {
    use machine::Seed;
    use topology::{Overrides, Source};

    use super::*;

    fn theory(nodes: &str, rest: &str) -> Option<StopAndWait> {
        let text = format!("name: t\nfiles: {{ f: {{ size: 10kB }} }}\nnodes:\n{nodes}\n{rest}\n");
        stop_and_wait(&topology::load(&Source::new("t.yaml", text), &Overrides::new(Seed::new(1))).unwrap())
    }

    const SENDER: &str = "  s: { role: p2mp-sender, to: r, file: f, mss: 500, timeout: 1s, \
        link: { up: { rate: 10Mbit, loss: 1%, delay: 1ms }, down: { loss: 2%, delay: 2ms } } }";

    #[test]
    fn links_and_receivers_lose_together() {
        let receiver = "  r: { count: 3, role: p2mp-receiver, p: 5%, link: { down: { loss: 10% }, up: { loss: 3%, delay: 4ms } } }";
        let found = theory(&format!("{SENDER}\n{receiver}"), "").unwrap();
        assert_eq!((found.segments, found.receivers), (21, 3));
        assert!((found.loss.as_f64() - (1.0 - 0.99 * 0.9 * 0.95)).abs() < 1e-9);
        assert!((found.acknowledgement_loss.as_f64() - (1.0 - 0.98 * 0.97)).abs() < 1e-9);
        assert_eq!(found.round_trip, Span::from_millis(1 + 2 + 4));
        // 14 + 20 + 8 + 8 + 500 bytes at 10 Mbit/s, three times.
        assert_eq!(found.sending, Span::from_micros(440 * 3));
    }

    #[test]
    fn it_is_silent_where_it_knows_nothing() {
        let receiver = "  r: { count: 3, role: p2mp-receiver, p: 5% }";
        assert!(theory(&format!("{SENDER}\n{receiver}"), "").is_some());
        let adaptive = SENDER.replace("timeout: 1s, ", "");
        let short = SENDER.replace("timeout: 1s", "timeout: 2ms");
        for (nodes, rest) in [
            (format!("{adaptive}\n{receiver}"), ""),
            (format!("{short}\n{receiver}"), ""),
            (format!("{SENDER}\n{receiver}"), "events: [{ at: 1s, kill: r-1 }]"),
            (format!("{SENDER}\n{receiver}"), "pairs: [{ from: s, to: r-1, link: { delay: 1ms } }]"),
            (format!("{SENDER}\n{receiver}\n{}", SENDER.replace("  s:", "  s2:")), ""),
        ] {
            assert!(theory(&nodes, rest).is_none(), "{nodes}\n{rest}");
        }
    }
}

//! Where channels bring most.
//!
//! A channel's speed is its peer's pace, and holds for each connection by itself. So all of them belong on the fastest peer
//! that is known, and the question is what it costs to get there: a channel that moves brings nothing until its first answer,
//! and whether a peer that was never tried is faster shows only on a channel that goes there.
//!
//! Both are answered by the time at which the file would be here. For a peer that was never tried that time is a mean over
//! what its pace may be: evenly anything up to that of the slowest that was met, and as much more as one more of them would
//! be expected to be slower (the maximum of `k` even draws is `k / (k + 1)` of their range). With the better peer found, the
//! other channels follow it where that pays.

/// What may be put somewhere.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Slot {
    /// What it is doing, if anything.
    pub(super) work: Option<Work>,
    /// Bytes that would have to come again if it ended now.
    pub(super) begun: f64,
}

/// What a channel is doing.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Work {
    /// The peer, by position.
    pub(super) peer: usize,
    /// Seconds from now until bytes come on it; 0 where they do.
    pub(super) starts: f64,
}

/// A peer that may be used.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Candidate {
    /// Seconds for each byte, where that was measured.
    pub(super) pace: Option<f64>,
    /// Seconds for each byte at least, where it is only known to be slow.
    pub(super) at_least: f64,
    /// Whether channels to it may be made now: one that broke off is left alone for a while, also if others to it stand.
    pub(super) is_open: bool,
}

/// What is known when channels are placed.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct State {
    pub(super) slots: Vec<Slot>,
    pub(super) peers: Vec<Candidate>,
    /// Bytes that are still to come.
    pub(super) missing: f64,
    /// Seconds from the making of a channel to its first byte.
    pub(super) latency: f64,
}

/// Puts a channel somewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Move {
    pub(super) slot: usize,
    pub(super) peer: usize,
}

/// What a pace may be is looked at in so many points.
const POINTS: usize = 16;

/// Moves must bring the end nearer by this share: a better peer may be named soon, and they cost what they cost.
const WORTH_MOVING: f64 = 0.06;

/// A trial must: chances are not exact.
const WORTH: f64 = 0.015;

/// Deliveries that show a pace.
const SHOWN_AFTER: f64 = 1000.0;

/// Bytes that come on a channel: from when, until when, how many a second. In seconds from now.
#[derive(Clone, Copy, Debug)]
struct Flow {
    from: f64,
    to: f64,
    rate: f64,
}

impl Flow {
    fn on(from: f64, rate: f64) -> Flow {
        Flow { from, to: f64::INFINITY, rate }
    }
}

/// When so many bytes are here, in seconds from now; infinite if never.
fn end_of(flows: &[Flow], missing: f64) -> f64 {
    let mut instants: Vec<f64> = flows.iter().flat_map(|flow| [flow.from, flow.to]).filter(|t| t.is_finite()).collect();
    instants.push(0.0);
    instants.sort_by(f64::total_cmp);
    let mut left = missing;
    for (index, &at) in instants.iter().enumerate() {
        let rate: f64 = flows.iter().filter(|flow| flow.from <= at && at < flow.to).map(|flow| flow.rate).sum();
        let until = instants.get(index + 1).copied().unwrap_or(f64::INFINITY);
        if rate > 0.0 && at + left / rate <= until {
            return at + left / rate;
        }
        if until.is_infinite() {
            break;
        }
        left -= rate * (until - at);
    }
    f64::INFINITY
}

impl State {
    /// Bytes a second of a peer, as far as known: where it was not measured, in the middle of what it may be.
    fn rate(&self, peer: usize) -> f64 {
        let candidate = self.peers[peer];
        1.0 / candidate.pace.unwrap_or_else(|| candidate.at_least.max(self.slowest() / 2.0))
    }

    /// The pace that the slowest of all may have.
    fn slowest(&self) -> f64 {
        let measured: Vec<f64> = self.peers.iter().filter_map(|peer| peer.pace).collect();
        let count = measured.len() as f64;
        let worst = self.peers.iter().map(|peer| peer.pace.unwrap_or(peer.at_least)).fold(0.0, f64::max);
        if count == 0.0 { worst.max(1e-4) } else { worst * (count + 1.0) / count }
    }

    fn flow(&self, slot: &Slot) -> Option<Flow> {
        slot.work.map(|work| Flow::on(work.starts, self.rate(work.peer)))
    }

    fn flows(&self) -> Vec<Flow> {
        self.slots.iter().filter_map(|slot| self.flow(slot)).collect()
    }

    /// The best peer that was measured, of those that are open.
    fn best(&self) -> Option<usize> {
        let open = (0..self.peers.len()).filter(|peer| self.peers[*peer].is_open);
        let measured = open.filter_map(|peer| self.peers[peer].pace.map(|pace| (peer, pace)));
        measured.min_by(|a, b| a.1.total_cmp(&b.1)).map(|(peer, _)| peer)
    }

    fn channels_on(&self, peer: usize) -> usize {
        self.slots.iter().filter(|slot| slot.work.is_some_and(|work| work.peer == peer)).count()
    }

    /// Peers that were never tried, and nobody tries now.
    fn untried(&self) -> impl Iterator<Item = usize> {
        let is_untried =
            |peer: &usize| self.peers[*peer].is_open && !self.is_understood(*peer) && self.channels_on(*peer) == 0;
        (0..self.peers.len()).filter(is_untried)
    }

    /// What to do next, if anything; to be asked again when it is done.
    pub(super) fn next_moves(&self) -> Vec<Move> {
        let one = |next: Move| vec![next];
        self.fill().map(one).or_else(|| self.follow()).or_else(|| self.explore().map(one)).unwrap_or_default()
    }

    /// A slot without work.
    fn fill(&self) -> Option<Move> {
        let slot = self.slots.iter().position(|slot| slot.work.is_none())?;
        let somebody_works = self.slots.iter().any(|slot| slot.work.is_some());
        let now = end_of(&self.flows(), self.missing);
        if somebody_works && now <= self.latency {
            // It would come too late.
            return None;
        }
        let best = self.best();
        let tried = self.explored(slot).zip(self.untried().next());
        let used = best.map(|peer| {
            let mut flows = self.flows();
            flows.push(Flow::on(self.latency, self.rate(peer)));
            (end_of(&flows, self.missing), peer)
        });
        match (tried, used) {
            (Some((end, peer)), Some((with_best, best))) => {
                Some(Move { slot, peer: if end < with_best { peer } else { best } })
            }
            (None, Some((_, best))) => Some(Move { slot, peer: best }),
            // Nothing was measured yet: evenly on all that are known.
            (_, None) => {
                let usable = (0..self.peers.len()).filter(|peer| self.peers[*peer].is_open);
                usable.min_by_key(|peer| self.channels_on(*peer)).map(|peer| Move { slot, peer })
            }
        }
    }

    /// Channels to the best peer that was measured: as many as bring the end nearest, the slowest first.
    fn follow(&self) -> Option<Vec<Move>> {
        let best = self.best()?;
        let now = end_of(&self.flows(), self.missing);
        let elsewhere = |slot: &Slot| slot.work.is_some_and(|work| work.peer != best && self.is_understood(work.peer));
        let mut slots: Vec<usize> = (0..self.slots.len()).filter(|index| elsewhere(&self.slots[*index])).collect();
        let brings = |slot: &usize| self.slots[*slot].work.map_or(0.0, |work| self.rate(work.peer));
        slots.sort_by(|a, b| brings(a).total_cmp(&brings(b)));
        let moved = |count: usize| {
            let leaves = |index: &usize| slots[..count].contains(index);
            let stay = (0..self.slots.len()).filter(|index| !leaves(index));
            let mut flows: Vec<Flow> = stay.filter_map(|index| self.flow(&self.slots[index])).collect();
            flows.resize(flows.len() + count, Flow::on(self.latency, self.rate(best)));
            let again: f64 = slots[..count].iter().map(|slot| self.slots[*slot].begun).sum();
            end_of(&flows, self.missing + again)
        };
        let (end, count) = (1..=slots.len()).map(|count| (moved(count), count)).min_by(|a, b| a.0.total_cmp(&b.0))?;
        let moves = || slots[..count].iter().map(|slot| Move { slot: *slot, peer: best }).collect();
        (end < now * (1.0 - WORTH_MOVING)).then(moves)
    }

    /// Whether enough is known of a peer to leave it.
    fn is_understood(&self, peer: usize) -> bool {
        let best = self.best().and_then(|best| self.peers[best].pace).unwrap_or(0.0);
        self.peers[peer].pace.is_some() || self.peers[peer].at_least > best
    }

    /// A channel to a peer that was never tried.
    fn explore(&self) -> Option<Move> {
        let peer = self.untried().next()?;
        self.best()?;
        let now = end_of(&self.flows(), self.missing);
        // One that is on its way somewhere stays on it.
        let settled = |slot: &Slot| slot.work.is_some_and(|work| work.starts == 0.0 && self.is_understood(work.peer));
        let slots = (0..self.slots.len()).filter(|index| settled(&self.slots[*index]));
        let rate = |slot: usize| self.slots[slot].work.map_or(0.0, |work| self.rate(work.peer));
        let slot = slots.min_by(|a, b| rate(*a).total_cmp(&rate(*b)))?;
        let end = self.explored(slot)?;
        (end < now * (1.0 - WORTH)).then_some(Move { slot, peer })
    }

    /// Whether a peer that the tracker might name in so many seconds would be tried.
    pub(super) fn wants_another(&self, named_in: f64) -> bool {
        if self.best().is_none() || self.slots.iter().any(|slot| slot.work.is_none()) {
            return true;
        }
        let later = State {
            missing: self.missing - self.flows().iter().map(|flow| flow.rate).sum::<f64>() * named_in,
            ..self.clone()
        };
        let now = end_of(&later.flows(), later.missing);
        later.missing > 0.0 && later.explored(0).is_some_and(|end| end < now * (1.0 - WORTH))
    }

    /// The mean end if `slot` went to a peer that was never tried; `None` where nothing is known to compare it with.
    fn explored(&self, slot: usize) -> Option<f64> {
        let best = self.peers[self.best()?].pace?;
        let slowest = self.slowest();
        let missing = self.missing + self.slots[slot].begun;
        let others: Vec<Flow> = self
            .slots
            .iter()
            .enumerate()
            .filter(|(other, _)| *other != slot)
            .filter_map(|(_, s)| self.flow(s))
            .collect();
        let mean = (0..POINTS).map(|point| {
            let pace = slowest * (point as f64 + 0.5) / POINTS as f64;
            let known = self.latency + (pace * SHOWN_AFTER).min(best * 2.0 * SHOWN_AFTER);
            let follows = known + self.latency;
            let mut stays = others.clone();
            stays.push(Flow::on(self.latency, 1.0 / pace));
            let stayed = end_of(&stays, missing);
            if pace < best {
                let cut = others.iter().map(|flow| Flow { to: known.max(flow.from), ..*flow });
                let new = others.iter().map(|_| Flow::on(follows, 1.0 / pace));
                let moved: Vec<Flow> = cut.chain(new).chain([Flow::on(self.latency, 1.0 / pace)]).collect();
                stayed.min(end_of(&moved, missing))
            } else {
                let mut returns = others.clone();
                returns.push(Flow { from: self.latency, to: known, rate: 1.0 / pace });
                returns.push(Flow::on(follows, 1.0 / best));
                stayed.min(end_of(&returns, missing))
            }
        });
        Some(mean.sum::<f64>() / POINTS as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measured(pace_ms: f64) -> Candidate {
        Candidate { pace: Some(pace_ms * 1e-6), at_least: 0.0, is_open: true }
    }

    const UNTRIED: Candidate = Candidate { pace: None, at_least: 0.0, is_open: true };

    fn on(peer: usize) -> Slot {
        Slot { work: Some(Work { peer, starts: 0.0 }), begun: 0.0 }
    }

    const FREE: Slot = Slot { work: None, begun: 0.0 };

    /// Carries out moves until there are none; where the channels are then.
    fn settle(mut state: State) -> Vec<Option<usize>> {
        for _ in 0..100 {
            let moves = state.next_moves();
            if moves.is_empty() {
                return state.slots.iter().map(|slot| slot.work.map(|work| work.peer)).collect();
            }
            for Move { slot, peer } in moves {
                let work = Some(Work { peer, starts: state.latency });
                assert_ne!(state.slots[slot].work.map(|work| work.peer), Some(peer), "a move leads elsewhere");
                state.slots[slot] = Slot { work, begun: 0.0 };
            }
        }
        panic!("it never settles: {state:?}");
    }

    fn state(slots: [Slot; 5], peers: Vec<Candidate>, missing: f64) -> State {
        State { slots: slots.to_vec(), peers, missing, latency: 1.0 }
    }

    #[test]
    fn the_end_is_where_the_flows_have_brought_everything() {
        let flows = [Flow::on(0.0, 100.0), Flow::on(2.0, 300.0), Flow { from: 1.0, to: 2.0, rate: 50.0 }];
        assert_eq!(end_of(&flows, 50.0), 0.5);
        assert_eq!(end_of(&flows, 250.0), 2.0);
        assert_eq!(end_of(&flows, 650.0), 3.0);
        assert_eq!(end_of(&[], 1.0), f64::INFINITY);
        assert_eq!(end_of(&[Flow { from: 0.0, to: 1.0, rate: 10.0 }], 11.0), f64::INFINITY);
    }

    #[test]
    fn peers_of_which_nothing_is_known_share_the_channels() {
        let placed = settle(state([FREE; 5], vec![UNTRIED; 2], 8e5));
        assert_eq!(placed.iter().filter(|peer| **peer == Some(0)).count(), 3);
        assert_eq!(placed.iter().flatten().count(), 5);
        assert_eq!(settle(state([FREE; 5], vec![], 8e5)), [None; 5]);
    }

    #[test]
    fn channels_follow_to_the_faster_peer_while_that_pays() {
        let slots = [on(0), on(0), on(0), on(1), on(1)];
        let early = state(slots, vec![measured(50.0), measured(150.0)], 7e5);
        assert_eq!(settle(early), [Some(0); 5]);
        // 70 kB at 73 kB/s take less than a channel takes to move.
        let late = state(slots, vec![measured(50.0), measured(150.0)], 7e4);
        assert_eq!(settle(late), [Some(0), Some(0), Some(0), Some(1), Some(1)]);
        let alike = state(slots, vec![measured(50.0), measured(51.0)], 7e5);
        assert_eq!(settle(alike), [Some(0), Some(0), Some(0), Some(1), Some(1)]);
    }

    #[test]
    fn a_peer_that_was_never_tried_is_tried_while_there_is_time_to_gain_by_it() {
        let with = |pace: f64, missing| state([on(0); 5], vec![measured(pace), measured(190.0), UNTRIED], missing);
        assert_eq!(settle(with(90.0, 7e5)).iter().filter(|peer| **peer == Some(2)).count(), 1);
        assert_eq!(settle(with(90.0, 1e5)), [Some(0); 5]);
        // There is hardly a faster one.
        assert_eq!(settle(with(1.0, 7e6)), [Some(0); 5]);
        assert!(with(90.0, 7e5).wants_another(0.0));
        assert!(!with(1.0, 7e6).wants_another(0.0));
    }

    #[test]
    fn who_broke_off_is_left_alone_though_other_channels_to_it_stand() {
        let slots = [on(0), on(0), FREE, FREE, FREE];
        let shut = Candidate { is_open: false, ..measured(50.0) };
        assert_eq!(settle(state(slots, vec![shut], 5e5)), [Some(0), Some(0), None, None, None]);
        assert_eq!(settle(state(slots, vec![shut, measured(90.0)], 5e5))[2..], [Some(1); 3]);
    }

    #[test]
    fn a_channel_that_ended_is_made_again_unless_the_others_are_done_first() {
        let slots = [on(0), on(0), on(0), on(0), FREE];
        assert_eq!(settle(state(slots, vec![measured(50.0)], 5e5)), [Some(0); 5]);
        assert_eq!(settle(state(slots, vec![measured(50.0)], 5e4))[4], None);
    }
}

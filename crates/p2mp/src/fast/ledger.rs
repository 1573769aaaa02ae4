//! What was sent of each block, and what is still to be sent.

use std::collections::{BTreeSet, VecDeque};

use super::layout::{Block, Layout};

/// How many runs of packets are remembered for each block: those in flight. More would only be old ones.
const RUNS: usize = 32;

/// The sender's account of its blocks.
///
/// All originals go out once, in order: the *pass*. Beside it, symbols are scheduled for blocks of which somebody lacks
/// some: *urgent* ones, because packets were lost, go before the pass; *bulk*, for who lacks most of a block, because it
/// came late or is slow, goes after it, so that nobody waits for such a receiver.
#[derive(Clone, Debug)]
pub struct Ledger {
    blocks: Vec<Account>,
    urgent: BTreeSet<u32>,
    bulk: BTreeSet<u32>,
    /// The block that was served last of those.
    bulk_served: u32,
    /// The next original of the pass.
    pass: (u32, u16),
}

#[derive(Clone, Debug, Default)]
struct Account {
    scheduled: u16,
    /// Recovery symbols sent so far; beyond the last one symbols are sent again.
    recoveries: u32,
    /// The next original to send again.
    original: u16,
    /// Packets sent for it: the first one's number, and how many.
    sent: VecDeque<(u64, u16)>,
}

/// Symbols beside each other of one block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cut {
    /// The block.
    pub block: u32,
    /// The first.
    pub symbol: u16,
    /// How many.
    pub count: u16,
}

impl Ledger {
    /// Nothing of `layout` is sent.
    pub fn new(layout: &Layout) -> Self {
        Ledger {
            blocks: vec![Account::default(); layout.blocks() as usize],
            urgent: BTreeSet::new(),
            bulk: BTreeSet::new(),
            bulk_served: 0,
            pass: (0, 0),
        }
    }

    /// The account of what is sent to one receiver from now on, who has seen packets up to `highest`. What was scheduled for
    /// others is not for it.
    pub fn part(&self, highest: u64) -> Self {
        let account = |account: &Account| {
            let in_flight = account.sent.iter().filter(|(first, count)| first + u64::from(*count) > highest + 1);
            Account { scheduled: 0, sent: in_flight.copied().collect(), ..*account }
        };
        Ledger {
            blocks: self.blocks.iter().map(account).collect(),
            urgent: BTreeSet::new(),
            bulk: BTreeSet::new(),
            bulk_served: self.bulk_served,
            pass: self.pass,
        }
    }

    /// Whether every original was sent once, or needed by nobody.
    pub fn pass_is_over(&self) -> bool {
        self.pass.0 as usize >= self.blocks.len()
    }

    /// The first block that the pass has not begun.
    pub fn pass_reaches(&self) -> u32 {
        self.pass.0 + u32::from(self.pass.1 > 0)
    }

    /// Whether anything is scheduled.
    pub fn is_idle(&self) -> bool {
        self.pass_is_over() && self.urgent.is_empty() && self.bulk.is_empty()
    }

    /// How many symbols of `block` are scheduled, or were sent after the packet numbered `highest`.
    pub fn outstanding(&self, block: &Block, highest: u64) -> u32 {
        let account = &self.blocks[block.index as usize];
        let flying = account.sent.iter().rev().map_while(|(first, count)| {
            let end = first + u64::from(*count);
            (end > highest + 1).then(|| end - (highest + 1).max(*first))
        });
        let rest_of_pass = if self.pass.0 == block.index { block.originals - self.pass.1 } else { 0 };
        flying.sum::<u64>() as u32 + u32::from(account.scheduled) + u32::from(rest_of_pass)
    }

    /// The last packet that carried a symbol of the block; 0 if none did.
    pub fn last_sent(&self, block: u32) -> u64 {
        let sent = self.blocks.get(block as usize).and_then(|account| account.sent.back());
        sent.map_or(0, |(first, count)| first + u64::from(*count) - 1)
    }

    /// Schedules so many more symbols of `block`.
    pub fn schedule(&mut self, block: &Block, count: u32, is_bulk: bool) {
        let account = &mut self.blocks[block.index as usize];
        // More than the whole block at once helps nobody.
        account.scheduled = (u32::from(account.scheduled) + count).min(u32::from(block.symbols())) as u16;
        let (queue, other) = if is_bulk { (&mut self.bulk, &self.urgent) } else { (&mut self.urgent, &self.bulk) };
        if !other.contains(&block.index) {
            queue.insert(block.index);
        } else if !is_bulk {
            self.bulk.remove(&block.index);
            self.urgent.insert(block.index);
        }
    }

    /// Takes what goes out next: at most `most` symbols, numbered from `number` on. The pass leaves out blocks that
    /// `is_needed` denies.
    pub fn take(
        &mut self,
        layout: &Layout,
        most: u16,
        number: u64,
        mut is_needed: impl FnMut(u32) -> bool,
    ) -> Option<Cut> {
        if let Some(block) = self.urgent.first().copied() {
            return self.take_scheduled(layout, block, most, number);
        }
        while !self.pass_is_over() {
            let (index, symbol) = self.pass;
            let block = layout.block(index)?;
            if symbol == 0 && !is_needed(index) {
                self.pass.0 += 1;
                continue;
            }
            let count = most.min(block.originals - symbol);
            self.pass = if symbol + count == block.originals { (index + 1, 0) } else { (index, symbol + count) };
            return Some(self.note(Cut { block: index, symbol, count }, number));
        }
        // In turn, so that one who never has enough does not keep the others waiting.
        let next = self.bulk.range(self.bulk_served + 1..).next().or_else(|| self.bulk.first());
        let block = *next?;
        self.bulk_served = block;
        self.take_scheduled(layout, block, most, number)
    }

    fn take_scheduled(&mut self, layout: &Layout, index: u32, most: u16, number: u64) -> Option<Cut> {
        let block = layout.block(index)?;
        let account = &mut self.blocks[index as usize];
        let (originals, recoveries) = (u32::from(block.originals), u32::from(block.recoveries));
        // Who lacks half a block is served with originals, which cost nobody a computation.
        let at = account.recoveries % (originals + recoveries);
        let (symbol, end) = if account.scheduled >= block.originals / 2 || at >= recoveries {
            (account.original, block.originals)
        } else {
            (block.originals + at as u16, block.symbols())
        };
        let count = most.min(account.scheduled).min(end - symbol);
        account.scheduled -= count;
        if symbol < block.originals {
            account.original = (symbol + count) % block.originals;
            if at >= recoveries {
                account.recoveries += u32::from(count);
            }
        } else {
            account.recoveries += u32::from(count);
        }
        if account.scheduled == 0 {
            self.urgent.remove(&index);
            self.bulk.remove(&index);
        }
        Some(self.note(Cut { block: index, symbol, count }, number))
    }

    fn note(&mut self, cut: Cut, number: u64) -> Cut {
        let sent = &mut self.blocks[cut.block as usize].sent;
        match sent.back_mut() {
            // A run has room for so many; somebody who lacks everything for ever makes the next.
            Some((first, count)) if *first + u64::from(*count) == number && *count <= u16::MAX - cut.count => {
                *count += cut.count;
            }
            _ => {
                if sent.len() == RUNS {
                    sent.pop_front();
                }
                sent.push_back((number, cut.count));
            }
        }
        cut
    }
}

#[cfg(test)]
mod tests {
    use super::super::manifest::{FileEntry, Manifest};
    use super::*;

    fn layout(symbols: u64) -> Layout {
        Layout::new(&Manifest::new(vec![FileEntry::new("f", symbols * 1000)]).unwrap(), 1000).unwrap()
    }

    #[test]
    fn each_original_goes_out_once_in_order() {
        let layout = layout(2500);
        let mut ledger = Ledger::new(&layout);
        let (mut number, mut seen) = (1, Vec::new());
        while let Some(cut) = ledger.take(&layout, 44, number, |_| true) {
            number += u64::from(cut.count);
            seen.extend((cut.symbol..cut.symbol + cut.count).map(|symbol| (cut.block, symbol)));
        }
        let originals = |block| layout.block(block).unwrap().originals;
        let all: Vec<_> = (0..3).flat_map(|block| (0..originals(block)).map(move |symbol| (block, symbol))).collect();
        assert_eq!(seen, all);
        assert!(ledger.is_idle());
    }

    #[test]
    fn what_is_in_flight_or_scheduled_is_not_scheduled_again() {
        let layout = layout(100);
        let block = layout.block(0).unwrap();
        let mut ledger = Ledger::new(&layout);
        assert_eq!(ledger.outstanding(&block, 0), 100, "the whole pass");
        assert_eq!(ledger.take(&layout, 60, 1, |_| true), Some(Cut { block: 0, symbol: 0, count: 60 }));
        assert_eq!(ledger.outstanding(&block, 0), 100);
        assert_eq!(ledger.outstanding(&block, 25), 75, "35 in flight, 40 to come");
        ledger.take(&layout, 60, 61, |_| true);
        assert_eq!(ledger.outstanding(&block, 100), 0);
        ledger.schedule(&block, 7, false);
        assert_eq!(ledger.outstanding(&block, 100), 7);
        assert_eq!(ledger.take(&layout, 60, 101, |_| true), Some(Cut { block: 0, symbol: 100, count: 7 }));
        assert_eq!(ledger.outstanding(&block, 100), 7);
        assert_eq!(ledger.outstanding(&block, 107), 0);
        assert!(ledger.is_idle());
    }

    #[test]
    fn losses_go_before_the_pass_and_late_comers_after_it() {
        let layout = layout(3000);
        let mut ledger = Ledger::new(&layout);
        ledger.take(&layout, 1000, 1, |_| true);
        let [first, second] = [0, 1].map(|block| layout.block(block).unwrap());
        ledger.schedule(&first, 1000, true);
        let blocks = |ledger: &mut Ledger| ledger.take(&layout, 1000, 5000, |_| true).map(|cut| cut.block);
        assert_eq!(blocks(&mut ledger), Some(1), "the pass goes on");
        ledger.schedule(&second, 3, false);
        assert_eq!(blocks(&mut ledger), Some(1));
        assert_eq!(blocks(&mut ledger), Some(2), "the pass is almost over");
        assert_eq!(blocks(&mut ledger), Some(0));
        assert_eq!(blocks(&mut ledger), None);
    }

    #[test]
    fn whoever_lacks_anything_gets_it_however_often_it_is_asked() {
        let layout = layout(20);
        let block = layout.block(0).unwrap();
        let mut ledger = Ledger::new(&layout);
        while ledger.take(&layout, 44, 1, |_| true).is_some() {}
        let mut seen = vec![0; usize::from(block.symbols())];
        for round in 0..100 {
            ledger.schedule(&block, 3, false);
            while let Some(cut) = ledger.take(&layout, 44, 100 + round, |_| true) {
                (cut.symbol..cut.symbol + cut.count).for_each(|symbol| seen[usize::from(symbol)] += 1);
            }
        }
        assert!(seen.iter().all(|count| *count > 0), "{seen:?}");
    }

    #[test]
    fn blocks_that_nobody_needs_are_left_out() {
        let layout = layout(3000);
        let mut ledger = Ledger::new(&layout);
        let cut = ledger.take(&layout, 10, 1, |block| block == 2).unwrap();
        assert_eq!((cut.block, cut.symbol), (2, 0));
        assert_eq!(ledger.take(&layout, 2000, 11, |_| false).unwrap().block, 2, "once begun it is finished");
        assert!(ledger.is_idle());
    }
}

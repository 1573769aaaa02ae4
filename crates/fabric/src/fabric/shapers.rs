//! The netems of a fabric: which interface impairs which half link, what it was told, and whether it does that.
//!
//! A queueing discipline acts on what leaves an interface. `down` is at the hub's end of the node's veth pair. `up` is in
//! the hub, too, at one end of a second pair between the node's and the network's bridge, and not at the node's own end:
//! there it would sit in the sender's stack, where a full queue is told to TCP instead of losing a packet and trains of
//! UDP (`UDP_SEGMENT`) have not been cut up yet, and a node that is root could change it.

use std::collections::BTreeMap;
use std::fmt;

use link::{HalfLink, Profile};
use machine::Seed;
use topology::Plan;
use topology::plan::Action;

use crate::netem::Netem;
use crate::netlink::{Batch, KeptNetem};

/// All netems, by the interface that they are at.
#[derive(Debug, Default)]
pub(super) struct Shapers {
    told: BTreeMap<u32, Shaper>,
}

/// One netem, and what it was told last.
#[derive(Debug)]
struct Shaper {
    /// `net/server-1/up`.
    name: String,
    mtu: u32,
    /// The half's own.
    seed: Seed,
    changes: u64,
    netem: Netem,
    /// Why it may have dropped packets, by all that it was ever told.
    reasons: DropReasons,
}

/// Why a netem may have dropped packets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DropReasons {
    /// Chance.
    pub loss: bool,
    /// A rate, whose queue can fill.
    pub queue: bool,
}

/// Where the halves of an interface are impaired; absent where nothing in the plan ever does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ShapedHalves {
    pub up: Option<u32>,
    pub down: Option<u32>,
}

/// A netem does not do what the kernel accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotKept {
    /// `net/server-1/up`.
    half: String,
    told: Box<Netem>,
    /// Absent where there is none, or one with parameters that nobody here asks for.
    kept: Option<Box<Netem>>,
}

impl Shapers {
    /// Makes the netem of a half link in `batch`. `name` is unique and does not depend on other nodes.
    pub(super) fn shape(&mut self, batch: &mut Batch, index: u32, name: String, half: &HalfLink, mtu: u32, seed: Seed) {
        let seed = seed.derive(&format!("netem/{name}"));
        let netem = Netem::of(half, mtu, seed.value());
        batch.add_netem(index, &netem);
        let mut reasons = DropReasons::default();
        reasons.add(&netem);
        self.told.insert(index, Shaper { name, mtu, seed, changes: 0, netem, reasons });
    }

    /// Has the netem at `index` changed in `batch`, if the half is another than before. It draws from a seed of its own
    /// from then on: the kernel starts anew, and the same draws would come again. A half that is impaired no more keeps a
    /// netem that does nothing, because taking it away would lose what is in it.
    pub(super) fn change(&mut self, batch: &mut Batch, index: u32, half: &HalfLink) {
        let Some(shaper) = self.told.get_mut(&index) else { return };
        let next = shaper.changes + 1;
        let netem = Netem::of(half, shaper.mtu, shaper.seed.derive(&next.to_string()).value());
        if (Netem { seed: netem.seed, ..shaper.netem.clone() }) != netem {
            batch.change_netem(index, &netem);
            shaper.reasons.add(&netem);
            (shaper.netem, shaper.changes) = (netem, next);
        }
    }

    /// Takes every netem away in `batch` and makes it again, so that it is empty, has counted nothing, and begins anew to draw.
    pub(super) fn renew(&self, batch: &mut Batch) {
        for (index, shaper) in &self.told {
            batch.delete_queue(*index);
            batch.add_netem(*index, &shaper.netem);
        }
    }

    /// Whether there are any.
    pub(super) fn is_empty(&self) -> bool {
        self.told.is_empty()
    }

    /// Those that do not do what they were told.
    pub(super) fn not_kept(&self, kept: &BTreeMap<u32, KeptNetem>) -> Vec<NotKept> {
        let unkept = self.told.iter().filter_map(|(index, shaper)| {
            let kept = kept.get(index).and_then(|kept| kept.parameters.clone());
            let is_kept = kept.as_ref().is_some_and(|kept| shaper.netem.is_kept_as(kept));
            let not_kept = || NotKept {
                half: shaper.name.clone(),
                told: Box::new(shaper.netem.clone()),
                kept: kept.map(Box::new),
            };
            (!is_kept).then(not_kept)
        });
        unkept.collect()
    }

    /// Why the netem at `index` may have dropped packets.
    pub(super) fn reasons(&self, index: u32) -> DropReasons {
        self.told.get(&index).map(|shaper| shaper.reasons).unwrap_or_default()
    }

    /// Half links that have dropped packets although nothing asks them to, with how many.
    pub(super) fn overflows<'a>(
        &'a self,
        kept: &'a BTreeMap<u32, KeptNetem>,
    ) -> impl Iterator<Item = (&'a str, u32)> + 'a {
        let innocent = self.told.iter().filter(|(_, shaper)| shaper.reasons == DropReasons::default());
        let drops =
            innocent.map(|(index, shaper)| (shaper.name.as_str(), kept.get(index).map_or(0, |kept| kept.work.drops)));
        drops.filter(|(_, drops)| *drops > 0)
    }
}

impl DropReasons {
    fn add(&mut self, netem: &Netem) {
        self.loss |= netem.loses();
        self.queue |= netem.has_rate();
    }
}

impl fmt::Display for NotKept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let NotKept { half, told, kept } = self;
        match kept {
            None => write!(f, "{half}: the kernel has accepted netem, and there is none that does {told:?}"),
            Some(kept) => write!(f, "{half}: the kernel has accepted {told:?}, and does {kept:?}"),
        }
    }
}

/// Whether anything ever impairs `up` and `down` of a node's interface.
pub(super) fn ever_shaped(plan: &Plan, node: usize, interface: usize) -> (bool, bool) {
    let first = std::iter::once(&plan.nodes()[node].interfaces[interface].link);
    let changed = plan.events().iter().flat_map(|event| {
        let profiles: &[_] = match &event.action {
            Action::SetLink { profiles, .. } => profiles,
            _ => &[],
        };
        let here = profiles.iter().filter(|(id, nth, _)| (id.index(), *nth) == (node, interface));
        here.map(|(_, _, profile): &(_, _, Profile)| profile)
    });
    first.chain(changed).fold((false, false), |(up, down), profile| {
        (up || !profile.up.is_transparent(), down || !profile.down.is_transparent())
    })
}

#[cfg(test)]
mod tests {
    use machine::{Rate, Span};

    use super::*;
    use crate::netlink::QueueWork;

    fn delayed(ms: u64) -> HalfLink {
        HalfLink { delay: Span::from_millis(ms), ..HalfLink::default() }
    }

    fn kept(shapers: &Shapers, drops: u32) -> BTreeMap<u32, KeptNetem> {
        let work = QueueWork { drops, ..QueueWork::default() };
        let kept = |shaper: &Shaper| KeptNetem { parameters: Some(shaper.netem.clone()), work };
        shapers.told.iter().map(|(index, shaper)| (*index, kept(shaper))).collect()
    }

    fn shaping(half: &HalfLink) -> Shapers {
        let mut shapers = Shapers::default();
        shapers.shape(&mut Batch::default(), 7, "net/a/up".to_owned(), half, 1500, Seed::new(1));
        shapers
    }

    #[test]
    fn a_netem_that_is_missing_or_does_something_else_is_found_out() {
        let shapers = shaping(&delayed(5));
        assert_eq!(shapers.not_kept(&kept(&shapers, 0)), []);
        let gone = &shapers.not_kept(&BTreeMap::new())[0];
        assert!(gone.to_string().starts_with("net/a/up: the kernel has accepted netem, and there is none"), "{gone}");
        // The kernel's own limit, as if ours had been ignored.
        let mut other = kept(&shapers, 0);
        other.get_mut(&7).and_then(|kept| kept.parameters.as_mut()).unwrap().limit = 1000;
        let other = &shapers.not_kept(&other)[0];
        assert!(other.to_string().contains("does Netem { limit: 1000,"), "{other}");
    }

    #[test]
    fn only_what_an_event_names_is_changed() {
        let mut shapers = shaping(&delayed(5));
        let mut batch = Batch::default();
        shapers.change(&mut batch, 7, &delayed(5));
        assert_eq!(batch.len(), 0, "the same half needs no change");
        let before = shapers.told[&7].netem.seed;
        shapers.change(&mut batch, 7, &delayed(6));
        assert_eq!(batch.len(), 1);
        assert_ne!(shapers.told[&7].netem.seed, before, "the draws before do not come again");
    }

    #[test]
    fn drops_are_the_emulations_own_only_where_nothing_ever_asked_for_them() {
        let mut shapers = shaping(&delayed(5));
        let overflows = |shapers: &Shapers| shapers.overflows(&kept(shapers, 3)).map(|(_, n)| n).sum::<u32>();
        assert_eq!(overflows(&shapers), 3);
        let limited = HalfLink { rate: Some(Rate::from_mbit(1)), ..delayed(5) };
        shapers.change(&mut Batch::default(), 7, &limited);
        shapers.change(&mut Batch::default(), 7, &delayed(5));
        assert_eq!(overflows(&shapers), 0, "they may be from when it had a rate");
    }
}

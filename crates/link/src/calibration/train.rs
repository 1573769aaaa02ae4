//! How many frames, how large, how close behind each other, and what they cannot show.

use machine::{Rate, Size, Span};
use thiserror::Error;

use super::session::Capacity;
use super::way::Way;

/// Frames that are sent behind each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Train {
    /// How many.
    pub frames: u32,
    /// Ethernet bytes of each, without FCS.
    pub bytes: u32,
    /// So many are sent at once, …
    pub burst: u32,
    /// … and the next so much later, at least.
    pub gap: Span,
}

/// A train, and what may be concluded from it.
#[derive(Clone, Debug, PartialEq)]
pub struct Design {
    /// The frames.
    pub train: Train,
    /// How far from the configured delay a measured one may be.
    pub delay_tolerance: Span,
    /// How far from the configured rate a measured one may be, as a share of it; absent where there is none or it cannot
    /// be measured.
    pub rate_tolerance: Option<f64>,
    /// What the train does not show although the way has it.
    pub unmeasured: Vec<Unmeasured>,
}

/// Why something of a way is not measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Unmeasured {
    /// Nothing ever arrives.
    #[error("nothing: it loses every packet")]
    LosesEverything,
    /// Too few arrived, as its losses allow.
    #[error("nothing: too few probes came through its losses")]
    TooFewArrived,
    /// The rate follows a trace.
    #[error("rate: it follows a trace")]
    FollowsTrace,
    /// A train that the queue holds is over too soon.
    #[error("rate: its queue holds too few packets for a train")]
    ShortQueue,
    /// This machine cannot send probes faster than the link.
    #[error("rate: this machine sends probes at no more than {0}")]
    TooFast(Rate),
    /// The jitter hides when frames were sent.
    #[error("rate: its jitter hides it")]
    Jitter,
    /// A damaged probe is not recognised.
    #[error("loss: damaged probes cannot be told from lost ones")]
    LossAmongDamage,
    /// A queue that holds so little would lose probes of its own.
    #[error("loss: its queue would lose probes, too")]
    LossBehindQueue,
}

/// The least tolerance of a delay, …
const DELAY_TOLERANCE: Span = Span::from_millis(1);

/// … which is one part in so many of a long one.
const DELAY_SHARE: u64 = 20;

/// How far off a rate may be.
const RATE_TOLERANCE: f64 = 0.05;

/// With jitter it may be more; beyond this it says nothing.
const WIDEST_RATE_TOLERANCE: f64 = 0.25;

/// For how long a train keeps a line busy, if its queue holds that many. An arrival is known to some 50 µs: half a percent.
const BUSY: Span = Span::from_millis(10);

/// The least that says anything.
const SHORTEST_BUSY: Span = Span::from_millis(5);

/// Where jitter hides the ends of a train, it is so many times longer than that, …
const BUSY_PER_JITTER: u64 = 40;

/// … and not more than this.
const LONGEST_BUSY: Span = Span::from_millis(400);

/// Frames of a train where the link has no rate, or a train of this many is long enough.
const FEW: u32 = 6;

/// Frames of a train on a line that takes long for each.
const FEW_SLOW: u32 = 4;

/// A line is slow if it takes longer than this for a frame.
const SLOW: Span = Span::from_millis(20);

/// No train has more.
pub(super) const MOST_FRAMES: u32 = 1024;

/// Frames that show a share of losses, …
const LOSS_FRAMES: u32 = 4000;

/// … where there are not so many ways that all of them together would have more than this, …
const ALL_LOSS_FRAMES: u32 = 160_000;

/// … and of each at least these.
const FEWEST_LOSS_FRAMES: u32 = 500;

/// The shortest Ethernet frame, without FCS.
const SHORTEST_FRAME: u32 = 60;

/// For how long losses are counted at most, …
const LOSS_TIME: Span = Span::from_millis(400);

/// … and at least: no faster than this shares out what a machine carries among several ways, and whoever stands still for
/// some milliseconds finds room for what came meanwhile.
const SHORTEST_LOSS_TIME: Span = Span::from_millis(200);

/// For so long nobody may look for what arrives.
const BLINK: Span = Span::from_millis(10);

impl Train {
    /// How long sending it takes, at least.
    pub fn sending(&self) -> Span {
        self.gap * u64::from(self.frames.saturating_sub(1) / self.burst.max(1))
    }

    /// All its frames.
    pub fn size(&self) -> Size {
        Size::from_bytes(u64::from(self.frames) * u64::from(self.bytes))
    }

    /// The most of its frames that wait for who does not look for a while.
    pub fn waiting(&self) -> u32 {
        if self.gap.is_zero() {
            return self.frames;
        }
        let bursts = u32::try_from(BLINK.as_nanos() / self.gap.as_nanos() + 1).unwrap_or(u32::MAX);
        bursts.saturating_mul(self.burst).min(self.frames)
    }

    /// How many frames a second arrive while it passes `way`.
    pub fn load(&self, way: &Way) -> u64 {
        let by_rate = way.rate().map(|rate| rate.as_bytes_per_sec() / u64::from(self.bytes));
        let by_gap = (!self.gap.is_zero()).then(|| u64::from(self.burst) * 1_000_000_000 / self.gap.as_nanos());
        // Without either they are over at once.
        by_rate.into_iter().chain(by_gap).min().unwrap_or(u64::from(self.frames) * 1000)
    }
}

impl Design {
    /// The train that shows delay and rate of `way` to a machine of this capacity.
    pub fn of(way: &Way, capacity: Capacity) -> Design {
        let bytes = way.full_frame();
        let jitter = way.jitter();
        let delay_tolerance =
            DELAY_TOLERANCE.max(way.delay() / DELAY_SHARE) + jitter + way.longest_gap().unwrap_or(Span::ZERO);
        let mut unmeasured = Vec::new();
        let found = if way.longest_gap().is_some() {
            Err(Some(Unmeasured::FollowsTrace))
        } else {
            rated_train(way, bytes, jitter, capacity)
        };
        let (frames, rate_tolerance) = match found {
            Ok((frames, tolerance)) => (frames, Some(tolerance)),
            Err(why) => {
                unmeasured.extend(why);
                (FEW, None)
            }
        };
        // Of those that the way loses there are more, as far as a queue holds all if none is.
        let surviving = (1.0 - way.loss()).max(0.01);
        let frames = ((f64::from(frames) / surviving).ceil() as u32).min(MOST_FRAMES).min(way.longest_burst(bytes));
        let train = Train { frames, bytes, burst: frames, gap: Span::ZERO };
        Design { train, delay_tolerance, rate_tolerance, unmeasured }
    }

    /// The train that shows the share of losses of one of so many ways.
    pub fn of_losses(way: &Way, ways: usize) -> Result<Train, Unmeasured> {
        if way.may_corrupt() {
            return Err(Unmeasured::LossAmongDamage);
        }
        if way.longest_gap().is_some() {
            return Err(Unmeasured::LossBehindQueue);
        }
        let bytes = SHORTEST_FRAME;
        let room = way.longest_burst(bytes);
        if room < 16 {
            return Err(Unmeasured::LossBehindQueue);
        }
        let burst = (room / 2).min(64);
        let share = ALL_LOSS_FRAMES / u32::try_from(ways.max(1)).unwrap_or(u32::MAX);
        let wanted = share.clamp(FEWEST_LOSS_FRAMES, LOSS_FRAMES);
        // A quarter slower than the line.
        let room = Size::from_bytes(u64::from(burst) * u64::from(way.room_of(bytes)));
        let sent = way.rate().map_or(Span::ZERO, |rate| rate.time_for(room));
        let gap = (sent + sent / 4).max(SHORTEST_LOSS_TIME * u64::from(burst) / u64::from(wanted));
        let bursts = (LOSS_TIME.as_nanos() / gap.as_nanos().max(1)).max(1);
        let frames = u32::try_from(bursts * u64::from(burst)).unwrap_or(u32::MAX).min(wanted);
        Ok(Train { frames, bytes, burst, gap })
    }
}

/// How many frames show the rate, and how well. Without a number: there is no rate, or it cannot be shown.
fn rated_train(way: &Way, bytes: u32, jitter: Span, capacity: Capacity) -> Result<(u32, f64), Option<Unmeasured>> {
    let rate = way.rate().filter(|rate| rate.as_bits_per_sec() > 0).ok_or(None)?;
    let frame = rate.time_for(Size::from_bytes(u64::from(bytes)));
    let fastest = capacity.rate(bytes);
    // The line must never wait for the sender.
    if rate.as_bits_per_sec() > fastest.as_bits_per_sec() / 3 * 2 {
        return Err(Some(Unmeasured::TooFast(fastest)));
    }
    let busy = BUSY.max((jitter * BUSY_PER_JITTER).min(LONGEST_BUSY));
    let few = if frame > SLOW { FEW_SLOW } else { FEW };
    let wanted = u32::try_from(busy.as_nanos() / frame.as_nanos().max(1) + 1).unwrap_or(u32::MAX).max(few);
    let frames = wanted.min(MOST_FRAMES).min(way.longest_burst(bytes));
    let busy = frame * u64::from(frames - 1);
    if busy < SHORTEST_BUSY || frames < 3 {
        let by_queue = frames < wanted.min(MOST_FRAMES);
        return Err(Some(if by_queue { Unmeasured::ShortQueue } else { Unmeasured::TooFast(fastest) }));
    }
    let tolerance = RATE_TOLERANCE + 2.0 * jitter.as_secs_f64() / busy.as_secs_f64();
    if tolerance > WIDEST_RATE_TOLERANCE { Err(Some(Unmeasured::Jitter)) } else { Ok((frames, tolerance)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{HalfLink, Queue};

    const CAPACITY: Capacity = Capacity(400_000);

    fn design(half: HalfLink) -> Design {
        Design::of(&Way::new(vec![half], 1500), CAPACITY)
    }

    fn rated(mbit: u64) -> HalfLink {
        HalfLink { rate: Some(Rate::from_mbit(mbit)), delay: Span::from_millis(5), ..HalfLink::default() }
    }

    #[test]
    fn a_train_keeps_the_line_busy_for_ten_milliseconds() {
        // A full frame takes 121 µs at 100 Mbit/s.
        assert_eq!(design(rated(100)).train.frames, 83);
        assert_eq!(design(rated(1)).train.frames, FEW);
        let slow = HalfLink { rate: Some(Rate::from_bits_per_sec(100_000)), ..HalfLink::default() };
        assert_eq!(design(slow).train.frames, FEW_SLOW);
    }

    #[test]
    fn what_cannot_be_measured_is_said() {
        assert!(matches!(design(rated(9000)).unmeasured[..], [Unmeasured::TooFast(_)]));
        let short = HalfLink { queue: Some(Queue::Packets(3)), ..rated(100) };
        assert_eq!((design(short.clone()).unmeasured, design(short).train.frames), (vec![Unmeasured::ShortQueue], 4));
        let shaky = HalfLink { jitter: Span::from_millis(100), ..rated(1) };
        assert_eq!(design(shaky).unmeasured, [Unmeasured::Jitter]);
        assert_eq!(design(HalfLink::default()).unmeasured, []);
    }

    #[test]
    fn tolerances_are_those_of_the_profile() {
        let long = HalfLink { delay: Span::from_millis(200), ..rated(10) };
        assert_eq!(design(long).delay_tolerance, Span::from_millis(10));
        assert_eq!(design(rated(10)).delay_tolerance, Span::from_millis(1));
        let jittery = design(HalfLink { jitter: Span::from_millis(1), ..rated(10) });
        assert_eq!(jittery.delay_tolerance, Span::from_millis(2));
        // Two milliseconds in the forty for which the line is busy.
        assert!(jittery.rate_tolerance.is_some_and(|share| (0.09..0.11).contains(&share)), "{jittery:?}");
    }

    #[test]
    fn losses_are_counted_slower_than_the_line_and_within_its_queue() {
        let way = Way::new(vec![rated(1)], 1500);
        let train = Design::of_losses(&way, 1).expect("a train");
        assert!(train.sending() <= LOSS_TIME && train.burst < way.longest_burst(train.bytes), "{train:?}");
        assert!(train.load(&way) <= 1_000_000 / 8 / 60, "{train:?}");
    }
}

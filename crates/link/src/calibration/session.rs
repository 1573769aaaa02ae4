//! Batches that a machine can carry, attempts, and the findings.

use std::cmp::Reverse;
use std::fmt;

use machine::{Rate, Span};

use super::estimate::{Estimate, Passage};
use super::finding::{self, Deviation, Finding, LossShare, Outcome};
use super::train::{Design, Train, Unmeasured};
use super::way::Way;

/// What can be sent, carried and received here, in full frames a second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capacity(pub u64);

/// How much is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    /// Delay and rate.
    Quick,
    /// Losses, too.
    Full,
}

/// Trains that are sent together.
#[derive(Clone, Debug, PartialEq)]
pub struct Batch {
    /// Each with the position of its way.
    pub trains: Vec<(usize, Train)>,
    /// For each of them: how long after its last frame was sent anything is still to come where some may be lost; absent
    /// where all of them must come.
    pub dues: Vec<Option<Span>>,
    /// This long nobody waits for more.
    pub patience: Span,
    /// To be waited before: the last one was disturbed.
    pub pause: Span,
}

/// What was seen of a batch.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// Each with the position of its way.
    pub passages: Vec<(usize, Passage)>,
    /// What may have made arrivals late.
    pub disturbance: Option<Disturbance>,
}

/// What makes arrivals late although the link does not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disturbance {
    /// Whoever carries the frames was so late.
    Carrier(Span),
    /// Whoever sends and receives them slept so much too long, or was kept so long from sending.
    Prober(Span),
    /// There was no room for so many of those that arrived.
    Receiver(u64),
    /// The clock was set by so much.
    Clock(Span),
}

/// Measures ways, batch after batch.
///
/// The order of calls: [`next_batch`](Calibration::next_batch); [`handle`](Calibration::handle) with what was seen of it; and
/// so on until there is no batch any more; then [`findings`](Calibration::findings).
///
/// One passage within the tolerances is enough: what disturbs makes a link look slower, farther or more lossy, and hardly
/// ever like the one asked for. Outside is what was so in three passages that nothing disturbed.
#[derive(Clone, Debug)]
pub struct Calibration {
    ways: Vec<Progress>,
    capacity: Capacity,
    depth: Depth,
    /// Disturbed batches in a row.
    disturbed: u32,
    batches: u32,
}

#[derive(Clone, Debug)]
struct Progress {
    way: Way,
    design: Design,
    stage: Stage,
    attempts: u32,
    misses: u32,
    disturbances: u32,
    inconclusive: u32,
    estimate: Estimate,
    deviations: Vec<Deviation>,
    loss: Option<LossShare>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Timing,
    Counting(Train),
    Over(Outcome),
}

/// Passages outside the tolerances, undisturbed, that prove it.
const CONFIRMATIONS: u32 = 3;

/// Disturbed passages after which nothing more is tried: with the pauses between them 1.3 s.
const MOST_DISTURBED: u32 = 8;

/// Passages through which too little came, as it may.
const MOST_INCONCLUSIVE: u32 = 8;

/// After the first disturbed batch, and after each of the next twice as long.
const FIRST_PAUSE: Span = Span::from_millis(10);

/// A batch takes one part in so many of the capacity: the nodes' kernels have to do their part meanwhile.
const SHARE: u64 = 4;

/// One that only counts takes this part: it does not matter there when a frame arrives.
const COUNTING_SHARE: u64 = 2;

/// Frames of one batch that may wait at once: fewer than the smallest buffer on the way holds.
const MOST_WAITING: u32 = 2048;

/// A chance that is none.
const NEVER: f64 = 1e-9;

impl Capacity {
    /// What it is in frames of `bytes`.
    pub fn rate(self, bytes: u32) -> Rate {
        Rate::from_bits_per_sec(self.0.saturating_mul(u64::from(bytes) * 8))
    }
}

impl Calibration {
    /// Measures these ways on a machine of this capacity. Of a way that impairs nothing there is nothing to measure.
    pub fn new(ways: Vec<Way>, capacity: Capacity, depth: Depth) -> Self {
        let ways = ways.into_iter().map(|way| Progress::new(way, capacity)).collect();
        Calibration { ways, capacity, depth, disturbed: 0, batches: 0 }
    }

    /// What is to be sent next; `None` when everything is known.
    pub fn next_batch(&mut self) -> Option<Batch> {
        let mut waiting: Vec<usize> = (0..self.ways.len()).filter(|way| self.ways[*way].train().is_some()).collect();
        // The longest first, and those of about the same length together, so that nobody waits for another for long.
        waiting.sort_by_key(|way| (self.ways[*way].attempts, Reverse(self.ways[*way].lasts())));
        let longest = self.ways[*waiting.first()?].lasts();
        let Progress { attempts, stage: first, .. } = self.ways[waiting[0]];
        let share = if first.is_counting() { COUNTING_SHARE } else { SHARE };
        let budget = (self.capacity.0 / share) >> self.disturbed.min(8);
        let (mut load, mut frames) = (0u64, 0u32);
        let mut batch = Batch { trains: Vec::new(), dues: Vec::new(), patience: Span::ZERO, pause: Span::ZERO };
        for index in waiting {
            let progress = &self.ways[index];
            let Some(train) = progress.train() else { continue };
            let with_it = (load.saturating_add(train.load(&progress.way)), frames.saturating_add(train.waiting()));
            let fits = with_it.0 <= budget && with_it.1 <= MOST_WAITING;
            let alike = progress.attempts == attempts
                && progress.stage.is_counting() == first.is_counting()
                && progress.lasts() * 2 >= longest;
            let joins = batch.trains.is_empty() || fits && alike;
            if !joins {
                continue;
            }
            (load, frames) = with_it;
            batch.trains.push((index, train));
            batch.dues.push(progress.due(&train));
            batch.patience = batch.patience.max(progress.patience(&train));
        }
        if self.disturbed > 0 {
            batch.pause = FIRST_PAUSE * (1 << (self.disturbed - 1).min(6));
        }
        self.batches += 1;
        Some(batch)
    }

    /// What was seen of the last batch.
    pub fn handle(&mut self, seen: Seen) {
        let (ways, mut is_undecided) = (self.ways.len(), false);
        for (way, passage) in seen.passages {
            let Some(progress) = self.ways.get_mut(way) else { continue };
            progress.attempts += 1;
            let before = progress.stage;
            match before {
                Stage::Timing => progress.time(&passage, seen.disturbance.is_some(), self.depth, ways),
                Stage::Counting(train) => progress.count(&passage, &train, seen.disturbance.is_some()),
                Stage::Over(_) => {}
            }
            is_undecided |= progress.stage == before;
        }
        // Where everything was found as it should be all the same, there is nothing to wait for.
        let has_disturbed = seen.disturbance.is_some() && is_undecided;
        self.disturbed = if has_disturbed { self.disturbed + 1 } else { 0 };
    }

    /// Batches so far.
    pub fn batches(&self) -> u32 {
        self.batches
    }

    /// What was found, in the order of the ways.
    pub fn findings(&self) -> Vec<Finding> {
        self.ways.iter().map(Progress::finding).collect()
    }
}

impl Stage {
    fn is_counting(self) -> bool {
        matches!(self, Stage::Counting(_))
    }
}

impl Progress {
    fn new(way: Way, capacity: Capacity) -> Self {
        let mut design = Design::of(&way, capacity);
        let mut stage = Stage::Timing;
        if way.is_transparent() {
            stage = Stage::Over(Outcome::Unmeasured);
        } else if way.loss() >= 1.0 || way.rate() == Some(Rate::from_bits_per_sec(0)) {
            design.unmeasured = vec![Unmeasured::LosesEverything];
            stage = Stage::Over(Outcome::Unmeasured);
        }
        Progress {
            way,
            design,
            stage,
            attempts: 0,
            misses: 0,
            disturbances: 0,
            inconclusive: 0,
            estimate: Estimate::default(),
            deviations: Vec::new(),
            loss: None,
        }
    }

    fn train(&self) -> Option<Train> {
        match self.stage {
            Stage::Timing => Some(self.design.train),
            Stage::Counting(train) => Some(train),
            Stage::Over(_) => None,
        }
    }

    /// From the first frame's sending to the last one's arrival, as asked for.
    fn lasts(&self) -> Span {
        let Some(train) = self.train() else { return Span::ZERO };
        let line = self.way.rate().map_or(Span::ZERO, |rate| rate.time_for(train.size()));
        train.sending().max(line) + self.way.delay() + self.way.jitter()
    }

    fn due(&self, train: &Train) -> Option<Span> {
        let may_lose = self.way.loss() > 0.0 || self.way.has_listed_drops();
        let line = self.way.rate().map_or(Span::ZERO, |rate| rate.time_for(train.size()));
        let asked = line * 2 + self.way.delay() + self.way.jitter() + self.way.longest_gap().unwrap_or(Span::ZERO);
        may_lose.then(|| asked + asked / 10 + Span::from_millis(5))
    }

    /// max(0.5 s, 4 × (delay + 20 full frames)), and what sending takes.
    fn patience(&self, train: &Train) -> Span {
        let full = self.way.serialisation(self.way.full_frame());
        let asked = (self.way.delay() + self.way.jitter() + full * 20) * 4;
        asked.max(Span::from_millis(500)) + self.way.longest_gap().unwrap_or(Span::ZERO) + train.sending() * 2
    }

    fn time(&mut self, passage: &Passage, was_disturbed: bool, depth: Depth, ways: usize) {
        let rated = self.design.rate_tolerance.is_some();
        let train = self.design.train;
        let estimate = passage.estimate(&train, &self.way, rated);
        let may_lose = self.way.loss() > 0.0 || self.way.has_listed_drops();
        let few = estimate.arrived < self.needed(rated);
        let silence = estimate.arrived == 0 && self.way.silence_chance(train.frames) <= NEVER;
        if few && may_lose && !silence {
            self.estimate = estimate;
            self.inconclusive += 1;
            if self.inconclusive >= MOST_INCONCLUSIVE {
                self.design.unmeasured = vec![Unmeasured::TooFewArrived];
                self.stage = Stage::Over(Outcome::Unmeasured);
            }
            return;
        }
        let mut deviations = finding::deviations(&self.way, &self.design, &estimate);
        if few && deviations.is_empty() {
            deviations.push(Deviation::Silent { sent: estimate.sent, arrived: estimate.arrived });
        }
        let kept_busy = !rated || passage.was_held_back || passage.kept_line_busy(&train, &self.way);
        self.decide(deviations, estimate, was_disturbed || !kept_busy);
        if let (Stage::Over(Outcome::Within), Depth::Full) = (self.stage, depth) {
            match Design::of_losses(&self.way, ways) {
                Ok(train) => {
                    (self.misses, self.disturbances) = (0, 0);
                    self.stage = Stage::Counting(train);
                }
                Err(why) => self.design.unmeasured.push(why),
            }
        }
    }

    /// Frames that have to arrive: half of those that are not lost on average.
    fn needed(&self, rated: bool) -> u32 {
        if !rated {
            return 1;
        }
        ((f64::from(self.design.train.frames) * (1.0 - self.way.loss()) / 2.0) as u32).max(3)
    }

    fn count(&mut self, passage: &Passage, train: &Train, was_disturbed: bool) {
        let counted = passage.estimate(train, &self.way, false);
        let lost = counted.sent.saturating_sub(counted.arrived);
        let measured = LossShare::of(lost, counted.sent, self.way.loss_clustering());
        let configured = self.way.loss();
        let is_within = (measured.low..=measured.high).contains(&configured) || self.way.has_listed_drops();
        self.loss = Some(measured);
        let deviations = if is_within { Vec::new() } else { vec![Deviation::Loss { configured, measured }] };
        self.decide(deviations, self.estimate, was_disturbed);
    }

    fn decide(&mut self, deviations: Vec<Deviation>, estimate: Estimate, was_disturbed: bool) {
        if deviations.is_empty() {
            (self.estimate, self.deviations) = (estimate, deviations);
            self.stage = Stage::Over(Outcome::Within);
        } else if was_disturbed {
            self.disturbances += 1;
            if self.misses == 0 {
                (self.estimate, self.deviations) = (estimate, deviations);
            }
            if self.disturbances >= MOST_DISTURBED {
                self.stage = Stage::Over(Outcome::Starved);
            }
        } else {
            self.misses += 1;
            (self.estimate, self.deviations) = (estimate, deviations);
            if self.misses >= CONFIRMATIONS {
                self.stage = Stage::Over(Outcome::Outside);
            }
        }
    }

    fn finding(&self) -> Finding {
        Finding {
            outcome: match self.stage {
                Stage::Over(outcome) => outcome,
                Stage::Timing | Stage::Counting(_) => Outcome::Unmeasured,
            },
            deviations: self.deviations.clone(),
            estimate: self.estimate,
            delay_tolerance: self.design.delay_tolerance,
            rate_tolerance: self.design.rate_tolerance,
            loss: self.loss,
            unmeasured: self.design.unmeasured.clone(),
            attempts: self.attempts,
        }
    }
}

impl fmt::Display for Disturbance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Disturbance::Carrier(late) => write!(f, "the relay was {} late", rounded(*late)),
            Disturbance::Prober(late) => write!(f, "probes were sent or looked for {} late", rounded(*late)),
            Disturbance::Receiver(frames) => write!(f, "{frames} probes found no room"),
            Disturbance::Clock(step) => write!(f, "the clock was set by {}", rounded(*step)),
        }
    }
}

fn rounded(span: Span) -> Span {
    Span::from_micros(span.as_nanos() / 1000)
}

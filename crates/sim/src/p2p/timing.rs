//! How long downloads take beside the bounds, over many seeds.

use machine::{Span, Time};
use p2p::downloader::Config;

use super::fluid::{fluid, foresight};
use super::{Download, Report, Setup, World};

/// The longest that a download may take.
const PATIENCE: Span = Span::from_secs(120);

/// How long one download took, and what it cost.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Timing {
    /// Of the world.
    pub seed: u64,
    /// Until the file was whole, in seconds.
    pub took: f64,
    /// The [fluid bound](fluid), in seconds.
    pub fluid: f64,
    /// The bound of [`foresight`], in seconds.
    pub foresight: f64,
    /// Bytes of the file that were of no use.
    pub wasted: u64,
    /// Connections that were begun.
    pub channels: usize,
    /// Questions to the tracker.
    pub questions: u64,
}

impl Timing {
    /// Runs a world of one client.
    ///
    /// # Errors
    /// What happened that must not, or that it did not end; with the seed.
    pub fn of<D: Download>(setup: &Setup, downloader: impl Fn(Time, Config) -> D) -> Result<(Timing, Report), String> {
        let report = World::new(setup.clone(), downloader).run(Time::ZERO + PATIENCE);
        let [run] = &report.runs[..] else { return Err(format!("{} clients, not one", report.runs.len())) };
        let Some(took) = run.complete() else {
            let last = &run.log[run.log.len().saturating_sub(8)..];
            let (seed, ended, faults) = (setup.seed, &run.ended, &run.faults);
            return Err(format!("seed {seed} ended {ended:?} with faults {faults:#?}; last {last:?}"));
        };
        let timing = Timing {
            seed: setup.seed,
            took: took.as_secs_f64(),
            fluid: fluid(setup, &run.answers, &report.lives),
            foresight: foresight(setup, &run.answers, &report.lives),
            wasted: run.progress.wasted,
            channels: run.channels.len(),
            questions: run.questions,
        };
        Ok((timing, report))
    }

    /// Over the fluid bound.
    pub fn ratio(&self) -> f64 {
        self.took / self.fluid
    }
}

/// Means over many seeds.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Summary {
    /// In seconds.
    pub mean: f64,
    /// In seconds.
    pub median: f64,
    /// In seconds.
    pub longest: f64,
    /// Mean of the fluid bounds, in seconds.
    pub fluid: f64,
    /// Mean of the bounds with foresight, in seconds.
    pub foresight: f64,
    /// The greatest time over its fluid bound.
    pub worst_ratio: f64,
    /// Bytes of no use a download.
    pub wasted: f64,
    /// Connections a download.
    pub channels: f64,
    /// Questions a download.
    pub questions: f64,
}

impl Summary {
    /// Of at least one.
    pub fn of(timings: &[Timing]) -> Summary {
        let mean = |of: fn(&Timing) -> f64| timings.iter().map(of).sum::<f64>() / timings.len() as f64;
        let mut took: Vec<f64> = timings.iter().map(|timing| timing.took).collect();
        took.sort_by(f64::total_cmp);
        Summary {
            mean: mean(|timing| timing.took),
            median: took.get(took.len() / 2).copied().unwrap_or_default(),
            longest: took.last().copied().unwrap_or_default(),
            fluid: mean(|timing| timing.fluid),
            foresight: mean(|timing| timing.foresight),
            worst_ratio: timings.iter().map(Timing::ratio).fold(0.0, f64::max),
            wasted: mean(|timing| timing.wasted as f64),
            channels: mean(|timing| timing.channels as f64),
            questions: mean(|timing| timing.questions as f64),
        }
    }

    /// The mean time over the mean of the fluid bounds.
    pub fn over_fluid(&self) -> f64 {
        self.mean / self.fluid
    }
}

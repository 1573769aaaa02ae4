//! What a sweep has measured: of each point the runs, their mean and spread, and what theory expects of them.

mod drawing;
mod export;
mod table;

use event::{Rounds, Verdict};
use machine::Seed;

pub use drawing::drawings;
pub use export::{csv, json, write_sweep};
pub use table::{sweep_row, sweep_table};

/// A sweep with the results of all runs that it has made.
#[derive(Clone, Debug)]
pub struct Sweep {
    /// The topology's name.
    pub name: String,
    /// The file, as the user wrote it.
    pub file: String,
    /// From which the seeds of the runs were derived.
    pub seed: Seed,
    /// `netns` or `sim`.
    pub engine: String,
    /// Of the testbed.
    pub version: String,
    /// The command that repeats it.
    pub repeat: String,
    /// The swept paths.
    pub axes: Vec<String>,
    /// Which of them is drawn over.
    pub x: Option<usize>,
    /// What is drawn.
    pub metrics: Vec<Metric>,
    /// In the order in which they were run.
    pub points: Vec<Point>,
}

/// One combination of values.
#[derive(Clone, Debug)]
pub struct Point {
    /// One for each axis.
    pub values: Vec<String>,
    /// In the order of their repetitions.
    pub runs: Vec<Run>,
    /// What theory expects of a run, where there is a theory.
    pub prediction: Option<Prediction>,
}

/// One run of a point.
#[derive(Clone, Debug)]
pub struct Run {
    /// Its own.
    pub seed: Seed,
    /// Its outcome; none if it was killed.
    pub verdict: Option<Verdict>,
    /// Why it has no better one.
    pub cause: Option<String>,
    /// Until all that is awaited was done.
    pub seconds: Option<f64>,
    /// Segments with data; none where the run's programs know of no segments.
    pub segments: Option<u64>,
    /// Of a stop-and-wait transfer.
    pub rounds: Option<Rounds>,
    /// Its run directory.
    pub directory: String,
    /// The command that repeats it alone.
    pub repeat: String,
}

/// What theory expects of one run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Prediction {
    /// The mean of many runs, in seconds.
    pub seconds: f64,
    /// How far a single run strays from it, in seconds: one standard deviation.
    pub deviation: f64,
    /// Segments with data.
    pub segments: u64,
    /// What it rests on, where that is not the file alone.
    pub measured: Option<Circumstances>,
}

/// What a point's runs took for the two things that stop-and-wait waits for, on average, in seconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Circumstances {
    /// From sending a segment to sending it again.
    pub timeout: f64,
    /// From sending a segment for the last time to the last of its acknowledgements.
    pub round_trip: f64,
}

/// What is measured of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Metric {
    /// Seconds in all.
    TotalTime,
    /// The same divided by the segments.
    TimePerSegment,
}

/// Mean and standard deviation of a sample.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Estimate {
    /// The arithmetic mean.
    pub mean: f64,
    /// With n − 1 in the denominator; zero of a single value.
    pub deviation: f64,
    /// How many values.
    pub count: u32,
}

impl Sweep {
    /// The outcome of all runs: the gravest.
    pub fn verdict(&self) -> Verdict {
        let runs = self.points.iter().flat_map(|point| &point.runs);
        runs.map(|run| run.verdict.unwrap_or(Verdict::Invalid)).max().unwrap_or(Verdict::Pass)
    }
}

impl Point {
    /// What the runs that passed have measured; none if there is no such run.
    pub fn estimate(&self, metric: Metric) -> Option<Estimate> {
        let passed = self.runs.iter().filter(|run| run.verdict == Some(Verdict::Pass));
        Estimate::of(passed.filter_map(|run| run.measured(metric)))
    }

    /// What theory expects of the metric: mean and standard deviation of a run.
    pub fn predicted(&self, metric: Metric) -> Option<(f64, f64)> {
        let prediction = self.prediction?;
        let divisor = match metric {
            Metric::TotalTime => 1.0,
            Metric::TimePerSegment if prediction.segments > 0 => prediction.segments as f64,
            Metric::TimePerSegment => return None,
        };
        Some((prediction.seconds / divisor, prediction.deviation / divisor))
    }

    /// How far the mean lies from what theory expects, in standard errors of theory; none where it expects no spread.
    pub fn standard_errors(&self) -> Option<f64> {
        let (estimate, prediction) = (self.estimate(Metric::TotalTime)?, self.prediction?);
        let error = prediction.deviation / f64::from(estimate.count).sqrt();
        (error > 0.0).then(|| (estimate.mean - prediction.seconds) / error)
    }
}

impl Run {
    /// The metric's value, if the run got so far.
    pub fn measured(&self, metric: Metric) -> Option<f64> {
        let seconds = self.seconds?;
        match metric {
            Metric::TotalTime => Some(seconds),
            Metric::TimePerSegment => {
                self.segments.filter(|segments| *segments > 0).map(|segments| seconds / segments as f64)
            }
        }
    }
}

impl Metric {
    /// As files and tables name it.
    pub fn name(self) -> &'static str {
        match self {
            Metric::TotalTime => "total time",
            Metric::TimePerSegment => "time per segment",
        }
    }
}

impl Estimate {
    /// Of some values; none of none.
    pub fn of(values: impl Iterator<Item = f64>) -> Option<Self> {
        let values: Vec<f64> = values.collect();
        if values.is_empty() {
            return None;
        }
        let mean = values.iter().sum::<f64>() / values.len() as f64;
        let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
        let freedom = (values.len() - 1).max(1) as f64;
        Some(Estimate { mean, deviation: (squares / freedom).sqrt(), count: values.len() as u32 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn run(seconds: f64) -> Run {
        Run {
            seed: Seed::new(7),
            verdict: Some(Verdict::Pass),
            cause: None,
            seconds: Some(seconds),
            segments: Some(20),
            rounds: None,
            directory: "runs/t/1".into(),
            repeat: "testbed run t.yaml".into(),
        }
    }

    pub(super) fn sweep() -> Sweep {
        let point = |n: u32| Point {
            values: vec![n.to_string()],
            runs: [9.0, 11.0].map(|seconds| run(seconds * f64::from(n))).to_vec(),
            prediction: Some(Prediction { seconds: 9.0 * f64::from(n), deviation: 1.0, segments: 20, measured: None }),
        };
        Sweep {
            name: "t".into(),
            file: "t.yaml".into(),
            seed: Seed::new(7),
            engine: "sim".into(),
            version: "0".into(),
            repeat: "testbed sweep t.yaml".into(),
            axes: vec!["receiver.count".into()],
            x: Some(0),
            metrics: vec![Metric::TotalTime, Metric::TimePerSegment],
            points: (1..=3).map(point).collect(),
        }
    }

    #[test]
    fn a_point_is_compared_in_standard_errors_of_theory() {
        let point = &sweep().points[0];
        let estimate = point.estimate(Metric::TotalTime).unwrap();
        assert_eq!((estimate.mean, estimate.count), (10.0, 2));
        assert!((estimate.deviation - 2_f64.sqrt()).abs() < 1e-12);
        // Two runs that stray by 1 s each: their mean strays by 1/√2, so 1 s off is √2 standard errors.
        assert!((point.standard_errors().unwrap() - 2_f64.sqrt()).abs() < 1e-12);
        assert_eq!(point.predicted(Metric::TimePerSegment), Some((0.45, 0.05)));
    }

    #[test]
    fn runs_that_failed_are_no_measurements() {
        let mut point = sweep().points.remove(0);
        point.runs[0].verdict = Some(Verdict::Fail);
        assert_eq!(point.estimate(Metric::TotalTime), Some(Estimate { mean: 11.0, deviation: 0.0, count: 1 }));
        point.runs[1].verdict = None;
        assert_eq!(point.estimate(Metric::TotalTime), None);
        assert_eq!(Sweep { points: vec![point], ..sweep() }.verdict(), Verdict::Invalid);
    }

    #[test]
    fn a_single_value_has_no_spread() {
        assert_eq!(Estimate::of([3.0].into_iter()), Some(Estimate { mean: 3.0, deviation: 0.0, count: 1 }));
        assert_eq!(Estimate::of([].into_iter()), None);
    }
}

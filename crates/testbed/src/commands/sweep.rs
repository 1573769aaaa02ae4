//! `testbed sweep`: every point of a topology's sweep as often as it says, and what theory expects beside it.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;
use event::{Event, NodeReport, Record, Rounds, RunState, Transferred, Verdict, run_directory as names};
use machine::Span;
use p2mp::classic::StopAndWait;
use report::sweep::{Circumstances, Metric, Point, Prediction, Run, Sweep};
use topology::Plan;
use topology::plan::Expected;

use crate::cli::{Calibrate, Engine, Format, SweepArguments, Variation};
use crate::engine::{self, Ended, Job, Show, quoted, shortened};
use crate::loading::{self, Kernel};
use crate::status::{BadInput, Status};

pub(crate) fn sweep(arguments: &SweepArguments) -> anyhow::Result<Status> {
    if let Err(why) = engine::check_engine(arguments.engine) {
        eprintln!("error: {why}");
        return Ok(Status::Unable);
    }
    let planned = match loading::sweep(&arguments.file, &arguments.variation, loading::draw_seed()?, arguments.pcap)? {
        Ok(Some(sweep)) => sweep,
        Ok(None) => {
            let file = arguments.file.display();
            return Err(BadInput(format!("{file} has no `sweep`; `testbed run {file}` runs it")).into());
        }
        Err(status) => return Ok(status),
    };
    for point in &planned.points {
        if let Err(status) = engine::check(arguments.engine, &arguments.file, &point.plan)? {
            return Ok(status);
        }
    }
    let repeat = arguments.repeat.unwrap_or(planned.repeat);
    let mut sweep = begin(arguments, &planned, repeat);
    let told = arguments.format == Format::Human;
    if told {
        report::say(&announcement(&sweep, &planned, repeat));
    }
    let folder = create_folder(&arguments.out, &planned.name)?;
    let mut status = Status::OK;
    'points: for (index, point) in planned.points.iter().enumerate() {
        for repetition in 1..=repeat {
            let run = Repetition { arguments, planned: &planned, point, repetition };
            let (ended, measured) = run.make_unless_starved()?;
            status = status.or_graver(ended);
            sweep.points[index].runs.extend(measured);
            if !matches!(ended, Status::Judged(verdict) if verdict != Verdict::Interrupted) {
                break 'points;
            }
        }
        if arguments.engine != Engine::Sim {
            expect_as_measured(&mut sweep.points[index], &point.plan);
        }
        if told {
            report::say(&report::sweep::sweep_row(&sweep, &sweep.points[index]));
        }
    }
    let written = report::sweep::write_sweep(&sweep, &folder)?;
    if told {
        report::say(&report::sweep::sweep_table(&sweep, report::Output::of_stdout(false).has_colour()));
        report::say(&format!("{}: {}\n", shortened(&folder).display(), written.join(", ")));
    } else {
        report::say(&format!("{:#}\n", report::sweep::json(&sweep)));
    }
    Ok(status)
}

/// A run is made this often at most, while it is INVALID.
const MOST_ATTEMPTS: u32 = 3;

/// One run of a point.
struct Repetition<'a> {
    arguments: &'a SweepArguments,
    planned: &'a topology::Sweep,
    point: &'a topology::sweep::Point,
    /// From 1.
    repetition: u32,
}

impl Repetition<'_> {
    /// The same plan as its command alone makes of the file, and what makes it.
    fn plan(&self) -> anyhow::Result<(Result<Plan, Status>, Variation)> {
        let seed = self.planned.seed_of(self.point, self.repetition);
        let mut settings = self.arguments.variation.settings.clone();
        settings.extend(self.point.settings.iter().cloned());
        let variation = Variation { seed: Some(seed), settings };
        let kernel = Kernel::of(self.arguments.engine);
        Ok((loading::load(&self.arguments.file, &variation, seed, self.arguments.pcap, kernel)?, variation))
    }

    /// Runs it, again where it was INVALID, which says nothing of the point: sweeps take long, and a machine that was busy
    /// for a moment may do better in the next one. The losses are the same each time.
    fn make_unless_starved(&self) -> anyhow::Result<(Status, Option<Run>)> {
        let is_invalid = |status: Status| matches!(status, Status::Judged(Verdict::Invalid));
        for _ in 1..MOST_ATTEMPTS {
            match self.make()? {
                (status, _) if is_invalid(status) => {}
                made => return Ok(made),
            }
        }
        self.make()
    }

    /// Runs it; none is measured where it could not even begin.
    fn make(&self) -> anyhow::Result<(Status, Option<Run>)> {
        let (plan, variation) = self.plan()?;
        let plan = match plan {
            Ok(plan) => plan,
            Err(status) => return Ok((status, None)),
        };
        let seed = plan.seed();
        let file = self.arguments.file.display().to_string();
        let awaited = awaited(&plan);
        let job = Job {
            file: &file,
            plan,
            settings: &variation.settings,
            engine: self.arguments.engine,
            calibrate: self.arguments.calibrate,
            out: &self.arguments.out,
            show: Show::Nothing,
        };
        let repeat = engine::repeat_command(&job);
        let Ended { status, state, directory } = engine::run(job)?;
        let Some(state) = state else { return Ok((status, None)) };
        let Measured { seconds, segments, rounds } = measure(&state, &awaited, &directory)?;
        let run = Run {
            seed,
            verdict: state.verdict,
            cause: state.causes.first().cloned(),
            seconds,
            segments,
            rounds,
            directory: shortened(&directory).display().to_string(),
            repeat,
        };
        Ok((status, Some(run)))
    }
}

fn begin(arguments: &SweepArguments, planned: &topology::Sweep, repeat: u32) -> Sweep {
    let points = planned.points.iter().map(|point| Point {
        values: point.settings.iter().map(|setting| setting.value.clone()).collect(),
        runs: Vec::new(),
        prediction: sim::theory::stop_and_wait(&point.plan).map(predict),
    });
    Sweep {
        name: planned.name.clone(),
        file: arguments.file.display().to_string(),
        seed: planned.seed,
        engine: arguments.engine.name().to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        repeat: sweep_command(arguments, planned, repeat),
        axes: planned.axes.iter().map(|axis| axis.path.clone()).collect(),
        x: planned.x,
        metrics: planned
            .y
            .iter()
            .map(|metric| match metric {
                topology::sweep::Metric::TotalTime => Metric::TotalTime,
                topology::sweep::Metric::TimePerSegment => Metric::TimePerSegment,
            })
            .collect(),
        points: points.collect(),
    }
}

/// What the formula expects of a run.
fn predict(theory: StopAndWait) -> Prediction {
    Prediction {
        seconds: theory.expected_seconds(),
        deviation: theory.standard_error_seconds(1),
        // The end carries no data.
        segments: theory.segments - 1,
        measured: None,
    }
}

/// Where time passes, the formula gets the timeout and the round trip that the point's own runs had: timers are late, and
/// programs and kernel take their share of every answer, another one in each run. A run without loss would tell of another
/// moment, and of programs that never slept.
fn expect_as_measured(point: &mut Point, plan: &Plan) {
    let Some(theory) = sim::theory::stop_and_wait(plan) else { return };
    let passed = point.runs.iter().filter(|run| run.verdict == Some(Verdict::Pass));
    let told: Vec<_> = passed.filter_map(|run| run.seconds.zip(run.rounds)).collect();
    let elapsed = told.iter().map(|(seconds, _)| Span::from_secs_f64(*seconds)).sum();
    let rounds = p2mp::classic::Rounds {
        count: told.iter().map(|(_, rounds)| rounds.count).sum(),
        needless: told.iter().map(|(_, rounds)| rounds.needless).sum(),
        waited: told.iter().map(|(_, rounds)| Span::from_secs_f64(rounds.waited)).sum(),
    };
    // Of no run that passed nothing is known, and what the links alone say is no match for the other points.
    point.prediction = theory.as_measured(told.len() as u32, elapsed, rounds).map(|theory| {
        let (timeout, round_trip) = (theory.timeout.as_secs_f64(), theory.round_trip.as_secs_f64());
        Prediction { measured: Some(Circumstances { timeout, round_trip }), ..predict(theory) }
    });
}

/// What is about to happen, and how long that takes where time passes.
fn announcement(sweep: &Sweep, planned: &topology::Sweep, repeat: u32) -> String {
    let runs = planned.points.len() * repeat as usize;
    let mut text =
        format!("{}: {} points, {runs} runs, {}, seed {}", sweep.name, planned.points.len(), sweep.engine, sweep.seed);
    let expected: f64 = sweep.points.iter().filter_map(|point| point.prediction).map(|one| one.seconds).sum();
    let expected = expected * f64::from(repeat);
    if expected > 0.0 && sweep.engine == Engine::Netns.name() {
        text.push_str(&format!(", at least {}", rounded(expected)));
        if expected > 3600.0 {
            text.push_str(" by the formula (`--engine sim` takes seconds)");
        }
    }
    text.push('\n');
    text
}

fn rounded(seconds: f64) -> String {
    match seconds {
        _ if seconds < 120.0 => format!("{seconds:.0} s"),
        _ if seconds < 7200.0 => format!("{:.0} min", seconds / 60.0),
        _ => format!("{:.1} h", seconds / 3600.0),
    }
}

/// The nodes whose end a run waits for.
fn awaited(plan: &Plan) -> Vec<String> {
    let waits = plan.expectations().iter().filter(|one| matches!(one.what, Expected::Exit(_) | Expected::Within(_)));
    waits.map(|one| plan.node(one.node).name.clone()).collect()
}

/// What one run took.
#[derive(Default)]
struct Measured {
    /// Until all that is awaited was done.
    seconds: Option<f64>,
    segments: Option<u64>,
    rounds: Option<Rounds>,
}

/// A sender says by itself how long its transfer took, and in how many segments and rounds; else it is the time from the
/// start of all to the end of the last that was awaited.
fn measure(state: &RunState, awaited: &[String], directory: &Path) -> anyhow::Result<Measured> {
    let log = fs::read_to_string(directory.join(names::EVENTS)).context("cannot read the log")?;
    let mut started = None;
    let mut last_end = None;
    let mut transfers: Vec<Transferred> = Vec::new();
    for record in log.lines().filter_map(|line| Record::from_line(line).ok()) {
        let at = record.at();
        match record.event {
            Event::AllStarted => started = Some(at),
            Event::NodeExited { node, .. } if awaited.contains(&node) => last_end = Some(at),
            Event::NodeReported { report: NodeReport::Transferred(told), .. } => transfers.push(told),
            _ => {}
        }
    }
    if let Some(longest) = transfers.iter().map(|told| told.seconds).max_by(f64::total_cmp) {
        let rounds = if let [only] = &transfers[..] { only.rounds } else { None };
        let segments = transfers.iter().map(|told| told.segments).sum();
        return Ok(Measured { seconds: Some(longest), segments: Some(segments), rounds });
    }
    let took = started.zip(last_end).map(|(from, to)| to.saturating_sub(from));
    Ok(Measured { seconds: took.or(state.took).map(|took| took.as_secs_f64()), ..Measured::default() })
}

fn sweep_command(arguments: &SweepArguments, planned: &topology::Sweep, repeat: u32) -> String {
    let file = quoted(&arguments.file.display().to_string());
    let mut command = format!("testbed sweep {file} --seed {}", planned.seed);
    for setting in &arguments.variation.settings {
        command.push_str(&format!(" --set {}", quoted(&setting.to_string())));
    }
    if arguments.engine != Engine::Netns {
        command.push_str(&format!(" --engine {}", arguments.engine.name()));
    }
    if repeat != planned.repeat {
        command.push_str(&format!(" --repeat {repeat}"));
    }
    if arguments.calibrate != Calibrate::Quick {
        command.push_str(&format!(" --calibrate {}", arguments.calibrate.name()));
    }
    if arguments.pcap {
        command.push_str(" --pcap");
    }
    command
}

/// `<out>/<name>/<stamp>-sweep`, beside the directories of its runs.
fn create_folder(out: &Path, name: &str) -> anyhow::Result<PathBuf> {
    let parent = out.join(name);
    let folder = parent.join(format!("{}-sweep", report::stamp::compact(engine::unix_ms())));
    fs::create_dir_all(&parent).with_context(|| format!("cannot create {}", parent.display()))?;
    fs::create_dir(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
    Ok(folder)
}

//! The rows in virtual time, and what they say of any other driver.

use std::fmt;

use link::{Network, Profile, To, WireSize};
use machine::{Seed, Span, Time};
use topology::{Diagnostics, Overrides, Plan, Source};

use super::figures::{Arrival, Figure, Figures};
use super::table::{Kind, LEFT, RIGHT, Row, Way, topology};

/// The rows as the model has them.
#[derive(Clone, Debug)]
pub struct Model {
    /// By name of the row, and so of its network.
    profiles: Vec<(&'static str, Profile)>,
}

/// What to expect of a row: figures of the model for many seeds.
#[derive(Clone, Debug)]
pub struct Expected {
    /// The mean of each figure and its standard deviation from seed to seed.
    figures: Vec<(Figure, f64, f64)>,
    seeds: u32,
    /// How long any packet took at most.
    longest: Span,
}

/// By how much a machine may be off beside chance.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Leeway {
    /// Of the mean delay, the median and the ninth decile.
    pub delay: Span,
    /// Of the 99th percentile.
    pub tail: Span,
    /// Of a rate, as a share of it.
    pub rate: f64,
    /// Of what a full queue drops, in packets.
    pub queue: f64,
    /// Of how many packets of a train come out of order, as a share of them.
    pub order: f64,
}

/// A figure that is further from what is expected than chance and leeway explain.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Stray {
    /// Which.
    pub figure: Figure,
    /// What was found.
    pub found: f64,
    /// What was expected.
    pub expected: f64,
    /// How far from it a right driver may be.
    pub within: f64,
}

/// How many standard deviations count as chance. With nine figures of two dozen rows, a right driver strays by chance in one
/// of 8000 measurements of the whole table.
const SIGMAS: f64 = 5.0;

impl Model {
    /// The model of these rows.
    ///
    /// # Errors
    ///
    /// What is wrong with a row's link.
    pub fn of(rows: &[Row]) -> Result<Model, Diagnostics> {
        let text = topology(rows, "relay", 0);
        let plan = topology::load(&Source::new("agreement.yaml", &text), &Overrides::new(Seed::new(0)))?;
        Ok(Model { profiles: rows.iter().map(|row| (row.name, profile(&plan, row.name))).collect() })
    }

    /// What the model makes of a row when a run has this seed: what the relay must decide, too.
    ///
    /// # Panics
    ///
    /// If the row is none of those that the model is of.
    pub fn figures(&self, row: &Row, seed: Seed) -> Figures {
        Figures::of(row, &self.arrivals(row, seed))
    }

    /// What to expect of a row, from so many seeds.
    ///
    /// # Panics
    ///
    /// As [`figures`](Model::figures).
    pub fn expected(&self, row: &Row, seeds: u32) -> Expected {
        let mut longest = Span::ZERO;
        let all: Vec<Figures> = (1..=seeds)
            .map(|seed| {
                let arrivals = self.arrivals(row, Seed::new(u64::from(seed)).derive("agreement"));
                longest = arrivals.iter().map(|one| one.at.since(one.sent)).max().unwrap_or_default().max(longest);
                Figures::of(row, &arrivals)
            })
            .collect();
        let told = Figure::ALL.into_iter().filter(|figure| figure.tells(row.kind));
        let figures = told.map(|figure| {
            let values = all.iter().map(|figures| figures.get(figure));
            let mean = values.clone().sum::<f64>() / f64::from(seeds);
            let squares = values.map(|value| (value - mean).powi(2)).sum::<f64>();
            (figure, mean, (squares / f64::from(seeds.max(2) - 1)).sqrt())
        });
        Expected { figures: figures.collect(), seeds, longest }
    }

    fn arrivals(&self, row: &Row, seed: Seed) -> Vec<Arrival> {
        let (_, profile) = self.profiles.iter().find(|(name, _)| *name == row.name).expect("a row of this model");
        let mut network: Network<(u32, Time)> = Network::new(row.name, seed);
        let left = network.add_port(LEFT, profile);
        let right = network.add_port(RIGHT, &Profile::default());
        let (from, to) = if row.way == Way::Up { (left, right) } else { (right, left) };
        let mut arrivals = Vec::new();
        let mut collect = |network: &mut Network<(u32, Time)>, until| {
            while let Some(one) = network.poll(until) {
                let (number, sent) = one.payload;
                arrivals.push(Arrival { number, sent, at: one.at, is_damaged: !one.flips.is_empty() });
            }
        };
        for number in 0..row.traffic.packets {
            let sent = row.traffic.time_of(number, Time::ZERO);
            network.send(sent, from, To::Port(to), WireSize::packet(row.traffic.bytes), (number, sent));
            collect(&mut network, sent);
        }
        collect(&mut network, Time::MAX);
        arrivals
    }
}

/// The link of [`LEFT`] on the network of a row, in a plan of the [`topology`].
fn profile(plan: &Plan, name: &str) -> Profile {
    let left = plan.nodes().iter().find(|node| node.name == LEFT).expect("every such plan has it");
    let here = left.interfaces.iter().find(|interface| plan.network(interface.network).name == name);
    here.expect("it is on every network").link.clone()
}

impl Expected {
    /// The mean of a figure and its standard deviation from run to run; `None` if it tells nothing about the row.
    pub fn of(&self, figure: Figure) -> Option<(f64, f64)> {
        self.figures.iter().find(|(one, ..)| *one == figure).map(|(_, mean, deviation)| (*mean, *deviation))
    }

    /// How long any packet took at most, after the beginning of its turn.
    pub fn longest(&self) -> Span {
        self.longest
    }

    /// Figures that are further from their means than five standard deviations (of the figure and of the mean) and
    /// the leeway.
    pub fn strays(&self, row: &Row, found: &Figures, leeway: &Leeway) -> Vec<Stray> {
        let strays = self.figures.iter().filter_map(|&(figure, expected, deviation)| {
            let found = found.get(figure);
            let chance = SIGMAS * deviation * (1.0 + 1.0 / f64::from(self.seeds)).sqrt();
            let within = chance + leeway.of(row, figure, expected);
            let stray = Stray { figure, found, expected, within };
            ((found - expected).abs() > within).then_some(stray)
        });
        strays.collect()
    }
}

impl Leeway {
    /// What a machine may be off that keeps up with the emulation. It sends a packet some tens of microseconds after it read
    /// the clock, and has other things to do now and then. In Linux each CPU has a backlog of packets of its own: where
    /// whoever sends them is moved from one CPU to another, those that it sends next may overtake those before.
    pub const KEPT_UP: Leeway =
        Leeway { delay: Span::from_micros(700), tail: Span::from_millis(5), rate: 0.02, queue: 2.0, order: 0.01 };

    fn of(&self, row: &Row, figure: Figure, expected: f64) -> f64 {
        let millis = |span: Span| span.as_nanos() as f64 / 1e6;
        match figure {
            Figure::Mean | Figure::P50 | Figure::P90 => millis(self.delay),
            Figure::P99 => millis(self.tail),
            Figure::Rate => expected * self.rate,
            Figure::Lost if row.kind == Kind::Queue => self.queue,
            Figure::Reordered if row.kind != Kind::Delays => f64::from(row.traffic.packets) * self.order,
            // The mean of a figure that hardly varies may lie between two whole numbers.
            Figure::Lost | Figure::Copies | Figure::Corrupted | Figure::Reordered => 1e-9,
        }
    }
}

impl fmt::Display for Stray {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Stray { figure, found, expected, within } = self;
        write!(f, "{} {found:.3} instead of {expected:.3} ± {within:.3}", figure.name())
    }
}

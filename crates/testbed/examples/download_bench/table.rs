//! Medians beside each other, as Markdown.

use std::fmt;

use crate::case::Case;
use crate::network::{Client, Servers};
use crate::outcome::Outcome;
use crate::shared::figures::{mark, number, sorted};

/// The first two lines of the table.
pub(crate) const HEAD: &str = "\
| case | servers | bound s | downloader s | over bound | aria2 s | over bound | downloader / aria2 | twice | wire, aria2's | MiB, aria2's | CPU s, aria2's | runs left out |
| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |";

/// Of the file, what may come twice.
const TWICE: f64 = 0.01;

/// What a case on one kind of servers showed.
#[derive(Debug)]
pub(crate) struct Row<'a> {
    case: &'a Case,
    servers: Servers,
    ours: Figures,
    aria2: Figures,
}

/// Medians of one client's runs.
#[derive(Debug)]
struct Figures {
    bound: Option<f64>,
    took: Option<f64>,
    ratio: Option<f64>,
    least: Option<f64>,
    greatest: Option<f64>,
    twice: Option<f64>,
    wire: Option<f64>,
    mebibytes: Option<f64>,
    cpu: Option<f64>,
    failed: usize,
    invalid: usize,
}

impl<'a> Row<'a> {
    pub(crate) fn new(case: &'a Case, servers: Servers, outcomes: &[(Client, Outcome)]) -> Self {
        let of = |client| {
            let of_client = outcomes.iter().filter(|(other, _)| *other == client).map(|(_, outcome)| outcome);
            Figures::new(case, &of_client.collect::<Vec<_>>())
        };
        Row { case, servers, ours: of(Client::Ours), aria2: of(Client::Aria2) }
    }

    /// Our time over aria2's.
    fn against(&self) -> Option<f64> {
        Some(self.ours.took? / self.aria2.took?)
    }

    /// Whether everything that was measured is within its target.
    pub(crate) fn meets_targets(&self) -> bool {
        let within = |value: Option<f64>, most: Option<f64>| value.zip(most).is_none_or(|(value, most)| value <= most);
        self.ours.failed == 0
            && within(self.ours.ratio, self.case.most)
            && within(self.against(), Some(self.case.against))
            && within(self.ours.twice, Some(TWICE))
    }
}

impl Figures {
    fn new(case: &Case, outcomes: &[&Outcome]) -> Self {
        let of = |figure: &dyn Fn(&Outcome) -> Option<f64>| {
            sorted(outcomes.iter().filter(|outcome| outcome.passed()).filter_map(|outcome| figure(outcome)))
        };
        let median = |figure: &dyn Fn(&Outcome) -> Option<f64>| {
            let values = of(figure);
            values.get(values.len() / 2).copied()
        };
        let took = of(&|outcome| outcome.ratio().or(Some(outcome.took)));
        Figures {
            bound: median(&|outcome| outcome.bound),
            took: median(&|outcome| Some(outcome.took)),
            ratio: median(&|outcome| outcome.ratio()),
            least: took.first().copied(),
            greatest: took.last().copied(),
            twice: median(&|outcome| outcome.twice.map(|bytes| bytes as f64 / case.length as f64)),
            wire: median(&|outcome| outcome.wire_share(case)),
            mebibytes: median(&|outcome| Some(outcome.max_rss_kib as f64 / 1024.0)),
            cpu: median(&|outcome| Some(outcome.cpu)),
            failed: outcomes.iter().filter(|outcome| !outcome.passed() && !outcome.is_invalid()).count(),
            invalid: outcomes.iter().filter(|outcome| outcome.is_invalid()).count(),
        }
    }

    /// The median, and the least and the greatest.
    fn spread(&self) -> String {
        let range = self.least.zip(self.greatest).map_or(String::new(), |(a, b)| format!(" ({a:.3}–{b:.3})"));
        number(self.ratio, 3) + if self.ratio.is_some() { &range } else { "" }
    }
}

impl fmt::Display for Row<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (ours, aria2) = (&self.ours, &self.aria2);
        let left_out = match (ours.failed + aria2.failed, ours.invalid + aria2.invalid) {
            (0, 0) => String::new(),
            (failed, invalid) => format!("{failed} failed, {invalid} invalid"),
        };
        write!(
            f,
            "| {} | {} | {} | {} | {}{} | {} | {} | {}{} | {}{} | {}, {} | {}, {} | {}, {} | {left_out} |",
            self.case.name,
            self.servers.word(),
            number(ours.bound.or(aria2.bound), 3),
            number(ours.took, 3),
            ours.spread(),
            mark(ours.ratio, self.case.most),
            number(aria2.took, 3),
            aria2.spread(),
            number(self.against(), 3),
            mark(self.against(), Some(self.case.against)),
            number(ours.twice.map(|share| share * 100.0), 2) + if ours.twice.is_some() { " %" } else { "" },
            mark(ours.twice, Some(TWICE)),
            number(ours.wire, 4),
            number(aria2.wire, 4),
            number(ours.mebibytes, 0),
            number(aria2.mebibytes, 0),
            number(ours.cpu, 2),
            number(aria2.cpu, 2),
        )
    }
}

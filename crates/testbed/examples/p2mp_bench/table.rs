//! Medians below each other, as Markdown.

use crate::case::{Case, FRAME, Program};
use crate::outcome::Outcome;
use crate::shared::figures::{mark, number, sorted};

/// The first two lines of the table.
pub(crate) const HEAD: &str = "\
| case | program | s | least, greatest | over bound | sent, over the file | other / ours | sender CPU s | receivers CPU s | sender MiB | receiver MiB | queue drops | left out |
| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |";

/// A line for each program, and whether all targets are met.
pub(crate) fn rows(case: &Case, programs: &[Program], outcomes: &[(Program, Outcome)]) -> (Vec<String>, bool) {
    let figures: Vec<(Program, Figures)> = programs
        .iter()
        .map(|program| {
            let own = outcomes.iter().filter(|(other, _)| other == program).map(|(_, outcome)| outcome);
            (*program, Figures::new(case, &own.collect::<Vec<_>>()))
        })
        .collect();
    let took = |program| figures.iter().find(|(other, _)| *other == program).and_then(|(_, figures)| figures.took);
    let [ours, other] = case.programs;
    let faster = took(other).zip(took(ours)).map(|(other, ours)| other / ours);
    let lines = figures.iter().map(|(program, figures)| {
        let is_ours = *program == ours;
        let ratio = if is_ours { number(faster, 2) + missed(faster, case.faster) } else { String::new() };
        figures.line(case, *program, if is_ours { case.most } else { None }, &ratio)
    });
    let within = figures
        .iter()
        .find(|(program, _)| *program == ours)
        .is_none_or(|(_, figures)| figures.failed == 0 && mark(figures.over_bound, case.most).is_empty());
    (lines.collect(), within && missed(faster, case.faster).is_empty())
}

/// Medians of one program's runs.
#[derive(Debug)]
struct Figures {
    took: Option<f64>,
    spread: String,
    over_bound: Option<f64>,
    sent: Option<f64>,
    cpu: [Option<f64>; 2],
    mebibytes: [Option<f64>; 2],
    queue_drops: Option<f64>,
    failed: usize,
    invalid: usize,
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
        let took = of(&|outcome| outcome.took);
        let needed = case.length as f64 * f64::from(FRAME.wire) / f64::from(FRAME.payload);
        let mebibytes = |kib: Option<u64>| kib.map(|kib| kib as f64 / 1024.0);
        Figures {
            took: median(&|outcome| outcome.took),
            spread: took.first().zip(took.last()).map_or_else(String::new, |(a, b)| format!("{a:.3}, {b:.3}")),
            over_bound: case.bound().and_then(|bound| median(&|outcome| outcome.took.map(|took| took / bound))),
            sent: median(&|outcome| outcome.wire.map(|bytes| bytes as f64 / needed)),
            cpu: [median(&|outcome| outcome.sender_cpu), median(&|outcome| outcome.receivers_cpu)],
            mebibytes: [
                median(&|outcome| mebibytes(outcome.sender_rss_kib)),
                median(&|outcome| mebibytes(outcome.receiver_rss_kib)),
            ],
            queue_drops: median(&|outcome| Some(outcome.queue_drops as f64)),
            failed: outcomes.iter().filter(|outcome| !outcome.passed() && !outcome.is_invalid()).count(),
            invalid: outcomes.iter().filter(|outcome| outcome.is_invalid()).count(),
        }
    }

    fn line(&self, case: &Case, program: Program, most: Option<f64>, ratio: &str) -> String {
        let left_out = match (self.failed, self.invalid) {
            (0, 0) => String::new(),
            (failed, invalid) => format!("{failed} failed, {invalid} invalid"),
        };
        format!(
            "| {} | {} | {} | {} | {}{} | {} | {ratio} | {} | {} | {} | {} | {} | {left_out} |",
            case.name,
            program.word(),
            number(self.took, 3),
            self.spread,
            number(self.over_bound, 3),
            mark(self.over_bound, most),
            number(self.sent, 3),
            number(self.cpu[0], 2),
            number(self.cpu[1], 2),
            number(self.mebibytes[0], 0),
            number(self.mebibytes[1], 0),
            number(self.queue_drops, 0),
        )
    }
}

/// What stands behind a ratio that should be at least so much.
fn missed(value: Option<f64>, least: Option<f64>) -> &'static str {
    match value.zip(least) {
        Some((value, least)) if value < least => " MISSED",
        _ => "",
    }
}

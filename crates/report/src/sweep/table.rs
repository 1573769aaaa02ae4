//! A sweep as a table on a terminal.

use event::Verdict;

use super::{Circumstances, Estimate, Metric, Point, Sweep};
use crate::columns::{self, Align, Cell};
use crate::paint::Tone;
use crate::table::verdict_tone;
use crate::{escape, figure};

/// Beyond so many standard errors a mean is worth a second look: 3 in 1000 stray that far by chance.
const FAR: f64 = 3.0;

/// The table of all points, the runs that did not pass with the commands that repeat them, and the verdict.
pub fn sweep_table(sweep: &Sweep, colour: bool) -> String {
    let has_segments = sweep.points.iter().any(|point| point.estimate(Metric::TimePerSegment).is_some());
    let has_prediction = sweep.points.iter().any(|point| point.prediction.is_some());
    let has_circumstances = sweep.points.iter().any(|point| point.circumstances().is_some());
    let mut header: Vec<String> = sweep.axes.iter().map(|axis| escape::line(axis)).collect();
    header.extend(["runs", "total time"].map(str::to_owned));
    if has_segments {
        header.push("time per segment".to_owned());
    }
    if has_circumstances {
        header.extend(["timeout", "round trip"].map(str::to_owned));
    }
    if has_prediction {
        header.extend(["formula", "off by"].map(str::to_owned));
    }
    let aligns = vec![Align::Right; header.len()];
    let mut rows = vec![header.into_iter().map(|name| Cell::toned(name, Tone::Faint)).collect::<Vec<_>>()];
    rows.extend(sweep.points.iter().map(|point| row(point, has_segments, has_circumstances, has_prediction)));

    let mut text = String::from("\n");
    for line in columns::lines(&rows, &aligns, 2, colour) {
        text.push_str(&line);
        text.push('\n');
    }
    text.push('\n');
    for (point, run) in sweep.points.iter().flat_map(|point| point.runs.iter().map(move |run| (point, run))) {
        if run.verdict == Some(Verdict::Pass) {
            continue;
        }
        let verdict = run.verdict.map_or("NO VERDICT".to_owned(), |verdict| verdict.to_string());
        let verdict = verdict_tone(run.verdict).paint(&verdict, colour);
        let cause = run.cause.as_deref().map(|cause| format!(": {}", escape::line(cause))).unwrap_or_default();
        text.push_str(&format!("{verdict} {}{cause}\n  repeat: {}\n", sweep.label(point), escape::line(&run.repeat)));
    }
    let runs = sweep.points.iter().flat_map(|point| &point.runs);
    let (all, passed) =
        runs.fold((0, 0), |(all, passed), run| (all + 1, passed + usize::from(run.verdict == Some(Verdict::Pass))));
    let verdict = sweep.verdict();
    text.push_str(&format!(
        "{} {}: {passed} of {} passed (seed {})\n",
        verdict_tone(Some(verdict)).paint(&verdict.to_string(), colour),
        escape::line(&sweep.name),
        figure::count(all, "run"),
        sweep.seed,
    ));
    text
}

/// One point in one line, for the progress of a sweep.
pub fn sweep_row(sweep: &Sweep, point: &Point) -> String {
    let measured = point.estimate(Metric::TotalTime).map_or("no run passed".to_owned(), |estimate| spread(&estimate));
    let against = point.standard_errors().map(|off| format!(", {off:+.1} standard errors off the formula"));
    format!("{}: {measured}{}\n", sweep.label(point), against.unwrap_or_default())
}

impl Sweep {
    /// What tells a point from the others.
    fn label(&self, point: &Point) -> String {
        let words: Vec<_> =
            self.axes.iter().zip(&point.values).map(|(axis, value)| format!("{axis}={value}")).collect();
        if words.is_empty() { escape::line(&self.name) } else { escape::line(&words.join(", ")) }
    }
}

impl Point {
    fn circumstances(&self) -> Option<Circumstances> {
        self.prediction.and_then(|prediction| prediction.measured)
    }
}

fn row(point: &Point, has_segments: bool, has_circumstances: bool, has_prediction: bool) -> Vec<Cell> {
    let mut cells: Vec<Cell> = point.values.iter().map(|value| Cell::new(escape::line(value))).collect();
    let estimate = |metric| point.estimate(metric).map_or("-".to_owned(), |estimate| spread(&estimate));
    cells.push(Cell::new(point.runs.len().to_string()));
    cells.push(Cell::new(estimate(Metric::TotalTime)));
    if has_segments {
        cells.push(Cell::new(estimate(Metric::TimePerSegment)));
    }
    if has_circumstances {
        let measured = point.circumstances();
        let both = [measured.map(|measured| measured.timeout), measured.map(|measured| measured.round_trip)];
        cells.extend(both.map(|one| one.map_or(Cell::toned("-", Tone::Faint), |seconds| Cell::new(time(seconds)))));
    }
    if has_prediction {
        let predicted = point.predicted(Metric::TotalTime);
        cells.push(Cell::new(predicted.map_or("-".to_owned(), |(seconds, _)| time(seconds))));
        cells.push(match point.standard_errors() {
            Some(off) if off.abs() > FAR => Cell::toned(format!("{off:+.2} se"), Tone::Notice),
            Some(off) => Cell::new(format!("{off:+.2} se")),
            None => Cell::toned("-", Tone::Faint),
        });
    }
    cells
}

/// Mean and standard deviation in one unit.
fn spread(estimate: &Estimate) -> String {
    let (scale, digits, unit) = unit(estimate.mean);
    format!("{:.digits$} ± {:.digits$} {unit}", estimate.mean * scale, estimate.deviation * scale)
}

fn time(seconds: f64) -> String {
    let (scale, digits, unit) = unit(seconds);
    format!("{:.digits$} {unit}", seconds * scale)
}

/// What to multiply by, the digits after the point, and the unit that goes with them.
fn unit(seconds: f64) -> (f64, usize, &'static str) {
    match seconds {
        _ if seconds < 1e-3 => (1e6, 1, "us"),
        _ if seconds < 1.0 => (1e3, 2, "ms"),
        _ if seconds < 100.0 => (1.0, 3, "s"),
        _ => (1.0, 1, "s"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::sweep;
    use super::*;

    #[test]
    fn a_row_has_what_was_measured_beside_what_was_expected() {
        let text = sweep_table(&sweep(), false);
        let row = text.lines().nth(2).unwrap();
        assert_eq!(
            row.split_whitespace().collect::<Vec<_>>().join(" "),
            "1 2 10.000 ± 1.414 s 500.00 ± 70.71 ms 9.000 s +1.41 se"
        );
        assert!(text.ends_with("PASS t: 6 of 6 runs passed (seed 7)\n"), "{text}");
    }

    #[test]
    fn a_run_that_failed_is_named_with_its_command() {
        let mut sweep = sweep();
        sweep.points[1].runs[0].verdict = Some(Verdict::Fail);
        sweep.points[1].runs[0].cause = Some("it\u{1b}[2J broke".into());
        let text = sweep_table(&sweep, false);
        assert!(text.contains("FAIL receiver.count=2: it\\u{1b}[2J broke\n  repeat: testbed run t.yaml\n"), "{text}");
        assert!(text.contains("FAIL t: 5 of 6 runs passed"), "{text}");
    }
}

//! A bar for the whole with total speed and time left, and one line for each source, on a terminal.

use std::io::Write as _;
use std::sync::Arc;

use fetch::Engine;
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use machine::{Span, Time};

use super::link::Link;

/// Between two looks at the bars.
const DRAW_EVERY: Span = Span::from_millis(100);

/// The total speed is averaged over about this long, so that the time left does not jump.
const SPEED_MEMORY: Span = Span::from_secs(3);

/// What is on the terminal.
#[derive(Debug)]
pub(crate) struct Bars {
    all: MultiProgress,
    whole: ProgressBar,
    sources: Vec<ProgressBar>,
    speed: Speed,
    due: Time,
    /// The bars stay as they are; what is said from here on stands below them.
    is_over: bool,
}

impl Bars {
    /// Bars on stderr, in colour unless `NO_COLOR` is set (<https://no-color.org>).
    pub(crate) fn new(now: Time) -> Self {
        let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let all = MultiProgress::new();
        let whole = all.add(ProgressBar::new(0));
        whole.set_style(style(if plain { "{wide_bar} {msg}" } else { "{wide_bar:.green} {msg}" }));
        Bars { all, whole, sources: Vec::new(), speed: Speed::default(), due: now, is_over: false }
    }

    pub(crate) fn due(&self) -> Time {
        self.due
    }

    /// One line about something that happened, above the bars.
    pub(crate) fn say(&self, line: &str) {
        // A terminal that is gone is no reason to stop.
        let _ = if self.is_over { writeln!(std::io::stderr(), "{line}") } else { self.all.println(line) };
    }

    /// Shows how far it is; for the `last` time, as it stays.
    pub(crate) fn draw(&mut self, now: Time, engine: &Engine, links: &[Arc<Link>], last: bool) {
        self.due = now + DRAW_EVERY;
        let progress = engine.progress();
        let length = progress.length.unwrap_or(0);
        self.speed.sample(now, progress.received);
        self.whole.set_length(length);
        self.whole.set_position(progress.here);
        self.whole.set_message(summary(progress.here, progress.length, self.speed.per_second()));
        for (index, link) in links.iter().enumerate() {
            let Some(id) = engine.source_id(index) else { continue };
            if self.sources.len() <= index {
                let bar = self.all.add(ProgressBar::new_spinner());
                bar.set_style(style("{wide_msg}"));
                self.sources.push(bar);
            }
            let status = engine.source(id);
            let (here, speed) = (size(status.received), size(status.rate));
            self.sources[index].set_message(format!("{:<16} {here:>9} {speed:>9}/s  {}", link.name, status.state));
        }
        if last {
            self.sources.iter().for_each(ProgressBar::abandon);
            self.whole.abandon();
            self.is_over = true;
        }
    }

    /// Leaves the bars as they are: the terminal echoed an interrupt's `^C` and has moved its cursor, so drawing again
    /// would miss its lines.
    pub(crate) fn leave(&mut self) {
        self.all.set_draw_target(ProgressDrawTarget::hidden());
        self.is_over = true;
        let _ = writeln!(std::io::stderr());
    }
}

pub(crate) fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).expect("a fixed template is valid").progress_chars("=> ")
}

/// `45% 1.2 GB of 2.7 GB 12.3 MB/s 1:23 left`
pub(crate) fn summary(here: u64, length: Option<u64>, speed: f64) -> String {
    let Some(length) = length else { return "waiting for a server".to_owned() };
    let per_cent = if length == 0 { 100 } else { u128::from(here) * 100 / u128::from(length) };
    let left = match length - here.min(length) {
        0 => "done".to_owned(),
        left if speed >= 1.0 => format!("{} left", clock((left as f64 / speed).ceil())),
        _ => "stalled".to_owned(),
    };
    format!("{per_cent}% {} of {} {}/s {left}", size(here), size(length), size(speed as u64))
}

/// Three or four digits and a decimal unit.
pub(crate) fn size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["kB", "MB", "GB", "TB", "PB"];
    if bytes < 1000 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64 / 1e3;
    let mut unit = 0;
    while value >= 999.95 && unit + 1 < UNITS.len() {
        value /= 1e3;
        unit += 1;
    }
    format!("{value:.1} {}", UNITS[unit])
}

/// `0:07`, `12:34`, `1:02:03`, `9 d`.
fn clock(seconds: f64) -> String {
    let total = seconds.min(1e15) as u64;
    let (hours, minutes, seconds) = (total / 3600, total / 60 % 60, total % 60);
    match hours {
        0 => format!("{minutes}:{seconds:02}"),
        1..100 => format!("{hours}:{minutes:02}:{seconds:02}"),
        _ => format!("{} d", hours / 24),
    }
}

/// A smoothed speed.
#[derive(Debug, Default)]
pub(crate) struct Speed {
    before: Option<(Time, u64)>,
    /// Of what is counted, and of the time it took; both fade, so that the first seconds are right, too.
    bytes: f64,
    seconds: f64,
}

impl Speed {
    pub(crate) fn sample(&mut self, now: Time, received: u64) {
        if let Some((then, before)) = self.before.replace((now, received)) {
            let passed = now.since(then).as_secs_f64();
            let fade = (-passed / SPEED_MEMORY.as_secs_f64()).exp();
            self.bytes = self.bytes * fade + received.saturating_sub(before) as f64;
            self.seconds = self.seconds * fade + passed;
        }
    }

    pub(crate) fn per_second(&self) -> f64 {
        if self.seconds > 0.0 { self.bytes / self.seconds } else { 0.0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_summary_fits_and_says_what_is_left() {
        assert_eq!(summary(0, None, 0.0), "waiting for a server");
        assert_eq!(
            summary(1_200_000_000, Some(2_700_000_000), 12_345_678.0),
            "44% 1.2 GB of 2.7 GB 12.3 MB/s 2:02 left"
        );
        assert_eq!(summary(5, Some(5), 9.0), "100% 5 B of 5 B 9 B/s done");
        assert_eq!(summary(0, Some(999_999), 0.0), "0% 0 B of 1.0 MB 0 B/s stalled");
        assert_eq!(summary(0, Some(0), 0.0), "100% 0 B of 0 B 0 B/s done");
        assert!(summary(u64::MAX / 2, Some(u64::MAX), 1.0).ends_with(" d left"));
        assert_eq!((clock(3723.0), clock(59.0), size(999_960)), ("1:02:03".into(), "0:59".into(), "1.0 MB".into()));
    }

    #[test]
    fn the_speed_is_right_from_the_start_and_follows() {
        let mut speed = Speed::default();
        let at = |tenths: u64| Time::ZERO + Span::from_millis(100 * tenths);
        (0..=5).for_each(|tick| speed.sample(at(tick), tick * 1000));
        assert!((speed.per_second() - 10_000.0).abs() < 1.0);
        (6..=150).for_each(|tick| speed.sample(at(tick), 5000));
        assert!(speed.per_second() < 200.0, "{}", speed.per_second());
    }
}

//! What a person sees of a download: bars on a terminal, metric lines elsewhere, and a line for everything that
//! happened.

use std::io::{IsTerminal, Write as _};
use std::sync::Arc;

use fetch::{Aside, Engine, Integrity, Note, SourceState};
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use machine::{Span, Time};

use super::link::Link;
use super::{Args, Format};

/// Between two looks at the bars.
const DRAW_EVERY: Span = Span::from_millis(100);

/// Shows one download.
#[derive(Debug)]
pub(crate) enum Display {
    /// Nothing but the facts, on stderr.
    Facts,
    /// Metric lines on stdout.
    Lines(Lines),
    /// Bars on the terminal.
    Bars(Bars),
}

/// The speed of each server and their sum, every so often.
#[derive(Debug)]
pub(crate) struct Lines {
    interval: Span,
    due: Time,
    began: Time,
    /// Bytes received from each source at the last line.
    before: Vec<u64>,
}

/// A bar for the whole and one line for each source.
#[derive(Debug)]
pub(crate) struct Bars {
    all: MultiProgress,
    whole: ProgressBar,
    sources: Vec<ProgressBar>,
    due: Time,
}

impl Display {
    pub(crate) fn new(args: &Args, now: Time) -> Self {
        if args.format == Format::Json {
            return Display::Facts;
        }
        if std::io::stderr().is_terminal() {
            let all = MultiProgress::new();
            let style = "{bar:40.green} {percent:>3}% {bytes}/{total_bytes} {bytes_per_sec} {eta}";
            let whole = all.add(ProgressBar::new(0));
            whole.set_style(ProgressStyle::with_template(style).expect("a fixed template is valid"));
            return Display::Bars(Bars { all, whole, sources: Vec::new(), due: now });
        }
        let interval = args.interval;
        Display::Lines(Lines { interval, due: now + interval, began: now, before: Vec::new() })
    }

    /// When [`Display::draw`] has something to do.
    pub(crate) fn deadline(&self) -> Option<Time> {
        match self {
            Display::Facts => None,
            Display::Lines(lines) => Some(lines.due),
            Display::Bars(bars) => Some(bars.due),
        }
    }

    /// Shows how far it is, if that is due or it is the `last` time.
    pub(crate) fn draw(&mut self, now: Time, engine: &Engine, links: &[Arc<Link>], last: bool) {
        match self {
            Display::Lines(lines) if now >= lines.due || last => lines.print(now, engine),
            Display::Bars(bars) if now >= bars.due || last => bars.draw(now, engine, links, last),
            _ => {}
        }
    }

    /// One line about something that happened.
    pub(crate) fn say(&self, line: &str) {
        match self {
            // A terminal that is gone is no reason to stop.
            Display::Bars(bars) => _ = bars.all.println(line),
            Display::Facts | Display::Lines(_) => _ = writeln!(std::io::stderr(), "{line}"),
        }
    }

    /// A note of the engine, in words.
    pub(crate) fn note(&self, note: &Note, links: &[Arc<Link>]) {
        let name = |index: usize| links.get(index).map_or("?", |link| link.name.as_str());
        let line = match note {
            Note::Source { source, state } => {
                let state = match (state, links.get(source.index())) {
                    (SourceState::Down(why), Some(link)) => format!("down: {}", link.in_words(*why)),
                    (SourceState::SetApart(Aside::Violations { .. }), Some(link)) => {
                        let last = link.trouble().map(|trouble| format!(", last: {trouble}")).unwrap_or_default();
                        format!("{state}{last}")
                    }
                    _ => state.to_string(),
                };
                format!("{}: {state}", name(source.index()))
            }
            Note::Identified { length, resumed: 0, rehashed: 0 } => format!("{length} bytes to fetch"),
            Note::Identified { length, resumed, rehashed } => {
                format!("{resumed} of {length} bytes are here already, {rehashed} pieces are checked again")
            }
            Note::Hashed { here: 0 } => return,
            Note::Hashed { here } => format!("hashes came: the {here} bytes that are here are checked"),
            Note::HashesMissing { source } => {
                format!("{}: its hashes did not come in time, and are waited for no longer", name(source.index()))
            }
            Note::Restarted { lost } => format!("the file is another one than before: {lost} bytes are given up"),
            Note::Corrupt { piece, senders } if senders.is_empty() => format!("{piece} on the disk is damaged"),
            Note::Corrupt { piece, senders } => {
                let senders: Vec<_> = senders.iter().map(|sender| name(sender.index())).collect();
                format!("{piece} is corrupt, sent by {}", senders.join(", "))
            }
        };
        self.say(&line);
    }
}

/// What vouches for the file, as the end of a sentence.
pub(crate) fn vouched(integrity: Integrity) -> &'static str {
    match integrity {
        Integrity::Pieces => "every piece has the SHA-256 that was published",
        Integrity::Whole => "it has the expected SHA-256",
        Integrity::Transport => "no hashes were to be had, so its integrity rests on TCP alone",
    }
}

impl Lines {
    fn print(&mut self, now: Time, engine: &Engine) {
        let elapsed = now.since(self.began).as_secs_f64().max(1e-3);
        (self.due, self.began) = (now + self.interval, now);
        let mut text = String::new();
        let (mut total, mut total_speed) = (0.0, 0.0);
        for (index, id) in (0..).map_while(|index| engine.source_id(index)).enumerate() {
            let status = engine.source(id);
            self.before.resize(self.before.len().max(index + 1), 0);
            let speed = (status.received - self.before[index]) as f64 / 1000.0 / elapsed;
            self.before[index] = status.received;
            let (received, assigned) = (status.received as f64 / 1000.0, status.assigned as f64 / 1000.0);
            total += received;
            total_speed += speed;
            let line = format!(
                "Server{}: {}/{}, download speed: {}kb/s\n",
                index + 1,
                number(received),
                number(assigned),
                speed_number(speed),
            );
            text.push_str(&line);
        }
        text.push_str(&format!("Total: {}, download speed: {}kb/s\n", number(total), speed_number(total_speed)));
        let mut stdout = std::io::stdout().lock();
        // A reader that is gone is no reason to stop.
        let _ = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
    }
}

/// Two decimals at most, one at least: `0.0`, `2880.91`.
fn number(value: f64) -> String {
    format!("{:?}", (value * 100.0).round() / 100.0)
}

/// The same, and `0` for nothing.
fn speed_number(value: f64) -> String {
    if value == 0.0 { "0".to_owned() } else { number(value) }
}

impl Bars {
    fn draw(&mut self, now: Time, engine: &Engine, links: &[Arc<Link>], last: bool) {
        self.due = now + DRAW_EVERY;
        let progress = engine.progress();
        self.whole.set_length(progress.length.unwrap_or(0));
        self.whole.set_position(progress.here);
        for (index, link) in links.iter().enumerate() {
            let Some(id) = engine.source_id(index) else { continue };
            if self.sources.len() <= index {
                let bar = self.all.add(ProgressBar::new_spinner());
                bar.set_style(ProgressStyle::with_template("{msg}").expect("a fixed template is valid"));
                self.sources.push(bar);
            }
            let status = engine.source(id);
            let (megabytes, speed) = (status.received as f64 / 1e6, status.rate as f64 / 1e6);
            self.sources[index]
                .set_message(format!("{:<16} {megabytes:>9.1} MB {speed:>8.2} MB/s  {}", link.name, status.state));
        }
        if last {
            self.sources.iter().for_each(ProgressBar::abandon);
            self.whole.abandon();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_look_as_they_always_did() {
        assert_eq!(
            (number(0.0), number(2880.912), number(18005.0)),
            ("0.0".into(), "2880.91".into(), "18005.0".into())
        );
        assert_eq!((speed_number(0.0), speed_number(36011.351)), ("0".into(), "36011.35".into()));
    }
}

//! What a person sees of a download: bars on a terminal, metric lines elsewhere, and a line for everything that
//! happened.

use std::io::{IsTerminal, Write as _};
use std::sync::Arc;

use fetch::{Aside, Engine, Integrity, Note, SourceState};
use machine::{Span, Time};

use super::bars::Bars;
use super::link::Link;
use super::{Args, Format};

/// Shows one download: bars on stderr if that is a terminal; metric lines on stdout, unless that is the same terminal; with
/// `--format json` neither.
#[derive(Debug)]
pub(crate) struct Display {
    lines: Option<Lines>,
    bars: Option<Bars>,
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

impl Display {
    pub(crate) fn new(args: &Args, now: Time) -> Self {
        if args.format == Format::Json {
            return Display { lines: None, bars: None };
        }
        let bars = std::io::stderr().is_terminal().then(|| Bars::new(now));
        let interval = args.interval;
        let lines = (bars.is_none() || !std::io::stdout().is_terminal()).then(|| Lines {
            interval,
            due: now + interval,
            began: now,
            before: Vec::new(),
        });
        Display { lines, bars }
    }

    /// When [`Display::draw`] has something to do.
    pub(crate) fn deadline(&self) -> Option<Time> {
        let lines = self.lines.as_ref().map(|lines| lines.due);
        lines.into_iter().chain(self.bars.as_ref().map(Bars::due)).min()
    }

    /// Shows how far it is, if that is due or it is the `last` time.
    pub(crate) fn draw(&mut self, now: Time, engine: &Engine, links: &[Arc<Link>], last: bool) {
        if let Some(lines) = self.lines.as_mut().filter(|lines| now >= lines.due || last) {
            lines.print(now, engine);
        }
        if let Some(bars) = self.bars.as_mut().filter(|bars| now >= bars.due() || last) {
            bars.draw(now, engine, links, last);
        }
    }

    /// The last look, when the user stopped it.
    pub(crate) fn leave(&mut self, now: Time, engine: &Engine) {
        if let Some(lines) = &mut self.lines {
            lines.print(now, engine);
        }
        if let Some(bars) = &mut self.bars {
            bars.leave();
        }
    }

    /// One line about something that happened.
    pub(crate) fn say(&self, line: &str) {
        match &self.bars {
            Some(bars) => bars.say(line),
            // A reader that is gone is no reason to stop.
            None => _ = writeln!(std::io::stderr(), "{line}"),
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
            Note::ExpectationMissing => {
                "the check server's SHA-256 did not come in time, and is waited for no longer".to_owned()
            }
            Note::NoRanges { source } => format!(
                "{}: serves no byte ranges, so it sends all or nothing: used as one stream, while no other source delivers",
                name(source.index())
            ),
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

//! What a person or a program sees of a run while it runs.

mod fact;
mod panel;
mod printer;

use std::collections::BTreeMap;
use std::io::{self, IsTerminal, Write};

use event::{Event, NodeReport, Record, RunState};
use indicatif::ProgressDrawTarget;
use machine::Span;

pub use self::panel::panel;

use self::fact::Narrator;
use self::printer::{Printer, Sink};
use crate::section::LARGEST_LISTED_GROUP;

/// A panel is drawn again when this much has passed since the last time.
const REDRAW: Span = Span::from_millis(100);
/// As plain lines, a node's progress is told no more often than this.
const PROGRESS_LINES: Span = Span::from_secs(1);
/// Draws a second that a terminal gets at most.
const MOST_DRAWS: u8 = 20;

/// The form in which a run is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Output {
    /// A panel that is redrawn in place, and facts that scroll up above it.
    Terminal {
        /// Whether colours are wanted.
        colour: bool,
    },
    /// Facts as lines, and now and then the progress.
    Plain,
    /// The records as they are, one a line.
    Records,
}

impl Output {
    /// The form that suits standard output: `json` asks for records; a panel needs a terminal that can move its cursor
    /// (`TERM` is not `dumb`) and a reader who is there (`CI` is not set). `NO_COLOR` turns colours off
    /// (<https://no-color.org>).
    pub fn of_stdout(json: bool) -> Self {
        Output::choose(json, io::stdout().is_terminal(), |name| std::env::var(name).ok())
    }

    fn choose(json: bool, is_terminal: bool, variable: impl Fn(&str) -> Option<String>) -> Self {
        let set = |name| variable(name).is_some_and(|value| !value.is_empty() && value != "false");
        let dumb = variable("TERM").is_some_and(|term| term == "dumb");
        match (json, is_terminal && !dumb && !set("CI")) {
            (true, _) => Output::Records,
            (false, true) => Output::Terminal { colour: variable("NO_COLOR").is_none_or(|value| value.is_empty()) },
            (false, false) => Output::Plain,
        }
    }

    /// Whether this output takes colours, for [`crate::table()`] after the run.
    pub fn has_colour(self) -> bool {
        self == Output::Terminal { colour: true }
    }
}

/// Shows a run as its records come. Writing is done by a thread of its own, so that a stopped terminal or a slow pipe
/// never holds up the run, and a closed one is of no consequence. The cursor is never hidden and no mode of the
/// terminal is changed, so there is nothing to restore, whatever ends the process.
///
/// Order of calls: [`observe`](Self::observe) for every record after the state took it; [`tick`](Self::tick) as often
/// as the clock on the panel should move; [`finish`](Self::finish) or
/// [`finish_with`](Self::finish_with) before anything else writes to standard output.
pub struct LiveView {
    form: Form,
    printer: Printer,
}

enum Form {
    Terminal { colour: bool, narrator: Narrator, drawn_at: Option<Span> },
    Plain { narrator: Narrator, told_at: BTreeMap<String, Span> },
    Records,
}

impl LiveView {
    /// A view on standard output. Starts a thread, so a process that must fork first has done so.
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn new(output: Output) -> io::Result<Self> {
        let sink = match output {
            Output::Terminal { .. } => Sink::terminal(ProgressDrawTarget::stdout_with_hz(MOST_DRAWS)),
            Output::Plain | Output::Records => Sink::Writer(Box::new(io::stdout())),
        };
        Self::with_sink(output, sink)
    }

    /// A view that writes lines to `writer`; a panel needs a terminal, so it is told as plain lines.
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn to_writer(output: Output, writer: Box<dyn Write + Send>) -> io::Result<Self> {
        let output = if output == Output::Records { Output::Records } else { Output::Plain };
        Self::with_sink(output, Sink::Writer(writer))
    }

    fn with_sink(output: Output, sink: Sink) -> io::Result<Self> {
        let form = match output {
            Output::Terminal { colour } => Form::Terminal { colour, narrator: Narrator::default(), drawn_at: None },
            Output::Plain => Form::Plain { narrator: Narrator::default(), told_at: BTreeMap::new() },
            Output::Records => Form::Records,
        };
        Ok(LiveView { form, printer: Printer::start(sink)? })
    }

    /// Shows `record`; `state` has taken it already.
    pub fn observe(&mut self, record: &Record, state: &RunState) {
        match &mut self.form {
            Form::Records => self.printer.line(record.to_line()),
            Form::Terminal { colour, narrator, drawn_at } => {
                if let Some(fact) = narrator.tell(record, state) {
                    self.printer.line(fact.to_line(*colour));
                }
                draw(&mut self.printer, drawn_at, *colour, state.now, state);
            }
            Form::Plain { narrator, told_at } => {
                if let Some(fact) = narrator.tell(record, state) {
                    self.printer.line(fact.to_line(false));
                }
                if let Some(line) = progress_line(told_at, record, state) {
                    self.printer.line(line);
                }
            }
        }
    }

    /// Moves the clock of a panel to `now`, since the run began.
    pub fn tick(&mut self, now: Span, state: &RunState) {
        if let Form::Terminal { colour, drawn_at, .. } = &mut self.form {
            draw(&mut self.printer, drawn_at, *colour, now.max(state.now), state);
        }
    }

    /// Takes the panel away and waits until all is written.
    pub fn finish(self) {
        self.printer.finish("");
    }

    /// [`finish`](Self::finish), then `tables` (see [`crate::table()`]) after it, unless the records themselves are
    /// shown. Unlike `print!` this does not panic where nobody reads any more.
    pub fn finish_with(self, tables: &str) {
        self.printer.finish(if matches!(self.form, Form::Records) { "" } else { tables });
    }
}

/// Writes `text` to standard output. Unlike `print!` it does not panic where nobody reads any more: a report that cannot
/// be shown is in the run directory all the same.
pub fn say(text: &str) {
    let mut out = io::stdout().lock();
    let _unread = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

fn draw(printer: &mut Printer, drawn_at: &mut Option<Span>, colour: bool, now: Span, state: &RunState) {
    if drawn_at.is_some_and(|then| now < then + REDRAW) {
        return;
    }
    *drawn_at = Some(now);
    let (height, width) = console::Term::stdout().size();
    printer.panel(panel(state, now, (width.into(), height.into()), colour));
}

fn progress_line(told_at: &mut BTreeMap<String, Span>, record: &Record, state: &RunState) -> Option<String> {
    let Event::NodeReported { node, report: NodeReport::Progress { .. }, .. } = &record.event else { return None };
    let node = state.node(node)?;
    let is_recent = |key| told_at.get(key).is_some_and(|then| state.now < *then + PROGRESS_LINES);
    if is_recent(&node.name) || is_recent(&node.group) {
        return None;
    }
    let members: Vec<_> = state.nodes.iter().filter(|other| other.group == node.group).collect();
    let large = members.len() > LARGEST_LISTED_GROUP;
    let key = if large { &node.group } else { &node.name };
    told_at.insert(key.clone(), state.now);
    Some(if large { fact::group_progress(&members, state) } else { fact::node_progress(node, state) }.to_line(false))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panel_is_only_for_a_person_at_a_terminal() {
        let none = |_: &str| None;
        assert_eq!(Output::choose(false, true, none), Output::Terminal { colour: true });
        assert_eq!(Output::choose(false, false, none), Output::Plain);
        assert_eq!(Output::choose(true, true, none), Output::Records);
        let with =
            |name: &'static str, value: &'static str| move |asked: &str| (asked == name).then(|| value.to_owned());
        assert_eq!(Output::choose(false, true, with("TERM", "dumb")), Output::Plain);
        assert_eq!(Output::choose(false, true, with("CI", "true")), Output::Plain);
        assert_eq!(Output::choose(false, true, with("NO_COLOR", "1")), Output::Terminal { colour: false });
        assert_eq!(Output::choose(false, true, with("NO_COLOR", "")), Output::Terminal { colour: true });
    }
}

//! One node, from its first start to its end for good.

use event::{EndCause, ExitStatus, NodeReport};
use machine::{Span, Time};
use topology::plan::NodeState as Expected;

/// What is known of a node's programs, all incarnations.
#[derive(Clone, Debug, Default)]
pub(crate) struct Lifecycle {
    /// How many programs were started; 0 before the first.
    pub(crate) incarnation: u32,
    pub(crate) phase: Phase,
    /// Set from the moment a fault begins to end the program until it has ended.
    ending: Option<Ending>,
    /// Start again when the program has ended.
    pub(crate) revival: Option<Revival>,
    /// A crash has cut its links.
    pub(crate) cut: bool,
    /// The last program has been ready.
    pub(crate) ready: bool,
    pub(crate) progress: Option<Progress>,
    /// Body bytes received by incarnations that have ended.
    received_before: u64,
    /// When the last program ended.
    pub(crate) ended_at: Option<Time>,
    /// A progress report that was not written to the log, to keep the log small.
    unlogged: Option<NodeReport>,
    logged_at: Option<Time>,
    /// Reports that may still be logged, in thousandths; see [`REPORTS_PER_SECOND`].
    report_allowance: Option<(Time, u64)>,
    /// Reports that were not, since the last that was.
    pub(crate) reports_left_out: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Phase {
    #[default]
    Waiting,
    Starting,
    Running,
    Paused,
    Ended(ExitStatus, EndCause),
    Unstartable,
}

/// A fault that is ending the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    Kill,
    Crash,
    Stop,
}

/// How a node is to be started again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Revival {
    pub(crate) wipe: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Progress {
    pub(crate) bytes: u64,
    pub(crate) total: u64,
    received: u64,
}

/// Progress is logged no oftener than this, and always when something else happens to the node.
const PROGRESS_LOG_INTERVAL: Span = Span::from_millis(100);

/// A node that reports oftener than this, for longer than [`REPORTS_AT_ONCE`] of them take, is logged in part: programs
/// are hostile, and the log's size is bounded by the run's length.
const REPORTS_PER_SECOND: u64 = 500;
const REPORTS_AT_ONCE: u64 = 5000;

impl Lifecycle {
    /// Whether a report that was made now is to be logged.
    pub(crate) fn may_log_report(&mut self, now: Time) -> bool {
        let full = REPORTS_AT_ONCE * 1000;
        let (since, left) = self.report_allowance.unwrap_or((now, full));
        let earned = now.since(since).as_millis().saturating_mul(REPORTS_PER_SECOND);
        // What is less than a millisecond's worth goes on being saved up.
        let since = if earned > 0 { now } else { since };
        let left = left.saturating_add(earned).min(full);
        let may = left >= 1000;
        self.report_allowance = Some((since, if may { left - 1000 } else { left }));
        self.reports_left_out += u64::from(!may);
        may
    }

    /// Whether a program runs, or is about to.
    pub(crate) fn is_alive(&self) -> bool {
        matches!(self.phase, Phase::Starting | Phase::Running | Phase::Paused)
    }

    /// Whether a program runs that no fault is ending.
    pub(crate) fn can_be_ended(&self) -> bool {
        self.is_alive() && self.ending.is_none()
    }

    /// Whether a fault is ending a program that has not ended yet.
    pub(crate) fn is_being_ended(&self) -> bool {
        self.is_alive() && self.ending.is_some()
    }

    /// Counts the next incarnation in.
    pub(crate) fn start(&mut self) -> u32 {
        self.incarnation += 1;
        self.phase = Phase::Starting;
        self.ending = None;
        self.revival = None;
        self.ready = false;
        self.ended_at = None;
        self.incarnation
    }

    pub(crate) fn begin_ending(&mut self, ending: Ending) {
        self.ending = Some(ending);
    }

    /// The program has ended; what had been ending it.
    pub(crate) fn end(&mut self, now: Time, status: ExitStatus, run_is_over: bool) -> (EndCause, Option<Ending>) {
        let ending = self.ending.take();
        let cause = match ending {
            _ if run_is_over => EndCause::RunEnd,
            Some(_) => EndCause::Fault,
            None => EndCause::Own,
        };
        self.phase = Phase::Ended(status, cause);
        self.ended_at = Some(now);
        self.received_before = self.received();
        if let Some(progress) = &mut self.progress {
            progress.received = 0;
        }
        (cause, ending)
    }

    /// Body bytes received, all incarnations.
    pub(crate) fn received(&self) -> u64 {
        self.received_before.saturating_add(self.progress.map_or(0, |progress| progress.received))
    }

    /// Takes a progress report; the report if it is to be logged now.
    pub(crate) fn report_progress(&mut self, now: Time, report: NodeReport) -> Option<NodeReport> {
        if let NodeReport::Progress { bytes, total, received } = report {
            self.progress = Some(Progress { bytes, total, received });
        }
        if self.logged_at.is_some_and(|at| now.since(at) < PROGRESS_LOG_INTERVAL) {
            self.unlogged = Some(report);
            return None;
        }
        self.unlogged = None;
        self.logged_at = Some(now);
        Some(report)
    }

    /// The progress report that was held back, if any.
    pub(crate) fn take_unlogged(&mut self) -> Option<NodeReport> {
        self.unlogged.take()
    }

    /// The state that an expectation asks for.
    pub(crate) fn state(&self) -> Option<Expected> {
        match self.phase {
            Phase::Waiting | Phase::Unstartable => None,
            Phase::Starting | Phase::Running => Some(Expected::Running),
            Phase::Paused => Some(Expected::Paused),
            Phase::Ended(_, EndCause::Own) => Some(Expected::Exited),
            Phase::Ended(_, EndCause::Fault | EndCause::RunEnd) => Some(Expected::Killed),
        }
    }
}

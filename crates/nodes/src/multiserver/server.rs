//! The life of one server, without the process: what to do with it, and what to show of it.

use machine::{Span, Time};

/// A server that is asked to end has this long before it is killed: one that hangs or is frozen does not hear.
const GRACE: Span = Span::from_millis(500);

/// A server that says it is ready has this long to answer for the first time.
const FIRST_ANSWER: Span = Span::from_secs(1);

/// One that does not answer any more may just have died: that is told first.
const DOUBT: Span = Span::from_millis(100);

/// What is to be done with a server's process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    Start,
    Terminate,
    Kill,
}

/// Why a process is no more, as far as its life tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// It was asked to.
    Asked,
    /// By itself or by somebody else.
    Unasked,
    /// The same, before it was ready.
    NeverReady,
}

/// A file server or the check server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Server {
    state: State,
    answers: Answers,
}

/// Whether it answers, while it has a process: one that is frozen does not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answers {
    Yes,
    No,
    /// Not yet, or not any more; until then what is shown stays as it `was`.
    Unsure {
        was: bool,
        until: Time,
    },
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum State {
    Down,
    Starting,
    Ready,
    /// Asked to end.
    Ending {
        /// Whether it was ready when it was asked.
        was_ready: bool,
        /// Whether it is to be started again after that.
        again: bool,
        kill_at: Option<Time>,
    },
}

impl Server {
    /// One that does not run.
    pub(super) fn new() -> Self {
        Server { state: State::Down, answers: Answers::No }
    }

    /// Shuts it down if it runs, wakes it up if it does not. One that runs but does not answer is shown as dead: waking
    /// it up is starting it anew.
    pub(super) fn toggle(&mut self, now: Time) -> Option<Order> {
        match &mut self.state {
            State::Down => self.start(),
            State::Ready if self.answers == Answers::No => {
                let order = self.end(now);
                if let State::Ending { again, .. } = &mut self.state {
                    *again = true;
                }
                order
            }
            State::Starting | State::Ready => self.end(now),
            State::Ending { again, .. } => {
                *again = !*again;
                None
            }
        }
    }

    /// Wakes it up.
    pub(super) fn start(&mut self) -> Option<Order> {
        if self.state != State::Down {
            return None;
        }
        *self = Server { state: State::Starting, answers: Answers::No };
        Some(Order::Start)
    }

    /// Shuts it down for good.
    pub(super) fn end(&mut self, now: Time) -> Option<Order> {
        let was_ready = match &mut self.state {
            State::Down => return None,
            State::Starting => false,
            State::Ready => true,
            State::Ending { again, .. } => {
                *again = false;
                return None;
            }
        };
        self.state = State::Ending { was_ready, again: false, kill_at: Some(now + GRACE) };
        Some(Order::Terminate)
    }

    /// It says that it serves from now on. Whether that is news.
    pub(super) fn ready(&mut self, now: Time) -> bool {
        let news = self.state == State::Starting;
        if news {
            self.state = State::Ready;
            self.answers = Answers::Unsure { was: false, until: now + FIRST_ANSWER };
        }
        news
    }

    /// It was found to answer or not. Whether it does so again, after it was said not to.
    pub(super) fn answers(&mut self, now: Time, answers: bool) -> bool {
        let before = self.answers;
        self.answers = match (before, answers) {
            (_, true) => Answers::Yes,
            (Answers::Yes, false) => Answers::Unsure { was: true, until: now + DOUBT },
            (doubtful, false) => doubtful,
        };
        answers && before == Answers::No && self.state == State::Ready
    }

    /// Whether it turns out now that it does not answer.
    pub(super) fn is_found_silent(&mut self, now: Time) -> bool {
        let silent = self.unsure_until().is_some_and(|until| until <= now);
        if silent {
            self.answers = Answers::No;
        }
        silent
    }

    fn unsure_until(&self) -> Option<Time> {
        match (&self.state, self.answers) {
            (State::Ready, Answers::Unsure { until, .. }) => Some(until),
            _ => None,
        }
    }

    /// Its process is no more, or could not be started.
    pub(super) fn ended(&mut self) -> (End, Option<Order>) {
        let (end, again) = match self.state {
            State::Ending { again, .. } => (End::Asked, again),
            State::Ready => (End::Unasked, false),
            State::Starting | State::Down => (End::NeverReady, false),
        };
        self.state = State::Down;
        (end, if again { self.start() } else { None })
    }

    /// When [`Server::advance`] or [`Server::is_found_silent`] has something to do.
    pub(super) fn deadline(&self) -> Option<Time> {
        if let State::Ending { kill_at, .. } = self.state { kill_at } else { self.unsure_until() }
    }

    /// Kills it if it has not ended in time.
    pub(super) fn advance(&mut self, now: Time) -> Option<Order> {
        match &mut self.state {
            State::Ending { kill_at, .. } if kill_at.is_some_and(|at| at <= now) => {
                *kill_at = None;
                Some(Order::Kill)
            }
            _ => None,
        }
    }

    /// Whether a client can fetch from it, as far as is known.
    pub(super) fn is_alive(&self) -> bool {
        self.has_been_ready() && matches!(self.answers, Answers::Yes | Answers::Unsure { was: true, .. })
    }

    /// Whether it has a process that came as far as to serve.
    pub(super) fn has_been_ready(&self) -> bool {
        matches!(self.state, State::Ready | State::Ending { was_ready: true, .. })
    }

    /// Whether it has a process that does not serve yet.
    pub(super) fn is_starting(&self) -> bool {
        self.state == State::Starting
    }

    /// Whether it is about to be alive.
    pub(super) fn is_coming(&self) -> bool {
        self.is_starting() || self.state == State::Ready && matches!(self.answers, Answers::Unsure { was: false, .. })
    }

    /// Whether it has no process.
    pub(super) fn is_down(&self) -> bool {
        self.state == State::Down
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Time = Time::ZERO;

    fn ready() -> Server {
        let mut server = Server::new();
        assert_eq!(server.toggle(NOW), Some(Order::Start));
        assert!(server.ready(NOW) && server.is_coming());
        assert!(!server.is_alive(), "it is alive when it answers, not when it is started");
        assert!(!server.answers(NOW, true), "not again, for the first time");
        assert!(server.is_alive() && !server.is_coming());
        server
    }

    #[test]
    fn shut_down_and_woken_up() {
        let mut server = ready();
        assert_eq!(server.toggle(NOW), Some(Order::Terminate));
        assert!(server.is_alive() && !server.is_down(), "alive until it has ended");
        assert_eq!(server.ended(), (End::Asked, None));
        assert!(server.is_down() && !server.is_alive());
        assert_eq!(server.toggle(NOW), Some(Order::Start));
    }

    #[test]
    fn one_that_does_not_hear_is_killed_once() {
        let mut server = ready();
        server.toggle(NOW);
        assert_eq!((server.deadline(), server.advance(NOW)), (Some(NOW + GRACE), None));
        assert_eq!(server.advance(NOW + GRACE), Some(Order::Kill));
        assert_eq!((server.deadline(), server.advance(NOW + GRACE)), (None, None));
    }

    #[test]
    fn woken_up_while_it_ends_it_is_started_when_it_has_ended() {
        let mut server = ready();
        server.toggle(NOW);
        assert_eq!(server.toggle(NOW), None);
        assert_eq!(server.ended(), (End::Asked, Some(Order::Start)));
        assert!(server.is_starting());
        server.toggle(NOW);
        server.toggle(NOW);
        assert_eq!(server.end(NOW), None, "the end of all outweighs the wish");
        assert_eq!(server.ended(), (End::Asked, None));
    }

    #[test]
    fn ends_that_nobody_asked_for_are_told_apart() {
        let mut server = ready();
        assert_eq!(server.ended(), (End::Unasked, None));
        server.start();
        assert_eq!(server.ended(), (End::NeverReady, None));
    }

    #[test]
    fn a_frozen_server_is_not_alive_until_it_answers() {
        let mut server = ready();
        server.answers(NOW, false);
        assert!(server.is_alive() && !server.is_found_silent(NOW), "it may have died, which is told first");
        assert_eq!(server.deadline(), Some(NOW + DOUBT));
        assert!(server.is_found_silent(NOW + DOUBT) && !server.is_alive());
        assert!(!server.is_found_silent(NOW + DOUBT) && server.deadline().is_none(), "found once");
        assert!(server.answers(NOW, true) && server.is_alive());

        server.answers(NOW, false);
        server.is_found_silent(NOW + DOUBT);
        assert_eq!(server.toggle(NOW), Some(Order::Terminate), "shown as dead, it is woken up");
        assert_eq!(server.ended(), (End::Asked, Some(Order::Start)));
    }

    #[test]
    fn one_that_never_answers_is_never_alive() {
        let mut server = Server::new();
        server.start();
        server.ready(NOW);
        server.answers(NOW, false);
        assert_eq!(server.deadline(), Some(NOW + FIRST_ANSWER));
        assert!(server.is_found_silent(NOW + FIRST_ANSWER) && !server.is_alive() && !server.is_coming());
    }

    #[test]
    fn what_was_found_of_an_earlier_process_is_void() {
        let mut server = ready();
        server.ended();
        server.start();
        assert!(!server.is_alive());
        server.answers(NOW, false);
        server.ready(NOW);
        assert!(server.is_coming() && server.deadline() == Some(NOW + FIRST_ANSWER));
    }
}

//! Every constant of the fast mode that is a choice, with its unit and its reason.

use machine::Span;

/// The first announcement is repeated after this, then after twice as long each time: a lost one costs little.
pub const ANNOUNCE_FIRST: Span = Span::from_millis(20);

/// Announcements to somebody who does not answer come at least so often: a receiver that starts late waits at most this.
pub const ANNOUNCE_SLOWEST: Span = Span::from_millis(250);

/// A receiver answers the copies and pages of an announcement together, so long after the first.
pub const ANSWER_AFTER: Span = Span::from_millis(1);

/// Receivers that open their files (and hash what they have of them) are waited for so long.
pub const OPENING: Span = Span::from_millis(500);

/// Who has files of the same names and lengths compares them before it takes data, if that takes no longer: the others wait
/// for [`OPENING`].
pub const COMPARING: Span = Span::from_millis(400);

/// Answers to receivers that lack digests are at least so far apart, for all of them together.
pub const DIGESTS_APART: Span = Span::from_millis(5);

/// A train takes about so long at the current rate: short enough for queues, long enough that few calls fill a fast line.
pub const TRAIN: Span = Span::from_millis(1);

/// How far behind its schedule a sender that woke up late may be and still catch up; beyond, the time is lost. A busy
/// machine wakes it milliseconds late, and a burst of so much fits into the queues of common links. What was late then
/// waits in a queue, and keeps the line busy when the sender is late again.
pub const CATCH_UP: Span = Span::from_millis(10);

/// The rate before anything is known: so many datagrams in a round trip, as in RFC 6928 but with the queue's depth of today.
pub const FIRST_WINDOW: u32 = 32;

/// A measurement of delivery spans at least this: wake-ups of a busy machine are late by up to a millisecond or so.
pub const SAMPLE: Span = Span::from_millis(4);

/// A phase of probing lasts at least this, so that measurements fall into it.
pub const PHASE: Span = Span::from_millis(10);

/// How long the least round trip and the least one-way delay count.
pub const LEAST_DELAY_COUNTS: Span = Span::from_secs(10);

/// A receiver that has said nothing for this long, or four round trips if that is longer, holds nobody up.
pub const SILENT: Span = Span::from_millis(200);

/// Reports that are asked for within a round trip: enough to see the queue grow.
pub const REPORTS_A_ROUND: u64 = 4;

/// At most so many reports a second from all receivers: each costs the sender some microseconds.
pub const REPORTS_A_SECOND: u64 = 10_000;

/// A receiver that is not asked reports at least so often.
pub const REPORT_EVERY: Span = Span::from_millis(100);

/// Datagrams in flight beyond two round trips' worth: for trains, and for reports of programs that could not run for a
/// while. Less than the 20 ms that queues of common links hold.
pub const SPARE_FLIGHT: Span = Span::from_millis(15);

/// The most blocks of one report that are looked at: each report brings the next.
pub const BLOCKS_A_REPORT: usize = 64;

/// The most receivers of a session.
pub const MOST_RECEIVERS: usize = 10_000;

/// The most blocks that a receiver may have begun: what they take in memory stays below 2 MB, whatever a sender does.
pub const MOST_BEGUN: usize = 8192;

/// After this much silence another session of the same transfer is believed to be the restarted sender.
pub const SENDER_SILENT: Span = Span::from_millis(500);

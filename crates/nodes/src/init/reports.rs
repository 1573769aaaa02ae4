//! What a program reports on the descriptor that `TESTBED_EVENTS_FD` names.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use event::NodeReport;
use event::node_report::LONGEST_LINE;
use machine::{Span, Time};

use super::lines::{Line, LineBuffer};
use super::output::{Read, read_once};
use super::protocol::InitEvent;

const CHUNK: usize = 8 * 1024;
/// How much of a malformed line is quoted.
const QUOTED: usize = 80;

/// The init's end of a program's reports.
#[derive(Debug)]
pub(super) struct Reports {
    incarnation: u32,
    pipe: Option<OwnedFd>,
    lines: LineBuffer,
    complaints: Complaints,
}

impl Reports {
    pub(super) fn new(incarnation: u32, pipe: OwnedFd) -> Self {
        let lines = LineBuffer::new(LONGEST_LINE);
        Reports { incarnation, pipe: Some(pipe), lines, complaints: Complaints::default() }
    }

    /// What to wait for, until the program cannot report any more.
    pub(super) fn pipe(&self) -> Option<BorrowedFd<'_>> {
        self.pipe.as_ref().map(AsFd::as_fd)
    }

    /// Takes what has been reported up to `now`, up to a chunk.
    pub(super) fn read(&mut self, now: Time, say: &mut impl FnMut(InitEvent)) -> Read {
        let Some(pipe) = self.pipe.take() else {
            return Read::End;
        };
        let mut chunk = [0; CHUNK];
        let (incarnation, complaints, lines) = (self.incarnation, &mut self.complaints, &mut self.lines);
        let read = read_once(pipe.as_fd(), &mut chunk, |bytes| {
            lines.feed(bytes, |line| take(incarnation, line, now, complaints, say));
        });
        if read != Read::End {
            self.pipe = Some(pipe);
        }
        read
    }

    /// Nothing more will come. A last line without an end counts if it is whole.
    pub(super) fn finish(mut self, now: Time, say: &mut impl FnMut(InitEvent)) {
        let (incarnation, complaints) = (self.incarnation, &mut self.complaints);
        self.lines.finish(|line| take(incarnation, line, now, complaints, say));
        if let Some(unsaid) = self.complaints.left_unsaid() {
            say(InitEvent::Malformed { incarnation, what: "further lines like those before".to_owned(), unsaid });
        }
    }
}

fn take(incarnation: u32, line: Line<'_>, now: Time, complaints: &mut Complaints, say: &mut impl FnMut(InitEvent)) {
    let wrong = match line {
        Line::Cut(_) => format!("longer than {LONGEST_LINE} bytes"),
        Line::Whole(bytes) => match std::str::from_utf8(bytes) {
            Err(_) => "not UTF-8".to_owned(),
            Ok(text) => match NodeReport::from_line(text) {
                Ok(report) => return say(InitEvent::Reported { incarnation, report }),
                Err(error) => error.to_string(),
            },
        },
    };
    if let Some(unsaid) = complaints.may_say(now) {
        let beginning = &line.bytes()[..line.bytes().len().min(QUOTED)];
        let what = format!("{wrong}: {:?}", String::from_utf8_lossy(beginning));
        say(InitEvent::Malformed { incarnation, what, unsaid });
    }
}

/// Lets a few complaints a second through and counts the others.
#[derive(Debug, Default)]
struct Complaints {
    since: Option<Time>,
    said: u32,
    unsaid: u64,
}

const COMPLAINTS_A_SECOND: u32 = 5;

impl Complaints {
    /// Whether there may be one more at `now`; then how many were held back since the last.
    fn may_say(&mut self, now: Time) -> Option<u64> {
        if self.since.is_none_or(|since| now.since(since) >= Span::from_secs(1)) {
            self.since = Some(now);
            self.said = 0;
        }
        if self.said == COMPLAINTS_A_SECOND {
            self.unsaid += 1;
            return None;
        }
        self.said += 1;
        Some(std::mem::take(&mut self.unsaid))
    }

    fn left_unsaid(&self) -> Option<u64> {
        (self.unsaid > 0).then_some(self.unsaid)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn complaints_are_few_and_none_is_lost_from_the_count() {
        let mut complaints = Complaints::default();
        let mut counted = 0;
        let mut said = 0;
        for millis in 0..3000 {
            if let Some(unsaid) = complaints.may_say(Time::ZERO + Span::from_millis(millis)) {
                said += 1;
                counted += 1 + unsaid;
            }
        }
        counted += complaints.left_unsaid().unwrap_or(0);
        assert_eq!((said, counted), (3 * COMPLAINTS_A_SECOND, 3000));
    }
}

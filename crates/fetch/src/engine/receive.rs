//! Heads and bodies of answers.

use bytes::Bytes;
use machine::Time;

use super::{Engine, Request};
use crate::pieces::ByteRange;
use crate::protocol::{CloseReason, Head, Output, RequestId, SourceId};

impl Engine {
    pub(super) fn opened(&mut self, now: Time, request: RequestId, head: &Head) {
        let Some(asked) = self.requests.get(&request).cloned() else { return };
        let (id, length) = (asked.source, self.file.as_ref().map(|file| file.pieces.length()));
        let source = &mut self.sources[id.0];
        let described = source.description.as_ref();
        let other_tag = described.and_then(|known| known.validator.as_ref()).zip(head.validator.as_ref());
        if head.total.is_some_and(|total| Some(total) != length)
            || other_tag.is_some_and(|(ours, theirs)| ours != theirs)
        {
            // The file changed on this server: learn what it is now before anything is taken from it.
            source.description = None;
            self.violated(now, id, CloseReason::Changed);
            return;
        }
        if head.range.start != asked.start {
            let whole = head.range.start == 0 && Some(head.range.end) == length;
            if let Some(known) = source.description.as_mut().filter(|_| whole) {
                // It has no ranges after all: it may still be of use as one stream.
                known.ranges = false;
                self.tell_of_ranges(id);
                self.cancel(request);
            } else {
                self.violated(now, id, CloseReason::Violation);
            }
            return;
        }
        if asked.undisturbed {
            source.meter.begin(now);
            let latency = now.since(asked.opened);
            source.latency = Some(source.latency.map_or(latency, |known| (known * 3 + latency) / 4));
        }
        source.heard = now;
        let Some(asked) = self.requests.get_mut(&request) else { return };
        asked.accepted = true;
        asked.answer_end = head.range.end;
        if head.range.end < asked.want.end {
            let short = ByteRange::new(head.range.end.max(asked.want.start), asked.want.end);
            asked.want = ByteRange::new(asked.want.start, short.start);
            self.give_back(short);
        }
    }

    pub(super) fn body(&mut self, now: Time, request: RequestId, bytes: &Bytes) {
        let len = bytes.len() as u64;
        self.received += len;
        let Some(asked) = self.requests.get_mut(&request) else {
            self.wasted += len;
            return;
        };
        let id = asked.source;
        if !asked.accepted {
            self.wasted += len;
            self.violated(now, id, CloseReason::Violation);
            return;
        }
        let at = asked.want.start;
        let taken = ByteRange::new(at, at.saturating_add(len).min(asked.want.end));
        asked.want = ByteRange::new(taken.end, asked.want.end);
        let over = asked.want.is_empty();
        let oversized = at.saturating_add(len) > asked.answer_end;
        let unfinished = asked.answer_end > at.saturating_add(len);
        let source = &mut self.sources[id.0];
        if source.is_channel {
            source.meter.beat(now);
        } else {
            source.meter.count(now, len);
        }
        source.heard = now;
        source.received += len;
        (source.setbacks, source.violations) = (0, 0);
        let believed = machine::Span::from_millis(500) + super::or_guess(source.latency) * 2;
        if source.suspected.is_some_and(|since| now.since(since) > believed) {
            source.suspected = None;
        }
        let fresh = self.store(id, taken, bytes);
        self.wasted += len - fresh;
        if over {
            if unfinished {
                self.outputs.push_back(Output::Cancel { request });
            }
            self.release(request);
        }
        if oversized {
            self.violated(now, id, CloseReason::Violation);
        }
        if self.file.as_ref().is_some_and(|file| file.overlapped) {
            self.cancel_overtaken();
        }
    }

    /// Its source is alive, though nothing of it is handed on.
    pub(super) fn held(&mut self, now: Time, request: RequestId) {
        if let Some(asked) = self.requests.get(&request).filter(|asked| asked.accepted) {
            self.sources[asked.source.0].heard = now;
        }
    }

    /// Gives the bytes that are not here yet to the disk; returns how many those were.
    fn store(&mut self, sender: SourceId, taken: ByteRange, bytes: &Bytes) -> u64 {
        let Some(file) = &mut self.file else { return 0 };
        let mut fresh = 0;
        for gap in file.received.gaps(taken) {
            let (from, to) = ((gap.start - taken.start) as usize, (gap.end - taken.start) as usize);
            file.received.insert(gap);
            file.pool.remove(gap);
            file.backlog += gap.len();
            fresh += gap.len();
            for piece in file.pieces.touching(gap) {
                *file.unwritten.entry(piece).or_default() += file.pieces.range(piece).intersect(gap).len();
                let senders = file.senders.entry(piece).or_default();
                if !senders.contains(&sender) {
                    senders.push(sender);
                }
            }
            self.outputs.push_back(Output::Write {
                generation: self.generation,
                offset: gap.start,
                bytes: bytes.slice(from..to),
            });
        }
        fresh
    }

    /// Stops requests whose bytes another one has brought, and streams before bytes of which all are here.
    fn cancel_overtaken(&mut self) {
        if let Some(file) = &self.file {
            let sources = &self.sources;
            for stream in self.requests.values_mut().filter(|request| !sources[request.source.0].has_ranges()) {
                let missing_to = file.received.gaps(stream.want).last().map_or(stream.want.start, |gap| gap.end);
                stream.want = ByteRange::new(stream.want.start, missing_to);
            }
        }
        let Some(file) = &self.file else { return };
        let overtaken = |request: &Request| file.received.contains(request.want);
        let over: Vec<RequestId> = self.requests.iter().filter(|(_, r)| overtaken(r)).map(|(id, _)| *id).collect();
        over.into_iter().for_each(|request| self.cancel(request));
    }

    pub(super) fn cancel(&mut self, request: RequestId) {
        self.outputs.push_back(Output::Cancel { request });
        self.release(request);
    }

    /// Forgets a request; what it still wanted is to be had again.
    pub(super) fn release(&mut self, request: RequestId) -> Option<Request> {
        let over = self.requests.remove(&request)?;
        self.sources[over.source.0].requests.retain(|open| *open != request);
        if over.alone && !self.is_hedged(over.want) {
            self.drop_suspect_piece(over.want.start);
        }
        self.give_back(over.want);
        Some(over)
    }

    /// Whether nothing of what a request still wanted is lost without it: it is here, or another one brings it.
    fn is_hedged(&self, want: ByteRange) -> bool {
        let Some(file) = &self.file else { return true };
        let brought = |gap: &ByteRange| self.requests.values().any(|other| !other.want.intersect(*gap).is_empty());
        file.received.gaps(want).iter().all(brought)
    }

    /// A suspect piece must come from one source whole, so that its hash tells about that source.
    pub(super) fn drop_suspect_piece(&mut self, offset: u64) {
        let Some(file) = &mut self.file else { return };
        let Some(piece) = file.pieces.at(offset) else { return };
        let range = file.pieces.range(piece);
        let missing: u64 = file.received.gaps(range).into_iter().map(ByteRange::len).sum();
        self.wasted += range.len() - missing;
        file.received.remove(range);
        file.senders.remove(&piece);
        self.give_back(range);
    }

    /// Bytes are to be had again, unless they are here or asked of somebody.
    pub(super) fn give_back(&mut self, range: ByteRange) {
        let Some(file) = &mut self.file else { return };
        for gap in file.received.gaps(range) {
            file.pool.insert(gap);
        }
        for other in self.requests.values() {
            file.pool.remove(other.want);
        }
    }
}

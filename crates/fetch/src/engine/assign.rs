//! Which bytes from whom: shares, steals and hedges.
//!
//! While bytes are unassigned, a source that will soon run dry takes some of them: what it brings in half a second, by
//! measured speed, less near the end, and never more than it can bring before the others are done, so that all end
//! together. When nothing is unassigned, it takes the end of the range that would last longest, cut so that both end
//! together. When that is too little to cut, and its owner is late, it fetches the same bytes: whoever is first wins.

use machine::{Span, Time};

use super::source::{Source, Stage};
use super::{Engine, Request, or_guess};
use crate::pieces::ByteRange;
use crate::protocol::{Output, RequestId, SourceId, Why};
use crate::ranges::RangeSet;
use crate::tuning;

impl Engine {
    /// Gives work to every source that has none, or will soon have none.
    pub(super) fn assign_all(&mut self, now: Time) {
        let Some(file) = &self.file else { return };
        if self.finished || file.received.bytes() == file.pieces.length() {
            return;
        }
        if file.rehash_first && !file.rehash.is_empty() && file.pool.bytes() < tuning::REHASH_FIRST {
            return;
        }
        let mut hungry: Vec<SourceId> =
            (0..self.sources.len()).map(SourceId).filter(|id| self.is_hungry(now, *id)).collect();
        if hungry.is_empty() {
            return;
        }
        // The fastest choose first: what little is left at the end should not go to the slowest. Streams come last.
        let speed = |id: &SourceId| {
            let source = &self.sources[id.0];
            if source.has_ranges() { source.speed(now).unwrap_or(f64::MAX) } else { -1.0 }
        };
        hungry.sort_by(|a, b| speed(b).total_cmp(&speed(a)));
        let mut idle = false;
        for id in hungry {
            let given = self.assign(now, id);
            idle |= !given && self.sources[id.0].requests.is_empty();
        }
        if idle {
            self.timers.set(Why::Rebalance, now + tuning::REBALANCE_EVERY);
        }
    }

    fn is_hungry(&self, now: Time, id: SourceId) -> bool {
        let source = &self.sources[id.0];
        if source.stage != Stage::Ready || source.description.is_none() {
            return false;
        }
        let Some(first) = source.requests.first() else { return true };
        let most = if source.is_channel { tuning::BLOCKS_AT_ONCE } else { tuning::RANGES_AT_ONCE };
        if !source.has_ranges() || now < source.solo_until || source.requests.len() >= most {
            return false;
        }
        let under_way = &self.requests[first];
        // A channel is asked ahead before it answers: requests that wait together wait no longer than one.
        (under_way.accepted || source.is_channel && source.meter.rate().is_some())
            && match source.speed(now) {
                Some(speed) => self.left(id) as f64 / speed <= source.lead(now),
                // Its speed is not known before some of it came: what it was asked for is a guess.
                None => {
                    source.requests.len() == 1 && under_way.want.len() <= (under_way.answer_end - under_way.start) / 2
                }
            }
    }

    fn assign(&mut self, now: Time, id: SourceId) -> bool {
        if !self.sources[id.0].has_ranges() {
            return self.assign_stream(now, id);
        }
        if let Some((range, alone)) = self.share(now, id) {
            if alone {
                // Parts of it may be here, from a request that covered it when its hash failed.
                self.drop_suspect_piece(range.start);
            }
            self.open(now, id, range, alone);
            return true;
        }
        if let Some((range, alone)) = self.steal(now, id) {
            if alone {
                self.drop_suspect_piece(range.start);
            }
            self.open(now, id, range, alone);
            return true;
        }
        if self.sources[id.0].requests.is_empty()
            && let Some(range) = self.hedge(now, id)
        {
            let file = self.file.as_mut().expect("there is work");
            file.hedged += range.len();
            file.overlapped = true;
            self.open(now, id, range, false);
            return true;
        }
        false
    }

    /// A source without ranges sends everything from the start, or nothing.
    fn assign_stream(&mut self, now: Time, id: SourceId) -> bool {
        let is_worth = self.requests.is_empty() || self.outruns_all(now, id);
        let Some(file) = &mut self.file else { return false };
        if !is_worth || self.requests.is_empty() && file.pool.is_empty() {
            return false;
        }
        let whole = file.pieces.whole();
        file.pool = RangeSet::default();
        file.overlapped |= !self.requests.is_empty();
        self.open(now, id, whole, false);
        true
    }

    /// Whether a stream from the start, which brings again what is here, would end long before those at work.
    fn outruns_all(&self, now: Time, id: SourceId) -> bool {
        let Some(file) = &self.file else { return false };
        let speed = |source: &Source| source.speed(now).unwrap_or(tuning::STREAM_SPEED_GUESS);
        let at_work: f64 = self.sources.iter().filter(|source| !source.requests.is_empty()).map(speed).sum();
        let length = file.pieces.length();
        let theirs = (length - file.received.bytes()) as f64 / at_work;
        let stream = &self.sources[id.0];
        let mine = or_guess(stream.latency).as_secs_f64() + length as f64 / speed(stream);
        theirs > mine * tuning::STREAM_ADVANTAGE + tuning::STREAM_HEAD_START.as_secs_f64()
    }

    fn open(&mut self, now: Time, id: SourceId, range: ByteRange, alone: bool) {
        let request = self.new_request();
        if let Some(file) = &mut self.file {
            file.pool.remove(range);
        }
        let source = &mut self.sources[id.0];
        let undisturbed = source.requests.is_empty();
        if undisturbed {
            source.heard = now;
            source.meter.begin(now);
        }
        if source.opens == 0 {
            source.began = now;
        }
        source.requests.push(request);
        source.opens += 1;
        let validator = source.description.as_ref().and_then(|known| known.validator.clone());
        if self.timers.get(Why::Stall(id)).is_none() {
            self.timers.set(Why::Stall(id), now + tuning::STALL_FLOOR);
        }
        self.requests.insert(
            request,
            Request {
                source: id,
                want: range,
                start: range.start,
                answer_end: range.end,
                opened: now,
                undisturbed,
                accepted: false,
                alone,
            },
        );
        self.outputs.push_back(Output::Open { request, source: id, range, validator });
    }

    /// A part of what is unassigned, and whether it is a piece under suspicion.
    fn share(&self, now: Time, id: SourceId) -> Option<(ByteRange, bool)> {
        let file = self.file.as_ref()?;
        let want = self.share_size(now, id);
        let size = u64::from(file.pieces.size());
        for range in file.pool.iter() {
            let mut start = range.start;
            while let Some(piece) = file.pieces.at(start).filter(|_| start < range.end) {
                let bytes = file.pieces.range(piece);
                if file.blame.contains_key(&piece) {
                    let claimed = self.requests.values().any(|other| !other.want.intersect(bytes).is_empty());
                    if !claimed && self.may_send(piece, id) {
                        return Some((bytes, true));
                    }
                    start = bytes.end;
                    continue;
                }
                let suspect =
                    file.blame.range(piece..).next().map_or(range.end, |(piece, _)| file.pieces.range(*piece).start);
                let limit = range.end.min(suspect);
                if want == 0 {
                    start = limit;
                    continue;
                }
                let mut end = start.saturating_add(want).min(limit);
                let at_piece = end.div_ceil(size) * size;
                let rounded = if at_piece - end <= want / 2 { at_piece } else { end.next_multiple_of(self.grain()) };
                end = rounded.min(limit);
                if limit - end < tuning::SHORTEST_RANGE.min(want / 4) {
                    end = limit;
                }
                // Rounding must not make it longer than a segment.
                end = end.min(start.saturating_add(self.segment()));
                return Some((ByteRange::new(start, end), false));
            }
        }
        None
    }

    /// Bytes that a source should take at once; none if the others will be done with them before it could help.
    fn share_size(&self, now: Time, id: SourceId) -> u64 {
        let Some(file) = &self.file else { return 0 };
        let ready = self.sources.iter().filter(|source| source.stage == Stage::Ready);
        let count = ready.clone().count().max(1) as u64;
        let source = &self.sources[id.0];
        let Some(speed) = source.speed(now) else {
            if let Some(blocks) = self.config.blocks {
                // All of them together are asked for everything: what waits at a slow one is taken from it later.
                let busy = self.sources.iter().filter(|source| !source.requests.is_empty()).count() as u64;
                let share = file.pool.bytes().div_ceil(u64::from(blocks.sources).saturating_sub(busy).max(1));
                return share.next_multiple_of(self.grain());
            }
            let guess = (tuning::FIRST_RANGE << source.opens.min(12)).min(file.pool.bytes() / (2 * count));
            return guess.max(tuning::SHORTEST_RANGE).min(self.segment());
        };
        let total: f64 = ready.filter_map(|source| source.speed(now)).sum::<f64>().max(speed);
        let outstanding: u64 = self.requests.values().map(|request| request.want.len()).sum();
        let seconds_left = match self.config.blocks {
            Some(_) => self.even_end(now, file.pool.bytes() as f64, source.latency),
            None => (file.pool.bytes() + outstanding) as f64 / total,
        };
        let busy = self.busy(id, speed);
        // All end together if nobody takes more than this.
        let due = speed * (seconds_left - busy);
        let grain = self.grain() as f64;
        let shortest =
            (speed * tuning::SHORTEST_TIME.as_secs_f64()).clamp(grain, grain.max(tuning::SHORTEST_RANGE as f64));
        if due < shortest / 2.0 && outstanding > 0 {
            return 0;
        }
        let least = tuning::SHORTEST_TIME.as_secs_f64().max(source.lead(now) / 2.0);
        let most = tuning::LONGEST_TIME.as_secs_f64().max(least);
        let size = speed * (seconds_left / tuning::SHARE_DIVISOR).clamp(least, most);
        (size.min(due).max(shortest) as u64).min(self.segment())
    }

    /// Seconds until a source brings what it is asked for now.
    fn busy(&self, id: SourceId, speed: f64) -> f64 {
        (self.left(id) as f64 / speed).max(or_guess(self.sources[id.0].latency).as_secs_f64())
    }

    /// Seconds until everything is here if all sources end together that help before that: with fast sources that answer
    /// late, the delay of an answer is most of it.
    fn even_end(&self, now: Time, pool: f64, latency: Option<Span>) -> f64 {
        let ready = (0..self.sources.len()).map(SourceId).filter(|id| self.sources[id.0].stage == Stage::Ready);
        let mut joins: Vec<(f64, f64)> =
            ready.filter_map(|id| self.sources[id.0].speed(now).map(|speed| (self.busy(id, speed), speed))).collect();
        // Those that are on their way will be as fast as the best.
        let best = joins.iter().copied().max_by(|a, b| a.1.total_cmp(&b.1));
        if let (Some(blocks), Some((_, speed))) = (self.config.blocks, best) {
            let latency = or_guess(latency).as_secs_f64();
            joins.resize(joins.len().max(blocks.sources as usize), (latency, speed));
        }
        joins.sort_by(|a, b| a.0.total_cmp(&b.0));
        let (mut total, mut left, mut end) = (0.0, pool, 0.0);
        for (busy, speed) in joins {
            if total > 0.0 && end + left / total <= busy {
                break;
            }
            left -= total * (busy - end);
            (total, end) = (total + speed, busy);
        }
        if total > 0.0 { end + left / total } else { f64::MAX }
    }

    /// Ranges end at multiples of this, in bytes, if they do not end with a piece.
    fn grain(&self) -> u64 {
        self.config.blocks.map_or(tuning::RANGE_GRAIN, |blocks| u64::from(blocks.size.max(1)))
    }

    /// The longest range that may be asked for, in bytes, but for a piece under suspicion, which comes whole.
    fn segment(&self) -> u64 {
        let length = self.file.as_ref().map_or(0, |file| file.pieces.length());
        self.config.segments.map_or(u64::MAX, |count| length.div_ceil(u64::from(count.max(1))).max(1))
    }

    /// The end of another source's range, taken from it; and whether it is a piece under suspicion.
    fn steal(&mut self, now: Time, id: SourceId) -> Option<(ByteRange, bool)> {
        let thief = &self.sources[id.0];
        let ours = thief.speed(now);
        let (victim, left, theirs) = self.slowest(now, id)?;
        let theirs = theirs.or(ours).unwrap_or(1e6);
        let ours = ours.unwrap_or(theirs);
        let own = self.left(id) as f64 / ours;
        let delay = or_guess(thief.latency).as_secs_f64().max(own);
        let even = (left as f64 - delay * theirs) * ours / (ours + theirs);
        let last = *self.sources[victim.0].requests.last()?;
        let request = &self.requests[&last];
        let first = self.sources[victim.0].requests.len() == 1;
        let guard = match self.config.blocks {
            // A block that has begun stays where it is.
            Some(_) if first => request.want.start.next_multiple_of(self.grain()) - request.want.start,
            None if first => ((theirs * tuning::STEAL_GUARD.as_secs_f64()) as u64).max(tuning::RANGE_GRAIN),
            _ => 0,
        };
        let least = match self.config.blocks {
            Some(_) => self.grain() as f64 / 2.0,
            None => (ours * 0.02).max(tuning::RANGE_GRAIN as f64 * 2.0),
        };
        if even < least {
            return None;
        }
        let amount = (even as u64).min(request.want.len().saturating_sub(guard));
        if (amount as f64) < least {
            return None;
        }
        let mut cut = request.want.end - amount;
        if self.config.blocks.is_some() {
            cut = (cut + self.grain() / 2) / self.grain() * self.grain();
            cut = cut.clamp(request.want.start.saturating_add(guard).min(request.want.end), request.want.end);
        }
        let size = u64::from(self.file.as_ref()?.pieces.size());
        let at_piece = cut.next_multiple_of(size);
        if at_piece < request.want.end && at_piece - cut <= amount / 8 {
            cut = at_piece;
        }
        if !self.sources[victim.0].has_ranges() {
            let part = ByteRange::new(cut, request.want.end);
            return self.double(last, part, id);
        }
        // A piece under suspicion stays whole with the one that was chosen for it.
        let file = self.file.as_ref()?;
        let suspects = file.blame.keys().map(|piece| file.pieces.range(*piece).intersect(request.want));
        cut = suspects.filter(|suspect| !suspect.is_empty()).map(|suspect| suspect.end).fold(cut, u64::max);
        let stolen = ByteRange::new(cut, request.want.end);
        if stolen.is_empty() {
            return None;
        }
        let request = self.requests.get_mut(&last)?;
        request.want = ByteRange::new(request.want.start, cut);
        if self.file.as_ref()?.received.contains(request.want) {
            self.cancel(last);
        }
        // Where another one doubles it, parts may be here already: take what is missing.
        let missing = self.file.as_ref()?.received.gaps(stolen);
        let (head, rest) = missing.split_first()?;
        rest.iter().for_each(|gap| self.give_back(*gap));
        Some((*head, false))
    }

    /// What is missing in a part of a stream from the start and asked of nobody else; and whether it is a piece under
    /// suspicion. The stream keeps it until the thief has brought it: stopped, it could only begin from the start again.
    fn double(&mut self, request: RequestId, part: ByteRange, id: SourceId) -> Option<(ByteRange, bool)> {
        let file = self.file.as_ref()?;
        let others = || self.requests.iter().filter(|(other, _)| **other != request).map(|(_, other)| other.want);
        let mut free = RangeSet::default();
        file.received.gaps(part).into_iter().for_each(|gap| free.insert(gap));
        others().for_each(|want| free.remove(want));
        let found = free.iter().find_map(|gap| {
            let piece = file.pieces.at(gap.start)?;
            let whole = file.pieces.range(piece);
            if file.blame.contains_key(&piece) {
                let is_free = self.may_send(piece, id) && others().all(|want| want.intersect(whole).is_empty());
                return is_free.then_some((whole, true));
            }
            let suspect = file.blame.range(piece..).next().map(|(piece, _)| file.pieces.range(*piece).start);
            Some((ByteRange::new(gap.start, gap.end.min(suspect.unwrap_or(gap.end))), false))
        });
        self.file.as_mut()?.overlapped |= found.is_some();
        found
    }

    /// The source whose work lasts longest, other than `id` and such as have a suspect piece: what is left to it, and its speed.
    fn slowest(&self, now: Time, id: SourceId) -> Option<(SourceId, u64, Option<f64>)> {
        let others = (0..self.sources.len()).map(SourceId).filter(|other| *other != id);
        let mut found: Option<(f64, SourceId, u64, Option<f64>)> = None;
        for other in others {
            let source = &self.sources[other.0];
            let Some(last) = source.requests.last() else { continue };
            if self.requests[last].alone {
                continue;
            }
            let (left, speed) = (self.left(other), source.speed(now));
            let lasts = left as f64 / speed.unwrap_or(1.0);
            if found.is_none_or(|(longest, ..)| lasts > longest) {
                found = Some((lasts, other, left, speed));
            }
        }
        found.map(|(_, other, left, speed)| (other, left, speed))
    }

    /// A range of a late source, to be fetched a second time.
    fn hedge(&self, now: Time, id: SourceId) -> Option<ByteRange> {
        let file = self.file.as_ref()?;
        let budget = (file.pieces.length() / 1000 * tuning::HEDGE_PER_MILLE).max(tuning::HEDGE_FLOOR);
        let hedger = &self.sources[id.0];
        let speed = hedger.speed(now)?;
        let mut best: Option<(f64, ByteRange)> = None;
        for (request, late) in &self.requests {
            let owner = &self.sources[late.source.0];
            // Of a stream without ranges, parts may be here already.
            let Some(want) = file.received.gaps(late.want).first().copied() else { continue };
            let covered =
                || self.requests.iter().any(|(other, r)| other != request && !r.want.intersect(want).is_empty());
            let mut suspects = file.blame.keys().filter(|piece| !file.pieces.range(**piece).intersect(want).is_empty());
            let allowed = if late.alone {
                // From two sources it proves nothing against either if it is corrupt again; then it is fetched alone
                // again. So only one that may be innocent hedges.
                suspects.all(|piece| self.may_send(*piece, id)).then_some(budget.max(2 * u64::from(file.pieces.size())))
            } else {
                suspects.next().is_none().then_some(budget)
            };
            if late.source == id || allowed.is_none_or(|most| file.hedged + want.len() > most) || covered() {
                continue;
            }
            let mine = or_guess(hedger.latency).as_secs_f64() + want.len() as f64 / speed;
            let theirs = self.time_to_end(now, *request);
            let worth = owner.is_hesitant(now) || theirs > 1.5 * mine + 0.01;
            if worth && best.is_none_or(|(longest, _)| theirs > longest) {
                best = Some((theirs, want));
            }
        }
        best.map(|(_, range)| range)
    }

    /// Seconds until a request ends at its source's speed, the ones before it included.
    fn time_to_end(&self, now: Time, request: RequestId) -> f64 {
        let source = &self.sources[self.requests[&request].source.0];
        let before =
            source.requests.iter().take_while(|open| **open != request).map(|open| self.requests[open].want.len());
        let left = before.sum::<u64>() + self.requests[&request].want.len();
        source.speed(now).map_or(f64::MAX, |speed| left as f64 / speed)
    }
}

//! Who answers, who is silent, when to ask again.

use machine::{Span, Time};

use super::source::Stage;
use super::{Engine, Probe, or_guess};
use crate::protocol::{Aside, CloseReason, Description, Hashes, Note, Output, RequestId, SourceId, SourceState, Why};
use crate::tuning;

impl Engine {
    /// Asks a source to describe itself, and plans to ask again.
    pub(super) fn ask(&mut self, now: Time, id: SourceId) {
        let request = self.new_request();
        let source = &mut self.sources[id.0];
        let manifest = source.description.as_ref().is_none_or(|known| known.manifest().is_none());
        let latency = source.latency;
        source.asked += 1;
        // The first question of an outage has time to be answered before the next one goes out beside it.
        let answerable = latency.map_or(Span::from_millis(600), |latency| latency * 4);
        let pause = if source.asked == 1 { answerable.max(tuning::PROBE_EVERY) } else { tuning::PROBE_EVERY };
        let patient = !self.probes.values().any(|probe| probe.source == id && probe.patient);
        self.probes.insert(request, Probe { source: id, asked: now, manifest, patient, alone_until: Time::ZERO });
        self.outputs.push_back(Output::Describe { request, source: id, manifest });
        let usual = tuning::PROBE_PATIENCE.max(or_guess(latency) * (2 * tuning::PATIENCE_ROUND_TRIPS));
        let patience = if patient { usual.max(tuning::PROBE_PATIENCE_ONCE) } else { usual };
        self.timers.set(Why::Unanswered(request), now + patience);
        self.timers.set(Why::Probe(id), now + pause);
    }

    /// Asks unless so many questions are open that one more would tell nothing.
    fn ask_if_few(&mut self, now: Time, id: SourceId) {
        if self.probes.values().filter(|probe| probe.source == id).count() < tuning::PROBES_AT_ONCE {
            self.ask(now, id);
        }
    }

    pub(super) fn probe_due(&mut self, now: Time, id: SourceId) {
        if self.sources[id.0].stage != Stage::Seeking {
            return;
        }
        let of_it = self.probes.values().filter(|probe| probe.source == id);
        let alone_until = of_it.map(|probe| probe.alone_until).max().unwrap_or(Time::ZERO);
        if now < alone_until {
            // It is there and has the question: it is late, not gone.
            self.timers.set(Why::Probe(id), alone_until);
        } else if self.probes.values().filter(|probe| probe.source == id).count() < tuning::PROBES_AT_ONCE {
            self.ask(now, id);
        } else {
            self.timers.set(Why::Probe(id), now + tuning::PROBE_EVERY);
        }
    }

    /// A question is where it belongs. Whoever is too busy to answer gets the more time the more questions it owes: to
    /// ask again and again what nobody comes to answer would keep all of its clients waiting for ever.
    pub(super) fn reached(&mut self, now: Time, request: RequestId) {
        let Some(Probe { source: id, .. }) = self.probes.get(&request).copied() else { return };
        if self.probes.values().any(|probe| probe.source == id && now < probe.alone_until) {
            return;
        }
        let source = &mut self.sources[id.0];
        let until = now + (tuning::PROBE_PATIENCE * (1 << source.owed.min(8))).min(tuning::BACKOFF_CAP);
        source.owed += 1;
        self.probes.entry(request).and_modify(|probe| probe.alone_until = until);
        let given_up = self.timers.get(Why::Unanswered(request)).unwrap_or(until);
        self.timers.set(Why::Unanswered(request), given_up.max(until));
    }

    pub(super) fn unanswered(&mut self, now: Time, request: RequestId) {
        if let Some(probe) = self.probes.remove(&request) {
            self.outputs.push_back(Output::Cancel { request });
            self.question_failed(now, probe, CloseReason::TimedOut);
        }
    }

    pub(super) fn described(&mut self, now: Time, request: RequestId, mut description: Description) {
        let Some(probe) = self.probes.remove(&request) else { return };
        self.timers.cancel(Why::Unanswered(request));
        let id = probe.source;
        let source = &mut self.sources[id.0];
        if !probe.manifest {
            let same =
                |known: &Description| (known.length, &known.validator) == (description.length, &description.validator);
            let Some(known) = source.description.take().filter(same) else {
                // Another file under the same name: its hashes are needed before it can be judged.
                self.ask(now, id);
                return;
            };
            description.hashes = known.hashes;
        }
        if let Hashes::Published(manifest) = description.hashes {
            description.hashes = Hashes::Published(self.shared(manifest));
            description.drop_unfit_hashes();
        }
        if self.cut(&description).is_none() {
            // A length beyond all bounds.
            self.violated(now, id, CloseReason::Violation);
            return;
        }
        self.forget_hashes(id);
        if description.hashes == Hashes::Awaited {
            self.awaited.insert(request, id);
        }
        let source = &mut self.sources[id.0];
        source.description = Some(description);
        if !source.is_channel {
            source.latency.get_or_insert(now.since(probe.asked) / 2);
        }
        source.heard = now;
        (source.asked, source.owed) = (0, 0);
        source.failed_once = false;
        source.refusals = 0;
        source.suspected = None;
        source.stage = Stage::Ready;
        self.drop_probes(id);
        self.identify(now);
        if self.sources[id.0].stage == Stage::Ready {
            self.tell(id, SourceState::Alive);
            self.tell_of_ranges(id);
        }
    }

    /// Says once of a source that it has no ranges.
    pub(super) fn tell_of_ranges(&mut self, id: SourceId) {
        let source = &mut self.sources[id.0];
        if source.description.is_some() && !source.has_ranges() && !source.told_no_ranges {
            source.told_no_ranges = true;
            self.note(Note::NoRanges { source: id });
        }
    }

    /// A request is over before it had all it wanted, or a question without an answer.
    pub(super) fn closed(&mut self, now: Time, request: RequestId, why: CloseReason) {
        if let Some(probe) = self.probes.remove(&request) {
            self.timers.cancel(Why::Unanswered(request));
            self.question_failed(now, probe, why);
            return;
        }
        if let Some(id) = self.awaited.remove(&request) {
            return self.hashes_broke_off(now, id);
        }
        let Some(over) = self.release(request) else { return };
        let others = !self.sources[over.source.0].requests.is_empty();
        let source = &mut self.sources[over.source.0];
        if others && !over.accepted && now.since(source.heard) < Span::from_millis(100) {
            // It delivers on another connection: it only does not want two.
            source.solo_until = now + Span::from_secs(1);
            return;
        }
        match why {
            CloseReason::Violation | CloseReason::Changed => self.violated(now, over.source, why),
            CloseReason::Complete => self.down(now, over.source, CloseReason::Reset),
            why => self.down(now, over.source, why),
        }
    }

    fn question_failed(&mut self, now: Time, probe: Probe, why: CloseReason) {
        let id = probe.source;
        if self.sources[id.0].stage != Stage::Seeking {
            return;
        }
        self.sources[id.0].failed_once = true;
        self.tell(id, SourceState::Down(why));
        let pause = match why {
            CloseReason::Violation => {
                self.sources[id.0].setbacks += 1;
                self.sources[id.0].violations += 1;
                let times = self.sources[id.0].violations;
                if times >= tuning::VIOLATIONS_MAX {
                    self.set_apart(id, Aside::Violations { times });
                    return self.identify(now);
                }
                self.backoff(id)
            }
            CloseReason::Status(status) => {
                let source = &mut self.sources[id.0];
                source.setbacks += 1;
                source.refusals = if is_refusal(status) { source.refusals + 1 } else { 0 };
                self.backoff(id)
            }
            why => {
                let source = &mut self.sources[id.0];
                source.refusals = 0;
                let quickly = why == CloseReason::Refused && source.asked < tuning::PROBES_QUICK;
                if quickly { tuning::PROBE_REFUSED_EVERY } else { tuning::PROBE_EVERY }
            }
        };
        let next = probe.asked + pause;
        let planned = self.timers.get(Why::Probe(id)).unwrap_or(Time::MAX);
        let slower = pause > tuning::PROBE_EVERY;
        self.timers.set(Why::Probe(id), if slower { now + pause } else { planned.min(next.max(now)) });
        self.identify(now);
        self.fail_if_nobody_is_left();
    }

    /// A source breaks the protocol: it is left alone for a while, and set apart if it does nothing else.
    pub(super) fn violated(&mut self, now: Time, id: SourceId, why: CloseReason) {
        let source = &mut self.sources[id.0];
        source.violations += 1;
        let times = source.violations;
        self.down(now, id, why);
        if times >= tuning::VIOLATIONS_MAX {
            self.set_apart(id, Aside::Violations { times });
        }
    }

    /// A source does not deliver: its ranges go to the others, and it is asked until it answers again.
    pub(super) fn down(&mut self, now: Time, id: SourceId, why: CloseReason) {
        self.cancel_requests(id);
        self.forget_hashes(id);
        let source = &mut self.sources[id.0];
        if source.stage == Stage::Aside {
            return;
        }
        source.stage = Stage::Seeking;
        source.asked = 0;
        source.meter.reset();
        source.opens = 0;
        let pause = if source.setbacks == 0 { Span::ZERO } else { self.backoff(id) };
        self.sources[id.0].setbacks += 1;
        self.tell(id, SourceState::Down(why));
        if pause.is_zero() {
            self.ask(now, id);
        } else {
            self.timers.set(Why::Probe(id), now + pause);
        }
    }

    fn backoff(&self, id: SourceId) -> Span {
        (tuning::PROBE_EVERY * (1 << self.sources[id.0].setbacks.min(6))).min(tuning::BACKOFF_CAP)
    }

    pub(super) fn set_apart(&mut self, id: SourceId, why: Aside) {
        self.retire(id, why);
        self.fail_if_nobody_is_left();
    }

    /// Sets a source apart, also if it is the last one.
    pub(super) fn retire(&mut self, id: SourceId, why: Aside) {
        self.cancel_requests(id);
        self.drop_probes(id);
        self.forget_hashes(id);
        self.sources[id.0].stage = Stage::Aside;
        self.timers.cancel(Why::Probe(id));
        self.tell(id, SourceState::SetApart(why));
    }

    pub(super) fn liveness(&mut self, now: Time, id: SourceId, alive: bool) {
        let Some(source) = self.sources.get_mut(id.0) else { return };
        if alive {
            source.suspected = None;
            match source.stage {
                Stage::Seeking => {
                    source.setbacks = 0;
                    // However often it is said: its own questions must find room.
                    if source.asked_on_word.is_none_or(|asked| now.since(asked) >= tuning::PROBE_EVERY) {
                        source.asked_on_word = Some(now);
                        self.ask_if_few(now, id);
                    }
                }
                // It may have come back with the right file.
                Stage::Aside if source.is_apart_for_its_file() || source.is_apart_for_the_digest() => {
                    source.stage = Stage::Seeking;
                    source.description = None;
                    self.ask(now, id);
                }
                _ => {}
            }
        } else if source.stage == Stage::Ready {
            if source.requests.is_empty() {
                source.stage = Stage::Seeking;
                source.asked = 0;
                self.ask(now, id);
            } else {
                source.suspected.get_or_insert(now);
                // Said again and again it must not put the look at the silence off.
                let due = now + tuning::STALL_SUSPECT;
                let planned = self.timers.get(Why::Stall(id)).unwrap_or(due);
                self.timers.set(Why::Stall(id), planned.min(due));
            }
        }
    }

    pub(super) fn check_stall(&mut self, now: Time, id: SourceId) {
        let disk_is_behind = !self.wants_body();
        let source = &mut self.sources[id.0];
        let Some(first) = source.requests.first() else { return };
        if disk_is_behind {
            source.heard = now;
        }
        let latency = or_guess(source.latency);
        let (usual, suspect) = if self.requests[first].accepted {
            let usual = tuning::STALL_FLOOR.max(source.meter.gap() * tuning::STALL_GAPS).max(latency * 3);
            (usual.min(tuning::STALL_CAP), tuning::STALL_SUSPECT.max(source.meter.gap() * 2))
        } else {
            let patience = if source.is_channel { tuning::FIRST_BLOCK_PATIENCE } else { tuning::FIRST_BYTE_PATIENCE };
            let usual = patience + latency * tuning::PATIENCE_ROUND_TRIPS;
            (usual, tuning::STALL_SUSPECT + latency * 2)
        };
        let allowed = if source.suspected.is_some() { suspect.min(usual) } else { usual };
        let due = source.heard + allowed;
        if now >= due {
            self.down(now, id, CloseReason::TimedOut);
        } else {
            self.timers.set(Why::Stall(id), due);
        }
    }

    pub(super) fn tell(&mut self, id: SourceId, state: SourceState) {
        if self.sources[id.0].told != state {
            self.sources[id.0].told = state.clone();
            self.note(Note::Source { source: id, state });
        }
    }

    pub(super) fn drop_probes(&mut self, id: SourceId) {
        let open: Vec<RequestId> =
            self.probes.iter().filter(|(_, p)| p.source == id).map(|(request, _)| *request).collect();
        for request in open {
            self.probes.remove(&request);
            self.timers.cancel(Why::Unanswered(request));
            self.outputs.push_back(Output::Cancel { request });
        }
        self.timers.cancel(Why::Probe(id));
    }

    pub(super) fn cancel_requests(&mut self, id: SourceId) {
        for request in self.sources[id.0].requests.clone() {
            self.outputs.push_back(Output::Cancel { request });
            self.release(request);
        }
    }
}

/// Whether a status means that asking again the same way is of no use (RFC 9110 §15.5), other than later or elsewhere.
fn is_refusal(status: u16) -> bool {
    (400..500).contains(&status) && !matches!(status, 408 | 409 | 421 | 423 | 425 | 429)
}

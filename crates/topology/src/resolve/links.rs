//! Profiles and links: what is named, looked up and checked for sense.

use std::collections::BTreeMap;

use link::{HalfLink, Ordinals, Profile, Queue};
use machine::{Rate, Ratio, Size, Span};

use crate::findings::Findings;
use crate::source::Place;
use crate::spec::{HalfSpec, LinkRef, LinkSpec, Spec};
use crate::yaml::At;

/// Longer ways lead off the planet several times over.
const MAX_DELAY: Span = Span::from_secs(600);
const MAX_RATE: Rate = Rate::from_mbit(1_000_000);
const MAX_QUEUE_BYTES: Size = Size::from_mib(1024);
const MAX_QUEUE_PACKETS: u32 = 1_000_000;
/// Every node of a group has a list of its own.
const MAX_DROPS: usize = 1000;

/// The profiles by name.
pub(super) type Profiles<'s> = BTreeMap<&'s str, &'s LinkSpec>;

pub(super) fn profiles(spec: &Spec) -> Profiles<'_> {
    spec.links.iter().map(|(name, link)| (name.value.as_str(), &link.value)).collect()
}

/// The profile that a reference stands for. A finding gives a transparent one, so that one mistake is told once.
pub(super) fn resolve_link(
    link: Option<&At<LinkRef>>,
    profiles: &Profiles<'_>,
    findings: &mut Findings<'_>,
) -> Profile {
    let Some(link) = link else { return Profile::default() };
    match &link.value {
        LinkRef::Own(own) => {
            check_link(own, link.place, findings);
            own.profile()
        }
        LinkRef::Name(name) => match profiles.get(name.as_str()) {
            Some(profile) => profile.profile(),
            None => {
                findings.unknown(link.place, "link profile", name, profiles.keys().copied());
                Profile::default()
            }
        },
    }
}

/// Checks a link that is complete: what each half names, and that it makes sense together.
pub(super) fn check_link(link: &LinkSpec, place: Place, findings: &mut Findings<'_>) {
    for half in link.halves() {
        check_half(half, findings);
        let mut complete = HalfLink::default();
        half.apply(&mut complete);
        check_complete(&complete, half, place, findings);
    }
}

/// Checks a change to links: what it names. Whether the sum makes sense depends on what it is laid over.
pub(super) fn check_change(change: &LinkSpec, findings: &mut Findings<'_>) {
    for half in change.halves() {
        check_half(half, findings);
    }
}

/// Checks that a half makes sense as a whole. `spec` is what was written last of it, `place` stands for the rest.
pub(super) fn check_complete(half: &HalfLink, spec: &HalfSpec, place: Place, findings: &mut Findings<'_>) -> bool {
    if half.jitter > half.delay {
        let place = spec.jitter.as_ref().map_or(place, |jitter| jitter.place);
        let message = format!("a jitter of ± {} is more than the delay of {}", half.jitter, half.delay);
        findings.invalid_but(place, message, "a packet cannot arrive before it was sent");
        return false;
    }
    if half.queue.is_some() && half.rate.is_none() && half.trace.is_none() {
        let place = spec.queue.as_ref().map_or(place, |queue| queue.place);
        findings.invalid_but(place, "a queue without a rate never fills", "give a `rate`, or leave `queue` out");
        return false;
    }
    if half.may_reorder() && half.delay.is_zero() {
        let place = spec.reorder.as_ref().map_or(place, |reorder| reorder.place);
        let help = "give a `delay`: those that overtake leave it out";
        findings.invalid_but(place, "without a delay there is nobody to overtake", help);
        return false;
    }
    true
}

pub(super) fn check_half(half: &HalfSpec, findings: &mut Findings<'_>) {
    if let Some(rate) = &half.rate {
        if rate.value == Rate::default() {
            let help = "leave `rate` out for no limit; a `partition` cuts a link";
            findings.invalid_but(rate.place, "a rate of 0 lets nothing through", help);
        } else if rate.value > MAX_RATE {
            findings.invalid(rate.place, format!("a rate is at most {MAX_RATE}"));
        }
        if let Some(trace) = &half.trace {
            findings.invalid(trace.place, "`rate` and `trace` both say how fast; give one");
        }
    }
    for span in [&half.delay, &half.jitter].into_iter().flatten() {
        if span.value > MAX_DELAY {
            findings.invalid(span.place, format!("a delay is at most {MAX_DELAY}"));
        }
    }
    if let (Some(_), Some(burst)) = (&half.loss, &half.burst) {
        findings.invalid(burst.place, "`loss` and `burst` both say what is lost; give one");
    }
    if let Some(burst) = &half.burst
        && (burst.value.p, burst.value.good) == (Ratio::ZERO, Ratio::ZERO)
    {
        let help = "`p` is the chance per packet that a burst begins";
        findings.invalid_but(burst.place, "a `burst` with a `p` of 0 never begins and loses nothing", help);
    }
    if let Some(queue) = &half.queue {
        match queue.value.0 {
            Queue::Bytes(Size::ZERO) | Queue::Packets(0) => {
                findings.invalid(queue.place, "a queue of nothing drops every packet");
            }
            Queue::Bytes(size) if size > MAX_QUEUE_BYTES => {
                findings.invalid(queue.place, format!("a queue holds at most {MAX_QUEUE_BYTES}"));
            }
            Queue::Packets(packets) if packets > MAX_QUEUE_PACKETS => {
                findings.invalid(queue.place, format!("a queue holds at most {MAX_QUEUE_PACKETS} packets"));
            }
            _ => {}
        }
    }
    check_drop_list(half, findings);
}

fn check_drop_list(half: &HalfSpec, findings: &mut Findings<'_>) {
    let Some(drop) = &half.drop else { return };
    if drop.value.len() > MAX_DROPS {
        let message = format!("a list of drops has at most {MAX_DROPS} entries");
        return findings.invalid_but(drop.place, message, "a range counts as one");
    }
    for ordinals in &drop.value {
        let text = ordinals.value.0.as_str();
        if let Err(wrong) = text.parse::<Ordinals>() {
            findings.invalid(ordinals.place, format!("`{text}` is {wrong}"));
        }
    }
}

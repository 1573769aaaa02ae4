//! Who of a session's receivers counts for what is sent next.

use std::net::SocketAddr;
use std::sync::Arc;

use machine::{Span, Time};

use super::super::layout::Layout;
use super::super::member::{Member, Standing};
use super::super::tuning::SILENT;
use super::announce::report_every;

/// How long a receiver may be silent before it holds nobody up: longer than it takes between two reports.
pub(super) fn patience(receivers: usize) -> Span {
    SILENT.max(report_every(receivers) * 5 / 2)
}

/// Those who take data of a flow: of that for one alone, or of that for the others.
pub(super) fn open(is_alone: bool, members: &[Member]) -> impl Iterator<Item = &Member> + Clone {
    members.iter().filter(move |member| member.standing == Standing::Open && member.is_alone == is_alone)
}

/// Those whom sending keeps to: all that lack something and are heard of but stragglers, if there is anybody but these.
pub(super) fn pace_setters(
    now: Time,
    patience: Span,
    is_alone: bool,
    members: &[Member],
) -> impl Iterator<Item = &Member> {
    let active = move || open(is_alone, members).filter(move |member| member.is_active(now, patience));
    let all = !active().any(|member| member.sets_pace);
    active().filter(move |member| all || member.sets_pace)
}

pub(super) fn is_needed(layout: &Layout, is_alone: bool, members: &[Member], block: u32) -> bool {
    let originals = layout.block(block).map_or(0, |block| block.originals);
    let lacks =
        |member: &Member| member.report.as_ref().is_none_or(|report| report.missing(block, originals) != Some(0));
    open(is_alone, members).any(lacks)
}

/// Where each packet goes: to the group, and to everyone whom that does not reach, beginning with another one each time:
/// else a queue that is full would drop the packets of the same ones again and again.
pub(super) fn targets<'a>(
    group: Option<SocketAddr>,
    open: impl Iterator<Item = &'a Member>,
    turn: u64,
) -> Arc<[SocketAddr]> {
    let alone = open.filter(|member| group.is_none() || !member.is_reached_by_group).map(|member| member.address);
    let mut to: Vec<_> = group.into_iter().chain(alone).collect();
    let count = to.len().max(1) as u64;
    to.rotate_left((turn % count) as usize);
    to.into()
}

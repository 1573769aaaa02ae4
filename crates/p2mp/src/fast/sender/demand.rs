//! What a report shows to be missing, and so is scheduled.

use super::super::layout::Layout;
use super::super::ledger::Ledger;
use super::super::member::Member;
use super::super::tuning::BLOCKS_A_REPORT;

/// Schedules what `member` lacks by its latest report and what is not on its way: numbered higher than `seen`.
///
/// While the pass goes on, exactly what is missing is scheduled: each such packet is of use to the one who lacks most, and
/// what is lost of them is seen in time. At the end, when the line would stand idle for a round trip, what will probably be
/// lost goes along.
pub(super) fn schedule(ledger: &mut Ledger, layout: &Layout, member: &Member, seen: u64, loss: f64) {
    let Some(report) = &member.report else { return };
    let reaches = ledger.pass_reaches();
    let arrives = if ledger.pass_is_over() { 1.0 - loss } else { 1.0 };
    let blocks = report.runs.iter().flat_map(|run| {
        let end = run.end().min(reaches);
        (run.first..end.max(run.first)).map(|index| (index, run.missing))
    });
    for (index, missing) in blocks.take(BLOCKS_A_REPORT) {
        let Some(block) = layout.block(index) else { return };
        let missing = missing.unwrap_or(block.originals).min(block.originals);
        let coming = f64::from(ledger.outstanding(&block, seen)) * arrives;
        let lacking = f64::from(missing) - coming;
        if lacking > 0.0 {
            let is_bulk = member.is_straggler || missing >= block.originals.div_ceil(2).max(BULK);
            ledger.schedule(&block, (lacking / arrives).ceil() as u32, is_bulk);
        }
    }
}

/// Whether anything was sent since its last progress of what `member` lacks.
pub(super) fn was_served(ledger: &Ledger, member: &Member) -> bool {
    let runs = member.report.iter().flat_map(|report| &report.runs);
    let mut blocks = runs.flat_map(|run| run.first..run.end()).take(BLOCKS_A_REPORT);
    blocks.any(|index| ledger.last_sent(index) > member.progressed_by)
}

/// Fewer symbols than this are no bulk, however small their block.
const BULK: u16 = 16;

//! What a receiver has: state, not changes, so that a lost report costs nothing.
//!
//! After the common header, at 16:
//!
//! ```text
//! 16 member u64   24 flags u8 (1 open, 2 lacks files, 4 lacks digests, 8 complete, 16 failed)   25 runs u8
//! 26 window u32, datagrams   30 largest datagram heard, alone u16, to the group u16
//! 34 echo: the last announcement's stamp u32, held u32, µs
//! 42 highest packet number u64, its arrival by the receiver's clock u32, held u32, µs   58 data packets received u64
//! 66 symbols held u64   74 covered u32
//! 78 runs: first block u32, blocks u32, missing symbols of each u16 (65535: all)   then why it failed: length u8, UTF-8
//! ```

use super::packet::{Malformed, MemberId, Reader};

/// The most runs of a report: then it passes wherever IPv6 does (RFC 8200: 1280 bytes).
pub const MOST_RUNS: usize = 100;

/// The longest reason of a failure, in bytes.
pub const LONGEST_REASON: usize = 120;

const OPEN: u8 = 1;
const LACKS_FILES: u8 = 2;
const LACKS_DIGESTS: u8 = 4;
const COMPLETE: u8 = 8;
const FAILED: u8 = 16;
const ALL: u16 = u16::MAX;

/// What a receiver says.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// Who says it.
    pub member: MemberId,
    /// Its files are open: data are of use. Without it the counts below say nothing.
    pub is_open: bool,
    /// It has not heard of all files yet.
    pub lacks_files: bool,
    /// It has all of a file whose digest it does not know.
    pub lacks_digests: bool,
    /// It has all files, checked, under their final names.
    pub is_complete: bool,
    /// It cannot go on, and why.
    pub failure: Option<String>,
    /// How many datagrams its socket holds while it is not looking.
    pub window: u32,
    /// The largest datagram that it heard from the sender, sent to it alone; 0 for none.
    pub largest_alone: u16,
    /// The largest that it heard sent to the group; 0 for none.
    pub largest_group: u16,
    /// The stamp of the last announcement heard.
    pub echo_us: u32,
    /// How long ago that came.
    pub echo_held_us: u32,
    /// The highest packet number seen; 0 for none.
    pub highest: u64,
    /// When that came, by the receiver's clock, in wrapping microseconds.
    pub arrived_us: u32,
    /// How long ago that was.
    pub held_us: u32,
    /// Data packets received in this session, of use or not.
    pub received: u64,
    /// Symbols held that count: at most each block's originals.
    pub symbols: u64,
    /// What [`runs`](Report::runs) tells is all below this block.
    pub covered: u32,
    /// The blocks below [`covered`](Report::covered) that lack something, in order, without overlaps.
    pub runs: Vec<Run>,
}

/// Blocks beside each other that lack the same number of symbols.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// The first.
    pub first: u32,
    /// How many, at least one.
    pub count: u32,
    /// How many symbols each of them lacks, at least one; `None`: all.
    pub missing: Option<u16>,
}

impl Run {
    /// The first block after these.
    pub fn end(&self) -> u32 {
        self.first.saturating_add(self.count)
    }
}

impl Report {
    /// How many symbols `block` lacks, as far as this report tells: `None` where it does not.
    pub fn missing(&self, block: u32, originals: u16) -> Option<u16> {
        if block >= self.covered {
            return None;
        }
        let at = self.runs.partition_point(|run| run.end() <= block);
        let run = self.runs.get(at).filter(|run| run.first <= block);
        Some(run.map_or(0, |run| run.missing.unwrap_or(originals).min(originals)))
    }

    pub(super) fn write(&self, bytes: &mut Vec<u8>) {
        let flag = |is_set: bool, flag: u8| if is_set { flag } else { 0 };
        let runs = &self.runs[..self.runs.len().min(MOST_RUNS)];
        bytes.extend_from_slice(&self.member.0.to_be_bytes());
        bytes.push(
            flag(self.is_open, OPEN)
                | flag(self.lacks_files, LACKS_FILES)
                | flag(self.lacks_digests, LACKS_DIGESTS)
                | flag(self.is_complete, COMPLETE)
                | flag(self.failure.is_some(), FAILED),
        );
        bytes.push(runs.len() as u8);
        bytes.extend_from_slice(&self.window.to_be_bytes());
        bytes.extend_from_slice(&self.largest_alone.to_be_bytes());
        bytes.extend_from_slice(&self.largest_group.to_be_bytes());
        bytes.extend_from_slice(&self.echo_us.to_be_bytes());
        bytes.extend_from_slice(&self.echo_held_us.to_be_bytes());
        bytes.extend_from_slice(&self.highest.to_be_bytes());
        bytes.extend_from_slice(&self.arrived_us.to_be_bytes());
        bytes.extend_from_slice(&self.held_us.to_be_bytes());
        bytes.extend_from_slice(&self.received.to_be_bytes());
        bytes.extend_from_slice(&self.symbols.to_be_bytes());
        bytes.extend_from_slice(&self.covered.to_be_bytes());
        for run in runs {
            bytes.extend_from_slice(&run.first.to_be_bytes());
            bytes.extend_from_slice(&run.count.to_be_bytes());
            bytes.extend_from_slice(&run.missing.unwrap_or(ALL).to_be_bytes());
        }
        if let Some(why) = &self.failure {
            let mut end = why.len().min(LONGEST_REASON);
            while !why.is_char_boundary(end) {
                end -= 1;
            }
            bytes.push(end as u8);
            bytes.extend_from_slice(&why.as_bytes()[..end]);
        }
    }

    pub(super) fn read(rest: &mut Reader<'_>) -> Result<Self, Malformed> {
        let member = MemberId(rest.u64()?);
        let (flags, count) = (rest.u8()?, usize::from(rest.u8()?));
        if count > MOST_RUNS {
            return Err(Malformed::Value("the number of runs"));
        }
        let mut report = Report {
            member,
            is_open: flags & OPEN != 0,
            lacks_files: flags & LACKS_FILES != 0,
            lacks_digests: flags & LACKS_DIGESTS != 0,
            is_complete: flags & COMPLETE != 0,
            failure: None,
            window: rest.u32()?,
            largest_alone: rest.u16()?,
            largest_group: rest.u16()?,
            echo_us: rest.u32()?,
            echo_held_us: rest.u32()?,
            highest: rest.u64()?,
            arrived_us: rest.u32()?,
            held_us: rest.u32()?,
            received: rest.u64()?,
            symbols: rest.u64()?,
            covered: rest.u32()?,
            runs: Vec::with_capacity(count),
        };
        if report.highest > u64::MAX >> 1 {
            return Err(Malformed::Value("a packet number"));
        }
        let mut after = 0;
        for _ in 0..count {
            let (first, count, missing) = (rest.u32()?, rest.u32()?, rest.u16()?);
            let end = first.checked_add(count).filter(|end| *end <= report.covered && *end > first);
            if first < after || missing == 0 {
                return Err(Malformed::Value("a run"));
            }
            after = end.ok_or(Malformed::Value("a run"))?;
            report.runs.push(Run { first, count, missing: (missing != ALL).then_some(missing) });
        }
        if flags & FAILED != 0 {
            let length = usize::from(rest.u8()?);
            let why = String::from_utf8_lossy(rest.bytes(length.min(LONGEST_REASON))?);
            // It will be printed: no terminal sequences from the network.
            report.failure = Some(why.chars().map(|letter| if letter.is_control() { '?' } else { letter }).collect());
        }
        Ok(report)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::fast) fn empty() -> Report {
        Report {
            member: MemberId(7),
            is_open: true,
            lacks_files: false,
            lacks_digests: false,
            is_complete: false,
            failure: None,
            window: 1,
            largest_alone: 1472,
            largest_group: 0,
            echo_us: 2,
            echo_held_us: 3,
            highest: 4,
            arrived_us: 5,
            held_us: 6,
            received: 7,
            symbols: 8,
            covered: 100,
            runs: Vec::new(),
        }
    }

    #[test]
    fn what_is_missing_is_found_in_the_runs() {
        let run = |first, count, missing| Run { first, count, missing };
        let report = Report { runs: vec![run(3, 2, Some(9)), run(5, 1, Some(1)), run(50, 50, None)], ..empty() };
        for (block, missing) in
            [(0, Some(0)), (3, Some(9)), (4, Some(9)), (5, Some(1)), (6, Some(0)), (60, Some(990)), (100, None)]
        {
            assert_eq!(report.missing(block, 990), missing, "block {block}");
        }
        assert_eq!(report.missing(3, 5), Some(5), "never more than there is");
    }
}

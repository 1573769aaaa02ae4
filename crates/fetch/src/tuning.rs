//! Every constant of the engine, with its unit and its reason.

use machine::Span;

/// A source that does not answer is asked again this often. With a round trip added, a revived server is used again
/// within 250 ms of being reachable; a connection attempt every 150 ms costs nobody anything.
pub const PROBE_EVERY: Span = Span::from_millis(150);

/// A machine that refuses connections answers at once and for nothing; one whose server died a moment ago is asked this
/// often, [`PROBES_QUICK`] times.
pub const PROBE_REFUSED_EVERY: Span = Span::from_millis(40);

/// For about five seconds; then a server that is away for longer is asked as seldom as a silent one.
pub const PROBES_QUICK: u32 = 120;

/// Questions to one silent source that may be open at once: TCP repeats a lost SYN only after a second, so a fresh
/// attempt is what notices the revival, and an old one may still be the one that a slow path answers.
/// Eight of its own in the patience for each, and as many on a check server's word.
pub const PROBES_AT_ONCE: usize = 16;

/// A question is given up after this long, or after [`PATIENCE_ROUND_TRIPS`] if that is longer.
pub const PROBE_PATIENCE: Span = Span::from_millis(1150);

/// One question to a silent source is left open for this long, beside those that are given up sooner: a server that is
/// slow, but answers, is found by it.
pub const PROBE_PATIENCE_ONCE: Span = Span::from_secs(30);

/// Multiple of the measured latency after which an unanswered question is given up.
pub const PATIENCE_ROUND_TRIPS: u64 = 4;

/// The longest pause between attempts at a source that answers but never delivers (5xx, endless resets, stalls). A
/// liveness message cuts it short.
pub const BACKOFF_CAP: Span = Span::from_millis(4800);

/// No byte for this long means that a source is dead, whatever its speed: the shortest silence that an ordinary TCP
/// retransmission time-out (200 ms, doubled once) does not cause.
pub const STALL_FLOOR: Span = Span::from_millis(600);

/// Silence is also allowed for this multiple of the smoothed gap between deliveries.
pub const STALL_GAPS: u64 = 8;

/// The silence allowed to a source that the check server calls dead.
pub const STALL_SUSPECT: Span = Span::from_millis(100);

/// The longest silence ever allowed: a source that drips slower than this is no use.
pub const STALL_CAP: Span = Span::from_secs(10);

/// The silence allowed before the first byte of an answer, on top of the latency's multiple.
pub const FIRST_BYTE_PATIENCE: Span = Span::from_millis(1000);

/// The same of a source that serves blocks: it makes each request wait by intent, the published ones for a second.
pub const FIRST_BLOCK_PATIENCE: Span = Span::from_secs(5);

/// Bytes of the first range from a source whose speed is not known: a few round trips' worth at any usual speed, and
/// little to wait for if it turns out slow.
pub const FIRST_RANGE: u64 = 512 << 10;

/// The shortest range worth a request from a fast source, in bytes; from a slow one it is [`SHORTEST_TIME`].
pub const SHORTEST_RANGE: u64 = 64 << 10;

/// The shortest range worth a request, in time at the source's speed: half a source's lead is that short when it is near.
pub const SHORTEST_TIME: Span = Span::from_millis(15);

/// The longest range, in time at the source's speed: what a source has been asked for is bound to it, and since ranges
/// follow each other on one connection, short ones cost only their heads.
pub const LONGEST_TIME: Span = Span::from_millis(500);

/// Ranges that a source may be asked for at once.
pub const RANGES_AT_ONCE: usize = 4;

/// The same of a source that serves blocks: a second of a fast one in ranges of one block.
pub const BLOCKS_AT_ONCE: usize = 64;

/// Ranges end at multiples of this where pieces are larger than ranges.
pub const RANGE_GRAIN: u64 = 16 << 10;

/// A source takes at once at most this part (as a divisor) of its share of what is left, and no more than
/// [`LONGEST_TIME`]: small at the end, so that all end together though speeds change (guided self-scheduling,
/// Polychronopoulos and Kuck 1987).
pub const SHARE_DIVISOR: f64 = 2.0;

/// A source has work for its latency times 5/4 and this: what a busy machine may be late by.
pub const LEAD: Span = Span::from_millis(20);

/// For so many round trips TCP's window may still grow: ten doublings make the first window a thousand times as large.
pub const GROWTH_ROUND_TRIPS: u64 = 10;

/// So much faster than measured a source may be meanwhile: it doubles each round trip, and the measure is a mean over
/// more than one.
pub const GROWTH: f64 = 4.0;

/// The latency assumed of a source that was never heard.
pub const LATENCY_GUESS: Span = Span::from_millis(50);

/// The time over which speeds are averaged: long enough to bridge the bursts of a shaper, short enough to follow a link
/// that worsens.
pub const RATE_MEMORY: Span = Span::from_millis(400);

/// How far apart looks at the balance are while a source has nothing to do.
pub const REBALANCE_EVERY: Span = Span::from_millis(20);

/// The end of another's range is not taken closer to it than this time at its speed: it would pass the mark before the
/// thief has it, and both would fetch the same.
pub const STEAL_GUARD: Span = Span::from_millis(15);

/// Of the file, the share (in 1000) that may be fetched twice to end in time. With what is lost in flight when ranges
/// are cut, waste stays under 1 %.
pub const HEDGE_PER_MILLE: u64 = 4;

/// The bytes that may always be fetched twice, however small the file.
pub const HEDGE_FLOOR: u64 = 64 << 10;

/// A source without ranges can only send everything from the start. While others work it is asked only if they would
/// take this many times as long, and [`STREAM_HEAD_START`] more: what is here is fetched again.
pub const STREAM_ADVANTAGE: f64 = 2.0;

/// See [`STREAM_ADVANTAGE`]: also the time that others have to show what they can do.
pub const STREAM_HEAD_START: Span = Span::from_secs(1);

/// The speed, in bytes per second, that is assumed of a source which was not measured, where the question is whether a
/// stream from the start is worth it.
pub const STREAM_SPEED_GUESS: f64 = 1e6;

/// A whole file is not called so while a source may yet publish hashes: for this long after its last byte, and the time
/// of [`HASHING_SPEED`]. A resumed file, which nothing else can vouch for, is not begun anew for as long.
pub const HASHES_PATIENCE: Span = Span::from_secs(10);

/// A server is given time to read and hash its file at this speed, in bytes per second: half of what an ordinary
/// processor and disk do.
pub const HASHING_SPEED: u64 = 200_000_000;

/// Questions for hashes that may break off one after another before a source counts as one without hashes.
pub const HASHES_ATTEMPTS: u32 = 3;

/// Corrupt pieces after which a source is set apart.
pub const CORRUPT_MAX: u32 = 8;

/// Times that a source may send the same piece corrupt, if nobody else has it, before the download fails.
pub const CORRUPT_SAME: u32 = 3;

/// Protocol violations without a useful byte between them after which a source is set apart.
pub const VIOLATIONS_MAX: u32 = 8;

/// Questions in a row that a source may answer with a status such as 404 before it no longer counts as one that may yet
/// deliver: about three seconds.
pub const REFUSALS_MAX: u32 = 5;

/// Bytes on their way to the disk beyond which no more are read.
pub const WRITE_BACKLOG: u64 = 16 << 20;

/// Records are made durable this long after the first that is not.
pub const SYNC_EVERY: Span = Span::from_secs(1);

/// Pieces given to be rehashed at once on resume.
pub const REHASH_AT_ONCE: usize = 32;

/// While pieces are being rehashed, ranges are asked for when this many bytes turned out to be missing: piece by piece
/// they would make as many requests.
pub const REHASH_FIRST: u64 = 4 << 20;

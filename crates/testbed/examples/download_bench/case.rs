//! The cases: what serves, what happens to it, and what is asked of the downloader.

use crate::network::Servers;

/// One case.
#[derive(Clone, Debug)]
pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) what: &'static str,
    /// Bytes of the file.
    pub(crate) length: u64,
    /// Each server's line; none shapes nothing, and the kernel's bridge carries it.
    pub(crate) lines: [Option<Line>; SERVERS],
    /// What happens to [`VICTIM`], and when: seconds after all programs have started.
    pub(crate) faults: &'static [(f64, Fault)],
    /// Counts the time that TCP needs to get going into the bound.
    pub(crate) slow_start: bool,
    /// Published beside the file, and checked piece by piece by both clients.
    pub(crate) hashes: Hashes,
    /// The time over the bound is at most this; without lines there is no bound.
    pub(crate) most: Option<f64>,
    /// The time over aria2's is at most this.
    pub(crate) against: f64,
    /// The options with which aria2 is best here, beside those that it always gets.
    pub(crate) aria2: &'static [&'static str],
}

/// SHA-256 of each piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hashes {
    None,
    Right,
    /// One of them is another's: who checks them cannot take the file.
    OneWrong,
}

impl Case {
    /// A short form of the case that must fail, if hashes are checked at all.
    pub(crate) fn spoiled(&self) -> Case {
        Case { length: 8 * MIB, hashes: Hashes::OneWrong, ..self.clone() }
    }

    /// A `file-server` always publishes hashes, and the downloader always checks them: unshaped, where that is what takes
    /// the time, it would be compared with an aria2 that does not.
    pub(crate) fn is_for(&self, servers: Servers) -> bool {
        servers == Servers::Nginx || self.hashes == Hashes::Right || self.most.is_some()
    }
}

/// Servers of every case.
pub(crate) const SERVERS: usize = 4;

/// The server that faults befall, from 0.
pub(crate) const VICTIM: usize = 1;

/// A server's line, both ways alike.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Line {
    /// Mbit/s of Ethernet frames without FCS.
    pub(crate) rate: u32,
    /// To the client and back, in milliseconds.
    pub(crate) round_trip: u32,
}

/// What happens to a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// KILL: the kernel closes its connections.
    Kill,
    /// Frozen: its kernel still answers, nothing is sent.
    Pause,
    /// The links first: it is silent.
    Crash,
    /// It is started again.
    Revive,
}

impl Fault {
    /// As a topology says it.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Fault::Kill => "kill",
            Fault::Pause => "pause",
            Fault::Crash => "crash",
            Fault::Revive => "revive",
        }
    }
}

const MIB: u64 = 1 << 20;

/// Never behind aria2 by more than this.
const LEVEL: f64 = 1.02;

/// Two thirds of aria2's time: 1.5 times its throughput.
const FASTER: f64 = 1.0 / 1.5;

/// Four mirrors at 50 Mbit/s.
const fn four(
    name: &'static str,
    what: &'static str,
    round_trip: u32,
    faults: &'static [(f64, Fault)],
    most: f64,
) -> Case {
    let lines = [Some(Line { rate: 50, round_trip }); SERVERS];
    Case {
        name,
        what,
        length: 100 * MIB,
        lines,
        faults,
        slow_start: false,
        hashes: Hashes::None,
        most: Some(most),
        against: LEVEL,
        aria2: &[],
    }
}

/// Nothing is shaped.
const fn open(name: &'static str, what: &'static str, hashes: Hashes) -> Case {
    let (length, lines) = (1024 * MIB, [None; SERVERS]);
    Case { name, what, length, lines, faults: &[], slow_start: false, hashes, most: None, against: FASTER, aria2: &[] }
}

const KILL: &[(f64, Fault)] = &[(1.0, Fault::Kill)];
const REVIVE: &[(f64, Fault)] = &[(1.0, Fault::Kill), (2.0, Fault::Revive)];
const PAUSE: &[(f64, Fault)] = &[(1.0, Fault::Pause)];
const CRASH: &[(f64, Fault)] = &[(1.0, Fault::Crash)];

/// Left to itself, aria2 gives a server up for good at once (1.25 × the bound of `revive`, 1.06 with these).
const PATIENT: &[&str] = &["--max-tries=0", "--retry-wait=1", "--timeout=2", "--connect-timeout=2"];

/// Left to itself, aria2 waits ten seconds for a silent server (2.0 × the bound of `stall`, 1.08 with these).
const IMPATIENT: &[&str] = &["--max-tries=1", "--timeout=1", "--connect-timeout=1"];

/// Every case.
pub(crate) const ALL: &[Case] = &[
    four("steady", "four mirrors at 50 Mbit/s, 1 ms", 1, &[], 1.03),
    four("kill", "the same, one killed at 1 s", 1, KILL, 1.03),
    Case { aria2: PATIENT, ..four("revive", "the same, one killed at 1 s and back at 2 s", 1, REVIVE, 1.03) },
    four("steady-10ms", "four mirrors at 50 Mbit/s, 10 ms", 10, &[], 1.03),
    four("kill-10ms", "the same, one killed at 1 s", 10, KILL, 1.03),
    Case { aria2: PATIENT, ..four("revive-10ms", "the same, one killed at 1 s and back at 2 s", 10, REVIVE, 1.03) },
    Case {
        name: "mixed",
        what: "mirrors of 80, 40, 20, 10 Mbit/s at 5, 50, 100, 200 ms",
        length: 100 * MIB,
        lines: [
            Some(Line { rate: 80, round_trip: 5 }),
            Some(Line { rate: 40, round_trip: 50 }),
            Some(Line { rate: 20, round_trip: 100 }),
            Some(Line { rate: 10, round_trip: 200 }),
        ],
        faults: &[],
        slow_start: true,
        hashes: Hashes::None,
        most: Some(1.05),
        against: LEVEL,
        aria2: &[],
    },
    Case { aria2: IMPATIENT, ..four("stall", "four mirrors at 50 Mbit/s, 10 ms, one frozen at 1 s", 10, PAUSE, 1.10) },
    Case {
        aria2: IMPATIENT,
        ..four("crash", "four mirrors at 50 Mbit/s, 10 ms, one silent from 1 s on", 10, CRASH, 1.10)
    },
    open("open", "1 GiB from four mirrors, nothing shaped, no hashes", Hashes::None),
    open("open-hashes", "the same, each piece's SHA-256 checked", Hashes::Right),
];

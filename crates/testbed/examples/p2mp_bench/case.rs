//! The cases: who transfers what over which links, and what is asked of it.

/// One case: a file to so many receivers, by each of the programs in turn.
#[derive(Clone, Debug)]
pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) what: &'static str,
    /// Bytes of the file.
    pub(crate) length: u64,
    pub(crate) receivers: usize,
    /// What the sender's `up` half is, as a topology says it; nothing shapes nothing.
    pub(crate) up: Option<u32>,
    /// Share of the packets that each receiver's `down` half loses, in percent.
    pub(crate) loss: u32,
    /// The seeds' application-level loss, in percent. Not every program has such a thing.
    pub(crate) p: u32,
    /// Who does it: ours first.
    pub(crate) programs: [Program; 2],
    /// Our time over the bound is at most this; without a rate there is no bound.
    pub(crate) most: Option<f64>,
    /// The other's time over ours is at least this.
    pub(crate) faster: Option<f64>,
    /// How many rounds at most: some take minutes.
    pub(crate) rounds: u32,
}

/// A sender and its receivers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Program {
    /// Ours, `--mode fast`.
    Fast,
    /// UFTP, at so many kbit/s; -1 is as fast as the interface takes.
    Uftp { rate: i64 },
    /// Ours, stop-and-wait with an adaptive timeout.
    Adaptive,
    /// Ours, stop-and-wait with the seeds' fixed second.
    Fixed,
}

impl Program {
    pub(crate) fn word(self) -> &'static str {
        match self {
            Program::Fast => "fast",
            Program::Uftp { .. } => "UFTP",
            Program::Adaptive => "adaptive",
            Program::Fixed => "fixed 1 s",
        }
    }
}

/// How a frame is made up, in bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Frame {
    /// Of the file.
    pub(crate) payload: u32,
    /// Ethernet without FCS.
    pub(crate) wire: u32,
}

/// Ethernet, IPv4 and UDP.
const HEADERS: u32 = 14 + 20 + 8;

/// All interfaces have this.
pub(crate) const MTU: u32 = 1500;

/// A datagram of ours carries as many bytes of the file as fit: an even number, as the code needs it.
pub(crate) const FRAME: Frame = {
    let payload = (MTU + 14 - HEADERS - p2mp::fast::packet::DATA_HEADER as u32) / 2 * 2;
    Frame { payload, wire: HEADERS + p2mp::fast::packet::DATA_HEADER as u32 + payload }
};

impl Case {
    /// The least time in seconds: each receiver needs as many datagrams as the file has, and gets all but what is lost.
    pub(crate) fn bound(&self) -> Option<f64> {
        let rate = f64::from(self.up?) * 1e6 / 8.0;
        let wire = self.length as f64 * f64::from(FRAME.wire) / f64::from(FRAME.payload);
        Some(wire / (rate * (1.0 - f64::from(self.loss) / 100.0)))
    }
}

const MIB: u64 = 1 << 20;

/// 100 MiB through 200 Mbit/s, `loss` percent lost on the way to each of five.
const fn lossy(name: &'static str, what: &'static str, loss: u32, uftp: i64) -> Case {
    Case {
        name,
        what,
        length: 100 * MIB,
        receivers: 5,
        up: Some(200),
        loss,
        p: 0,
        programs: [Program::Fast, Program::Uftp { rate: uftp }],
        most: Some(1.05),
        faster: None,
        rounds: u32::MAX,
    }
}

/// Every case in which programs take turns.
pub(crate) const ALL: &[Case] = &[
    Case {
        name: "open",
        what: "100 MiB to five, nothing shaped",
        length: 100 * MIB,
        receivers: 5,
        up: None,
        loss: 0,
        p: 0,
        programs: [Program::Fast, Program::Uftp { rate: -1 }],
        most: None,
        faster: Some(8.0),
        rounds: u32::MAX,
    },
    lossy("loss-1", "100 MiB to five through 200 Mbit/s, each loses 1 %", 1, UFTP_RATE),
    lossy("loss-5", "the same, each loses 5 %", 5, UFTP_RATE),
    lossy("loss-10", "the same, each loses 10 %", 10, UFTP_RATE),
    Case {
        name: "classic",
        what: "30 000 bytes stop-and-wait to five with p = 5 %, timeout adaptive and fixed",
        length: 30_000,
        receivers: 5,
        up: None,
        loss: 0,
        p: 5,
        programs: [Program::Adaptive, Program::Fixed],
        most: None,
        faster: Some(20.0),
        rounds: 3,
    },
];

/// kbit/s, with which UFTP is best at 200 Mbit/s.
const UFTP_RATE: i64 = 197_000;

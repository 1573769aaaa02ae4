//! The machines of the fast mode beside somebody who lies: whoever is honest has the file all the same, nobody waits for
//! ever, and nothing grows with what the other side invents.
#![allow(clippy::unwrap_used, reason = "in a test a panic is the report")]

use std::collections::BTreeMap;
use std::net::SocketAddr;

use machine::{Machine, Span, Time};
use p2mp::fast::report::{Report, Run};
use p2mp::fast::{
    Announce, DataHeader, Fate, FileEntry, Identity, Manifest, MemberId, Packet, Poll, Receiver, ReceiverConfig,
    ReceiverInput, ReceiverOutput, Release, Sender, SenderConfig, SenderInput, SenderOutput, SessionId,
};
use proptest::collection::vec;
use proptest::prelude::*;

const SESSION: SessionId = SessionId(0x5e55_1010);
const IDENTITY: Identity = Identity([3; 16]);
const GIVE_UP: Span = Span::from_secs(20);
const ONE_WAY: Span = Span::from_millis(1);
/// The most that a machine may want done after one input: a page of announcements, or the trains of some milliseconds.
const MOST_OUTPUTS: usize = 2000;

fn address(last: u8) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, last], 7735))
}

fn manifest() -> Manifest {
    let files = [("a", 400_000_u64), ("b", 0), ("c", 1)];
    Manifest::new(
        files.map(|(name, length)| FileEntry { digest: Some([1; 32]), ..FileEntry::new(name, length) }).into(),
    )
    .unwrap()
}

#[derive(Debug)]
enum Flight {
    ToSender(SocketAddr, Vec<u8>),
    ToHonest(Vec<u8>),
}

/// A sender, an honest receiver at .1, and a place at .2 from which anything may come.
struct World {
    now: Time,
    sender: Sender,
    honest: Option<Receiver>,
    fate: Option<Fate>,
    is_finished: bool,
    flying: BTreeMap<(Time, u64), Flight>,
    count: u64,
    told: Vec<SenderOutput>,
}

impl World {
    fn new() -> Self {
        let config = SenderConfig {
            session: SESSION,
            identity: IDENTITY,
            manifest: manifest(),
            receivers: vec![address(1), address(2)],
            group: None,
            sizes: vec![1472],
            rate: None,
            overhead: 42,
            longest_train: 44,
            gather: Span::from_secs(1),
            give_up: GIVE_UP,
        };
        World {
            now: Time::ZERO,
            sender: Sender::new(Time::ZERO, config),
            honest: None,
            fate: None,
            is_finished: false,
            flying: BTreeMap::new(),
            count: 0,
            told: Vec::new(),
        }
    }

    fn fly(&mut self, flight: Flight) {
        self.count += 1;
        self.flying.insert((self.now + ONE_WAY, self.count), flight);
    }

    fn drain_sender(&mut self) {
        let mut outputs = 0;
        while let Some(output) = self.sender.poll() {
            outputs += 1;
            assert!(outputs <= MOST_OUTPUTS, "one input, and it wants this done without end: {output:?}");
            match output {
                SenderOutput::Datagram { to, bytes } if to == address(1) => self.fly(Flight::ToHonest(bytes)),
                SenderOutput::Datagram { .. } => {}
                SenderOutput::Train(train) => {
                    if train.to.contains(&address(1)) {
                        for index in 0..train.count {
                            let bytes = Packet::Data(train.header(index), b"").to_bytes(SESSION);
                            self.fly(Flight::ToHonest(bytes));
                        }
                    }
                }
                SenderOutput::Finished => self.is_finished = true,
                other => self.told.push(other),
            }
        }
    }

    fn drain_honest(&mut self) {
        while let Some(output) = self.honest.as_mut().and_then(Receiver::poll) {
            let answer = match output {
                ReceiverOutput::Datagram { bytes, .. } => {
                    self.fly(Flight::ToSender(address(1), bytes));
                    None
                }
                ReceiverOutput::Open { .. } => Some(ReceiverInput::Opened { held: Vec::new(), there: Vec::new() }),
                ReceiverOutput::Verify { file, .. } => Some(ReceiverInput::Verified { file, is_right: true }),
                ReceiverOutput::Finished(fate) => {
                    self.fate = Some(fate);
                    None
                }
                _ => None,
            };
            if let (Some(answer), Some(honest)) = (answer, &mut self.honest) {
                honest.handle(self.now, answer);
            }
        }
    }

    fn arrive(&mut self, flight: Flight) {
        match flight {
            Flight::ToSender(from, bytes) => {
                if let Ok((session, Packet::Report(report))) = Packet::parse(&bytes) {
                    self.sender.handle(self.now, SenderInput::Report { from, session, report });
                }
            }
            Flight::ToHonest(bytes) => {
                let (now, sender) = (self.now, address(9));
                let config = || ReceiverConfig { member: MemberId(1), window: 1000, linger: Span::from_millis(100) };
                match Packet::parse(&bytes).unwrap() {
                    (session, Packet::Announce(announce)) => {
                        let make = || Receiver::new(config(), now, sender, session, &announce);
                        let honest = self.honest.get_or_insert_with(make);
                        let size = bytes.len() as u16;
                        honest.handle(now, ReceiverInput::Announce { from: sender, session, announce, size });
                    }
                    (session, Packet::Data(header, _)) => {
                        if let Some(honest) = &mut self.honest {
                            honest.handle(now, ReceiverInput::Data { session, first: header, count: 1, arrived: now });
                        }
                    }
                    (session, Packet::Release(release)) => {
                        if let Some(honest) = &mut self.honest {
                            honest.handle(now, ReceiverInput::Release { session, release });
                        }
                    }
                    (_, Packet::Report(_)) => unreachable!("no sender sends one"),
                }
            }
        }
        self.drain_honest();
        self.drain_sender();
    }

    /// Until `is_over`; `lies` come from .2, each so long after the one before, over and over.
    fn run(&mut self, lies: &[(Span, Report)], is_over: impl Fn(&World) -> bool) {
        let mut lies = lies.iter().cycle();
        let mut lie = lies.next().unwrap();
        let mut lie_at = Time::ZERO + lie.0;
        loop {
            self.sender.advance(self.now);
            self.drain_sender();
            if is_over(self) {
                return;
            }
            let honest = self.honest.as_ref().and_then(Receiver::deadline).map(|(at, _)| at);
            let sender = self.sender.deadline().map(|(at, _)| at);
            let flight = self.flying.first_key_value().map(|((at, _), _)| *at);
            self.now = [honest, sender, flight, Some(lie_at)].into_iter().flatten().min().unwrap().max(self.now);
            assert!(
                self.now < Time::ZERO + Span::from_secs(300),
                "no end; the sender waits for {:?}, its members are {:?}",
                self.sender.deadline(),
                self.sender.members().iter().map(|member| &member.standing).collect::<Vec<_>>(),
            );
            while self.flying.first_key_value().is_some_and(|((at, _), _)| *at <= self.now) {
                let (_, flight) = self.flying.pop_first().unwrap();
                self.arrive(flight);
            }
            if lie_at <= self.now {
                let bytes = Packet::Report(lie.1.clone()).to_bytes(SESSION);
                self.arrive(Flight::ToSender(address(2), bytes));
                lie = lies.next().unwrap();
                lie_at = self.now + lie.0;
            }
            if let Some(honest) = &mut self.honest {
                honest.advance(self.now);
            }
            self.drain_honest();
        }
    }
}

/// A report with some truth in it: small numbers where small ones are usual, or anything.
fn lies() -> impl Strategy<Value = Report> {
    let number = || prop_oneof![0_u64..500, 0..=u64::MAX >> 1];
    let run = (0_u32..3, 1_u32..3, proptest::option::of(1_u16..1200));
    let sizes = prop_oneof![Just([0, 0]), Just([1472, 0]), any::<[u16; 2]>()];
    let micros = prop_oneof![Just([0; 5]), any::<[u32; 5]>()];
    ((0_u64..4, number(), number(), number()), micros, sizes, any::<[bool; 3]>(), vec(run, 0..3), any::<bool>())
        .prop_map(|((member, highest, received, symbols), micros, [largest_alone, largest_group], flags, runs, all)| {
            let mut next = 0;
            let runs: Vec<Run> = runs
                .into_iter()
                .map(|(gap, count, missing)| {
                    let run = Run { first: next + gap, count, missing };
                    next = run.end();
                    run
                })
                .collect();
            Report {
                member: MemberId(100 + member),
                is_open: flags[0],
                lacks_files: flags[1],
                lacks_digests: flags[2],
                // Whoever says that it is done is released: no further lie is heard.
                is_complete: false,
                failure: None,
                window: micros[0],
                largest_alone,
                largest_group,
                echo_us: micros[1],
                echo_held_us: micros[2],
                highest,
                arrived_us: micros[3],
                held_us: micros[4],
                received,
                symbols,
                covered: if all { u32::MAX } else { next },
                runs,
            }
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn a_receiver_that_lies_delays_nobody_else(lies in vec((1_u64..100_000, lies()), 1..12)) {
        let lies: Vec<_> = lies.into_iter().map(|(micros, report)| (Span::from_micros(micros), report)).collect();
        let mut world = World::new();
        // It goes on for ever, so what is waited for is the honest one's end.
        world.run(&lies, |world| world.fate.is_some());
        prop_assert_eq!(world.fate, Some(Fate::Complete));
        // As long as it may be believed, it may slow others down; that is over before any of them is given up.
        prop_assert!(world.now < Time::ZERO + GIVE_UP, "{:?}", world.now);
    }

    #[test]
    fn a_receiver_that_lies_and_falls_silent_is_given_up(lies in vec((1_u64..100_000, lies()), 1..12)) {
        let mut world = World::new();
        let mut lies: Vec<_> = lies.into_iter().map(|(micros, report)| (Span::from_micros(micros), report)).collect();
        // Then nothing for longer than the run may last.
        lies.push((Span::from_secs(3600), lies[0].1.clone()));
        world.run(&lies, |world| world.is_finished);
        prop_assert_eq!(&world.fate, &Some(Fate::Complete));
        let is_its_end = |told: &SenderOutput| {
            matches!(told, SenderOutput::GaveUp { receiver: 1 } | SenderOutput::Failed { receiver: 1, .. })
        };
        prop_assert!(world.told.iter().any(is_its_end), "{:?}", world.told);
        prop_assert!(world.now < Time::ZERO + GIVE_UP * 3, "{:?}", world.now);
    }

    #[test]
    fn a_sender_that_says_anything_is_answered_briefly(inputs in vec(inputs(), 1..60)) {
        let (mut now, mut outputs) = (Time::ZERO, 0);
        let first = announcement(0, 2, Some(1442), vec![FileEntry::new("a", 10_000), FileEntry::new("b", 1)]);
        let config = ReceiverConfig { member: MemberId(1), window: 1000, linger: Span::from_millis(100) };
        let mut receiver = Receiver::new(config, now, address(9), SESSION, &first);
        for (micros, input) in inputs {
            now += Span::from_micros(micros);
            receiver.handle(now, input);
            receiver.advance(now);
            while let Some(output) = receiver.poll() {
                outputs += 1;
                prop_assert!(outputs <= 200, "{output:?}");
                if let ReceiverOutput::Datagram { bytes, .. } = &output {
                    prop_assert!(bytes.len() <= 1280, "a report passes wherever IPv6 does");
                    prop_assert!(Packet::parse(bytes).is_ok());
                }
            }
            outputs = 0;
        }
    }
}

fn announcement(first_file: u16, all_files: u16, payload: Option<u16>, files: Vec<FileEntry>) -> Announce {
    Announce {
        to_group: false,
        group: None,
        payload,
        identity: IDENTITY,
        stamp_us: 1,
        report_every_us: 0,
        all_files,
        first_file,
        files,
    }
}

/// What could come from the network, or from a disk that answers late.
fn inputs() -> impl Strategy<Value = (u64, ReceiverInput)> {
    let from = (1_u8..4).prop_map(address);
    let session = prop_oneof![9 => Just(SESSION), 1 => any::<u64>().prop_map(SessionId)];
    let lengths = prop_oneof![0_u64..20_000, 0..=1_u64 << 40, any::<u64>()];
    let files = vec(("[ab./]{1,3}", lengths, proptest::option::of(any::<[u8; 32]>())), 0..3);
    let payload = proptest::option::of(prop_oneof![Just(1442_u16), any::<u16>()]);
    let announce = (from, session.clone(), 0_u16..3, 1_u16..5, payload, files, any::<u16>()).prop_map(
        |(from, session, first, all, payload, files, size)| {
            let file = |(name, length, digest): (String, _, _)| FileEntry { digest, ..FileEntry::new(&name, length) };
            let announce = announcement(first, all, payload, files.into_iter().map(file).collect());
            ReceiverInput::Announce { from, session, announce, size }
        },
    );
    let blocks = prop_oneof![0_u32..3, any::<u32>()];
    let arrived = any::<u64>().prop_map(Time::from_nanos);
    let data = (session.clone(), 1..=u64::MAX >> 1, blocks, any::<u16>(), 1..=64_u16, arrived).prop_map(
        |(session, number, block, symbol, count, arrived)| ReceiverInput::Data {
            session,
            first: DataHeader { number, block, symbol, poll: Poll::EVERYBODY },
            count,
            arrived,
        },
    );
    let release = (session, 0_u64..3, any::<bool>()).prop_map(|(session, member, is_complete)| {
        ReceiverInput::Release { session, release: Release { member: MemberId(member), is_complete } }
    });
    let disk = prop_oneof![
        (vec(any::<u32>(), 0..4), vec(0..4usize, 0..3)).prop_map(|(held, there)| ReceiverInput::Opened { held, there }),
        (0..4usize, any::<bool>()).prop_map(|(file, is_right)| ReceiverInput::Compared { file, is_right }),
        (0_usize..4, any::<bool>()).prop_map(|(file, is_right)| ReceiverInput::Verified { file, is_right }),
    ];
    (0_u64..2_000_000, prop_oneof![4 => announce, 6 => data, 1 => release, 3 => disk])
}

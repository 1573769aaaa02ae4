//! Whatever comes from the network is read to what it says, or refused; never more, never a panic.
#![allow(clippy::unwrap_used, reason = "in a test a panic is the report")]

use std::net::SocketAddr;

use p2mp::classic::Dialect;
use p2mp::fast::report::{LONGEST_REASON, MOST_RUNS, Report, Run};
use p2mp::fast::{
    Announce, DataHeader, FileEntry, Identity, Malformed, MemberId, Packet, Poll, Release, SessionId, packet,
};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

/// The largest payload of a UDP datagram over IPv4.
const LARGEST: usize = 65_507;

fn polls() -> impl Strategy<Value = Poll> {
    let slots = (0..=Poll::MOST_BITS, any::<u16>());
    prop_oneof![
        Just(Poll::Nobody),
        slots.prop_map(|(bits, slot)| Poll::Slot { bits, slot: slot & (((1_u32 << bits) - 1) as u16) }),
    ]
}

fn groups() -> impl Strategy<Value = Option<SocketAddr>> {
    let groups = ["239.1.2.3:7735", "224.0.0.1:1", "[ff15::7]:65535"];
    proptest::option::of(any::<Index>().prop_map(move |index| index.get(&groups).parse().unwrap()))
}

fn announcements() -> impl Strategy<Value = Announce> {
    let file = ("\\PC{0,40}", any::<u64>(), proptest::option::of(any::<[u8; 32]>()));
    let file = file.prop_map(|(name, length, digest)| FileEntry { digest, ..FileEntry::new(&name, length) });
    let fixed = (any::<[u8; 16]>(), proptest::option::of(1_u16..), any::<[u32; 2]>(), 0_u16..4000, 1_u16..90);
    (fixed, vec(file, 0..8), groups(), any::<bool>()).prop_map(|(fixed, files, group, to_group)| {
        let (identity, payload, [stamp_us, report_every_us], first_file, more) = fixed;
        let all_files = first_file + files.len() as u16 + more;
        let identity = Identity(identity);
        Announce { to_group, group, payload, identity, stamp_us, report_every_us, all_files, first_file, files }
    })
}

/// Reports that a receiver could make.
fn reports() -> impl Strategy<Value = Report> {
    let runs = vec((0_u32..50, 1_u32..50, proptest::option::of(1_u16..u16::MAX)), 0..MOST_RUNS);
    let failure = proptest::option::of("[a-z ]{0,60}");
    (any::<[u64; 4]>(), any::<[u32; 5]>(), any::<[u16; 2]>(), any::<[bool; 4]>(), failure, runs, 0_u32..9).prop_map(
        |(
            [member, highest, received, symbols],
            micros,
            [largest_alone, largest_group],
            flags,
            failure,
            gaps,
            beyond,
        )| {
            let mut next = 0;
            let run = |(gap, count, missing)| {
                let run = Run { first: next + gap, count, missing };
                next = run.end();
                run
            };
            let runs: Vec<Run> = gaps.into_iter().map(run).collect();
            Report {
                member: MemberId(member),
                is_open: flags[0],
                lacks_files: flags[1],
                lacks_digests: flags[2],
                is_complete: flags[3],
                failure,
                window: micros[0],
                largest_alone,
                largest_group,
                echo_us: micros[1],
                echo_held_us: micros[2],
                highest: highest >> 1,
                arrived_us: micros[3],
                held_us: micros[4],
                received,
                symbols,
                covered: next + beyond,
                runs,
            }
        },
    )
}

/// The bytes of any datagram that a program of this project could send.
fn datagrams() -> impl Strategy<Value = Vec<u8>> {
    let data = (1..=u64::MAX >> 1, any::<u32>(), any::<u16>(), polls(), vec(any::<u8>(), 0..64));
    let session = any::<u64>().prop_map(SessionId);
    prop_oneof![
        (session.clone(), data).prop_map(|(session, (number, block, symbol, poll, payload))| {
            Packet::Data(DataHeader { number, block, symbol, poll }, &payload).to_bytes(session)
        }),
        (session.clone(), announcements()).prop_map(|(session, it)| Packet::Announce(it).to_bytes(session)),
        (session.clone(), reports()).prop_map(|(session, it)| Packet::Report(it).to_bytes(session)),
        (session, any::<u64>(), any::<bool>()).prop_map(|(session, member, is_complete)| {
            Packet::Release(Release { member: MemberId(member), is_complete }).to_bytes(session)
        }),
    ]
}

/// What was read says the same when it is written and read again; nothing in it is larger than the datagram could hold.
fn check_fast(bytes: &[u8]) -> Result<(), TestCaseError> {
    let Ok((session, packet)) = Packet::parse(bytes) else { return Ok(()) };
    let packet = match packet {
        // What is not UTF-8 is made so, which lengthens it.
        Packet::Report(Report { failure: Some(why), .. }) if why.contains(char::REPLACEMENT_CHARACTER) => {
            prop_assert!(why.len() <= 3 * LONGEST_REASON);
            return Ok(());
        }
        packet => packet,
    };
    let written = packet.to_bytes(session);
    prop_assert!(written.len() <= bytes.len(), "{packet:?}");
    prop_assert_eq!(Packet::parse(&written), Ok((session, packet)));
    Ok(())
}

fn check_classic(bytes: &[u8]) {
    if let Some((dialect, segment)) = Dialect::read(bytes) {
        assert!(!packet::is_fast(bytes), "one datagram is of one protocol");
        assert!(segment.data.len() < bytes.len());
        dialect.is_sound(&segment);
    }
    Dialect::ALL.into_iter().for_each(|dialect| _ = dialect.acknowledgement(bytes));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn what_is_written_is_read_again(bytes in datagrams()) {
        let (session, packet) = Packet::parse(&bytes).unwrap();
        prop_assert_eq!(packet.to_bytes(session), bytes);
    }

    #[test]
    fn a_datagram_cut_anywhere_is_refused_or_is_another(bytes in datagrams(), at: Index) {
        let cut = &bytes[..at.index(bytes.len())];
        check_fast(cut)?;
        check_classic(cut);
    }

    #[test]
    fn flipped_bits_are_read_as_they_stand_or_refused(bytes in datagrams(), flips in vec(any::<Index>(), 1..6)) {
        let mut bytes = bytes;
        for flip in flips {
            let bit = flip.index(bytes.len() * 8);
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
        check_fast(&bytes)?;
        check_classic(&bytes);
    }

    #[test]
    fn noise_behind_a_true_beginning(kind in 0_u8..6, poll: u16, session: u64, noise in vec(any::<u8>(), 0..400)) {
        let mut bytes = b"PF\x01".to_vec();
        bytes.push(kind);
        bytes.extend(poll.to_be_bytes());
        bytes.extend([0x5f, 0x5f]);
        bytes.extend(session.to_be_bytes());
        bytes.extend(noise);
        check_fast(&bytes)?;
        check_classic(&bytes);
    }

    #[test]
    fn noise_of_ascii_digits_and_separators(noise in "[01#]{0,120}", rest in vec(any::<u8>(), 0..20)) {
        let bytes = [noise.into_bytes(), rest].concat();
        check_fast(&bytes)?;
        check_classic(&bytes);
    }
}

#[test]
fn a_count_that_lies_costs_no_memory() {
    // 4096 files, or 255 runs, in a datagram that has none of them.
    let whole = |files: Vec<FileEntry>| {
        let announce = Announce {
            to_group: false,
            group: None,
            payload: None,
            identity: Identity([1; 16]),
            stamp_us: 0,
            report_every_us: 0,
            all_files: 4096,
            first_file: 0,
            files,
        };
        Packet::Announce(announce).to_bytes(SessionId(1))
    };
    let mut bytes = whole(Vec::new());
    bytes[48..50].copy_from_slice(&4096_u16.to_be_bytes());
    assert_eq!(Packet::parse(&bytes), Err(Malformed::Short));
    bytes[44..46].copy_from_slice(&u16::MAX.to_be_bytes());
    assert!(matches!(Packet::parse(&bytes), Err(Malformed::Value(_))), "more files than a session may have");
    // As many as fit, and then padding up to the largest datagram.
    let most: Vec<_> = (0..40).map(|index| FileEntry::new(&format!("{index}"), u64::MAX)).collect();
    let mut bytes = whole(most.clone());
    bytes.resize(LARGEST, 0xff);
    match Packet::parse(&bytes) {
        Ok((_, Packet::Announce(read))) => assert_eq!(read.files, most),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_report_of_a_packet_that_cannot_have_been_sent_is_refused() {
    let report = Report {
        member: MemberId(1),
        is_open: true,
        lacks_files: false,
        lacks_digests: false,
        is_complete: false,
        failure: None,
        window: 0,
        largest_alone: 0,
        largest_group: 0,
        echo_us: 0,
        echo_held_us: 0,
        highest: u64::MAX,
        arrived_us: 0,
        held_us: 0,
        received: u64::MAX,
        symbols: u64::MAX,
        covered: u32::MAX,
        runs: vec![Run { first: 0, count: u32::MAX, missing: None }],
    };
    let bytes = Packet::Report(report).to_bytes(SessionId(1));
    assert_eq!(Packet::parse(&bytes), Err(Malformed::Value("a packet number")));
}

//! Hashes that come late, never, or only from some: a wrong file is never called right where any were to be had.

use fetch::{Integrity, Outcome};
use machine::{Rate, Span, Time};
use sim::{Content, Fault, Health, Report, Server, World};

fn at(millis: u64) -> Time {
    Time::ZERO + Span::from_millis(millis)
}

fn server(mbit: u64, round_trip_ms: u64) -> Server {
    Server::new(0, Rate::from_mbit(mbit), Span::from_millis(round_trip_ms))
}

fn run(length: usize, servers: Vec<Server>) -> Report {
    let mut world = World::new(3, vec![Content::random(3, length, 64 << 10)]);
    servers.into_iter().for_each(|server| world.add_server(server));
    world.run(at(60_000))
}

fn complete(report: &Report) -> Integrity {
    match report.outcome {
        Some(Outcome::Complete { integrity }) if report.faults.is_empty() => integrity,
        _ => panic!("{report:#?}"),
    }
}

/// Answers first, publishes nothing, and spoils every other chunk.
fn liar() -> Server {
    let mut liar = server(16, 2);
    (liar.hashless, liar.corrupt_every) = (true, 2);
    liar
}

#[test]
fn a_liar_without_hashes_is_found_out_by_the_hashes_of_another() {
    // At once, in the middle, and long after everything is here.
    for hashes_at in [0, 300, 5_000] {
        let mut honest = server(8, 30);
        honest.hashes_at = at(hashes_at);
        let report = run(2_000_000, vec![liar(), honest]);
        assert_eq!(complete(&report), Integrity::Pieces, "hashes at {hashes_at} ms");
        assert!(
            report.log.iter().any(|line| line.contains("Corrupt")),
            "it did send corrupt pieces: {:#?}",
            report.log
        );
    }
}

#[test]
fn bytes_flow_while_hashes_are_computed_and_none_is_fetched_again() {
    let mut slow = server(8, 10);
    slow.hashes_at = at(1_500);
    let report = run(2_000_000, vec![slow]);
    assert_eq!(complete(&report), Integrity::Pieces);
    assert_eq!(report.received, 2_000_000);
    // 2.09 s on the wire: the hashes came in the middle and cost nothing but the start's round trips.
    assert!(report.ended < at(2_091 + 100), "{:?}", report.ended);
}

#[test]
fn hashes_that_never_come_are_waited_for_ten_seconds_and_no_longer() {
    let mut never = server(8, 10);
    never.hashes_at = Time::MAX;
    let report = run(2_000_000, vec![never]);
    assert_eq!(complete(&report), Integrity::Transport);
    let waited = report.ended.since(at(2_091));
    assert!((10_000..10_200).contains(&waited.as_millis()), "{waited}");
    assert!(report.log.iter().any(|line| line.contains("HashesMissing")), "{:#?}", report.log);
}

#[test]
fn a_slow_source_with_a_suspect_piece_does_not_hold_the_end() {
    // Whatever the liar sends is corrupt, so the slow one is asked for a piece alone: 256 KiB, which take it 10 s. Then
    // comes one that brings them in 60 ms each.
    let mut world = World::new(3, vec![Content::random(3, 1_000_000, 256 << 10)]);
    let mut liar = server(40, 5);
    liar.corrupt_every = 1;
    world.add_server(liar);
    world.add_server(Server::new(0, Rate::from_bits_per_sec(200_000), Span::from_millis(5)));
    world.add_server(server(40, 5));
    world.plan(at(0), Fault::Health(2, Health::Killed));
    world.plan(at(2_000), Fault::Health(2, Health::Up));
    let report = world.run(at(60_000));
    assert_eq!(complete(&report), Integrity::Pieces);
    assert!(report.ended < at(3_000), "{:#?}", report.log);
}

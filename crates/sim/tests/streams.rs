//! Sources without ranges beside others: what they bring is used, and nobody's end waits for the slowest.
//!
//! Each of these worlds was found by the random ones of `properties.rs`, and is the least that showed the same.

use machine::{Rate, Span, Time};
use sim::{Content, Fault, Health, Report, Server, World};

fn at(millis: u64) -> Time {
    Time::ZERO + Span::from_millis(millis)
}

fn server(kbit: u64) -> Server {
    Server::new(0, Rate::from_bits_per_sec(kbit * 1000), Span::from_millis(10))
}

fn stream(kbit: u64) -> Server {
    let mut stream = server(kbit);
    stream.ranges = false;
    stream
}

fn run(servers: Vec<Server>, faults: &[(u64, Fault)]) -> Report {
    let mut world = World::new(3, vec![Content::random(3, 2_000_000, 64 << 10)]);
    servers.into_iter().for_each(|server| world.add_server(server));
    faults.iter().for_each(|(when, fault)| world.plan(at(*when), fault.clone()));
    let report = world.run(at(60_000));
    assert!(report.is_complete(), "{report:#?}");
    report
}

#[test]
fn a_trickle_with_ranges_does_not_keep_a_fast_stream_idle() {
    // Alone the trickle takes ten minutes. The stream needs a second, after one in which others may show what they can.
    let report = run(vec![server(30), stream(16_000)], &[]);
    assert!(report.ended < at(4_000), "{:?}\n{}", report.ended, report.log.join("\n"));
}

#[test]
fn a_source_that_stalls_does_not_stop_the_stream_that_brings_everything() {
    // It takes the end of the stream's work again and again, and never brings any of it.
    for round_trip in [4, 10, 80] {
        let mut stalled = server(8_000);
        (stalled.health, stalled.round_trip) = (Health::Stalled, Span::from_millis(round_trip));
        let report = run(vec![stream(8_000), stalled], &[]);
        // Where it answers first, the stream is asked when 600 ms of silence are over; 2 MB take 2.09 s on the wire.
        assert!(report.ended < at(600 + 2_091 + 100), "{:?}\n{}", report.ended, report.log.join("\n"));
    }
}

#[test]
fn suspect_pieces_are_taken_from_a_stream_that_trickles() {
    // All that the liar sends is corrupt. Then there is only the stream, then one that has the whole in two seconds.
    let mut liar = server(8_000);
    liar.corrupt_every = 1;
    let up = (3_000, Fault::Health(2, Health::Up));
    let report = run(vec![liar, stream(30), server(8_000)], &[(0, Fault::Health(2, Health::Killed)), up]);
    assert!(report.ended < at(3_000 + 2_091 + 1_500), "{:?}\n{}", report.ended, report.log.join("\n"));
}

//! Fifty real `kill -9` of the downloader at random instants: the file is right at the end, and the bytes add up.

mod support;

use std::fmt::Write as _;

use event::{Event, NodeReport, Verdict};
use machine::{Seed, Stream};
use rand::RngExt;
use support::{Place, Run};

const KILLS: u32 = 50;
const SERVERS: u64 = 3;
/// Of each server, in Mbit/s.
const RATE: u64 = 24;
/// `file-server` cuts a file of this size into pieces of so many bytes.
const PIECE: u64 = 256 << 10;

/// What a death may cost on average: of each server the piece that comes, and one where its range ends in the middle of a
/// piece that another server completes. Whole pieces are hashed and recorded within a few ms of their last byte, in which
/// less than a piece comes from all. At a single one a stall of the machine or its disk may cost more.
const LOST_AT_A_DEATH: u64 = (2 * SERVERS + 1) * PIECE;

/// A kill may be late by this much on average, and still meets a client.
const LATE: u64 = 50;

/// One way through it: `KILL_SEED` repeats it.
struct Plan {
    text: String,
    size: u64,
}

/// Half of the lives end while the program starts, reads its journal and rehashes; the others while bytes flow.
fn plan(chance: &mut Stream) -> Plan {
    let (mut events, mut lived) = (String::new(), 0);
    for death in 0..KILLS {
        let life = if chance.random_bool(0.5) { chance.random_range(1..60) } else { chance.random_range(60..350) };
        let rest = chance.random_range(1..30);
        lived += life + LATE;
        // The first life is as long after the start as the others after their revival.
        let trigger = if death == 0 { "at" } else { "after" };
        writeln!(events, "  - {{ {trigger}: {life}ms, kill: client }}\n  - {{ after: {rest}ms, revive: client }}")
            .expect("into a string");
    }
    // All that the links could bring in all lives but the last: so every kill finds a client.
    let size = lived * SERVERS * RATE * 1000 / 8;
    let text = format!(
        "name: kill-nine\nseed: 1\ntimeout: 120s\nfiles:\n  movie: {{ size: {size} }}\n\
         links:\n  dsl: {{ up: {{ rate: {RATE}Mbit, delay: 4ms }}, down: {{ delay: 4ms }} }}\n\
         nodes:\n  server: {{ count: {SERVERS}, role: file-server, file: movie, link: dsl }}\n  \
         client: {{ role: downloader, from: server, out: movie }}\n\
         events:\n{events}\
         expect:\n  client: {{ exit: 0, file: movie }}\n"
    );
    Plan { text, size }
}

/// What a life of the client reported.
#[derive(Clone, Copy, Debug, Default)]
struct Life {
    /// Bytes in hand when it had looked at what was there; `None` if it did not come so far.
    began_with: Option<u64>,
    /// Bytes in hand at the last report.
    ended_with: u64,
    /// Body bytes received, by the last report.
    received: u64,
    killed: bool,
}

fn lives(run: &Run) -> Vec<Life> {
    let mut lives = vec![Life::default(); KILLS as usize + 1];
    for record in run.records() {
        match record.event {
            Event::NodeReported { node, incarnation, report: NodeReport::Progress { bytes, received, .. } }
                if node == "client" =>
            {
                let life = &mut lives[incarnation as usize - 1];
                // While it has received nothing, what it has grows with the rehash.
                if received == 0 || life.began_with.is_none() {
                    life.began_with = Some(bytes.saturating_sub(received));
                }
                (life.ended_with, life.received) = (bytes, received);
            }
            Event::NodeExited { node, incarnation, status, .. } if node == "client" => {
                lives[incarnation as usize - 1].killed = status.to_string().contains("signal 9");
            }
            _ => {}
        }
    }
    lives
}

#[test]
fn fifty_kills_cost_only_what_was_under_way() {
    let seed = std::env::var("KILL_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(9);
    println!("repeat with KILL_SEED={seed} cargo test -p testbed --test kill_nine -- --nocapture");
    let Plan { text, size } = plan(&mut Seed::new(seed).derive("kills").stream());
    let place = Place::new();
    let run = place.run_once(&place.write("kill-nine.yaml", &text), &[]);
    // A starved machine makes the timing worthless, not what is counted here.
    let verdict = run.state().verdict;
    assert!(matches!(verdict, Some(Verdict::Pass | Verdict::Invalid)), "{}", run.ended.told());
    let unmet = run.state().expectations.into_iter().find(|expectation| expectation.held != Some(true));
    assert!(unmet.is_none(), "{unmet:?}\n{}", run.ended.told());
    let out = std::fs::metadata(run.disk("client", "movie")).unwrap();
    assert_eq!(out.len(), size);

    let lives = lives(&run);
    let killed = lives.iter().filter(|life| life.killed).count();
    assert_eq!(killed, KILLS as usize, "every kill met a client\n{}", run.ended.told());
    assert!(!lives.last().unwrap().killed);

    // From one life to the next: what was recorded stays, and what is missing was under way.
    let told: Vec<&Life> = lives.iter().filter(|life| life.began_with.is_some()).collect();
    let mut lost = 0;
    for (death, pair) in told.windows(2).enumerate() {
        let (began, next) = (pair[0].began_with.unwrap(), pair[1].began_with.unwrap());
        assert!(next >= began, "death {death}: {began} bytes were recorded, then {next}\n{lives:#?}");
        lost += pair[0].ended_with.saturating_sub(next);
    }
    let bound = u64::from(KILLS) * LOST_AT_A_DEATH;
    assert!(lost <= bound || !run.kept_up(), "{lost} bytes were lost at {KILLS} deaths\n{lives:#?}");
    let received: u64 = lives.iter().map(|life| life.received).sum();
    assert!(received <= size + lost.max(bound), "{received} received for {size}, {lost} lost");
    // No byte comes from elsewhere. Servers are not killed: only what each sent after its last report, 100 ms and more before
    // the end, was never told.
    let served: u64 = run.state().nodes.iter().map(|node| node.served).sum();
    assert!(served + size / 10 >= size, "{served} bytes cannot be {size}");
    let share = (received.saturating_sub(size)) as f64 * 100.0 / size as f64;
    println!(
        "{size} bytes, {KILLS} deaths in {} lives that told of bytes, {lost} bytes lost at deaths, {received} received ({share:.1} % more)",
        told.len()
    );
}

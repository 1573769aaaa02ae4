//! The fast mode beside others: TCP on the same line, and work on the same machine.

use std::fmt::Write as _;

use link::{HalfLink, Profile, Queue};
use machine::{Rate, Ratio, Size, Span, Time};
use sim::multicast::{Beside, Fault, Setup, Stalls, World};
use sim::tcp::Kind;

fn at(millis: u64) -> Time {
    Time::ZERO + Span::from_millis(millis)
}

const SEEDS: std::ops::RangeInclusive<u64> = 1..=3;

/// Who begins first, and how much later the other one.
#[derive(Clone, Copy, Debug)]
enum Order {
    Together,
    WeLater,
    TcpLater,
}

const LATER: Span = Span::from_secs(5);

/// Our goodput over TCP's for 30 s on a line of 50 Mbit/s and 20 ms whose queue holds so many thousandths of what fits onto
/// it.
fn share(seed: u64, kind: Kind, queue_permille: u64, order: Order) -> f64 {
    let rate = Rate::from_mbit(50);
    let round_trip = Span::from_millis(20);
    let mut setup = Setup::new(seed, 400 << 20, 1);
    let queue = Size::from_bytes(rate.size_in(round_trip).as_bytes() * queue_permille / 1000);
    setup.sender_link.up =
        HalfLink { rate: Some(rate), delay: round_trip / 2, queue: Some(Queue::Bytes(queue)), ..HalfLink::default() };
    setup.sender_link.down.delay = round_trip / 2;
    // Nothing else here is random: seeds differ in when TCP begins.
    let mut begins = at(13 * seed);
    match order {
        Order::Together => {}
        Order::WeLater => setup.faults = vec![(at(0), Fault::KillSender), (Time::ZERO + LATER, Fault::ReviveSender)],
        Order::TcpLater => begins += LATER,
    }
    let later = if matches!(order, Order::Together) { Span::ZERO } else { LATER };
    let from = at(500) + later;
    setup.beside = Some(Beside { kind, begins, from, until: from + Span::from_secs(30) });
    let (ours, theirs) = World::new(setup).run(from + Span::from_secs(31)).shares;
    let brought = Rate::over(Size::from_bytes(ours + theirs), Span::from_secs(30));
    assert!(
        brought >= Rate::from_mbit(45),
        "the line stood idle, seed {seed}, {kind:?}, {queue_permille} ‰, {order:?}: {brought}"
    );
    ours as f64 / theirs as f64
}

/// Within a factor of two of what TCP has in the same place is reasonably fair (RFC 5348, section 1).
#[test]
fn tcp_beside_it_keeps_its_share() {
    let mut table =
        String::from("TCP    queue, BDP  first     ours / TCP: least  greatest of 3 seeds, 50 Mbit/s, 20 ms, 30 s\n");
    for kind in [Kind::Reno, Kind::Cubic] {
        for queue_permille in [500, 1000, 2000] {
            for order in [Order::Together, Order::WeLater, Order::TcpLater] {
                let ratios: Vec<f64> = SEEDS.map(|seed| share(seed, kind, queue_permille, order)).collect();
                let least = ratios.iter().copied().fold(f64::INFINITY, f64::min);
                let most = ratios.iter().copied().fold(0.0, f64::max);
                let (kind, order) = (format!("{kind:?}"), format!("{order:?}"));
                let queue = queue_permille as f64 / 1000.0;
                writeln!(table, "{kind:<5}  {queue:>10}  {order:<8}  {least:>17.2}  {most:>8.2}").unwrap();
                assert!(least >= 0.5 && most <= 2.0, "{kind}, {queue} BDP, {order}: {ratios:?}");
            }
        }
    }
    assert_eq!(table, include_str!("share.txt"), "the table has changed; if that is meant, commit this:\n{table}");
}

/// A sender that wakes up late leaves the line idle unless it has caught up with that before; receivers that answer late must
/// not stop it.
#[test]
fn programs_that_stall_cost_little() {
    let mut table = String::from(
        "stalls, ms  every, ms  loss %  time over the ideal: mean of 3 seeds, 100 MiB to 5 at 200 Mbit/s\n",
    );
    for (longest, every) in [(1, 5), (4, 20), (10, 50), (20, 50)] {
        for loss in [1, 5, 10] {
            let ratios = SEEDS.map(|seed| {
                let rate = Rate::from_mbit(200);
                let mut setup = Setup::new(seed, 100 << 20, 5).up(rate);
                setup.receiver_link.down.loss = Ratio::from_parts_per_billion(loss * 10_000_000).expect("below one");
                setup.stalls = Some(Stalls { every: Span::from_millis(every), longest: Span::from_millis(longest) });
                let outcome = World::new(setup.clone()).run(at(600_000));
                let took = outcome.all_complete().expect("nobody dies").as_secs_f64();
                took / setup.ideal(rate, outcome.payload, f64::from(loss) / 100.0)
            });
            let mean = ratios.sum::<f64>() / SEEDS.count() as f64;
            writeln!(table, "{longest:>10}  {every:>9}  {loss:>6}  {mean:.4}").unwrap();
            // What may be in flight covers 15 ms.
            let most = if longest <= 10 { 1.04 } else { 1.10 };
            assert!(mean <= most, "stalls of {longest} ms, {loss} % lost: {mean}");
        }
    }
    assert_eq!(table, include_str!("stalls.txt"), "the table has changed; if that is meant, commit this:\n{table}");
}

/// A way of a twentieth of the others' rate is none of their business, however busy the machines are.
#[test]
fn a_straggler_holds_nobody_up() {
    const SEEDS: std::ops::RangeInclusive<u64> = 1..=20;
    let mut table = String::from(
        "stalls, ms  every, ms  others: mean  longest  straggler: longest  (time over the ideal, 20 seeds)\n",
    );
    let (fast, slow) = (Rate::from_mbit(20), Rate::from_mbit(1));
    for (longest, every) in [(0, 50), (1, 5), (4, 20), (10, 50), (20, 50), (50, 200)] {
        let (mut others, mut stragglers) = (Vec::new(), Vec::new());
        for seed in SEEDS {
            let mut setup = Setup::new(seed, 2 << 20, 4).up(fast);
            setup.sender_link.up.delay = Span::from_millis(5);
            let line = HalfLink { rate: Some(slow), ..HalfLink::default() };
            setup.other_links = vec![(3, Profile { up: HalfLink::default(), down: line })];
            setup.stalls =
                (longest > 0).then(|| Stalls { every: Span::from_millis(every), longest: Span::from_millis(longest) });
            let outcome = World::new(setup.clone()).run(at(600_000));
            let took = |index: usize| outcome.complete_at[index].expect("nobody dies").as_secs_f64();
            others.push((0..3).map(took).fold(0.0, f64::max) / setup.ideal(fast, outcome.payload, 0.0));
            stragglers.push(took(3) / setup.ideal(slow, outcome.payload, 0.0));
        }
        let mean = others.iter().sum::<f64>() / others.len() as f64;
        let most = |ratios: Vec<f64>| ratios.into_iter().fold(0.0, f64::max);
        let (others, straggler) = (most(others), most(stragglers));
        writeln!(table, "{longest:>10}  {every:>9}  {mean:>12.2}  {others:>7.2}  {straggler:>18.2}").unwrap();
        // A tenth of the time is for gathering; the line alone took 20 times as long for the straggler.
        assert!(others <= 2.0 && straggler <= 1.15, "stalls of {longest} ms: {others}, {straggler}");
    }
    assert_eq!(table, include_str!("straggler.txt"), "the table has changed; if that is meant, commit this:\n{table}");
}

//! What carries a network, by what the kernel has of netem.
#![allow(clippy::unwrap_used, reason = "in a test a panic is the report")]

use machine::Seed;
use topology::plan::{Medium, Network};
use topology::{Diagnostics, NetemSupport, Overrides, Source};

use NetemSupport::{Absent, Seeded, Unseeded};

/// The one network of nodes `a`, with this link, and `b`.
fn network(link: &str, rest: &str, netem: NetemSupport) -> Result<Network, Diagnostics> {
    let text = format!("name: m\nnodes: {{a: {{run: [x], link: {link}}}, b: {{run: [x]}}}}\n{rest}");
    let overrides = Overrides { netem, ..Overrides::new(Seed::new(1)) };
    Ok(topology::load(&Source::new("m.yaml", text), &overrides)?.networks()[0].clone())
}

fn medium(link: &str, rest: &str, netem: NetemSupport) -> Medium {
    network(link, rest, netem).unwrap_or_else(|error| panic!("{error}")).medium
}

#[test]
fn by_itself_netem_takes_what_it_gives_whole() {
    let (chance, certain) = ("{loss: 1%}", "{rate: 1Mbit, delay: 5ms}");
    assert_eq!(
        [Absent, Unseeded, Seeded].map(|netem| medium(certain, "", netem)),
        [Medium::Relay, Medium::Netem, Medium::Netem]
    );
    assert_eq!(
        [Absent, Unseeded, Seeded].map(|netem| medium(chance, "", netem)),
        [Medium::Relay, Medium::Relay, Medium::Netem]
    );
    assert_eq!(medium("{}", "", Seeded), Medium::Bridge, "nothing is to be shaped");
    assert_eq!(medium(certain, "shaper: relay", Seeded), Medium::Relay);
    for link in ["{burst: {p: 1%, r: 10%}}", "{duplicate: 1%}", "{corrupt: 1%}", "{delay: 5ms, reorder: 1%}"] {
        assert_eq!(medium(link, "", Seeded), Medium::Netem, "{link}");
    }
    assert_eq!(medium("{rate: 1Mbit, queue: 10p}", "", Seeded), Medium::Netem);
}

#[test]
fn by_itself_the_relay_takes_what_netem_does_otherwise_and_the_plan_says_why() {
    for (link, rest, why) in [
        ("{drop: [3]}", "", "the link of `a` has a list of packets to `drop`"),
        ("{delay: 5ms, jitter: 1ms}", "", "the link of `a` has a `jitter` that keeps the order"),
        ("{delay: 5s, jitter: 3s, reorder: 1%}", "", "2.147 s"),
        ("{rate: 1Mbit, delay: 5ms, reorder: 1%}", "", "netem exempts them"),
        ("{rate: 1Mbit, queue: 64KiB}", "", "for the `queue` of `a`"),
        ("{rate: 1Mbit, delay: 5ms, queue: 10p}", "", "for the `queue` of `a`"),
        ("{delay: 5ms}", "pairs: [{from: a, to: b, link: {delay: 1ms}}]", "the way from `a` to `b`"),
        ("{delay: 5ms}", "events: [{at: 1s, crash: a}]", "crash a"),
        ("{delay: 5ms}", "events: [{at: 1s, link: b, set: {drop: [3]}}]", "the link of `b` has a list"),
        ("{delay: 5ms}", "events: [{at: 1s, partition: [a, b]}]", "it parts nobody: at 1s: partition a | b"),
    ] {
        let on = |netem| network(link, rest, netem).unwrap_or_else(|error| panic!("{error}"));
        let network = on(Seeded);
        assert_eq!(network, on(Absent), "the same on every kernel");
        assert_eq!(network.medium, Medium::Relay, "{link} {rest}");
        let (_, obstacle) = network.why.split_once("; not netem: ").expect(link);
        assert!(obstacle.contains(why), "{link} {rest}: {obstacle}");
        assert!(!network.concerns_netem(), "no kernel would carry it: {link} {rest}");
    }
    // A kernel bridge would do; but each node is told all others.
    let many = |count| {
        let text = format!("name: m\nnodes: {{a: {{count: {count}, run: [x], link: {{delay: 1ms}}}}}}");
        let overrides = Overrides { netem: Seeded, ..Overrides::new(Seed::new(1)) };
        topology::load(&Source::new("m.yaml", text), &overrides).unwrap().networks()[0].medium
    };
    assert_eq!((many(256), many(257)), (Medium::Netem, Medium::Relay));
}

#[test]
fn an_explicit_netem_is_netem_on_every_kernel_or_an_error() {
    for netem in [Absent, Unseeded, Seeded] {
        let asked = |link, rest: &str| network(link, &format!("shaper: netem\n{rest}"), netem);
        for (link, rest) in [
            ("{delay: 5ms}", ""),
            ("{rate: 1Mbit, delay: 5ms, queue: 64KiB}", ""),
            ("{}", "events: [{at: 1s, link: a, set: {delay: 1ms}}]"),
            ("{delay: 5ms}", "events: [{at: 1s, crash: a}]"),
        ] {
            let network = asked(link, rest).unwrap_or_else(|error| panic!("{error}"));
            assert_eq!((network.medium, network.draws_anew()), (Medium::Netem, false), "{link} {rest}");
        }
        assert_eq!(asked("{}", "").unwrap().medium, Medium::Bridge, "nothing is to be shaped");
        let chance = asked("{loss: 1%}", "").unwrap();
        assert_eq!(chance.draws_anew(), netem == Unseeded);
        assert_eq!(chance.why.contains("takes no seed"), netem == Unseeded, "{}", chance.why);
        let error = asked("{drop: [3]}", "").unwrap_err().to_string();
        assert!(error.contains("netem cannot shape network `net`: the link of `a` has a list"), "{error}");
        assert!(error.contains("leave `shaper` out"), "{error}");
    }
}

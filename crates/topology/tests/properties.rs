//! No text makes the reader panic, and what is printed is read as the same plan.
#![allow(clippy::unwrap_used, reason = "in a test a panic is the report")]

use machine::Seed;
use proptest::prelude::*;
use topology::{Overrides, Plan, Setting, Source};

const EXAMPLES: [&str; 4] = [
    include_str!("../../../topologies/failover.yaml"),
    include_str!("../../../topologies/resume.yaml"),
    include_str!("../../../topologies/all-down.yaml"),
    include_str!("../../../topologies/third-party.yaml"),
];

fn load(text: &str) -> Result<Plan, topology::Diagnostics> {
    topology::load(&Source::new("test.yaml", text), &Overrides::new(Seed::new(1)))
}

/// The plan without the lines of the file, which printing moves.
fn without_lines(plan: &Plan) -> String {
    plan.to_yaml().lines().filter(|line| !line.trim_start().starts_with("line: ")).collect::<Vec<_>>().join("\n")
}

fn assert_prints_as_it_reads(text: &str) {
    let plan = load(text).unwrap_or_else(|error| panic!("{text}\n{error}"));
    let printed = topology::parse(&Source::new("test.yaml", text), &[]).unwrap().to_yaml();
    let again = load(&printed).unwrap_or_else(|error| panic!("{printed}\n{error}"));
    assert_eq!(without_lines(&plan), without_lines(&again), "{printed}");
}

#[test]
fn the_examples_print_as_they_read() {
    for example in EXAMPLES {
        assert_prints_as_it_reads(example);
    }
}

fn half() -> impl Strategy<Value = String> {
    let fields = (
        proptest::option::of(1..10_000u32),
        proptest::option::of((0..200u32, 0..100u32)),
        proptest::option::of(0..100_000u32),
        proptest::option::of(1..1000u32),
    );
    fields.prop_map(|(rate, delay, loss, queue)| {
        let mut parts = Vec::new();
        if let Some(rate) = rate {
            parts.push(format!("rate: {rate}kbit"));
            parts.extend(
                queue.map(
                    |queue| {
                        if queue % 2 == 0 { format!("queue: {queue}") } else { format!("queue: {queue}KiB") }
                    },
                ),
            );
        }
        if let Some((delay, jitter)) = delay {
            parts.push(format!("delay: {delay}ms, jitter: {}ms", jitter.min(delay)));
        }
        parts.extend(loss.map(|loss| format!("loss: 0.{loss:05}")));
        format!("{{{}}}", parts.join(", "))
    })
}

fn event() -> impl Strategy<Value = String> {
    let trigger = prop_oneof![
        (0..100u32).prop_map(|share| format!("when: 'client >= {share}%'")),
        (0..4096u32).prop_map(|size| format!("when: client >= {size}KiB")),
        (0..60_000u32).prop_map(|at| format!("at: {at}ms")),
        Just("when: 'check prints /server-[0-9]+ (up|down): it''s \"so\"/'".to_owned()),
    ];
    let action = prop_oneof![
        Just("kill: server, for: 1s".to_owned()),
        Just("crash: [server-1, client]".to_owned()),
        Just("revive: server-1, disk: wipe".to_owned()),
        Just("partition: [client, [server, check]], for: 300ms".to_owned()),
        Just("signal: { node: client, signal: 12 }".to_owned()),
        Just("link: { node: server, network: net }, set: { down: { loss: 3% } }".to_owned()),
        Just("link: [client, check], set: { delay: 250ms }, for: 5s, optional: true".to_owned()),
    ];
    (trigger, action).prop_map(|(trigger, action)| format!("  - {{ {trigger}, {action} }}\n"))
}

prop_compose! {
    fn topology()(
        count in 1..6u32,
        up in half(), down in half(), both in half(), pair in half(),
        events in proptest::collection::vec(event(), 0..6),
        interval in 10..5000u32,
        ip in 0..2u32,
    ) -> String {
        let networks = if ip == 0 { "" } else { "networks: { net: { subnet: 'fd00::/64', mtu: 1400 } }\n" };
        let address = if ip == 0 { "" } else { "ip: 'fd00::99', " };
        format!("name: drawn\ntimeout: 90s\n{networks}files: {{ movie: {{ size: 4MiB }}, other: {{ path: a/b }} }}\n\
            links:\n  uneven: {{ up: {up}, down: {down} }}\n  even: {both}\n\
            pairs: [{{ from: server-1, to: client, link: {pair} }}]\n\
            nodes:\n  server: {{ count: {count}, role: file-server, file: movie, link: uneven, files: [other] }}\n  \
            check: {{ role: check-server, watch: server, interval: {interval}ms, env: {{ A: 7, B: 'yes', C: true }} }}\n  \
            client: {{ role: downloader, from: server, check: check, {address}link: even, stop-grace: 2s }}\n  \
            web: {{ run: [sh, -c, 'exit 0', 7, '7', null-ish], ready: {{ log: '/up$/' }}, after: check, user: root }}\n\
            events:\n{}expect: {{ client: {{ exit: 0, wasted: '<= 3%', file: movie }}, server: {{ never-prints: /panic/ }} }}\n",
            if events.is_empty() { "  []\n".to_owned() } else { events.concat() })
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    #[test]
    fn what_is_printed_is_read_as_the_same_plan(text in topology()) {
        assert_prints_as_it_reads(&text);
    }

    #[test]
    fn no_text_panics(text: String) {
        let _ = load(&text).map_err(|error| error.render(topology::Colour::Ansi));
    }

    #[test]
    fn no_damaged_topology_panics(
        example in 0..EXAMPLES.len(), at in 0.0..1.0f64, cut in 0..40usize,
        graft in "[ \\-:{}\\[\\]&*!|>'\"%@`#?,\n\ta-z0-9é]{0,12}",
    ) {
        let characters: Vec<char> = EXAMPLES[example].chars().collect();
        let start = (at * characters.len() as f64) as usize;
        let end = (start + cut).min(characters.len());
        let damaged: String =
            characters[..start].iter().copied().chain(graft.chars()).chain(characters[end..].iter().copied()).collect();
        if let Err(error) = load(&damaged) {
            prop_assert!(!error.is_empty());
            let _ = error.render(topology::Colour::Plain);
        }
    }

    #[test]
    fn no_setting_panics(path in "[a-z0-9.\\-]{0,40}", known in 0..6usize, value in "\\PC{0,20}") {
        let paths = ["nodes.client.from", "server.count", "events.0.at", "links.dsl.down", "expect.client.wasted", &path];
        let set = vec![Setting { path: paths[known].to_owned(), value }];
        let source = Source::new("test.yaml", EXAMPLES[0]);
        let _ = topology::load(&source, &Overrides { set, ..Overrides::new(Seed::new(1)) });
    }
}

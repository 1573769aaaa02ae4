//! Networks that the kernel's netem shapes do what the file asks for. They need a kernel that has it: `scripts/test netem`
//! runs them under one, and the other steps leave them out.

mod support;

use support::agreement::assert_agreement;
use support::ping::{no_ping, quickest};
use support::{Place, Run, binary, has_program, sabotage, skip, topology};

/// Whether this kernel has netem, and whether it takes a seed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Netem {
    Unseeded,
    Seeded,
}

/// What `doctor` says of it; `None`, and said so, where a test cannot run.
fn netem(place: &Place) -> Option<Netem> {
    if no_ping() {
        return None;
    }
    let doctor = place.testbed(["doctor"]).stdout();
    let line = doctor.lines().find(|line| line.split_whitespace().nth(1) == Some("netem")).expect("doctor knows netem");
    match line {
        line if line.contains("takes no seed") => Some(Netem::Unseeded),
        line if line.contains("the seed of a run") => Some(Netem::Seeded),
        line => {
            skip(&format!("{line} (scripts/with-netem-kernel)"));
            None
        }
    }
}

/// `pinger` runs `ping` with these words to `target`. Both have this link.
fn ping(place: &Place, words: &str, link: &str, rest: &str) -> Run {
    let text = format!(
        r#"
name: pinging
seed: 5
timeout: 60s
nodes:
  target: {{ run: ["sleep", "60"], link: {link} }}
  pinger: {{ run: ["sh", "-c", "ping -n -W 5 {words} target; :"], after: [target], link: {link} }}
{rest}
expect:
  pinger: {{ exit: 0 }}
"#
    );
    let run = place.run_once(&place.write("pinging.yaml", &text), &[]);
    run.expect_status(0);
    run
}

/// The numbers of the pings that were answered, from 1, and their round-trip times in milliseconds.
fn answers(run: &Run) -> Vec<(u32, f64)> {
    let said = run.stdout_of("pinger");
    let after = |line: &str, word: &str| Some(line.split(word).nth(1)?.split(' ').next()?.to_owned());
    let answer = |line| Some((after(line, "icmp_seq=")?.parse().ok()?, after(line, "time=")?.parse().ok()?));
    let mut answers: Vec<(u32, f64)> = said.lines().filter_map(answer).collect();
    // Where a delay shrinks, later packets overtake earlier ones.
    answers.sort_by_key(|(number, _)| *number);
    answers
}

fn times(run: &Run) -> Vec<f64> {
    answers(run).into_iter().map(|(_, time)| time).collect()
}

fn median(mut values: Vec<f64>) -> f64 {
    assert!(!values.is_empty(), "no ping was answered");
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn medium(run: &Run) -> String {
    run.state().networks[0].medium.clone()
}

/// Somebody gives the netem of a link another delay, after what the kernel accepted has been read back.
#[test]
fn a_netem_that_was_changed_behind_its_back_makes_the_run_invalid() {
    let place = Place::new();
    if netem(&place).is_none() {
        return;
    }
    if !["tc", "hostname"].into_iter().all(has_program) {
        return skip("tc or hostname is missing");
    }
    let text = |delay: &str| {
        format!(
            r#"
name: changed
seed: 7
timeout: 5min
shaper: netem
nodes:
  near: {{ run: ["true"], link: {{ up: {{ delay: 5ms }}, down: {{ delay: 5ms }} }} }}
  far: {{ run: ["true"], link: {{ up: {{ delay: {delay} }} }} }}
expect:
  near: {{ exit: 0 }}
"#
        )
    };
    let run = sabotage::run_changed(&place, text, |processes| {
        // The hub's end of the first node's first interface, where what reaches the node is impaired.
        sabotage::done_inside(processes.hub, "tc qdisc change dev n0-0 root netem delay 50ms");
    });
    let Some(cause) = run.as_ref().and_then(sabotage::deviation) else { return };
    let words = "link near down on net is not what the file asks for: delay configured 5 ms, measured 5";
    assert!(cause.starts_with(words) && cause.ends_with("(tolerance 1 ms)"), "{cause}");
}

#[test]
fn what_is_certain_goes_to_netem_by_itself_and_what_is_left_to_chance_if_it_takes_a_seed() {
    let place = Place::new();
    let Some(netem) = netem(&place) else { return };
    let medium_of = |link: &str, rest: &str| {
        let text =
            format!("name: planned\nseed: 1\nnodes: {{ a: {{ run: [x], link: {link} }}, b: {{ run: [x] }} }}\n{rest}");
        let ended = place.testbed(["plan".as_ref(), place.write("planned.yaml", &text).as_os_str()]);
        ended.expect_status(0);
        ended.stdout()
    };
    let certain = medium_of("{ up: { rate: 10Mbit, delay: 10ms }, down: { delay: 5ms } }", "");
    // 50 kB in 2 · 10 + 20 ms are 34 frames; the delay holds 9 more, and one is being sent.
    for part in ["this kernel's netem does all of that", "netem limit 44 packets", "no offload"] {
        assert!(certain.contains(part), "`{part}` is not in\n{certain}");
    }
    let chance = medium_of("{ loss: 1% }", "");
    match netem {
        Netem::Seeded => assert!(chance.contains("netem does all of that"), "{chance}"),
        Netem::Unseeded => assert!(chance.contains("relay") && chance.contains("takes no seed"), "{chance}"),
    }
    for (link, rest, why) in [
        ("{ drop: [3] }", "", "`drop`"),
        ("{ delay: 5ms, jitter: 1ms }", "", "`jitter`"),
        ("{ delay: 5ms }", "events: [{ at: 1s, link: a, set: { delay: 1ms } }]", "link a"),
        ("{ delay: 5ms }", "events: [{ at: 1s, partition: [a, b] }]", "partition a | b"),
    ] {
        let plan = medium_of(link, rest);
        assert!(plan.contains("not netem: ") && plan.contains(why), "{link} {rest}: `{why}` is not in\n{plan}");
    }
}

#[test]
fn delays_of_both_ends_add_up_and_no_question_for_an_address_comes_first() {
    let place = Place::new();
    if netem(&place).is_none() {
        return;
    }
    for rest in ["", "networks: { six: { subnet: \"fd00:5::/64\" } }"] {
        let run = ping(&place, "-i 0.05 -c 20", "{ up: { delay: 20ms }, down: { delay: 10ms } }", rest);
        assert_eq!(medium(&run), "netem");
        let times = times(&run);
        assert_eq!(times.len(), 20, "{}", run.stdout_of("pinger"));
        let (first, median) = (times[0], median(times));
        assert!(median >= 60.0, "{median} ms instead of 60");
        assert!(median < 70.0 || !run.kept_up(), "{median} ms instead of 60");
        // A question and its answer would take as long as the ping itself.
        assert!(first < 110.0 || !run.kept_up(), "{first} ms instead of 60");
    }
}

#[test]
fn a_packet_takes_its_bits_by_the_rate() {
    let place = Place::new();
    if netem(&place).is_none() {
        return;
    }
    // 1458 bytes in an ICMP echo make a frame of 1500, which takes 12 ms at 1 Mbit/s; there and back.
    let run = ping(&place, "-s 1458 -i 0.1 -c 20", "{ up: { rate: 1Mbit } }", "");
    assert_eq!(medium(&run), "netem");
    let median = median(times(&run));
    assert!(median >= 24.0, "{median} ms instead of 24");
    assert!(median < 30.0 || !run.kept_up(), "{median} ms instead of 24");
}

#[test]
fn a_transfer_fills_the_rate_and_does_not_exceed_it() {
    let place = Place::new();
    if netem(&place).is_none() {
        return;
    }
    let text = r#"
name: filled
seed: 3
timeout: 60s
files: { movie: { size: 4MiB } }
nodes:
  server: { role: file-server, file: movie, link: { up: { rate: 16Mbit, delay: 5ms }, down: { delay: 5ms } } }
  client: { role: downloader, from: server, out: movie }
expect:
  # 33.6 Mbit of the file alone take 2.1 s.
  client: { exit: 0, file: movie, within: 4s, throughput: "<= 16Mbit" }
"#;
    let run = place.run_once(&place.write("filled.yaml", text), &[]);
    run.expect_status(0);
    assert_eq!(medium(&run), "netem");
}

#[test]
fn loss_lies_within_its_binomial_interval_and_an_unkept_seed_is_told() {
    let place = Place::new();
    let Some(netem) = netem(&place) else { return };
    let run = ping(&place, "-i 0.01 -c 500", "{ down: { loss: 10% } }", "shaper: netem");
    assert_eq!(medium(&run), "netem");
    let answered = times(&run).len() as f64;
    // Lost there or on the way back: 1 − 0.9². Five standard deviations of 500 draws with the chance 0.19: 44.
    assert!((answered - 405.0).abs() <= 44.0, "{answered} of 500 answered, 405 expected");
    let warned = run
        .ended
        .stderr()
        .contains("warning: network net: `shaper: netem` asks for it, but this kernel's netem takes no seed");
    assert_eq!(warned, netem == Netem::Unseeded, "{}", run.ended.told());
}

#[test]
fn bursts_copies_and_packets_that_overtake_are_netems_too() {
    let place = Place::new();
    if netem(&place).is_none() {
        return;
    }
    let link = "{ up: { burst: { p: 10%, r: 30% } } }";
    let run = ping(&place, "-i 0.01 -c 500", link, "shaper: netem");
    // A quarter of the packets meets the bad state on either way. Losses come in bursts of 1/r, so the variance is
    // (2 − p − r)/(p + r) = 4 times the binomial one: five standard deviations of 500 draws with 0.4375 are 111.
    let answered = times(&run).len() as f64;
    assert!((answered - 281.0).abs() <= 111.0, "{answered} of 500 answered, 281 expected");

    let run = ping(&place, "-i 0.01 -c 100", "{ up: { duplicate: 100% } }", "shaper: netem");
    assert!(run.stdout_of("pinger").contains("DUP!"), "{}", run.stdout_of("pinger"));

    // Half of the packets leave out the 40 ms.
    let run = ping(&place, "-i 0.02 -c 100", "{ down: { delay: 40ms, reorder: 50% } }", "shaper: netem");
    let quick = times(&run).into_iter().filter(|time| *time < 40.0).count();
    assert!((1..100).contains(&quick) || !run.kept_up(), "{quick} of 100 overtook on both ways");
}

#[test]
fn an_event_changes_what_it_names_of_a_running_netem_and_its_end_undoes_it() {
    let place = Place::new();
    if netem(&place).is_none() {
        return;
    }
    let events = "shaper: netem\nevents: [{ at: 1s, link: target, set: { up: { delay: 80ms } }, for: 1s }]";
    let run = ping(&place, "-i 0.05 -c 80", "{ up: { delay: 10ms }, down: { delay: 5ms } }", events);
    let times = times(&run);
    assert_eq!(times.len(), 80, "{}", run.stdout_of("pinger"));
    let slow = |time: &f64| *time >= 100.0;
    assert!(times.iter().all(|time| *time >= 30.0), "{times:?}");
    let first = times.iter().position(slow).expect("no ping took the longer way");
    let last = times.iter().rposition(slow).expect("there is a first");
    assert!(0 < first && last < 79, "neither the first nor the last ping meets the event: {times:?}");
    assert!(times[first..=last].iter().all(slow) || !run.kept_up(), "{times:?}");
    // With the machine's own delays, the others are as the topology has it.
    assert!(times[79] < 60.0 || !run.kept_up(), "{times:?}");
}

#[test]
fn a_crash_cuts_the_links_of_a_netem_and_a_revival_joins_them_again() {
    let place = Place::new();
    if netem(&place).is_none() {
        return;
    }
    let events = "shaper: netem\nevents: [{ at: 1s, crash: target }, { after: 1s, revive: target }]";
    let run = ping(&place, "-i 0.05 -c 80", "{ up: { delay: 10ms }, down: { delay: 5ms } }", events);
    let said = run.stdout_of("pinger");
    let answered: Vec<u32> = answers(&run).into_iter().map(|(number, _)| number).collect();
    assert_eq!((answered.first(), answered.last()), (Some(&1), Some(&80)), "{said}");
    let gaps: Vec<u32> = answered.windows(2).map(|two| two[1] - two[0] - 1).filter(|gap| *gap > 0).collect();
    // A second without links, at 20 pings a second.
    assert_eq!(gaps.len(), 1, "nothing is lost but in the one second: {said}");
    assert!(gaps[0] >= 15 || !run.kept_up(), "{gaps:?}: {said}");
}

#[test]
fn the_init_of_a_container_takes_netem_for_what_it_does_exactly() {
    let place = Place::new();
    if netem(&place).is_none() {
        return;
    }
    let text = format!(
        r#"
name: pinging
seed: 5
timeout: 60s
nodes:
  target:
    run: ["{binary}", init, --shape, "up.delay=30ms down.delay=20ms", sleep, "60"]
    user: root
    ready: {{ log: "/eth0 is shaped by netem/" }}
  pinger: {{ run: ["sh", "-c", "ping -n -W 5 -i 0.05 -c 20 target; :"], after: [target] }}
expect:
  pinger: {{ exit: 0 }}
"#,
        binary = binary().display(),
    );
    let run = place.run_once(&place.write("pinging.yaml", &text), &[]);
    run.expect_status(0);
    assert_eq!(medium(&run), "bridge");
    let quickest = quickest(&times(&run));
    assert!((50.0..90.0).contains(&quickest), "{quickest} ms instead of 50");
}

#[test]
fn the_main_topologies_do_on_netem_what_they_promise() {
    let place = Place::new();
    if netem(&place).is_none() {
        return;
    }
    // Smaller than they are: the one CPU of such a kernel is slow at what takes many system calls.
    for (name, words) in [
        ("failover.yaml", &["files.movie.size=16MiB", "links.dsl.up.jitter=0s"][..]),
        ("resume.yaml", &["files.movie.size=12MiB"]),
        ("all-down.yaml", &["files.movie.size=12MiB"]),
        ("crash-not-kill.yaml", &["files.movie.size=12MiB"]),
        ("rolling-restart.yaml", &["files.movie.size=16MiB"]),
        ("p2mp.yaml", &["files.movie.size=1MiB", "nodes.receiver.count=3"]),
        ("p2mp-loss-budget.yaml", &["files.data.size=20kB", "nodes.receiver.count=3"]),
        ("p2mp-failover.yaml", &["files.movie.size=2MiB"]),
    ] {
        let run = run_main(&place, name, words, Some("netem"));
        assert_eq!(medium(&run), "netem", "{name}");
    }
}

/// Where an event parts nodes, or a link loses packets by their numbers, `auto` takes the relay although the kernel has
/// netem, and says why.
#[test]
fn the_main_topologies_that_netem_cannot_carry_go_to_the_relay_by_themselves() {
    let place = Place::new();
    if netem(&place).is_none() {
        return;
    }
    for (name, words, whys) in [
        ("two-sites.yaml", &["files.movie.size=6MiB"][..], &["partition", "partition", "partition"][..]),
        ("flaky-links.yaml", &["files.movie.size=6MiB"], &["partition"]),
        (
            "rough-links.yaml",
            &["files.movie.size=1MiB", "files.notice.size=200kB", "nodes.listener.count=2"],
            &["`drop`"],
        ),
    ] {
        let run = run_main(&place, name, words, None);
        let networks = run.state().networks;
        assert_eq!(networks.len(), whys.len(), "{networks:?}");
        for (network, why) in networks.iter().zip(whys) {
            assert_eq!(network.medium, "relay", "{name}: {network:?}");
            assert!(network.why.contains("not netem: ") && network.why.contains(why), "{name}: {network:?}");
        }
    }
}

/// A topology of the project's that passes with these settings.
fn run_main(place: &Place, name: &str, words: &[&str], shaper: Option<&str>) -> Run {
    let shaper = shaper.map(|shaper| format!("shaper={shaper}"));
    let settings = shaper.iter().map(String::as_str).chain(words.iter().copied());
    let mut words: Vec<&str> = settings.flat_map(|setting| ["--set", setting]).collect();
    if name != "failover.yaml" {
        // One is enough to show that links are measured there, too: each takes its second.
        words.extend(["--calibrate", "off"]);
    }
    let run = place.run(&topology(name), &words);
    run.expect_status(0);
    run
}

/// Two LANs, a WAN between their routers, all shaped by the kernel, of either family: packets take the sum of all delays on
/// their way, a file crosses at the WAN's rate, and goes on when a router has died and come back.
#[test]
fn a_routed_network_of_either_family_runs_over_netem() {
    let place = Place::new();
    if netem(&place).is_none() {
        return;
    }
    for (family, [near, wan, far]) in
        [(4, ["10.71.0.0/24", "10.72.0.0/24", "10.73.0.0/24"]), (6, ["fd00:71::/64", "fd00:72::/64", "fd00:73::/64"])]
    {
        let text = format!(
            r#"
name: routed
seed: 9
timeout: 90s
shaper: netem
files: {{ movie: {{ size: 2MiB }} }}
links:
  lan: {{ delay: 2ms }}
  wan: {{ rate: 10Mbit, delay: 10ms }}
networks:
  near: {{ subnet: "{near}" }}
  wan: {{ subnet: "{wan}" }}
  far: {{ subnet: "{far}" }}
nodes:
  one: {{ role: router, networks: {{ near: {{ link: lan }}, wan: {{ link: wan }} }} }}
  two: {{ role: router, networks: {{ wan: {{ link: wan }}, far: {{ link: lan }} }} }}
  server: {{ role: file-server, file: movie, networks: {{ far: {{ link: lan }} }} }}
  pinger: {{ run: [sh, -c, "ping -n -W 5 -i 0.1 -c 10 server"], after: [one, two, server], ready: {{ log: "packets transmitted" }}, networks: {{ near: {{ link: lan }} }} }}
  client: {{ role: downloader, from: server, out: movie, after: [pinger], networks: {{ near: {{ link: lan }} }} }}
events:
  - {{ when: "client >= 30%", kill: two, for: 700ms }}
expect:
  pinger: {{ exit: 0 }}
  client: {{ exit: 0, file: movie, throughput: "<= 10Mbit" }}
  two: {{ state: running }}
"#
        );
        // What each link does by itself is other tests' matter.
        let run = place.run(&place.write("routed.yaml", &text), &["--calibrate", "off"]);
        run.expect_status(0);
        let state = run.state();
        assert!(state.networks.iter().all(|network| network.medium == "netem"), "{:?}", state.networks);
        let addresses = &state.node("server").expect("there is a server").addresses;
        assert_eq!(addresses[0].contains(':'), family == 6, "{addresses:?}");
        let times = times(&run);
        assert_eq!(times.len(), 10, "{}", run.stdout_of("pinger"));
        // 2 + 2 on the near LAN, 10 + 10 on the WAN, 2 + 2 on the far LAN, and back. Two kernels forward, which may take long
        // on a busy machine, but not each time.
        let least = times.iter().copied().fold(f64::INFINITY, f64::min);
        assert!(least >= 56.0, "{least} ms instead of 56");
        assert!(least < 66.0 || !run.kept_up(), "{least} ms instead of 56");
        for account in state.accounts() {
            assert!(account.adds_up() && account.count.by_kernel, "{account:?}");
        }
        // All of the file came over both routers.
        let crossed = |node: &str, network: &str| {
            let is_it = |count: &&event::LinkCount| {
                (count.node.as_str(), count.network.as_str(), count.direction) == (node, network, event::Direction::Up)
            };
            state.links.iter().find(is_it).map_or(0, |count| count.delivered_bytes)
        };
        assert!(crossed("two", "wan") > 2 << 20 && crossed("one", "near") > 2 << 20, "{:?}", state.links);
    }
}

#[test]
fn what_the_kernel_counts_is_told_and_adds_up() {
    let place = Place::new();
    if netem(&place).is_none() {
        return;
    }
    let run = ping(&place, "-c 300 -i 0.01", "{ up: { delay: 2ms }, down: { loss: 20% } }", "shaper: netem");
    let answered = answers(&run).len() as f64;
    let state = run.state();
    assert_eq!(state.links.len(), 4, "two halves of two nodes: {:?}", state.links);
    for account in state.accounts() {
        let count = account.count;
        assert!(account.adds_up() && count.by_kernel, "{account:?}");
        assert!(count.offered >= 150 && count.delivered_bytes >= count.delivered * 60, "{count:?}");
        assert!(count.in_flight == 0 && count.overflow == 0 && count.queue == 0, "{count:?}");
    }
    // What ping misses is what the kernel says it dropped. Four standard deviations of 300 draws at 20 %: 60 ± 28.
    let lost: u64 = state.links.iter().map(|count| count.lost).sum();
    assert!((lost as f64 - (300.0 - answered)).abs() < 5.0, "{lost} lost, {answered} of 300 answered");
    assert!((32..=88).contains(
        &state.links.iter().find(|count| count.node == "target" && count.lost > 0).map_or(0, |count| count.lost)
    ));
    assert!(run.ended.stdout().contains("net: counted by the kernel"), "{}", run.ended.stdout());
}

/// netem gives what the model has, row by row, of the profiles for which `auto` may take it. (That it avoids the others is
/// shown where the table is.)
#[test]
fn netem_agrees_with_the_model() {
    let place = Place::new();
    if netem(&place).is_none() {
        return;
    }
    let rows = sim::agreement::rows();
    let alike = rows.iter().filter(|row| row.netem == sim::agreement::Netem::Alike);
    let names: Vec<&str> = alike.map(|row| row.name).collect();
    let ended = place.testbed(["bench", "link", "--only", "agreement", "--shaper", "netem", "--format", "json"]);
    ended.expect_status(0);
    let found: serde_json::Value = serde_json::from_str(&ended.stdout()).expect("JSON");
    assert_agreement(&found["agreement"]["netem"], &names);
}

//! Links and networks are what the file asks for, as unmodified programs see them.

mod support;

use support::ping::{no_ping, quickest, times};
use support::{Place, Run};

/// `pinger` pings `target` `count` times every 20 ms, over the networks and links of `rest`.
fn ping(place: &Place, count: u32, nodes: &str, rest: &str) -> Run {
    let text = format!(
        r#"
name: pinging
seed: 5
timeout: 40s
nodes:
  target: {{ run: ["sleep", "60"]{nodes} }}
  pinger: {{ run: ["sh", "-c", "ping -n -i 0.02 -W 2 -c {count} target; :"], after: [target]{nodes} }}
{rest}
expect:
  pinger: {{ exit: 0 }}
"#
    );
    let run = place.run_text("pinging", &text);
    run.expect_status(0);
    run
}

#[test]
fn an_unimpaired_network_is_a_bridge_and_quick() {
    if no_ping() {
        return;
    }
    let place = Place::new();
    let run = ping(&place, 20, "", "");
    assert_eq!(run.state().networks[0].medium, "bridge");
    let times = times(&run);
    assert_eq!(times.len(), 20);
    assert!(quickest(&times) < 2.0 || !run.kept_up(), "{times:?}");
}

#[test]
fn delays_of_both_ends_and_of_a_pair_add_up() {
    if no_ping() {
        return;
    }
    let place = Place::new();
    let pairs = "pairs:\n  - { from: target, to: pinger, link: { delay: 30ms } }";
    let run = ping(&place, 20, ", link: { up: { delay: 10ms }, down: { delay: 5ms } }", pairs);
    assert_eq!(run.state().networks[0].medium, "relay");
    let times = times(&run);
    // There: 10 + 5 ms. Back: 10 + 30 + 5 ms.
    assert!(quickest(&times) >= 60.0, "{times:?} ms instead of 60");
    assert!(quickest(&times) < 63.0 || !run.kept_up(), "{times:?} ms instead of 60");
}

#[test]
fn an_ipv6_network_carries_packets_by_name() {
    if no_ping() {
        return;
    }
    let place = Place::new();
    for link in ["", ", link: { delay: 5ms }"] {
        let run = ping(&place, 10, link, "networks: { six: { subnet: \"fd00:5::/64\" } }");
        assert!(run.stdout_of("pinger").contains("fd00:5::"), "{}", run.stdout_of("pinger"));
        assert_eq!(times(&run).len(), 10, "{}", run.stdout_of("pinger"));
    }
}

#[test]
fn loss_lies_within_its_binomial_interval_and_is_accounted_for() {
    if no_ping() {
        return;
    }
    let place = Place::new();
    let run = ping(&place, 500, "", "links: {}\n").state();
    assert!(run.links.is_empty(), "a bridge loses nothing and counts nothing");
    // netem, where the kernel has it, counts nothing by cause.
    let run = ping(&place, 500, ", link: { down: { loss: 10% } }", "shaper: relay");
    let answered = times(&run).len() as f64;
    // Lost there or on the way back: 1 − 0.9². Five standard deviations of 500 draws with the chance 0.19: 44.
    assert!((answered - 405.0).abs() <= 44.0, "{answered} of 500 answered, 405 expected");
    for link in &run.state().links {
        assert!(link.adds_up(), "{link:?}");
    }
    let lost: u64 = run.state().links.iter().map(|link| link.lost).sum();
    assert!(lost as f64 >= 500.0 - answered, "what ping misses, the links have lost: {lost}");
}

#[test]
fn the_same_seed_loses_the_same_packets() {
    if no_ping() {
        return;
    }
    let place = Place::new();
    let lost = || {
        let run = ping(&place, 100, ", link: { up: { loss: 20% } }", "");
        let said = run.stdout_of("pinger");
        let sequence = |line: &str| line.split("icmp_seq=").nth(1)?.split(' ').next()?.parse::<u32>().ok();
        said.lines().filter_map(sequence).collect::<Vec<_>>()
    };
    let first = lost();
    assert!(first.len() < 100 && first == lost(), "{first:?}");
}

#[test]
fn a_rate_is_what_a_download_gets() {
    let text = r#"
name: rated
seed: 3
timeout: 60s
files: { movie: { size: 12MiB } }
nodes:
  server: { role: file-server, file: movie, link: { up: { rate: 40Mbit, delay: 2ms } } }
  client: { role: downloader, from: server, out: movie }
expect:
  client: { exit: 0, file: movie, throughput: ">= 20Mbit" }
"#;
    let place = Place::new();
    let run = place.run_text("rated", text);
    run.expect_status(0);
    // From t = 0 the server has sent no more than its rate allows, and the headers come on top of the file.
    let took = run.state().took.expect("the run has ended").as_secs_f64();
    assert!(took >= 12.0 * 1024.0 * 1024.0 * 8.0 / 40e6, "{took} s is faster than the link");
}

#[test]
fn nodes_on_different_networks_do_not_meet() {
    if no_ping() {
        return;
    }
    let text = r#"
name: apart
seed: 1
timeout: 30s
networks: { left: {}, right: { subnet: 10.60.0.0/24 } }
nodes:
  hermit: { run: ["sleep", "60"], networks: { left: {} } }
  both: { run: ["sh", "-c", "ping -n -c 1 -W 1 hermit && ping -n -c 1 -W 1 other"], networks: { left: {}, right: {} } }
  other: { run: ["sh", "-c", "! ping -n -c 1 -W 1 hermit"], networks: { right: {} } }
expect:
  both: { exit: 0 }
  other: { exit: 0 }
"#;
    Place::new().run_text("apart", text).expect_status(0);
}

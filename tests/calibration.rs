//! Links are measured before nodes start: what is measured stands in the report, and a link that is not what the file asks
//! for makes the run INVALID.

mod support;

use event::{Direction, LinkMeasurement, MeasuredOutcome};
use support::{Place, Run, has_program, sabotage, skip};

const LINKS: &str = r#"
name: links
seed: 7
timeout: 60s
links:
  dsl: { up: { rate: 10Mbit, delay: 20ms, loss: 2% }, down: { rate: 50Mbit, delay: 20ms, jitter: 1ms } }
networks:
  four: {}
  six: { subnet: "fd00:7::/64" }
  plain: {}
nodes:
  a: { run: ["true"], networks: { four: { link: dsl }, six: { link: { delay: 3ms } }, plain: {} } }
  b: { run: ["true"], networks: { four: {}, six: {}, plain: {} } }
pairs:
  - { from: b, to: a, link: { delay: 10ms } }
expect:
  a: { exit: 0 }
  b: { exit: 0 }
"#;

fn measured(run: &[LinkMeasurement], node: &str, network: &str, direction: Direction) -> LinkMeasurement {
    let is_it = |link: &&LinkMeasurement| {
        (link.node.as_str(), link.network.as_str(), link.direction) == (node, network, direction)
    };
    run.iter().find(is_it).unwrap_or_else(|| panic!("{node} {direction:?} on {network} is not in {run:#?}")).clone()
}

/// What was measured of a run that passed; `None` if this machine was too busy for it.
fn measurements(run: &Run) -> Option<Vec<LinkMeasurement>> {
    run.expect_status(0);
    run.kept_up().then(|| run.state().measurements)
}

/// Every impaired half link has a row, of either IP version and of pairs; what impairs nothing has none. That the figures
/// are within their tolerances is the verdict's own condition; here they are held against the file.
#[test]
fn what_is_measured_stands_beside_what_was_asked_for() {
    let place = Place::new();
    let run = place.run(&place.write("links.yaml", LINKS), &["--calibrate", "full"]);
    let Some(found) = measurements(&run) else { return };
    assert!(found.iter().all(|link| link.outcome == MeasuredOutcome::Within), "{found:#?}");
    let up = measured(&found, "a", "four", Direction::Up);
    let down = measured(&found, "a", "four", Direction::Down);
    let near = |link: &LinkMeasurement, millis: f64, tolerance: f64| {
        let delay = link.delay_measured.expect("a delay was measured").as_secs_f64() * 1e3;
        assert!((delay - millis).abs() <= tolerance, "{delay} ms: {link:#?}");
    };
    near(&up, 20.0, 1.0);
    near(&down, 20.0, 2.0);
    near(&measured(&found, "a", "six", Direction::Up), 3.0, 1.0);
    // The whole way of the pair: its own delay and that of the receiver's link.
    near(&measured(&found, "b -> a", "four", Direction::Between), 30.0, 2.5);
    let rate = |link: &LinkMeasurement| link.rate_measured.expect("a rate was measured").as_bits_per_sec() as f64 / 1e6;
    assert!((rate(&up) / 10.0 - 1.0).abs() <= 0.05 && (rate(&down) / 50.0 - 1.0).abs() <= 0.3, "{found:#?}");
    let (low, high) = up.loss_interval.expect("losses were counted");
    assert!(low <= 0.02 && (0.02..0.1).contains(&high), "{up:#?}");
    // The pair is on each of the networks, and there is nothing else on that one.
    let plain: Vec<Direction> =
        found.iter().filter(|link| link.network == "plain").map(|link| link.direction).collect();
    assert_eq!(plain, [Direction::Between]);
    assert!(run.ended.stdout().contains("links as measured before the start"), "{}", run.ended.told());
    // Probes are gone before the first node starts.
    for count in run.state().links.iter().filter(|count| count.direction != Direction::Between) {
        assert!(count.offered < 50, "only what the nodes' own kernels say: {count:?}");
    }
}

#[test]
fn whoever_asks_for_no_measuring_gets_none() {
    let place = Place::new();
    let run = place.run(&place.write("links.yaml", LINKS), &["--calibrate", "off"]);
    let Some(found) = measurements(&run) else { return };
    assert_eq!(found, []);
    assert_eq!(run.state().calibration, None);
}

/// The link of `near` gets a bottleneck in its own namespace that no file asks for, as a queueing discipline that somebody
/// left there would be.
#[test]
fn a_link_that_was_changed_behind_its_back_makes_the_run_invalid() {
    if !["tc", "hostname"].into_iter().all(has_program) {
        return skip("tc or hostname is missing");
    }
    let text = |delay: &str| {
        format!(
            r#"
name: changed
seed: 7
timeout: 5min
nodes:
  far: {{ run: ["true"], link: {{ up: {{ delay: {delay} }} }} }}
  near: {{ run: ["true"], link: {{ up: {{ rate: 20Mbit, delay: 5ms }}, down: {{ rate: 20Mbit, delay: 5ms }} }} }}
expect:
  near: {{ exit: 0 }}
"#
        )
    };
    let place = Place::new();
    let run = sabotage::run_changed(&place, text, |processes| {
        let slow = "tc qdisc add dev eth0 root tbf rate 5mbit burst 3000 limit 1000000";
        sabotage::done_inside(processes.node("near"), slow);
    });
    let Some(run) = run else { return };
    let Some(cause) = sabotage::deviation(&run) else { return };
    assert!(cause.starts_with("link near up on net is not what the file asks for: "), "{cause}");
    assert!(cause.contains("rate configured 20 Mbit/s, measured "), "{cause}");
    let found = run.state().measurements;
    let is_within = |node, direction| measured(&found, node, "net", direction).outcome == MeasuredOutcome::Within;
    assert!(is_within("far", Direction::Up) && is_within("near", Direction::Down), "{found:#?}");
}

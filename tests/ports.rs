//! A thousand nodes on one network.

mod support;

use event::Direction;
use support::Place;

/// Twice as far as the examples go, and about as many as a kernel's bridge has ports.
const NODES: usize = 1000;

#[test]
fn a_thousand_ports_of_a_relay_stand_carry_to_the_farthest_and_are_gone() {
    let text = format!(
        r#"
name: ports
seed: 3
timeout: 4min
files: {{ data: {{ size: 1MB }} }}
links: {{ far: {{ delay: 1ms }} }}
shaper: relay
nodes:
  first: {{ role: p2mp-sender, to: last, file: data, mode: fast, link: far }}
  node: {{ count: {}, run: [sleep, "600"], link: far }}
  last: {{ role: p2mp-receiver, out: data, link: far }}
expect:
  first: {{ exit: 0 }}
  last: {{ exit: 0, file: data }}
  node: {{ state: running }}
"#,
        NODES - 2
    );
    let place = Place::new();
    let run = place.run_text("ports", &text);
    run.expect_status(0);
    let state = run.state();
    assert_eq!(state.nodes.len(), NODES);
    assert_eq!(state.links.len(), 2 * NODES);
    assert!(state.accounts().all(|account| account.adds_up()));
    let down = |node: &str| {
        let is_it = |count: &&event::LinkCount| count.node == node && count.direction == Direction::Down;
        state.links.iter().find(is_it).unwrap_or_else(|| panic!("{node} is not counted")).delivered_bytes
    };
    // What is for one is not for all: the file reached the last alone.
    assert!(down("last") > 1_000_000, "{} bytes", down("last"));
    for other in ["node-1", "node-500", "node-998"] {
        assert!(down(other) < 100_000, "{other} got {} bytes", down(other));
    }
    let raised = state.raised_in.expect("the network stood").as_secs_f64();
    println!("{NODES} nodes stood after {raised:.2} s");
}

#[test]
fn what_has_more_nodes_than_a_bridge_has_ports_is_a_relay() {
    let place = Place::new();
    for (count, medium) in [(1023, "kernel bridge"), (1024, "relay")] {
        let text = format!("name: many\nnodes:\n  node: {{ count: {count}, run: [sleep, \"1\"] }}\n");
        let file = place.write("many.yaml", &text);
        let ended = place.testbed(["plan".as_ref(), file.as_os_str()]);
        ended.expect_status(0);
        let networks = ended.stdout().lines().skip_while(|line| *line != "networks").nth(1).map(str::to_owned);
        let network = networks.unwrap_or_default();
        assert!(network.contains(medium), "{count} nodes: {network}");
    }
}

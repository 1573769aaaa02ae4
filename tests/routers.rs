//! Several networks joined by routers: names, ways, deaths of routers, partitions across them.

mod support;

use event::{Direction, Event, NodeReport, RunState, SourceState};
use support::{Place, Run, has_program, skip, topology};

/// Packets that a half link delivered.
fn delivered(state: &RunState, node: &str, network: &str, direction: Direction) -> u64 {
    let is_it = |count: &&event::LinkCount| {
        (count.node.as_str(), count.network.as_str(), count.direction) == (node, network, direction)
    };
    state.links.iter().find(is_it).unwrap_or_else(|| panic!("{node} on {network} is not counted")).delivered
}

/// Body bytes that the client had received from a source when it told of it last.
fn received(run: &Run, server: &str) -> u64 {
    run.state().node("client").expect("there is a client").sources.get(server).map_or(0, |source| source.received)
}

#[test]
fn two_sites_download_over_a_wan_whose_router_dies_and_comes_back() {
    let place = Place::new();
    let run = place.run(&topology("two-sites.yaml"), &[]);
    run.expect_status(0);
    let records = run.records();
    let at = |what: &str, is: &dyn Fn(&Event) -> bool| run.position(what, |event| is(event));
    let dead = at(
        "the router's death",
        &|event| matches!(event, Event::NodeExited { node, incarnation: 1, .. } if node == "west-router"),
    );
    let back = at(
        "its revival",
        &|event| matches!(event, Event::NodeReady { node, incarnation: 2, .. } if node == "west-router"),
    );
    let far = |position: usize, state: SourceState| {
        records[position..].iter().position(|record| {
            matches!(&record.event, Event::NodeReported { node, report: NodeReport::Source { source, state: told, .. }, .. }
                if node == "client" && source.starts_with("far") && *told == state)
        })
    };
    if run.kept_up() {
        // Without its router neither far server is heard; the client says so, and says when it is back.
        assert!(far(dead, SourceState::Stalled).or(far(dead, SourceState::Dead)).is_some(), "{}", run.ended.told());
        assert!(far(back, SourceState::Alive).is_some(), "{}", run.ended.told());
    }
    for server in ["near-1", "near-2", "far-1", "far-2"] {
        assert!(received(&run, server) > 0, "{server} brought nothing\n{}", run.ended.told());
    }
    let state = run.state();
    assert!(state.accounts().all(|account| account.adds_up()), "{:?}", state.links);
    // What the far servers sent crossed the WAN between the routers, and little else: routers announce the groups they are in.
    let sent = delivered(&state, "far-1", "west", Direction::Up) + delivered(&state, "far-2", "west", Direction::Up);
    let crossed = delivered(&state, "west-router", "wan", Direction::Up);
    assert!(crossed > 0 && crossed <= sent + 100, "{crossed} of {sent} crossed");
}

/// Three networks in a row, of either family.
fn row(subnets: [&str; 3], nodes: &str, rest: &str) -> String {
    let [left, middle, right] = subnets;
    format!(
        r#"
name: row
seed: 9
timeout: 60s
networks:
  left: {{ subnet: "{left}" }}
  middle: {{ subnet: "{middle}", mtu: 1400 }}
  right: {{ subnet: "{right}" }}
nodes:
  one: {{ role: router, networks: {{ left: , middle: }} }}
  two: {{ role: router, networks: {{ middle: , right: }} }}
{nodes}
{rest}
"#
    )
}

const FOUR: [&str; 3] = ["10.71.0.0/24", "10.72.0.0/24", "10.73.0.0/24"];
const SIX: [&str; 3] = ["fd00:71::/64", "fd00:72::/64", "fd00:73::/64"];

#[test]
fn packets_and_names_cross_two_routers_in_either_family_over_bridges_and_relays() {
    if !has_program("ping") {
        return skip("ping is not installed");
    }
    for (subnets, near, far) in [(FOUR, "10.71.0.1", "10.73.0.2"), (SIX, "fd00:71::1", "fd00:73::2")] {
        for shaper in ["", "shaper: relay"] {
            // A router answers by its nearest address; what is too large for the middle is told, and cut up by its sender.
            let script = "ping -n -c 2 -W 5 target && ping -n -c 1 -W 5 two && getent hosts one two && \
                          until ping -n -c 1 -W 1 -M want -s 1420 target; do :; done";
            let nodes = format!(
                "  target: {{ run: [sleep, \"300\"], networks: {{ right: }} }}\n  \
                   asker: {{ run: [sh, -c, \"{script}\"], after: [one, two, target], networks: {{ left: }} }}"
            );
            let place = Place::new();
            let text = row(subnets, &nodes, &format!("{shaper}\nexpect: {{ asker: {{ exit: 0 }} }}"));
            let run = place.run_text("row", &text);
            run.expect_status(0);
            let said = run.stdout_of("asker");
            let names: Vec<(&str, &str)> =
                said.lines().filter_map(|line| line.split_once(char::is_whitespace)).collect();
            let stands_for = |address: &str, name: &str| {
                names.iter().any(|(found, rest)| *found == address && rest.trim_start().starts_with(name))
            };
            assert!(stands_for(near, "one"), "its own side of `one` is {near}\n{said}");
            let middle = if subnets == FOUR { "10.72.0.2" } else { "fd00:72::2" };
            assert!(stands_for(middle, "two"), "the near side of `two` is {middle}\n{said}");
            assert!(said.contains(&format!("1428 bytes from {far}")), "the target is {far}\n{said}");
        }
    }
}

#[test]
fn a_router_forwards_while_it_runs_and_no_longer() {
    if !has_program("ping") {
        return skip("ping is not installed");
    }
    // Each word of the asker's waits for its answer or its absence, and each fault for a word.
    let script = "ping -n -c 1 -W 20 target && echo first; \
                  until ! ping -n -c 1 -W 1 target; do :; done; echo silent; \
                  until ping -n -c 1 -W 1 target; do :; done; echo again";
    for (fault, undone) in [("kill", "revive"), ("crash", "revive"), ("pause", "resume")] {
        let events = format!(
            r#"events:
  - {{ when: "asker prints /^first/", {fault}: two }}
  - {{ when: "asker prints /^silent/", {undone}: two }}
expect: {{ asker: {{ exit: 0, prints: "/again/" }} }}"#
        );
        let nodes = format!(
            "  target: {{ run: [sleep, \"300\"], networks: {{ right: }} }}\n  \
               asker: {{ run: [sh, -c, \"{script}\"], after: [one, two, target], networks: {{ left: }} }}"
        );
        let place = Place::new();
        let run = place.run_text("row", &row(FOUR, &nodes, &events));
        run.expect_status(0);
    }
}

#[test]
fn a_partition_of_routers_parts_what_is_behind_them() {
    if !has_program("ping") {
        return skip("ping is not installed");
    }
    // The partition stands longer than any process here is likely to be kept from looking.
    let script = "ping -n -c 1 -W 20 target && ping -n -c 1 -W 20 near && echo first; \
                  until ! ping -n -c 1 -W 1 target; do :; done; ping -n -c 1 -W 20 near && echo parted; \
                  until ping -n -c 1 -W 1 target; do :; done; echo healed";
    let nodes = format!(
        "  target: {{ run: [sleep, \"300\"], networks: {{ right: }} }}\n  \
           near: {{ run: [sleep, \"300\"], networks: {{ middle: }} }}\n  \
           asker: {{ run: [sh, -c, \"{script}\"], after: [one, two, target, near], networks: {{ left: }} }}"
    );
    let events = r#"events:
  - { when: "asker prints /^first/", partition: [[asker, one], [two, target]], for: 8s }
expect: { asker: { exit: 0, prints: "/healed/" } }"#;
    let place = Place::new();
    let run = place.run_text("row", &row(FOUR, &nodes, events));
    run.expect_status(0);
    assert!(run.stdout_of("asker").contains("parted"), "{}", run.stdout_of("asker"));
    let state = run.state();
    assert!(state.links.iter().any(|link| link.partition > 0), "{:?}", state.links);
}

#[test]
fn a_sender_serves_receivers_behind_routers_on_either_engine() {
    let nodes = r#"  sender: { role: p2mp-sender, to: receiver, file: data, mode: fast, networks: { left: { link: { delay: 2ms } } } }
  receiver: { count: 3, role: p2mp-receiver, p: 2%, out: data, networks: { right: { link: { down: { rate: 40Mbit } } } } }"#;
    let rest = "files: { data: { size: 1MB } }\nexpect: { sender: { exit: 0 }, receiver: { exit: 0, file: data } }";
    for subnets in [FOUR, SIX] {
        let text = row(subnets, nodes, rest).replace(", mtu: 1400", "");
        for words in [&["--engine", "sim"][..], &[]] {
            let place = Place::new();
            let run = place.run(&place.write("row.yaml", &text), words);
            run.expect_status(0);
        }
    }
}

#[test]
fn virtual_time_does_not_route_between_mtus() {
    let nodes = "  sender: { role: p2mp-sender, to: receiver, file: data, mss: 500, networks: { left: } }\n  \
                   receiver: { role: p2mp-receiver, out: data, networks: { right: } }";
    let place = Place::new();
    let file = place.write("row.yaml", &row(FOUR, nodes, "files: { data: { size: 1MB } }"));
    let ended = place.testbed(["run".as_ref(), file.as_os_str(), "--engine".as_ref(), "sim".as_ref()]);
    ended.expect_status(3);
    assert!(ended.stderr().contains("node `one` routes between MTUs (1400, 1500)"), "{}", ended.told());
}

#[test]
fn the_plan_shows_the_ways() {
    let place = Place::new();
    let ended = place.testbed(["plan".as_ref(), topology("two-sites.yaml").as_os_str()]);
    ended.expect_status(0);
    assert!(ended.stdout().contains("routes"), "{}", ended.stdout());
    for words in ["near-1 and 3 more", "east-router (10.61.1.1), west-router"] {
        assert!(ended.stdout().contains(words), "`{words}` is not in\n{}", ended.stdout());
    }
}

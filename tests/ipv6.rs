//! Everything that works over IPv4 works where there is nothing but IPv6.

mod support;

use event::{Event, NodeReport, RunState, SourceState};
use support::{Place, Run, topology};

/// Four servers, a check server and a downloader; one server dies on the way and comes back.
fn download(link: &str) -> String {
    format!(
        r#"
name: six
seed: 23
timeout: 90s
files: {{ movie: {{ size: 16MiB }} }}
networks: {{ six: {{ subnet: "fd00:23::/64" }} }}
nodes:
  server: {{ count: 4, role: file-server, file: movie, rate: 20Mbit{link} }}
  check: {{ role: check-server, watch: server }}
  client: {{ role: downloader, from: server, check: check, out: movie }}
events:
  - {{ when: "client >= 20%", kill: server-2 }}
  - {{ when: "client >= 40%", revive: server-2 }}
expect:
  client: {{ exit: 0, file: movie }}
  server-2: {{ state: running }}
"#
    )
}

/// Every address that anybody had, and every source's name that a client told, is of IPv6 or a name.
#[track_caller]
fn is_ipv6_alone(run: &Run) -> RunState {
    let state = run.state();
    for node in &state.nodes {
        assert!(node.addresses.iter().all(|address| address.contains(':')), "{} has {:?}", node.name, node.addresses);
    }
    assert!(state.accounts().all(|account| account.adds_up()), "{:?}", state.links);
    state
}

#[test]
fn a_multi_server_download_survives_a_death_on_bridge_and_relay() {
    for (link, medium) in [("", "bridge"), (", link: { delay: 3ms, loss: 0.1% }", "relay")] {
        let place = Place::new();
        let mut text = download(link);
        if medium == "relay" {
            text.push_str("shaper: relay\n");
        }
        let run = place.run_text("six", &text);
        run.expect_status(0);
        let state = is_ipv6_alone(&run);
        assert_eq!(state.networks[0].medium, medium);
        let client = state.node("client").expect("there is a client");
        assert_eq!(client.sources.len(), 4, "{:?}", client.sources);
        // The check server watches by IPv6, too.
        run.position("the check server's word of the death", |event| {
            let dead = |server: &str, alive: bool| server == "server-2" && !alive;
            matches!(event, Event::NodeReported { report: NodeReport::Watched { server, alive }, .. } if dead(server, *alive))
        });
    }
}

#[test]
fn a_download_over_two_routers_survives_the_death_of_one() {
    let subnets = ["east", "wan", "west"]
        .into_iter()
        .enumerate()
        .flat_map(|(index, network)| ["--set".to_owned(), format!("networks.{network}.subnet=fd00:61:{index}::/64")]);
    let words: Vec<String> = subnets.collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let place = Place::new();
    let run = place.run(&topology("two-sites.yaml"), &words);
    run.expect_status(0);
    let state = is_ipv6_alone(&run);
    let client = state.node("client").expect("there is a client");
    for (server, source) in &client.sources {
        assert!(source.received > 0, "{server} brought nothing: {source:?}");
        assert_ne!(source.state, SourceState::Rejected, "{server}");
    }
}

#[test]
fn both_modes_of_point_to_multipoint_serve_receivers_that_lose() {
    for mode in ["stop-and-wait, timeout: 40ms", "fast"] {
        for link in ["", ", link: { down: { delay: 2ms, loss: 1% } }"] {
            let text = format!(
                r#"
name: many
seed: 29
timeout: 90s
files: {{ data: {{ size: 200kB }} }}
networks: {{ six: {{ subnet: "fd00:29::/64" }} }}
nodes:
  sender: {{ role: p2mp-sender, to: receiver, file: data, mss: 1200, mode: {mode} }}
  receiver: {{ count: 3, role: p2mp-receiver, p: 3%, out: data{link} }}
expect: {{ sender: {{ exit: 0 }}, receiver: {{ exit: 0, file: data }} }}
"#
            );
            let place = Place::new();
            let run = place.run_text("many", &text);
            run.expect_status(0);
            is_ipv6_alone(&run);
        }
    }
}

//! What a right file resolves to.
#![allow(clippy::unwrap_used, reason = "in a test a panic is the report")]

use machine::{Rate, Ratio, Seed, Size, Span};
use topology::plan::{
    Action, Expected, FileSource, Medium, Program, Ready, Role, SegmentTimeout, TransferMode, Trigger,
};
use topology::{Diagnostics, Overrides, Plan, Setting, Source};

fn load_with(text: &str, set: &[&str]) -> Result<Plan, Diagnostics> {
    let set = set.iter().map(|text| text.parse::<Setting>().unwrap()).collect();
    topology::load(&Source::new("test.yaml", text), &Overrides { set, ..Overrides::new(Seed::new(42)) })
}

fn load(text: &str) -> Plan {
    load_with(text, &[]).unwrap_or_else(|error| panic!("{error}"))
}

const SET: &str = "
name: set
files: { movie: { size: 8MiB } }
links: { dsl: { up: { rate: 10Mbit }, down: { rate: 50Mbit, delay: 5ms } } }
nodes:
  server: { count: 2, role: file-server, file: movie, link: dsl }
  check: { role: check-server, watch: server }
  client: { role: downloader, from: server, check: check }
";

#[test]
fn a_file_as_windows_editors_save_it_is_read() {
    let bytes = b"\xef\xbb\xbfname: t\r\nnodes:\r\n  a: { run: [x] }\r\n";
    let source = Source::from_bytes("windows.yaml", bytes).unwrap();
    assert_eq!(topology::load(&source, &Overrides::new(Seed::new(1))).unwrap().name(), "t");
}

#[test]
fn defaults_are_filled_in() {
    let plan = load(SET);
    assert_eq!((plan.seed(), plan.timeout()), (Seed::new(42), Span::from_secs(300)));
    let FileSource::Generated { seed, .. } = plan.files()[0].source else { panic!("not generated") };
    assert_eq!(seed, Seed::new(42).derive("file/movie"));
    let client = plan.node(plan.node_named("client").unwrap());
    assert_eq!(client.seed, Seed::new(42).derive("node/client"));
    assert_eq!((client.ready.clone(), client.stop_grace), (Ready::Event, Span::from_secs(5)));
    let Program::Role(Role::Downloader { out, resume, from, .. }) = &client.program else { panic!("no downloader") };
    assert_eq!((out.as_str(), *resume, from.len()), ("download", true, 2));
    let check = plan.node(plan.node_named("check").unwrap());
    let Program::Role(Role::CheckServer { interval, .. }) = &check.program else { panic!("no check server") };
    assert_eq!(*interval, Span::from_millis(500));
}

#[test]
fn a_sender_waits_for_its_receivers_and_has_its_defaults() {
    let transfer = |fields: &str| {
        let plan = load(&format!(
            "name: t\nfiles: {{ movie: {{ size: 1MiB }} }}\nnodes:\n  \
             sender: {{ role: p2mp-sender, to: receiver, file: movie{fields} }}\n  \
             receiver: {{ count: 3, role: p2mp-receiver, p: 5% }}\n"
        ));
        let sender = plan.node(plan.node_named("sender").unwrap());
        assert_eq!(sender.after.len(), 3, "it waits for its receivers");
        let Program::Role(Role::P2mpSender { to, mss, mode, give_up, .. }) = &sender.program else {
            panic!("no sender")
        };
        assert_eq!((to.len(), *give_up), (3, Span::from_secs(30)));
        // Finding out what passes needs no bound.
        assert_eq!(*mss, if fields.contains("fast") { 65_499 } else { 1400 });
        let receiver = plan.node(plan.node_named("receiver-1").unwrap());
        let Program::Role(Role::P2mpReceiver { p, out }) = &receiver.program else { panic!("no receiver") };
        assert_eq!((*p, out.as_str()), ("0.05".parse().unwrap(), "received"));
        mode.clone()
    };
    let waits = |timeout| TransferMode::StopAndWait { timeout };
    assert_eq!(transfer(""), waits(SegmentTimeout::Adaptive));
    assert_eq!(transfer(", timeout: 20ms"), waits(SegmentTimeout::Fixed(Span::from_millis(20))));
    assert_eq!(transfer(", timeout-mode: shared"), waits(SegmentTimeout::Shared(Span::from_secs(1))));
    let fast = TransferMode::Fast { multicast: Some(false), rate: Some(Rate::from_mbit(5)) };
    assert_eq!(transfer(", mode: fast, multicast: false, rate: 5Mbit"), fast);
}

#[test]
fn addresses_are_derived_unique_and_skip_the_written_ones() {
    let plan = load(SET);
    assert_eq!(plan.networks()[0].subnet.to_string(), "10.50.0.0/24");
    let addresses: Vec<String> = plan.nodes().iter().map(|node| node.interfaces[0].address.to_string()).collect();
    assert_eq!(addresses, ["10.50.0.1", "10.50.0.2", "10.50.0.3", "10.50.0.4"]);
    let many = load(
        "name: many\nnetworks: {lan: {subnet: 'fd00:7::/64', mtu: 9000}, wan: }\nnodes:\n  \
         a: {run: [x], networks: {lan: {ip: 'fd00:7::2'}, wan: }}\n  \
         b: {count: 300, run: [x], networks: {lan: , wan: }}\n",
    );
    let wan = &many.networks()[1];
    assert_eq!(wan.subnet.to_string(), "10.50.0.0/23", "sized for 301 nodes");
    let mut seen = std::collections::BTreeSet::new();
    for node in many.nodes() {
        for (index, interface) in node.interfaces.iter().enumerate() {
            assert_eq!(interface.name, format!("eth{index}"));
            assert!(seen.insert(interface.address.to_string()), "{} twice", interface.address);
            assert!(seen.insert(format!("{:?}", interface.mac)), "{:?} twice", interface.mac);
        }
    }
    assert_eq!(many.nodes()[1].interfaces[0].address.to_string(), "fd00:7::1");
    assert_eq!(many.nodes()[2].interfaces[0].address.to_string(), "fd00:7::3");
}

#[test]
fn a_derived_subnet_keeps_clear_of_the_written_ones() {
    let plan =
        load("name: a\nnetworks: {x: , y: {subnet: 10.50.0.0/16}}\nnodes: {n: {run: [x], networks: {x: , y: }}}");
    assert_eq!(plan.networks()[0].subnet.to_string(), "10.51.0.0/24");
}

#[test]
fn a_network_is_relayed_only_for_a_reason() {
    let medium = |rest: &str| {
        let plan = load(&format!("name: m\nnodes: {{a: {{run: [x]}}, b: {{run: [x]}}}}\n{rest}"));
        (plan.networks()[0].medium, plan.networks()[0].why.clone())
    };
    assert_eq!(medium("").0, Medium::Bridge);
    assert_eq!(medium("events: [{at: 1s, kill: a}]").0, Medium::Bridge, "a kill leaves the links alone");
    for (rest, why) in [
        ("shaper: relay", "asks for it"),
        ("events: [{at: 1s, crash: a}]", "crash a"),
        ("events: [{at: 1s, partition: [a, b]}]", "partition a | b"),
        ("events: [{at: 1s, link: a, set: {delay: 1ms}}]", "link a"),
        ("pairs: [{from: a, to: b, link: {loss: 1%}}]", "from `a` to `b`"),
    ] {
        let (found, words) = medium(rest);
        assert_eq!(found, Medium::Relay, "{rest}");
        assert!(words.contains(why), "{rest}: {words}");
    }
    let ports = |count| load(&format!("name: m\nnodes: {{a: {{count: {count}, run: [x]}}}}")).networks()[0].medium;
    assert_eq!((ports(1023), ports(1024)), (Medium::Bridge, Medium::Relay));
}

#[test]
fn triggers_and_actions_are_read() {
    let plan = load(&format!(
        "{SET}events:\n  \
         - {{ when: 'client>=40%', kill: server }}\n  \
         - {{ when: client >= 1MiB, signal: {{ node: client, signal: SIGUSR1 }} }}\n  \
         - {{ after: 10ms, revive: server-1, disk: wipe, optional: true }}\n  \
         - {{ when: 'check prints /all (up|down)/', pause: [server-2, client], for: 1s }}\n"
    ));
    let events = plan.events();
    let server = [plan.node_named("server-1").unwrap(), plan.node_named("server-2").unwrap()];
    let client = plan.node_named("client").unwrap();
    assert_eq!(events[0].when, Trigger::ProgressShare(client, "40%".parse().unwrap()));
    assert_eq!(events[0].action, Action::Kill(server.to_vec()));
    assert_eq!(events[1].action, Action::Signal(vec![client], 10));
    assert_eq!(events[2].action, Action::Revive { nodes: vec![server[0]], wipe: true });
    assert!(events[2].optional && !events[1].optional);
    assert_eq!(events[3].when, Trigger::Prints(plan.node_named("check").unwrap(), "all (up|down)".to_owned()));
    assert_eq!((events[3].lasts, events[3].line), (Some(Span::from_secs(1)), 13));
}

#[test]
fn changes_of_links_lay_only_what_they_name_over_the_rest() {
    let plan = load(&format!(
        "{SET}events:\n  \
         - {{ at: 1s, link: server-1, set: {{ down: {{ loss: 1% }} }} }}\n  \
         - {{ at: 2s, link: server, set: {{ delay: 7ms }}, for: 1s }}\n  \
         - {{ at: 3s, link: server-1, set: {{ up: {{ rate: 1Mbit }} }} }}\n"
    ));
    let profile = |event: usize| match &plan.events()[event].action {
        Action::SetLink { profiles, .. } => profiles[0].2.clone(),
        other => panic!("{other:?}"),
    };
    let (ms, one_percent) = (Span::from_millis, "1%".parse::<Ratio>().unwrap());
    assert_eq!((profile(0).down.loss, profile(0).down.delay, profile(0).up.loss), (one_percent, ms(5), Ratio::ZERO));
    assert_eq!((profile(1).down.loss, profile(1).down.delay, profile(1).up.delay), (one_percent, ms(7), ms(7)));
    // The third lies over the first, which stays, and not over the second, which passes.
    assert_eq!((profile(2).down.loss, profile(2).down.delay), (one_percent, ms(5)));
    assert_eq!(profile(2).up.rate, Some(Rate::from_mbit(1)));

    let server = plan.node_named("server-1").unwrap();
    let ids: Vec<_> = plan.event_ids().collect();
    assert_eq!(plan.link_during(server, 0, []), plan.node(server).interfaces[0].link);
    let both = plan.link_during(server, 0, [ids[2], ids[1]]);
    assert_eq!((both.up.rate, both.up.delay, both.down.loss), (Some(Rate::from_mbit(1)), ms(7), Ratio::ZERO));
    let other = plan.node_named("server-2").unwrap();
    assert_eq!(plan.link_during(other, 0, [ids[0], ids[2]]), plan.node(other).interfaces[0].link);
}

#[test]
fn an_expectation_on_a_group_holds_for_each_member() {
    let plan =
        load(&format!("{SET}expect: {{ server: {{ state: running, prints: [/a/, /b/] }}, client: {{ exit: 0 }} }}"));
    let labels: Vec<&str> = plan.expectations().iter().map(|expectation| expectation.label.as_str()).collect();
    assert_eq!(
        labels,
        [
            "server-1: state running",
            "server-1: prints /a/",
            "server-1: prints /b/",
            "server-2: state running",
            "server-2: prints /a/",
            "server-2: prints /b/",
            "client: exit 0",
        ]
    );
    assert_eq!(plan.expectations()[1].what, Expected::Prints("a".to_owned()));
}

#[test]
fn settings_change_the_file_before_it_is_read() {
    let plan = load_with(
        SET,
        &[
            "server.count=3",
            "nodes.client.resume=false",
            "files.movie.size=1MiB",
            "timeout=30s",
            "links.dsl.down.loss=2%",
        ],
    )
    .unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(plan.nodes().len(), 5);
    assert_eq!(plan.timeout(), Span::from_secs(30));
    assert_eq!(plan.nodes()[0].interfaces[0].link.down.loss, "2%".parse().unwrap());
    assert_eq!(plan.nodes()[0].interfaces[0].link.down.delay, Span::from_millis(5), "the rest stays");
    let seeded = Overrides { seed: Some(Seed::new(9)), ..Overrides::new(Seed::new(1)) };
    assert_eq!(topology::load(&Source::new("s", SET), &seeded).unwrap().seed(), Seed::new(9));
}

#[test]
fn a_wrong_setting_is_named() {
    for (setting, message) in [
        ("nodes.client.resum=false", "did you mean `resume`?"),
        ("server.count=many", "expected a whole number"),
        ("server.count=0", "a count of 0"),
        ("nodes.client.from=sever", "did you mean `server`?"),
        ("timeout.x=1", "`timeout` is not a map"),
        ("events.0.at=[", "did not find expected node"),
        ("a..b=1", "empty part"),
        ("tiemout=3s", "did you mean `timeout`?"),
    ] {
        let set = if setting.starts_with("timeout.") { vec!["timeout=3s", setting] } else { vec![setting] };
        let error = load_with(SET, &set).expect_err(setting).to_string();
        assert!(error.contains(&format!("--> --set {setting}")), "{setting}:\n{error}");
        assert!(error.contains(message) || setting.ends_with('['), "{setting}:\n{error}");
    }
}

#[test]
fn what_is_not_built_is_told_from_what_is_wrong() {
    let later = "nodes.client.place=machine-2";
    let error = load_with(SET, &[later]).unwrap_err();
    assert!(error.is_only_not_yet());
    let both = load_with(&format!("{SET}seeed: 7\n"), &[later]).unwrap_err();
    assert!(!both.is_only_not_yet());
}

#[test]
fn colours_are_only_on_demand() {
    let error = load_with("name: x\n", &[]).unwrap_err();
    assert!(error.render(topology::Colour::Ansi).contains('\x1b'));
    assert!(!error.render(topology::Colour::Plain).contains('\x1b'));
}

/// The bounds of the format: a file at them is read, one beyond them is refused, and neither takes long.
#[test]
fn a_topology_at_the_bounds_is_read() {
    let file = |servers: usize, events: usize| {
        let events = "- { when: client-1 >= 1%, kill: server-1 }\n".repeat(events);
        format!(
            "name: big\nfiles: {{ f: {{ size: 1MiB }} }}\nnodes:\n  \
             server: {{ count: {servers}, role: file-server, file: f }}\n  \
             client: {{ count: 2048, role: downloader, from: server, link: {{ delay: 1ms }} }}\nevents:\n{events}"
        )
    };
    let plan = load(&file(2048, 10_000));
    assert_eq!((plan.nodes().len(), plan.events().len()), (4096, 10_000));
    for (servers, events) in [(2049, 1), (1, 10_001)] {
        let error = load_with(&file(servers, events), &[]).unwrap_err().to_string();
        assert!(error.contains("a topology may have"), "{error}");
    }
}

#[test]
fn a_peer_has_the_published_knobs_and_waits_for_its_tracker() {
    let text = "name: swarm\nfiles: { f: { size: 805975 } }\nnodes:\n  \
                seed: { role: peer, file: f, tracker: tracker }\n  \
                quick: { role: peer, file: f, ports: 0, churn: 0s, pre-delay: 0s, stretch: 200ms, close-random: true }\n  \
                tracker: { role: tracker }\n  \
                leech: { role: p2p-downloader, file: f, tracker: tracker }\nexpect: { leech: { exit: 0, file: f } }\n";
    let plan = load(text);
    let node = |name: &str| plan.node(plan.node_named(name).unwrap());
    assert_eq!(node("seed").after, [plan.node_named("tracker").unwrap()]);
    assert!(node("quick").after.is_empty());
    assert_eq!(node("leech").after, [plan.node_named("tracker").unwrap()]);
    let Program::Role(Role::P2pDownloader { out, resume, .. }) = &node("leech").program else {
        panic!("no downloader")
    };
    assert_eq!((out.as_str(), *resume), ("download", true));
    let Program::Role(Role::Peer { knobs, tracker: Some(_), .. }) = &node("seed").program else { panic!("no peer") };
    assert_eq!((knobs.ports, knobs.churn, knobs.pre_delay), (31, Span::from_secs(30), Span::from_secs(1)));
    assert_eq!((knobs.stretch, knobs.bytes_per_event), (Span::from_millis(10), Size::from_bytes(1000)));
    assert_eq!((knobs.max_connections, knobs.close_random, knobs.idle), (5, false, Span::from_secs(60)));
    let Program::Role(Role::Peer { knobs, tracker: None, .. }) = &node("quick").program else { panic!("no peer") };
    assert_eq!((knobs.ports, knobs.churn, knobs.close_random), (0, Span::ZERO, true));
    let Program::Role(role) = &node("tracker").program else { panic!("no tracker") };
    assert_eq!(*role, Role::Tracker { interval: Span::from_secs(2) });
}

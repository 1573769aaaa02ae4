//! A recorded run is decided again by the model, packet by packet, from its directory alone: with the changes of its links,
//! its partitions, dead nodes and traces at the instants at which the relay had them.

mod support;

use std::path::{Path, PathBuf};

use event::{Changed, Event, Record, run_directory as names};
use serde_json::Value;
use support::{Ended, Place, Run, topology};

/// A download and a transfer over links that do everything, while one of them worsens, another follows another trace, a
/// server dies and comes back, and the other cannot be reached for a while.
const EVERYTHING: &str = r#"
name: replayed
seed: 19
timeout: 60s
files: { movie: { size: 6MiB }, notice: { size: 1MiB } }
links:
  rough:
    up: { rate: 50Mbit, delay: 5ms, loss: 0.5% }
    down: { delay: 5ms, jitter: 2ms, burst: { p: 1%, r: 30% }, reorder: 0.5%, duplicate: 1%, corrupt: 0.5% }
  traced: { up: { delay: 5ms }, down: { trace: line.trace, delay: 5ms } }
pairs:
  - { from: server-1, to: client, link: { delay: 1ms, drop: [7, 40-45] } }
nodes:
  server: { count: 2, role: file-server, file: movie, link: { up: { rate: 30Mbit, delay: 2ms, queue: 30 }, down: { delay: 2ms } } }
  client: { role: downloader, from: server, out: movie, link: rough }
  caller: { role: p2mp-sender, to: listener, file: notice, mode: fast, rate: 20Mbit, link: { delay: 3ms } }
  listener: { count: 2, role: p2mp-receiver, out: notice, link: traced }
events:
  - { when: "client >= 10%", link: client, set: { down: { rate: 20Mbit } }, for: 300ms }
  - { when: "client >= 25%", crash: server-2, for: 300ms }
  - { when: "client >= 60%", partition: [[client], [server-1]], for: 200ms }
  - { when: "listener-1 >= 30%", link: listener-2, set: { down: { trace: slow.trace } }, for: 200ms }
expect:
  client: { exit: 0, file: movie }
  caller: { exit: 0 }
  listener: { exit: 0, file: notice }
"#;

fn record(place: &Place) -> Run {
    let lines = |step: usize| (1..=200).map(|at| format!("{}\n", at * step / 4)).collect::<String>();
    // Four packets a millisecond, with a gap at the end; and half of that.
    place.write("line.trace", &(lines(1) + "90\n"));
    place.write("slow.trace", &lines(2));
    let run = place.run(&place.write("replayed.yaml", EVERYTHING), &["--pcap"]);
    run.expect_status(0);
    run
}

fn replay(place: &Place, run: &Path) -> Ended {
    place.testbed(["replay".as_ref(), run.as_os_str()])
}

/// What `--format json` says of a run that can be replayed.
fn replayed(place: &Place, run: &Path, status: i32) -> Value {
    let ended = place.testbed(["replay".as_ref(), run.as_os_str(), "--format".as_ref(), "json".as_ref()]);
    ended.expect_status(status);
    serde_json::from_str(&ended.stdout()).unwrap_or_else(|error| panic!("{error}\n{}", ended.told()))
}

/// The log and the captures of a run in another folder, the log changed.
fn copied(place: &Place, run: &Run, name: &str, change: impl FnMut(&mut Record)) -> PathBuf {
    let folder = place.path().join(name);
    std::fs::create_dir_all(folder.join(names::PCAP)).expect("a folder can be made");
    for capture in std::fs::read_dir(run.directory.join(names::PCAP)).expect("the captures are there") {
        let capture = capture.expect("an entry");
        let target = folder.join(names::PCAP).join(capture.file_name());
        std::fs::copy(capture.path(), target).expect("a file can be copied");
    }
    let mut records = run.records();
    records.iter_mut().for_each(change);
    let log: String = records.iter().map(|record| record.to_line() + "\n").collect();
    std::fs::write(folder.join(names::EVENTS), log).expect("a file can be written");
    folder
}

#[test]
fn every_packet_of_a_run_in_which_everything_happens_is_decided_again() {
    let place = Place::new();
    let run = record(&place);
    let told = replay(&place, &run.directory);
    told.expect_status(0);
    let table = told.stdout();
    assert!(table.contains("ALIKE replayed: given ") && table.contains("(seed 19)"), "{table}");

    let found = replayed(&place, &run.directory, 0);
    assert_eq!(found["alike"], true);
    let network = &found["networks"][0];
    assert_eq!((network["different"].as_u64(), &network["first-difference"]), (Some(0), &Value::Null));
    // It says something only if everything happened, to links that had been measured before.
    let state = run.state();
    assert!(state.measurements.iter().any(|link| link.sent > 0), "{:#?}", state.measurements);
    let halves = network["halves"].as_array().expect("half links");
    let sum = |name: &str| halves.iter().filter_map(|half| half[name].as_u64()).sum::<u64>();
    for what in ["lost", "queue", "partition", "cut", "duplicated", "corrupted"] {
        assert!(sum(what) > 0, "nothing was {what}\n{table}");
    }
    assert_eq!(sum("decided"), sum("alike"));
    assert!(network["packets"].as_u64() > Some(5000), "{table}");
    let changes: Vec<Changed> = run
        .records()
        .into_iter()
        .filter_map(|record| if let Event::LinksChanged(change) = record.event { Some(change.change) } else { None })
        .collect();
    let happened = |is: fn(&Changed) -> bool| changes.iter().filter(|change| is(change)).count();
    assert_eq!(happened(|change| matches!(change, Changed::TracesBegan)), 1);
    // On a starved machine a run may end before the `for:` of an entry does.
    if run.kept_up() {
        assert_eq!(happened(|change| matches!(change, Changed::Link { .. })), 4, "two, and their ends: {changes:#?}");
        for is in [
            |change: &Changed| matches!(change, Changed::Partitioned { .. }),
            |change: &Changed| matches!(change, Changed::Healed { .. }),
            |change: &Changed| matches!(change, Changed::Cut { .. }),
            |change: &Changed| matches!(change, Changed::Restored { .. }),
        ] {
            assert_eq!(happened(is), 1, "{changes:#?}");
        }
    }
    // The counters of the run are a third account. They were read before the recording ended, with more under way.
    for count in state.links {
        let is_it = |half: &&Value| half["node"] == *count.node && half["half"] == direction(count.direction);
        let half = halves.iter().find(is_it).expect("every half link is replayed");
        assert!(half["offered"].as_u64() >= Some(count.offered), "{half} {count:?}");
        assert!(half["offered"].as_u64() <= Some(count.offered + 200), "{half} {count:?}");
    }
}

fn direction(direction: event::Direction) -> &'static str {
    match direction {
        event::Direction::Up => "up",
        event::Direction::Down => "down",
        event::Direction::Between => "pair",
    }
}

/// What the log says is what decides: the seed, the instant of every change, what every link was.
#[test]
fn a_log_that_was_changed_is_found_out_with_the_first_packet() {
    let place = Place::new();
    let run = record(&place);
    let seed = copied(&place, &run, "seed", |record| {
        if let Event::RunBegan { seed, .. } = &mut record.event {
            *seed = machine::Seed::new(20);
        }
    });
    let told = replay(&place, &seed);
    told.expect_status(1);
    for words in ["DIFFERENT replayed: of ", "first difference: packet ", "the run:", "the model:"] {
        assert!(told.stdout().contains(words), "{}", told.told());
    }
    // A nanosecond of delay on one half link is seen there, and by those behind it.
    let link = copied(&place, &run, "link", |record| {
        if let Event::RecordingBegan(links) = &mut record.event {
            links.networks[0].ports[0].link.up.delay += machine::Span::from_nanos(1);
        }
    });
    let found = replayed(&place, &link, 1);
    let first = &found["networks"][0]["first-difference"];
    assert!(first["from"] == "server-1" || first["to"] == "client", "{found:#}");
    // Without the crash all passes that it cut off.
    let cut = |found: &Value| -> u64 {
        let halves = found["networks"][0]["halves"].as_array().expect("half links");
        halves.iter().filter_map(|half| half["cut"].as_u64()).sum()
    };
    let was_cut = cut(&replayed(&place, &run.directory, 0));
    let mut crash = None;
    let unharmed = copied(&place, &run, "unharmed", |record| {
        if let Event::LinksChanged(change) = &record.event
            && matches!(change.change, Changed::Cut { .. })
        {
            crash = Some(change.relay_ns);
            record.event = Event::AllStarted;
        }
    });
    let found = replayed(&place, &unharmed, 1);
    let network = &found["networks"][0];
    assert!(was_cut > 0 && network["different"].as_u64() >= Some(was_cut), "{was_cut}: {found:#}");
    assert_eq!(cut(&found), 0, "{found:#}");
    // Whoever was behind them in a queue leaves later, too; but nobody who was sent long before.
    let first = &network["first-difference"];
    assert!(first["sent-ns"].as_u64() >= crash.map(|at| at - 1_000_000_000), "{first} {crash:?}");
}

#[test]
fn what_cannot_be_replayed_says_why() {
    let place = Place::new();
    let run = record(&place);
    let refused = |run: &Path, words: &str| {
        let told = replay(&place, run);
        told.expect_status(2);
        assert!(told.stderr().contains(words), "no `{words}` in {}", told.told());
    };
    refused(&place.path().join("nowhere"), "cannot read");
    let foreign = place.path().join("foreign");
    std::fs::create_dir(&foreign).expect("a folder can be made");
    refused(&foreign, "cannot read");
    std::fs::write(foreign.join(names::EVENTS), "not a log\n{}\n").expect("a file can be written");
    refused(&foreign, "foreign cannot be replayed: it holds no run");

    let short = copied(&place, &run, "short", |_| ());
    let capture = names::capture(&short, "client", "eth0");
    let length = std::fs::metadata(&capture).expect("it is there").len();
    let file = std::fs::OpenOptions::new().write(true).open(&capture).expect("it can be written");
    file.set_len(length / 2).expect("it can be cut");
    refused(&short, "cannot use the capture of client's eth0: it is cut short: it ends after ");
    std::fs::write(&capture, [0x5a; 4096]).expect("it can be written");
    refused(&short, "cannot use the capture of client's eth0: it is no pcapng file");
    std::fs::copy(names::capture(&short, "server-1", "eth0"), &capture).expect("a file can be copied");
    refused(&short, "are not of one recording: packet ");
    std::fs::remove_file(&capture).expect("it can be removed");
    refused(&short, "cannot open the capture of client's eth0: No such file");

    // A run that was killed has no end in its log.
    let killed = copied(&place, &run, "killed", |record| {
        if matches!(record.event, Event::PacketsRecorded(_)) {
            record.event = Event::AllStarted;
        }
    });
    refused(&killed, "its recording has no end: the run was killed or cut short");

    let quiet =
        "name: quiet\nnodes: { one: { run: [\"true\"] }, two: { run: [\"true\"] } }\nexpect: { one: { exit: 0 } }\n";
    let quiet = place.run_text("quiet", quiet);
    quiet.expect_status(0);
    refused(&quiet.directory, "its packets were not recorded; `testbed run ");
}

/// Three networks behind two routers, one of which dies: every network is replayed by itself.
#[test]
fn a_routed_network_is_replayed_network_by_network() {
    let place = Place::new();
    let run = place.run(&topology("two-sites.yaml"), &["--pcap"]);
    run.expect_status(0);
    let found = replayed(&place, &run.directory, 0);
    let names: Vec<&str> =
        found["networks"].as_array().expect("networks").iter().filter_map(|one| one["name"].as_str()).collect();
    assert_eq!(names, ["east", "wan", "west"]);
    for network in found["networks"].as_array().expect("networks") {
        assert!(network["packets"].as_u64() > Some(1000) && network["different"] == 0, "{network:#}");
    }
}

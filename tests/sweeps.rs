//! Sweeps: every point is run as often as it says, measured, compared with theory and left for programs to read.

#![allow(clippy::unwrap_used, reason = "in a test a panic is the report")]

mod support;

use serde_json::Value;
use support::{Place, topology};

/// Two points of stop-and-wait, small enough for any test.
const PAIR: &str = "name: pair
seed: 3
files: { data: { size: 200kB } }
links: { lan: { delay: 1ms } }
nodes:
  sender: { role: p2mp-sender, to: receiver, file: data, mss: 1000, timeout: 40ms, link: lan }
  receiver: { count: 2, role: p2mp-receiver, p: 5%, out: data, link: lan }
sweep: { receiver.count: [1, 2] }
repeat: 3
expect:
  sender: { exit: 0 }
  receiver: { exit: 0, file: data }
";

/// What `--format json` printed.
fn json(ended: &support::Ended) -> Value {
    serde_json::from_str(&ended.stdout()).unwrap_or_else(|error| panic!("{error}\n{}", ended.told()))
}

/// The files that a sweep has left, by name.
fn left(place: &Place, name: &str) -> Vec<String> {
    let runs = std::fs::read_dir(place.path().join("runs").join(name)).unwrap();
    let folder = runs.map(|entry| entry.unwrap().path()).find(|path| path.to_string_lossy().ends_with("-sweep"));
    let files = std::fs::read_dir(folder.expect("a sweep leaves a folder")).unwrap();
    let mut names: Vec<_> = files.map(|file| file.unwrap().file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

#[test]
fn a_sweep_in_virtual_time_is_measured_compared_and_kept() {
    let place = Place::new();
    place.write("pair.yaml", PAIR);
    let ended = place.testbed(["sweep", "pair.yaml", "--engine", "sim"]);
    ended.expect_status(0);
    let table = ended.stdout();
    for words in ["receiver.count", "time per segment", "formula", "PASS pair: 6 of 6 runs passed (seed 3)"] {
        assert!(table.contains(words), "no {words}\n{table}");
    }
    assert_eq!(left(&place, "pair"), ["sweep.csv", "sweep.json", "time-per-segment.svg", "total-time.svg"]);
}

#[test]
fn a_run_of_a_sweep_is_repeated_alone_by_its_command() {
    let place = Place::new();
    place.write("pair.yaml", PAIR);
    let ended = place.testbed(["sweep", "pair.yaml", "--engine", "sim", "--format", "json"]);
    ended.expect_status(0);
    let sweep = json(&ended);
    let run = &sweep["points"][1]["runs"][2];
    let words: Vec<String> = run["repeat"].as_str().unwrap().split(' ').skip(1).map(str::to_owned).collect();
    assert_eq!(words[..2], ["run", "pair.yaml"]);
    let again = place.testbed(words.iter().map(String::as_str).chain(["--format", "json"]));
    again.expect_status(0);
    let seconds = run["seconds"].as_f64().unwrap();
    let told = again.stdout().lines().map(|line| serde_json::from_str(line).unwrap()).find_map(|record: Value| {
        (record["report"]["kind"] == "transferred").then(|| record["report"]["seconds"].as_f64().unwrap())
    });
    assert_eq!(told, Some(seconds), "{}", again.told());
}

#[test]
fn settings_narrow_a_sweep_and_repetitions_are_as_asked() {
    let place = Place::new();
    place.write("pair.yaml", PAIR);
    let words =
        ["sweep", "pair.yaml", "--engine", "sim", "--set", "receiver.count=2", "--repeat", "2", "--format", "json"];
    let ended = place.testbed(words);
    ended.expect_status(0);
    let sweep = json(&ended);
    assert_eq!(sweep["points"].as_array().unwrap().len(), 1);
    assert_eq!(sweep["points"][0]["runs"].as_array().unwrap().len(), 2);
    let command = sweep["repeat"].as_str().unwrap();
    assert_eq!(command, "testbed sweep pair.yaml --seed 3 --set receiver.count=2 --engine sim --repeat 2");
}

#[test]
fn what_is_wrong_with_any_point_is_told_before_anything_runs() {
    let place = Place::new();
    place.write("pair.yaml", &PAIR.replace("[1, 2]", "[1, many]"));
    let ended = place.testbed(["sweep", "pair.yaml", "--engine", "sim"]);
    ended.expect_status(2);
    assert!(ended.stderr().contains("pair.yaml:8:30"), "{}", ended.told());
    assert!(!place.path().join("runs").exists());
}

#[test]
fn a_point_that_fails_is_named_with_the_command_that_repeats_it() {
    let place = Place::new();
    place.write("pair.yaml", &PAIR.replace("sender: { exit: 0 }", "sender: { exit: 0, within: 1500ms }"));
    let ended = place.testbed(["sweep", "pair.yaml", "--engine", "sim", "--set", "sender.timeout=200ms"]);
    ended.expect_status(1);
    let said = ended.stdout();
    assert!(said.contains("FAIL receiver.count=2: sender: within 1500ms"), "{}", ended.told());
    assert!(said.contains("  repeat: testbed run pair.yaml --seed "), "{}", ended.told());
}

#[test]
fn any_program_can_be_swept() {
    let place = Place::new();
    place.write(
        "naps.yaml",
        "name: naps
nodes:
  one: { run: [sleep, \"1\"] }
sweep: { one.run.1: [0.1, 2] }
expect: { one: { exit: 0 } }
",
    );
    let Some(ended) = place.testbed_passes(["sweep", "naps.yaml", "--format", "json"]) else { return };
    let sweep = json(&ended);
    // A nap begins before the clock does, on a busy machine much before: only when all have started it is t = 0.
    for (point, least) in [0.0, 0.5].into_iter().enumerate() {
        let seconds = sweep["points"][point]["total-time"]["mean"].as_f64().unwrap();
        assert!(seconds >= least, "{seconds} s for naps of 0.1 and 2 s");
    }
    assert_eq!(sweep["points"][0]["prediction"], Value::Null);
    assert!(left(&place, "naps").contains(&"total-time.svg".to_owned()));
    assert!(!left(&place, "naps").contains(&"time-per-segment.svg".to_owned()), "a nap has no segments");
}

/// What each point's packets did is in the directory of its run, and can be decided again there.
#[test]
fn the_runs_of_a_sweep_are_recorded_one_by_one() {
    let place = Place::new();
    place.write("pair.yaml", PAIR);
    let words = ["sweep", "pair.yaml", "--pcap", "--repeat", "1", "--format", "json"];
    let Some(ended) = place.testbed_passes(words) else { return };
    let sweep = json(&ended);
    assert!(sweep["repeat"].as_str().unwrap().ends_with(" --repeat 1 --pcap"), "{}", sweep["repeat"]);
    for (receivers, point) in (1..).zip(sweep["points"].as_array().unwrap()) {
        let run = &point["runs"][0];
        assert!(run["repeat"].as_str().unwrap().ends_with(" --pcap"), "{run}");
        let directory = run["directory"].as_str().unwrap();
        let captures = std::fs::read_dir(place.path().join(directory).join("pcap")).unwrap().count();
        assert_eq!(captures, 1 + receivers, "{directory}");
        let replayed = place.testbed(["replay", directory]);
        replayed.expect_status(0);
        assert!(replayed.stdout().contains("ALIKE pair"), "{}", replayed.told());
    }
    // In virtual time packets have no bytes.
    let ended = place.testbed(["sweep", "pair.yaml", "--pcap", "--engine", "sim"]);
    ended.expect_status(3);
    assert!(ended.stderr().contains("`--pcap` has nothing to record"), "{}", ended.told());
}

#[test]
fn a_topology_without_a_sweep_says_what_runs_it() {
    let place = Place::new();
    let ended = place.testbed(["sweep".as_ref(), topology("failover.yaml").as_os_str()]);
    ended.expect_status(2);
    assert!(ended.stderr().contains("testbed run"), "{}", ended.told());
}

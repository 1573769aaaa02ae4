//! `testbed bench link` tells what it measures, and what it measures of the relay is what the model in virtual time has.

mod support;

use std::collections::BTreeMap;

use machine::Seed;
use serde_json::Value;
use sim::agreement::{Figure, Kind, Model, rows};
use support::agreement::assert_agreement;
use support::{Ended, Place};

/// Of the relay's draws in the bench.
const SEED: Seed = Seed::new(7);

fn bench(place: &Place, words: &str) -> Ended {
    let ended = place.testbed(["bench", "link"].into_iter().chain(words.split_whitespace()));
    ended.expect_status(0);
    ended
}

fn json(ended: &Ended) -> Value {
    serde_json::from_str(&ended.stdout()).unwrap_or_else(|error| panic!("{error}\n{}", ended.told()))
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("{value} is no number"))
}

/// The relay gives what the model has: shares within five standard deviations, delays and rates beside them where this
/// machine kept up. What it lost, doubled and damaged is more than alike: with the same seed it is the same.
#[test]
fn the_relay_agrees_with_the_model() {
    let place = Place::new();
    let found = json(&bench(&place, "--only agreement --format json"));
    let table = rows();
    let names: Vec<&str> = table.iter().map(|row| row.name).collect();
    assert_agreement(&found["agreement"]["relay"], &names);

    let model = Model::of(&table).unwrap();
    let measured = found["agreement"]["relay"].as_array().unwrap();
    let mut compared = 0;
    for (row, measured) in table.iter().zip(measured) {
        // Draws go by ordinal. The later attempts at a row have the same seed; a packet that the machine lost shifts nothing.
        if row.kind == Kind::Queue || measured["own-losses"] != 0 {
            continue;
        }
        let decided = model.figures(row, SEED);
        for figure in [Figure::Lost, Figure::Copies, Figure::Corrupted] {
            let found = number(&measured["figures"][figure.name()]["found"]);
            assert_eq!(found, decided.get(figure), "{}: {}\n{measured:#}", row.name, figure.name());
        }
        compared += 1;
    }
    assert!(compared > 0, "this machine lost packets in every row: {measured:#?}");
}

/// The other parts have the shape that is promised; how fast a machine is proves nothing.
#[test]
fn the_bench_tells_what_it_measures() {
    let place = Place::new();
    let parts = "--only throughput --only changes --only load --only capture";
    let quick = "--time 0.2 --rounds 1 --changes 5 --links 3";
    let found = json(&bench(&place, &format!("{parts} {quick} --format json")));
    assert!(found.get("agreement").is_none());
    assert!(found["machine"]["kernel"].is_string() && number(&found["machine"]["cpus"]) >= 1.0);

    let mut flows = BTreeMap::new();
    for row in found["throughput"].as_array().unwrap() {
        let over = row["over"].as_str().unwrap().to_owned();
        assert!(number(&row["gbit-per-second"]) > 0.0 && number(&row["cpu-us-per-packet"]) > 0.0, "{row:#}");
        flows.insert((over, row["offload"].as_bool().unwrap()), number(&row["of-bridge"]));
    }
    for flow in [("bridge", true), ("bridge", false), ("relay", true), ("relay", false), ("relay, no delay", true)] {
        assert!(flows.contains_key(&(flow.0.to_owned(), flow.1)), "{flow:?} is not in {flows:?}");
    }
    assert_eq!(flows[&("bridge".to_owned(), true)], 1.0);

    let changes = &found["changes"]["relay"];
    assert_eq!(number(&changes["late-ms"]["count"]), 5.0);
    assert!(number(&changes["late-ms"]["p50"]) <= number(&changes["late-ms"]["max"]));
    // A packet that was sent clear of a change took at least as long as the link of that time has it.
    assert_eq!(number(&changes["contradicting"]), 0.0, "{changes:#}");
    assert!(number(&changes["packets"]) > 0.0);

    let load = &found["load"]["relay"];
    assert_eq!((number(&load["links"]), number(&load["sent"]) as u64 % 3), (3.0, 0));
    // A sender that was held up may have sent faster than the line for a moment.
    let lost: f64 = ["own-losses", "unseen", "queue-drops"].map(|name| number(&load[name])).iter().sum();
    assert!(number(&load["arrived"]) + lost >= number(&load["sent"]), "nothing else is lost: {load:#}");
    // No packet is early. (The clocks of the sender and of the kernel are two.)
    assert!(number(&load["delay-error-ms"]["p50"]) > -0.1 || lost > 0.0, "{load:#}");
    assert!(number(&load["relay-cpu-us-per-packet"]) > 0.0);

    for part in ["flows", "load"] {
        let rows = found["capture"][part].as_array().unwrap();
        assert!(rows.iter().any(|row| row["recorded"] == true) && rows.iter().any(|row| row["recorded"] == false));
        for row in rows {
            let unrecorded = number(&row["unrecorded"]);
            assert!((0.0..1.0).contains(&unrecorded), "something is in the files: {row:#}");
            assert!(row["recorded"] == true || unrecorded == 0.0, "{row:#}");
        }
    }
}

#[test]
fn the_bench_has_a_table_for_people_and_refuses_rows_that_are_not_there() {
    let place = Place::new();
    let ended = bench(&place, "--only agreement --row delay-1ms --row rate-100mbit --seeds 4");
    let said = ended.stdout();
    for words in ["relay against the model", "delay-1ms", "rate-100mbit", "p99 ms", "Mbit/s"] {
        assert!(said.contains(words), "`{words}` is not in\n{said}");
    }
    assert!(!said.contains("loss-20"), "{said}");
    let ended = place.testbed(["bench", "link", "--row", "loss-21"]);
    ended.expect_status(2);
    assert!(ended.stderr().contains("there is no row `loss-21`; there are delay-1ms, "), "{}", ended.told());
    assert!(place.entries().is_empty(), "the bench leaves nothing");
}

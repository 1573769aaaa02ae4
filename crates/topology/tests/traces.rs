//! Traces of links: read beside the topology, bounded, and wrong ones told with their line.
#![allow(clippy::unwrap_used, reason = "in a test a panic is the report")]

use std::path::Path;

use machine::{Seed, Size, Span};
use topology::plan::FileSource;
use topology::{Colour, Overrides, Plan, Source};

fn load(text: &str, read: fn(&Path, Size) -> Result<Vec<u8>, String>) -> Result<Plan, String> {
    let source = Source::new("test.yaml", text).with_files("there", read);
    topology::load(&source, &Overrides::new(Seed::new(1))).map_err(|wrong| wrong.render(Colour::Plain))
}

const PHONE: &str =
    "name: t\nnodes: {phone: {run: [sleep, 1], link: {down: {trace: a/b.trace}}}, tower: {run: [sleep, 1]}}\n";

/// The committed trace, by its formula: `40 + 400 · |t mod 4000 − 2000| / 2000` packets a second, none from 2.5 to 2.9 s.
/// A millisecond adds its part of a packet to what is owed, and an opportunity is where that is a whole one. With `UPDATE`
/// in the environment it is written.
#[test]
fn the_cellular_trace_is_made_by_its_formula() {
    const PACKET: u64 = 2_000_000;
    let (mut owed, mut made) = (0, String::new());
    for t in (1..=4000u64).filter(|t| !(2500..2900).contains(t)) {
        owed += 80_000 + 400 * (t % 4000).abs_diff(2000);
        if owed >= PACKET {
            owed -= PACKET;
            made.push_str(&format!("{t}\n"));
        }
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../topologies/traces/cellular.trace");
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, &made).unwrap();
    }
    assert_eq!(std::fs::read_to_string(&path).unwrap(), made);
}

#[test]
fn a_trace_is_part_of_the_plan_and_ends_where_a_rate_begins() {
    let events = "events:\n  - {at: 1s, link: phone, set: {down: {rate: 1Mbit}}, for: 1s}\n  - {at: 5s, link: tower, set: {trace: c, queue: 9}}\n";
    let plan = load(&format!("{PHONE}{events}"), |path, _| match path.to_str() {
        Some("there/a/b.trace") => Ok(b"5\n10\n".to_vec()),
        Some("there/c") => Ok(b"1\n".to_vec()),
        _ => Err(path.display().to_string()),
    })
    .unwrap();
    let (phone, tower) = (plan.node_named("phone").unwrap(), plan.node_named("tower").unwrap());
    let ids: Vec<_> = plan.event_ids().collect();
    let trace =
        |profile: &link::Profile| profile.down.trace.as_ref().map(|trace| (trace.name().to_owned(), trace.length()));
    assert_eq!(trace(&plan.node(phone).interfaces[0].link), Some(("a/b.trace".to_owned(), Span::from_millis(10))));
    assert_eq!(trace(&plan.link_during(phone, 0, [ids[0]])), None);
    assert_eq!(trace(&plan.link_during(tower, 0, [ids[1]])), Some(("c".to_owned(), Span::from_millis(1))));
    assert!(plan.to_yaml().contains("trace: a/b.trace"), "{}", plan.to_yaml());
}

/// What a topology names is beside it, wherever it is run from.
#[test]
fn files_of_the_user_are_in_the_folder_of_the_topology() {
    let text = "name: t\nfiles: {near: {path: a/b}, far: {path: /c}}\nnodes: {n: {run: [sleep, 1]}}\n";
    let plan = load(text, |_, _| Err(String::new())).unwrap();
    let sources: Vec<_> = plan.files().iter().map(|file| file.source.clone()).collect();
    assert_eq!(sources, ["there/a/b", "/c"].map(|path| FileSource::Existing(path.into())));
}

#[test]
fn a_trace_that_cannot_be_read_is_told_where_it_is_named() {
    for (read, why) in [
        (
            (|_, _| Err("No such file".to_owned())) as fn(&Path, Size) -> _,
            "cannot read the trace `a/b.trace`: No such file",
        ),
        (|_, most| Ok(vec![b'1'; most.as_bytes() as usize + 1]), "the trace `a/b.trace` has more than 8MiB"),
    ] {
        let message = load(PHONE, read).unwrap_err();
        assert!(message.contains(why) && message.contains("test.yaml:2:"), "{message}");
    }
    let without = topology::load(&Source::new("test.yaml", PHONE), &Overrides::new(Seed::new(1))).unwrap_err();
    assert!(without.to_string().contains("given without files"), "{without}");
}

#[test]
fn what_is_wrong_in_a_trace_is_told_with_its_line() {
    for (read, why, place) in [
        ((|_, _| Ok(Vec::new())) as fn(&Path, Size) -> _, "one line at least", "a/b.trace"),
        (|_, _| Ok(b"3\n7 8\n".to_vec()), "a number of milliseconds", "a/b.trace:2:1"),
        (|_, _| Ok(b"3\n\xff\x1b[31m\n".to_vec()), "a number of milliseconds", "a/b.trace:2:1"),
        (|_, _| Ok(b"3\n2\n".to_vec()), "2 ms comes after 3 ms", "a/b.trace:2:1"),
        (|_, _| Ok(b"0\n".to_vec()), "ends at 0 ms", "a/b.trace:1:1"),
    ] {
        let message = load(PHONE, read).unwrap_err();
        assert!(message.contains(why) && message.contains(place), "{message}");
        assert!(!message.contains('\x1b'), "{message:?}");
    }
}

#[test]
fn the_number_of_traces_is_bounded() {
    let nodes: String = (0..65).map(|k| format!("  n{k}: {{run: [sleep, 1], link: {{trace: t{k}}}}}\n")).collect();
    let message = load(&format!("name: t\nnodes:\n{nodes}"), |_, _| Ok(b"1\n".to_vec())).unwrap_err();
    assert!(message.contains("more than 64 different traces"), "{message}");
}

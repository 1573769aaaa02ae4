//! Every report made from whole logs. What changes in the snapshots changes for users.
#![allow(clippy::unwrap_used, reason = "in a test it is an assertion")]

use std::io::{self, Write};
use std::sync::{Arc, Mutex};

use event::{
    Direction, Discards, LinkCount, LinkMeasurement, MeasuredOutcome, NetworkInfo, Record, RunState, Verdict,
    run_directory,
};
use machine::{Rate, Span};
use quick_xml::events::Event as Xml;
use report::{LiveView, Output};

const PASS: &str = include_str!("logs/pass.jsonl");
/// Every text that a program or a file could put into this log is an attack on whoever prints it.
const FAIL: &str = include_str!("logs/fail.jsonl");

/// What a writer got.
#[derive(Clone, Default)]
struct Paper(Arc<Mutex<Vec<u8>>>);

impl Write for Paper {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn live(log: &str, output: Output) -> String {
    let paper = Paper::default();
    let mut view = LiveView::to_writer(output, Box::new(paper.clone())).unwrap();
    let mut state = RunState::default();
    for line in log.lines() {
        let record = Record::from_line(line).unwrap();
        state.apply(&record);
        view.observe(&record, &state);
    }
    view.finish();
    let bytes = paper.0.lock().unwrap().clone();
    String::from_utf8(bytes).unwrap()
}

fn state(log: &str) -> RunState {
    let state = RunState::from_log(log);
    assert!(state.verdict.is_some(), "the log is read to its end");
    state
}

/// Fails unless `xml` is well-formed, and counts its elements called `name`.
fn elements(xml: &str, name: &str) -> usize {
    let mut reader = quick_xml::Reader::from_str(xml);
    reader.config_mut().check_end_names = true;
    let mut depth = 0;
    let mut found = 0;
    loop {
        let event = reader.read_event().expect("well-formed");
        if let Xml::Start(tag) | Xml::Empty(tag) = &event {
            found += usize::from(tag.name().as_ref() == name);
            for attribute in tag.attributes() {
                attribute.expect("well-formed");
            }
        }
        match event {
            Xml::Start(_) => depth += 1,
            Xml::End(_) => depth -= 1,
            Xml::Eof => break,
            _ => {}
        }
    }
    assert_eq!(depth, 0, "every element is closed");
    // XML 1.0, production 2: the characters that may stand in a document.
    assert!(
        xml.chars()
            .all(|c| matches!(c, '\t' | '\n' | '\r' | ' '..='\u{d7ff}' | '\u{e000}'..='\u{fffd}' | '\u{10000}'..))
    );
    found
}

#[test]
fn a_passed_run() {
    let state = state(PASS);
    insta::assert_snapshot!("table", report::table(&state, false));
    insta::assert_snapshot!("markdown", report::markdown(&state));
    insta::assert_snapshot!("junit", report::junit(&state));
    insta::assert_snapshot!("result", format!("{:#}", report::result_json(&state)));
    assert_eq!(elements(&report::junit(&state), "testcase"), 4);
}

#[test]
fn a_passed_run_while_it_runs() {
    insta::assert_snapshot!("plain", live(PASS, Output::Plain));
}

#[test]
fn records_pass_through_as_they_are() {
    let shown = live(PASS, Output::Records);
    assert_eq!(shown.lines().count(), PASS.lines().count());
    assert_eq!(RunState::from_log(&shown), RunState::from_log(PASS));
}

#[test]
fn a_failed_run_full_of_hostile_texts() {
    let state = state(FAIL);
    let junit = report::junit(&state);
    insta::assert_snapshot!("hostile-table", report::table(&state, false));
    insta::assert_snapshot!("hostile-markdown", report::markdown(&state));
    insta::assert_snapshot!("hostile-junit", junit);
    insta::assert_snapshot!("hostile-plain", live(FAIL, Output::Plain));
    assert_eq!((elements(&junit, "failure"), elements(&junit, "skipped")), (3, 1));
    for text in [report::table(&state, false), report::markdown(&state), junit, live(FAIL, Output::Plain)] {
        assert!(text.chars().all(|c| c == '\n' || !c.is_control()), "a control character got through");
        assert!(!text.contains('\u{202e}'), "a bidirectional override got through");
    }
}

#[test]
fn an_invalid_run_blames_no_program() {
    let mut state = state(FAIL);
    state.verdict = Some(Verdict::Invalid);
    state.causes = vec!["the relay was starved for 12 % of the run".into()];
    let junit = report::junit(&state);
    assert_eq!((elements(&junit, "failure"), elements(&junit, "error"), elements(&junit, "skipped")), (0, 1, 3));
    assert_eq!(report::verdict_line(&state), "INVALID fail: the relay was starved for 12 % of the run");
}

#[test]
fn several_runs_are_suites_of_one_document() {
    let document = report::junit_of_all(&[state(PASS), state(FAIL)]);
    assert_eq!((elements(&document, "testsuite"), elements(&document, "testcase")), (2, 8));
    assert!(document.contains(r#"<testsuites name="testbed" tests="8" failures="3" errors="0" time="6.215">"#));
    assert_eq!(elements(&report::junit_of_all(&[]), "testsuite"), 0);
}

#[test]
fn what_is_left_out_is_never_what_failed() {
    let mut state = state(FAIL);
    let failed = state.expectations.remove(0);
    let held = event::ExpectationState { held: Some(true), ..failed.clone() };
    state.expectations = (0..500).map(|_| held.clone()).chain([failed]).collect();
    state.causes = (0..500).map(|n| format!("cause {n}")).collect();
    for text in [report::table(&state, false), report::markdown(&state)] {
        assert!(text.contains("FAILED") && text.contains("and 453 more rows") && text.contains("and 479 more causes"));
        assert!(text.lines().count() < 150, "a summary stays one");
    }
    assert_eq!(elements(&report::junit(&state), "testcase"), 502, "a file for programs has all of it");
}

#[test]
fn packets_are_accounted_for_down_to_the_program_and_what_is_not_counted_is_said() {
    let mut state = state(PASS);
    let client = state.nodes.iter_mut().find(|node| node.name == "client").unwrap();
    client.discards = Some(Discards { arrived: 1400, discarded: 70 });
    let check = state.nodes.iter_mut().find(|node| node.name == "check").unwrap();
    check.discards = Some(Discards { arrived: 10, discarded: 3 });
    let network = |name: &str, medium: &str| NetworkInfo {
        name: name.into(),
        subnet: "10.51.0.0/24".into(),
        medium: medium.into(),
        why: String::new(),
    };
    state.networks.extend([network("lan", "bridge"), network("wan", "netem")]);
    let kernel = LinkCount { by_kernel: true, network: "wan".into(), ..state.links[0].clone() };
    let told = LinkCount { lost: 0, queue: 0, lost_or_queue: kernel.lost + kernel.queue, ..kernel };
    let wrong = LinkCount { network: "<wan>\n".into(), delivered: 1, duplicated: 1, ..told.clone() };
    state.links.extend([told, wrong]);
    insta::assert_snapshot!("links-table", report::table(&state, false));
    insta::assert_snapshot!("links-markdown", report::markdown(&state));
    let result = report::result_json(&state);
    let links = result["links"].as_array().unwrap();
    assert_eq!(links.iter().filter(|link| link["adds_up"] == false).count(), 1);
    assert_eq!(links.iter().filter(|link| link["program"]["discarded"] == 70).count(), 1);
}

#[test]
fn links_stand_beside_what_was_measured_of_them() {
    let mut state = state(PASS);
    let within = LinkMeasurement {
        node: "server-1".into(),
        network: "net".into(),
        direction: Direction::Up,
        outcome: MeasuredOutcome::Within,
        delay: Span::from_millis(5),
        delay_measured: Some(Span::from_micros(5012)),
        delay_tolerance: Span::from_millis(1),
        rate: Some(Rate::from_mbit(50)),
        rate_measured: Some(Rate::from_bits_per_sec(49_912_345)),
        rate_tolerance: Some(0.05),
        loss: 0.01,
        loss_measured: None,
        loss_interval: None,
        sent: 42,
        arrived: 42,
        attempts: 1,
        unmeasured: vec![],
        deviations: vec![],
    };
    let traced = LinkMeasurement {
        direction: Direction::Down,
        rate: None,
        rate_measured: None,
        unmeasured: vec!["rate: it follows a trace".into()],
        ..within.clone()
    };
    let outside = LinkMeasurement {
        node: "server-2".into(),
        outcome: MeasuredOutcome::Outside,
        rate_measured: Some(Rate::from_mbit(20)),
        deviations: vec!["rate configured 50 Mbit/s, measured 20 Mbit/s (tolerance 5 %)".into()],
        loss_measured: Some(0.012),
        loss_interval: Some((0.008, 0.02)),
        ..within.clone()
    };
    let pair = LinkMeasurement { node: "check -> client".into(), direction: Direction::Between, ..within.clone() };
    let starved = LinkMeasurement { outcome: MeasuredOutcome::Starved, delay_measured: None, ..outside.clone() };
    state.measurements = vec![within, traced, outside, pair, starved];
    insta::assert_snapshot!("measured-table", report::table(&state, false));
    insta::assert_snapshot!("measured-markdown", report::markdown(&state));
}

#[test]
fn a_log_that_ends_early_has_no_verdict() {
    let log: String = PASS.lines().take(20).map(|line| format!("{line}\n")).collect();
    let state = RunState::from_log(&log);
    assert!(report::verdict_line(&state).starts_with("NO VERDICT failover"));
    assert_eq!(elements(&report::junit(&state), "error"), 1);
    assert_eq!(report::result_json(&state)["verdict"], serde_json::Value::Null);
}

#[test]
fn colours_change_nothing_else() {
    let state = state(PASS);
    let coloured = report::table(&state, true);
    assert!(coloured.contains("\x1b["));
    assert_eq!(console::strip_ansi_codes(&coloured), report::table(&state, false));
}

#[test]
fn all_files_appear_under_their_names() {
    let directory = tempfile::tempdir().unwrap();
    let state = state(PASS);
    report::write_all(&state, directory.path()).unwrap();
    let read = |name| std::fs::read_to_string(directory.path().join(name)).unwrap();
    assert_eq!(read(run_directory::JUNIT), report::junit(&state));
    assert_eq!(read(run_directory::SUMMARY), report::markdown(&state));
    let result: serde_json::Value = serde_json::from_str(&read(run_directory::RESULT)).unwrap();
    assert_eq!(result, report::result_json(&state));
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 3, "no draft is left");

    let error = report::write_all(&state, &directory.path().join("missing")).unwrap_err();
    assert!(error.to_string().contains("missing/result.json"), "{error}");
}

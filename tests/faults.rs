//! Every fault does what its name says, seen from inside the nodes.

mod support;

use event::{EndCause, Event, ExitStatus, NodePhase};
use support::{Place, Run};

/// A node that prints a line every 20 ms. The run is over when `end` has come.
fn ticking(events: &str, end: &str, expect: &str) -> String {
    format!(
        r#"
name: ticking
seed: 1
timeout: 60s
nodes:
  ticker:
    run: ["sh", "-c", "trap 'echo terminated; exit 7' TERM; trap 'echo hung up' HUP; n=0; while :; do n=$((n+1)); echo tick $n; sleep 0.02; done"]
    ready: {{ log: "/tick 1$/" }}
    stop-grace: 5s
  waiter:
    run: ["sh", "-c", "trap 'exit 0' TERM; echo waiting; while :; do sleep 0.02; done"]
    ready: {{ log: "/waiting/" }}
events:
{events}
  - {{ {end}, signal: {{ node: waiter, signal: TERM }} }}
expect:
  waiter: {{ exit: 0 }}
{expect}
"#
    )
}

/// When the program has gone on for a while, be it in a second life.
const A_WHILE_LATER: &str = r#"when: "ticker prints /tick 100$/""#;

fn run(events: &str, end: &str, expect: &str) -> Run {
    let place = Place::new();
    let run = place.run_text("ticking", &ticking(events, end, expect));
    run.expect_status(0);
    // The place goes, so what is asked of the run must be read before: the log is.
    Box::leak(Box::new(place));
    run
}

fn exit_of(run: &Run, node: &str, of: u32) -> (ExitStatus, EndCause) {
    let mut exits = run.records().into_iter().rev().filter_map(|record| match record.event {
        Event::NodeExited { node: name, incarnation, status, cause } if name == node && incarnation == of => {
            Some((status, cause))
        }
        _ => None,
    });
    exits.next().unwrap_or_else(|| panic!("{node} never exited\n{}", run.ended.told()))
}

#[test]
fn kill_is_signal_9_and_revive_starts_the_program_again_on_the_same_disk() {
    let run = run(
        r#"
  - { when: "ticker prints /tick 5$/", kill: ticker }
  - { after: 100ms, revive: ticker }
"#,
        A_WHILE_LATER,
        "  ticker: { state: running }",
    );
    assert_eq!(exit_of(&run, "ticker", 1), (ExitStatus::Signal(9), EndCause::Fault));
    assert!(run.stdout_of("ticker").matches("tick 1\n").count() == 2, "{}", run.stdout_of("ticker"));
}

#[test]
fn stop_is_a_term_that_the_program_can_answer() {
    let run = run(
        r#"
  - { when: "ticker prints /tick 5$/", stop: ticker }
"#,
        "after: 100ms",
        "  ticker: { state: killed, prints: /terminated/ }",
    );
    assert_eq!(exit_of(&run, "ticker", 1), (ExitStatus::Code(7), EndCause::Fault));
}

#[test]
fn restart_ends_and_starts() {
    let run = run(
        r#"
  - { when: "ticker prints /tick 5$/", restart: ticker }
"#,
        A_WHILE_LATER,
        "  ticker: { state: running, prints: /terminated/ }",
    );
    assert_eq!(run.state().node("ticker").unwrap().incarnation, 2);
}

#[test]
fn a_signal_reaches_the_program_and_changes_nothing_else() {
    let run = run(
        r#"
  - { when: "ticker prints /tick 5$/", signal: { node: ticker, signal: HUP } }
"#,
        A_WHILE_LATER,
        "  ticker: { state: running, prints: /hung up/ }",
    );
    assert_eq!(run.state().node("ticker").unwrap().incarnation, 1);
}

#[test]
fn pause_freezes_and_its_end_thaws() {
    let run = run(
        r#"
  - { when: "ticker prints /tick 5$/", pause: ticker, for: 500ms }
"#,
        A_WHILE_LATER,
        "  ticker: { state: running }",
    );
    let paused = run.position("the pause", |event| matches!(event, Event::NodePaused { .. }));
    let resumed = run.position("the thaw", |event| matches!(event, Event::NodeResumed { .. }));
    assert!(paused < resumed);
    let state = run.state();
    assert_eq!(state.node("ticker").unwrap().phase, NodePhase::Stopped, "it ran to the end of the run");
}

#[test]
fn a_fault_on_a_node_that_does_not_run_is_a_failure_and_not_a_silent_nothing() {
    let place = Place::new();
    let events = r#"
  - { when: "ticker prints /tick 5$/", kill: ticker }
  - { after: 200ms, kill: ticker }
"#;
    let run = place.run_text("ticking", &ticking(events, "after: 100ms", ""));
    run.expect_status(1);
    let causes = run.state().causes;
    assert!(causes.iter().any(|cause| cause.contains("could not be carried out")), "{causes:?}");
}

#[test]
fn an_event_that_never_fires_is_a_failure_unless_optional() {
    for (optional, status) in [("", 1), (", optional: true", 0)] {
        let place = Place::new();
        let events = format!("  - {{ at: 50s, kill: ticker{optional} }}");
        let end = r#"when: "ticker prints /tick 20$/""#;
        place.run_text("ticking", &ticking(&events, end, "")).expect_status(status);
    }
}

/// `pinger` pings `target` sixty times, every 50 ms. This happens to it for a second, when a third of them was answered.
fn pinging(event: &str) -> String {
    format!(
        r#"
name: pinging
seed: 1
timeout: 30s
shaper: relay
nodes:
  target: {{ run: ["sleep", "60"] }}
  pinger:
    run: ["sh", "-c", "ping -n -D -i 0.05 -W 1 -c 60 target"]
    after: [target]
events:
  - {{ when: "pinger prints /icmp_seq=20 /", {event}, for: 1s }}
expect:
  pinger: {{ exit: 0 }}
"#
    )
}

fn answers(run: &Run) -> Vec<u32> {
    let said = run.stdout_of("pinger");
    let sequence = |line: &str| line.split("icmp_seq=").nth(1)?.split(' ').next()?.parse().ok();
    said.lines().filter(|line| line.contains("bytes from")).filter_map(sequence).collect()
}

fn ping_is_missing() -> bool {
    if support::has_program("ping") {
        return false;
    }
    support::skip("ping is not installed");
    true
}

#[test]
fn a_partition_stops_packets_and_its_end_lets_them_pass_again() {
    if ping_is_missing() {
        return;
    }
    let place = Place::new();
    let run = place.run_text("pinging", &pinging("partition: [[pinger], [target]]"));
    run.expect_status(0);
    let answers = answers(&run);
    assert!(answers.first() == Some(&1) && answers.last() == Some(&60), "both ends get through: {answers:?}");
    assert!(answers.len() < 60, "about twenty of sixty were to be lost");
    let dropped: u64 = run.state().links.iter().map(|link| link.partition).sum();
    assert!(dropped > 0, "drops by a partition are counted");
}

#[test]
fn a_crash_lets_nothing_out_and_a_revival_mends_the_links() {
    if ping_is_missing() {
        return;
    }
    let place = Place::new();
    let run = place.run_text("pinging", &pinging("crash: target"));
    run.expect_status(0);
    let answers = answers(&run);
    assert!(answers.first() == Some(&1) && answers.last() == Some(&60), "both ends get through: {answers:?}");
    assert!(answers.len() < 60, "a dead machine does not answer, though its kernel lives");
}

#[test]
fn a_killed_program_leaves_its_machine_alive() {
    if ping_is_missing() {
        return;
    }
    let place = Place::new();
    let run = place.run_text("pinging", &pinging("kill: target"));
    run.expect_status(0);
    assert_eq!(answers(&run).len(), 60, "a kill ends the program alone: the kernel goes on answering");
}

#[test]
fn a_link_change_is_felt_and_undone() {
    if ping_is_missing() {
        return;
    }
    let place = Place::new();
    let run = place.run_text("pinging", &pinging("link: target, set: { down: { delay: 200ms } }"));
    run.expect_status(0);
    let said = run.stdout_of("pinger");
    let times: Vec<f64> =
        said.lines().filter_map(|line| line.split("time=").nth(1)?.split(' ').next()?.parse().ok()).collect();
    let is_slow = |time: &&f64| **time >= 200.0;
    let slow = times.iter().filter(is_slow).count();
    assert!(slow > 0, "about twenty of sixty are delayed by 200 ms: {times:?}");
    if !run.kept_up() {
        return;
    }
    // The machine may stall once, and not for ten pings.
    let (before, after) = (&times[..10], &times[times.len() - 10..]);
    assert!([before, after].iter().all(|part| part.iter().filter(is_slow).count() < 10), "{times:?}");
    assert!(slow <= 40, "about twenty of sixty are delayed by 200 ms: {times:?}");
}

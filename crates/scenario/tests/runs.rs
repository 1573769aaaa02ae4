//! Whole runs against an engine that is a few lines: it obeys, and does what the test tells it.

use std::collections::{BTreeMap, VecDeque};

use event::{Event, ExitStatus, NodeReport, Record, Verdict};
use machine::{Machine, Seed, Span, Time};
use proptest::prelude::*;
use scenario::{About, FileFinding, Input, Measurements, Output, Scenario};
use topology::plan::{NodeId, Ready};
use topology::{Overrides, Plan, Source};

fn plan(text: &str) -> Plan {
    let source = Source::new("test.yaml", text);
    topology::load(&source, &Overrides::new(Seed::new(1))).unwrap_or_else(|wrong| panic!("{wrong:?}"))
}

/// What an engine does with commands: programs start at once and end when they are told.
struct Engine {
    scenario: Scenario,
    now: Time,
    running: BTreeMap<NodeId, bool>,
    commands: Vec<String>,
    log: Vec<Event>,
    /// What a file comparison finds.
    finding: FileFinding,
    /// Programs answer TERM.
    obedient: bool,
    invalid: Option<String>,
    verdict: Option<Verdict>,
    causes: Vec<String>,
}

impl Engine {
    fn new(text: &str) -> Self {
        let about = About {
            file: "test.yaml".into(),
            engine: "test".into(),
            version: "0".into(),
            unix_ms: 0,
            repeat: "testbed run test.yaml".into(),
        };
        let mut engine = Engine {
            scenario: Scenario::new(plan(text), about, Time::ZERO),
            now: Time::ZERO,
            running: BTreeMap::new(),
            commands: Vec::new(),
            log: Vec::new(),
            finding: FileFinding::Identical { bytes: 100 },
            obedient: true,
            invalid: None,
            verdict: None,
            causes: Vec::new(),
        };
        engine.tell(Input::Raised { took: Span::ZERO });
        engine
    }

    fn id(&self, name: &str) -> NodeId {
        self.scenario.plan().node_named(name).unwrap_or_else(|| panic!("no node {name}"))
    }

    fn tell(&mut self, input: Input) {
        let mut inputs = VecDeque::from([input]);
        while let Some(input) = inputs.pop_front() {
            self.scenario.handle(self.now, input);
            self.obey(&mut inputs);
        }
    }

    fn obey(&mut self, inputs: &mut VecDeque<Input>) {
        while let Some(output) = self.scenario.poll() {
            assert!(self.verdict.is_none(), "something after the end: {output:?}");
            match output {
                Output::Record(Record { event, .. }) => {
                    if let Event::RunEnded { causes, .. } = &event {
                        self.causes.clone_from(causes);
                    }
                    self.log.push(event);
                }
                Output::Calibrate => panic!("nobody asked for it"),
                Output::Start { node, incarnation } => {
                    assert_ne!(self.running.get(&node), Some(&true), "started while it runs");
                    self.running.insert(node, true);
                    self.note("start", node);
                    assert!(incarnation > 0);
                    inputs.push_back(Input::Started { node });
                    // What is found in the output the scenario finds itself.
                    if !matches!(self.scenario.plan().node(node).ready, Ready::Log(_)) {
                        inputs.push_back(Input::Ready { node });
                    }
                }
                Output::Kill { node } => {
                    self.note("kill", node);
                    self.end(node, ExitStatus::Signal(9), inputs);
                }
                Output::Stop { node, .. } => {
                    self.note("stop", node);
                    let status = if self.obedient { ExitStatus::Code(0) } else { ExitStatus::Signal(9) };
                    self.end(node, status, inputs);
                }
                Output::CompareFile { expectation, .. } => {
                    inputs.push_back(Input::FileCompared { expectation, finding: self.finding.clone() });
                }
                Output::Settle => {
                    for node in self.scenario.alive() {
                        self.end(node, ExitStatus::Signal(9), inputs);
                    }
                    let invalidities = self.invalid.iter().cloned().collect();
                    inputs.push_back(Input::Measured(Measurements { invalidities, ..Measurements::default() }));
                }
                Output::Finished(verdict) => self.verdict = Some(verdict),
                Output::Signal { node, .. } => self.note("signal", node),
                Output::Pause { node } => self.note("pause", node),
                Output::Resume { node } => self.note("resume", node),
                Output::Wipe { node } => self.note("wipe", node),
                Output::PurgeSockets { node } => self.note("purge", node),
                Output::Cut { node } => self.note("cut", node),
                Output::Restore { node } => self.note("restore", node),
                Output::SetLink { node, profile, .. } => {
                    let name = self.scenario.plan().node(node).name.clone();
                    self.commands.push(format!("link {name} up {}", profile.up.delay));
                }
                Output::Partition { key, .. } => self.commands.push(format!("partition {key}")),
                Output::Heal { key } => self.commands.push(format!("heal {key}")),
            }
        }
    }

    fn note(&mut self, what: &str, node: NodeId) {
        self.commands.push(format!("{what} {}", self.scenario.plan().node(node).name));
    }

    fn end(&mut self, node: NodeId, status: ExitStatus, inputs: &mut VecDeque<Input>) {
        if self.running.insert(node, false) == Some(true) {
            inputs.push_back(Input::Exited { node, status });
        }
    }

    fn exits(&mut self, name: &str, code: i32) {
        let node = self.id(name);
        self.running.insert(node, false);
        self.tell(Input::Exited { node, status: ExitStatus::Code(code) });
    }

    fn progresses(&mut self, name: &str, bytes: u64, received: u64) {
        let node = self.id(name);
        self.tell(Input::Reported { node, report: NodeReport::Progress { bytes, total: 100, received } });
    }

    fn prints(&mut self, name: &str, line: &str) {
        let node = self.id(name);
        assert!(self.scenario.follows(node), "its output is needed, so it must be asked for");
        self.tell(Input::Printed { node, line: line.to_owned() });
    }

    /// Lets time pass, deadline by deadline.
    fn pass(&mut self, span: Span) {
        let until = self.now + span;
        while let Some((at, _)) = self.scenario.deadline().filter(|(at, _)| *at <= until) {
            self.now = self.now.max(at);
            self.scenario.advance(self.now);
            let mut inputs = VecDeque::new();
            self.obey(&mut inputs);
            while let Some(input) = inputs.pop_front() {
                self.scenario.handle(self.now, input);
                self.obey(&mut inputs);
            }
        }
        self.now = until;
    }

    fn commands(&self) -> Vec<&str> {
        self.commands.iter().map(String::as_str).collect()
    }

    fn since(&mut self, from: usize) -> Vec<&str> {
        self.commands().split_off(from)
    }
}

const SET: &str = r#"
name: set
seed: 1
timeout: 60s
files: { movie: { size: 100 } }
nodes:
  server: { count: 2, role: file-server, file: movie, link: { delay: 5ms } }
  client: { role: downloader, from: server, out: movie }
"#;

fn set(rest: &str) -> Engine {
    Engine::new(&format!("{SET}{rest}"))
}

#[test]
fn nodes_start_when_what_they_refer_to_is_ready() {
    let engine = set("expect: { client: { exit: 0 } }\n");
    assert_eq!(engine.commands(), ["start server-1", "start server-2", "start client"]);
    assert!(engine.log.iter().any(|event| matches!(event, Event::AllStarted)));
}

#[test]
fn a_trigger_fires_at_its_share_and_once() {
    let mut engine =
        set("events: [{ when: \"client >= 40%\", kill: server-2, optional: true }]\nexpect: { client: { exit: 0 } }\n");
    let from = engine.commands.len();
    engine.progresses("client", 39, 39);
    assert!(engine.since(from).is_empty());
    engine.progresses("client", 40, 40);
    engine.progresses("client", 41, 41);
    assert_eq!(engine.since(from), ["kill server-2"]);
}

#[test]
fn a_crash_cuts_first_and_a_revival_mends_before_it_starts() {
    let mut engine = set("events: [{ at: 1s, crash: server-1, for: 2s }]\nexpect: { client: { exit: 0 } }\n");
    let from = engine.commands.len();
    engine.pass(Span::from_secs(1));
    assert_eq!(engine.since(from), ["cut server-1", "kill server-1", "purge server-1"]);
    engine.pass(Span::from_secs(2));
    assert_eq!(engine.since(from + 3), ["restore server-1", "start server-1"]);
    engine.exits("client", 0);
    assert_eq!(engine.verdict, Some(Verdict::Pass));
}

#[test]
fn a_revival_with_a_wipe_empties_the_disk_first() {
    let mut engine = set(
        "events:\n  - { at: 1s, kill: client }\n  - { after: 1s, revive: client, disk: wipe }\nexpect: { client: { exit: 0 } }\n",
    );
    let from = engine.commands.len();
    engine.pass(Span::from_secs(2));
    assert_eq!(engine.since(from), ["kill client", "wipe client", "start client"]);
    assert_eq!(engine.verdict, None, "a killed client that is to come back is not awaited in vain");
    engine.exits("client", 0);
    assert_eq!(engine.verdict, Some(Verdict::Pass));
}

#[test]
fn received_bytes_of_all_incarnations_count_as_wasted() {
    for (second, verdict) in [(60, Verdict::Pass), (100, Verdict::Fail)] {
        let mut engine = set(
            "events: [{ when: \"client >= 50%\", kill: client, for: 1s }]\nexpect: { client: { exit: 0, wasted: \"< 20%\" } }\n",
        );
        engine.progresses("client", 50, 55);
        engine.pass(Span::from_secs(1));
        engine.progresses("client", 100, second);
        engine.exits("client", 0);
        assert_eq!(engine.verdict, Some(verdict), "{:?}", engine.causes);
    }
}

#[test]
fn overlapping_link_changes_are_undone_one_by_one() {
    let mut engine = set(
        "events:\n  - { at: 1s, link: server-1, set: { up: { delay: 50ms } }, for: 2s }\n  - { at: 2s, link: server-1, set: { up: { delay: 90ms } }, for: 2s }\nexpect: { client: { exit: 0 } }\n",
    );
    let from = engine.commands.len();
    engine.pass(Span::from_secs(10));
    let delays = engine.since(from);
    assert_eq!(delays.len(), 4, "{delays:?}");
    assert_eq!(delays[0], "link server-1 up 50ms");
    assert_eq!(delays[1], "link server-1 up 90ms");
    assert_eq!(delays[2], "link server-1 up 90ms", "the first is over, the second is not");
    assert_eq!(delays[3], "link server-1 up 5ms", "both are over");
}

#[test]
fn what_cannot_be_carried_out_is_a_failure() {
    let mut engine = set("events: [{ at: 1s, revive: server-1 }]\nexpect: { client: { exit: 0 } }\n");
    engine.pass(Span::from_secs(1));
    engine.exits("client", 0);
    assert_eq!(engine.verdict, Some(Verdict::Fail));
    assert!(engine.causes[0].contains("could not be carried out"), "{:?}", engine.causes);
}

#[test]
fn a_wrong_file_fails_and_says_where() {
    let mut engine = set("expect: { client: { exit: 0, file: movie } }\n");
    engine.finding = FileFinding::Differs { at: 42 };
    engine.exits("client", 0);
    assert_eq!(engine.verdict, Some(Verdict::Fail));
    assert!(engine.causes[0].contains("differs at byte 42"), "{:?}", engine.causes);
}

#[test]
fn invalid_outranks_fail_and_keeps_its_causes() {
    let mut engine = set("expect: { client: { exit: 0 } }\n");
    engine.invalid = Some("starved".into());
    engine.exits("client", 1);
    assert_eq!(engine.verdict, Some(Verdict::Invalid));
    assert_eq!(engine.causes[0], "starved");
    assert!(engine.causes[1].contains("exit 0"), "{:?}", engine.causes);
}

#[test]
fn the_timeout_ends_a_run_and_names_who_was_awaited() {
    let mut engine = set("expect: { client: { exit: 0 } }\n");
    engine.progresses("client", 30, 30);
    engine.pass(Span::from_secs(60));
    assert_eq!(engine.verdict, Some(Verdict::Fail));
    assert!(engine.causes[0].contains("client is still running at 30 %"), "{:?}", engine.causes);
}

#[test]
fn a_server_that_dies_before_it_is_ready_ends_the_run_at_once() {
    let text = "name: t\nseed: 1\nnodes:\n  a: { run: [x], ready: { log: /up/ } }\n  b: { run: [y], after: [a] }\nexpect: { b: { exit: 0 } }\n";
    let mut engine = Engine::new(text);
    engine.exits("a", 3);
    assert_eq!(engine.verdict, Some(Verdict::Fail));
    assert!(engine.causes[0].contains("a: exit 3 before it was ready"), "{:?}", engine.causes);
    assert_eq!(engine.commands(), ["start a"], "what depends on it was never started");
}

#[test]
fn lines_make_ready_and_fire_and_are_expected() {
    let text = "name: t\nseed: 1\nnodes:\n  a: { run: [x], ready: { log: /^up/ } }\n  b: { run: [y] }\nevents: [{ when: \"a prints /now/\", kill: b }]\nexpect:\n  a: { prints: /bye/, never-prints: /panic/, exit: 0 }\n  b: { state: killed }\n";
    let mut engine = Engine::new(text);
    engine.prints("a", "up and running");
    engine.prints("a", "now");
    engine.prints("a", "bye");
    engine.exits("a", 0);
    assert_eq!(engine.verdict, Some(Verdict::Pass), "{:?}", engine.causes);
}

#[test]
fn a_line_that_is_printed_while_others_still_start_fires_when_they_have() {
    let text = "name: t\nseed: 1\nnodes:\n  a: { run: [x], ready: { log: /^up/ } }\n  b: { run: [y], after: [a] }\nevents: [{ when: \"a prints /now/\", kill: b }]\nexpect:\n  b: { state: killed }\n";
    let mut engine = Engine::new(text);
    engine.prints("a", "now");
    assert_eq!(engine.commands(), ["start a"], "b cannot be killed before it was started");
    engine.prints("a", "up");
    assert_eq!(engine.commands()[1..3], ["start b", "kill b"]);
    assert_eq!(engine.verdict, Some(Verdict::Pass), "{:?}", engine.causes);
}

#[test]
fn an_interrupted_run_stops_its_programs_and_checks_nothing() {
    let mut engine = set("expect: { client: { exit: 0 } }\n");
    let from = engine.commands.len();
    engine.tell(Input::Interrupted { signal: "SIGINT".into() });
    assert_eq!(engine.since(from), ["stop server-1", "stop server-2", "stop client"]);
    assert_eq!(engine.verdict, Some(Verdict::Interrupted));
    assert!(!engine.log.iter().any(|event| matches!(event, Event::ExpectationChecked { .. })));
}

#[test]
fn a_kill_that_is_the_last_to_happen_is_waited_for() {
    let mut engine = set("events: [{ at: 1s, kill: server-1 }]\nexpect: { server-1: { state: killed } }\n");
    engine.pass(Span::from_secs(2));
    assert_eq!(engine.verdict, Some(Verdict::Pass), "{:?}", engine.causes);
}

#[test]
fn a_run_without_awaited_exits_ends_when_nothing_is_left_to_happen() {
    let mut engine = set("events: [{ at: 1s, pause: server-1, for: 1s }]\nexpect: { server-1: { state: running } }\n");
    engine.pass(Span::from_millis(1999));
    assert_eq!(engine.verdict, None);
    engine.pass(Span::from_millis(1));
    assert_eq!(engine.verdict, Some(Verdict::Pass), "{:?}", engine.causes);
}

#[test]
fn a_node_that_reports_without_end_does_not_fill_the_log() {
    let mut engine = set("expect: { client: { exit: 0 } }\n");
    let node = engine.id("client");
    for _ in 0..20_000 {
        let report = NodeReport::from_line(r#"{"kind":"noise"}"#).expect("a report");
        engine.tell(Input::Reported { node, report });
    }
    engine.exits("client", 0);
    let logged = engine.log.iter().filter(|event| matches!(event, Event::NodeReported { .. })).count();
    let left_out: u64 = engine
        .log
        .iter()
        .filter_map(|event| match event {
            Event::ReportsLeftOut { count, .. } => Some(*count),
            _ => None,
        })
        .sum();
    assert!(logged <= 5000, "{logged} were logged");
    assert_eq!(logged as u64 + left_out, 20_000, "what was left out is told");
}

#[derive(Clone, Debug)]
enum Happening {
    Passes(u64),
    Progresses(u64),
    Exits(usize, i32),
    Prints(String),
    Interrupts,
}

fn happening() -> impl Strategy<Value = Happening> {
    prop_oneof![
        6 => (0..3000u64).prop_map(Happening::Passes),
        6 => (0..=100u64).prop_map(Happening::Progresses),
        2 => (0..3usize, 0..2i32).prop_map(|(node, code)| Happening::Exits(node, code)),
        1 => "[a-z]{1,4}".prop_map(Happening::Prints),
        1 => Just(Happening::Interrupts),
    ]
}

proptest! {
    /// Whatever programs do, a run ends with one verdict, and PASS means that every expectation was checked and held.
    #[test]
    fn every_run_ends_with_one_verdict(happenings in proptest::collection::vec(happening(), 0..40), obedient: bool) {
        let mut engine = set(
            "events:\n  - { when: \"client >= 20%\", kill: server-2, for: 700ms }\n  - { after: 100ms, pause: server-1, for: 300ms }\n  - { at: 2s, crash: client, for: 1s, optional: true }\n  - { when: \"client >= 80%\", restart: server-1, optional: true }\n  - { at: 4s, partition: [[client], [server-1]], for: 1s, optional: true }\nexpect:\n  client: { exit: 0, within: 30s, file: movie }\n  server-1: { state: running }\n",
        );
        engine.obedient = obedient;
        for happening in happenings {
            if engine.verdict.is_some() {
                break;
            }
            match happening {
                Happening::Passes(millis) => engine.pass(Span::from_millis(millis)),
                Happening::Progresses(bytes) => engine.progresses("client", bytes, bytes),
                Happening::Exits(node, code) => {
                    let name = ["client", "server-1", "server-2"][node];
                    if engine.running.get(&engine.id(name)) == Some(&true) {
                        engine.exits(name, code);
                    }
                }
                Happening::Prints(line) => {
                    let node = engine.id("client");
                    engine.tell(Input::Printed { node, line });
                }
                Happening::Interrupts => engine.tell(Input::Interrupted { signal: "SIGTERM".into() }),
            }
        }
        if engine.verdict.is_none() {
            engine.pass(Span::from_secs(61));
        }
        let verdict = engine.verdict.expect("a run ends at its timeout at the latest");
        let ended = engine.log.iter().filter(|event| matches!(event, Event::RunEnded { .. })).count();
        prop_assert_eq!(ended, 1);
        let held: Vec<bool> = engine
            .log
            .iter()
            .filter_map(|event| match event {
                Event::ExpectationChecked { held, .. } => Some(*held),
                _ => None,
            })
            .collect();
        if verdict == Verdict::Pass {
            prop_assert_eq!(held, vec![true; 4]);
        } else {
            prop_assert!(!engine.causes.is_empty(), "anything but PASS has a cause");
        }
    }
}

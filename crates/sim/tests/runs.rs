//! Topologies in virtual time: what theory says of them, what faults do to them, and that a seed repeats them.
#![allow(clippy::unwrap_used, reason = "in a test a panic is the report")]

use std::path::Path;

use event::{Direction, Event, NodeReport, Record, RunState, Transferred, Verdict};
use machine::Seed;
use scenario::About;
use sim::{Audience, Roles};
use topology::plan::NodeId;
use topology::{Overrides, Plan, Source};

/// All that a run tells.
#[derive(Default)]
struct Told {
    records: Vec<Record>,
    lines: Vec<(NodeId, String)>,
}

impl Audience for Told {
    fn record(&mut self, record: &Record) {
        self.records.push(record.clone());
    }

    fn printed(&mut self, node: NodeId, line: &str) {
        self.lines.push((node, line.to_owned()));
    }
}

impl Told {
    fn state(&self) -> RunState {
        let mut state = RunState::default();
        self.records.iter().for_each(|record| state.apply(record));
        state
    }

    #[track_caller]
    fn transferred(&self) -> Transferred {
        let mut found = self.records.iter().filter_map(|record| match &record.event {
            Event::NodeReported { report: NodeReport::Transferred(transferred), .. } => Some(transferred.clone()),
            _ => None,
        });
        found.next().unwrap_or_else(|| panic!("no transfer ended: {:?}", self.state().causes))
    }
}

fn run(plan: &Plan) -> Result<Told, sim::RunError> {
    let mut told = Told::default();
    let about = About {
        file: "t.yaml".into(),
        engine: "sim".into(),
        version: "0".into(),
        unix_ms: 0,
        repeat: "testbed run t.yaml".into(),
    };
    sim::run(plan, about, &mut Roles, &mut told).map(|_verdict| told)
}

#[track_caller]
fn run_text(text: &str) -> Told {
    let plan = topology::load(&Source::new("t.yaml", text), &Overrides::new(Seed::new(7)));
    run(&plan.unwrap_or_else(|error| panic!("{error}"))).unwrap()
}

#[track_caller]
fn passes(told: &Told) {
    let state = told.state();
    assert_eq!(state.verdict, Some(Verdict::Pass), "{:?}", state.causes);
}

fn source(name: &str) -> Source {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../topologies");
    let text = std::fs::read(folder.join(name)).unwrap();
    let beside = |path: &Path, _| std::fs::read(path).map_err(|error| error.to_string());
    Source::from_bytes(name, &text).unwrap().with_files(folder, beside)
}

const THREE: &str = "name: three
files: { data: { size: 100kB } }
links: { lan: { delay: 1ms } }
nodes:
  sender: { role: p2mp-sender, to: receiver, file: data, mss: 1000, timeout: 50ms, give-up: 2s, link: lan }
  receiver: { count: 3, role: p2mp-receiver, p: 5%, out: data, link: lan }
";

const ALL_WELL: &str = "expect: { sender: { exit: 0 }, receiver: { exit: 0, file: data } }\n";

#[test]
fn everybody_gets_the_file() {
    let told = run_text(&format!("{THREE}{ALL_WELL}"));
    passes(&told);
    let transferred = told.transferred();
    assert_eq!((transferred.segments, transferred.bytes), (100, 100_000));
    assert!(transferred.receivers.iter().all(|receiver| receiver.complete));
    // Each loss is told by its receiver and costs one transmission more.
    let losses = told.lines.iter().filter(|(_, line)| line.starts_with("Packet loss, sequence number = ")).count();
    let again: u64 = transferred.receivers.iter().map(|receiver| receiver.retransmissions).sum();
    assert_eq!(again, losses as u64);
}

#[test]
fn a_seed_repeats_a_run_to_the_nanosecond() {
    let (first, second) = (run_text(&format!("{THREE}{ALL_WELL}")), run_text(&format!("{THREE}{ALL_WELL}")));
    assert_eq!(first.records, second.records);
    let other = run_text(&format!("seed: 8\n{THREE}{ALL_WELL}"));
    assert_ne!(first.transferred().seconds, other.transferred().seconds);
}

#[test]
fn datagrams_weigh_what_they_weigh_on_ethernet() {
    let told = run_text(
        "name: one
files: { data: { size: 1000B } }
nodes:
  sender: { role: p2mp-sender, to: receiver, file: data, mss: 1000, timeout: 1s }
  receiver: { role: p2mp-receiver, out: data }
expect: { sender: { exit: 0 } }
",
    );
    let sent = told.records.iter().find_map(|record| match &record.event {
        Event::LinkCounted(count) if count.node == "sender" && count.direction == Direction::Up => Some(count.clone()),
        _ => None,
    });
    // Ethernet 14, IPv4 20, UDP 8, segment 8; once with the data, once for the end.
    let sent = sent.unwrap();
    assert_eq!((sent.offered, sent.offered_bytes), (2, 1050 + 50));
}

#[test]
fn a_segment_beyond_the_mtu_goes_in_fragments_that_are_lost_one_by_one() {
    let told = run_text(
        "name: large
files: { data: { size: 6MB } }
nodes:
  sender: { role: p2mp-sender, to: receiver, file: data, mss: 6000, timeout: 50ms }
  receiver: { role: p2mp-receiver, out: data, link: { down: { loss: 2%, delay: 1ms } } }
expect: { sender: { exit: 0 }, receiver: { file: data } }
",
    );
    passes(&told);
    // 6016 bytes of UDP are five fragments of at most 1480: a share of 1 - 0.98^5 = 9.6 % of the segments is lost.
    let again = told.transferred().receivers[0].retransmissions as f64;
    let (mean, deviation) = (1000.0 * (1.0 / 0.98_f64.powi(5) - 1.0), 11.0);
    assert!((again - mean).abs() < 4.0 * deviation, "{again} retransmissions instead of {mean:.0}");
}

/// What the estimator is for: five receivers, a loss of 5 %, on a network whose round trip is far below a second.
#[test]
fn adapting_is_twenty_times_faster_than_the_fixed_second() {
    let seconds = |timeout: &str| {
        let told = run_text(&format!(
            "name: five
files: {{ data: {{ size: 100kB }} }}
links: {{ lan: {{ delay: 100us }} }}
nodes:
  sender: {{ role: p2mp-sender, to: receiver, file: data, mss: 500, {timeout} link: lan }}
  receiver: {{ count: 5, role: p2mp-receiver, p: 5%, out: data, link: lan }}
{ALL_WELL}"
        ));
        passes(&told);
        told.transferred().seconds
    };
    let (adaptive, fixed) = (seconds(""), seconds("timeout: 1s,"));
    println!("{adaptive} s instead of {fixed} s");
    assert!(adaptive * 20.0 < fixed, "{adaptive} s; the fixed second takes {fixed} s");
}

#[test]
fn a_receiver_that_is_killed_is_given_up_and_the_rest_goes_on() {
    for fault in ["kill", "crash"] {
        let told = run_text(&format!(
            "{THREE}events: [{{ when: \"receiver-2 >= 40kB\", {fault}: receiver-2 }}]
expect: {{ sender: {{ exit: 1 }}, receiver-1: {{ exit: 0, file: data }}, receiver-3: {{ file: data }}, receiver-2: {{ state: killed }} }}
"
        ));
        passes(&told);
        let complete: Vec<_> = told.transferred().receivers.iter().map(|receiver| receiver.complete).collect();
        assert_eq!(complete, [true, false, true], "{fault}");
    }
}

#[test]
fn a_classic_receiver_that_comes_back_does_not_have_the_beginning() {
    let told = run_text(&format!(
        "{THREE}events:
  - {{ when: \"receiver-2 >= 40kB\", kill: receiver-2 }}
  - {{ after: 100ms, revive: receiver-2 }}
expect: {{ sender: {{ exit: 1 }}, receiver-1: {{ file: data }} }}
"
    ));
    passes(&told);
}

#[test]
fn a_pause_a_partition_and_a_worse_link_delay_and_no_more() {
    let quiet = run_text(&format!("{THREE}{ALL_WELL}")).transferred().seconds;
    for event in [
        "{ at: 100ms, pause: receiver-1, for: 700ms }",
        "{ at: 100ms, pause: sender, for: 700ms }",
        "{ at: 100ms, partition: [[sender], [receiver-3]], for: 700ms }",
        "{ at: 100ms, link: receiver-2, set: { down: { loss: 90% } }, for: 700ms }",
    ] {
        let told = run_text(&format!("{THREE}events: [{event}]\n{ALL_WELL}"));
        passes(&told);
        let seconds = told.transferred().seconds;
        assert!(seconds > quiet + 0.3 && seconds < quiet + 1.5, "{event}: {seconds} s instead of {quiet} s");
    }
}

#[test]
fn who_never_answers_does_not_hold_the_run() {
    let told = run_text(&format!("{THREE}timeout: 1s\n{ALL_WELL}").replace("p: 5%", "p: 99.9%"));
    let state = told.state();
    assert_eq!(state.verdict, Some(Verdict::Fail));
    assert!(state.causes[0].contains("timeout: 1s passed"), "{:?}", state.causes);
}

#[test]
fn what_exists_only_as_a_process_is_refused() {
    for (node, words) in [("{ run: [sleep, 1] }", "`sleep`"), ("{ role: file-server, file: data }", "`file-server`")] {
        let text = format!("{THREE}  other: {node}\n");
        let plan = topology::load(&Source::new("t.yaml", text), &Overrides::new(Seed::new(7))).unwrap();
        let error = run(&plan).map(|_| ()).unwrap_err().to_string();
        assert!(error.contains("`other`") && error.contains(words), "{error}");
    }
}

/// Where p and a link lose independently, 1 − (1 − p)(1 − l) of the segments are lost: within 99.9 % of a binomial count.
#[test]
fn the_loss_budget_adds_up() {
    let plan = topology::load(&source("p2mp-loss-budget.yaml"), &Overrides::new(Seed::new(7))).unwrap();
    let told = run(&plan).unwrap();
    passes(&told);
    let transferred = told.transferred();
    let again = transferred.receivers.iter().map(|receiver| receiver.retransmissions).sum::<u64>() as f64;
    // The end is sent to each, too.
    let sent = (transferred.segments + 1) as f64 * transferred.receivers.len() as f64 + again;
    let lost = 1.0 - 0.95 * 0.98;
    let deviation = (sent * lost * (1.0 - lost)).sqrt();
    assert!((again - sent * lost).abs() < 3.29 * deviation, "{again} of {sent} instead of {:.1}", sent * lost);
}

/// The tasks of the assignment with its own parameters: every point within three standard errors of the formula.
fn task(name: &str, points: usize) -> Vec<(f64, f64)> {
    let source = source(name);
    let sweep = topology::sweep(&source, &Overrides::new(Seed::new(7))).unwrap().unwrap();
    assert_eq!((sweep.points.len(), sweep.repeat), (points, 5), "{name}");
    let measured = sweep.points.iter().map(|point| {
        let theory = sim::theory::stop_and_wait(&point.plan).expect("the tasks are what the formula is about");
        let runs = (1..=sweep.repeat).map(|repetition| {
            let seed = sweep.seed_of(point, repetition);
            let overrides = Overrides { seed: Some(seed), set: point.settings.clone(), ..Overrides::new(seed) };
            let told = run(&topology::load(&source, &overrides).unwrap()).unwrap();
            passes(&told);
            let transferred = told.transferred();
            (transferred.seconds, transferred.mean_seconds())
        });
        let runs: Vec<(f64, f64)> = runs.collect();
        let mean = |part: fn(&(f64, f64)) -> f64| runs.iter().map(part).sum::<f64>() / runs.len() as f64;
        let (total, segment) = (mean(|run| run.0), mean(|run| run.1));
        let off = (total - theory.expected_seconds()) / theory.standard_error_seconds(sweep.repeat);
        println!("{name} {}: {total:.1} s, {off:+.2} standard errors off", point.label());
        assert!(off.abs() < 3.0, "{name} {}: {total} s is {off} standard errors off", point.label());
        (total, segment)
    });
    measured.collect()
}

#[test]
fn the_first_task_grows_with_the_receivers_but_less_than_they_do() {
    let measured = task("p2mp-task1.yaml", 5);
    let totals: Vec<f64> = measured.iter().map(|point| point.0).collect();
    assert!(totals.windows(2).all(|pair| pair[0] < pair[1]), "{totals:?}");
    assert!(totals[4] < 5.0 * totals[0], "five receivers wait for the unluckiest of them, not for the sum: {totals:?}");
}

#[test]
fn the_second_task_takes_the_same_time_per_segment_whatever_its_size() {
    let measured = task("p2mp-task2.yaml", 10);
    let (first, last) = (measured[0], measured[9]);
    assert!((9.0..11.0).contains(&(first.0 / last.0)), "ten times the segment, a tenth of the time: {measured:?}");
    for (_, segment) in &measured {
        assert!((segment / first.1 - 1.0).abs() < 0.05, "the time per segment hardly changes: {measured:?}");
    }
}

#[test]
fn the_third_task_grows_with_the_loss() {
    let totals: Vec<f64> = task("p2mp-task3.yaml", 10).iter().map(|point| point.0).collect();
    assert!(totals.windows(2).all(|pair| pair[0] < pair[1]), "{totals:?}");
}

const FAST: &str = "name: fast
files: { data: { size: 4MB } }
links: { lan: { up: { rate: 50Mbit, delay: 5ms }, down: { rate: 50Mbit, delay: 5ms, loss: 2% } } }
nodes:
  sender: { role: p2mp-sender, to: receiver, file: data, mode: fast, give-up: 5s, link: lan }
  receiver: { count: 3, role: p2mp-receiver, p: 3%, out: data, link: lan }
";

#[test]
fn the_fast_mode_reaches_everybody_by_group_or_alone() {
    let by_group = run_text(&format!("{FAST}{ALL_WELL}"));
    passes(&by_group);
    let alone = run_text(&format!("{FAST}{ALL_WELL}").replace("mode: fast", "mode: fast, multicast: false"));
    passes(&alone);
    let sent = |told: &Told| {
        let counts = told.records.iter().find_map(|record| match &record.event {
            Event::LinkCounted(count) if count.node == "sender" && count.direction == Direction::Up => {
                Some(count.offered)
            }
            _ => None,
        });
        counts.unwrap() as f64
    };
    // Three copies instead of one that floods; each has its share of announcements beside.
    let ratio = sent(&alone) / sent(&by_group);
    assert!((2.0..3.5).contains(&ratio), "{ratio}");
}

#[test]
fn a_fast_receiver_that_comes_back_goes_on_and_one_that_does_not_holds_nobody() {
    let back = run_text(&format!(
        "{FAST}events:
  - {{ when: \"receiver-2 >= 50%\", kill: receiver-2 }}
  - {{ after: 200ms, revive: receiver-2 }}
{ALL_WELL}"
    ));
    passes(&back);
    let received = back.state().node("receiver-2").unwrap().progress.unwrap();
    let share = received.received as f64 / received.total as f64;
    assert!(share < 1.5, "it has kept what was restored: {share} of the file were received in all");
    let gone = run_text(&format!(
        "{FAST}events: [{{ when: \"receiver-2 >= 50%\", crash: receiver-2 }}]
expect: {{ sender: {{ exit: 1 }}, receiver-1: {{ exit: 0, file: data }}, receiver-3: {{ exit: 0, file: data }} }}
"
    ));
    passes(&gone);
}

#[test]
fn a_fast_sender_that_comes_back_is_known_again() {
    let told = run_text(&format!(
        "{FAST}events:
  - {{ when: \"sender >= 50%\", kill: sender }}
  - {{ after: 300ms, revive: sender }}
{ALL_WELL}"
    ));
    passes(&told);
    let state = told.state();
    for receiver in ["receiver-1", "receiver-2", "receiver-3"] {
        let progress = state.node(receiver).unwrap().progress.unwrap();
        let share = progress.received as f64 / progress.total as f64;
        assert!(share < 1.5, "{receiver} has received {share} of the file");
    }
}

#[test]
fn datagrams_of_the_fast_mode_are_never_cut() {
    let text = format!("{FAST}networks: {{ net: {{ mtu: 1400 }} }}\n{ALL_WELL}");
    passes(&run_text(&text));
}

/// What a trace lets through is bounded from both sides: not before the opportunity at which so many bytes are through, and
/// the way it falls and pauses must not cost more than half as much again.
#[test]
fn a_download_over_a_trace_takes_what_the_trace_gives() {
    let source = source("cellular.yaml");
    let plan = topology::load(&source, &Overrides::new(Seed::new(7))).unwrap();
    let told = run(&plan).unwrap();
    passes(&told);
    let trace = include_str!("../../../topologies/traces/cellular.trace");
    let instants: Vec<u64> = trace.lines().map(|line| line.parse().unwrap()).collect();
    let packets = (1 << 20) / 1442;
    let soonest = instants[packets] as f64 / 1e3;
    let seconds = told.transferred().seconds;
    assert!(seconds > soonest && seconds < soonest * 1.5, "{seconds} s, at the soonest {soonest} s");
}

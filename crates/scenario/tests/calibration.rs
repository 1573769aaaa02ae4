//! What follows from measuring links before the first node starts.

use event::{CalibrationSummary, Direction, Event, LinkMeasurement, MeasuredOutcome, Record, Verdict};
use machine::{Machine, Seed, Span, Time};
use scenario::{About, Calibration, Input, Measurements, Output, Scenario};
use topology::{Overrides, Source};

const PLAN: &str = "
name: test
links: { slow: { delay: 5ms } }
nodes:
  a: { run: [a], link: slow }
  b: { run: [b], link: slow }
expect:
  a: { exit: 0 }
";

/// A run whose links are being measured, and what it wanted until then.
fn measuring() -> (Scenario, Vec<Output>) {
    let source = Source::new("test.yaml", PLAN);
    let plan = topology::load(&source, &Overrides::new(Seed::new(1))).expect("the plan is right");
    let about = About {
        file: "test.yaml".into(),
        engine: "test".into(),
        version: "0".into(),
        unix_ms: 0,
        repeat: String::new(),
    };
    let mut scenario = Scenario::new(plan, about, Time::ZERO).calibrated_first();
    scenario.handle(Time::ZERO, Input::Raised { took: Span::ZERO });
    let wanted = outputs(&mut scenario);
    (scenario, wanted)
}

fn outputs(scenario: &mut Scenario) -> Vec<Output> {
    std::iter::from_fn(|| scenario.poll()).collect()
}

fn link(node: &str, outcome: MeasuredOutcome) -> LinkMeasurement {
    LinkMeasurement {
        node: node.into(),
        network: "net".into(),
        direction: Direction::Up,
        outcome,
        delay: Span::from_millis(5),
        delay_measured: Some(Span::from_millis(9)),
        delay_tolerance: Span::from_millis(1),
        rate: None,
        rate_measured: None,
        rate_tolerance: None,
        loss: 0.0,
        loss_measured: None,
        loss_interval: None,
        sent: 6,
        arrived: 6,
        attempts: 3,
        unmeasured: Vec::new(),
        deviations: vec!["delay configured 5 ms, measured 9 ms (tolerance 1 ms)".into()],
    }
}

fn found(links: Vec<LinkMeasurement>) -> Input {
    let summary = CalibrationSummary {
        depth: "quick".into(),
        took: Span::from_millis(30),
        links: links.len() as u64,
        batches: 1,
        capacity: 100_000,
        failed: None,
        disturbance: Some("the relay was 30ms late".into()),
    };
    Input::Calibrated(Calibration { links, summary })
}

fn events(outputs: &[Output]) -> Vec<&Event> {
    let event = |output| match output {
        &Output::Record(Record { ref event, .. }) => Some(event),
        _ => None,
    };
    outputs.iter().filter_map(event).collect()
}

fn starts(outputs: &[Output]) -> usize {
    outputs.iter().filter(|output| matches!(output, Output::Start { .. })).count()
}

/// The causes of the verdict, once everything was measured.
fn verdict(scenario: &mut Scenario) -> (Verdict, Vec<String>) {
    scenario.handle(Time::ZERO, Input::Measured(Measurements::default()));
    let last = outputs(scenario);
    let ended = events(&last).into_iter().find_map(|event| match event {
        Event::RunEnded { verdict, causes, .. } => Some((*verdict, causes.clone())),
        _ => None,
    });
    ended.expect("the run has ended")
}

#[test]
fn nothing_starts_before_links_are_measured() {
    let (mut scenario, wanted) = measuring();
    assert_eq!((wanted.last(), starts(&wanted)), (Some(&Output::Calibrate), 0));
    scenario.handle(Time::ZERO, found(vec![link("a", MeasuredOutcome::Within)]));
    let wanted = outputs(&mut scenario);
    assert!(matches!(events(&wanted)[..], [Event::LinkMeasured(_), Event::LinksCalibrated(_)]), "{wanted:?}");
    assert_eq!(starts(&wanted), 2);
}

#[test]
fn a_link_that_is_not_as_asked_for_ends_the_run_before_any_node_starts() {
    let (mut scenario, _) = measuring();
    scenario.handle(Time::ZERO, found(vec![link("a", MeasuredOutcome::Outside), link("b", MeasuredOutcome::Starved)]));
    let wanted = outputs(&mut scenario);
    assert_eq!((wanted.last(), starts(&wanted)), (Some(&Output::Settle), 0));
    let (verdict, causes) = verdict(&mut scenario);
    assert_eq!(verdict, Verdict::Invalid);
    assert_eq!(
        causes[0],
        "link a up on net is not what the file asks for: delay configured 5 ms, measured 9 ms (tolerance 1 ms)"
    );
}

#[test]
fn a_machine_too_busy_to_measure_makes_the_run_invalid_but_lets_it_happen() {
    let (mut scenario, _) = measuring();
    scenario.handle(Time::ZERO, found(vec![link("b", MeasuredOutcome::Starved)]));
    assert_eq!(starts(&outputs(&mut scenario)), 2);
    let ids: Vec<_> = scenario.plan().node_ids().collect();
    for node in &ids {
        scenario.handle(Time::ZERO, Input::Started { node: *node });
        scenario.handle(Time::ZERO, Input::Ready { node: *node });
    }
    scenario.handle(Time::ZERO, Input::Exited { node: ids[0], status: event::ExitStatus::Code(0) });
    assert_eq!(outputs(&mut scenario).last(), Some(&Output::Settle));
    let (verdict, causes) = verdict(&mut scenario);
    assert_eq!((verdict, causes.len()), (Verdict::Invalid, 1));
    assert!(causes[0].starts_with("this machine was starved while links were measured"), "{causes:?}");
}

#[test]
fn who_interrupts_the_measuring_waits_for_nothing() {
    let (mut scenario, _) = measuring();
    scenario.handle(Time::ZERO, Input::Interrupted { signal: "SIGINT".into() });
    assert_eq!(outputs(&mut scenario).last(), Some(&Output::Settle));
    scenario.handle(Time::ZERO, found(vec![link("a", MeasuredOutcome::Outside)]));
    assert_eq!(outputs(&mut scenario), [], "it comes too late");
    assert_eq!(verdict(&mut scenario).0, Verdict::Interrupted);
}

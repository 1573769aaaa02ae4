//! No log, whatever is in it and in whatever order, breaks a report.
#![allow(clippy::unwrap_used, reason = "in a test it is an assertion")]

use event::{
    CalibrationSummary, Direction, EndCause, Event, ExitStatus, Lag, LinkCount, LinkMeasurement, MeasuredOutcome,
    NodeInfo, NodeReport, Record, Recording, RunState, SourceState, Verdict,
};
use machine::{Rate, Seed, Span};
use proptest::prelude::*;
use report::{LiveView, Output};

/// A few names, so that records meet the same nodes, and now and then any text at all.
fn name() -> impl Strategy<Value = String> {
    prop_oneof![4 => "[a-c]", 1 => any::<String>()]
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof!["a >= 40%: kill b", ".*", any::<String>()]
}

fn number() -> impl Strategy<Value = u64> {
    prop_oneof![0..3u64, any::<u64>(), Just(u64::MAX)]
}

fn span() -> impl Strategy<Value = Span> {
    number().prop_map(Span::from_nanos)
}

fn status() -> impl Strategy<Value = ExitStatus> {
    prop_oneof![any::<i32>().prop_map(ExitStatus::Code), (0..65).prop_map(ExitStatus::Signal)]
}

fn report() -> impl Strategy<Value = NodeReport> {
    let source = prop_oneof![Just(SourceState::Connecting), Just(SourceState::Alive), Just(SourceState::Dead)];
    prop_oneof![
        (number(), number(), number()).prop_map(|(bytes, total, received)| NodeReport::Progress {
            bytes,
            total,
            received
        }),
        (name(), source, number(), number(), proptest::option::of(text())).prop_map(
            |(source, state, received, rate, why)| NodeReport::Source {
                source,
                state,
                received,
                rate: Rate::from_bits_per_sec(rate),
                why
            }
        ),
        (number(), number()).prop_map(|(bytes, rate)| NodeReport::Served {
            bytes,
            connections: 1,
            rate: Rate::from_bits_per_sec(rate)
        }),
        (name(), any::<bool>()).prop_map(|(server, alive)| NodeReport::Watched { server, alive }),
        (number(), number()).prop_map(|(arrived, discarded)| NodeReport::Discarded { arrived, discarded }),
        (number(), proptest::option::of(text())).prop_map(|(bytes, sha256)| NodeReport::Finished { bytes, sha256 }),
    ]
}

fn link() -> impl Strategy<Value = LinkCount> {
    (name(), number(), number()).prop_map(|(node, packets, bytes)| LinkCount {
        node,
        network: "net".into(),
        direction: if packets % 2 == 0 { Direction::Up } else { Direction::Down },
        by_kernel: packets % 3 == 0,
        offered: packets,
        offered_bytes: bytes,
        delivered: packets,
        delivered_bytes: bytes,
        duplicated: packets,
        corrupted: packets,
        lost: packets,
        queue: packets,
        lost_or_queue: packets,
        partition: packets,
        cut: packets,
        overflow: packets,
        in_flight: packets,
    })
}

fn measurement() -> impl Strategy<Value = LinkMeasurement> {
    let outcome = prop_oneof![
        Just(MeasuredOutcome::Within),
        Just(MeasuredOutcome::Outside),
        Just(MeasuredOutcome::Starved),
        Just(MeasuredOutcome::Unmeasured)
    ];
    (name(), outcome, span(), number(), any::<f64>(), proptest::collection::vec(text(), 0..3)).prop_map(
        |(node, outcome, span, number, share, texts)| LinkMeasurement {
            node,
            network: "net".into(),
            direction: if number % 2 == 0 { Direction::Up } else { Direction::Between },
            outcome,
            delay: span,
            delay_measured: (number % 3 == 0).then_some(span),
            delay_tolerance: span,
            rate: (number % 5 == 0).then_some(Rate::from_bits_per_sec(number)),
            rate_measured: (number % 7 == 0).then_some(Rate::from_bits_per_sec(number)),
            rate_tolerance: Some(share),
            loss: share,
            loss_measured: (number % 2 == 0).then_some(share),
            loss_interval: (number % 3 == 0).then_some((share, share)),
            sent: number,
            arrived: number,
            attempts: number,
            unmeasured: texts.clone(),
            deviations: texts,
        },
    )
}

fn began() -> impl Strategy<Value = Event> {
    let nodes = proptest::collection::vec((name(), "[a-b]", text()), 0..40);
    let texts = || proptest::collection::vec(text(), 0..4);
    (text(), nodes, texts(), texts(), number(), span()).prop_map(
        |(name, nodes, faults, expectations, unix_ms, timeout)| Event::RunBegan {
            name,
            file: String::new(),
            seed: Seed::new(unix_ms),
            engine: "netns".into(),
            version: String::new(),
            unix_ms,
            timeout,
            nodes: nodes
                .into_iter()
                .map(|(name, group, program)| NodeInfo { name, group, program, addresses: vec![] })
                .collect(),
            networks: vec![],
            faults,
            expectations,
            repeat: "x".into(),
        },
    )
}

fn event() -> impl Strategy<Value = Event> {
    let verdict =
        prop_oneof![Just(Verdict::Pass), Just(Verdict::Fail), Just(Verdict::Invalid), Just(Verdict::Interrupted)];
    let cause = prop_oneof![Just(EndCause::Own), Just(EndCause::Fault), Just(EndCause::RunEnd)];
    prop_oneof![
        1 => began(),
        1 => Just(Event::AllStarted),
        2 => (name(), any::<u32>()).prop_map(|(node, incarnation)| Event::NodeStarted { node, incarnation }),
        6 => (name(), report()).prop_map(|(node, report)| Event::NodeReported { node, incarnation: 1, report }),
        2 => (name(), status(), cause)
            .prop_map(|(node, status, cause)| Event::NodeExited { node, incarnation: 1, status, cause }),
        1 => (name(), text(), text())
            .prop_map(|(node, pattern, line)| Event::OutputMatched { node, pattern, line }),
        1 => (0..5usize, text()).prop_map(|(entry, label)| Event::FaultFired { entry, label }),
        1 => (0..5usize, text(), text()).prop_map(|(entry, label, why)| Event::FaultFailed { entry, label, why }),
        1 => (0..5usize, text(), any::<bool>(), text()).prop_map(|(expectation, label, held, found)| {
            Event::ExpectationChecked { expectation, label, held, found }
        }),
        1 => link().prop_map(Event::LinkCounted),
        2 => measurement().prop_map(Event::LinkMeasured),
        1 => (text(), span(), number(), proptest::option::of(text())).prop_map(|(depth, took, links, failed)| {
            let disturbance = failed.clone();
            let summary = CalibrationSummary { depth, took, links, batches: 1, capacity: 1, failed, disturbance };
            Event::LinksCalibrated(summary)
        }),
        1 => (number(), number(), proptest::option::of(text())).prop_map(|(packets, unrecorded, failed)| {
            Event::PacketsRecorded(Recording { files: packets, packets, unrecorded, failed, ended_ns: packets })
        }),
        1 => (name(), span(), any::<f64>()).prop_map(|(of, span, starved_share)| {
            Event::LagMeasured { of, lag: Lag { p50: span, p99: span, max: span, starved_share } }
        }),
        1 => (verdict, proptest::collection::vec(text(), 0..3), span())
            .prop_map(|(verdict, causes, took)| Event::RunEnded { verdict, causes, took }),
    ]
}

fn log() -> impl Strategy<Value = Vec<Record>> {
    let rest = proptest::collection::vec((span(), event()), 0..40);
    (began(), rest).prop_map(|(began, rest)| {
        let rest = rest.into_iter().map(|(at, event)| Record::new(at, event));
        std::iter::once(Record::new(Span::ZERO, began)).chain(rest).collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn every_report_is_made_and_stays_harmless(log in log(), width in 0..300usize, height in 0..60usize) {
        let mut state = RunState::default();
        let mut view = LiveView::to_writer(Output::Plain, Box::new(std::io::sink())).unwrap();
        for record in &log {
            state.apply(record);
            view.observe(record, &state);
            let panel = report::panel(&state, state.now, (width, height), false);
            prop_assert!(panel.chars().all(|c| c == '\n' || !c.is_control()), "control character in {panel}");
            prop_assert!(panel.lines().count() < height.max(4), "{panel} has no place in {height} rows");
            prop_assert!(panel.lines().all(|line| console::measure_text_width(line) < width.max(20)), "{panel}");
        }
        view.finish();
        for text in [report::table(&state, false), report::markdown(&state), report::junit(&state)] {
            prop_assert!(text.chars().all(|c| c == '\n' || !c.is_control()), "control character in {text}");
        }
        let junit = report::junit(&state);
        let mut reader = quick_xml::Reader::from_str(&junit);
        while reader.read_event().expect("well-formed") != quick_xml::events::Event::Eof {}
        let _ = report::result_json(&state).to_string();
    }
}

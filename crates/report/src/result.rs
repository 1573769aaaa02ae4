//! The verdict and the figures for programs: `result.json`.

use event::{ExitStatus, LinkAccount, NodePhase, NodeState, RunState};
use machine::{Rate, Span};
use serde_json::{Map, Value, json};

use crate::section::{mean_rate, received, source_state};
use crate::{stamp, table};

/// The version of the shape below; it grows when a field changes its meaning or goes away.
const SCHEMA: u32 = 1;

/// One object. Times are seconds, those of facts since t = 0; sizes are bytes; rates are bits per second; what is not
/// known is null.
pub fn result_json(state: &RunState) -> Value {
    json!({
        "schema": SCHEMA,
        "name": state.name,
        "file": state.file,
        "seed": state.seed,
        "engine": state.engine,
        "version": state.version,
        "began": stamp::utc(state.unix_ms),
        "verdict": state.verdict,
        "exit_status": state.verdict.map(event::Verdict::exit_status),
        "summary": table::verdict_line(state),
        "causes": state.causes,
        "took_s": state.took.map(Span::as_secs_f64),
        "raised_in_s": state.raised_in.map(Span::as_secs_f64),
        "timeout_s": state.timeout.as_secs_f64(),
        "interrupted_by": state.interrupted_by,
        "repeat": state.repeat,
        "nodes": state.nodes.iter().map(|node| node_json(state, node)).collect::<Vec<_>>(),
        "networks": state.networks,
        "faults": state.faults.iter().map(|fault| json!({
            "label": fault.label,
            "fired_at_s": fault.fired_at.map(|at| state.since_start(at)),
            "undone_at_s": fault.undone_at.map(|at| state.since_start(at)),
            "failed": fault.failed,
        })).collect::<Vec<_>>(),
        "expectations": state.expectations.iter().map(|expectation| json!({
            "label": expectation.label,
            "held": expectation.held,
            "found": expectation.found,
        })).collect::<Vec<_>>(),
        "links": state.accounts().map(|account| link_json(&account)).collect::<Vec<_>>(),
        "calibration": state.calibration,
        "measurements": state.measurements,
        "recording": state.recording,
        "lag": state.lags.iter().map(|(of, lag)| (of.clone(), json!({
            "p50_s": lag.p50.as_secs_f64(),
            "p99_s": lag.p99.as_secs_f64(),
            "max_s": lag.max.as_secs_f64(),
            "starved_share": lag.starved_share,
        }))).collect::<Map<_, _>>(),
    })
}

fn node_json(state: &RunState, node: &NodeState) -> Value {
    let exit = match node.phase {
        NodePhase::Exited(status) | NodePhase::Killed(status) => Some(match status {
            ExitStatus::Code(code) => json!({"code": code}),
            ExitStatus::Signal(signal) => json!({"signal": signal}),
        }),
        _ => None,
    };
    let sources = node.sources.iter().map(|(name, source)| {
        let view = json!({
            "state": source_state(source.state).0,
            "discards": node.discards,
        "received_bytes": source.received,
            "why": source.why,
        });
        (name.clone(), view)
    });
    let mean: Rate = mean_rate(state, node);
    json!({
        "name": node.name,
        "group": node.group,
        "program": node.program,
        "addresses": node.addresses,
        "starts": node.incarnation,
        "state": phase_word(node.phase),
        "exit": exit,
        "exited_at_s": node.exited_at.map(|at| state.since_start(at)),
        "progress": node.progress.map(|progress| json!({"bytes": progress.bytes, "total": progress.total})),
        "received_bytes": node.progress.map(|_| received(node)),
        "sent_bytes": node.served,
        "mean_bits_per_s": mean.as_bits_per_sec(),
        "sources": sources.collect::<Map<_, _>>(),
    })
}

/// The numbers of the log, whether they add up, and what the node's program threw away of what the link delivered.
fn link_json(account: &LinkAccount<'_>) -> Value {
    let mut link = json!(account.count);
    link["program"] = json!(account.program);
    link["adds_up"] = json!(account.adds_up());
    link
}

/// The state without the status, which has a field of its own.
fn phase_word(phase: NodePhase) -> &'static str {
    match phase {
        NodePhase::Waiting => "waiting",
        NodePhase::Starting => "starting",
        NodePhase::Ready => "running",
        NodePhase::Paused => "paused",
        NodePhase::Exited(_) => "exited",
        NodePhase::Killed(_) => "killed",
        NodePhase::Stopped => "stopped",
        NodePhase::Unstartable => "not-started",
    }
}

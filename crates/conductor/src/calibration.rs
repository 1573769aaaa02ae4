//! Links measured before the first node starts, in the words of the log.

use event::{CalibrationSummary, Direction, LinkMeasurement, MeasuredOutcome};
use fabric::Fabric;
use fabric::calibration::{Calibrated, CalibrationError, MeasuredHalf, MeasuredLink};
use link::calibration::{Depth, Outcome};
use machine::Span;
use scenario::Calibration;
use topology::Plan;

use crate::engine::in_full;

/// Measures the links of `plan`.
pub(crate) async fn calibrate(fabric: &mut Fabric, plan: &Plan, depth: Depth) -> Calibration {
    let began = fabric::clock::now();
    let found = fabric.calibrate(plan, depth).await;
    let took = fabric::clock::now().since(began);
    describe(plan, depth, took, found)
}

fn describe(plan: &Plan, depth: Depth, took: Span, found: Result<Option<Calibrated>, CalibrationError>) -> Calibration {
    let depth = match depth {
        Depth::Quick => "quick",
        Depth::Full => "full",
    };
    let mut summary = CalibrationSummary {
        depth: depth.to_owned(),
        took,
        links: 0,
        batches: 0,
        capacity: 0,
        failed: None,
        disturbance: None,
    };
    match found {
        Ok(None) => Calibration { links: Vec::new(), summary },
        Ok(Some(calibrated)) => {
            summary.links = calibrated.links.len() as u64;
            summary.batches = u64::from(calibrated.batches);
            summary.capacity = calibrated.capacity.0;
            summary.disturbance = calibrated.disturbance.map(|disturbance| disturbance.to_string());
            Calibration { links: calibrated.links.iter().map(|link| measurement(plan, link)).collect(), summary }
        }
        Err(error) => {
            summary.failed = Some(in_full(&error));
            Calibration { links: Vec::new(), summary }
        }
    }
}

fn measurement(plan: &Plan, link: &MeasuredLink) -> LinkMeasurement {
    let name = |node| plan.node(node).name.clone();
    let (node, direction) = match link.half {
        MeasuredHalf::Up(node) => (name(node), Direction::Up),
        MeasuredHalf::Down(node) => (name(node), Direction::Down),
        MeasuredHalf::Between(from, to) => (format!("{} -> {}", name(from), name(to)), Direction::Between),
    };
    let (way, finding) = (&link.way, &link.finding);
    LinkMeasurement {
        node,
        network: plan.network(link.network).name.clone(),
        direction,
        outcome: match finding.outcome {
            Outcome::Within => MeasuredOutcome::Within,
            Outcome::Outside => MeasuredOutcome::Outside,
            Outcome::Starved => MeasuredOutcome::Starved,
            Outcome::Unmeasured => MeasuredOutcome::Unmeasured,
        },
        delay: way.delay(),
        delay_measured: finding.estimate.delay,
        delay_tolerance: finding.delay_tolerance,
        rate: way.rate(),
        rate_measured: finding.estimate.rate,
        rate_tolerance: finding.rate_tolerance,
        loss: way.loss(),
        loss_measured: finding.loss.map(|loss| loss.share),
        loss_interval: finding.loss.map(|loss| (loss.low, loss.high)),
        sent: u64::from(finding.estimate.sent),
        arrived: u64::from(finding.estimate.arrived),
        attempts: u64::from(finding.attempts),
        unmeasured: finding.unmeasured.iter().map(ToString::to_string).collect(),
        deviations: finding.deviations.iter().map(ToString::to_string).collect(),
    }
}

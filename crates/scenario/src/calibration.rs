//! What follows from measuring links before the first node starts.

use event::{Direction, Event, LinkMeasurement, MeasuredOutcome};
use machine::Time;

use crate::scenario::Scenario;
use crate::vocabulary::Calibration;

impl Scenario {
    /// A link that is not what the file asks for ends the run here: whatever came of it would mean nothing. If this machine
    /// was only too busy to tell, nodes start all the same, so that there is something to look at, although it proves nothing.
    pub(crate) fn calibrated(&mut self, now: Time, calibration: Calibration) {
        let Calibration { links, summary } = calibration;
        let outside = links.iter().filter(|link| link.outcome == MeasuredOutcome::Outside);
        let wrong: Vec<String> = outside.map(deviation).collect();
        let mut starved = links.iter().filter(|link| link.outcome == MeasuredOutcome::Starved).peekable();
        if let Some(first) = starved.peek() {
            let (first, why) = (name(first), summary.disturbance.as_deref().unwrap_or("its timers were late"));
            let count = starved.count();
            let links = if count == 1 { "a link".to_owned() } else { format!("{count} half links") };
            self.invalidities.push(format!(
                "this machine was starved while links were measured: nothing can be said of {links} ({first}): {why}, again and again"
            ));
        }
        self.invalidities.extend(summary.failed.iter().map(|why| format!("links could not be measured: {why}")));
        links.into_iter().for_each(|link| self.record(now, Event::LinkMeasured(link)));
        self.record(now, Event::LinksCalibrated(summary));
        if wrong.is_empty() {
            return self.begin_to_start(now);
        }
        self.invalidities.splice(0..0, wrong);
        self.ended = Some(now);
        self.settle();
    }
}

fn name(link: &LinkMeasurement) -> String {
    let LinkMeasurement { node, network, .. } = link;
    match link.direction {
        Direction::Up => format!("{node} up on {network}"),
        Direction::Down => format!("{node} down on {network}"),
        Direction::Between => format!("pair {node} on {network}"),
    }
}

fn deviation(link: &LinkMeasurement) -> String {
    format!("link {} is not what the file asks for: {}", name(link), link.deviations.join("; "))
}

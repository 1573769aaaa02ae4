//! What was found of a way, and how it deviates from what was asked for.

use std::fmt;

use machine::{Rate, Span};

use super::estimate::Estimate;
use super::train::{Design, Unmeasured};
use super::way::Way;

/// What was found of a way.
#[derive(Clone, Debug, PartialEq)]
pub struct Finding {
    /// Whether it is what was asked for.
    pub outcome: Outcome,
    /// How it is not.
    pub deviations: Vec<Deviation>,
    /// The figures of the attempt that decided.
    pub estimate: Estimate,
    /// How far off its delay may be.
    pub delay_tolerance: Span,
    /// How far off its rate may be, as a share of it; absent where it was not measured.
    pub rate_tolerance: Option<f64>,
    /// Losses, where they were counted.
    pub loss: Option<LossShare>,
    /// What was not measured of it, and why.
    pub unmeasured: Vec<Unmeasured>,
    /// Trains that were sent.
    pub attempts: u32,
}

/// What became of measuring a way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// What was measured is what was asked for.
    Within,
    /// It is not, again and again.
    Outside,
    /// It seems not to be, but whoever measured was disturbed each time.
    Starved,
    /// Nothing can be said.
    Unmeasured,
}

/// How a way differs from what was asked for.
#[derive(Clone, Debug, PartialEq)]
pub enum Deviation {
    /// Hardly anything arrives although nothing says so.
    Silent {
        /// Frames sent.
        sent: u32,
        /// Frames that arrived.
        arrived: u32,
    },
    /// Another delay.
    Delay {
        /// What was asked for.
        configured: Span,
        /// What was found.
        measured: Span,
        /// How far apart they may be.
        tolerance: Span,
    },
    /// Another rate.
    Rate {
        /// What was asked for.
        configured: Rate,
        /// What was found.
        measured: Rate,
        /// How far apart they may be, as a share of what was asked for.
        tolerance: f64,
    },
    /// Another share of losses.
    Loss {
        /// What was asked for, as a share.
        configured: f64,
        /// What was found.
        measured: LossShare,
    },
}

/// A share of losses, and where the true one is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LossShare {
    /// Lost of those sent.
    pub share: f64,
    /// The true share is not less, …
    pub low: f64,
    /// … and not more, but for one time in 150 000.
    pub high: f64,
}

/// Standard deviations to either side of a share of losses.
const Z: f64 = 4.5;

impl LossShare {
    /// `lost` of `sent`, whose number varies `clustering` times as much as that of independent losses. The interval is E. B.
    /// Wilson's ("Probable inference, the law of succession, and statistical inference", 1927), which holds for rare losses
    /// and for none.
    pub fn of(lost: u32, sent: u32, clustering: f64) -> LossShare {
        let n = f64::from(sent.max(1)) / clustering.max(1.0);
        let share = f64::from(lost) / f64::from(sent.max(1));
        let middle = share + Z * Z / (2.0 * n);
        let half = Z * (share * (1.0 - share) / n + Z * Z / (4.0 * n * n)).sqrt();
        let scale = 1.0 + Z * Z / n;
        // Of none and of all the one end is exact, which rounding would miss.
        let low = if lost == 0 { 0.0 } else { ((middle - half) / scale).max(0.0) };
        let high = if lost >= sent { 1.0 } else { ((middle + half) / scale).min(1.0) };
        LossShare { share, low, high }
    }
}

/// What deviates in `estimate` from what `way` should do.
pub(super) fn deviations(way: &Way, design: &Design, estimate: &Estimate) -> Vec<Deviation> {
    let mut found = Vec::new();
    if let Some(measured) = estimate.delay {
        let (configured, tolerance) = (way.delay(), design.delay_tolerance);
        if measured.saturating_sub(configured).max(configured.saturating_sub(measured)) > tolerance {
            found.push(Deviation::Delay { configured, measured, tolerance });
        }
    }
    if let (Some(configured), Some(measured), Some(tolerance)) = (way.rate(), estimate.rate, design.rate_tolerance) {
        let share = measured.as_bits_per_sec() as f64 / configured.as_bits_per_sec().max(1) as f64;
        if (share - 1.0).abs() > tolerance {
            found.push(Deviation::Rate { configured, measured, tolerance });
        }
    }
    let (sent, arrived) = (estimate.sent, estimate.arrived);
    if way.loss() == 0.0 && !way.has_listed_drops() && arrived * 2 < sent {
        found.push(Deviation::Silent { sent, arrived });
    }
    found
}

impl fmt::Display for Deviation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Deviation::Silent { sent, arrived: 0 } => write!(f, "none of {sent} probes arrived"),
            Deviation::Silent { sent, arrived } => write!(f, "only {arrived} of {sent} probes arrived"),
            Deviation::Delay { configured, measured, tolerance } => {
                let (configured, measured) = (millis(*configured), millis(*measured));
                write!(
                    f,
                    "delay configured {configured} ms, measured {measured} ms (tolerance {} ms)",
                    millis(*tolerance)
                )
            }
            Deviation::Rate { configured, measured, tolerance } => write!(
                f,
                "rate configured {} Mbit/s, measured {} Mbit/s (tolerance {:.0} %)",
                mbit(*configured),
                mbit(*measured),
                tolerance * 100.0
            ),
            Deviation::Loss { configured, measured: LossShare { share, low, high } } => write!(
                f,
                "loss configured {:.3} %, measured {:.3} % (so between {:.3} % and {:.3} %)",
                configured * 100.0,
                share * 100.0,
                low * 100.0,
                high * 100.0
            ),
        }
    }
}

fn millis(span: Span) -> String {
    decimals(span.as_secs_f64() * 1e3)
}

fn mbit(rate: Rate) -> String {
    decimals(rate.as_bits_per_sec() as f64 / 1e6)
}

/// Three decimals at most.
fn decimals(number: f64) -> String {
    let text = format!("{number:.3}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interval_holds_the_share_and_narrows_with_the_number() {
        let few = LossShare::of(10, 1000, 1.0);
        let many = LossShare::of(100, 10_000, 1.0);
        assert!(few.low < 0.01 && 0.01 < few.high && few.low < many.low && many.high < few.high, "{few:?} {many:?}");
        assert_eq!(LossShare::of(0, 4000, 1.0).low, 0.0, "no loss is no proof that there is some");
        assert!(LossShare::of(1, 4000, 1.0).low > 0.0, "one is");
        let bursts = LossShare::of(10, 1000, 19.0);
        assert!(bursts.low < few.low && few.high < bursts.high);
    }

    #[test]
    fn deviations_name_both_figures() {
        let delay = Deviation::Delay {
            configured: Span::from_millis(5),
            measured: Span::from_micros(12_345),
            tolerance: Span::from_millis(1),
        };
        assert_eq!(delay.to_string(), "delay configured 5 ms, measured 12.345 ms (tolerance 1 ms)");
        let rate = Deviation::Rate { configured: Rate::from_mbit(50), measured: Rate::from_mbit(20), tolerance: 0.05 };
        assert_eq!(rate.to_string(), "rate configured 50 Mbit/s, measured 20 Mbit/s (tolerance 5 %)");
    }
}

//! Measuring links before anything relies on them: which trains of frames to send, how to read when they arrive, and
//! whether that is what was asked for.
//!
//! * [`way`]: what a train passes.
//! * [`train`]: how many frames, how large, how close behind each other, and what they cannot show.
//! * [`fit`]: the line below arrivals, whatever made some of them late.
//! * [`estimate`]: delay, rate and loss out of times of sending and arrival.
//! * [`session`]: batches that a machine can carry, attempts, and the findings.
//!
//! No clock and no socket: whoever has them carries out [`Batch`]es and tells what was seen.
//!
//! ```
//! use link::calibration::{Calibration, Capacity, Depth, Outcome, Passage, Seen, Way};
//! use link::{HalfLink, Lane, WireSize, Fate};
//! use machine::{Seed, Span, Time};
//!
//! let half = HalfLink { delay: Span::from_millis(5), ..HalfLink::default() };
//! let mut calibration = Calibration::new(vec![Way::new(vec![half.clone()], 1500)], Capacity(100_000), Depth::Quick);
//! while let Some(batch) = calibration.next_batch() {
//!     let mut seen = Vec::new();
//!     for (way, train) in &batch.trains {
//!         let mut lane = Lane::new(&half, Seed::new(1));
//!         let mut passage = Passage::default();
//!         for ordinal in 0..train.frames {
//!             passage.sent.push(Time::ZERO);
//!             if let Fate::Deliver { at, .. } = lane.offer(Time::ZERO, WireSize::packet(train.bytes)).packet {
//!                 passage.arrived.push((ordinal, at));
//!             }
//!         }
//!         seen.push((*way, passage));
//!     }
//!     calibration.handle(Seen { passages: seen, disturbance: None });
//! }
//! assert_eq!(calibration.findings()[0].outcome, Outcome::Within);
//! ```

pub mod estimate;
pub mod fit;
pub mod session;
pub mod train;
pub mod way;

mod finding;

pub use estimate::{Estimate, Passage};
pub use finding::{Deviation, Finding, LossShare, Outcome};
pub use fit::{Line, lower_envelope};
pub use session::{Batch, Calibration, Capacity, Depth, Disturbance, Seen};
pub use train::{Design, Train, Unmeasured};
pub use way::Way;

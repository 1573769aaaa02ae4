//! The model of an impaired link, and of the network made of such links.
//!
//! * [`profile`]: what a link does to packets, as a topology file says it.
//! * [`droplist`]: packets that are lost for certain.
//! * [`lane`]: one direction of one link, deciding the fate of each packet as it arrives.
//! * [`fate`]: what can become of a packet.
//! * [`network`]: ports joined by lanes, with pairs, partitions and cut ports.
//! * [`counters`]: what became of all packets; it always adds up.
//! * [`trace`]: a recorded link: the instants at which it could deliver.
//! * [`written`]: links as logs and plans have them.
//! * [`calibration`]: measuring links: trains of frames, what their arrivals say, and whether that is what was asked for.
//! * [`room`]: how much can be under way in a half link.
//! * [`offload`]: where segmentation offload may stay on because it cannot be seen.
//!
//! ```
//! use link::{Network, Profile, To, WireSize};
//! use machine::{Seed, Span, Time};
//!
//! let mut network = Network::new("net", Seed::new(7));
//! let mut far = Profile::default();
//! far.up.delay = Span::from_millis(5);
//! let server = network.add_port("server", &far);
//! let client = network.add_port("client", &Profile::default());
//!
//! network.send(Time::ZERO, server, To::Port(client), WireSize::packet(1514), "hello");
//! let due = network.deadline().expect("one packet is on its way");
//! assert_eq!(due, Time::ZERO + Span::from_millis(5));
//! assert_eq!(network.poll(due).map(|delivery| (delivery.to, delivery.payload)), Some((client, "hello")));
//! ```
#![forbid(unsafe_code)]

pub mod calibration;
pub mod counters;
pub mod droplist;
pub mod fate;
pub mod lane;
pub mod network;
pub mod offload;
pub mod profile;
pub mod room;
pub mod trace;
pub mod written;

mod draw;
mod line;
mod partition;
mod stage;

pub use counters::{Drops, HalfCounters, NetworkCounters, PairCounters, PortCounters, Tally};
pub use droplist::{DropList, NotOrdinals, Ordinals};
pub use fate::{Cause, Decision, Fate, Flip, Flips, WireSize};
pub use lane::Lane;
pub use network::{Delivery, Loss, Network, PortId, To, Within};
pub use offload::offload_allowed;
pub use partition::PartitionKey;
pub use profile::{Burst, HalfLink, Profile, Queue};
pub use room::Room;
pub use trace::{Trace, TraceError};
pub use written::{Traces, UnknownTrace, WrittenHalf, WrittenProfile};

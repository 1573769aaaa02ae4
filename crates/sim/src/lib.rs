//! Virtual time: hosts, links and machines as a graph.
//!
//! * [`queue`]: events in order of time.
//! * [`server`]: a host that serves ranges over stream connections: latency, slow start, a shared rate, and every way to
//!   fail.
//! * [`disk`]: what survives the death of a process and the loss of power, at worst.
//! * [`download`]: servers, a check server and a client that runs the real `fetch` engine; and what it must never do.
//! * [`multicast`]: a sender and receivers of the fast mode over links; [`tcp`]: who may be beside them.
//! * [`p2p`]: a tracker, the published peer and downloaders; and what these must never do.
//! * [`schedule`]: random worlds and faults from a seed.
//! * [`run`](mod@run): a plan with its scenario, link models and programs on one clock; the same records as on namespaces.
//! * [`program`]: what runs in a node there; [`classic`] and [`fast`]: the point-to-multipoint programs.
//! * [`agreement`]: links held against their model, by the same traffic and figures on every driver.
//! * `router`: forwarding between networks.
//! * [`roles`]: which program a topology's role is; [`theory`]: how long its transfer should take.
//!
//! ```
//! use machine::{Rate, Span, Time};
//! use sim::{Content, Server, World};
//!
//! let content = Content::random(7, 1_000_000, 64 << 10);
//! let mut world = World::new(7, vec![content]);
//! world.add_server(Server::new(0, Rate::from_mbit(50), Span::from_millis(10)));
//! let report = world.run(Time::ZERO + Span::from_secs(60));
//! assert!(report.is_complete(), "{report:?}");
//! ```
#![forbid(unsafe_code)]

pub mod agreement;
pub mod classic;
pub mod disk;
pub mod download;
pub mod fast;
pub mod multicast;
pub mod p2p;
pub mod program;
pub mod queue;
pub mod roles;
mod router;
pub mod run;
pub mod schedule;
pub mod server;
pub mod tcp;
pub mod theory;

pub use disk::{Damage, Disk};
pub use download::{Fault, Report, World};
pub use program::Program;
pub use queue::Queue;
pub use roles::Roles;
pub use run::{Audience, Cast, RunError, run};
pub use server::{Content, Health, Server};

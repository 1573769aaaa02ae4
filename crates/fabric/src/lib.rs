//! Builds a plan's network on this machine: namespaces, links, and the processes that live in them.
//!
//! * [`preflight`]: whether this machine can, and what to do if not.
//! * [`sandbox`]: the process that everything of a run lives in and dies with.
//! * [`spawner`]: processes that make nodes.
//! * [`adoption`]: nodes whose namespaces others have made: containers.
//! * [`fabric`]: all networks and nodes of a plan, raised, changed and lowered.
//! * [`calibration`]: links measured before nodes start.
//! * [`relay`]: the user-space switch that drives the link model.
//! * [`netem`]: the kernel's queueing discipline that mirrors the link model, where the kernel has it.
//! * [`inline`]: an interface that others made, impaired from inside its namespace: a container's.
//! * [`probe`]: what measuring a link takes beside a fabric.
//! * [`purge`]: ends the connections that a dead machine would not have.
//! * [`clock`]: the one place that reads a clock.
//!
//! Two modules are private: `namespace` alone makes and enters namespaces, `netlink` alone configures networks.
//!
//! ```no_run
//! # fn node_main(_: fabric::NodeStart) -> i32 { 0 }
//! let text = "name: pair\nnodes: { a: { run: [sleep, 1] }, b: { run: [sleep, 1] } }\n";
//! let source = topology::Source::new("pair.yaml", text);
//! let plan = topology::load(&source, &topology::Overrides::new(machine::Seed::new(7)))?;
//! fabric::preflight::require(&plan)?;
//! let status = fabric::sandbox::run(|sandbox| {
//!     let spawner = fabric::spawner::start(&sandbox, 2, node_main).expect("the sandbox may fork");
//!     let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
//!     runtime.block_on(async {
//!         let mut fabric = fabric::raise(&plan, spawner, fabric::Extras::default()).await.expect("the plan fits this machine");
//!         let nodes = fabric.take_nodes();
//!         assert_eq!(nodes.len(), plan.nodes().len());
//!         fabric.lower().await.expect("the relay ran to the end");
//!     });
//!     0
//! })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub mod adoption;
pub mod calibration;
pub mod clock;
pub mod fabric;
pub mod inline;
pub mod netem;
pub mod preflight;
pub mod probe;
pub mod purge;
pub mod relay;
pub mod sandbox;
pub mod spawner;

mod namespace;
mod netlink;

pub use adoption::Adoptee;
pub use fabric::{
    Births, DropReasons, Extras, Fabric, LinkError, NetemCount, NotKept, Offload, RaiseError, RaiseFailure, RaisedNode,
    offloads, raise,
};
pub use netlink::QueueWork;
pub use purge::{PurgeError, purge_sockets};
pub use sandbox::{Sandbox, SandboxError, bind_hosts};
pub use spawner::{NodeMain, NodeStart, SpawnError, Spawner};

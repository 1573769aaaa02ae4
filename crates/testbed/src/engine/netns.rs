//! Nodes in network namespaces.

use std::io;
use std::sync::OnceLock;

use anyhow::Context;
use conductor::Ground;
use conductor::files::SharedFiles;
use fabric::PurgeError;
use fabric::sandbox::Sandbox;
use fabric::spawner::{self, NodeStart};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use topology::Plan;

use super::Refused;

/// Notes what the caller's programs are allowed, before anything is raised.
pub(super) fn note_limits() {
    if let Ok(limits) = getrlimit(Resource::RLIMIT_NOFILE) {
        CALLERS_DESCRIPTORS.get_or_init(|| limits);
    }
}

/// Whether the plan's files are to be had and this machine can.
pub(super) fn check(plan: &Plan) -> Result<(), Refused> {
    SharedFiles::check(plan).map_err(|error| Refused::Input(anyhow::Error::from(error)))?;
    fabric::preflight::require(plan).map_err(|unable| Refused::Machine(anyhow::Error::from(unable)))?;
    for network in plan.networks().iter().filter(|network| network.draws_anew()) {
        eprintln!("warning: network {}: {}", network.name, network.why);
    }
    Ok(())
}

/// What makes the nodes. To be called while the sandbox has no thread yet.
pub(super) fn ground(sandbox: &Sandbox, plan: &Plan) -> anyhow::Result<Ground> {
    sandbox.hosts(&conductor::hosts::common(plan)).context("no private /etc/hosts")?;
    Ok(Ground::Namespaces(spawner::start(sandbox, WORKERS, node_main)?))
}

/// Processes that make nodes: one more than this gains nothing on two cores.
const WORKERS: usize = 2;

/// What programs find: a run may need more descriptors than they should be offered (`select(2)` ends at 1024).
static CALLERS_DESCRIPTORS: OnceLock<(u64, u64)> = OnceLock::new();

fn node_main(start: NodeStart) -> i32 {
    if let Some((soft, hard)) = CALLERS_DESCRIPTORS.get() {
        // What was allowed before is allowed now.
        let _kept_raised = setrlimit(Resource::RLIMIT_NOFILE, *soft, *hard);
    }
    nodes::init::run(nodes::init::InitOptions {
        name: start.name,
        control: start.control,
        purge_sockets: Some(purge_sockets),
        bind_hosts: Some(fabric::bind_hosts),
        caller: None,
    })
}

/// Ends what connections a crashed program has left, where the kernel can.
pub(crate) fn purge_sockets() -> io::Result<()> {
    match fabric::purge_sockets() {
        // What is left then is a late FIN of a connection that the other end has given up: a reset answers it.
        Ok(_) | Err(PurgeError::Unsupported) => Ok(()),
        Err(PurgeError::Refused { source }) => Err(source),
    }
}

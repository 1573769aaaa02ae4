//! Nodes in containers of this machine's Docker daemon.

use conductor::Ground;
use conductor::files::SharedFiles;
use docker::Daemon;
use fabric::sandbox::Sandbox;
use topology::Plan;

use super::Refused;

/// Whether there is a daemon that will do. It is asked from this thread alone: a sandbox is forked by a process of one.
pub(super) fn check_daemon() -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(Daemon::connect())?;
    Ok(())
}

/// Whether the plan's files are to be had and this machine can.
pub(super) fn check(plan: &Plan) -> Result<(), Refused> {
    SharedFiles::check(plan).map_err(|error| Refused::Input(anyhow::Error::from(error)))?;
    fabric::preflight::require(plan).map_err(|unable| Refused::Machine(anyhow::Error::from(unable)))
}

/// What makes the nodes.
pub(super) fn ground(_sandbox: &Sandbox, _plan: &Plan) -> anyhow::Result<Ground> {
    Ok(Ground::Docker)
}

//! `testbed node`: the init of a node, for engines that start it as a program of its own.

use anyhow::Context;

use crate::status::Status;

pub(crate) fn node(name: String, control_fd: i32) -> anyhow::Result<Status> {
    let code = nodes::init::run_on_descriptor(name, control_fd).context("this is started by a conductor")?;
    Ok(Status::from_code(u8::try_from(code).unwrap_or(u8::MAX)))
}

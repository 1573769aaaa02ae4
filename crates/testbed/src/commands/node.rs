//! `testbed node`: the init of a node, for engines that start it as a program of its own.

use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use nodes::init::{self, InitOptions, User};

use crate::engine;
use crate::status::Status;

pub(crate) fn node(
    name: String,
    control_fd: Option<i32>,
    connect: Option<PathBuf>,
    packet_sockets: usize,
    caller: Option<User>,
) -> anyhow::Result<Status> {
    let code = match (control_fd, connect) {
        (Some(fd), _) => init::run_on_descriptor(name, fd).context("this is started by a conductor")?,
        (None, Some(path)) => in_container(name, &path, packet_sockets, caller)?,
        (None, None) => bail!("this is started by a conductor"),
    };
    Ok(Status::from_code(u8::try_from(code).unwrap_or(u8::MAX)))
}

/// Whoever listens on the socket says which links to make, and commands afterwards.
fn in_container(name: String, socket: &Path, packet_sockets: usize, caller: Option<User>) -> anyhow::Result<i32> {
    let control = UnixStream::connect(socket).with_context(|| format!("cannot connect to {}", socket.display()))?;
    fabric::adoption::settle(&control, &name, packet_sockets).context("cannot make the links of this node")?;
    Ok(init::run(InitOptions {
        name,
        control: control.into(),
        purge_sockets: Some(engine::purge_sockets),
        // Its names were there before it was.
        bind_hosts: None,
        caller,
    }))
}

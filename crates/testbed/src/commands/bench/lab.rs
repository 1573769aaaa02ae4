//! A fabric with ends to command, in a sandbox of its own.

use std::fs::File;
use std::io::{BufReader, Read, Seek, Write};
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use anyhow::Context;
use event::Verdict;
use fabric::sandbox::Sandbox;
use fabric::{Extras, Fabric, spawner};
use machine::{Seed, Time};
use nix::sys::memfd::{MFdFlags, memfd_create};
use serde_json::{Value, json};
use tokio::runtime::Runtime;
use topology::plan::{Interface, NodeId};
use topology::{NetemSupport, Overrides, Plan, Source};

use super::ends;
use super::protocol::{self, Answer, Command, Flow, Header, PORTS, Seen};

/// Links, and a process at each of their ends.
pub(super) struct Lab {
    pub(super) plan: Plan,
    fabric: Fabric,
    ends: Vec<(UnixStream, BufReader<UnixStream>)>,
    runtime: Runtime,
}

/// What one end got of the packets sent to it.
pub(super) struct Collected {
    pub(super) packets: Vec<Seen>,
    /// Frames that it had no room for.
    pub(super) unseen: u64,
}

/// How the relay did.
#[derive(Clone, Copy, Debug)]
pub(super) struct Relayed {
    /// Packets that it lost by itself.
    pub(super) own_losses: u64,
    /// How late it was, in milliseconds, at the 99th percentile.
    pub(super) late: f64,
    /// Packets that found a full queue.
    pub(super) queue_drops: u64,
}

/// Somebody has asked for the end (Ctrl-C).
#[derive(Debug, thiserror::Error)]
#[error("interrupted")]
pub(super) struct Interrupted;

/// Builds the links of a topology, measures, and takes them down again. The measuring happens in a process of its own, which
/// leaves nothing but the result, and what the relay has recorded in the folder for captures, if there is one.
pub(super) fn measure(
    text: &str,
    captures: Option<&Path>,
    measure: impl FnOnce(&mut Lab) -> anyhow::Result<Value> + Send,
) -> anyhow::Result<Value> {
    let overrides = Overrides { netem: NetemSupport::Seeded, ..Overrides::new(Seed::new(1)) };
    let plan = topology::load(&Source::new("bench.yaml", text), &overrides)
        .map_err(|wrong| anyhow::anyhow!("the bench's own topology: {wrong}"))?;
    fabric::preflight::require(&plan)?;
    let result = memfd_create("bench", MFdFlags::MFD_CLOEXEC).context("no memory for the result")?;
    let mut result = File::from(result);
    let captures = captures.map(Path::to_path_buf);
    let mut write = result.try_clone().context("no memory for the result")?;
    let code = fabric::sandbox::run(move |sandbox| match inside(sandbox, plan, captures, measure) {
        Ok(value) => u8::from(write.write_all(value.to_string().as_bytes()).is_err()),
        Err(error) => {
            eprintln!("error: {error:#}");
            1
        }
    })?;
    match code {
        0 => {}
        130 => return Err(Interrupted.into()),
        _ => anyhow::bail!("the bench failed"),
    }
    let mut text = String::new();
    result.rewind().and_then(|()| result.read_to_string(&mut text)).context("no result")?;
    serde_json::from_str(&text).context("no result")
}

/// What happens in the sandbox. Up to the spawner's start there must be no thread.
fn inside(
    sandbox: Sandbox,
    plan: Plan,
    captures: Option<PathBuf>,
    measure: impl FnOnce(&mut Lab) -> anyhow::Result<Value>,
) -> anyhow::Result<Value> {
    let spawner = spawner::start(&sandbox, 1, ends::node_main)?;
    let mut signals = sandbox.signals;
    signals.set_nonblocking(false).context("no signals")?;
    std::thread::spawn(move || {
        if signals.read_exact(&mut [0]).is_ok() {
            // Everything in the sandbox dies with this process.
            std::process::exit(Verdict::Interrupted.exit_status().into());
        }
    });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("no runtime")?;
    let mut fabric = runtime.block_on(fabric::raise(&plan, spawner, Extras { captures, probes: false }))?;
    let mut ends = Vec::new();
    for node in fabric.take_nodes() {
        let reader = node.control.try_clone().context("no way to an end")?;
        ends.push((node.control, BufReader::new(reader)));
    }
    let mut lab = Lab { plan, fabric, ends, runtime };
    let mut value = measure(&mut lab)?;
    let Lab { fabric, runtime, .. } = lab;
    if let Some(recorded) = runtime.block_on(fabric.end_capture())? {
        if let Some(why) = recorded.failed {
            anyhow::bail!("packets cannot be recorded: {why}");
        }
        value["recording"] = json!({ "written": recorded.recorded, "missing": recorded.unrecorded });
    }
    runtime.block_on(fabric.lower())?;
    Ok(value)
}

impl Lab {
    /// Has both ends do something, each its own, at the same time.
    pub(super) fn both(&mut self, commands: [Command; 2]) -> anyhow::Result<Vec<Answer>> {
        for ((control, _), command) in self.ends.iter().zip(&commands) {
            protocol::write(control, command).context("an end is gone")?;
        }
        self.ends.iter_mut().map(|(_, reader)| answer(reader)).collect()
    }

    /// Has one end do something.
    pub(super) fn one(&mut self, end: usize, command: &Command) -> anyhow::Result<Answer> {
        let (control, reader) = &mut self.ends[end];
        protocol::write(&*control, command).context("an end is gone")?;
        answer(reader)
    }

    /// Has one end begin something; what it answers is waited for with [`finish`](Lab::finish).
    pub(super) fn begin(&mut self, end: usize, command: &Command) -> anyhow::Result<()> {
        protocol::write(&self.ends[end].0, command).context("an end is gone")
    }

    /// See [`begin`](Lab::begin).
    pub(super) fn finish(&mut self, end: usize) -> anyhow::Result<Answer> {
        answer(&mut self.ends[end].1)
    }

    /// What an end has seen since it began to watch.
    pub(super) fn collect(&mut self, end: usize) -> anyhow::Result<Collected> {
        match self.one(end, &Command::Collect)? {
            Answer::Collected { packets, unseen } => Ok(Collected { packets, unseen }),
            other => anyhow::bail!("{other:?} instead of packets"),
        }
    }

    /// The interface of an end on the network of this name.
    pub(super) fn interface(&self, end: usize, network: &str) -> &Interface {
        let mut interfaces = self.plan.nodes()[end].interfaces.iter();
        let here = interfaces.find(|interface| self.plan.network(interface.network).name == network);
        here.expect("the bench's topologies have every end on every network")
    }

    /// What packets have in common that one end sends to the other on this network.
    pub(super) fn header(&self, id: u32, from: usize, network: &str, bytes: u32) -> Header {
        let [source, destination] = [from, 1 - from].map(|end| self.interface(end, network).mac);
        Header { id, bytes, source, destination }
    }

    /// Packets from one end to the other on this network, all at once; the caller says the rest.
    pub(super) fn flow(&self, id: u32, from: usize, network: &str, bytes: u32) -> Flow {
        let (near, far) = (self.interface(from, network), self.interface(1 - from, network));
        Flow {
            id,
            interface: near.name.clone(),
            from: SocketAddr::new(near.address, PORTS.0),
            to: SocketAddr::new(far.address, PORTS.1),
            mac: far.mac,
            bytes,
            packets: 0,
            turn: 1,
            interval: 0,
            offset: 0,
            line: 0,
        }
    }

    /// Changes the link of the first end; when that took effect.
    pub(super) fn set_link(&mut self, profile: &link::Profile) -> anyhow::Result<Time> {
        let left: NodeId = self.plan.node_ids().next().expect("there are two nodes");
        Ok(self.runtime.block_on(self.fabric.set_link(left, 0, profile))?)
    }

    /// Waits until the relay, if there is one, has nothing under way any more; how it did.
    pub(super) fn settle(&mut self) -> anyhow::Result<Option<Relayed>> {
        // A change, of nothing here, comes after all that has arrived: no packet is left unread.
        self.runtime.block_on(self.fabric.heal(u32::MAX))?;
        loop {
            let Some(snapshot) = self.runtime.block_on(self.fabric.snapshot())? else { return Ok(None) };
            let halves = || snapshot.networks.iter().flat_map(link::NetworkCounters::halves);
            if halves().map(|half| half.in_flight.packets).sum::<u64>() == 0 {
                return Ok(Some(Relayed {
                    own_losses: snapshot.own_losses(),
                    late: super::timer::millis(snapshot.lateness.quantile(0.99)),
                    queue_drops: halves().map(|half| half.dropped.queue.packets).sum(),
                }));
            }
            super::timer::wait_until(fabric::clock::now() + machine::Span::from_millis(5));
        }
    }
}

fn answer(reader: &mut BufReader<UnixStream>) -> anyhow::Result<Answer> {
    match protocol::read(reader).context("an end is gone")? {
        Some(Answer::Failed(why)) => anyhow::bail!("an end of the links failed: {why}"),
        Some(answer) => Ok(answer),
        None => anyhow::bail!("an end of the links is gone"),
    }
}

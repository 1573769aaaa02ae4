//! The roles of a topology that exist in virtual time.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use machine::{Span, Time};
use p2mp::classic::{SenderConfig, Timeout};
use topology::Plan;
use topology::plan::{
    FileId, FileSource, Node, NodeId, P2MP_PORT, Program as Planned, Role, SegmentTimeout, TransferMode,
};

use crate::classic::{ClassicReceiver, ClassicSender, Task};
use crate::fast::{self, FastReceiver, FastSender};
use crate::program::{Disk, Program};
use crate::router::Router;
use crate::run::Cast;

/// Gives each role its program.
#[derive(Debug, Default)]
pub struct Roles;

/// How long a receiver that has its file answers a sender that has not heard so.
const LINGER: Span = Span::from_secs(3);

impl Cast for Roles {
    fn start(&mut self, plan: &Plan, node: NodeId, disk: &Disk, now: Time) -> Result<Box<dyn Program>, String> {
        match &plan.node(node).program {
            Planned::Role(Role::P2mpSender { to, file, mss, mode: TransferMode::StopAndWait { timeout }, give_up }) => {
                let config = SenderConfig {
                    length: size(plan, *file)?,
                    mss: *mss,
                    receivers: to.len(),
                    timeout: match timeout {
                        SegmentTimeout::Adaptive => Timeout::Adaptive,
                        SegmentTimeout::Fixed(span) => Timeout::Fixed(*span),
                        SegmentTimeout::Shared(span) => Timeout::Shared(*span),
                    },
                    give_up: *give_up,
                };
                let task = Task { file: *file, receivers: addresses(plan, node, to), config };
                Ok(Box::new(ClassicSender::new(task, now).map_err(|error| error.to_string())?))
            }
            Planned::Role(Role::P2mpSender {
                to,
                file,
                mss,
                mode: TransferMode::Fast { multicast, rate },
                give_up,
            }) => {
                let interface = &plan.node(node).interfaces[0];
                let task = fast::Task {
                    file: *file,
                    name: plan.file(*file).name.clone(),
                    length: size(plan, *file)?,
                    receivers: addresses(plan, node, to),
                    most_payload: u16::try_from(*mss).unwrap_or(u16::MAX),
                    mtu: plan.network(interface.network).mtu,
                    multicast: multicast.unwrap_or(true),
                    rate: *rate,
                    give_up: *give_up,
                    seed: plan.node(node).seed.derive(&format!("start/{}", now.as_nanos())),
                };
                Ok(Box::new(FastSender::new(task, now).map_err(|error| error.to_string())?))
            }
            Planned::Role(Role::P2mpReceiver { p, out }) if let Some(file) = fast_file(plan, node) => {
                let seed = plan.node(node).seed;
                Ok(Box::new(FastReceiver::new(P2MP_PORT, out.clone(), file, *p, seed, disk.journal().cloned())))
            }
            Planned::Role(Role::P2mpReceiver { p, out }) => {
                let seed = plan.node(node).seed;
                let total = expected(plan, node);
                Ok(Box::new(ClassicReceiver::new(P2MP_PORT, out.clone(), *p, seed, total, LINGER)))
            }
            Planned::Role(Role::Router) => Ok(Box::new(Router::new())),
            other => Err(format!("{} is no program of virtual time", name(other))),
        }
    }

    fn check(&self, plan: &Plan) -> Result<(), String> {
        for node in plan.nodes() {
            if let Some(other) = routed_mtu(plan, node) {
                let name = &node.name;
                return Err(format!("node `{name}` routes between MTUs ({other}), which only real packets take"));
            }
            if !matches!(
                &node.program,
                Planned::Role(Role::P2mpSender { .. } | Role::P2mpReceiver { .. } | Role::Router)
            ) {
                let program = name(&node.program);
                return Err(format!("node `{}` runs {program}, which exists only as a process", node.name));
            }
            if let Planned::Role(Role::P2mpSender { to, file, mode, .. }) = &node.program {
                size(plan, *file)?;
                let is_classic = matches!(mode, TransferMode::StopAndWait { .. });
                if let Some(both) = to.iter().find(|receiver| is_classic && fast_file(plan, **receiver).is_some()) {
                    let name = &plan.node(*both).name;
                    return Err(format!("node `{name}` is sent to in both modes, which only the real program takes"));
                }
            }
        }
        Ok(())
    }
}

/// A router's MTUs in words, if they differ: what is too large for the next network is not cut here.
fn routed_mtu(plan: &Plan, node: &Node) -> Option<String> {
    let mtus: BTreeSet<u32> = node.interfaces.iter().map(|interface| plan.network(interface.network).mtu).collect();
    let words = mtus.iter().map(u32::to_string).collect::<Vec<_>>().join(", ");
    (node.is_router() && mtus.len() > 1).then_some(words)
}

fn addresses(plan: &Plan, sender: NodeId, receivers: &[NodeId]) -> Vec<(String, SocketAddr)> {
    let ways = plan.ways();
    let receivers = receivers.iter().map(|receiver| {
        let planned = plan.node(*receiver);
        let interface = ways.nearest(sender, *receiver).unwrap_or(0);
        (planned.name.clone(), SocketAddr::new(planned.interfaces[interface].address, P2MP_PORT))
    });
    receivers.collect()
}

/// The file that a sender in fast mode has for this receiver, if there is such a sender.
fn fast_file(plan: &Plan, receiver: NodeId) -> Option<FileId> {
    plan.nodes().iter().find_map(|node| match &node.program {
        Planned::Role(Role::P2mpSender { to, file, mode: TransferMode::Fast { .. }, .. }) if to.contains(&receiver) => {
            Some(*file)
        }
        _ => None,
    })
}

/// Bytes of a file.
pub(crate) fn size(plan: &Plan, file: FileId) -> Result<u64, String> {
    let file = plan.file(file);
    match &file.source {
        FileSource::Generated { size, .. } => Ok(size.as_bytes()),
        FileSource::Existing(path) => {
            let path = path.display();
            Err(format!("file `{}` is {path}; virtual time reads no files, give a `size` instead", file.name))
        }
    }
}

/// How much a receiver will get, by the sender that names it first; nothing if none does.
fn expected(plan: &Plan, receiver: NodeId) -> u64 {
    let mut senders = plan.nodes().iter().filter_map(|node| match &node.program {
        Planned::Role(Role::P2mpSender { to, file, .. }) if to.contains(&receiver) => Some(*file),
        _ => None,
    });
    senders.next().and_then(|file| size(plan, file).ok()).unwrap_or_default()
}

fn name(program: &Planned) -> String {
    match program {
        Planned::Role(role) => format!("`{}`", role.name()),
        Planned::Run { words, .. } => format!("`{}`", words.first().map(String::as_str).unwrap_or_default()),
    }
}

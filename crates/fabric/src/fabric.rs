//! The standing network of a plan: raised as a whole or not at all, and changed while it stands.
//!
//! * `layout`: what is to be made, worked out before anything is. `kernel`: what that depends on beside the plan.
//! * `joint`: where an interface meets a network that netem shapes.
//! * `counts`: what became of the packets on netem networks.
//! * `shapers`: what each netem was told, and whether it does that.

mod counts;
mod joint;
mod kernel;
mod layout;
mod shapers;

use std::collections::BTreeMap;
use std::fmt;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use link::{PartitionKey, Profile};
use machine::Time;
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use topology::Plan;
use topology::plan::NodeId;

use crate::adoption::{self, Adoptee};
use crate::calibration::{Inside, Probe};
use crate::clock;
use crate::netlink::{Batch, KeptNetem, Netlink, Refusal};
use crate::relay::{
    Applied, CaptureSummary, Relay, RelayError, RelayHandle, RelayPort, RelaySnapshot, RelayStopped, StartedCapture,
};
use crate::spawner::order::{Order, Stage};
use crate::spawner::{Spawner, Stillborn};
pub use counts::NetemCount;
use kernel::this_kernel;
pub(crate) use kernel::{has_ipv6, relays_udp_trains};
pub use layout::Offload;
pub(crate) use layout::near_index;
use layout::{Layout, Port};
pub use shapers::{DropReasons, NotKept};
use shapers::{ShapedHalves, Shapers};

/// All networks and nodes of a plan. Everything in it dies with the sandbox.
#[derive(Debug)]
pub struct Fabric {
    nodes: Vec<RaisedNode>,
    ports: Vec<Vec<Port>>,
    /// How to get into each node, in the plan's order, until links have been measured.
    pub(crate) insides: Vec<Inside>,
    /// Interfaces for measuring links, until that is done.
    pub(crate) probes: Vec<Probe>,
    relay: Option<RelayHandle>,
    shapers: Shapers,
    hub: Netlink,
}

/// What a fabric has beside what its plan asks for.
#[derive(Clone, Debug, Default)]
pub struct Extras {
    /// The folder in which the packets of all networks that the relay carries are recorded.
    pub captures: Option<PathBuf>,
    /// Whether there is what links can be [measured](Fabric::calibrate) with.
    pub probes: bool,
}

/// Where a plan's nodes come from.
#[derive(Debug)]
pub enum Births {
    /// They are made, in namespaces of their own.
    Spawner(Spawner),
    /// They are there, in the plan's order, and only lack their links.
    Adopted(Vec<Adoptee>),
}

impl From<Spawner> for Births {
    fn from(spawner: Spawner) -> Self {
        Births::Spawner(spawner)
    }
}

/// A node whose links carry packets and whose `node_main` runs.
#[derive(Debug)]
pub struct RaisedNode {
    /// Which.
    pub id: NodeId,
    /// The other end of [`NodeStart::control`](crate::NodeStart::control). It closes when that process ends.
    pub control: UnixStream,
}

/// Why the fabric does not stand. Nothing of it does.
#[derive(Debug)]
pub struct RaiseError {
    /// Everything that went wrong, in the order in which it did; what could not be undone comes last.
    pub failures: Vec<RaiseFailure>,
}

/// One thing that went wrong.
#[derive(Debug, thiserror::Error)]
pub enum RaiseFailure {
    /// A netem does not do what the kernel accepted.
    #[error("{0}")]
    Netem(NotKept),
    /// The kernel refused a step for the whole fabric.
    #[error("{intent}: {errno}")]
    Hub {
        /// What was wanted.
        intent: String,
        /// The kernel's answer.
        errno: Errno,
    },
    /// A node could not be made.
    #[error("node {node}: {intent}: {errno}")]
    Node {
        /// Its name.
        node: String,
        /// What was wanted.
        intent: String,
        /// The kernel's answer.
        errno: Errno,
    },
    /// The relay could not be started.
    #[error("start the relay")]
    Relay(#[source] RelayError),
}

/// Why a link does not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// The relay's thread has ended.
    #[error(transparent)]
    Relay(#[from] RelayStopped),
    /// A bridge carries the network, and a bridge impairs nothing.
    #[error("the network of interface {interface} is a bridge, which nothing can impair")]
    Bridge {
        /// Index among the node's interfaces.
        interface: usize,
    },
    /// The node has no such interface.
    #[error("there is no interface {interface}")]
    NoInterface {
        /// Index among the node's interfaces.
        interface: usize,
    },
    /// A netem does not do what the kernel accepted.
    #[error("{0}")]
    Netem(NotKept),
    /// The kernel refused.
    #[error("{intent}: {errno}")]
    Refused {
        /// What was wanted.
        intent: String,
        /// Its answer.
        errno: Errno,
    },
}

/// What becomes, on this machine's kernel, of the trains of packets that segmentation offload makes: for each node of the
/// plan, for each of its interfaces.
pub fn offloads(plan: &Plan) -> Vec<Vec<Offload>> {
    layout::offloads(plan, this_kernel())
}

/// Raises all networks and nodes of `plan`. To be called in the sandbox, in its network namespace.
///
/// When this fails, what was made is undone in reverse order, and every failure is told.
pub async fn raise(plan: &Plan, births: impl Into<Births>, extras: Extras) -> Result<Fabric, RaiseError> {
    let births = births.into();
    let own =
        adoption::hub_descriptor().map_err(|error| hub_failure("open the network namespace", errno_of(&error)))?;
    // The number by which the requests of nodes name it.
    let hub = match &births {
        Births::Spawner(spawner) => spawner.hub(),
        Births::Adopted(_) => own.as_raw_fd(),
    };
    let layout = Layout::of(plan, hub, this_kernel(), extras.probes);
    let Layout { bridges, orders, ports, mut relay, shapers, probes } = layout;
    relay.capture = extras.captures;
    let mut hub = Netlink::open().map_err(|error| hub_failure("open a netlink socket", errno_of(&error)))?;
    let (make, delete) = layout::bridge_batches(&bridges);
    if let Err(refusal) = hub.apply(make.bytes(), make.len()) {
        // Those that are not there cannot be deleted, which is no news.
        let _ = hub.apply(delete.bytes(), delete.len());
        return Err(RaiseError { failures: vec![refused(&make, refusal)] });
    }

    // The relay needs the numbers of its interfaces, not yet the interfaces: its buffers are made beside the nodes.
    let relay =
        tokio::task::spawn_blocking(
            move || {
                if relay.networks.is_empty() { Ok(None) } else { Relay::start(relay).map(Some) }
            },
        );
    let made = tokio::task::spawn_blocking(move || {
        let born = match births {
            Births::Spawner(spawner) => spawner.spawn(&orders),
            Births::Adopted(adoptees) => adoption::adopt(adoptees, &orders, &own),
        };
        (orders, born)
    });
    let (made, relay) = (made.await, relay.await);
    let mut failures = Vec::new();
    let (mut nodes, mut insides) = (Vec::new(), Vec::new());
    match made {
        Ok((orders, born)) => {
            for ((id, order), outcome) in plan.node_ids().zip(&orders).zip(born) {
                match outcome {
                    Ok(born) => {
                        nodes.push(RaisedNode { id, control: born.control.into() });
                        insides.push(born.pid.map_or(Inside::Sockets(born.sockets), Inside::Process));
                    }
                    Err(stillborn) => failures.push(node_failure(order, stillborn)),
                }
            }
        }
        Err(_) => failures.push(RaiseFailure::Hub { intent: "make nodes".to_owned(), errno: Errno::ECANCELED }),
    }
    let relay = match relay {
        Ok(Ok(relay)) => relay,
        Ok(Err(error)) => {
            failures.push(RaiseFailure::Relay(error));
            None
        }
        Err(_) => {
            failures.push(RaiseFailure::Hub { intent: "start the relay".to_owned(), errno: Errno::ECANCELED });
            None
        }
    };
    if failures.is_empty() && !shapers.is_empty() {
        // Shaping that was accepted and does nothing would look like a fast network.
        match hub.netems() {
            Ok(kept) => failures.extend(shapers.not_kept(&kept).into_iter().map(RaiseFailure::Netem)),
            Err(error) => {
                let errno = errno_of(&error);
                failures.push(RaiseFailure::Hub { intent: "read the links back".to_owned(), errno });
            }
        }
    }
    if failures.is_empty() {
        return Ok(Fabric { nodes, ports, insides, probes, relay, shapers, hub });
    }
    drop(relay);
    end_all_processes();
    if let Err(refusal) = hub.apply(delete.bytes(), delete.len()) {
        failures.push(refused(&delete, refusal));
    }
    Err(RaiseError { failures })
}

impl Fabric {
    /// Hands over the nodes, in the plan's order; empty the second time.
    pub fn take_nodes(&mut self) -> Vec<RaisedNode> {
        std::mem::take(&mut self.nodes)
    }

    /// Gives a node's interface another profile, from the returned instant on.
    pub async fn set_link(&mut self, node: NodeId, interface: usize, profile: &Profile) -> Result<Time, LinkError> {
        let port = *self.ports[node.index()].get(interface).ok_or(LinkError::NoInterface { interface })?;
        if let Some(halves) = port.netem {
            return self.reshape(halves, profile);
        }
        match (port.relay, &self.relay) {
            (Some(port), Some(relay)) => Ok(relay.set_profile(port, profile.clone())?),
            _ => Err(LinkError::Bridge { interface }),
        }
    }

    /// Cuts all links of a node: nothing leaves it and nothing reaches it, and what is under way is lost.
    pub async fn cut(&mut self, node: NodeId) -> Result<(), LinkError> {
        self.switch(node, RelayHandle::cut, Batch::set_down)
    }

    /// Joins them again.
    pub async fn restore(&mut self, node: NodeId) -> Result<(), LinkError> {
        self.switch(node, RelayHandle::restore, Batch::set_up)
    }

    /// Nodes in different lists cannot reach each other until [`heal`](Fabric::heal) with the same key; those in no list
    /// reach all. Several partitions can stand at once.
    pub async fn partition(&mut self, key: u32, lists: &[Vec<NodeId>]) -> Result<(), LinkError> {
        let Some(relay) = &self.relay else { return Err(LinkError::Bridge { interface: 0 }) };
        let mut ports = Vec::with_capacity(lists.len());
        for node_list in lists {
            let mut list = Vec::new();
            for node in node_list {
                for (interface, port) in self.ports[node.index()].iter().enumerate() {
                    list.push(port.relay.ok_or(LinkError::Bridge { interface })?);
                }
            }
            ports.push(list);
        }
        relay.partition(PartitionKey(u64::from(key)), ports)?;
        Ok(())
    }

    /// Ends a partition.
    pub async fn heal(&mut self, key: u32) -> Result<(), LinkError> {
        if let Some(relay) = &self.relay {
            relay.heal(PartitionKey(u64::from(key)))?;
        }
        Ok(())
    }

    /// From now on links are as new: nothing is in them, nothing was drawn or counted. Probes have no place any more.
    pub(crate) fn renew_links(&mut self) -> Result<(), LinkError> {
        self.probes.clear();
        if let Some(relay) = &self.relay {
            relay.end_calibration()?;
        }
        if self.shapers.is_empty() {
            return Ok(());
        }
        let mut batch = Batch::default();
        self.shapers.renew(&mut batch);
        self.apply(&batch)?;
        let kept = self.netems()?;
        self.shapers.not_kept(&kept).pop().map_or(Ok(()), |not_kept| Err(LinkError::Netem(not_kept)))
    }

    /// From now on all traces of links are at their beginning: for t = 0.
    pub async fn begin_traces(&self) -> Result<(), LinkError> {
        if let Some(relay) = &self.relay {
            relay.begin_traces()?;
        }
        Ok(())
    }

    /// What became of all packets and how well the relay kept time; `None` where bridges carry everything.
    pub async fn snapshot(&self) -> Result<Option<RelaySnapshot>, LinkError> {
        Ok(self.relay.as_ref().map(RelayHandle::snapshot).transpose()?)
    }

    /// Records nothing more, and waits until what was recorded is written. `None` where nothing was.
    pub async fn end_capture(&self) -> Result<Option<CaptureSummary>, LinkError> {
        let ending = self.relay.as_ref().map(RelayHandle::end_capture).transpose()?.flatten();
        let Some(ending) = ending else { return Ok(None) };
        // A task that is cancelled has not waited, and there is nobody left to tell.
        Ok(tokio::task::spawn_blocking(|| ending.wait()).await.ok())
    }

    /// What the relay was changed by since this was asked last, in the order in which that happened.
    pub fn take_changes(&mut self) -> Vec<Applied> {
        self.relay.as_ref().map(RelayHandle::take_changes).unwrap_or_default()
    }

    /// What is recorded, if anything is.
    pub fn capture(&self) -> Option<&StartedCapture> {
        self.relay.as_ref().and_then(RelayHandle::capture)
    }

    /// Where in a [`RelaySnapshot`] a node's interface is; `None` on a bridge.
    pub fn place(&self, node: NodeId, interface: usize) -> Option<RelayPort> {
        self.ports[node.index()].get(interface)?.relay
    }

    /// Half links that netem shapes and that have lost packets although nothing in the plan asks for it, with how many:
    /// more came during the delay than the kernel keeps. Not empty: the run is invalid.
    pub async fn netem_overflows(&mut self) -> Result<Vec<(String, u32)>, LinkError> {
        if self.shapers.is_empty() {
            return Ok(Vec::new());
        }
        let kept = self.netems()?;
        Ok(self.shapers.overflows(&kept).map(|(half, packets)| (half.to_owned(), packets)).collect())
    }

    /// Ends every process of the sandbox but the caller's, and the relay. The kernel takes the interfaces and namespaces
    /// down after them, by itself. Returns what became of all packets, as [`snapshot`](Fabric::snapshot).
    pub async fn lower(self) -> Result<Option<RelaySnapshot>, LinkError> {
        end_all_processes();
        Ok(self.relay.map(RelayHandle::stop).transpose()?)
    }

    fn switch(
        &mut self,
        node: NodeId,
        relayed: fn(&RelayHandle, RelayPort) -> Result<Time, RelayStopped>,
        bridged: fn(&mut Batch, u32),
    ) -> Result<(), LinkError> {
        let mut batch = Batch::default();
        for port in &self.ports[node.index()] {
            match (port.relay, &self.relay) {
                (Some(port), Some(relay)) => {
                    relayed(relay, port)?;
                }
                _ => {
                    // What is under way leaves a netem when its interface goes down.
                    let up = port.netem.and_then(|halves| halves.up);
                    up.into_iter().chain([port.index]).for_each(|index| bridged(&mut batch, index));
                }
            }
        }
        self.apply(&batch)
    }

    fn reshape(&mut self, halves: ShapedHalves, profile: &Profile) -> Result<Time, LinkError> {
        let mut batch = Batch::default();
        for (at, half) in [(halves.up, &profile.up), (halves.down, &profile.down)] {
            // Where there is none, no event of the plan changes that half.
            if let Some(at) = at {
                self.shapers.change(&mut batch, at, half);
            }
        }
        self.apply(&batch)?;
        let changed = clock::now();
        let kept = self.netems()?;
        self.shapers.not_kept(&kept).into_iter().next().map_or(Ok(changed), |not_kept| Err(LinkError::Netem(not_kept)))
    }

    fn apply(&mut self, batch: &Batch) -> Result<(), LinkError> {
        self.hub.apply(batch.bytes(), batch.len()).map_err(|Refusal { sequence, errno }| LinkError::Refused {
            intent: batch.intent(sequence).to_owned(),
            errno,
        })
    }

    fn netems(&mut self) -> Result<BTreeMap<u32, KeptNetem>, LinkError> {
        self.hub
            .netems()
            .map_err(|error| LinkError::Refused { intent: "read the links back".to_owned(), errno: errno_of(&error) })
    }
}

impl fmt::Display for RaiseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        /// A thousand nodes fail for the same reason.
        const SHOWN: usize = 3;
        for (at, failure) in self.failures.iter().take(SHOWN).enumerate() {
            write!(f, "{}{failure}", if at == 0 { "" } else { "; " })?;
            let mut cause = std::error::Error::source(failure);
            while let Some(source) = cause {
                write!(f, ": {source}")?;
                cause = source.source();
            }
        }
        match self.failures.len().saturating_sub(SHOWN) {
            0 => Ok(()),
            more => write!(f, "; and {more} more"),
        }
    }
}

impl std::error::Error for RaiseError {}

/// Kills what is left in the caller's PID namespace, of which it is the first process: nodes, all that runs in them, and
/// spawners. It says so to nobody else.
fn end_all_processes() {
    if nix::unistd::getpid() == Pid::from_raw(1) {
        let _ = kill(Pid::from_raw(-1), Signal::SIGKILL);
    }
}

fn node_failure(order: &Order, Stillborn { stage, sequence, errno }: Stillborn) -> RaiseFailure {
    let intent = match stage {
        Stage::Spawner => "reach the spawner",
        Stage::Clone => "make namespaces",
        Stage::Users => "map its users",
        Stage::Settings => "write its network settings",
        Stage::HostName => "set its host name",
        Stage::Netlink => "open a netlink socket",
        Stage::Inside => order.inside.intent(sequence),
        Stage::Hub => order.hub.intent(sequence),
        Stage::Carrier => "wait for its links to come up",
        Stage::Sockets => "open packet sockets",
        Stage::Died => "start it: it died",
    };
    RaiseFailure::Node { node: order.name.clone(), intent: intent.to_owned(), errno }
}

fn refused(batch: &Batch, Refusal { sequence, errno }: Refusal) -> RaiseFailure {
    RaiseFailure::Hub { intent: batch.intent(sequence).to_owned(), errno }
}

fn hub_failure(intent: &str, errno: Errno) -> RaiseError {
    RaiseError { failures: vec![RaiseFailure::Hub { intent: intent.to_owned(), errno }] }
}

fn errno_of(error: &std::io::Error) -> Errno {
    Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO))
}

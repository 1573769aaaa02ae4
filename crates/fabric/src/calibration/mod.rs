//! Links measured before nodes start: probes go out of and into the nodes' own namespaces, through everything that their
//! programs' packets will pass, from and to an interface that nothing shapes, in a namespace that is there for this alone.
//!
//! * [`link::calibration`] decides what is sent and what it says.
//! * `places`: the namespace of the probes, and sockets where trains begin and end.
//! * `prober`: carries out batches.
//! * `socket`, `frame`: packet(7), and what is sent by it.

mod frame;
mod places;
mod prober;
mod socket;

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use link::calibration::{Calibration, Capacity, Depth, Disturbance, Finding, Way};
use machine::Span;
use nix::errno::Errno;
use topology::Plan;
use topology::plan::{NetworkId, NodeId};

use crate::fabric::{Fabric, LinkError};
use crate::relay::RelaySnapshot;
use frame::Mac;
pub(crate) use places::Inside;
use places::Places;
use prober::Prober;
use socket::ProbeSocket;

/// What measuring the links of a plan has found.
#[derive(Clone, Debug)]
pub struct Calibrated {
    /// Each half link that impairs anything, and each pair.
    pub links: Vec<MeasuredLink>,
    /// How many full frames a second this machine carries.
    pub capacity: Capacity,
    /// Batches of trains.
    pub batches: u32,
    /// Of those that were disturbed, the last one's reason.
    pub disturbance: Option<Disturbance>,
}

/// A half link, or a pair between two nodes, and what was found of it.
#[derive(Clone, Debug)]
pub struct MeasuredLink {
    /// Which.
    pub half: MeasuredHalf,
    /// On this network.
    pub network: NetworkId,
    /// What it should do.
    pub way: Way,
    /// What it does.
    pub finding: Finding,
}

/// What was measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MeasuredHalf {
    /// What leaves the node.
    Up(NodeId),
    /// What reaches the node.
    Down(NodeId),
    /// The whole way from one node to another, their own links included.
    Between(NodeId, NodeId),
}

/// Why links could not be measured.
#[derive(Debug, thiserror::Error)]
pub enum CalibrationError {
    /// The place that probes come from could not be made.
    #[error("make a namespace for probes: {intent}: {errno}")]
    Namespace {
        /// What was wanted.
        intent: String,
        /// The kernel's answer.
        errno: Errno,
    },
    /// There is no socket to be had in a node.
    #[error("open a packet socket in {place}")]
    Socket {
        /// A node's name, or `the namespace of probes`.
        place: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// A probe could not be sent or received.
    #[error("send probes")]
    Probe(#[source] io::Error),
    /// Links that were measured could not be made anew.
    #[error(transparent)]
    Link(#[from] LinkError),
}

/// Beyond this a late relay disturbs.
const LATE: Span = Span::from_millis(2);

/// What a train passes, and from where to where.
#[derive(Clone, Debug)]
struct Task {
    half: MeasuredHalf,
    network: NetworkId,
    way: Way,
    from: Place,
    source: Mac,
    to: Place,
    destination: Mac,
}

/// Where a train begins or ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Place {
    /// The probes' interface on this network.
    Probe(usize),
    /// This interface of this node.
    Node(usize, usize),
}

/// A socket for probes, at no interface yet.
pub(crate) fn probe_socket() -> io::Result<OwnedFd> {
    Ok(ProbeSocket::unbound()?.into_fd())
}

/// Ends the measuring when nobody waits for it any more.
struct StopWhenDropped(Arc<AtomicBool>);

impl Drop for StopWhenDropped {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Fabric {
    /// Measures every half link of `plan` that impairs anything, and every pair. Afterwards links are as new: empty, with
    /// counters at zero and all chances still to be drawn, whether this succeeded or not.
    ///
    /// The fabric must have been [raised](crate::raise) with probes; without, there is nothing to find.
    ///
    /// # Errors
    /// When there are no sockets to be had, or links could not be made anew.
    pub async fn calibrate(&mut self, plan: &Plan, depth: Depth) -> Result<Option<Calibrated>, CalibrationError> {
        if self.probes.is_empty() {
            return Ok(None);
        }
        let measured = self.measure(plan, depth).await;
        self.renew_links()?;
        measured.map(Some)
    }

    async fn measure(&mut self, plan: &Plan, depth: Depth) -> Result<Calibrated, CalibrationError> {
        let tasks = self.tasks(plan);
        let stop = StopWhenDropped(Arc::new(AtomicBool::new(false)));
        let places = Places {
            probes: self.probes.clone(),
            nodes: plan.nodes().iter().map(|node| node.name.clone()).zip(std::mem::take(&mut self.insides)).collect(),
            has_ipv6: crate::fabric::has_ipv6(),
        };
        let asked: Vec<Task> = tasks.clone();
        let stopped = Arc::clone(&stop.0);
        // A thread of its own, as it goes from namespace to namespace.
        let opening = std::thread::Builder::new()
            .name("calibration".to_owned())
            .spawn(move || places.open(&asked, stopped))
            .map_err(CalibrationError::Probe)?;
        let opened = tokio::task::spawn_blocking(move || opening.join()).await;
        let mut prober = match opened {
            Ok(Ok(opened)) => opened?,
            _ => return Err(CalibrationError::Probe(io::Error::other("the thread that opens sockets has failed"))),
        };

        let first = &self.probes[0];
        let (ends, bytes, returns) = (prober.loop_at(0, first.mac), first.mtu + 14, first.is_relayed());
        let capacity;
        (prober, capacity) = aside(prober, move |prober| prober.capacity(ends, bytes, returns)).await?;
        let mut calibration = Calibration::new(tasks.iter().map(|task| task.way.clone()).collect(), capacity, depth);
        let mut disturbance = None;
        let mut before = self.snapshot().await?;
        while let Some(batch) = calibration.next_batch() {
            let mut seen;
            (prober, seen) = aside(prober, move |prober: &mut Prober| prober.carry_out(&batch)).await?;
            let after = self.snapshot().await?;
            seen.disturbance = seen.disturbance.or(disturbed_relay(before.as_ref(), after.as_ref()));
            disturbance = seen.disturbance.or(disturbance);
            before = after;
            calibration.handle(seen);
        }
        close_aside(prober);
        let links = tasks.into_iter().zip(calibration.findings());
        let links = links
            .map(|(Task { half, network, way, .. }, finding)| MeasuredLink { half, network, way, finding })
            .collect();
        Ok(Calibrated { links, capacity, batches: calibration.batches(), disturbance })
    }

    /// What there is to measure.
    fn tasks(&self, plan: &Plan) -> Vec<Task> {
        let mut tasks = Vec::new();
        let probe_on = |network: NetworkId| self.probes.iter().position(|probe| probe.network == network);
        for node in plan.node_ids() {
            for (nth, interface) in plan.node(node).interfaces.iter().enumerate() {
                let network = interface.network;
                let Some(probe) = probe_on(network) else { continue };
                let inside = (Place::Node(node.index(), nth), interface.mac);
                let outside = (Place::Probe(probe), self.probes[probe].mac);
                let mtu = plan.network(network).mtu;
                let halves = [
                    (MeasuredHalf::Up(node), &interface.link.up, inside, outside),
                    (MeasuredHalf::Down(node), &interface.link.down, outside, inside),
                ];
                for (half, profile, from, to) in halves {
                    if !profile.is_transparent() {
                        let way = Way::new(vec![profile.clone()], mtu);
                        let way = if self.probes[probe].is_relayed() { way } else { way.counting_packets() };
                        tasks.push(Task::between(half, network, way, from, to));
                    }
                }
            }
        }
        for pair in plan.pairs() {
            for (from_nth, from) in plan.node(pair.from).interfaces.iter().enumerate() {
                for (to_nth, to) in plan.node(pair.to).interfaces.iter().enumerate() {
                    if from.network == to.network && probe_on(from.network).is_some() && !pair.link.is_transparent() {
                        let halves = vec![from.link.up.clone(), pair.link.clone(), to.link.down.clone()];
                        tasks.push(Task::between(
                            MeasuredHalf::Between(pair.from, pair.to),
                            from.network,
                            Way::new(halves, plan.network(from.network).mtu),
                            (Place::Node(pair.from.index(), from_nth), from.mac),
                            (Place::Node(pair.to.index(), to_nth), to.mac),
                        ));
                    }
                }
            }
        }
        tasks
    }
}

impl Task {
    fn between(half: MeasuredHalf, network: NetworkId, way: Way, from: (Place, Mac), to: (Place, Mac)) -> Self {
        let ((from, source), (to, destination)) = (from, to);
        Task { half, network, way, from, source, to, destination }
    }
}

/// What the relay did between two snapshots that made frames late, or lost them.
fn disturbed_relay(before: Option<&RelaySnapshot>, after: Option<&RelaySnapshot>) -> Option<Disturbance> {
    let (before, after) = (before?, after?);
    let lost = after.own_losses().saturating_sub(before.own_losses());
    if lost > 0 {
        return Some(Disturbance::Receiver(lost));
    }
    let late = after.lateness.largest_since(&before.lateness);
    (late > LATE).then_some(Disturbance::Carrier(late))
}

/// Lets the prober work beside the run's own thread, which hears signals meanwhile.
async fn aside<T: Send + 'static>(
    mut prober: Prober,
    work: impl FnOnce(&mut Prober) -> io::Result<T> + Send + 'static,
) -> Result<(Prober, T), CalibrationError> {
    let working = tokio::task::spawn_blocking(move || {
        let done = work(&mut prober);
        (prober, done)
    });
    match working.await {
        Ok((prober, done)) => Ok((prober, done.map_err(CalibrationError::Probe)?)),
        Err(_) => Err(CalibrationError::Probe(io::Error::other("the thread that sends probes has failed"))),
    }
}

/// Closing a packet socket takes 11 ms each, in which the kernel waits for nothing of ours: nodes need not wait for that.
fn close_aside(prober: Prober) {
    /// Enough for a hundred nodes in a fifth of a second.
    const THREADS: usize = 8;
    let mut sockets = prober.sockets;
    let share = sockets.len().div_ceil(THREADS).max(1);
    while !sockets.is_empty() {
        let some = sockets.split_off(sockets.len().saturating_sub(share));
        // Where there is no thread to be had, dropping them here takes as long as it takes.
        let _detached = std::thread::Builder::new().name("close-probes".to_owned()).spawn(move || drop(some));
    }
}

/// Where a probe interface is, as the layout has it.
#[derive(Clone, Debug)]
pub(crate) struct Probe {
    /// On this network.
    pub network: NetworkId,
    /// In the namespace of the probes.
    pub near: u32,
    /// In the hub.
    pub far: u32,
    /// Of the near end.
    pub mac: Mac,
    /// Of the network.
    pub mtu: u32,
    /// The network's bridge; absent where the relay carries it.
    pub bridge: Option<u32>,
}

impl Probe {
    /// Whether the relay carries what it sends, so that a frame to itself comes back.
    fn is_relayed(&self) -> bool {
        self.bridge.is_none()
    }
}

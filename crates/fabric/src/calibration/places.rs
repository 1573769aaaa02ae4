//! The namespace that probes come from, and sockets where trains begin and end.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use machine::Span;
use nix::errno::Errno;
use nix::unistd::Pid;

use super::frame::Mac;
use super::prober::{Ends, Prober};
use super::socket::ProbeSocket;
use super::{CalibrationError, Place, Probe, Task};
use crate::clock;
use crate::namespace;
use crate::netlink::{Batch, Netlink, VethEnd};

/// Where sockets are opened.
#[derive(Debug)]
pub(super) struct Places {
    pub probes: Vec<Probe>,
    /// Name of each node, and how to get at its network namespace.
    pub nodes: Vec<(String, Inside)>,
    pub has_ipv6: bool,
}

/// How to send from within a node.
#[derive(Debug)]
pub(crate) enum Inside {
    /// A process that is there.
    Process(Pid),
    /// Packet sockets that were opened there, one for each interface.
    Sockets(Vec<OwnedFd>),
}

/// How long the probes' interfaces may take to carry packets.
const CARRIER: Span = Span::from_secs(30);

impl Places {
    /// Makes the namespace, in which the calling thread then is, and opens all sockets that `tasks` need. The namespace and
    /// its interfaces go with the last of its sockets.
    pub(super) fn open(&self, tasks: &[Task], stop: Arc<AtomicBool>) -> Result<Prober, CalibrationError> {
        self.make_interfaces()?;
        // Tells its probes from what programs of another time might send; nobody else's can reach them.
        let session = clock::realtime() as u32;
        let mut prober = Prober { sockets: Vec::new(), ends: Vec::new(), session, batch: 0, stop };
        let mut positions: BTreeMap<Place, usize> = BTreeMap::new();
        let mut needed: Vec<Place> = (0..self.probes.len()).map(Place::Probe).collect();
        needed.extend(tasks.iter().flat_map(|task| [task.from, task.to]));
        needed.sort_unstable();
        needed.dedup();
        let mut entered = None;
        for place in needed {
            // In this order the probes' own come first, while the thread is still there.
            let (index, node) = match place {
                Place::Probe(probe) => (self.probes[probe].near, None),
                Place::Node(node, nth) => (crate::fabric::near_index(nth), Some(node)),
            };
            let of = || node.map_or_else(|| "the namespace of probes".to_owned(), |node| self.nodes[node].0.clone());
            let failed = |source| CalibrationError::Socket { place: of(), source };
            let inside = node.map(|node| (node, &self.nodes[node].1));
            let socket = match (inside, place) {
                (Some((_, Inside::Sockets(sockets))), Place::Node(_, nth)) => {
                    let socket = sockets.get(nth).ok_or_else(|| io::Error::from(io::ErrorKind::NotFound));
                    socket.and_then(OwnedFd::try_clone).and_then(|socket| ProbeSocket::adopted(socket, index))
                }
                (Some((node, Inside::Process(pid))), _) if entered != Some(node) => {
                    namespace::enter_network_of(*pid).map_err(failed)?;
                    entered = Some(node);
                    ProbeSocket::open(index)
                }
                _ => ProbeSocket::open(index),
            };
            positions.insert(place, prober.sockets.len());
            prober.sockets.push(socket.map_err(failed)?);
        }
        prober.ends = tasks
            .iter()
            .map(|task| Ends {
                from: positions[&task.from],
                source: task.source,
                to: positions[&task.to],
                destination: task.destination,
            })
            .collect();
        Ok(prober)
    }

    fn make_interfaces(&self) -> Result<(), CalibrationError> {
        let failed = |intent: &str, errno| CalibrationError::Namespace { intent: intent.to_owned(), errno };
        let io_failed = |intent: &'static str| {
            move |error: io::Error| {
                let errno = Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO));
                CalibrationError::Namespace { intent: intent.to_owned(), errno }
            }
        };
        let hub = namespace::own_network().map_err(io_failed("open the hub"))?;
        let mut in_hub = Netlink::open().map_err(io_failed("open a netlink socket"))?;
        namespace::leave_network().map_err(|errno| failed("leave the hub", errno))?;
        let mut inside = Netlink::open().map_err(io_failed("open a netlink socket"))?;
        let (mut near, mut far) = (Batch::default(), Batch::default());
        for (nth, probe) in self.probes.iter().enumerate() {
            let (near_name, far_name) = (format!("probe{nth}"), format!("p{nth}"));
            let end = |name, index, mac| VethEnd { name, index, mac, mtu: probe.mtu, segmentation_offload: false };
            let ends = (end(&near_name, probe.near, Some(probe.mac)), end(&far_name, probe.far, None));
            near.add_veth(&ends.0, &ends.1, hub.as_raw_fd());
            if self.has_ipv6 {
                near.forgo_link_local(probe.near);
            }
            match probe.bridge {
                None => far.set_up(probe.far),
                Some(bridge) => {
                    far.attach(probe.far, bridge);
                    far.add_forwarding(probe.far, probe.mac);
                }
            }
        }
        for (netlink, batch) in [(&mut inside, &near), (&mut in_hub, &far)] {
            netlink
                .apply(batch.bytes(), batch.len())
                .map_err(|refusal| failed(batch.intent(refusal.sequence), refusal.errno))?;
        }
        let deadline = clock::now() + CARRIER;
        let waiting = io_failed("wait for its links to come up");
        for probe in &self.probes {
            inside.await_running(probe.near, deadline).map_err(&waiting)?;
            in_hub.await_running(probe.far, deadline).map_err(&waiting)?;
        }
        Ok(())
    }
}

impl Prober {
    /// From the probes' interface number `probe` to itself.
    pub(super) fn loop_at(&self, probe: usize, mac: Mac) -> Ends {
        // The probes' own sockets are the first, in their order.
        Ends { from: probe, source: mac, to: probe, destination: mac }
    }
}

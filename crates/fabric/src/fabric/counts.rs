//! What became of the packets on netem networks, as the kernel counts.

use topology::Plan;
use topology::plan::NodeId;

use super::{DropReasons, Fabric, LinkError};
use crate::netlink::QueueWork;

/// What became of the packets of a half link that netem shapes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NetemCount {
    /// Whose link.
    pub node: NodeId,
    /// Index among the node's interfaces.
    pub interface: usize,
    /// Whether it leaves the node.
    pub is_up: bool,
    /// What netem did with the packets. It counts one that it has doubled as two, and does not tell which it damaged.
    pub work: QueueWork,
    /// Why it may have dropped any.
    pub reasons: DropReasons,
}

impl Fabric {
    /// What became of the packets on each half link of `plan`, which stands here, that netem shapes. What the kernel drops when a link is cut it counts
    /// nowhere.
    pub async fn netem_counts(&mut self, plan: &Plan) -> Result<Vec<NetemCount>, LinkError> {
        if self.shapers.is_empty() {
            return Ok(Vec::new());
        }
        let kept = self.netems()?;
        let mut counts = Vec::new();
        for (node, ports) in plan.node_ids().zip(&self.ports) {
            for (interface, port) in ports.iter().enumerate() {
                let Some(halves) = port.netem else { continue };
                let shaped = [(true, halves.up), (false, halves.down)];
                counts.extend(shaped.into_iter().filter_map(|(is_up, index)| {
                    let index = index?;
                    let work = kept.get(&index)?.work;
                    Some(NetemCount { node, interface, is_up, work, reasons: self.shapers.reasons(index) })
                }));
            }
        }
        Ok(counts)
    }
}

//! Which way packets go: from node to node, over the routers between networks.

use std::net::IpAddr;

use serde::Serialize;

use super::{Interface, NetworkId, NodeId};

/// A way to a network that a node is not on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Route {
    /// The network.
    pub to: NetworkId,
    /// Index of the interface by which packets for it leave.
    pub interface: usize,
    /// The router that they go to.
    pub via: NodeId,
    /// Its address on that interface's network.
    pub gateway: IpAddr,
    /// How many routers are on the way.
    pub routers: usize,
}

/// Where all nodes are and which ways they know.
#[derive(Clone, Debug)]
pub struct Ways<'a> {
    /// By node.
    nodes: Vec<(&'a [Interface], &'a [Route])>,
}

/// How near a node's network is, as another node sees it: a network of its own first, in the order of its interfaces, then
/// by the routers on the way.
type Nearness = (usize, usize);

impl<'a> Ways<'a> {
    pub(crate) fn new(nodes: impl Iterator<Item = (&'a [Interface], &'a [Route])>) -> Self {
        Ways { nodes: nodes.collect() }
    }

    /// The interface of `of` by which `asker` reaches it best, by index: one on a network that both are on, else the one
    /// with the fewest routers on the way. `None` where no way leads there.
    pub fn nearest(&self, asker: NodeId, of: NodeId) -> Option<usize> {
        let near = |(index, interface): (usize, &Interface)| Some((self.nearness(asker, interface.network)?, index));
        self.nodes[of.index()].0.iter().enumerate().filter_map(near).min().map(|(_, index)| index)
    }

    /// The nodes on the way from one to another, from the first that a packet comes to, which may be a router, to `to`.
    /// `None` where no way leads there.
    pub fn path(&self, from: NodeId, to: NodeId) -> Option<Vec<NodeId>> {
        let network = self.nodes[to.index()].0[self.nearest(from, to)?].network;
        let mut path = Vec::new();
        let mut at = from;
        // Each router is nearer to the network than the one before it.
        while !self.is_on(at, network) {
            at = self.route(at, network)?.via;
            path.push(at);
            if at == to {
                return Some(path);
            }
        }
        path.push(to);
        Some(path)
    }

    /// The way that a node knows to a network.
    pub fn route(&self, from: NodeId, to: NetworkId) -> Option<&'a Route> {
        self.nodes[from.index()].1.iter().find(|route| route.to == to)
    }

    fn is_on(&self, node: NodeId, network: NetworkId) -> bool {
        self.nodes[node.index()].0.iter().any(|interface| interface.network == network)
    }

    fn nearness(&self, asker: NodeId, network: NetworkId) -> Option<Nearness> {
        let own = self.nodes[asker.index()].0.iter().position(|interface| interface.network == network);
        own.map(|index| (0, index)).or_else(|| Some((self.route(asker, network)?.routers, 0)))
    }
}

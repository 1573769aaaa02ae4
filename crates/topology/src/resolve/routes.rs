//! Routes between networks: fewest routers first, and the same for the same file.

use std::collections::VecDeque;

use super::names::Directory;
use super::{Programs, speaks_for_entry};
use crate::findings::Findings;
use crate::plan::{Interface, Network, NetworkId, NodeId, Program, Role, Route, Ways};
use crate::yaml::listed;

/// For each node the ways to the networks that it is not on, as far as routers lead there. Of ways with as few routers it
/// is the one by the node's first interface, and there by the router that comes first in the file.
///
/// A network has addresses of one family, so a way leads over networks of one family.
pub(super) fn compute(networks: &[Network], interfaces: &[Vec<Interface>], is_router: &[bool]) -> Vec<Vec<Route>> {
    let routers: Vec<NodeId> =
        (0..interfaces.len() as u32).map(NodeId).filter(|node| is_router[node.index()]).collect();
    let mut routes = vec![Vec::new(); interfaces.len()];
    if routers.is_empty() {
        return routes;
    }
    let on = |node: NodeId| interfaces[node.index()].iter().map(|interface| interface.network.index());
    // For each network, the routers on it in the order of the file.
    let mut joints: Vec<Vec<NodeId>> = vec![Vec::new(); networks.len()];
    for router in &routers {
        on(*router).for_each(|network| joints[network].push(*router));
    }
    let family = |network: usize| networks[network].subnet.base.is_ipv4();
    for target in 0..networks.len() {
        // How many routers are between each network and the target.
        let mut far: Vec<Option<usize>> = vec![None; networks.len()];
        far[target] = Some(0);
        let mut queue = VecDeque::from([target]);
        while let Some(network) = queue.pop_front() {
            let next = far[network].map(|routers| routers + 1);
            for other in joints[network].iter().flat_map(|router| on(*router)) {
                if far[other].is_none() && family(other) == family(target) {
                    far[other] = next;
                    queue.push_back(other);
                }
            }
        }
        for (node, own) in interfaces.iter().enumerate() {
            if own.iter().any(|interface| interface.network.index() == target) {
                continue;
            }
            let ways = own.iter().enumerate();
            let ways = ways.filter_map(|(at, interface)| Some((far[interface.network.index()]?, at)));
            let Some((count, at)) = ways.min() else { continue };
            let network = own[at].network;
            let leads = |router: &&NodeId| {
                router.index() != node && on(**router).any(|other| far[other].is_some_and(|far| far + 1 == count))
            };
            let via =
                *joints[network.index()].iter().find(leads).expect("a network is as far as some router on it says");
            let gateway = interfaces[via.index()].iter().find(|interface| interface.network == network);
            let gateway = gateway.expect("the router is on that network").address;
            let to = NetworkId(target as u32);
            routes[node].push(Route { to, interface: at, via, gateway, routers: count });
        }
    }
    routes
}

/// Which nodes are routers; those that join nothing are told.
pub(super) fn routers(
    names: &Directory<'_>,
    programs: &Programs,
    networks: &[Network],
    interfaces: &[Vec<Interface>],
    findings: &mut Findings<'_>,
) -> Vec<bool> {
    let is_router = |program: &Option<Program>| matches!(program, Some(Program::Role(Role::Router)));
    for (node, _) in names.ids().zip(programs).filter(|(_, program)| is_router(program)) {
        let own = &interfaces[node.index()];
        let of_family = |is_ipv4| own.iter().filter(|interface| interface.address.is_ipv4() == is_ipv4).count();
        let wanted = names.spec(node).common.networks.as_ref().map_or(own.len(), |wanted| wanted.value.0.len());
        // Networks that are not there are told already.
        if own.len() < wanted.max(1) || of_family(true) > 1 || of_family(false) > 1 || !speaks_for_entry(node, names) {
            continue;
        }
        let (entry, name) = (names.entry(node), names.name(node));
        let here: Vec<&str> = own.iter().map(|interface| networks[interface.network.index()].name.as_str()).collect();
        let message = if here.len() == 1 {
            format!("router `{name}` is on one network, {}, and leads nowhere", listed(&here))
        } else {
            format!(
                "router `{name}` is on {}, of which one is IPv4 and one IPv6: nothing passes between them",
                listed(&here)
            )
        };
        let help = "a router joins two networks at least: `networks: { lan: , wan: }`";
        findings.invalid_but(entry.place, message, help);
    }
    programs.iter().map(is_router).collect()
}

/// Two nodes of different lists that a partition leaves a way between, and the routers on it that are in no list. Neighbours it always parts;
/// others only where two nodes that follow each other on their way are in different lists.
pub(super) fn way_around(
    lists: &[Vec<NodeId>],
    ways: &Ways<'_>,
    interfaces: &[Vec<Interface>],
    is_router: impl Fn(NodeId) -> bool,
) -> Option<(NodeId, NodeId, Vec<NodeId>)> {
    let list_of = |node: NodeId| lists.iter().position(|list| list.contains(&node));
    // Nodes of a list with the same networks have the same ways, unless they are routers themselves.
    let speakers: Vec<Vec<NodeId>> = lists
        .iter()
        .map(|list| {
            let mut speakers: Vec<NodeId> = Vec::new();
            for node in list {
                let networks = |node: &NodeId| interfaces[node.index()].iter().map(|one| one.network);
                let same = |other: &NodeId| networks(node).eq(networks(other));
                if is_router(*node) || !speakers.iter().any(same) {
                    speakers.push(*node);
                }
            }
            speakers
        })
        .collect();
    for (index, from) in
        speakers.iter().enumerate().flat_map(|(index, list)| list.iter().map(move |node| (index, *node)))
    {
        for to in speakers.iter().enumerate().filter(|(other, _)| *other != index).flat_map(|(_, list)| list.iter()) {
            let Some(path) = ways.path(from, *to) else { continue };
            let steps = std::iter::once(from).chain(path.iter().copied()).zip(path.iter().copied());
            let is_parted = steps.into_iter().any(|(one, next)| match (list_of(one), list_of(next)) {
                (Some(one), Some(next)) => one != next,
                _ => false,
            });
            if !is_parted {
                let unlisted = path.into_iter().filter(|node| list_of(*node).is_none()).collect();
                return Some((from, *to, unlisted));
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use link::Profile;
    use proptest::prelude::*;

    use super::*;
    use crate::plan::{Medium, Subnet};

    fn network(index: usize) -> Network {
        let base = IpAddr::V4(Ipv4Addr::new(10, index as u8, 0, 0));
        Network {
            name: format!("n{index}"),
            subnet: Subnet { base, prefix: 16 },
            mtu: 1500,
            medium: Medium::Bridge,
            why: String::new(),
            netem_may_do: false,
            draws_anew: false,
        }
    }

    /// Nodes on these networks.
    fn place(nodes: &[Vec<usize>]) -> Vec<Vec<Interface>> {
        let interface = |node: usize, network: usize| Interface {
            name: String::new(),
            network: NetworkId(network as u32),
            address: IpAddr::V4(Ipv4Addr::new(10, network as u8, 1, node as u8 + 1)),
            mac: [0; 6],
            link: Profile::default(),
        };
        nodes
            .iter()
            .enumerate()
            .map(|(node, networks)| networks.iter().map(|network| interface(node, *network)).collect())
            .collect()
    }

    fn ways<'a>(interfaces: &'a [Vec<Interface>], routes: &'a [Vec<Route>]) -> Ways<'a> {
        Ways::new(interfaces.iter().zip(routes).map(|(interfaces, routes)| (&interfaces[..], &routes[..])))
    }

    fn ids(path: Option<Vec<NodeId>>) -> Option<Vec<u32>> {
        path.map(|path| path.iter().map(|node| node.0).collect())
    }

    #[test]
    fn a_chain_of_routers_is_walked_from_end_to_end() {
        let networks: Vec<Network> = (0..3).map(network).collect();
        let interfaces = place(&[vec![0], vec![0, 1], vec![1, 2], vec![2]]);
        let routes = compute(&networks, &interfaces, &[false, true, true, false]);
        let ways = ways(&interfaces, &routes);
        assert_eq!(ids(ways.path(NodeId(0), NodeId(3))), Some(vec![1, 2, 3]));
        assert_eq!(ids(ways.path(NodeId(3), NodeId(0))), Some(vec![2, 1, 0]));
        assert_eq!(routes[0][1].routers, 2);
        assert_eq!(routes[0][0].gateway, interfaces[1][0].address);
        // A router's address is the one on the asker's side.
        assert_eq!([0, 3].map(|asker| ways.nearest(NodeId(asker), NodeId(1))), [Some(0), Some(1)]);
    }

    #[test]
    fn of_two_routers_as_near_the_first_of_the_file_is_taken_and_a_detour_is_not() {
        let networks: Vec<Network> = (0..3).map(network).collect();
        // Two routers join 0 and 1; two others lead there over 2.
        let interfaces = place(&[vec![0], vec![0, 2], vec![2, 1], vec![0, 1], vec![0, 1], vec![1]]);
        let routes = compute(&networks, &interfaces, &[false, true, true, true, true, false]);
        assert_eq!(ids(ways(&interfaces, &routes).path(NodeId(0), NodeId(5))), Some(vec![3, 5]));
    }

    #[test]
    fn a_partition_must_part_what_it_names() {
        let networks: Vec<Network> = (0..3).map(network).collect();
        let interfaces = place(&[vec![0], vec![0, 1], vec![1, 2], vec![2]]);
        let is_router = [false, true, true, false];
        let routes = compute(&networks, &interfaces, &is_router);
        let ways = ways(&interfaces, &routes);
        let around = |lists: &[&[u32]]| {
            let lists: Vec<Vec<NodeId>> =
                lists.iter().map(|list| list.iter().map(|id| NodeId(*id)).collect()).collect();
            way_around(&lists, &ways, &interfaces, |node| is_router[node.index()]).map(|(.., over)| over.len())
        };
        assert_eq!(around(&[&[0], &[3]]), Some(2), "both routers are between them");
        assert_eq!(around(&[&[0, 1], &[3]]), Some(1));
        assert_eq!(around(&[&[0, 1], &[2, 3]]), None);
        assert_eq!(around(&[&[1], &[2]]), None);
    }

    proptest! {
        #[test]
        fn every_way_that_there_is_is_found_and_ends(
            nodes in prop::collection::vec((any::<bool>(), prop::collection::btree_set(0..6usize, 1..4)), 1..12),
        ) {
            let networks: Vec<Network> = (0..6).map(network).collect();
            let is_router: Vec<bool> = nodes.iter().map(|(router, _)| *router).collect();
            let on: Vec<Vec<usize>> = nodes.iter().map(|(_, on)| on.iter().copied().collect()).collect();
            let interfaces = place(&on);
            let routes = compute(&networks, &interfaces, &is_router);
            let ways = ways(&interfaces, &routes);
            for from in 0..nodes.len() {
                // What flooding over the routers reaches.
                let mut reached: std::collections::BTreeSet<usize> = on[from].iter().copied().collect();
                loop {
                    let joined = (0..nodes.len()).filter(|node| is_router[*node] && on[*node].iter().any(|n| reached.contains(n)));
                    let more: Vec<usize> = joined.flat_map(|node| on[node].iter().copied()).collect();
                    let before = reached.len();
                    reached.extend(more);
                    if reached.len() == before {
                        break;
                    }
                }
                for (to, there) in on.iter().enumerate() {
                    let path = ways.path(NodeId(from as u32), NodeId(to as u32));
                    prop_assert_eq!(path.is_some(), there.iter().any(|network| reached.contains(network)));
                    let Some(path) = path else { continue };
                    prop_assert!(path.len() <= 6, "{path:?} goes in circles");
                    let between = &path[..path.len() - 1];
                    prop_assert!(between.iter().all(|node| is_router[node.index()]));
                }
            }
        }
    }
}

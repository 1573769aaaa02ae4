//! Which way packets go between networks.

use topology::Plan;
use topology::plan::NodeId;

/// Nodes that know the same ways.
struct Group {
    first: NodeId,
    more: usize,
}

/// A row for each group of nodes with the same ways, and each network that they are not on: who, where to, over whom.
pub(super) fn rows(plan: &Plan) -> Vec<[String; 3]> {
    let mut groups: Vec<Group> = Vec::new();
    for id in plan.node_ids().filter(|id| !plan.node(*id).routes.is_empty()) {
        let same = groups.iter_mut().find(|group| plan.node(group.first).routes == plan.node(id).routes);
        match same {
            Some(group) => group.more += 1,
            None => groups.push(Group { first: id, more: 0 }),
        }
    }
    let mut rows = Vec::new();
    for Group { first, more } in groups {
        let node = plan.node(first);
        let who = if more == 0 { node.name.clone() } else { format!("{} and {more} more", node.name) };
        for route in &node.routes {
            let mut over = vec![format!("{} ({})", plan.node(route.via).name, route.gateway)];
            // The routers behind the first.
            let mut at = route.via;
            while let Some(next) = plan.node(at).routes.iter().find(|next| next.to == route.to) {
                over.push(plan.node(next.via).name.clone());
                at = next.via;
            }
            rows.push([
                who.clone(),
                format!("to {}", plan.network(route.to).name),
                format!("over {}", over.join(", ")),
            ]);
        }
    }
    rows
}

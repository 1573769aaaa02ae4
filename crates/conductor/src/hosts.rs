//! Names: what each node's `/etc/hosts` says of the others.

use std::fmt::Write as _;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use topology::Plan;
use topology::plan::NodeId;

/// What is in all of them.
const LOCAL: &str = "127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n";

/// The file with the [`common`] names: no node is called so.
const COMMON: &str = "_common";

/// The names as every node sees them where no node has a choice: a node's name stands for its first address,
/// `<node>.<network>` for the one on that network.
pub fn common(plan: &Plan) -> String {
    text(plan, |_| Some(0))
}

/// The names as `asker` sees them: a node's name stands for its address on a network that both are on, else for the one with
/// the fewest routers on the way.
pub fn seen_by(plan: &Plan, asker: NodeId) -> String {
    let ways = plan.ways();
    // What cannot be reached may have any address.
    text(plan, |node| ways.nearest(asker, node).or(Some(0)))
}

/// For each node the file with its names, in `folder`; `None` where the [`common`] ones do. Nodes that are on the same
/// networks see the same.
///
/// # Errors
/// When a file cannot be written.
pub fn write(plan: &Plan, folder: &Path) -> io::Result<Vec<Option<PathBuf>>> {
    if plan.nodes().iter().all(|node| node.interfaces.len() < 2) {
        return Ok(vec![None; plan.nodes().len()]);
    }
    let mut known: Vec<(Vec<u8>, Option<PathBuf>)> = Vec::new();
    let shared = common(plan);
    plan.node_ids()
        .map(|node| {
            let networks: Vec<u8> =
                plan.node(node).interfaces.iter().map(|interface| interface.network.index() as u8).collect();
            // A router's ways are its own.
            let is_plain = !plan.node(node).is_router();
            if let Some((_, path)) = known.iter().find(|(other, _)| is_plain && *other == networks) {
                return Ok(path.clone());
            }
            let text = seen_by(plan, node);
            let path = if text == shared {
                None
            } else {
                std::fs::create_dir_all(folder)?;
                let path = folder.join(&plan.node(node).name);
                std::fs::write(&path, text)?;
                Some(path)
            };
            if is_plain {
                known.push((networks, path.clone()));
            }
            Ok(path)
        })
        .collect()
}

/// As [`write()`], with a file for every node.
///
/// # Errors
/// When a file cannot be written.
pub fn write_all(plan: &Plan, folder: &Path) -> io::Result<Vec<PathBuf>> {
    let own = write(plan, folder)?;
    std::fs::create_dir_all(folder)?;
    let shared = folder.join(COMMON);
    std::fs::write(&shared, common(plan))?;
    Ok(own.into_iter().map(|own| own.unwrap_or_else(|| shared.clone())).collect())
}

/// `first` says which of a node's interfaces its name stands for.
fn text(plan: &Plan, first: impl Fn(NodeId) -> Option<usize>) -> String {
    let mut hosts = String::from(LOCAL);
    let mut line = |address: IpAddr, names: &[&str]| {
        // A text takes everything.
        _ = writeln!(hosts, "{address} {}", names.join(" "));
    };
    for id in plan.node_ids() {
        let node = plan.node(id);
        let chosen = first(id).and_then(|index| node.interfaces.get(index));
        let name =
            |interface: &topology::plan::Interface| format!("{}.{}", node.name, plan.network(interface.network).name);
        if let Some(interface) = chosen {
            line(interface.address, &[&node.name, &name(interface)]);
        }
        for interface in node.interfaces.iter().filter(|interface| chosen.is_none_or(|chosen| chosen != *interface)) {
            line(interface.address, &[&name(interface)]);
        }
    }
    hosts
}

#[cfg(test)]
mod tests {
    use machine::Seed;
    use topology::{Overrides, Source};

    use super::*;

    #[test]
    fn a_name_stands_for_the_address_on_the_askers_side() {
        let text = "
name: sides
networks: { left: { subnet: 10.1.0.0/24 }, middle: { subnet: 10.2.0.0/24 }, right: { subnet: 10.3.0.0/24 } }
nodes:
  a: { run: [sleep, \"1\"], networks: { left: } }
  b: { run: [sleep, \"1\"], networks: { left: } }
  west: { role: router, networks: { left: , middle: } }
  east: { role: router, networks: { middle: , right: } }
  c: { run: [sleep, \"1\"], networks: { right: } }
";
        let plan = topology::load(&Source::new("t.yaml", text), &Overrides::new(Seed::new(1))).expect("it is right");
        let folder = tempfile::tempdir().expect("a folder");
        let files = write(&plan, folder.path()).expect("it can be written");
        let says = |node: usize| match &files[node] {
            Some(path) => std::fs::read_to_string(path).expect("it was written"),
            None => common(&plan),
        };
        assert_eq!(files[0], files[1], "both are on the same network");
        assert!(says(0).contains("10.1.0.3 west west.left\n") && says(0).contains("10.2.0.2 east east.middle\n"));
        assert!(says(4).contains("10.3.0.1 east east.right\n") && says(4).contains("10.2.0.1 west west.middle\n"));
        assert!(says(4).contains("10.1.0.3 west.left\n"), "{}", says(4));
    }
}

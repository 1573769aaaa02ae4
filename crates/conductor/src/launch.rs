//! What is started in a node, in which environment.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::net::IpAddr;
use std::path::Path;

use topology::Plan;
use topology::plan::{HTTP_PORT, NodeId, Program, Role};

use crate::files::SharedFiles;

/// The words and the environment of a node's program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Launch {
    /// The program and its arguments.
    pub argv: Vec<String>,
    /// All of it: nothing is inherited, so that a run does not depend on who starts it.
    pub env: BTreeMap<String, String>,
}

/// This executable, from wherever it was started: roles run from it, so one file is enough for any topology.
const SELF: &str = "/proc/self/exe";

const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Variables of the caller's that programs get all the same.
const INHERITED: [&str; 4] = ["PATH", "LANG", "TZ", "RUST_LOG"];

/// What to start in `node`.
pub fn launch(plan: &Plan, node: NodeId, files: &SharedFiles, disk: &Path) -> Launch {
    let planned = plan.node(node);
    let argv = match &planned.program {
        Program::Run(words) => words.clone(),
        Program::Role(role) => {
            let mut argv = vec![SELF.to_owned(), "role".to_owned(), role.name().to_owned()];
            argv.extend(role_arguments(plan, role, files));
            argv
        }
    };
    let mut env = BTreeMap::from([("PATH".to_owned(), DEFAULT_PATH.to_owned())]);
    for name in INHERITED {
        if let Some(value) = std::env::var_os(name).map(OsString::into_string).and_then(Result::ok) {
            env.insert(name.to_owned(), value);
        }
    }
    // Debian keeps servers in sbin, which an ordinary user's PATH leaves out.
    let path = env.entry("PATH".to_owned()).or_default();
    for folder in DEFAULT_PATH.split(':') {
        if !path.split(':').any(|known| known == folder) {
            path.push(':');
            path.push_str(folder);
        }
    }
    env.insert("HOME".to_owned(), disk.to_string_lossy().into_owned());
    env.insert("TESTBED_NODE".to_owned(), planned.name.clone());
    env.insert("TESTBED_SEED".to_owned(), planned.seed.to_string());
    if let Some(interface) = planned.interfaces.first() {
        env.insert("TESTBED_IP".to_owned(), interface.address.to_string());
    }
    env.extend(planned.env.clone());
    Launch { argv, env }
}

fn role_arguments(plan: &Plan, role: &Role, files: &SharedFiles) -> Vec<String> {
    let name = |node: &NodeId| plan.node(*node).name.clone();
    let url = |node: &NodeId| format!("http://{}/", name(node));
    let mut arguments = Vec::new();
    match role {
        Role::FileServer { file, rate } => {
            arguments.extend(["--port".to_owned(), HTTP_PORT.to_string()]);
            arguments.extend(rate.iter().flat_map(|rate| ["--rate".to_owned(), rate.to_string()]));
            arguments.push(files.path(*file).to_string_lossy().into_owned());
        }
        Role::CheckServer { watch, interval } => {
            arguments.extend(["--port".to_owned(), HTTP_PORT.to_string()]);
            arguments.extend(["--interval".to_owned(), interval.to_string()]);
            arguments.extend(watch.iter().map(url));
        }
        Role::Downloader { from, check, out, resume } => {
            arguments.extend(from.iter().map(url));
            arguments.extend(check.iter().flat_map(|check| ["--check".to_owned(), url(check)]));
            arguments.extend(["-o".to_owned(), out.clone()]);
            arguments.push(if *resume { "--resume" } else { "--overwrite" }.to_owned());
        }
    }
    arguments
}

/// The content of every node's `/etc/hosts`: a node's name stands for its first address, `<node>.<network>` for the one
/// on that network.
pub fn hosts(plan: &Plan) -> String {
    let mut hosts = String::from("127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n");
    let mut line = |address: IpAddr, names: &[&str]| hosts.push_str(&format!("{address} {}\n", names.join(" ")));
    for node in plan.nodes() {
        for (index, interface) in node.interfaces.iter().enumerate() {
            let qualified = format!("{}.{}", node.name, plan.network(interface.network).name);
            if index == 0 {
                line(interface.address, &[&node.name, &qualified]);
            } else {
                line(interface.address, &[&qualified]);
            }
        }
    }
    hosts
}

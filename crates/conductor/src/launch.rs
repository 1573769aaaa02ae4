//! What is started in a node, in which environment.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::Path;

use machine::Span;
use topology::Plan;
use topology::plan::{HTTP_PORT, NodeId, P2MP_PORT, PeerKnobs, Program, Role, SegmentTimeout, TransferMode};

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

/// What to start in `node`. `image` is the environment that the node's image brings along, if it has one of its own.
pub fn launch(
    plan: &Plan,
    node: NodeId,
    files: &SharedFiles,
    disk: &Path,
    image: Option<&BTreeMap<String, String>>,
) -> Launch {
    let planned = plan.node(node);
    let argv = match &planned.program {
        Program::Run { words, .. } => words.clone(),
        Program::Role(role) => {
            let mut argv = vec![SELF.to_owned(), "role".to_owned(), role.name().to_owned()];
            argv.extend(role_arguments(plan, node, role, files));
            argv
        }
    };
    let mut env = BTreeMap::from([("PATH".to_owned(), DEFAULT_PATH.to_owned())]);
    env.extend(image.into_iter().flatten().map(|(name, value)| (name.clone(), value.clone())));
    // Where programs are is the image's to say, if there is one.
    for name in INHERITED.into_iter().filter(|name| image.is_none() || *name != "PATH") {
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

fn role_arguments(plan: &Plan, node: NodeId, role: &Role, files: &SharedFiles) -> Vec<String> {
    let name = |node: &NodeId| plan.node(*node).name.clone();
    let url = |node: &NodeId| format!("http://{}/", name(node));
    let mut arguments = Vec::new();
    match role {
        Role::FileServer { file, rate, corrupt } => {
            arguments.extend(["--port".to_owned(), HTTP_PORT.to_string()]);
            arguments.extend(rate.iter().flat_map(|rate| ["--rate".to_owned(), rate.to_string()]));
            if let Some(share) = corrupt {
                let seed = plan.node(node).seed;
                arguments.extend(["--corrupt".to_owned(), share.to_string(), "--seed".to_owned(), seed.to_string()]);
            }
            arguments.push(files.path(*file).to_string_lossy().into_owned());
        }
        Role::CheckServer { watch, interval, file } => {
            arguments.extend(["--port".to_owned(), HTTP_PORT.to_string()]);
            arguments.extend(["--interval".to_owned(), interval.to_string()]);
            let path = file.map(|file| files.path(file).to_string_lossy().into_owned());
            arguments.extend(path.into_iter().flat_map(|path| ["--file".to_owned(), path]));
            arguments.extend(watch.iter().map(url));
        }
        Role::Downloader { from, check, out, resume } => {
            arguments.extend(from.iter().map(url));
            arguments.extend(check.iter().flat_map(|check| ["--check".to_owned(), url(check)]));
            arguments.extend(["-o".to_owned(), out.clone()]);
            arguments.push(if *resume { "--resume" } else { "--overwrite" }.to_owned());
        }
        Role::P2mpSender { to, file, mss, mode, give_up } => {
            arguments.extend(to.iter().map(name));
            arguments.push(P2MP_PORT.to_string());
            arguments.push(files.path(*file).to_string_lossy().into_owned());
            arguments.push(mss.to_string());
            arguments.extend(["--give-up".to_owned(), give_up.to_string()]);
            arguments.extend(mode_arguments(mode));
        }
        Role::P2mpReceiver { p, out } => {
            let p = f64::from(p.as_parts_per_billion()) / 1e9;
            arguments.extend([P2MP_PORT.to_string(), out.clone(), p.to_string()]);
            arguments.extend(["--seed".to_owned(), plan.node(node).seed.to_string()]);
            arguments.extend(["--once".to_owned(), "--overwrite".to_owned()]);
        }
        Role::Tracker { interval } => arguments.extend(["--interval".to_owned(), interval.to_string()]),
        Role::Peer { file, tracker, knobs } => {
            arguments.extend(tracker.iter().flat_map(|tracker| ["--tracker".to_owned(), name(tracker)]));
            arguments.extend(knob_arguments(knobs));
            // Its path is where the run put it.
            arguments.extend(["--name".to_owned(), plan.file(*file).name.clone()]);
            arguments.push(files.path(*file).to_string_lossy().into_owned());
        }
        Role::P2pDownloader { file, tracker, out, resume } => {
            arguments.extend([plan.file(*file).name.clone(), name(tracker), "-o".to_owned(), out.clone()]);
            arguments.push(if *resume { "--resume" } else { "--overwrite" }.to_owned());
        }
        Role::Router => {}
    }
    arguments
}

fn knob_arguments(knobs: &PeerKnobs) -> Vec<String> {
    let PeerKnobs { ports, churn, block_size, pre_delay, bytes_per_event, stretch, .. } = knobs;
    let flag = |name: &str, value: String| [name.to_owned(), value];
    let mut arguments = [
        flag("--ports", ports.to_string()),
        flag("--churn", churn.to_string()),
        flag("--block-size", block_size.as_bytes().to_string()),
        flag("--pre-delay", pre_delay.to_string()),
        flag("--bytes-per-event", bytes_per_event.as_bytes().to_string()),
        flag("--stretch", stretch.to_string()),
        flag("--max-connections", knobs.max_connections.to_string()),
        flag("--idle", knobs.idle.to_string()),
    ]
    .concat();
    arguments.extend(knobs.close_random.then(|| "--close-random".to_owned()));
    arguments
}

fn mode_arguments(mode: &TransferMode) -> Vec<String> {
    let flag = |name: &str, value: String| [name.to_owned(), value];
    let timeout = |timeout: &Span, mode: &str| {
        [flag("--timeout", timeout.to_string()), flag("--timeout-mode", mode.to_owned())].concat()
    };
    match mode {
        TransferMode::StopAndWait { timeout: SegmentTimeout::Adaptive } => Vec::new(),
        TransferMode::StopAndWait { timeout: SegmentTimeout::Fixed(span) } => timeout(span, "fixed"),
        TransferMode::StopAndWait { timeout: SegmentTimeout::Shared(span) } => timeout(span, "shared"),
        TransferMode::Fast { multicast, rate } => {
            let mut arguments = flag("--mode", "fast".to_owned()).to_vec();
            // It is tried by itself.
            arguments.extend((*multicast == Some(false)).then(|| "--unicast".to_owned()));
            arguments.extend(rate.iter().flat_map(|rate| flag("--rate", rate.to_string())));
            arguments
        }
    }
}

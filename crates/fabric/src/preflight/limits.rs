//! The limits that the size of a plan meets.

use nix::errno::Errno;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use topology::plan::Medium;
use topology::{NetemSupport, Plan};

use super::probe::{self, NETEM_REMEDY};
use super::setting;

/// Why a plan does not fit this machine.
#[derive(Debug, thiserror::Error)]
pub enum LimitError {
    /// A limit is lower than what the plan needs.
    #[error("{nodes} nodes need {needed} {what}, and the limit is {limit}: {remedy}")]
    TooLow {
        /// Of what: `descriptors`.
        what: &'static str,
        /// How many nodes the plan has.
        nodes: usize,
        /// How many of it they need.
        needed: u64,
        /// How many there may be.
        limit: u64,
        /// What to do.
        remedy: String,
    },
    /// A bridge has too many ports.
    #[error("network {network} has {ports} interfaces, and a bridge of the kernel takes {most}: set `shaper: relay`")]
    BridgePorts {
        /// The network's name.
        network: String,
        /// How many interfaces are on it.
        ports: usize,
        /// How many there may be.
        most: usize,
    },
    /// A network is to be shaped by netem, and the kernel has none.
    #[error("network {network} asks for netem, and this kernel has none: leave `shaper` out, {NETEM_REMEDY}")]
    NoNetem {
        /// The network's name.
        network: String,
    },
    /// The kernel refused to raise a soft limit to its hard limit.
    #[error("raise the limit of {what}: {errno}")]
    Raise {
        /// Of what.
        what: &'static str,
        /// The kernel's answer.
        errno: Errno,
    },
}

/// Ports of one kernel bridge (`BR_MAX_PORTS` − 1).
const BRIDGE_PORTS: usize = 1023;
/// Descriptors of a run that has no nodes: logs, the relay, the runtime.
const BASE_DESCRIPTORS: u64 = 128;
/// Descriptors a node: its control socket.
const DESCRIPTORS: u64 = 1;
/// Descriptors an impaired interface, or an end of a pair: where it is measured.
const DESCRIPTORS_OF_INTERFACE: u64 = 1;
/// Processes a node: its first one, and a program of a few.
const PROCESSES: u64 = 4;
const BASE_PROCESSES: u64 = 32;

/// Makes sure that `plan` fits the limits of this process and machine. Raises the soft limits of descriptors and processes
/// to what is needed, at most to the hard ones; the change holds for this process and its children. To be called before the
/// [sandbox](crate::sandbox::run), with one thread.
pub fn require(plan: &Plan) -> Result<(), LimitError> {
    for (at, network) in plan.networks().iter().enumerate().filter(|(_, network)| network.medium == Medium::Bridge) {
        let interfaces = plan.nodes().iter().flat_map(|node| &node.interfaces);
        let ports = interfaces.filter(|interface| interface.network.index() == at).count();
        if ports > BRIDGE_PORTS {
            return Err(LimitError::BridgePorts { network: network.name.clone(), ports, most: BRIDGE_PORTS });
        }
    }
    let mut shaped = plan.networks().iter().filter(|network| network.medium == Medium::Netem);
    if let Some(network) = shaped.next().filter(|_| probe::netem() == NetemSupport::Absent) {
        return Err(LimitError::NoNetem { network: network.name.clone() });
    }
    let nodes = plan.nodes().len();
    let count = nodes as u64;
    let interfaces = plan.nodes().iter().flat_map(|node| &node.interfaces);
    let impaired = interfaces.filter(|interface| !interface.link.is_transparent()).count();
    let measured = (impaired + 2 * plan.pairs().len()) as u64;
    let descriptors = BASE_DESCRIPTORS + DESCRIPTORS * count + DESCRIPTORS_OF_INTERFACE * measured;
    raise(Resource::RLIMIT_NOFILE, "descriptors", nodes, descriptors, "ulimit -Hn")?;
    let processes = BASE_PROCESSES + PROCESSES * count;
    // The limit does not hold for the real root.
    if !nix::unistd::geteuid().is_root() {
        raise(Resource::RLIMIT_NPROC, "processes", nodes, processes, "ulimit -Hu")?;
    }
    for (what, path) in [
        ("network namespaces", "/proc/sys/user/max_net_namespaces"),
        ("mount namespaces", "/proc/sys/user/max_mnt_namespaces"),
        ("PID namespaces", "/proc/sys/user/max_pid_namespaces"),
        ("UTS namespaces", "/proc/sys/user/max_uts_namespaces"),
    ] {
        at_least(what, path, nodes, count + 1, || format!("sudo sysctl -w {}={}", sysctl(path), (count + 1) * 2))?;
    }
    // Every process has a number in each namespace above it, and the range of numbers is shared.
    let path = "/proc/sys/kernel/pid_max";
    at_least("process ids", path, nodes, processes, || format!("sudo sysctl -w kernel.pid_max={}", processes * 4))?;
    if let Some((path, most)) = cgroup_processes() {
        let remedy = || format!("raise {path}, for instance: systemd-run --user --scope -p TasksMax=infinity …");
        below("processes of this cgroup", most, nodes, processes, remedy)?;
    }
    Ok(())
}

/// The most processes that the caller's control group may have, and where that is written.
pub(super) fn cgroup_processes() -> Option<(String, u64)> {
    let groups = std::fs::read_to_string("/proc/self/cgroup").ok()?;
    groups.lines().find_map(|line| {
        let mut fields = line.splitn(3, ':');
        let (_, controllers, group) = (fields.next()?, fields.next()?, fields.next()?);
        let root = match controllers {
            "" => "/sys/fs/cgroup",
            "pids" => "/sys/fs/cgroup/pids",
            _ => return None,
        };
        let path = format!("{root}{}/pids.max", group.trim_end_matches('/'));
        // "max" is no limit.
        Some((path.clone(), setting(&path)?))
    })
}

fn raise(resource: Resource, what: &'static str, nodes: usize, needed: u64, show: &str) -> Result<(), LimitError> {
    let failed = |errno| LimitError::Raise { what, errno };
    let (soft, hard) = getrlimit(resource).map_err(failed)?;
    if soft >= needed {
        return Ok(());
    }
    below(what, hard, nodes, needed, || format!("raise the hard limit, which `{show}` shows"))?;
    setrlimit(resource, hard, hard).map_err(failed)
}

fn at_least(
    what: &'static str,
    path: &str,
    nodes: usize,
    needed: u64,
    remedy: impl FnOnce() -> String,
) -> Result<(), LimitError> {
    match setting(path) {
        Some(limit) => below(what, limit, nodes, needed, remedy),
        None => Ok(()),
    }
}

fn below(
    what: &'static str,
    limit: u64,
    nodes: usize,
    needed: u64,
    remedy: impl FnOnce() -> String,
) -> Result<(), LimitError> {
    if limit >= needed { Ok(()) } else { Err(LimitError::TooLow { what, nodes, needed, limit, remedy: remedy() }) }
}

fn sysctl(path: &str) -> String {
    path.trim_start_matches("/proc/sys/").replace('/', ".")
}

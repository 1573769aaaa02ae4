//! What `testbed doctor` shows: each thing is tried, in a sandbox that ends with the attempt.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

use nix::sys::resource::{Resource, getrlimit};
use nix::sys::socket::{AddressFamily, SockFlag, SockProtocol, SockType, socket};

use topology::NetemSupport;

use super::{APPARMOR, Finding, State, limits, setting};
use crate::netem::Netem;
use crate::netlink::{Batch, Netlink, VethEnd};
use crate::{fabric, namespace, sandbox};

/// Looks at everything that a run may need. The calling process must have one thread, as for [`sandbox::run`].
pub fn examine() -> Vec<Finding> {
    let mut findings = inside();
    findings.extend([apparmor(), descriptors(), processes(), receive_buffer(), cores(), memory()]);
    findings
}

/// What has to be tried inside a sandbox, in the order in which the attempts are made.
const ATTEMPTS: [(&str, State, &str); 4] = [
    ("packet sockets", State::Missing, "the kernel needs CONFIG_PACKET"),
    ("veth pairs", State::Missing, "the kernel needs CONFIG_VETH: sudo modprobe veth"),
    ("bridges", State::Limited, "unshaped networks need CONFIG_BRIDGE (sudo modprobe bridge), or `shaper: relay`"),
    ("IPv6", State::Limited, "topologies with IPv6 subnets need it: it is off in this kernel"),
];

fn inside() -> Vec<Finding> {
    let rootless = !nix::unistd::geteuid().is_root();
    let what = if rootless { "user namespaces" } else { "namespaces" };
    let missing = |detail: String, remedy: String| Finding { what, state: State::Missing, detail, remedy };
    let Ok((mut ours, mut theirs)) = UnixStream::pair() else {
        return vec![missing("no socket pair".to_owned(), "raise the limit of descriptors: ulimit -n".to_owned())];
    };
    let outcome = sandbox::run(move |_sandbox| {
        let (others, netem) = attempt();
        let answers = [&others.map(u8::from)[..], &[netem as u8]].concat();
        u8::from(theirs.write_all(&answers).is_err())
    });
    match outcome {
        Err(sandbox::SandboxError::Refused { call, errno, remedy }) => {
            return vec![missing(format!("{call}: {errno}"), remedy)];
        }
        Err(other) => return vec![missing(other.to_string(), String::new())],
        Ok(_) => {}
    }
    let mut answers = [0; ATTEMPTS.len() + 1];
    if ours.read_exact(&mut answers).is_err() {
        return vec![missing("the process in it died".to_owned(), String::new())];
    }
    let mut findings = vec![ready(what, "made and entered".to_owned())];
    for (&(what, otherwise, remedy), answer) in ATTEMPTS.iter().zip(answers) {
        findings.push(match answer {
            0 => Finding { what, state: otherwise, detail: "not there".to_owned(), remedy: remedy.to_owned() },
            _ => ready(what, "tried".to_owned()),
        });
    }
    findings.push(netem_finding(support(answers[ATTEMPTS.len()])));
    findings
}

/// What the kernel has of netem, tried as by [`examine`] and under the same condition. Where no sandbox can be made there
/// is none for a run either.
pub fn netem() -> NetemSupport {
    let Ok((mut ours, mut theirs)) = UnixStream::pair() else { return NetemSupport::Absent };
    let outcome = sandbox::run(move |_sandbox| u8::from(theirs.write_all(&[attempt().1 as u8]).is_err()));
    let mut answer = [0];
    match outcome {
        Ok(0) if ours.read_exact(&mut answer).is_ok() => support(answer[0]),
        _ => NetemSupport::Absent,
    }
}

fn support(number: u8) -> NetemSupport {
    [NetemSupport::Unseeded, NetemSupport::Seeded]
        .into_iter()
        .find(|support| *support as u8 == number)
        .unwrap_or(NetemSupport::Absent)
}

fn netem_finding(support: NetemSupport) -> Finding {
    let what = "netem";
    match support {
        NetemSupport::Seeded => ready(what, "tried; it draws from the seed of a run".to_owned()),
        NetemSupport::Unseeded => Finding {
            what,
            state: State::Limited,
            detail: "tried; it takes no seed, so the relay shapes links that leave anything to chance".to_owned(),
            remedy: "none needed; Linux 6.6 takes one".to_owned(),
        },
        NetemSupport::Absent => Finding {
            what,
            state: State::Limited,
            detail: "not in this kernel; the relay does what it does".to_owned(),
            remedy: format!("only `shaper: netem` needs it: {NETEM_REMEDY}"),
        },
    }
}

/// How a user comes by a kernel with netem.
pub(super) const NETEM_REMEDY: &str = "sudo modprobe sch_netem, or run it under scripts/with-netem-kernel";

/// One answer for each of [`ATTEMPTS`], and netem's.
fn attempt() -> ([bool; ATTEMPTS.len()], NetemSupport) {
    let packet = socket(AddressFamily::Packet, SockType::Raw, SockFlag::SOCK_CLOEXEC, None::<SockProtocol>).is_ok();
    let Ok(mut netlink) = Netlink::open() else {
        return ([packet, false, false, false], NetemSupport::Absent);
    };
    let mut works = |build: &dyn Fn(&mut Batch)| {
        let mut batch = Batch::default();
        build(&mut batch);
        netlink.apply(batch.bytes(), batch.len()).is_ok()
    };
    let end = |name, index| VethEnd { name, index, mac: None, mtu: 1500, segmentation_offload: true };
    let veth = namespace::own_network().is_ok_and(|own| {
        works(&|batch| batch.add_veth(&end("a", 10), &end("b", 11), std::os::fd::AsRawFd::as_raw_fd(&own)))
    });
    let bridge = works(&|batch| batch.add_bridge("br", 12));
    let v6 = fabric::has_ipv6();
    let netem = if veth { tried_on(&mut netlink, 11) } else { NetemSupport::Absent };
    ([packet, veth, bridge, v6], netem)
}

/// What the kernel has of netem, tried on an interface without a queueing discipline. That has one then.
pub(crate) fn tried_on(netlink: &mut Netlink, index: u32) -> NetemSupport {
    let told = Netem { limit: 1, seed: Some(SEED), ..Netem::default() };
    let mut batch = Batch::default();
    batch.add_netem(index, &told);
    let accepted = netlink.apply(batch.bytes(), batch.len()).is_ok();
    // A kernel that has no place for a seed accepts it all the same, so only what it says afterwards counts.
    let kept = netlink.netems().ok().and_then(|mut netems| netems.remove(&index)?.parameters);
    match kept.filter(|kept| accepted && told.is_kept_as(kept)) {
        None => NetemSupport::Absent,
        Some(kept) if kept.seed.is_none() => NetemSupport::Unseeded,
        Some(_) => NetemSupport::Seeded,
    }
}

/// A seed that no kernel draws by chance.
const SEED: u64 = 0x6e65_7465_6d21_0001;

fn apparmor() -> Finding {
    let what = "AppArmor";
    match setting(APPARMOR) {
        Some(1) if !nix::unistd::geteuid().is_root() => Finding {
            what,
            state: State::Missing,
            detail: "keeps ordinary users from user namespaces".to_owned(),
            remedy: "sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0, or run it with sudo".to_owned(),
        },
        Some(1) => Finding {
            what,
            state: State::Limited,
            detail: "keeps ordinary users from user namespaces; root, as now, it does not".to_owned(),
            remedy: "for ordinary users: sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0".to_owned(),
        },
        _ => ready(what, "does not stand in the way".to_owned()),
    }
}

fn descriptors() -> Finding {
    let what = "descriptors";
    match getrlimit(Resource::RLIMIT_NOFILE) {
        Ok((soft, hard)) if hard < 4096 => Finding {
            what,
            state: State::Limited,
            detail: format!("{soft}, at most {hard}"),
            remedy: "large topologies need about one a node: raise the hard limit (ulimit -Hn)".to_owned(),
        },
        Ok((soft, hard)) => ready(what, format!("{soft}, raised up to {hard} when needed")),
        Err(errno) => Finding { what, state: State::Limited, detail: errno.to_string(), remedy: String::new() },
    }
}

fn processes() -> Finding {
    let most_ids = setting("/proc/sys/kernel/pid_max").unwrap_or(u64::MAX);
    let own = getrlimit(Resource::RLIMIT_NPROC).map_or(u64::MAX, |(_, hard)| hard);
    let group = limits::cgroup_processes();
    let most = most_ids.min(own).min(group.as_ref().map_or(u64::MAX, |(_, most)| *most));
    let group = group.map_or("no limit".to_owned(), |(_, most)| most.to_string());
    let own = if own == u64::MAX { "no limit".to_owned() } else { own.to_string() };
    let detail = format!("process ids {most_ids}, this user's processes {own}, this control group's {group}");
    if most >= 8192 {
        return ready("processes", detail);
    }
    let remedy = "large topologies need about four a node: raise kernel.pid_max, ulimit -Hu or pids.max".to_owned();
    Finding { what: "processes", state: State::Limited, detail, remedy }
}

fn receive_buffer() -> Finding {
    let what = "receive buffers";
    let most = setting("/proc/sys/net/core/rmem_max").unwrap_or(0);
    let detail = format!("sockets of programs get up to {most} bytes (the relay does not depend on it)");
    if most >= 4 << 20 {
        return ready(what, detail);
    }
    let remedy = "fast UDP programs lose less with: sudo sysctl -w net.core.rmem_max=4194304".to_owned();
    Finding { what, state: State::Limited, detail, remedy }
}

fn cores() -> Finding {
    let what = "cores";
    match std::thread::available_parallelism().map_or(1, usize::from) {
        1 => Finding {
            what,
            state: State::Limited,
            detail: "1".to_owned(),
            remedy: "the relay needs a core of its own for exact times".to_owned(),
        },
        cores => ready(what, cores.to_string()),
    }
}

fn memory() -> Finding {
    let what = "memory";
    let info = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let available = info.lines().find_map(|line| line.strip_prefix("MemAvailable:"));
    let kib: u64 = available.and_then(|rest| rest.split_whitespace().next()?.parse().ok()).unwrap_or(0);
    let detail = format!("{} MiB available", kib / 1024);
    if kib >= 1 << 20 {
        return ready(what, detail);
    }
    let remedy = "a node takes about 2 MiB besides its program".to_owned();
    Finding { what, state: State::Limited, detail, remedy }
}

fn ready(what: &'static str, detail: String) -> Finding {
    Finding { what, state: State::Ready, detail, remedy: String::new() }
}

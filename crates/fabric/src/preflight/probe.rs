//! What `testbed doctor` shows: each thing is tried, in a sandbox that ends with the attempt.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

use nix::sys::resource::{Resource, getrlimit};
use nix::sys::socket::{AddressFamily, SockFlag, SockProtocol, SockType, socket};

use super::{APPARMOR, Finding, State, limits, setting};
use crate::netlink::{Batch, Netlink, VethEnd};
use crate::{fabric, namespace, sandbox};

/// Looks at everything that a run may need. The calling process must have one thread, as for [`sandbox::run`].
pub fn examine() -> Vec<Finding> {
    let mut findings = inside();
    findings.extend([apparmor(), descriptors(), processes(), receive_buffer(), cores(), memory(), docker()]);
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
        let answers: [u8; ATTEMPTS.len() + 1] = attempt().map(u8::from);
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
    let ready =
        |what, detail: &str| Finding { what, state: State::Ready, detail: detail.to_owned(), remedy: String::new() };
    let mut findings = vec![ready(what, "made and entered")];
    for (&(what, otherwise, remedy), answer) in ATTEMPTS.iter().zip(answers) {
        findings.push(match answer {
            0 => Finding { what, state: otherwise, detail: "not there".to_owned(), remedy: remedy.to_owned() },
            _ => ready(what, "tried"),
        });
    }
    findings.push(match answers[ATTEMPTS.len()] {
        0 => Finding {
            what: "netem",
            state: State::Limited,
            detail: "not in this kernel".to_owned(),
            remedy: "none needed: the relay does what it does".to_owned(),
        },
        _ => ready("netem", "in this kernel; this version shapes with the relay"),
    });
    findings
}

/// One answer for each of [`ATTEMPTS`], then netem.
fn attempt() -> [bool; ATTEMPTS.len() + 1] {
    let packet = socket(AddressFamily::Packet, SockType::Raw, SockFlag::SOCK_CLOEXEC, None::<SockProtocol>).is_ok();
    let Ok(mut netlink) = Netlink::open() else { return [packet, false, false, false, false] };
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
    let netem = veth && works(&|batch| batch.add_netem(11));
    [packet, veth, bridge, v6, netem]
}

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

fn docker() -> Finding {
    let what = "Docker";
    match UnixStream::connect("/var/run/docker.sock") {
        Ok(_) => ready(what, "its daemon listens".to_owned()),
        Err(error) => Finding {
            what,
            state: State::Limited,
            detail: format!("its daemon does not answer: {error}"),
            remedy: "only `--engine docker` and `--engine swarm` need it".to_owned(),
        },
    }
}

fn ready(what: &'static str, detail: String) -> Finding {
    Finding { what, state: State::Ready, detail, remedy: String::new() }
}

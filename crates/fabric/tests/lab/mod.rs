//! A hub and nodes in network namespaces of their own, for the relay's tests. Made with `ip`, which stands
//! outside of what is measured and tested.

use std::net::IpAddr;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitStatus};
use std::sync::mpsc::{self, Sender};
use std::thread::{self, JoinHandle};

use fabric::relay::PortConfig;
use link::Profile;
use nix::net::if_::if_nametoindex;
use nix::sched::{CloneFlags, unshare};
use nix::unistd::{getegid, geteuid, gettid};

const INSIDE: &str = "RELAY_LAB";

/// Whether this process has been started by [`enter`].
pub(crate) fn is_inside() -> bool {
    std::env::var_os(INSIDE).is_some()
}

/// Runs this program again, with these arguments, in a network namespace of its own; in a user namespace as well if
/// `rootless`, so that it takes no privilege.
#[allow(unsafe_code, reason = "namespaces are entered between fork and exec, while there is one thread")]
pub(crate) fn enter(arguments: &[&str], rootless: bool) -> ExitStatus {
    let (uid, gid) = (geteuid(), getegid());
    let mut command = Command::new(std::env::current_exe().expect("the path of this program"));
    command.args(arguments).env(INSIDE, "1");
    // SAFETY: between fork and exec only system calls and small allocations are made, and no lock is held by another
    // thread that they need: `Command` forks with the allocator's locks in order.
    unsafe {
        command.pre_exec(move || {
            let user = if rootless { CloneFlags::CLONE_NEWUSER } else { CloneFlags::empty() };
            unshare(user | CloneFlags::CLONE_NEWNET)?;
            if rootless {
                std::fs::write("/proc/self/setgroups", "deny")?;
                std::fs::write("/proc/self/uid_map", format!("0 {uid} 1"))?;
                std::fs::write("/proc/self/gid_map", format!("0 {gid} 1"))?;
            }
            Ok(())
        });
    }
    command.status().expect("start this program in namespaces")
}

/// Runs `ip` with these words in the namespace of the calling thread.
pub(crate) fn ip(words: &str) {
    run("ip", words);
}

fn run(program: &str, words: &str) {
    let output = Command::new(program).args(words.split_whitespace()).output();
    let output = output.unwrap_or_else(|error| panic!("{program} is not installed: {error}"));
    assert!(output.status.success(), "{program} {words}: {}", String::from_utf8_lossy(&output.stderr));
}

/// A namespace with one interface, `eth0`, whose other end is in the hub.
#[derive(Debug)]
pub(crate) struct Node {
    number: u8,
    jobs: Sender<Job>,
}

type Job = Box<dyn FnOnce() + Send>;

impl Node {
    /// Makes the node with this number: `hub<number>` in the calling thread's namespace, address 10.0.0.<number> and
    /// fd00::<number> in its own.
    pub(crate) fn new(number: u8, offload: bool) -> Node {
        let (jobs, queue) = mpsc::channel::<Job>();
        let (ready, is_ready) = mpsc::channel();
        thread::spawn(move || {
            unshare(CloneFlags::CLONE_NEWNET).expect("a network namespace");
            ready.send(gettid()).expect("the maker waits");
            queue.iter().for_each(|job| job());
        });
        let node = Node { number, jobs };
        let tid = is_ready.recv().expect("the node's thread lives");
        let mac = node.mac().map(|byte| format!("{byte:02x}")).join(":");
        ip(&format!("link add hub{number} type veth peer name eth0 address {mac} netns {tid}"));
        std::fs::write(format!("/proc/sys/net/ipv6/conf/hub{number}/disable_ipv6"), "1")
            .expect("a hub end without IPv6");
        ip(&format!("link set hub{number} up"));
        let addresses = node.addresses();
        let done = node.spawn(move || {
            // 10 Gbit/s over 20 ms are 25 MB under way. The receiver's buffer is that large from the start: the kernel's
            // tuning sometimes leaves it at the default, which would measure that.
            for (buffer, sizes) in [("tcp_rmem", "4096 67108864 67108864"), ("tcp_wmem", "4096 4194304 67108864")] {
                let path = format!("/proc/sys/net/ipv4/{buffer}");
                std::fs::write(path, sizes).expect("buffers of this namespace");
            }
            if !offload {
                // With `gso_max_segs 1` TCP itself makes small packets, at a tenth of the speed: nothing to measure by.
                run("ethtool", "-K eth0 tso off gso off tx-udp-segmentation off");
            }
            ip("link set lo up");
            ip("link set eth0 up");
            for address in addresses {
                let (length, flags) = if address.is_ipv4() { (24, "") } else { (64, "nodad") };
                ip(&format!("addr add {address}/{length} dev eth0 {flags}"));
            }
        });
        done.join().expect("the node is configured");
        node
    }

    /// Runs `work` in a new thread in the node's namespace.
    pub(crate) fn spawn<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
        let (started, handle) = mpsc::channel();
        let job = move || started.send(thread::spawn(work)).expect("the caller waits");
        self.jobs.send(Box::new(job)).expect("the node's thread lives");
        handle.recv().expect("the node's thread lives")
    }

    pub(crate) fn addresses(&self) -> [IpAddr; 2] {
        let number = self.number;
        [IpAddr::from([10, 0, 0, number]), IpAddr::from([0xfd00, 0, 0, 0, 0, 0, 0, u16::from(number)])]
    }

    pub(crate) fn mac(&self) -> [u8; 6] {
        [2, 0, 0, 0, 0, self.number]
    }

    /// What the relay is told of it.
    pub(crate) fn port(&self, profile: Profile, offload: bool) -> PortConfig {
        let ifindex = if_nametoindex(format!("hub{}", self.number).as_str()).expect("the hub's end of this node");
        let (label, addresses) = (format!("node-{}", self.number), self.addresses().to_vec());
        PortConfig { label, interface: "eth0".to_owned(), ifindex, mac: self.mac(), addresses, profile, offload }
    }
}

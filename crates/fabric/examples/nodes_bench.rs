//! What nodes cost, beside the bare system calls in the same run.
//!
//! `cargo run --release -p fabric --example nodes_bench [-- [--rounds N] NODES…]`, as root or as an ordinary user; medians of
//! the rounds, in which all take turns. A node counts as up
//! when its links carry packets and a program has been started in it and has ended (`/bin/true`).
//!
//! The floor is a loop without protocol, error handling or order: clone into the same namespaces, one netlink send with the
//! same requests, spawn the same program; its far ends are set up by one batch in the end.
#![allow(unsafe_code, reason = "the floor makes bare system calls")]
#![allow(clippy::disallowed_methods, clippy::unwrap_used, reason = "a benchmark reads the clock, and may panic")]

use std::io::{Read, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::time::{Duration, Instant};

use fabric::{NodeStart, Sandbox, sandbox, spawner};
use machine::Seed;
use netlink_packet_core::{NLM_F_ACK, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{InfoData, InfoVeth};
use rtnetlink::sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};
use rtnetlink::{AddressMessageBuilder, LinkMessageBuilder, LinkUnspec, LinkVeth};
use topology::{Overrides, Plan, Source};

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let rounds = arguments.iter().skip_while(|word| *word != "--rounds").nth(1).and_then(|word| word.parse().ok());
    let counts = arguments.iter().enumerate().filter(|(at, _)| *at == 0 || arguments[at - 1] != "--rounds");
    let counts: Vec<usize> = counts.filter_map(|(_, word)| word.parse().ok()).collect();
    let counts = if counts.is_empty() { vec![100, 1000] } else { counts };
    let privilege = if nix::unistd::geteuid().is_root() { "root" } else { "rootless" };
    println!("nodes  privilege  what                  up ms  ms/node  x floor  gone ms");
    for count in counts {
        compare(count, rounds.unwrap_or(1), privilege);
    }
}

/// Way to make nodes.
#[derive(Clone, Copy, Debug)]
enum Maker {
    Floor { workers: usize },
    Fabric { shaper: &'static str, spawners: usize },
}

/// Measures all makers in turn, and prints medians.
fn compare(count: usize, rounds: usize, privilege: &str) {
    let floor = |workers| Maker::Floor { workers };
    let fabric = |shaper, spawners| Maker::Fabric { shaper, spawners };
    let makers = [floor(1), floor(2), fabric("relay", 1), fabric("relay", 2), fabric("auto", 1)];
    let mut found = makers.map(|_| (Vec::new(), Vec::new()));
    for _ in 0..rounds {
        for (maker, (ups, gones)) in makers.iter().zip(&mut found) {
            let (up, gone) = match *maker {
                Maker::Floor { workers } => measure(move |_| floor_up(count, workers)),
                Maker::Fabric { shaper, spawners } => {
                    measure(move |sandbox| fabric_up(sandbox, count, shaper, spawners))
                }
            };
            ups.push(up);
            gones.push(gone);
        }
    }
    let mut least = f64::MAX;
    for (maker, (ups, gones)) in makers.iter().zip(&mut found) {
        let (up, gone) = (median(ups), median(gones));
        match *maker {
            Maker::Floor { workers } => {
                least = least.min(up);
                line(count, privilege, &format!("floor, {workers} at a time"), up, gone, None);
            }
            Maker::Fabric { shaper, spawners } => {
                let carrier = if shaper == "auto" && count <= 1023 { "bridge" } else { "relay" };
                line(count, privilege, &format!("{carrier}, {spawners} spawner(s)"), up, gone, Some(up / least));
            }
        }
    }
}

fn line(count: usize, privilege: &str, what: &str, up: f64, gone: f64, ratio: Option<f64>) {
    let ratio = ratio.map_or(String::new(), |ratio| format!("{ratio:.2}"));
    println!("{count:5}  {privilege:9}  {what:20}  {up:5.0}  {:7.3}  {ratio:>7}  {gone:7.0}", up / count as f64);
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Milliseconds that `work` says it took, and those from its end until the last process is gone. Waits until the kernel
/// has taken down what the one before left.
fn measure(work: impl FnOnce(&Sandbox) -> Duration + Send) -> (f64, f64) {
    let (mut ours, mut theirs) = UnixStream::pair().unwrap();
    let status = sandbox::run(move |sandbox| {
        let took = work(&sandbox);
        let end = fabric::clock::now();
        theirs.write_all(&(took.as_nanos() as u64).to_ne_bytes()).unwrap();
        theirs.write_all(&end.as_nanos().to_ne_bytes()).unwrap();
        0
    });
    let gone = fabric::clock::now();
    assert_eq!(status.unwrap(), 0);
    let mut words = [0; 16];
    ours.read_exact(&mut words).unwrap();
    let word = |at: usize| u64::from_ne_bytes(words[at..at + 8].try_into().unwrap());
    settle();
    (word(0) as f64 / 1e6, (gone.as_nanos() - word(8)) as f64 / 1e6)
}

/// Lets the kernel take down the namespaces of the run before, which it does by itself and tells nobody.
fn settle() {
    std::thread::sleep(Duration::from_millis(1500));
}

fn fabric_up(sandbox: &Sandbox, count: usize, shaper: &str, workers: usize) -> Duration {
    let plan = plan(count, shaper);
    let spawner = spawner::start(sandbox, workers, node_main).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let start = Instant::now();
    let mut fabric = runtime.block_on(fabric::raise(&plan, spawner, fabric::Extras::default())).unwrap();
    let nodes = fabric.take_nodes();
    for node in &nodes {
        (&node.control).read_exact(&mut [0]).unwrap();
    }
    let took = start.elapsed();
    std::mem::forget((fabric, nodes));
    took
}

fn plan(count: usize, shaper: &str) -> Plan {
    let text = format!("name: bench\nshaper: {shaper}\nnodes: {{ node: {{ count: {count}, run: [sleep, 1] }} }}\n");
    let source = Source::new("bench.yaml", text);
    topology::load(&source, &Overrides::new(Seed::new(1))).expect("the file is right")
}

fn node_main(start: NodeStart) -> i32 {
    let status = Command::new("/bin/true").status().unwrap();
    let mut control = UnixStream::from(start.control);
    control.write_all(&[status.code().unwrap() as u8]).unwrap();
    // Until the conductor ends.
    let _ = control.read(&mut [0]);
    0
}

fn floor_up(count: usize, workers: usize) -> Duration {
    let hub = OwnedFd::from(std::fs::File::open("/proc/thread-self/ns/net").unwrap());
    // SAFETY: a new descriptor that nothing else owns.
    let hub = unsafe { OwnedFd::from_raw_fd(libc::fcntl(hub.as_raw_fd(), libc::F_DUPFD, 100)) };
    let (mut done, tell) = UnixStream::pair().unwrap();
    let batches: Vec<Vec<u8>> = (0..count).map(|at| inside(at, hub.as_raw_fd())).collect();
    let start = Instant::now();
    for worker in 0..workers {
        // SAFETY: the only other thread waits for signals and holds no lock.
        if unsafe { libc::fork() } == 0 {
            for batch in batches.iter().skip(worker).step_by(workers) {
                let flags = libc::CLONE_NEWNET | libc::CLONE_NEWNS | libc::CLONE_NEWPID | libc::CLONE_NEWUTS;
                // SAFETY: a copy of this process, which has one thread, as after fork.
                if unsafe { libc::syscall(libc::SYS_clone, flags | libc::SIGCHLD, 0, 0, 0, 0) } == 0 {
                    send(batch);
                    Command::new("/bin/true").status().unwrap();
                    (&tell).write_all(&[0]).unwrap();
                    pause();
                }
            }
            pause();
        }
    }
    for _ in 0..count {
        done.read_exact(&mut [0]).unwrap();
    }
    let mut up = Vec::new();
    for at in 0..count {
        let link = LinkUnspec::new_with_index(2000 + at as u32).up().build();
        push(&mut up, RouteNetlinkMessage::NewLink(link), 0, at + 1 == count);
    }
    send(&up);
    start.elapsed()
}

/// Until the sandbox ends, and this process with it.
fn pause() -> ! {
    loop {
        std::thread::park();
    }
}

/// The requests of one node: loopback, a veth pair, an address.
fn inside(at: usize, hub: i32) -> Vec<u8> {
    let mut batch = Vec::new();
    push(&mut batch, RouteNetlinkMessage::NewLink(LinkUnspec::new_with_index(1).up().build()), 0, false);
    let peer = LinkMessageBuilder::<LinkUnspec>::default().name(format!("p{at}")).index(2000 + at as u32);
    let veth = LinkVeth::new("eth0", "peer")
        .index(32)
        .set_info_data(InfoData::Veth(InfoVeth::Peer(peer.setns_by_fd(hub).build())))
        .up();
    push(&mut batch, RouteNetlinkMessage::NewLink(veth.build()), NLM_F_CREATE | NLM_F_EXCL, false);
    let address = AddressMessageBuilder::<std::net::Ipv4Addr>::new()
        .index(32)
        .address((0x0a4d_0000 + at as u32 + 1).into(), 16)
        .build();
    push(&mut batch, RouteNetlinkMessage::NewAddress(address), NLM_F_CREATE | NLM_F_EXCL, true);
    batch
}

fn push(batch: &mut Vec<u8>, message: RouteNetlinkMessage, flags: u16, last: bool) {
    let mut header = NetlinkHeader::default();
    header.flags = NLM_F_REQUEST | flags | if last { NLM_F_ACK } else { 0 };
    let mut message = NetlinkMessage::new(header, message.into());
    message.finalize();
    let start = batch.len();
    batch.resize(start + message.buffer_len().next_multiple_of(4), 0);
    message.serialize(&mut batch[start..]);
}

fn send(batch: &[u8]) {
    let socket = Socket::new(NETLINK_ROUTE).unwrap();
    socket.send_to(batch, &SocketAddr::new(0, 0), 0).unwrap();
    let mut answer = [0; 256];
    socket.recv(&mut &mut answer[..], 0).unwrap();
    assert_eq!(answer[16..20], [0; 4], "the kernel refused");
}

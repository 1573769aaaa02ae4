//! Processes that make nodes: small, of one thread, forked before anything big or threaded exists, because a fork costs
//! what its parent has mapped.
//!
//! * `order`: what goes to a spawner and what comes back.
//! * `worker`: the spawner's own loop.
//! * `birth`: what a node does between its making and its `node_main`.
#![allow(unsafe_code, reason = "forks")]

mod birth;
pub(crate) mod order;
mod worker;

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicUsize, Ordering};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, send, socketpair};
use nix::sys::wait::waitpid;
use nix::unistd::{ForkResult, Pid, fork};

use crate::namespace;
use crate::sandbox::Sandbox;
pub(crate) use birth::CARRIER;
use order::{Order, Report, Stage};

/// What a node's first process is given.
#[derive(Debug)]
pub struct NodeStart {
    /// The node's name, which is also its host name.
    pub name: String,
    /// The conductor's other end is [`RaisedNode::control`](crate::RaisedNode::control).
    pub control: OwnedFd,
}

/// Runs as pid 1 of the node's namespaces, in one thread, with no other descriptor than the standard three and its
/// control socket; its result is the exit status.
pub type NodeMain = fn(NodeStart) -> i32;

/// Ready to make nodes; ends with the sandbox, or when dropped.
#[derive(Debug)]
pub struct Spawner {
    workers: Vec<Worker>,
    hub: OwnedFd,
}

/// Why no spawner runs.
#[derive(Debug, thiserror::Error)]
#[error("{call}: {errno}")]
pub struct SpawnError {
    call: &'static str,
    errno: Errno,
}

/// One spawner process; ends when its socket closes.
#[derive(Debug)]
struct Worker {
    pid: Pid,
    socket: Option<OwnedFd>,
}

/// A node whose network is up and whose `node_main` runs.
#[derive(Debug)]
pub(crate) struct Born {
    /// Where it is a process of the sandbox.
    pub pid: Option<Pid>,
    pub control: OwnedFd,
    /// Packet sockets in its network namespace, one for each interface, where nobody can go there to open them.
    pub sockets: Vec<OwnedFd>,
}

/// Why a node is not there.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stillborn {
    pub stage: Stage,
    /// The refused request of a netlink batch, counted from 1.
    pub sequence: u32,
    pub errno: Errno,
}

/// Starts `workers` spawners. To be called as early as possible: each is a copy of the calling process.
pub fn start(sandbox: &Sandbox, workers: usize, node_main: NodeMain) -> Result<Spawner, SpawnError> {
    let step = |call| move |errno| SpawnError { call, errno };
    let hub = namespace::own_network().map_err(|error| SpawnError {
        call: "open the network namespace",
        errno: Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO)),
    })?;
    let mut spawner = Spawner { workers: Vec::new(), hub };
    for _ in 0..workers.max(1) {
        let (ours, theirs) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)
            .map_err(step("make a socket pair"))?;
        // SAFETY: the only other thread of the sandbox is pid 1's, which waits for signals and holds no lock; the C
        // library makes its allocator usable after a fork.
        match unsafe { fork() }.map_err(step("fork"))? {
            ForkResult::Child => {
                worker::serve(&worker::Setting {
                    socket: theirs,
                    hub: spawner.hub.as_raw_fd(),
                    uid: sandbox.uid,
                    gid: sandbox.gid,
                    rootless: sandbox.rootless,
                    node_main,
                });
            }
            ForkResult::Parent { child } => spawner.workers.push(Worker { pid: child, socket: Some(ours) }),
        }
    }
    Ok(spawner)
}

impl Spawner {
    /// The hub's network namespace under the descriptor that it has in the spawners and their children.
    pub(crate) fn hub(&self) -> RawFd {
        self.hub.as_raw_fd()
    }

    /// Makes all nodes of `orders`, as many at a time as the spawners can; the results are in the order of the orders.
    pub(crate) fn spawn(self, orders: &[Order]) -> Vec<Result<Born, Stillborn>> {
        let next = AtomicUsize::new(0);
        let mut results = BTreeMap::new();
        std::thread::scope(|scope| {
            let threads: Vec<_> = self
                .workers
                .iter()
                .filter_map(|worker| worker.socket.as_ref())
                .map(|socket| scope.spawn(|| Dialogue::new(socket, orders, &next).carry_out()))
                .collect();
            for thread in threads {
                results.extend(thread.join().expect("the dialogue with a spawner does not panic"));
            }
        });
        let gone = Stillborn { stage: Stage::Spawner, sequence: 0, errno: Errno::ESRCH };
        (0..orders.len()).map(|index| results.remove(&index).unwrap_or(Err(gone))).collect()
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.socket = None;
        let _ = waitpid(self.pid, None);
    }
}

/// Orders that a spawner holds unanswered: enough that it never waits for the next, few enough that two spawners share
/// the work evenly and that neither side fills a socket's buffer.
const AHEAD: usize = 16;

/// Talks with one spawner.
struct Dialogue<'a> {
    socket: &'a OwnedFd,
    orders: &'a [Order],
    next: &'a AtomicUsize,
    open: BTreeMap<usize, Progress>,
    done: BTreeMap<usize, Result<Born, Stillborn>>,
}

#[derive(Default)]
struct Progress {
    born: Option<Born>,
    ready: bool,
}

impl<'a> Dialogue<'a> {
    fn new(socket: &'a OwnedFd, orders: &'a [Order], next: &'a AtomicUsize) -> Self {
        Dialogue { socket, orders, next, open: BTreeMap::new(), done: BTreeMap::new() }
    }

    fn carry_out(mut self) -> BTreeMap<usize, Result<Born, Stillborn>> {
        loop {
            while self.open.len() < AHEAD {
                let index = self.next.fetch_add(1, Ordering::Relaxed);
                let Some(order) = self.orders.get(index) else { break };
                self.open.insert(index, Progress::default());
                if let Err(errno) = send(self.socket.as_raw_fd(), &order.encode(index as u32), MsgFlags::MSG_NOSIGNAL) {
                    self.fail(index, Stillborn { stage: Stage::Spawner, sequence: 0, errno });
                }
            }
            if self.open.is_empty() {
                return self.done;
            }
            if let Err(errno) = self.listen() {
                // The spawner is gone, and what it had not finished with it.
                for index in self.open.keys().copied().collect::<Vec<_>>() {
                    self.fail(index, Stillborn { stage: Stage::Spawner, sequence: 0, errno });
                }
            }
        }
    }

    /// Waits for reports, or for the death of a child that had none to give.
    fn listen(&mut self) -> Result<(), Errno> {
        let mut waiting: Vec<usize> = Vec::with_capacity(self.open.len());
        let mut sources = vec![PollFd::new(self.socket.as_fd(), PollFlags::POLLIN)];
        for (&index, progress) in &self.open {
            if let Some(born) = &progress.born {
                waiting.push(index);
                sources.push(PollFd::new(born.control.as_fd(), PollFlags::empty()));
            }
        }
        match poll(&mut sources, PollTimeout::NONE) {
            Err(Errno::EINTR) => return Ok(()),
            other => other?,
        };
        let dead: Vec<usize> = waiting
            .into_iter()
            .zip(&sources[1..])
            .filter(|(_, source)| source.any() == Some(true))
            .map(|(index, _)| index)
            .collect();
        // A child reports before it dies: what it said is in the socket by now.
        while let Some((report, descriptor)) = order::receive(self.socket)? {
            self.take(report, descriptor);
        }
        for index in dead {
            if self.open.contains_key(&index) {
                self.fail(index, Stillborn { stage: Stage::Died, sequence: 0, errno: Errno::ECHILD });
            }
        }
        Ok(())
    }

    fn take(&mut self, report: Report, descriptor: Option<OwnedFd>) {
        let index = report.index() as usize;
        let Some(progress) = self.open.get_mut(&index) else { return };
        match report {
            Report::Cloned { pid, .. } => {
                progress.born =
                    descriptor.map(|control| Born { pid: Some(Pid::from_raw(pid)), control, sockets: Vec::new() });
            }
            Report::Ready { .. } => progress.ready = true,
            // Only inits that were adopted say so.
            Report::Wired { .. } => {}
            Report::Failed { stage, sequence, errno, .. } => {
                return self.fail(index, Stillborn { stage, sequence, errno: Errno::from_raw(errno) });
            }
        }
        if progress.ready && progress.born.is_some() {
            let born = self.open.remove(&index).and_then(|progress| progress.born);
            self.done.extend(born.map(|born| (index, Ok(born))));
        }
    }

    fn fail(&mut self, index: usize, why: Stillborn) {
        self.open.remove(&index);
        self.done.insert(index, Err(why));
    }
}

/// The errno of an I/O error that came from a system call.
pub(crate) fn errno_of(error: &io::Error) -> Errno {
    Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO))
}

//! The two ends of the bench's links: what runs in its nodes.

use std::collections::BTreeMap;
use std::io::{self, BufReader, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::{self, JoinHandle};

use fabric::clock;
use fabric::probe::{Witness, forgo_segmentation_offload, introduce, omit_checksums};
use fabric::spawner::NodeStart;
use machine::{Span, Time};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::{CpuSet, sched_getaffinity, sched_getcpu, sched_setaffinity};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeVal;
use nix::unistd::Pid;

use super::packet;
use super::protocol::{self, Answer, Command, Flow, Header, PORTS, Seen};
use super::timer;

/// The first process of a node, and all of it.
pub(super) fn node_main(start: NodeStart) -> i32 {
    let control = UnixStream::from(start.control);
    let Ok(reader) = control.try_clone() else { return 1 };
    let mut reader = BufReader::new(reader);
    let mut end = End::default();
    // Timers as exact as the relay's.
    timer::be_exact();
    loop {
        let command = match protocol::read(&mut reader) {
            Ok(Some(command)) => command,
            Ok(None) => return 0,
            Err(_) => return 1,
        };
        let answer = end.obey(command).unwrap_or_else(|error| Answer::Failed(error.to_string()));
        if protocol::write(&control, &answer).is_err() {
            return 1;
        }
    }
}

/// What an end is doing.
#[derive(Default)]
struct End {
    watch: Option<Watch>,
    /// Bytes that TCP has brought.
    received: Arc<AtomicU64>,
}

impl End {
    fn obey(&mut self, command: Command) -> io::Result<Answer> {
        match command {
            Command::Watch { interfaces, flows } => self.watch = Some(Watch::begin(interfaces, flows)?),
            Command::Send { begin, flows } => {
                return Ok(Answer::Sent { idle: send(Time::from_nanos(begin), &flows)? });
            }
            Command::Collect => {
                let watch = self.watch.take().ok_or(io::ErrorKind::NotConnected)?;
                let (packets, unseen) = watch.end()?;
                return Ok(Answer::Collected { packets, unseen });
            }
            Command::CutTrains { interface } => forgo_segmentation_offload(&interface)?,
            Command::Sink { at } => {
                widen_buffers();
                let (listener, received) = (TcpListener::bind(at)?, Arc::clone(&self.received));
                thread::spawn(move || sink(&listener, &received));
            }
            Command::Pour { to } => {
                widen_buffers();
                let mut stream = TcpStream::connect(to)?;
                // CUBIC may leave slow start by a guess from delays (HyStart), which would measure its luck.
                let reno = nix::sys::socket::sockopt::TcpCongestion;
                nix::sys::socket::setsockopt(&stream, reno, &"reno".into())?;
                thread::spawn(move || {
                    let block = vec![0; 1 << 20];
                    while stream.write_all(&block).is_ok() {}
                });
            }
            Command::Meter => {
                let (bytes, at) = (self.received.load(Ordering::Relaxed), clock::now().as_nanos());
                return Ok(Answer::Metered { bytes, at, cpu: cpu_nanos() });
            }
        }
        Ok(Answer::Done)
    }
}

/// 10 Gbit/s over 20 ms are 25 MB under way. The receiver's buffer is that large from the start: the kernel's tuning
/// sometimes leaves it at the default, which would measure that.
fn widen_buffers() {
    for (buffer, sizes) in [("tcp_rmem", "4096 67108864 67108864"), ("tcp_wmem", "4096 4194304 67108864")] {
        // Where that is not allowed, long links are measured with the buffers that there are.
        let _as_they_are = std::fs::write(format!("/proc/sys/net/ipv4/{buffer}"), sizes);
    }
}

fn sink(listener: &TcpListener, received: &AtomicU64) {
    let mut block = vec![0; 1 << 20];
    let Ok((mut stream, _)) = listener.accept() else { return };
    while let Ok(n @ 1..) = stream.read(&mut block) {
        received.fetch_add(n as u64, Ordering::Relaxed);
    }
}

/// What this process has used of any CPU.
pub(super) fn cpu_nanos() -> u64 {
    let nanos = |time: TimeVal| time.tv_sec() as u64 * 1_000_000_000 + time.tv_usec() as u64 * 1000;
    getrusage(UsageWho::RUSAGE_SELF).map_or(0, |usage| nanos(usage.user_time()) + nanos(usage.system_time()))
}

/// Keeps the calling thread where it is: each CPU has a backlog of packets of its own, so those that it sends before and after
/// it moved may overtake each other.
fn stay() -> nix::Result<CpuSet> {
    let anywhere = sched_getaffinity(Pid::from_raw(0))?;
    let mut here = CpuSet::new();
    here.set(sched_getcpu()?)?;
    sched_setaffinity(Pid::from_raw(0), &here)?;
    Ok(anywhere)
}

/// Later than this, and the machine has stood still.
const STALL: Span = Span::from_millis(20);

/// Sends the packets of all flows at their times; for how long the line of each had nothing to send.
fn send(begin: Time, flows: &[Flow]) -> io::Result<Vec<(u32, u64)>> {
    let mut schedule: Vec<(u64, usize, u32)> = Vec::new();
    let mut sockets = Vec::with_capacity(flows.len());
    for (at, flow) in flows.iter().enumerate() {
        if let IpAddr::V4(address) = flow.to.ip() {
            introduce(&flow.interface, address, flow.mac)?;
        }
        let socket = UdpSocket::bind(SocketAddr::new(flow.from.ip(), PORTS.0))?;
        socket.connect(flow.to)?;
        omit_checksums(&socket)?;
        sockets.push(socket);
        let turns = (0..flow.packets).step_by(flow.turn.max(1) as usize).zip(0u64..);
        schedule.extend(turns.map(|(first, turn)| (flow.offset + turn * flow.interval, at, first)));
    }
    schedule.sort_unstable();
    let mut payload = Vec::with_capacity(1500);
    let (mut begun, mut idle) = (vec![None; flows.len()], vec![0; flows.len()]);
    let anywhere = stay()?;
    let mut slip = Span::ZERO;
    for (due, at, first) in schedule {
        let flow = &flows[at];
        let due = begin + slip + Span::from_nanos(due);
        timer::wait_until(due);
        let sent = clock::now();
        // After a stall what is left is sent at its pace, and not at once: that would be other traffic.
        let late = sent.since(due);
        if late > STALL {
            slip += late;
        }
        let sent = sent.as_nanos();
        let began: u64 = *begun[at].get_or_insert(sent);
        for number in first..flow.packets.min(first + flow.turn) {
            packet::write(&mut payload, flow.id, number, sent, flow.bytes);
            sockets[at].send(&payload)?;
            if flow.line > 0 {
                // By then the line has come to the end of those before.
                let busy_until = began + flow.line * u64::from(number);
                idle[at] = idle[at].max(clock::now().as_nanos().saturating_sub(busy_until));
            }
        }
    }
    sched_setaffinity(Pid::from_raw(0), &anywhere)?;
    Ok(flows.iter().map(|flow| flow.id).zip(idle).collect())
}

/// A thread that sees what arrives.
struct Watch {
    stop: OwnedFd,
    thread: JoinHandle<io::Result<(Vec<Seen>, u64)>>,
    /// Where packets lead; nobody reads it, and the kernel answers nothing.
    _sink: UdpSocket,
}

impl Watch {
    fn begin(interfaces: usize, flows: Vec<Header>) -> io::Result<Watch> {
        let sink = UdpSocket::bind(("0.0.0.0", PORTS.1))?;
        let mut witness = Witness::open(interfaces)?;
        let (stopped, stop) = nix::unistd::pipe()?;
        let flows: BTreeMap<u32, Header> = flows.into_iter().map(|flow| (flow.id, flow)).collect();
        let thread = thread::spawn(move || {
            let mut seen = Vec::new();
            loop {
                let ended = wait(&witness, &stopped)?;
                // What arrived before the end is in the ring.
                while let Some(one) = witness.take(|at, frame| packet::read(frame, &flows, at.as_nanos())) {
                    seen.extend(one);
                }
                if ended {
                    return Ok((seen, witness.take_drops()?));
                }
            }
        });
        Ok(Watch { stop, thread, _sink: sink })
    }

    fn end(self) -> io::Result<(Vec<Seen>, u64)> {
        drop(self.stop);
        self.thread.join().map_err(|_| io::Error::other("the witness failed"))?
    }
}

/// Waits for a frame or the end; whether it is the end.
fn wait(witness: &Witness, stopped: &OwnedFd) -> io::Result<bool> {
    let mut ends = [PollFd::new(witness.as_fd(), PollFlags::POLLIN), PollFd::new(stopped.as_fd(), PollFlags::POLLIN)];
    poll(&mut ends, PollTimeout::NONE)?;
    Ok(ends[1].revents().is_some_and(|events| !events.is_empty()))
}

//! What is sent through a link to measure it.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use fabric::clock;
use machine::{Span, Time};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::socket::{setsockopt, sockopt::TcpCongestion};
use nix::sys::time::{TimeSpec, TimeVal};

use super::lab::Node;

const PORT: u16 = 5001;

/// What one TCP flow got.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Flow {
    /// Payload in Gbit/s.
    pub(crate) rate: f64,
    /// Seconds of CPU for a GB of payload, of both ends and all between: comparable also where a machine has other work.
    pub(crate) cost: f64,
}

/// Sends by TCP from `a` to `b`, and measures after 0.7 s in which the window opens.
pub(crate) fn tcp(a: &Node, b: &Node, time: Duration) -> Flow {
    let address = SocketAddr::new(b.addresses()[0], PORT);
    let (listening, is_listening) = mpsc::channel();
    let receiver = b.spawn(move || {
        let listener = TcpListener::bind(address).expect("a free port");
        listening.send(()).expect("the bench waits");
        let (mut stream, _) = listener.accept().expect("the sender connects");
        let mut buffer = vec![0; 1 << 20];
        let begin = clock::now() + Span::from_millis(700);
        let end = begin + time.into();
        let (mut counted, mut last, mut cpu) = (0, begin, None);
        while let Ok(n @ 1..) = stream.read(&mut buffer) {
            let now = clock::now();
            if now > end {
                break;
            }
            if now > begin {
                cpu.get_or_insert_with(cpu_seconds);
                (counted, last) = (counted + n, now);
            }
        }
        let (bytes, nanos) = (counted.max(1) as f64, last.since(begin).as_nanos().max(1) as f64);
        let spent = cpu_seconds() - cpu.unwrap_or_default();
        Flow { rate: bytes * 8.0 / nanos, cost: spent * 1e9 / bytes }
    });
    is_listening.recv().expect("the receiver lives");
    a.spawn(move || {
        let mut stream = TcpStream::connect(address).expect("the receiver listens");
        // The usual CUBIC may leave slow start by a guess from delays (HyStart), which would measure its luck.
        setsockopt(&stream, TcpCongestion, &"reno".into()).expect("every kernel has it");
        let buffer = vec![0; 1 << 20];
        while stream.write_all(&buffer).is_ok() {}
    });
    receiver.join().expect("the receiver ends")
}

/// Seconds of CPU that this process has used.
fn cpu_seconds() -> f64 {
    let usage = getrusage(UsageWho::RUSAGE_SELF).expect("the process may ask about itself");
    let seconds = |time: TimeVal| time.tv_sec() as f64 + time.tv_usec() as f64 / 1e6;
    seconds(usage.user_time()) + seconds(usage.system_time())
}

/// Signed errors in nanoseconds.
#[derive(Debug)]
pub(crate) struct Errors(Vec<i64>);

impl Errors {
    fn new(mut errors: Vec<i64>) -> Self {
        errors.sort_unstable();
        Errors(errors)
    }

    pub(crate) fn quantile(&self, q: f64) -> f64 {
        let last = self.0.len().saturating_sub(1);
        self.0.get((last as f64 * q) as usize).copied().unwrap_or(0) as f64
    }
}

/// How much longer than `delay` packets take from `a` to `b` on an idle link, and at the same time by how much a bare
/// timer is late.
pub(crate) fn delay(a: &Node, b: &Node, delay: Span, time: Duration) -> (Errors, Errors) {
    const PAUSE: Span = Span::from_millis(3);
    let address = SocketAddr::new(b.addresses()[0], PORT);
    let (listening, is_listening) = mpsc::channel();
    let receiver = b.spawn(move || {
        let socket = UdpSocket::bind(address).expect("a free port");
        socket.set_read_timeout(Some(Duration::from_secs(1))).expect("a valid time");
        listening.send(()).expect("the bench waits");
        let mut errors = Vec::new();
        let mut buffer = [0; 64];
        while let Ok(8) = socket.recv(&mut buffer) {
            let now = clock::now();
            let sent = u64::from_ne_bytes(std::array::from_fn(|k| buffer[k]));
            errors.push(now.as_nanos() as i64 - (sent + delay.as_nanos()) as i64);
        }
        Errors::new(errors.split_off(errors.len().min(10)))
    });
    is_listening.recv().expect("the receiver lives");
    let end = clock::now() + time.into();
    let sender = a.spawn(move || {
        let socket = UdpSocket::bind("0.0.0.0:0").expect("a free port");
        while clock::now() < end {
            socket.send_to(&clock::now().as_nanos().to_ne_bytes(), address).expect("the link is up");
            wait_until(clock::now() + PAUSE);
        }
    });
    let timer = thread::spawn(move || {
        nix::sys::prctl::set_timerslack(1).expect("a valid slack");
        let mut errors = Vec::new();
        while clock::now() < end {
            let due = clock::now() + PAUSE;
            wait_until(due);
            errors.push(clock::now().as_nanos() as i64 - due.as_nanos() as i64);
        }
        Errors::new(errors)
    });
    sender.join().expect("the sender ends");
    (receiver.join().expect("the receiver ends"), timer.join().expect("the timer ends"))
}

fn wait_until(due: Time) {
    let left: Duration = due.since(clock::now()).into();
    // An interruption would only make the bare timer look early.
    let _ = nix::poll::ppoll(&mut [], Some(TimeSpec::from_duration(left)), None);
}

//! Starting a relay, changing it while it runs, asking it and stopping it.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::mpsc::{self, Sender, SyncSender};
use std::sync::{Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use link::{PartitionKey, Profile};
use machine::Time;
use nix::sys::eventfd::{EfdFlags, EventFd};
use thiserror::Error;

use super::capture::{Capture, CaptureEnding};
use super::receiver::Receiver;
use super::recorder::CaptureError;
use super::worker::{Command, Worker};
use super::{Applied, Change, NetworkConfig, RelayConfig, RelayPort, RelaySnapshot};

/// Why a relay could not be started.
#[derive(Debug, Error)]
pub enum RelayError {
    /// The namespace has no packet sockets for us: it takes CAP_NET_RAW in it.
    #[error("open a packet socket over {ports} interfaces")]
    Socket {
        /// How many ports it would have had.
        ports: usize,
        /// What the kernel said.
        source: io::Error,
    },
    /// No descriptor to wake the relay with, or no thread to run it.
    #[error("start the thread of a relay")]
    Thread {
        /// What the kernel said.
        source: io::Error,
    },
    /// The files of a capture cannot be made.
    #[error("begin to record packets")]
    Capture(#[from] CaptureError),
    /// A pair names a port that its network does not have.
    #[error("lay a pair between ports {from} and {to} of network {network}, which has {ports}")]
    NoSuchPort {
        /// The network's name.
        network: String,
        /// Sender, by position.
        from: usize,
        /// Receiver, by position.
        to: usize,
        /// Ports that there are.
        ports: usize,
    },
}

/// The relay cannot be asked: its thread has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the relay's thread has ended")]
pub struct RelayStopped;

/// A running relay. Its methods may be called from any thread; commands are carried out in their order. Dropping it stops
/// the relay.
#[derive(Debug)]
pub struct RelayHandle {
    commands: Sender<Command>,
    wake: EventFd,
    thread: Option<JoinHandle<RelaySnapshot>>,
    /// Ports of each network.
    ports: Vec<usize>,
    /// Changes that nobody has taken yet.
    applied: Mutex<Vec<Applied>>,
    capture: Option<StartedCapture>,
}

/// What a relay began to record.
#[derive(Clone, Debug)]
pub struct StartedCapture {
    /// What the times in the files, nanoseconds since 1970, are ahead of the relay's clock.
    pub epoch: u64,
    /// The networks as the relay was told them.
    pub networks: Vec<NetworkConfig>,
}

/// The relay itself lives in its thread; this name starts one.
#[derive(Debug)]
pub enum Relay {}

impl Relay {
    /// Starts a relay in the network namespace of the calling thread, which holds the hub's ends of all ports.
    ///
    /// # Errors
    ///
    /// When the kernel denies the packet socket or the thread, the files of a capture cannot be made, or a pair names a
    /// port that is not there.
    pub fn start(config: RelayConfig) -> Result<RelayHandle, RelayError> {
        for network in &config.networks {
            let ports = network.ports.len();
            if let Some(pair) = network.pairs.iter().find(|pair| pair.from.max(pair.to) >= ports) {
                let network = network.name.clone();
                return Err(RelayError::NoSuchPort { network, from: pair.from, to: pair.to, ports });
            }
        }
        let probes = || config.probes.iter().map(|probe| &probe.port);
        let ports = || config.networks.iter().flat_map(|network| &network.ports).chain(probes());
        let interfaces: Vec<u32> = ports().map(|port| port.ifindex).collect();
        let mtu = config.networks.iter().map(|network| network.mtu).max().unwrap_or(1500);
        let frames = Receiver::open(&interfaces, mtu, ports().any(|port| port.offload))
            .map_err(|source| RelayError::Socket { ports: interfaces.len(), source })?;

        let failed = |source: io::Error| RelayError::Thread { source };
        let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
        let wake = EventFd::from_value_and_flags(0, flags).map_err(|errno| failed(errno.into()))?;
        let waking: OwnedFd = wake.as_fd().try_clone_to_owned().map_err(failed)?;
        let capture = Capture::start(&config)?;
        let started =
            capture.as_ref().map(|capture| StartedCapture { epoch: capture.epoch, networks: config.networks.clone() });
        let (commands, receiver) = mpsc::channel();
        let sizes = config.networks.iter().map(|network| network.ports.len()).collect();
        let thread = thread::Builder::new()
            .name("relay".to_owned())
            .spawn(move || Worker::new(config, frames, receiver, waking, capture).run())
            .map_err(failed)?;
        let applied = Mutex::default();
        Ok(RelayHandle { commands, wake, thread: Some(thread), ports: sizes, applied, capture: started })
    }
}

impl RelayHandle {
    /// Impairs a port's link from now on so; when that took effect. Packets already accepted keep their times.
    ///
    /// # Errors
    ///
    /// When the relay's thread has ended.
    ///
    /// # Panics
    ///
    /// As all methods that take ports, if the configuration has no such port.
    pub fn set_profile(&self, port: RelayPort, profile: Profile) -> Result<Time, RelayStopped> {
        self.check(&[port]);
        self.change(Change::SetProfile(port, Box::new(profile)))
    }

    /// From now on ports in different lists cannot reach each other; those in no list reach all. See
    /// [`link::Network::partition`].
    ///
    /// # Errors
    ///
    /// When the relay's thread has ended.
    pub fn partition(&self, key: PartitionKey, lists: Vec<Vec<RelayPort>>) -> Result<Time, RelayStopped> {
        lists.iter().for_each(|list| self.check(list));
        self.change(Change::Partition(key, lists))
    }

    /// Takes a partition away.
    ///
    /// # Errors
    ///
    /// When the relay's thread has ended.
    pub fn heal(&self, key: PartitionKey) -> Result<Time, RelayStopped> {
        self.change(Change::Heal(key))
    }

    /// From now on nothing leaves or reaches the port. See [`link::Network::cut`].
    ///
    /// # Errors
    ///
    /// When the relay's thread has ended.
    pub fn cut(&self, port: RelayPort) -> Result<Time, RelayStopped> {
        self.check(&[port]);
        self.change(Change::Cut(port))
    }

    /// Undoes a cut.
    ///
    /// # Errors
    ///
    /// When the relay's thread has ended.
    pub fn restore(&self, port: RelayPort) -> Result<Time, RelayStopped> {
        self.check(&[port]);
        self.change(Change::Restore(port))
    }

    /// From now on all traces of links are at their beginning.
    ///
    /// # Errors
    ///
    /// When the relay's thread has ended.
    pub fn begin_traces(&self) -> Result<Time, RelayStopped> {
        self.change(Change::BeginTraces)
    }

    /// Nothing more is measured: [`RelayConfig::probes`] are gone, and links are as new. Nothing where there are none.
    ///
    /// # Errors
    ///
    /// When the relay's thread has ended.
    pub fn end_calibration(&self) -> Result<Time, RelayStopped> {
        self.ask(Command::EndCalibration)
    }

    /// What became of everything so far.
    ///
    /// # Errors
    ///
    /// When the relay's thread has ended.
    pub fn snapshot(&self) -> Result<RelaySnapshot, RelayStopped> {
        self.ask(Command::Snapshot)
    }

    /// Records nothing more; what waits for the rest to be written. `None` where nothing was recorded, and when asked
    /// again.
    ///
    /// # Errors
    ///
    /// When the relay's thread has ended.
    pub fn end_capture(&self) -> Result<Option<CaptureEnding>, RelayStopped> {
        self.ask(Command::EndCapture)
    }

    /// Ends the relay; what became of everything.
    ///
    /// # Errors
    ///
    /// When the relay's thread had ended before, by a panic.
    pub fn stop(mut self) -> Result<RelaySnapshot, RelayStopped> {
        self.end().ok_or(RelayStopped)
    }

    /// The changes since this was asked last, in their order.
    pub fn take_changes(&self) -> Vec<Applied> {
        std::mem::take(&mut self.applied.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// What is recorded, if anything is.
    pub fn capture(&self) -> Option<&StartedCapture> {
        self.capture.as_ref()
    }

    fn change(&self, change: Change) -> Result<Time, RelayStopped> {
        let applied = self.ask(|done| Command::Change(change, done))?;
        let at = applied.at;
        self.applied.lock().unwrap_or_else(PoisonError::into_inner).push(applied);
        Ok(at)
    }

    fn ask<T>(&self, command: impl FnOnce(SyncSender<T>) -> Command) -> Result<T, RelayStopped> {
        let (answer, answered) = mpsc::sync_channel(1);
        self.tell(command(answer))?;
        answered.recv().map_err(|_| RelayStopped)
    }

    fn tell(&self, command: Command) -> Result<(), RelayStopped> {
        self.commands.send(command).map_err(|_| RelayStopped)?;
        // Only a counter at its very end refuses, and then the relay is being woken anyhow.
        let _ = self.wake.write(1);
        Ok(())
    }

    fn check(&self, ports: &[RelayPort]) {
        for port in ports {
            let count = self.ports.get(port.network).copied().unwrap_or(0);
            assert!(port.port < count, "{port:?} is not in the configuration");
        }
    }

    fn end(&mut self) -> Option<RelaySnapshot> {
        let thread = self.thread.take()?;
        let _ = self.tell(Command::Stop);
        thread.join().ok()
    }
}

impl Drop for RelayHandle {
    fn drop(&mut self) {
        self.end();
    }
}

//! Fabric and node inits as one thing to command, wherever the nodes live.

use std::io;
use std::path::{Path, PathBuf};

use event::{Direction, Lag, LinkChange, LinkCount, RecordedLinks, Recording};
use fabric::relay::RelaySnapshot;
use fabric::{Births, Extras, Fabric, NetemCount, RaiseError};
use link::calibration::Depth;
use machine::Span;
use nodes::init::lines::LineBuffer;
use nodes::init::protocol::{self, Command, EncodeError, InitEvent, Notice, Privilege, Start};
use scenario::{Calibration, Input, Measurements, Output, Scenario, link_count, pair_counts};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::mpsc;
use topology::Plan;
use topology::plan::{NodeId, Ready};

use crate::calibration;
use crate::lag;
use crate::launch::Launch;
use crate::recording::{self, PortNames};

/// Why the engine could not be built.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// Namespaces or links could not be made.
    #[error(transparent)]
    Raise(#[from] RaiseError),
    /// A node's control connection is unusable.
    #[error("failed to reach the init of node {node}")]
    Control {
        /// The node.
        node: String,
        /// What the system said.
        source: io::Error,
    },
}

/// What nodes find when their programs start.
#[derive(Debug)]
pub struct Places {
    /// By node: what is started.
    pub launches: Vec<Launch>,
    /// By node: what its init makes its `/etc/hosts`, where the right one is not there already.
    pub hosts: Vec<Option<PathBuf>>,
}

/// A standing fabric and a connection to every node's init.
pub struct Engine {
    fabric: Fabric,
    port_names: PortNames,
    controls: Vec<OwnedWriteHalf>,
    launches: Vec<Launch>,
    /// By node: what its `/etc/hosts` is to be, if it is something else already.
    hosts: Vec<Option<PathBuf>>,
    run: PathBuf,
    /// How links are measured, if they are.
    calibrate: Option<Depth>,
    /// How late the relay had been before t = 0.
    late_before: Span,
    /// Packets that the relay had lost before any program was started. Interfaces come up one after the other, and what the
    /// kernels of the first announce (RFC 3810) meanwhile finds no way to the others.
    lost_before: u64,
}

impl Engine {
    /// Builds everything that `plan` asks for around nodes from `births`. What they say goes to `inbox`.
    ///
    /// # Errors
    /// When the machine refuses; whatever was built is gone then.
    pub async fn raise(
        plan: &Plan,
        births: Births,
        places: Places,
        run: &Path,
        inbox: mpsc::Sender<Input>,
        calibrate: Option<Depth>,
    ) -> Result<Self, EngineError> {
        let Places { launches, hosts } = places;
        let captures = plan.is_recorded().then(|| run.join(event::run_directory::PCAP));
        let mut fabric = fabric::raise(plan, births, Extras { captures, probes: calibrate.is_some() }).await?;
        let mut controls = Vec::with_capacity(plan.nodes().len());
        for raised in fabric.take_nodes() {
            let name = &plan.node(raised.id).name;
            let failed = |source| EngineError::Control { node: name.clone(), source };
            raised.control.set_nonblocking(true).map_err(failed)?;
            let (reader, writer) = UnixStream::from_std(raised.control).map_err(failed)?.into_split();
            tokio::spawn(listen(raised.id, reader, inbox.clone()));
            controls.push(writer);
        }
        let run = run.to_owned();
        let port_names = PortNames::of(plan, &fabric);
        let (late_before, lost_before) = (Span::ZERO, 0);
        let mut engine =
            Engine { fabric, port_names, controls, launches, hosts, run, calibrate, late_before, lost_before };
        engine.note_losses().await;
        Ok(engine)
    }

    /// What is recorded, if anything is.
    pub fn recorded_links(&self, plan: &Plan) -> Option<RecordedLinks> {
        self.fabric.capture().map(|capture| recording::began(plan, capture))
    }

    /// What has changed of what the relay carries since this was asked last.
    pub fn take_changes(&mut self) -> Vec<LinkChange> {
        let changes = self.fabric.take_changes();
        changes.into_iter().map(|applied| self.port_names.told(applied)).collect()
    }

    /// Measures what links do. They are as new afterwards.
    pub async fn calibrate(&mut self, plan: &Plan) -> Calibration {
        let depth = self.calibrate.unwrap_or(Depth::Quick);
        let calibration = calibration::calibrate(&mut self.fabric, plan, depth).await;
        self.note_losses().await;
        calibration
    }

    async fn note_losses(&mut self) {
        self.lost_before = match self.fabric.snapshot().await {
            Ok(Some(snapshot)) => snapshot.own_losses(),
            // A relay that has stopped is found out when the run is measured.
            Ok(None) | Err(_) => 0,
        };
    }

    /// Carries out one output of the scenario; what to tell it if that failed.
    pub async fn carry_out(&mut self, scenario: &Scenario, output: Output) -> Option<Input> {
        match output {
            Output::Start { node, incarnation } => {
                let command = Command::Start(self.start(scenario, node, incarnation));
                match self.command(node, &command).await {
                    Ok(()) => None,
                    Err(error) => Some(Input::StartFailed { node, why: in_full(&error) }),
                }
            }
            Output::Stop { node, grace } => self.tell(node, &Command::Stop { grace }).await,
            Output::Kill { node } => self.tell(node, &Command::Kill).await,
            Output::Signal { node, number } => self.tell(node, &Command::Signal { number }).await,
            Output::Pause { node } => self.tell(node, &Command::Pause).await,
            Output::Resume { node } => self.tell(node, &Command::Resume).await,
            Output::PurgeSockets { node } => self.tell(node, &Command::PurgeSockets).await,
            Output::Wipe { node } => {
                let directory = event::run_directory::disk(&self.run, &scenario.plan().node(node).name);
                self.tell(node, &Command::Wipe { directory }).await
            }
            Output::Cut { node } => failed(node, self.fabric.cut(node).await),
            Output::Restore { node } => failed(node, self.fabric.restore(node).await),
            Output::SetLink { node, interface, profile } => {
                failed(node, self.fabric.set_link(node, interface, &profile).await)
            }
            Output::Partition { key, lists } => {
                let node = lists.iter().flatten().next().copied()?;
                failed(node, self.fabric.partition(key as u32, &lists).await)
            }
            Output::Heal { key } => {
                let node = scenario.plan().node_ids().next()?;
                failed(node, self.fabric.heal(key as u32).await)
            }
            Output::Calibrate
            | Output::CompareFile { .. }
            | Output::Record(_)
            | Output::Settle
            | Output::Finished(_) => None,
        }
    }

    fn start(&self, scenario: &Scenario, node: NodeId, incarnation: u32) -> Start {
        let planned = scenario.plan().node(node);
        let launch = &self.launches[node.index()];
        let folder = event::run_directory::node(&self.run, &planned.name);
        Start {
            incarnation,
            argv: launch.argv.clone(),
            env: launch.env.clone(),
            cwd: event::run_directory::disk(&self.run, &planned.name),
            stdout: folder.join(event::run_directory::STDOUT),
            stderr: folder.join(event::run_directory::STDERR),
            follow: scenario.follows(node),
            ready: match &planned.ready {
                Ready::Event => protocol::Ready::Event,
                Ready::Started => protocol::Ready::Started,
                Ready::Tcp(port) => protocol::Ready::Tcp(*port),
                Ready::Log(_) => protocol::Ready::Elsewhere,
                Ready::File(path) => protocol::Ready::File(path.clone()),
            },
            privilege: if planned.root { Privilege::Root } else { Privilege::None },
            forward: planned.is_router(),
            hosts: self.hosts[node.index()].clone(),
        }
    }

    async fn tell(&mut self, node: NodeId, command: &Command) -> Option<Input> {
        failed(node, self.command(node, command).await)
    }

    async fn command(&mut self, node: NodeId, command: &Command) -> Result<(), CommandError> {
        let line = protocol::encode(command)?;
        self.controls[node.index()].write_all(&line).await.map_err(CommandError::Send)
    }

    /// Kills the programs of `nodes`; their ends are told as any other.
    pub async fn kill_all(&mut self, nodes: &[NodeId]) {
        for node in nodes {
            // An init that cannot be told is gone, and its node with it.
            let _gone = self.command(*node, &Command::Kill).await;
        }
    }

    /// This is t = 0: from now on lateness counts, and traces of links are at their beginning.
    pub async fn begin(&mut self) {
        if let Err(error) = self.fabric.begin_traces().await {
            // A relay that has stopped makes the run invalid when it is measured.
            tracing::warn!(error = in_full(&error), "traces did not begin");
        }
        if let Ok(Some(snapshot)) = self.fabric.snapshot().await {
            self.late_before = snapshot.lateness.excess();
        }
    }

    /// What became of the packets in a run that lasted `lasted`, and whether this machine kept up with it.
    pub async fn measure(&mut self, plan: &Plan, lasted: Span, conductor: Lag) -> Measurements {
        let mut measured = Measurements { lags: vec![("conductor".to_owned(), conductor)], ..Measurements::default() };
        match self.fabric.snapshot().await {
            Ok(Some(snapshot)) => {
                measured.links = self.link_counts(plan, &snapshot);
                measured.lags.push(("relay".to_owned(), lag::summary(&snapshot.lateness, self.late_before, lasted)));
                let invalid = snapshot.invalid;
                if invalid > 0 {
                    // Not one of the causes that a busy machine has: tests must not excuse it.
                    measured.invalidities.push(format!(
                        "the kernel called {invalid} packets of the relay invalid: a defect of testbed, please report it"
                    ));
                }
                let lost = snapshot.own_losses().saturating_sub(self.lost_before + invalid);
                if lost > 0 {
                    let unread = snapshot.kernel_drops.min(lost);
                    measured.invalidities.push(format!(
                        "the emulation itself lost {lost} packets ({unread} before the relay read them, {} that the kernel refused or for which there was no room)",
                        lost - unread,
                    ));
                }
            }
            Ok(None) => {}
            Err(error) => measured.invalidities.push(format!("the relay has stopped: {}", in_full(&error))),
        }
        measured.recording = match self.fabric.end_capture().await {
            Ok(summary) => summary.map(|summary| Recording {
                files: summary.files as u64,
                packets: summary.recorded,
                unrecorded: summary.unrecorded,
                failed: summary.failed,
                ended_ns: summary.ended.as_nanos(),
            }),
            // That the relay has stopped is among the invalidities already.
            Err(_) => None,
        };
        match self.fabric.netem_counts(plan).await {
            Ok(counts) => measured.links.extend(counts.iter().map(|count| netem_count(plan, count))),
            Err(error) => measured.invalidities.push(format!("netem cannot be asked: {}", in_full(&error))),
        }
        match self.fabric.netem_overflows().await {
            Ok(overflows) => measured.invalidities.extend(overflows.into_iter().map(|(half, packets)| {
                format!(
                    "the kernel itself lost {packets} packets on {half}: more came during the delay than netem keeps"
                )
            })),
            Err(error) => measured.invalidities.push(format!("netem cannot be asked: {}", in_full(&error))),
        }
        let starved = measured.lags.iter().filter_map(|(of, lag)| lag::starvation(of, lag));
        measured.invalidities.extend(starved);
        measured
    }

    fn link_counts(&self, plan: &Plan, snapshot: &RelaySnapshot) -> Vec<LinkCount> {
        let mut counts = Vec::new();
        for id in plan.node_ids() {
            let node = plan.node(id);
            for (index, interface) in node.interfaces.iter().enumerate() {
                let Some(place) = self.fabric.place(id, index) else { continue };
                let port = &snapshot.networks[place.network].ports[place.port];
                let network = &plan.network(interface.network).name;
                counts.push(link_count(&node.name, network, Direction::Up, &port.up));
                counts.push(link_count(&node.name, network, Direction::Down, &port.down));
            }
        }
        counts.extend(snapshot.networks.iter().flat_map(pair_counts));
        counts
    }

    /// Takes everything down.
    pub async fn lower(self) {
        if let Err(error) = self.fabric.lower().await {
            tracing::warn!(error = in_full(&error), "the relay did not stop in order");
        }
    }
}

/// What the kernel's netem counted, as the log has it.
fn netem_count(plan: &Plan, count: &NetemCount) -> LinkCount {
    let NetemCount { node, interface, is_up, work, reasons } = *count;
    let node = plan.node(node);
    let drops = u64::from(work.drops);
    // Without a reason they are the emulation's own, which has no room for what is in the delay.
    let by = |loss, queue| if (reasons.loss, reasons.queue) == (loss, queue) { drops } else { 0 };
    LinkCount {
        node: node.name.clone(),
        network: plan.network(node.interfaces[interface].network).name.clone(),
        direction: if is_up { Direction::Up } else { Direction::Down },
        by_kernel: true,
        offered: work.passed.saturating_add(drops).saturating_add(u64::from(work.waiting)),
        offered_bytes: work.passed_bytes,
        delivered: work.passed,
        delivered_bytes: work.passed_bytes,
        duplicated: 0,
        corrupted: 0,
        lost: by(true, false),
        queue: by(false, true),
        lost_or_queue: by(true, true),
        partition: 0,
        cut: 0,
        overflow: by(false, false),
        in_flight: u64::from(work.waiting),
    }
}

#[derive(Debug, thiserror::Error)]
enum CommandError {
    #[error("failed to {0}")]
    Encode(#[from] EncodeError),
    #[error("failed to send a command to the node's init")]
    Send(#[source] io::Error),
}

fn failed<T, E: std::error::Error>(node: NodeId, result: Result<T, E>) -> Option<Input> {
    result.err().map(|error| Input::ActionFailed { node, why: in_full(&error) })
}

/// An error and its sources in one line.
pub(crate) fn in_full(error: &dyn std::error::Error) -> String {
    let mut words = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        words.push_str(": ");
        words.push_str(&cause.to_string());
        source = cause.source();
    }
    words
}

/// Reads what the init of `node` says until the connection ends.
async fn listen(node: NodeId, mut control: OwnedReadHalf, inbox: mpsc::Sender<Input>) {
    let mut lines = LineBuffer::new(protocol::LONGEST_LINE);
    let mut block = vec![0; 4 * 1024];
    loop {
        let mut inputs = Vec::new();
        let why = match control.read(&mut block).await {
            Ok(0) => Some("its init has gone".to_owned()),
            Ok(length) => {
                lines.feed(&block[..length], |line| match protocol::decode::<Notice>(line) {
                    Ok(notice) => inputs.extend(input(node, notice.event)),
                    Err(error) => tracing::warn!(node = node.index(), error = in_full(&error), "unreadable notice"),
                });
                None
            }
            Err(error) => Some(format!("its init cannot be heard: {error}")),
        };
        let lost = why.is_some();
        inputs.extend(why.map(|why| Input::NodeLost { node, why }));
        for input in inputs {
            if inbox.send(input).await.is_err() {
                return;
            }
        }
        if lost {
            return;
        }
    }
}

fn input(node: NodeId, event: InitEvent) -> Option<Input> {
    match event {
        InitEvent::Started { .. } => Some(Input::Started { node }),
        InitEvent::StartFailed { why, .. } => Some(Input::StartFailed { node, why }),
        InitEvent::Ready { .. } => Some(Input::Ready { node }),
        InitEvent::Reported { report, .. } => Some(Input::Reported { node, report }),
        InitEvent::Printed { line, .. } => Some(Input::Printed { node, line }),
        InitEvent::Exited { status, .. } => Some(Input::Exited { node, status }),
        InitEvent::Rejected { command, why } => {
            let command = command.map_or_else(|| "a command".to_owned(), |name| format!("{name:?}").to_lowercase());
            Some(Input::ActionFailed { node, why: format!("{command} was refused: {why}") })
        }
        InitEvent::LogFailed { stream, why, .. } => {
            tracing::warn!(node = node.index(), ?stream, why, "log file");
            None
        }
        InitEvent::Malformed { what, unsaid, .. } => {
            tracing::warn!(node = node.index(), what, unsaid, "malformed report");
            None
        }
        InitEvent::Up | InitEvent::Done { .. } | InitEvent::Status { .. } => None,
    }
}

//! One run, from an empty run directory to the verdict.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use event::{Event, Record, Verdict};
use fabric::Births;
use fabric::spawner::Spawner;
use link::calibration::Depth;
use machine::{Machine, Span, Time};
use nix::sys::signal::Signal;
use scenario::{About, Calibration, Input, Output, Scenario};
use tokio::io::AsyncReadExt;
use tokio::net::UnixStream;
use tokio::sync::mpsc;
use topology::Plan;

use crate::containers::{ContainerError, Containers};
use crate::directory::{DirectoryError, Log, RunDirectory};
use crate::engine::{Engine, EngineError, Places};
use crate::files::{self, FileError, SharedFiles};
use crate::hosts;
use crate::lag::Probe;
use crate::launch::launch;

/// What a run needs to know beside its plan.
pub struct Options {
    /// The run directory, made by the caller.
    pub directory: RunDirectory,
    /// For the first record of the log.
    pub about: About,
    /// Signals that ask the run to stop: one byte each, its number.
    pub signals: std::os::unix::net::UnixStream,
    /// How links are measured before nodes start; absent where they are not.
    pub calibrate: Option<Depth>,
    /// Is shown every record, in order. Called between two steps of the run: must not block.
    pub observe: Box<dyn FnMut(&Record)>,
}

/// Why there is no verdict.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The run directory cannot be written.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    /// A file that nodes share is not to be had.
    #[error(transparent)]
    File(#[from] FileError),
    /// The engine could not build the plan, or broke.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// Containers could not be made.
    #[error(transparent)]
    Containers(#[from] ContainerError),
    /// The nodes' names could not be written.
    #[error("failed to write the nodes' names into the run directory")]
    Hosts(#[source] std::io::Error),
    /// This process could not be set up.
    #[error("failed to {action}")]
    Setup {
        /// What was tried.
        action: &'static str,
        /// What the system said.
        source: std::io::Error,
    },
}

/// A second signal within this time of the first is the same one: a terminal's Ctrl-C may reach a process twice.
const SAME_SIGNAL: Span = Span::from_millis(300);

/// A killed program that is not gone by then hangs in the kernel; it ends with its namespace.
const LONGEST_DEATH: Span = Span::from_secs(5);

/// Messages from nodes that wait to be handled. When it is full, nodes wait to be heard.
const INBOX: usize = 4096;

/// Where nodes live.
#[derive(Debug)]
pub enum Ground {
    /// In namespaces that are made for them.
    Namespaces(Spawner),
    /// In containers of this machine's Docker daemon.
    Docker,
}

/// Runs `plan` on `ground`.
///
/// # Errors
/// When there can be no verdict because the run could not be built. Whatever was built is gone when this returns.
pub async fn run(plan: Plan, ground: Ground, options: Options) -> Result<Verdict, RunError> {
    let Options { directory, about, signals, calibrate, observe } = options;
    let mut signals = Signals::listen(signals)?;
    let probe = Probe::start().map_err(|source| RunError::Setup { action: "start the lag probe", source })?;
    let mut scenario = Scenario::new(plan.clone(), about, fabric::clock::now());
    if calibrate.is_some() {
        scenario = scenario.calibrated_first();
    }
    let mut journal = Journal { log: directory.open_log()?, observe };
    // That the run has begun is told before what may take long.
    while let Some(Output::Record(record)) = scenario.poll() {
        journal.write(&record)?;
    }
    journal.log.flush()?;

    let prepared = prepare_files(&plan, &directory, &mut signals).await;
    if prepared.is_err() {
        directory.remove_generated_files();
    }
    let files = match prepared {
        Err(FileError::Interrupted { signal }) => {
            let cause = format!("{signal} came while the files were being made: no node was started");
            return journal.end_interrupted(cause, Span::ZERO);
        }
        prepared => prepared?,
    };
    let (inbox, messages) = mpsc::channel(INBOX);
    let before = fabric::clock::now();
    let run_path = directory.path().to_owned();
    let mut containers = None;
    let settled = match ground {
        Ground::Namespaces(spawner) => settle_namespaces(&plan, spawner, &files, &run_path).map(Some),
        Ground::Docker => match Containers::connect(&run_path).await {
            Err(error) => Err(error.into()),
            Ok(made) => {
                let containers = containers.insert(made);
                settle_containers(&plan, containers, &files, calibrate.is_some(), &mut signals).await
            }
        },
    };
    let raised = match settled {
        Ok(Some((births, places))) => {
            let raised = Engine::raise(&plan, births, places, &run_path, inbox.clone(), calibrate).await;
            raised.map(Some).map_err(RunError::from)
        }
        Ok(None) => Ok(None),
        Err(error) => Err(error),
    };
    let verdict = match raised {
        Ok(Some(engine)) => {
            let raising_took = fabric::clock::now().since(before);
            let mut conductor =
                Conductor { scenario, engine, probe, files, run_path, inbox, messages, first_signal: None };
            let verdict = conductor.conduct(&mut journal, &mut signals, raising_took).await;
            conductor.engine.lower().await;
            verdict
        }
        Ok(None) => {
            let cause = "interrupted while containers were being made: no node was started".to_owned();
            journal.end_interrupted(cause, Span::ZERO)
        }
        Err(error) => Err(error),
    };
    if let Some(containers) = containers {
        containers.end().await;
    }
    directory.remove_generated_files();
    verdict
}

/// What nodes find in containers; `None` if somebody asks to stop first. The second signal waits for nothing, and whatever is
/// left of containers then ends and goes by itself.
async fn settle_containers(
    plan: &Plan,
    containers: &Containers,
    files: &SharedFiles,
    probes: bool,
    signals: &mut Signals,
) -> Result<Option<(Births, Places)>, RunError> {
    let material = tokio::select! {
        material = containers.provide_images(plan) => material?,
        _name = signals.next() => return Ok(None),
    };
    let mut starting = std::pin::pin!(containers.start(plan, files, &material, probes));
    tokio::select! {
        started = &mut starting => return Ok(started?),
        _name = signals.next() => containers.stop(),
    }
    tokio::select! {
        _stopped = starting => {}
        _second = signals.next() => {}
    }
    Ok(None)
}

/// What nodes find in namespaces: this machine's files, and a private `/etc/hosts` that all share but those with another view.
fn settle_namespaces(
    plan: &Plan,
    spawner: Spawner,
    files: &SharedFiles,
    run: &Path,
) -> Result<(Births, Places), RunError> {
    let hosts = hosts::write(plan, &run.join(event::run_directory::HOSTS)).map_err(RunError::Hosts)?;
    let disk = |node| event::run_directory::disk(run, &plan.node(node).name);
    let launches = plan.node_ids().map(|node| launch(plan, node, files, &disk(node), None)).collect();
    Ok((spawner.into(), Places { launches, hosts }))
}

/// Makes the files that nodes share, unless somebody asks to stop: there may be many gigabytes to write.
async fn prepare_files(plan: &Plan, directory: &RunDirectory, signals: &mut Signals) -> Result<SharedFiles, FileError> {
    let stop = Arc::new(AtomicBool::new(false));
    let (plan, path, stopped) = (plan.clone(), directory.path().to_owned(), Arc::clone(&stop));
    let mut prepared = tokio::task::spawn_blocking(move || SharedFiles::prepare(&plan, &path, &stopped));
    tokio::select! {
        prepared = &mut prepared => prepared.expect("writing files does not panic"),
        signal = signals.next() => {
            stop.store(true, Ordering::Relaxed);
            // Ends at its next block, unless the disk hangs: the second signal does not wait for that.
            tokio::select! {
                _abandoned = prepared => {}
                _second = signals.next() => {}
            }
            Err(FileError::Interrupted { signal })
        }
    }
}

struct Conductor {
    scenario: Scenario,
    engine: Engine,
    probe: Probe,
    files: SharedFiles,
    run_path: PathBuf,
    inbox: mpsc::Sender<Input>,
    messages: mpsc::Receiver<Input>,
    first_signal: Option<Time>,
}

impl Conductor {
    async fn conduct(
        &mut self,
        journal: &mut Journal,
        signals: &mut Signals,
        raising_took: Span,
    ) -> Result<Verdict, RunError> {
        let mut began = fabric::clock::now();
        if let Some(links) = self.engine.recorded_links(self.scenario.plan()) {
            self.scenario.handle(began, Input::RecordingBegan(Box::new(links)));
        }
        self.scenario.handle(began, Input::Raised { took: raising_took });
        loop {
            while let Some(output) = self.scenario.poll() {
                match output {
                    Output::Record(record) => {
                        if record.event == Event::AllStarted {
                            // That starting many programs at once keeps a machine busy says nothing about the run.
                            self.probe.reset();
                            self.engine.begin().await;
                            began = fabric::clock::now();
                            self.note_changes();
                        }
                        journal.write(&record)?;
                    }
                    Output::Finished(verdict) => {
                        journal.log.flush()?;
                        return Ok(verdict);
                    }
                    Output::Settle => {
                        let alive = self.scenario.alive();
                        self.engine.kill_all(&alive).await;
                        // What the nodes said last comes before what was measured of them.
                        self.hear_them_out().await;
                        let lasted = fabric::clock::now().since(began);
                        let lag = self.probe.summary(lasted);
                        let measured = self.engine.measure(self.scenario.plan(), lasted, lag).await;
                        self.scenario.handle(fabric::clock::now(), Input::Measured(measured));
                    }
                    Output::CompareFile { expectation, node, out, file } => {
                        let name = &self.scenario.plan().node(node).name;
                        let found = event::run_directory::disk(&self.run_path, name).join(out);
                        let expected = self.files.path(file).to_owned();
                        let inbox = self.inbox.clone();
                        tokio::task::spawn_blocking(move || {
                            let finding = files::compare(&found, &expected);
                            // The receiver is gone only when the run was cut short.
                            let _cut_short = inbox.blocking_send(Input::FileCompared { expectation, finding });
                        });
                    }
                    Output::Calibrate => {
                        // Whoever watches the log may want to know that links stand.
                        journal.log.flush()?;
                        if let Some(calibration) = self.calibrate(signals).await {
                            self.scenario.handle(fabric::clock::now(), Input::Calibrated(calibration));
                        }
                    }
                    other => {
                        let refused = self.engine.carry_out(&self.scenario, other).await;
                        self.note_changes();
                        if let Some(refused) = refused {
                            self.scenario.handle(fabric::clock::now(), refused);
                        }
                    }
                }
            }
            journal.log.flush()?;
            let deadline = self.scenario.deadline();
            tokio::select! {
                biased;
                name = signals.next() => {
                    let now = fabric::clock::now();
                    if self.first_signal.is_some_and(|first| now.since(first) > SAME_SIGNAL) {
                        return self.cut_short(journal, began, now);
                    }
                    self.first_signal.get_or_insert(now);
                    self.scenario.handle(now, Input::Interrupted { signal: name.to_owned() });
                }
                message = self.messages.recv() => {
                    let input = message.expect("the conductor holds a sender of its own inbox");
                    let now = fabric::clock::now();
                    self.scenario.handle(now, input);
                    // Everything that is already here happened before the outputs that it may cause.
                    while let Ok(input) = self.messages.try_recv() {
                        self.scenario.handle(now, input);
                    }
                    self.scenario.advance(now);
                }
                () = sleep_until(deadline.map(|(at, _)| at)) => {
                    let now = fabric::clock::now();
                    self.scenario.advance(now);
                }
            }
        }
    }

    /// What has become of links goes into the log, as exactly as the relay tells it.
    fn note_changes(&mut self) {
        let changes = self.engine.take_changes();
        if !changes.is_empty() {
            self.scenario.handle(fabric::clock::now(), Input::LinksChanged(changes));
        }
    }

    /// Measures links, unless somebody asks to stop or the run's time is up: then the scenario has been told so.
    async fn calibrate(&mut self, signals: &mut Signals) -> Option<Calibration> {
        let Conductor { scenario, engine, first_signal, .. } = self;
        let plan = scenario.plan().clone();
        let deadline = scenario.deadline().map(|(at, _)| at);
        tokio::select! {
            biased;
            name = signals.next() => {
                let now = fabric::clock::now();
                first_signal.get_or_insert(now);
                scenario.handle(now, Input::Interrupted { signal: name.to_owned() });
                None
            }
            calibration = engine.calibrate(&plan) => Some(calibration),
            () = sleep_until(deadline) => {
                scenario.advance(fabric::clock::now());
                None
            }
        }
    }

    /// Handles what nodes say until every program is gone.
    async fn hear_them_out(&mut self) {
        let patience = fabric::clock::now() + LONGEST_DEATH;
        while !self.scenario.alive().is_empty() {
            let input = tokio::select! {
                message = self.messages.recv() => message.expect("the conductor holds a sender of its own inbox"),
                () = sleep_until(Some(patience)) => break,
            };
            self.scenario.handle(fabric::clock::now(), input);
        }
    }

    /// The second signal: nothing more is waited for.
    fn cut_short(&mut self, journal: &mut Journal, began: Time, now: Time) -> Result<Verdict, RunError> {
        journal.end_interrupted("interrupted twice: nothing more was waited for".to_owned(), now.since(began))
    }
}

struct Journal {
    log: Log,
    observe: Box<dyn FnMut(&Record)>,
}

impl Journal {
    /// The last record of a run that was cut short `took` after its start.
    fn end_interrupted(&mut self, cause: String, took: Span) -> Result<Verdict, RunError> {
        let event = Event::RunEnded { verdict: Verdict::Interrupted, causes: vec![cause], took };
        self.write(&Record::new(took, event))?;
        self.log.flush()?;
        Ok(Verdict::Interrupted)
    }

    fn write(&mut self, record: &Record) -> Result<(), DirectoryError> {
        self.log.write(record)?;
        (self.observe)(record);
        Ok(())
    }
}

async fn sleep_until(deadline: Option<Time>) {
    match deadline {
        #[expect(clippy::disallowed_methods, reason = "this is the driver that waits for a machine's deadline")]
        Some(at) => tokio::time::sleep(Duration::from(at.since(fabric::clock::now()))).await,
        None => std::future::pending().await,
    }
}

/// The signals that ask a run to stop, one byte each.
struct Signals {
    stream: UnixStream,
}

impl Signals {
    fn listen(signals: std::os::unix::net::UnixStream) -> Result<Self, RunError> {
        let listen = || {
            signals.set_nonblocking(true)?;
            UnixStream::from_std(signals)
        };
        let stream = listen().map_err(|source| RunError::Setup { action: "listen for signals", source })?;
        Ok(Signals { stream })
    }

    async fn next(&mut self) -> &'static str {
        match self.stream.read_u8().await.map(|number| Signal::try_from(i32::from(number))) {
            Ok(Ok(signal)) => signal.as_str(),
            Ok(Err(_)) => "an unknown signal",
            // The sandbox ends with its first thread, which holds the other end.
            Err(_) => std::future::pending().await,
        }
    }
}

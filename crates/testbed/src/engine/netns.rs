//! A run on network namespaces: in a sandbox that this process forks.

use std::io;
use std::sync::{OnceLock, mpsc};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::Context;
use conductor::files::SharedFiles;
use conductor::{Options, RunDirectory};
use event::{Record, RunState, Verdict};
use fabric::PurgeError;
use fabric::sandbox::Sandbox;
use fabric::spawner::{self, NodeStart};
use link::calibration::Depth;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use report::LiveView;
use scenario::About;
use topology::Plan;

use super::{Refused, Show};
use crate::status::Status;

/// Notes what the caller's programs are allowed, before anything is raised.
pub(super) fn note_limits() {
    if let Ok(limits) = getrlimit(Resource::RLIMIT_NOFILE) {
        CALLERS_DESCRIPTORS.get_or_init(|| limits);
    }
}

/// Whether the plan's files are to be had and this machine can.
pub(super) fn check(plan: &Plan) -> Result<(), Refused> {
    SharedFiles::check(plan).map_err(|error| Refused::Input(anyhow::Error::from(error)))?;
    fabric::preflight::require(plan).map_err(|unable| Refused::Machine(anyhow::Error::from(unable)))?;
    for network in plan.networks().iter().filter(|network| network.draws_anew()) {
        eprintln!("warning: network {}: {}", network.name, network.why);
    }
    Ok(())
}

/// Forks the sandbox and waits for its end.
pub(super) fn run(
    plan: Plan,
    directory: RunDirectory,
    about: About,
    calibrate: Option<Depth>,
    show: Show,
) -> anyhow::Result<Status> {
    let code = fabric::sandbox::run(move |sandbox| match inside(sandbox, plan, directory, about, calibrate, show) {
        Ok(verdict) => verdict.exit_status(),
        Err(error) => {
            eprintln!("error: {error:#}");
            Status::from_error(&error).code()
        }
    })?;
    Ok(Status::from_code(code))
}

/// What happens in the sandbox. Up to the spawner's start there must be no thread.
fn inside(
    sandbox: Sandbox,
    plan: Plan,
    directory: RunDirectory,
    about: About,
    calibrate: Option<Depth>,
    show: Show,
) -> anyhow::Result<Verdict> {
    sandbox.hosts(&conductor::hosts::common(&plan)).context("no private /etc/hosts")?;
    let spawner = spawner::start(&sandbox, WORKERS, node_main)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("no runtime")?;
    let (live, view) = show_live(show)?;
    let observe = Box::new(move |record: &Record| {
        // The view has ended only if its terminal has; the run goes on.
        let _unseen = live.send(record.clone());
    });
    let outcome = runtime.block_on(conductor::run(
        plan,
        spawner,
        Options { directory, about, signals: sandbox.signals, calibrate, observe },
    ));
    // The run's end dropped the sender, which ends the view. A file that a run cut short still compares is not waited for.
    runtime.shutdown_background();
    view.join().map_err(|_| anyhow::anyhow!("the live view failed"))?;
    Ok(outcome?)
}

/// Processes that make nodes: one more than this gains nothing on two cores.
const WORKERS: usize = 2;

/// What programs find: a run may need more descriptors than they should be offered (`select(2)` ends at 1024).
static CALLERS_DESCRIPTORS: OnceLock<(u64, u64)> = OnceLock::new();

fn node_main(start: NodeStart) -> i32 {
    if let Some((soft, hard)) = CALLERS_DESCRIPTORS.get() {
        // What was allowed before is allowed now.
        let _kept_raised = setrlimit(Resource::RLIMIT_NOFILE, *soft, *hard);
    }
    nodes::init::run(nodes::init::InitOptions {
        name: start.name,
        control: start.control,
        purge_sockets: Some(purge_sockets),
        bind_hosts: Some(fabric::bind_hosts),
    })
}

fn purge_sockets() -> io::Result<()> {
    match fabric::purge_sockets() {
        // What is left then is a late FIN of a connection that the other end has given up: a reset answers it.
        Ok(_) | Err(PurgeError::Unsupported) => Ok(()),
        Err(PurgeError::Refused { source }) => Err(source),
    }
}

/// How often the view moves when nothing happens.
const TICK: Duration = Duration::from_millis(100);

/// A slow or stopped terminal must not hold up the run: the view has a thread of its own.
fn show_live(show: Show) -> anyhow::Result<(mpsc::Sender<Record>, JoinHandle<()>)> {
    let (sender, records) = mpsc::channel::<Record>();
    let form = report::Output::of_stdout(show == Show::Records);
    let mut view = match show {
        Show::Nothing => LiveView::to_writer(form, Box::new(io::sink())),
        Show::Run | Show::Records => LiveView::new(form),
    }
    .context("no output")?;
    let thread = thread::Builder::new().name("live-view".to_owned()).spawn(move || {
        let began = fabric::clock::now();
        let mut state = RunState::default();
        loop {
            match records.recv_timeout(TICK) {
                Ok(record) => {
                    state.apply(&record);
                    view.observe(&record, &state);
                }
                Err(mpsc::RecvTimeoutError::Timeout) => view.tick(fabric::clock::now().since(began), &state),
                Err(mpsc::RecvTimeoutError::Disconnected) => break,
            }
        }
        view.finish();
    });
    Ok((sender, thread.context("no thread for the live view")?))
}

//! A run on this machine's kernel: in a sandbox that this process forks, wherever its nodes live.

use std::io;
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::Context;
use conductor::{Ground, Options, RunDirectory};
use event::{Record, RunState, Verdict};
use fabric::sandbox::Sandbox;
use link::calibration::Depth;
use report::LiveView;
use scenario::About;
use topology::Plan;

use super::Show;
use crate::status::Status;

/// What makes the nodes of a plan, in the sandbox.
pub(super) type MakeGround = fn(&Sandbox, &Plan) -> anyhow::Result<Ground>;

/// A run that is about to be made there.
pub(super) struct Sandboxed {
    pub(super) plan: Plan,
    pub(super) directory: RunDirectory,
    pub(super) about: About,
    pub(super) calibrate: Option<Depth>,
    pub(super) show: Show,
    pub(super) ground: MakeGround,
}

/// Forks the sandbox and waits for its end.
pub(super) fn run(job: Sandboxed) -> anyhow::Result<Status> {
    let code = fabric::sandbox::run(move |sandbox| match inside(sandbox, job) {
        Ok(verdict) => verdict.exit_status(),
        Err(error) => {
            eprintln!("error: {error:#}");
            Status::from_error(&error).code()
        }
    })?;
    Ok(Status::from_code(code))
}

/// What happens in the sandbox. Up to what makes nodes there must be no thread.
fn inside(sandbox: Sandbox, job: Sandboxed) -> anyhow::Result<Verdict> {
    let Sandboxed { plan, directory, about, calibrate, show, ground } = job;
    let ground = ground(&sandbox, &plan)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("no runtime")?;
    let (live, view) = show_live(show)?;
    let observe = Box::new(move |record: &Record| {
        // The view has ended only if its terminal has; the run goes on.
        let _unseen = live.send(record.clone());
    });
    let outcome = runtime.block_on(conductor::run(
        plan,
        ground,
        Options { directory, about, signals: sandbox.signals, calibrate, observe },
    ));
    // The run's end dropped the sender, which ends the view. A file that a run cut short still compares is not waited for.
    runtime.shutdown_background();
    view.join().map_err(|_| anyhow::anyhow!("the live view failed"))?;
    Ok(outcome?)
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

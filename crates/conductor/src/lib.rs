//! Runs a scenario on an engine: carries out what it wants, tells it what happens.
//!
//! * [`mod@run`]: one run, from an empty run directory to the verdict.
//! * [`directory`]: the run directory and its log.
//! * [`files`]: the files that nodes share, and whether an output equals one.
//! * [`engine`]: fabric and node inits as one thing to command, wherever the nodes live.
//! * [`containers`]: nodes as containers: what each is made of, and their inits as they arrive.
//! * [`hosts`]: names: what each node's `/etc/hosts` says of the others.
//! * [`launch`]: what is started in a node, in which environment.
//! * `calibration`: links measured before the first node starts, in the words of the log.
//! * `recording`: what the relay tells of itself, in the words of the log.
//! * [`lag`]: how late this machine's timers are, and when that makes a result worthless.

mod calibration;
pub mod containers;
pub mod directory;
pub mod engine;
pub mod files;
pub mod hosts;
pub mod lag;
pub mod launch;
mod recording;
pub mod run;

pub use directory::RunDirectory;
pub use run::{Ground, Options, RunError, run};

//! Runs a scenario on an engine: carries out what it wants, tells it what happens.
//!
//! * [`mod@run`]: one run, from an empty run directory to the verdict.
//! * [`directory`]: the run directory and its log.
//! * [`files`]: the files that nodes share, and whether an output equals one.
//! * [`netns`]: the engine on network namespaces: fabric and node inits as one thing to command.
//! * [`hosts`]: names: what each node's `/etc/hosts` says of the others.
//! * [`launch`]: what is started in a node, in which environment.
//! * `calibration`: links measured before the first node starts, in the words of the log.
//! * `recording`: what the relay tells of itself, in the words of the log.
//! * [`lag`]: how late this machine's timers are, and when that makes a result worthless.

mod calibration;
pub mod directory;
pub mod files;
pub mod hosts;
pub mod lag;
pub mod launch;
pub mod netns;
mod recording;
pub mod run;

pub use directory::RunDirectory;
pub use run::{Options, RunError, run};

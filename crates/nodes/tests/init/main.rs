//! The node init, driven over its protocol in namespaces of its own: as an ordinary user, and as root where the tests
//! run as root.
//!
//! A process with threads must not fork nodes, so this target has no harness but `runner`, which has one thread.
#![allow(clippy::unwrap_used, reason = "what cannot go on has failed; without a harness clippy does not see a test")]
#![allow(clippy::disallowed_methods, reason = "waiting for a fact is bounded by the clock, so that a failure ends")]

mod death;
mod disk;
mod node;
mod programs;
mod readiness;
mod runner;
mod streams;

use std::process::ExitCode;

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    // The tests start this executable in nodes, too.
    if arguments.next().as_deref() == Some(readiness::LISTEN) {
        return readiness::listen(arguments.next());
    }
    runner::run(&[programs::TESTS, death::TESTS, streams::TESTS, readiness::TESTS, disk::TESTS].concat())
}

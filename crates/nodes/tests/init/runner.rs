//! Runs tests one after the other in one thread; speaks as much of libtest's command line as cargo and nextest do.

use std::panic::{self, AssertUnwindSafe};
use std::process::ExitCode;

use nix::unistd::geteuid;

use crate::node::{Home, Node, Unavailable, User};

/// A test's name, and what it does with a node.
pub(crate) type Test = (&'static str, fn(&Home));

/// Names of the users that every test is run as.
const USERS: [(&str, User); 3] =
    [("user", User::Ordinary), ("own-root", User::RootOfItsOwn), ("root", User::RootOfTheMachine)];

pub(crate) fn run(tests: &[Test]) -> ExitCode {
    let asked = Asked::from_command_line();
    let root = geteuid().is_root();
    let possible = USERS.iter().filter(|(_, user)| root || *user != User::RootOfTheMachine);
    let all = possible.flat_map(|(user_name, user)| {
        tests.iter().map(move |(name, test)| (format!("{user_name}::{name}"), *user, *test))
    });
    let chosen: Vec<_> = all.filter(|(name, ..)| asked.chooses(name)).collect();
    if asked.list {
        chosen.iter().for_each(|(name, ..)| println!("{name}: test"));
        return ExitCode::SUCCESS;
    }
    let (mut failed, mut skipped) = (0, 0);
    for (name, user, test) in &chosen {
        match attempt(*user, *test) {
            Outcome::Passed => println!("test {name} ... ok"),
            Outcome::Failed => {
                failed += 1;
                println!("test {name} ... FAILED");
            }
            Outcome::Skipped(why) => {
                skipped += 1;
                println!("test {name} ... SKIPPED: {why}");
            }
        }
    }
    println!("{} tests, {failed} failed, {skipped} SKIPPED", chosen.len());
    if !root {
        println!("SKIPPED: the same tests as the machine's root, as this is not run by root");
    }
    if failed > 0 || (skipped > 0 && must_test_everything()) { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

/// Says that a part of a test cannot be done here; where everything is to be tested, that is a failure.
pub(crate) fn skip(why: &str) {
    assert!(!must_test_everything(), "not tested: {why}");
    println!("SKIPPED: {why}");
}

fn must_test_everything() -> bool {
    std::env::var_os("CI").is_some_and(|value| value == "true")
}

enum Outcome {
    Passed,
    Failed,
    Skipped(Unavailable),
}

fn attempt(user: User, test: fn(&Home)) -> Outcome {
    // Whether this machine lets such a user have such namespaces is tried, not guessed.
    let home = Home::new(user);
    if let Err(why) = Node::raise(&home) {
        return Outcome::Skipped(why);
    }
    match panic::catch_unwind(AssertUnwindSafe(|| test(&home))) {
        Ok(()) => Outcome::Passed,
        Err(_) => Outcome::Failed,
    }
}

#[derive(Default)]
struct Asked {
    list: bool,
    exact: bool,
    ignored: bool,
    names: Vec<String>,
    skip: Vec<String>,
}

impl Asked {
    fn from_command_line() -> Self {
        let mut asked = Asked::default();
        let mut arguments = std::env::args().skip(1);
        while let Some(argument) = arguments.next() {
            match argument.as_str() {
                "--list" => asked.list = true,
                "--exact" => asked.exact = true,
                "--ignored" => asked.ignored = true,
                "--skip" => asked.skip.extend(arguments.next()),
                "--format" | "--color" | "--test-threads" | "--logfile" | "-Z" => drop(arguments.next()),
                flag if flag.starts_with('-') => {}
                _ => asked.names.push(argument),
            }
        }
        asked
    }

    fn chooses(&self, name: &str) -> bool {
        let matches = |pattern: &String| if self.exact { name == pattern } else { name.contains(pattern.as_str()) };
        !self.ignored && (self.names.is_empty() || self.names.iter().any(matches)) && !self.skip.iter().any(matches)
    }
}

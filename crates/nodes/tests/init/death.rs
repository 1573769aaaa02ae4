//! Ends: nothing of a program survives its end, whatever it did against that.

use std::fs;
use std::time::{Duration, Instant};

use event::ExitStatus;
use machine::Span;
use nix::sys::signal::{Signal, kill};
use nodes::init::protocol::{Command, CommandName, InitEvent, OutputStream, Start};

use crate::node::{Home, Node, children, printed, processes_with};
use crate::runner::Test;

pub(crate) const TESTS: &[Test] = &[
    ("a_daemon_dies_with_its_program", a_daemon_dies_with_its_program),
    ("what_a_program_leaves_behind_dies", what_a_program_leaves_behind_dies),
    ("a_program_has_its_grace", a_program_has_its_grace),
    ("without_grace_there_is_none", without_grace_there_is_none),
    ("a_paused_program_makes_no_progress", a_paused_program_makes_no_progress),
    ("a_paused_program_can_be_ended", a_paused_program_can_be_ended),
    ("a_kill_needs_nobody_who_reads", a_kill_needs_nobody_who_reads),
    ("a_program_that_forks_all_the_time_dies", a_program_that_forks_all_the_time_dies),
    ("the_end_of_the_connection_ends_everything", the_end_of_the_connection_ends_everything),
    ("only_outsiders_end_the_init", only_outsiders_end_the_init),
    ("an_end_that_was_asked_for_is_no_error", an_end_that_was_asked_for_is_no_error),
];

/// Prints `up` once a process runs that left its parent, session and group, and ignores TERM.
fn daemon(home: &Home, then: &str) -> Start {
    let marker = home.marker();
    home.shell(&format!("( trap '' TERM HUP; setsid sh -c '( echo up; exec sleep {marker} ) &' & ); {then}"))
}

fn a_daemon_dies_with_its_program(home: &Home) {
    let mut node = home.raise();
    node.start(daemon(home, "exec sleep 1000"));
    node.until_printed("up");
    node.send(&Command::Kill);
    node.until_done(CommandName::Kill);
    assert_eq!(node.until_exit().1, ExitStatus::Signal(9));
    assert_eq!(processes_with(&home.marker()), []);
    assert_eq!(children(node.init), []);
}

fn what_a_program_leaves_behind_dies(home: &Home) {
    let mut node = home.raise();
    // It goes when the daemon is there, with a status of its own.
    let (events, status) = node.run(daemon(home, "until grep -q ^sleep /proc/[0-9]*/cmdline; do :; done; exit 3"));
    assert_eq!(status, ExitStatus::Code(3));
    assert_eq!(printed(&events, OutputStream::Stdout), ["up"]);
    assert_eq!(processes_with(&home.marker()), []);
    assert_eq!(children(node.init), []);
}

fn a_program_has_its_grace(home: &Home) {
    let mut node = home.raise();
    node.start(home.shell("trap 'echo asked; exit 5' TERM; echo up; while :; do :; done"));
    node.until_printed("up");
    node.send(&Command::Stop { grace: Span::from_secs(600) });
    node.until_done(CommandName::Stop);
    let (events, status) = node.until_exit();
    assert_eq!(printed(&events, OutputStream::Stdout), ["asked"]);
    assert_eq!(status, ExitStatus::Code(5));
}

fn without_grace_there_is_none(home: &Home) {
    let mut node = home.raise();
    for grace in [Span::ZERO, Span::from_millis(30)] {
        node.start(home.shell("trap 'echo asked' TERM; echo up; while :; do :; done"));
        node.until_printed("up");
        let began = Instant::now();
        node.send(&Command::Stop { grace });
        node.until_done(CommandName::Stop);
        assert_eq!(node.until_exit().1, ExitStatus::Signal(9));
        assert!(began.elapsed() >= grace.into(), "killed before its grace of {grace} was over");
    }
}

fn a_paused_program_makes_no_progress(home: &Home) {
    let mut node = home.raise();
    node.start(home.shell("( while :; do echo child; done ) & while :; do echo main; done"));
    node.until_printed("main");
    node.until_printed("child");
    node.send(&Command::Pause);
    node.until_done(CommandName::Pause);
    // The fact: the kernel shows each as stopped.
    until("all are stopped", || {
        let tree = descendants(&node);
        tree.len() == 2 && tree.iter().all(|(_, state)| *state == 'T')
    });
    // What they had printed before is through when nothing but answers comes for a round.
    while count_lines_up_to_status(&mut node) > 0 {}
    let lines: usize = (0..200).map(|_| count_lines_up_to_status(&mut node)).sum();
    assert_eq!(lines, 0, "lines from a frozen program");
    node.send(&Command::Resume);
    node.until_done(CommandName::Resume);
    node.until_printed("main");
    node.until_printed("child");
}

fn a_paused_program_can_be_ended(home: &Home) {
    let mut node = home.raise();
    for (end, expected) in [
        (Command::Kill, ExitStatus::Signal(9)),
        (Command::Stop { grace: Span::from_secs(600) }, ExitStatus::Signal(15)),
    ] {
        node.start(home.shell("echo up; exec sleep 1000"));
        node.until_printed("up");
        node.send(&Command::Pause);
        node.until_done(CommandName::Pause);
        node.send(&Command::Status);
        assert!(matches!(node.next(), InitEvent::Status { paused: true, .. }));
        node.send(&end);
        node.until_done(end.name());
        assert_eq!(node.until_exit().1, expected);
    }
}

fn a_kill_needs_nobody_who_reads(home: &Home) {
    let mut node = home.raise();
    let program = node.start(home.shell("exec yes 'a line of which there are many'"));
    assert!(program > 1);
    // Nobody reads here, so the connection fills, then the pipe; then the program waits and the init does.
    until("the program waits for a reader", || {
        (0..50).all(|_| children(node.init).iter().all(|(_, state)| *state == 'S'))
    });
    node.send(&Command::Kill);
    let mut events = node.until_done(CommandName::Kill);
    let (rest, status) = node.until_exit();
    events.extend(rest);
    assert_eq!(status, ExitStatus::Signal(9));
    let lines = printed(&events, OutputStream::Stdout);
    let logged = fs::read_to_string(home.log(OutputStream::Stdout)).unwrap();
    assert_eq!(lines, logged.lines().collect::<Vec<_>>(), "the log and the forwarded lines are the same");
    let (last, whole) = lines.split_last().unwrap();
    assert!(whole.iter().all(|line| *line == "a line of which there are many"));
    assert!("a line of which there are many".starts_with(last));
}

fn a_program_that_forks_all_the_time_dies(home: &Home) {
    let mut node = home.raise();
    // Processes come and go, and always some of them are in the middle of a fork.
    let script = "f() { while :; do ( : ) & ( ( : ) & ) & wait; done; }; f & f & f & f & echo up; wait";
    node.start(home.shell(script));
    node.until_printed("up");
    node.send(&Command::Kill);
    node.until_done(CommandName::Kill);
    assert_eq!(node.until_exit().1, ExitStatus::Signal(9));
    assert_eq!(children(node.init), []);
}

fn the_end_of_the_connection_ends_everything(home: &Home) {
    let mut node = home.raise();
    let marker = home.marker();
    node.start(daemon(home, &format!("echo last words; exec sleep {marker}")));
    // In the middle of its exec a process has no command line, so "up" alone is not enough; and nobody reads the last
    // words, so they are still on their way.
    until("the program and its daemon sleep", || processes_with(&format!("sleep\0{marker}")).len() == 2);
    assert_eq!(node.hang_up(), 0);
    assert_eq!(processes_with(&home.marker()), []);
    assert!(fs::read_to_string(home.log(OutputStream::Stdout)).unwrap().contains("last words\n"));
}

fn only_outsiders_end_the_init(home: &Home) {
    let mut node = home.raise();
    node.run(home.shell("kill -TERM 1; kill -KILL 1; kill -STOP 1; kill -INT 1; kill -HUP 1; true"));
    assert_eq!(node.run(daemon(home, "exit 6")).1, ExitStatus::Code(6));
    node.start(daemon(home, "exec sleep 1000"));
    node.until_printed("up");
    for ignored in [Signal::SIGINT, Signal::SIGHUP, Signal::SIGUSR1] {
        kill(node.init, ignored).unwrap();
    }
    node.send(&Command::Status);
    assert!(matches!(node.next(), InitEvent::Printed { .. } | InitEvent::Status { pid: Some(_), .. }));
    kill(node.init, Signal::SIGTERM).unwrap();
    assert_eq!(node.wait(), 0);
    assert_eq!(processes_with(&home.marker()), []);
}

fn an_end_that_was_asked_for_is_no_error(home: &Home) {
    let mut node = home.raise();
    for command in [Command::Kill, Command::Stop { grace: Span::from_secs(1) }] {
        node.send(&command);
        assert_eq!(node.next(), InitEvent::Done { command: command.name() });
    }
    // Asked for twice: ended once.
    node.start(home.shell("trap '' TERM; echo up; while :; do :; done"));
    node.until_printed("up");
    for command in [Command::Stop { grace: Span::from_secs(600) }, Command::Kill, Command::Kill] {
        node.send(&command);
    }
    let (events, status) = node.until_exit();
    assert_eq!(status, ExitStatus::Signal(9));
    let done = events.iter().filter(|event| matches!(event, InitEvent::Done { .. })).count();
    node.send(&Command::Status);
    let rest = node.until(|event| matches!(event, InitEvent::Status { .. }));
    let later = rest.iter().filter(|event| matches!(event, InitEvent::Done { .. })).count();
    assert_eq!(done + later, 3);
    assert!(!rest.iter().any(|event| matches!(event, InitEvent::Exited { .. })));
}

fn count_lines_up_to_status(node: &mut Node) -> usize {
    node.send(&Command::Status);
    node.until(|event| matches!(event, InitEvent::Status { .. })).len() - 1
}

fn descendants(node: &Node) -> Vec<(nix::unistd::Pid, char)> {
    let mut found = children(node.init);
    let mut index = 0;
    while let Some((pid, _)) = found.get(index).copied() {
        found.extend(children(pid));
        index += 1;
    }
    found
}

/// Looks until `fact` holds; the bound only ends a test that has failed.
pub(crate) fn until(what: &str, mut fact: impl FnMut() -> bool) {
    let began = Instant::now();
    while !fact() {
        assert!(began.elapsed() < Duration::from_secs(30), "never: {what}");
        std::thread::yield_now();
    }
}

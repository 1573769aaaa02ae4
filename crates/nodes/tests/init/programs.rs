//! Starting programs: what they find, with which powers they run, and what is said when they cannot.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use event::ExitStatus;
use nodes::init::protocol::{Command, CommandName, InitEvent, OutputStream, Privilege, Start};

use crate::death::until;
use crate::node::{Home, Node, User, printed};
use crate::runner::{Test, skip};

pub(crate) const TESTS: &[Test] = &[
    ("a_program_ends_as_it_ends", a_program_ends_as_it_ends),
    ("a_program_finds_a_clean_place", a_program_finds_a_clean_place),
    ("what_cannot_start_says_why", what_cannot_start_says_why),
    ("one_program_at_a_time", one_program_at_a_time),
    ("every_command_is_answered_in_order", every_command_is_answered_in_order),
    ("a_program_has_no_powers", a_program_has_no_powers),
    ("root_rules_its_node", root_rules_its_node),
    ("a_program_with_file_capabilities_runs", a_program_with_file_capabilities_runs),
    ("incarnations_leave_nothing_behind", incarnations_leave_nothing_behind),
];

fn a_program_ends_as_it_ends(home: &Home) {
    let mut node = home.raise();
    for (script, expected) in [
        ("exit 0", ExitStatus::Code(0)),
        ("exit 7", ExitStatus::Code(7)),
        ("kill -9 $$", ExitStatus::Signal(9)),
        // A default disposition is what ends it: the init must not hand down that it ignores or blocks PIPE.
        ("kill -13 $$", ExitStatus::Signal(13)),
        ("kill -40 $$", ExitStatus::Signal(40)),
    ] {
        assert_eq!(node.run(home.shell(script)).1, expected, "{script}");
    }
    let pid = node.start(home.shell("echo up; while :; do :; done"));
    assert!(pid > 1);
    node.until_printed("up");
    node.send(&Command::Signal { number: 40 });
    node.until_done(CommandName::Signal);
    assert_eq!(node.until_exit().1, ExitStatus::Signal(40));
}

fn a_program_finds_a_clean_place(home: &Home) {
    let mut node = home.raise();
    let script = "pwd; readlink /proc/self/fd/0; echo $TESTED; env | wc -l; echo $TESTBED_EVENTS_FD
        for fd in /proc/$$/fd/*; do [ -e $fd ] && case ${fd##*/} in [0123]) ;; *) echo extra $fd;; esac; done
        read a b c d e f rest </proc/$$/stat; echo $((a == e)) $((a == f))
        grep -E '^Sig(Blk|Ign):' /proc/self/status";
    let mut start = home.shell(script);
    start.env.insert("TESTED".into(), "yes = so".into());
    start.env.insert("TESTBED_EVENTS_FD".into(), "77".into());
    let (events, status) = node.run(start);
    let lines = printed(&events, OutputStream::Stdout);
    assert_eq!(status, ExitStatus::Code(0), "{events:?}");
    assert_eq!(lines[0], home.disk().to_str().unwrap());
    assert_eq!(lines[1..3], ["/dev/null", "yes = so"]);
    // PATH, TESTED, TESTBED_EVENTS_FD, and the shell's own PWD.
    assert_eq!(lines[3..5], ["4", "3"]);
    // The leader of its process group and of its session; no blocked, no ignored signals; no other descriptors.
    assert_eq!(lines[5..], ["1 1", "SigBlk:\t0000000000000000", "SigIgn:\t0000000000000000"]);
}

fn what_cannot_start_says_why(home: &Home) {
    let mut node = home.raise();
    let file = |name: &str, content: &str, mode| {
        let path = home.disk().join(name);
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    };
    file("plain", "#!/bin/sh\n", 0o644);
    file("orphan", "#!/no/such/interpreter\n", 0o755);
    file("noise", "\u{1}\u{2}\u{3}", 0o755);
    let program = |words: &[&str]| Start { argv: words.iter().map(ToString::to_string).collect(), ..home.shell("") };
    let cases = [
        (program(&[]), "no program is named"),
        (program(&["no-such-program"]), "`no-such-program`: not found in PATH (/usr/bin:/bin:/usr/sbin:/sbin)"),
        (program(&["./no-such-program"]), "`./no-such-program`: no such file or directory"),
        (program(&["./plain"]), "`./plain`: permission denied"),
        (program(&["./orphan"]), "`./orphan`: it exists, but the interpreter or loader that it asks for does not"),
        (program(&["./noise"]), "`./noise`: neither a program for this machine nor a script that begins with `#!`"),
        (program(&["sh", "a\0b"]), "an argument contains a NUL byte"),
        (
            Start { cwd: "/no/such/place".into(), ..home.shell("") },
            "working directory /no/such/place: no such file or directory",
        ),
    ];
    for (start, expected) in cases {
        node.send(&Command::Start(start));
        match node.next() {
            InitEvent::StartFailed { incarnation: 1, why } => assert_eq!(why, expected),
            other => panic!("{other:?} instead of {expected}"),
        }
    }
    assert_eq!(node.run(home.shell("exit 4")).1, ExitStatus::Code(4));
}

fn one_program_at_a_time(home: &Home) {
    let mut node = home.raise();
    node.start(home.shell("echo up; exec sleep 1000"));
    node.until_printed("up");
    for command in
        [Command::Start(home.shell("exit 0")), Command::Wipe { directory: home.disk() }, Command::PurgeSockets]
    {
        node.send(&command);
        match node.next() {
            InitEvent::Rejected { command: Some(name), why } => {
                assert_eq!((name, why.as_str()), (command.name(), "incarnation 1 runs"));
            }
            other => panic!("{other:?}"),
        }
    }
    node.send(&Command::Status);
    assert!(matches!(node.next(), InitEvent::Status { incarnation: Some(1), pid: Some(_), paused: false }));
}

fn every_command_is_answered_in_order(home: &Home) {
    let mut node = home.raise();
    let long = vec![b' '; 3 * 1024 * 1024];
    let mut script = b"nonsense\n{\"command\":\"dance\"}\n\xff\xfe\n{\"command\":\"signal\",\"number\":0}\n".to_vec();
    script.extend_from_slice(b"{\"command\":\"pause\"}\n{\"command\":\"kill\"}\n");
    script.extend(long);
    script.extend_from_slice(b"\n{\"command\":\"status\"}\n");
    node.send_bytes(&script);
    for expected in [None, None, None, Some(CommandName::Signal), Some(CommandName::Pause)] {
        match node.next() {
            InitEvent::Rejected { command, .. } => assert_eq!(command, expected),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(node.next(), InitEvent::Done { command: CommandName::Kill });
    assert!(matches!(node.next(), InitEvent::Rejected { command: None, .. }));
    assert_eq!(node.next(), InitEvent::Status { incarnation: None, pid: None, paused: false });
}

const SHOW_POWERS: &str = "id -u; grep -E '^Cap(Inh|Prm|Eff|Amb):' /proc/self/status";
const NO_POWERS: [&str; 4] = [
    "CapInh:\t0000000000000000",
    "CapPrm:\t0000000000000000",
    "CapEff:\t0000000000000000",
    "CapAmb:\t0000000000000000",
];

fn a_program_has_no_powers(home: &Home) {
    let mut node = home.raise();
    let (events, _) = node.run(home.shell(SHOW_POWERS));
    let lines = printed(&events, OutputStream::Stdout);
    assert_eq!(lines[1..], NO_POWERS);
    let root = home.user != User::Ordinary;
    assert_eq!(lines[0] == "0", root, "the caller's user is kept");
    // What root could do, this one cannot, even by becoming a fresh user 0.
    let script =
        "hostname changed && echo hostname; mount -t tmpfs none . && echo mount; kill -TERM 1 && echo kill; true";
    let (events, _) = node.run(home.shell(script));
    assert!(
        !printed(&events, OutputStream::Stdout).iter().any(|line| ["hostname", "mount"].contains(line)),
        "{events:?}"
    );
}

fn root_rules_its_node(home: &Home) {
    let mut node = home.raise();
    node.send(&Command::Start(Start { privilege: Privilege::Root, ..home.shell(SHOW_POWERS) }));
    if home.user == User::Ordinary {
        // Nobody maps user 0 there.
        let why = "cannot change to the privileges asked for: invalid argument".to_owned();
        assert_eq!(node.next(), InitEvent::StartFailed { incarnation: 1, why });
        return;
    }
    let (events, _) = node.until_exit();
    let lines = printed(&events, OutputStream::Stdout);
    let effective = lines[3].strip_prefix("CapEff:\t").map(|digits| u64::from_str_radix(digits, 16).unwrap()).unwrap();
    let (net_admin, net_raw, sys_admin, sys_module) = (1 << 12, 1 << 13, 1 << 21, 1 << 16);
    assert_eq!(lines[0], "0");
    assert_eq!(effective & (net_admin | net_raw), net_admin | net_raw, "it rules the node's network");
    let beyond = if home.user == User::RootOfTheMachine { 0 } else { sys_admin | sys_module };
    assert_eq!(effective & (sys_admin | sys_module), beyond, "and the machine only where that is its own namespace");
}

fn a_program_with_file_capabilities_runs(home: &Home) {
    let mut node = home.raise();
    // Debian's ping has cap_net_raw=ep, and is refused where that is missing in the bounding set.
    let (events, status) = node.run(home.shell("command -v ping >/dev/null || exit 99; ping -V"));
    if status == ExitStatus::Code(99) {
        return skip("a program with file capabilities: there is no ping");
    }
    assert_eq!(status, ExitStatus::Code(0), "{events:?}");
}

fn incarnations_leave_nothing_behind(home: &Home) {
    let mut node = home.raise();
    let descriptors = |node: &Node| fs::read_dir(format!("/proc/{}/fd", node.init)).unwrap().count();
    let before = descriptors(&node);
    let program = Start { argv: vec!["true".into()], ..home.shell("") };
    let (mut under_init, mut bare) = (Duration::ZERO, Duration::ZERO);
    for incarnation in 1..=200 {
        let began = Instant::now();
        std::process::Command::new("true").status().unwrap();
        bare += began.elapsed();
        let began = Instant::now();
        assert_eq!(node.run(Start { incarnation, ..program.clone() }).1, ExitStatus::Code(0));
        under_init += began.elapsed();
        let missing = Start { argv: vec!["no-such-program".into()], incarnation, ..program.clone() };
        node.send(&Command::Start(missing));
        assert!(matches!(node.next(), InitEvent::StartFailed { .. }));
    }
    println!("a program from command to end: {:?}; by posix_spawn alone: {:?}", under_init / 200, bare / 200);
    until("no descriptor is left open", || descriptors(&node) == before);
    assert_eq!(node.hang_up(), 0);
}

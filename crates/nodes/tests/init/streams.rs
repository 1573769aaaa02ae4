//! Output and reports: all of it, in order, before the end, and never more of it in memory than a bound.

use std::fs;
use std::os::unix::fs::symlink;

use event::{ExitStatus, NodeReport};
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use nodes::init::protocol::{InitEvent, LONGEST_PRINTED, OutputStream, Ready, Start};

use crate::node::{Home, Node, printed, reported};
use crate::runner::Test;

pub(crate) const TESTS: &[Test] = &[
    ("the_end_comes_after_the_last_word", the_end_comes_after_the_last_word),
    ("logs_go_on_over_incarnations", logs_go_on_over_incarnations),
    ("a_flood_is_written_and_not_kept", a_flood_is_written_and_not_kept),
    ("a_flood_of_lines_is_forwarded_and_not_kept", a_flood_of_lines_is_forwarded_and_not_kept),
    ("hostile_reports_are_told_of", hostile_reports_are_told_of),
    ("a_report_may_lack_its_end", a_report_may_lack_its_end),
    ("a_log_that_cannot_be_written_is_told_of", a_log_that_cannot_be_written_is_told_of),
];

fn the_end_comes_after_the_last_word(home: &Home) {
    let mut node = home.raise();
    let script = r#"i=0; while [ $i -lt 5000 ]; do echo "line $i"; echo "error $i" >&2
        echo "{\"kind\":\"progress\",\"bytes\":$i,\"total\":5000}" >&3; i=$((i+1)); done; printf 'no end'; printf '\377\n\377' >&2"#;
    let (events, status) = node.run(home.shell(script));
    assert_eq!(status, ExitStatus::Code(0));
    let lines = |word: &'static str| (0..5000).map(move |i| format!("{word} {i}"));
    let expected: Vec<_> = lines("line").chain(["no end".to_owned()]).collect();
    assert_eq!(printed(&events, OutputStream::Stdout), expected);
    let expected: Vec<_> = lines("error").chain(["\u{fffd}".to_owned(), "\u{fffd}".to_owned()]).collect();
    assert_eq!(printed(&events, OutputStream::Stderr), expected);
    let reports = reported(&events);
    assert_eq!(reports.len(), 5000);
    assert_eq!(reports[4999], NodeReport::Progress { bytes: 4999, total: 5000, received: 0 });
    assert!(fs::read_to_string(home.log(OutputStream::Stdout)).unwrap().ends_with("line 4999\nno end"));
}

fn logs_go_on_over_incarnations(home: &Home) {
    let mut node = home.raise();
    for incarnation in 1..=3 {
        let start = Start { incarnation, follow: false, ..home.shell(&format!("echo {incarnation}; echo x >&2")) };
        let (events, _) = node.run(start);
        assert_eq!(printed(&events, OutputStream::Stdout), [""; 0], "nobody follows");
    }
    assert_eq!(fs::read_to_string(home.log(OutputStream::Stdout)).unwrap(), "1\n2\n3\n");
    assert_eq!(fs::read_to_string(home.log(OutputStream::Stderr)).unwrap(), "x\nx\nx\n");
}

/// Holds for a copy of the test's small process, buffers of all bounds included.
const MEMORY_BOUND_KIB: u64 = 4 * 1024;

fn a_flood_is_written_and_not_kept(home: &Home) {
    let mut node = home.raise();
    let before = most_memory_kib(&node);
    for follow in [false, true] {
        let _ = fs::remove_file(home.log(OutputStream::Stdout));
        let (events, status) = node.run(Start { follow, ..home.shell("head -c 100000000 /dev/zero") });
        assert_eq!(status, ExitStatus::Code(0));
        assert_eq!(fs::metadata(home.log(OutputStream::Stdout)).unwrap().len(), 100_000_000);
        let lines = printed(&events, OutputStream::Stdout);
        assert_eq!(
            lines.iter().map(|line| line.len()).collect::<Vec<_>>(),
            if follow { vec![LONGEST_PRINTED] } else { vec![] }
        );
    }
    let grown = most_memory_kib(&node) - before;
    assert!(grown < MEMORY_BOUND_KIB, "100 MB of output made the init grow by {grown} KiB");
}

fn a_flood_of_lines_is_forwarded_and_not_kept(home: &Home) {
    let mut node = home.raise();
    let before = most_memory_kib(&node);
    // Lines of one byte grow most when they are forwarded. Every stream floods at once.
    let (events, status) =
        node.run(home.shell("(yes | head -c 200000 >&2) & (yes | head -c 200000 >&3) & yes | head -c 200000; wait"));
    assert_eq!(status, ExitStatus::Code(0));
    for stream in [OutputStream::Stdout, OutputStream::Stderr] {
        assert_eq!(printed(&events, stream).len(), 100_000);
    }
    let grown = most_memory_kib(&node) - before;
    assert!(grown < MEMORY_BOUND_KIB, "a flood of lines made the init grow by {grown} KiB");
}

fn hostile_reports_are_told_of(home: &Home) {
    let mut node = home.raise();
    let script = r#"exec >&3
        head -c 200000 /dev/zero | tr '\0' x; echo
        printf '\377\376\000\n'; echo '{"kind":7}'; echo
        echo '{"kind":"mood","colour":"red"}'
        head -c 60000 /dev/zero | tr '\0' '['; echo
        i=0; while [ $i -lt 1000 ]; do echo nonsense; i=$((i+1)); done
        echo '{"kind":"finished","bytes":1}'; head -c 100000 /dev/zero"#;
    let (events, status) = node.run(home.shell(script));
    assert_eq!(status, ExitStatus::Code(0));
    let reports = reported(&events);
    assert!(
        matches!(reports[..], [NodeReport::Other(_), NodeReport::Finished { bytes: 1, sha256: None }]),
        "{reports:?}"
    );
    let complaints: Vec<_> = events
        .iter()
        .filter_map(|event| match event {
            InitEvent::Malformed { what, unsaid, .. } => Some((what.as_str(), *unsaid)),
            _ => None,
        })
        .collect();
    assert!(complaints[0].0.starts_with("longer than 65536 bytes: \"xxx"), "{complaints:?}");
    assert!(complaints[1].0.starts_with("not UTF-8"), "{complaints:?}");
    assert!(complaints.iter().all(|(what, _)| what.len() < 1000), "{complaints:?}");
    // 1006 lines are malformed; the last sentence of those that sum up is none of them.
    let summaries = complaints.iter().filter(|(what, _)| what.starts_with("further")).count() as u64;
    let told = complaints.len() as u64 - summaries + complaints.iter().map(|(_, unsaid)| unsaid).sum::<u64>();
    assert_eq!(told, 1006, "{complaints:?}");
    assert!(complaints.len() < 200, "{} complaints", complaints.len());
}

fn a_report_may_lack_its_end(home: &Home) {
    let mut node = home.raise();
    let start = Start { ready: Ready::Event, ..home.shell(r#"printf '{"kind":"ready"}' >&3; echo bye"#) };
    let (events, _) = node.run(start);
    assert_eq!(reported(&events), [NodeReport::Ready]);
    assert!(events.contains(&InitEvent::Ready { incarnation: 1 }));
}

fn a_log_that_cannot_be_written_is_told_of(home: &Home) {
    let mut node = home.raise();
    let failures = |events: &[InitEvent]| {
        let of = |event: &InitEvent| match event {
            InitEvent::LogFailed { stream, why, .. } => Some((*stream, why.clone())),
            _ => None,
        };
        events.iter().filter_map(of).collect::<Vec<_>>()
    };
    // A program owns the folder that its logs are in: it may put traps there.
    symlink(home.disk().join("elsewhere"), home.log(OutputStream::Stdout)).unwrap();
    mkfifo(&home.log(OutputStream::Stderr), Mode::S_IRWXU).unwrap();
    let (events, status) = node.run(home.shell("echo one; echo two >&2"));
    assert_eq!(status, ExitStatus::Code(0));
    assert_eq!(
        failures(&events).iter().map(|(stream, _)| *stream).collect::<Vec<_>>(),
        [OutputStream::Stdout, OutputStream::Stderr]
    );
    assert_eq!(printed(&events, OutputStream::Stdout), ["one"]);
    assert!(!home.disk().join("elsewhere").exists());
    // A full disk is told of once, however much is printed.
    let start = Start { stdout: "/dev/full".into(), stderr: "/dev/null".into(), ..home.shell("seq 1 5000") };
    let (events, status) = node.run(start);
    assert_eq!(status, ExitStatus::Code(0));
    assert_eq!(failures(&events), [(OutputStream::Stdout, "No space left on device (os error 28)".to_owned())]);
    assert_eq!(printed(&events, OutputStream::Stdout).len(), 5000);
}

/// The most memory that the init has held since its fork.
fn most_memory_kib(node: &Node) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", node.init)).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().strip_suffix(" kB").unwrap().parse().unwrap()
}

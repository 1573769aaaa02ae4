//! When a program counts as ready.

use std::io::Read;
use std::net::TcpListener;
use std::process::ExitCode;

use event::ExitStatus;
use nodes::init::protocol::{Command, InitEvent, Ready, Start};

use crate::node::Home;
use crate::runner::Test;

pub(crate) const TESTS: &[Test] = &[
    ("as_soon_as_it_runs", as_soon_as_it_runs),
    ("when_it_says_so", when_it_says_so),
    ("when_it_listens", when_it_listens),
    ("when_a_file_exists", when_a_file_exists),
    ("never_when_it_is_gone", never_when_it_is_gone),
];

const READY: InitEvent = InitEvent::Ready { incarnation: 1 };

fn as_soon_as_it_runs(home: &Home) {
    let mut node = home.raise();
    node.start(home.shell("exec sleep 1000"));
    assert_eq!(node.next(), READY);
}

fn when_it_says_so(home: &Home) {
    let mut node = home.raise();
    let script = r#"echo '{"kind":"progress","bytes":0,"total":1}' >&3; echo '{"kind":"ready"}' >&3; echo '{"kind":"ready"}' >&3"#;
    let (events, _) = node.run(Start { ready: Ready::Event, ..home.shell(script) });
    let kinds: Vec<_> = events.iter().map(|event| *event == READY).collect();
    assert_eq!(kinds, [false, false, true, false], "{events:?}");
}

fn when_it_listens(home: &Home) {
    let mut node = home.raise();
    for (address, port) in [("0.0.0.0", 8080_u16), ("[::]", 8081)] {
        // The executable of the test, which is what the init runs, too.
        let argv = ["/proc/self/exe", LISTEN, &format!("{address}:{port}")].map(str::to_owned).to_vec();
        node.start(Start { argv, ready: Ready::Tcp(port), ..home.shell("") });
        let before = node.until(|event| *event == READY);
        assert_eq!(before.len(), 1, "nobody visited it: {before:?}");
        node.send(&Command::Kill);
        assert_eq!(node.until_exit().1, ExitStatus::Signal(9));
    }
}

fn when_a_file_exists(home: &Home) {
    let mut node = home.raise();
    let script = "mkdir sub; echo up; until [ -e go ]; do :; done; echo >sub/ready; exec sleep 1000";
    node.start(Start { ready: Ready::File("sub/ready".into()), ..home.shell(script) });
    node.until_printed("up");
    node.send(&Command::Status);
    assert!(matches!(node.next(), InitEvent::Status { .. }), "ready without its file");
    std::fs::write(home.disk().join("go"), "").unwrap();
    assert_eq!(node.next(), READY);
}

fn never_when_it_is_gone(home: &Home) {
    let mut node = home.raise();
    for ready in [Ready::Tcp(9), Ready::File("never".into()), Ready::Event, Ready::Elsewhere] {
        let (events, status) = node.run(Start { ready, ..home.shell("exit 2") });
        assert_eq!(status, ExitStatus::Code(2));
        assert!(!events.contains(&READY), "{events:?}");
    }
    // Nor afterwards, when the fact comes true.
    std::fs::write(home.disk().join("never"), "").unwrap();
    node.send(&Command::Status);
    assert!(matches!(node.next(), InitEvent::Status { pid: None, .. }));
}

/// The first argument that makes this executable a listener.
pub(crate) const LISTEN: &str = "--listen-on";

/// Listens on `address` until it is killed; says so if anybody connects.
pub(crate) fn listen(address: Option<String>) -> ExitCode {
    let listener = TcpListener::bind(address.expect("an address follows")).expect("bind");
    while let Ok((mut visitor, from)) = listener.accept() {
        println!("a visit from {from}");
        let _ = visitor.read(&mut [0]);
    }
    ExitCode::FAILURE
}

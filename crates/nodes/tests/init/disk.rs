//! Emptying a disk.

use std::fs;
use std::os::unix::fs::symlink;

use event::ExitStatus;
use nodes::init::protocol::{Command, CommandName, InitEvent, Privilege, Start};

use crate::node::{Home, User};
use crate::runner::Test;

pub(crate) const TESTS: &[Test] = &[
    ("a_disk_is_emptied_and_nothing_else", a_disk_is_emptied_and_nothing_else),
    ("what_is_mounted_in_a_disk_is_left_alone", what_is_mounted_in_a_disk_is_left_alone),
    ("only_a_disk_is_emptied", only_a_disk_is_emptied),
];

fn a_disk_is_emptied_and_nothing_else(home: &Home) {
    let mut node = home.raise();
    let precious = home.path().join("precious");
    fs::create_dir(&precious).unwrap();
    fs::write(precious.join("file"), "1").unwrap();
    symlink(&precious, home.disk().join("link")).unwrap();
    // Names and modes as a program may choose them.
    let script = r#"mkdir -p a/b/c .wipe-1/x; ln -s ../../.. a/b/up; ln -s / root; mkfifo pipe; echo x >"$(printf 'odd\nname\377')"
        mkdir locked; echo x >locked/file; chmod 0 locked; echo x >readonly; chmod 0400 readonly; ln readonly a/hard
        i=0; while [ $i -lt 300 ]; do mkdir deep; cd -P deep; i=$((i+1)); done; echo x >bottom"#;
    assert_eq!(node.run(home.shell(script)).1, ExitStatus::Code(0));
    node.send(&Command::Wipe { directory: home.disk() });
    assert_eq!(node.next(), InitEvent::Done { command: CommandName::Wipe });
    assert_eq!(fs::read_dir(home.disk()).unwrap().count(), 0);
    assert_eq!(fs::read_to_string(precious.join("file")).unwrap(), "1");
    assert_eq!(node.run(home.shell("echo again >file")).1, ExitStatus::Code(0), "and can be used again");
}

fn what_is_mounted_in_a_disk_is_left_alone(home: &Home) {
    if home.user != User::RootOfItsOwn {
        // Nobody else may mount anything in a node.
        return;
    }
    let mut node = home.raise();
    let script = "mkdir -p ../precious a/b; echo 1 >../precious/file; echo x >a/file; mount --bind ../precious a/b";
    let start = Start { privilege: Privilege::Root, ..home.shell(script) };
    let (events, status) = node.run(start);
    assert_eq!(status, ExitStatus::Code(0), "{events:?}");
    node.send(&Command::Wipe { directory: home.disk() });
    let answer = node.next();
    let InitEvent::Rejected { command: Some(CommandName::Wipe), why } = answer else { panic!("{answer:?}") };
    assert!(why.contains("cannot delete"), "{why}");
    assert_eq!(fs::read_to_string(home.path().join("precious/file")).unwrap(), "1\n");
}

fn only_a_disk_is_emptied(home: &Home) {
    let mut node = home.raise();
    let link = home.path().join("link");
    symlink(home.disk(), &link).unwrap();
    fs::write(home.disk().join("file"), "1").unwrap();
    for directory in ["/".into(), "disk".into(), link, home.path().join("missing"), home.disk().join("file")] {
        node.send(&Command::Wipe { directory });
        let answer = node.next();
        assert!(matches!(answer, InitEvent::Rejected { command: Some(CommandName::Wipe), .. }), "{answer:?}");
    }
    assert!(home.disk().join("file").exists());
}

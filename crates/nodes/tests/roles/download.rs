//! `downloader` against servers that die and come back.

use std::path::{Path, PathBuf};

use event::{NodeReport, SourceState};

use crate::ports::Ports;
use crate::process::{Download, Server, noise};

struct Setting {
    folder: tempfile::TempDir,
    movie: PathBuf,
    file: Vec<u8>,
}

impl Setting {
    fn new(len: usize) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (movie, file) = (folder.path().join("movie"), noise(len));
        std::fs::write(&movie, &file).unwrap();
        Setting { folder, movie, file }
    }

    fn out(&self) -> PathBuf {
        self.folder.path().join("out")
    }

    fn servers(&self, count: usize, rate: &str) -> Vec<Server> {
        (0..count).map(|_| Server::serve(&self.movie, 0, &["--rate", rate])).collect()
    }

    fn assert_right(&self) {
        assert!(std::fs::read(self.out()).unwrap() == self.file, "another file came out");
        for rest in ["out.part", "out.journal"] {
            assert!(!self.folder.path().join(rest).exists(), "{rest} is left behind");
        }
    }
}

fn urls(servers: &[Server]) -> Vec<String> {
    servers.iter().map(Server::url).collect()
}

#[test]
fn a_file_from_four_servers_is_the_same() {
    let setting = Setting::new(20_000_000);
    let servers = setting.servers(4, "400Mbit");
    let check = Server::check(&urls(&servers), &["--until-done"]);
    let check_url = check.url();
    let ended = Download::start(&urls(&servers), &setting.out(), &["--check", &check_url]).end();
    assert!(ended.status.success(), "{}", ended.stderr);
    setting.assert_right();
    assert_eq!(ended.sha256, Some(fetch::Digest::of(&setting.file).to_string()).filter(|_| ended.sha256.is_some()));
    assert!(ended.received >= 20_000_000);
    let mut check = check;
    assert!(check.process.child.wait().unwrap().success(), "the check server was told");
}

#[test]
fn ports_alone_are_enough_wherever_the_check_server_stands() {
    let setting = Setting::new(2_000_000);
    let servers = setting.servers(2, "400Mbit");
    let mut check = Server::check(&urls(&servers), &["--until-done"]);
    let ports: Vec<String> = [servers[0].port, check.port, servers[1].port].iter().map(u16::to_string).collect();
    let args = ["-a", "127.0.0.1", "-p"].into_iter().chain(ports.iter().map(String::as_str));
    let ended = Download::with(args, &setting.out()).end();
    assert!(ended.status.success(), "{}", ended.stderr);
    setting.assert_right();
    assert!(check.process.child.wait().unwrap().success(), "the check server was found and told");
}

#[test]
fn a_server_killed_in_the_middle_costs_nothing_but_its_share() {
    let setting = Setting::new(8_000_000);
    let mut servers = setting.servers(2, "50Mbit");
    let mut download = Download::start(&urls(&servers), &setting.out(), &[]);
    download.wait_for_bytes(2_000_000);
    servers[0].process.kill();
    let ended = download.end();
    assert!(ended.status.success(), "{}", ended.stderr);
    setting.assert_right();
}

#[test]
fn with_all_servers_dead_it_waits_and_goes_on_with_any() {
    let setting = Setting::new(8_000_000);
    let ports = Ports::free(2);
    let slow = |port: &u16| Server::serve(&setting.movie, *port, &["--rate", "4Mbit"]);
    // Eight seconds, of which less than one is needed before they are killed.
    let mut servers: Vec<Server> = ports.iter().map(slow).collect();
    let mut download = Download::start(&urls(&servers), &setting.out(), &[]);
    download.wait_for_bytes(500_000);
    servers.iter_mut().for_each(|server| server.process.kill());
    let mut dead = std::collections::BTreeSet::new();
    while dead.len() < 2 {
        let report = download.next().expect("it waits for servers");
        if let NodeReport::Source { source, state: SourceState::Dead, .. } = report {
            dead.insert(source);
        }
    }
    let _revived = Server::serve(&setting.movie, servers[1].port, &[]);
    let ended = download.end();
    assert!(ended.status.success(), "{}", ended.stderr);
    setting.assert_right();
    assert!(ended.received < 8_800_000, "what was here was not fetched again: {}", ended.received);
}

#[test]
fn an_existing_file_is_neither_replaced_unasked_nor_fetched_again() {
    let setting = Setting::new(1_000_000);
    let servers = setting.servers(1, "400Mbit");
    std::fs::write(setting.out(), "mine").unwrap();
    let refused = Download::start(&urls(&servers), &setting.out(), &[]).end();
    assert_eq!(refused.status.code(), Some(3), "{}", refused.stderr);
    assert!(refused.stderr.contains("exists"));
    assert_eq!(std::fs::read(setting.out()).unwrap(), b"mine");

    let replaced = Download::start(&urls(&servers), &setting.out(), &["--overwrite"]).end();
    assert!(replaced.status.success(), "{}", replaced.stderr);
    setting.assert_right();

    let again = Download::start(&urls(&servers), &setting.out(), &["--resume"]).end();
    assert!(again.status.success(), "{}", again.stderr);
    setting.assert_right();
    assert_eq!(again.received, 0, "a finished file is only checked");
}

#[test]
fn a_wrong_checksum_fails_and_leaves_nothing() {
    let setting = Setting::new(300_000);
    let servers = setting.servers(1, "400Mbit");
    let wrong = "00".repeat(32);
    let ended = Download::start(&urls(&servers), &setting.out(), &["--checksum", &wrong]).end();
    assert_eq!(ended.status.code(), Some(1), "{}", ended.stderr);
    let left: Vec<_> =
        std::fs::read_dir(setting.folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["movie"]);
}

#[test]
fn a_disk_that_says_no_is_named() {
    let setting = Setting::new(300_000);
    let servers = setting.servers(1, "400Mbit");
    let ended = Download::start(&urls(&servers), Path::new("/proc/out"), &[]).end();
    assert_eq!(ended.status.code(), Some(3));
    assert!(ended.stderr.contains("/proc/out.part"), "{}", ended.stderr);
}

#[test]
fn an_empty_file_is_a_file() {
    let setting = Setting::new(0);
    let servers = setting.servers(2, "400Mbit");
    let ended = Download::start(&urls(&servers), &setting.out(), &[]).end();
    assert!(ended.status.success(), "{}", ended.stderr);
    setting.assert_right();
}

//! `downloader` killed at any instant, and its next life.

use std::path::Path;

use crate::process::{Download, Server, noise};

const LENGTH: u64 = 16_000_000;

/// Bytes of the pieces that the journal records now.
fn recorded(journal: &Path) -> u64 {
    let Ok(Ok(replay)) = std::fs::read(journal).map(|bytes| fetch::journal::replay(&bytes)) else { return 0 };
    let pieces = replay.header.pieces;
    pieces.iter().filter(|piece| replay.recorded.contains(*piece)).map(|piece| pieces.range(piece).len()).sum()
}

#[test]
fn a_killed_download_goes_on_where_its_journal_ends() {
    let folder = tempfile::tempdir().unwrap();
    let (movie, out, file) = (folder.path().join("movie"), folder.path().join("out"), noise(LENGTH as usize));
    let journal = folder.path().join("out.journal");
    std::fs::write(&movie, &file).unwrap();
    let servers: Vec<Server> = (0..2).map(|_| Server::serve(&movie, 0, &["--rate", "100Mbit"])).collect();
    let urls: Vec<String> = servers.iter().map(Server::url).collect();
    let (mut received, mut missing) = (0, LENGTH);
    for life in 1..=3u64 {
        let mut download = Download::start(&urls, &out, &["-r"]);
        while recorded(&journal) < LENGTH * life / 4 {
            assert!(download.next().is_some(), "it ended before it was killed");
        }
        download.process.kill();
        // What was told before the kill is in the pipe.
        while download.next().is_some() {}
        received += download.received;
        assert!(LENGTH - recorded(&journal) < missing, "a life loses nothing that was recorded");
        missing = LENGTH - recorded(&journal);
    }
    let ended = Download::start(&urls, &out, &["-r"]).end();
    assert!(ended.status.success(), "{}", ended.stderr);
    assert!(std::fs::read(&out).unwrap() == file, "another file came out");
    assert!(received + ended.received >= LENGTH, "every byte came from somewhere");
    // No recorded piece again: beyond what was missing there is only what the end of a download fetches twice.
    let twice = ended.received.saturating_sub(missing);
    assert!(twice < 1_000_000, "{} bytes received where {missing} were missing", ended.received);
}

#[test]
fn a_damaged_journal_costs_a_rehash_and_never_a_wrong_file() {
    let folder = tempfile::tempdir().unwrap();
    let (movie, out, file) = (folder.path().join("movie"), folder.path().join("out"), noise(LENGTH as usize));
    std::fs::write(&movie, &file).unwrap();
    let server = Server::serve(&movie, 0, &["--rate", "400Mbit"]);
    let journal = folder.path().join("out.journal");
    for damage in ["missing", "foreign", "torn", "part changed"] {
        let _ = std::fs::remove_file(&out);
        let mut download = Download::start(&[server.url()], &out, &[]);
        download.wait_for_bytes(LENGTH / 2);
        download.process.kill();
        match damage {
            "missing" => std::fs::remove_file(&journal).unwrap(),
            "foreign" => std::fs::write(&journal, noise(5000)).unwrap(),
            "torn" => {
                let mut bytes = std::fs::read(&journal).unwrap();
                let middle = bytes.len() / 2;
                bytes[middle] ^= 1;
                std::fs::write(&journal, bytes).unwrap();
            }
            _ => {
                // Not a journal's fault: the last bytes of the data are lost, as after a crash of the file system.
                std::fs::remove_file(&journal).unwrap();
                let part = std::fs::OpenOptions::new().write(true).open(folder.path().join("out.part")).unwrap();
                part.set_len(3_000_000).unwrap();
            }
        }
        let ended = Download::start(&[server.url()], &out, &["-r"]).end();
        assert!(ended.status.success(), "{damage}: {}", ended.stderr);
        assert!(std::fs::read(&out).unwrap() == file, "{damage}: another file came out");
    }
}

#[test]
fn an_interrupt_keeps_what_is_here() {
    let folder = tempfile::tempdir().unwrap();
    let (movie, out, file) = (folder.path().join("movie"), folder.path().join("out"), noise(4_000_000));
    std::fs::write(&movie, &file).unwrap();
    let server = Server::serve(&movie, 0, &["--rate", "50Mbit"]);
    let mut download = Download::start(&[server.url()], &out, &[]);
    download.wait_for_bytes(2_000_000);
    download.process.signal(nix::sys::signal::Signal::SIGINT);
    let ended = download.end();
    assert_eq!(ended.status.code(), Some(130), "{}", ended.stderr);
    assert!(!out.exists());
    let missing = 4_000_000 - recorded(&folder.path().join("out.journal"));
    let ended = Download::start(&[server.url()], &out, &["-r"]).end();
    assert!(ended.status.success(), "{}", ended.stderr);
    assert!(ended.received < missing + 100_000, "{} bytes received where {missing} were missing", ended.received);
    assert!(std::fs::read(&out).unwrap() == file);
}

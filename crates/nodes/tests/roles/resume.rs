//! `downloader` killed at any instant, and its next life. What its servers send is counted out by the test: so no
//! download is over before it is killed.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use fetch::journal::{Header, Replay};
use fetch::{Bitmap, Pieces};

use crate::process::{Download, noise, recorded, replayed};
use crate::reply::{Allowance, Reply, serve};
use crate::running::url;

const LENGTH: u64 = 16_000_000;

/// A file, servers that send it as far as they are allowed, and what they were asked for.
struct Setting {
    folder: tempfile::TempDir,
    file: Arc<Vec<u8>>,
    urls: Vec<String>,
    allowance: Allowance,
    asked: Arc<Mutex<Vec<(u64, u64)>>>,
}

impl Setting {
    fn new(servers: usize, allowed: u64) -> Self {
        let (file, allowance) = (Arc::new(noise(LENGTH as usize)), Allowance::of(allowed));
        let asked = Arc::new(Mutex::new(Vec::new()));
        let server = || {
            let (file, allowance, ranges) = (Arc::clone(&file), allowance.clone(), Arc::clone(&asked));
            url(serve(move |asked| {
                let right = Reply::right(&file, asked);
                if !asked.for_part() {
                    return right;
                }
                ranges.lock().unwrap().push(asked.bounds());
                right.metered_by(&allowance)
            }))
        };
        let urls = (0..servers).map(|_| server()).collect();
        Setting { folder: tempfile::tempdir().unwrap(), file, urls, allowance, asked }
    }

    fn out(&self) -> PathBuf {
        self.folder.path().join("out")
    }

    fn part(&self) -> PathBuf {
        self.folder.path().join("out.part")
    }

    fn journal(&self) -> PathBuf {
        self.folder.path().join("out.journal")
    }

    fn assert_right(&self) {
        assert!(std::fs::read(self.out()).unwrap() == *self.file, "another file came out");
    }
}

/// Bytes of the pieces that lie whole in the part file, recorded or not: what a rehash can find.
fn whole(journal: &Path, part: &Path, file: &[u8]) -> u64 {
    let (pieces, part) = (replayed(journal).unwrap().header.pieces, std::fs::read(part).unwrap());
    let ranges = pieces.iter().map(|piece| pieces.range(piece)).map(|range| range.start as usize..range.end as usize);
    ranges.filter(|range| part.get(range.clone()) == file.get(range.clone())).map(|range| range.len() as u64).sum()
}

/// Which pieces are recorded.
fn pieces(journal: &Path) -> (Pieces, Bitmap) {
    let Replay { header: Header { pieces, .. }, recorded, .. } = replayed(journal).unwrap();
    (pieces, recorded)
}

#[test]
fn a_killed_download_goes_on_where_its_journal_ends() {
    // Of what a life is allowed, less than half can lie in pieces that it has begun and not ended.
    const OF_A_LIFE: u64 = 4_000_000;
    let setting = Setting::new(2, 0);
    let journal = setting.journal();
    let mut here = 0;
    for _life in 1..=3 {
        setting.allowance.raise(OF_A_LIFE);
        let mut download = Download::start(&setting.urls, &setting.out(), &["-r"]);
        while recorded(&journal) < here + OF_A_LIFE / 2 {
            assert!(download.next().is_some(), "it ended before it was killed");
        }
        download.process.kill();
        assert!(recorded(&journal) >= here, "a life loses nothing that was recorded");
        here = recorded(&journal);
    }
    let (pieces, recorded) = pieces(&journal);
    let unfinished = LENGTH - whole(&journal, &setting.part(), &setting.file);
    setting.asked.lock().unwrap().clear();
    setting.allowance.lift();
    let ended = Download::start(&setting.urls, &setting.out(), &["-r"]).end();
    assert!(ended.status.success(), "{}", ended.stderr);
    setting.assert_right();
    // A killed life told of the bytes before its last moment only; the last one tells of all. It is spared the pieces
    // that were written before the kill and not yet recorded, if it finds them before it asks for them.
    assert!(ended.received >= unfinished, "{} bytes received where {unfinished} were missing", ended.received);
    for (start, end) in setting.asked.lock().unwrap().iter() {
        let again = pieces.iter().filter(|piece| recorded.contains(*piece)).map(|piece| pieces.range(piece));
        let again: Vec<_> = again.filter(|piece| piece.start < *end && *start < piece.end).collect();
        assert!(again.is_empty(), "recorded, and asked for again by {start}-{end}: {again:?}");
    }
}

#[test]
fn a_damaged_journal_costs_a_rehash_and_never_a_wrong_file() {
    for damage in ["missing", "foreign", "torn", "part changed"] {
        let setting = Setting::new(1, LENGTH / 2);
        let journal = setting.journal();
        let mut download = Download::start(&setting.urls, &setting.out(), &[]);
        while recorded(&journal) < LENGTH / 4 {
            assert!(download.next().is_some(), "it ended before it was killed");
        }
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
                let part = std::fs::OpenOptions::new().write(true).open(setting.part()).unwrap();
                part.set_len(3_000_000).unwrap();
            }
        }
        setting.allowance.lift();
        let ended = Download::start(&setting.urls, &setting.out(), &["-r"]).end();
        assert!(ended.status.success(), "{damage}: {}", ended.stderr);
        setting.assert_right();
    }
}

#[test]
fn an_interrupt_keeps_what_is_here() {
    let setting = Setting::new(1, LENGTH / 2);
    let mut download = Download::start(&setting.urls, &setting.out(), &[]);
    while recorded(&setting.journal()) < LENGTH / 4 {
        assert!(download.next().is_some(), "it ended before it was told to");
    }
    download.process.signal(nix::sys::signal::Signal::SIGINT);
    let ended = download.end();
    assert_eq!(ended.status.code(), Some(130), "{}", ended.stderr);
    assert!(!setting.out().exists());
    let missing = LENGTH - recorded(&setting.journal());
    setting.allowance.lift();
    let ended = Download::start(&setting.urls, &setting.out(), &["-r"]).end();
    assert!(ended.status.success(), "{}", ended.stderr);
    assert!(ended.received < missing + 100_000, "{} bytes received where {missing} were missing", ended.received);
    setting.assert_right();
}

//! Senders and receivers of the fast mode over loopback.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use machine::{Ratio, Seed, Span, Time};
use p2mp::LossService;
use p2mp::fast::Fate;

use super::{Fast, Options};
use crate::clock;
use crate::exit::Exit;
use crate::p2mp_sender::fast as sender;
use crate::udp::{Batch, Buffers, Interest, Interface, Socket, wait};

/// A receiver on a thread, as the program drives it.
struct Receiver {
    address: SocketAddr,
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Option<Fate>>,
}

#[derive(Clone, Copy)]
struct Behaviour {
    overwrite: bool,
    loss: &'static str,
    /// Ends without a word once it has so many bytes.
    dies_at: u64,
    port: u16,
}

const FINE: Behaviour = Behaviour { overwrite: false, loss: "0", dies_at: u64::MAX, port: 0 };

fn receiver(target: &Path, behaviour: Behaviour) -> Receiver {
    let socket = Socket::bind((Ipv4Addr::UNSPECIFIED, behaviour.port).into()).unwrap();
    let buffer = socket.enlarge(Buffers { receive: 8 << 20, send: 1 << 20 }).unwrap().receive;
    let port = socket.local_address().unwrap().port();
    let interface = Some(Interface::named("lo").unwrap());
    let options = Options { target: target.to_owned(), overwrite: behaviour.overwrite, interface, buffer };
    let mut fast = Fast::new(options, Vec::new()).unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = Arc::clone(&stop);
    let thread = std::thread::spawn(move || {
        let mut batch = Batch::default();
        let mut loss = LossService::new(behaviour.loss.parse::<Ratio>().unwrap(), Seed::new(u64::from(port)));
        loop {
            let until = fast.deadline().unwrap_or(Time::MAX).min(clock::now() + Span::from_millis(20));
            let [_, woken] = wait([(socket.as_fd(), Interest::Read), (fast.wake(), Interest::Read)], until).unwrap();
            if woken.read {
                fast.woken();
            }
            socket.receive(&mut batch).unwrap();
            fast.receive(&socket, batch.datagrams().filter(|_| !loss.discards()));
            fast.advance(&socket);
            if let Some(fate) = fast.ending() {
                return Some(fate);
            }
            if stopped.load(Ordering::Relaxed) || fast.progress().is_some_and(|(bytes, _)| bytes >= behaviour.dies_at) {
                return None;
            }
        }
    });
    Receiver { address: SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port), stop, thread }
}

impl Receiver {
    fn fate(self) -> Option<Fate> {
        self.thread.join().unwrap()
    }

    fn stop(self) {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap();
    }
}

fn send(receivers: &[SocketAddr], files: &[PathBuf], group: Option<IpAddr>) -> Exit {
    let options = sender::Options {
        receivers: receivers.iter().map(|address| (address.to_string(), *address)).collect(),
        files: files.to_vec(),
        most_payload: 1442,
        rate: None,
        group,
        hops: 1,
        interface: Some("lo".to_owned()),
        give_up: Span::from_secs(6),
        shows: false,
        sinks: Vec::new(),
    };
    sender::run(options).unwrap()
}

fn noise(length: usize, seed: u64) -> Vec<u8> {
    (0..length as u64).map(|n| ((n ^ seed << 40).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8).collect()
}

/// A folder with a file of noise.
fn prepared(length: usize) -> (tempfile::TempDir, PathBuf, Vec<u8>) {
    let folder = tempfile::tempdir().unwrap();
    let (path, bytes) = (folder.path().join("film.bin"), noise(length, 1));
    fs::write(&path, &bytes).unwrap();
    (folder, path, bytes)
}

fn leftovers(folder: &Path) -> Vec<String> {
    let names = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.contains(".part") || name.contains(".journal")).collect()
}

#[test]
fn everybody_has_the_file_alone_and_by_the_group_and_whatever_is_lost() {
    for (length, loss, group) in [
        (0, "0", None),
        (1, "0.3", None),
        (5_000_000, "0", None),
        (3_000_000, "0.2", None),
        (3_000_000, "0", Some(Ipv4Addr::new(239, 77, 35, 2).into())),
    ] {
        let (folder, path, bytes) = prepared(length);
        // Members of a group share its port, which loopback's sockets cannot: one listens, the other is found to hear
        // nothing of it.
        let targets = ["a", "b", "c"].map(|name| folder.path().join(name));
        let receivers = targets.each_ref().map(|target| receiver(target, Behaviour { loss, ..FINE }));
        let addresses = receivers.each_ref().map(|receiver| receiver.address);
        assert_eq!(send(&addresses, &[path], group), Exit::Done, "{length} bytes, loss {loss}");
        for (receiver, target) in receivers.into_iter().zip(&targets) {
            assert_eq!(receiver.fate(), Some(Fate::Complete));
            assert!(fs::read(target).unwrap() == bytes);
        }
        assert_eq!(leftovers(folder.path()), [""; 0]);
    }
}

#[test]
fn several_files_arrive_in_a_folder_under_names_made_harmless() {
    let folder = tempfile::tempdir().unwrap();
    let names = ["one.txt", "-two", ".three", "empty"];
    let (sent, received) = (folder.path().join("sent"), folder.path().join("received"));
    fs::create_dir(&sent).unwrap();
    fs::create_dir(&received).unwrap();
    let paths = names.map(|name| sent.join(name));
    let contents = [noise(70_000, 1), noise(2_000_000, 2), noise(1, 3), Vec::new()];
    paths.iter().zip(&contents).for_each(|(path, bytes)| fs::write(path, bytes).unwrap());
    let receiver = receiver(&received, FINE);
    assert_eq!(send(&[receiver.address], &paths, None), Exit::Done);
    assert_eq!(receiver.fate(), Some(Fate::Complete));
    for (name, bytes) in ["one.txt", "_two", "three", "empty"].iter().zip(&contents) {
        assert!(fs::read(received.join(name)).unwrap() == *bytes, "{name}");
    }
    assert_eq!(leftovers(&received), [""; 0]);
}

#[test]
fn a_dead_receiver_holds_nobody_up_and_goes_on_where_it_was() {
    let (folder, path, bytes) = prepared(30_000_000);
    let (a, b) = (folder.path().join("a"), folder.path().join("b"));
    let (living, dying) = (receiver(&a, FINE), receiver(&b, Behaviour { dies_at: 9_000_000, ..FINE }));
    let port = dying.address.port();
    assert_eq!(send(&[living.address, dying.address], std::slice::from_ref(&path), None), Exit::Failed);
    assert_eq!(living.fate(), Some(Fate::Complete));
    assert!(fs::read(&a).unwrap() == bytes);
    dying.stop();
    assert!(!b.exists());
    let journal = fs::read(folder.path().join("b.journal")).unwrap();
    let recorded = fetch::journal::replay(&journal).unwrap().recorded.count();
    assert!(recorded > 0);

    let again = receiver(&b, Behaviour { port, ..FINE });
    assert_eq!(send(&[again.address], &[path], None), Exit::Done);
    assert_eq!(again.fate(), Some(Fate::Complete));
    assert!(fs::read(&b).unwrap() == bytes);
    assert_eq!(leftovers(folder.path()), [""; 0]);
}

/// A stranger's file goes elsewhere, and the one whose blocks are there still finds them.
#[test]
fn what_another_sender_has_begun_is_not_thrown_away() {
    let (folder, path, bytes) = prepared(30_000_000);
    let target = folder.path().join("b");
    let dying = receiver(&target, Behaviour { dies_at: 9_000_000, ..FINE });
    assert_eq!(send(&[dying.address], std::slice::from_ref(&path), None), Exit::Failed);
    dying.stop();
    let journal = fs::read(folder.path().join("b.journal")).unwrap();
    assert!(fetch::journal::replay(&journal).unwrap().recorded.count() > 0);

    let other = folder.path().join("other.bin");
    fs::write(&other, noise(100_000, 2)).unwrap();
    let again = receiver(&target, FINE);
    assert_eq!(send(&[again.address], std::slice::from_ref(&other), None), Exit::Done);
    assert_eq!(again.fate(), Some(Fate::Complete));
    assert!(!target.exists());
    let names = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().path());
    let aside: Vec<PathBuf> =
        names.filter(|path| path.file_name().unwrap().to_str().unwrap().starts_with("b.127.0.0.1-")).collect();
    assert_eq!(aside.len(), 1, "{aside:?}");
    assert!(fs::read(&aside[0]).unwrap() == noise(100_000, 2));
    assert!(fs::read(folder.path().join("b.journal")).unwrap() == journal);

    let back = receiver(&target, FINE);
    assert_eq!(send(&[back.address], &[path], None), Exit::Done);
    assert_eq!(back.fate(), Some(Fate::Complete));
    assert!(fs::read(&target).unwrap() == bytes);
    assert_eq!(leftovers(folder.path()), [""; 0]);
}

#[test]
fn one_file_that_cannot_be_leaves_nothing_of_the_others() {
    let folder = tempfile::tempdir().unwrap();
    let paths = ["a", "b"].map(|name| folder.path().join(name));
    paths.iter().for_each(|path| fs::write(path, noise(10_000, 1)).unwrap());
    let target = tempfile::tempdir().unwrap();
    fs::create_dir(target.path().join("b")).unwrap();
    let receiver = receiver(target.path(), FINE);
    assert_eq!(send(&[receiver.address], &paths, None), Exit::Failed);
    assert!(matches!(receiver.fate(), Some(Fate::Failed(why)) if why.contains("b is a folder")));
    assert_eq!(leftovers(target.path()), [""; 0]);
    assert!(!target.path().join("a").exists());
}

#[test]
fn what_is_there_is_kept_if_it_is_right_and_never_replaced_unasked() {
    let (folder, path, bytes) = prepared(200_000);
    let target = folder.path().join("a");
    fs::write(&target, &bytes).unwrap();
    let same = receiver(&target, FINE);
    assert_eq!(send(&[same.address], std::slice::from_ref(&path), None), Exit::Done);
    assert_eq!(same.fate(), Some(Fate::Complete));

    for other in [noise(200_000, 9), b"short".to_vec()] {
        fs::write(&target, &other).unwrap();
        let refusing = receiver(&target, FINE);
        assert_eq!(send(&[refusing.address], std::slice::from_ref(&path), None), Exit::Failed);
        assert!(matches!(refusing.fate(), Some(Fate::Failed(why)) if why.contains("--overwrite replaces it")));
        assert!(fs::read(&target).unwrap() == other);

        let replacing = receiver(&target, Behaviour { overwrite: true, ..FINE });
        assert_eq!(send(&[replacing.address], std::slice::from_ref(&path), None), Exit::Done);
        assert_eq!(replacing.fate(), Some(Fate::Complete));
        assert!(fs::read(&target).unwrap() == bytes);
    }
    assert_eq!(leftovers(folder.path()), [""; 0]);
}

#[test]
fn what_may_be_replaced_stays_if_it_is_the_same() {
    let source = tempfile::tempdir().unwrap();
    let paths = ["same", "other", "shorter"].map(|name| source.path().join(name));
    paths.iter().for_each(|path| fs::write(path, noise(300_000, 1)).unwrap());
    let target = tempfile::tempdir().unwrap();
    let there = ["same", "other", "shorter"].map(|name| target.path().join(name));
    for (path, content) in there.iter().zip([noise(300_000, 1), noise(300_000, 2), noise(1000, 1)]) {
        fs::write(path, content).unwrap();
    }
    let numbers = || there.each_ref().map(|path| fs::metadata(path).unwrap().ino());
    let before = numbers();
    for is_first in [true, false] {
        let receiver = receiver(target.path(), Behaviour { overwrite: true, ..FINE });
        assert_eq!(send(&[receiver.address], &paths, None), Exit::Done);
        assert_eq!(receiver.fate(), Some(Fate::Complete));
        assert!(there.iter().all(|path| fs::read(path).unwrap() == noise(300_000, 1)));
        let same = before.iter().zip(numbers()).map(|(before, now)| *before == now).collect::<Vec<_>>();
        // Whether a file was put in its place, or what was there stayed.
        assert_eq!(same, [true, false, false], "first: {is_first}");
    }
    assert_eq!(leftovers(target.path()), [""; 0]);
}

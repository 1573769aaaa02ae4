//! The relay's end of a capture: what passes is copied into batches, which a thread of its own writes.
//!
//! The relay never waits for a disk. There is a fixed number of batches; when all of them wait to be written, packets are
//! not recorded but counted, and each file says where they are missing and how many they were.

use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::JoinHandle;

use link::{Cause, Flips, Within};
use machine::Time;

use super::RelayConfig;
use super::corrupt::complete_checksum;
use super::pcapng::Direction;
use super::recorder::{self, CaptureError};

/// What a capture has recorded, at its end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CaptureSummary {
    /// Files, one an interface.
    pub files: usize,
    /// Packets in them; one that was sent and received is in two.
    pub recorded: u64,
    /// Packets that are in none, because the disk did not keep up or failed.
    pub unrecorded: u64,
    /// The first thing that could not be written; nothing was after it.
    pub failed: Option<String>,
    /// Until when everything is recorded, by the relay's clock.
    pub ended: Time,
}

/// A capture whose last packets are still being written.
#[derive(Debug)]
pub struct CaptureEnding {
    writer: JoinHandle<CaptureSummary>,
    ended: Time,
}

impl CaptureEnding {
    /// Waits for the disk; what there is then.
    pub fn wait(self) -> CaptureSummary {
        let failed =
            || CaptureSummary { failed: Some("the thread that writes it has died".to_owned()), ..Default::default() };
        CaptureSummary { ended: self.ended, ..self.writer.join().unwrap_or_else(|_| failed()) }
    }
}

/// How much waits for the disk at most: 16 MiB, 0.1 s of a gigabit.
const BATCHES: usize = 64;
const BATCH: usize = 256 << 10;

/// Packets on their way to the disk.
#[derive(Debug, Default)]
pub(super) struct Batch {
    pub(super) entries: Vec<Entry>,
    /// `virtio_net_hdr` and frame of each, one after the other.
    pub(super) bytes: Vec<u8>,
}

/// One packet.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry {
    /// Of the port, as in [`Due`](super::switch::Due).
    pub(super) slot: usize,
    pub(super) at: Time,
    pub(super) direction: Direction,
    pub(super) id: Option<u64>,
    pub(super) remark: Remark,
    /// Packets of this port that were not recorded since the one before.
    pub(super) missing: u64,
    /// Bytes in the batch, the `virtio_net_hdr` included.
    pub(super) length: usize,
}

/// What a recording says of a packet beside its bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Remark {
    pub(super) fate: Option<Unusual>,
    /// Bits that are flipped in the bytes recorded.
    pub(super) flips: Flips,
    pub(super) is_copy: bool,
}

/// What became of a packet that did not just pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unusual {
    /// The model dropped it.
    Dropped(Cause, Within),
    /// Nobody on the network has its destination.
    UnknownDestination,
    /// Its source is not the node's.
    ForeignSource,
    /// Address resolution, which the relay answers itself.
    Neighbour,
}

/// The relay's end of a capture.
#[derive(Debug)]
pub(super) struct Capture {
    /// What is being filled.
    batch: Batch,
    idle: Vec<Batch>,
    full: Sender<Batch>,
    written: Receiver<Batch>,
    /// By port: packets that were not recorded since the last that was.
    missing: Vec<u64>,
    writer: JoinHandle<CaptureSummary>,
    /// What the files' times, nanoseconds since 1970, are ahead of the relay's clock.
    pub(super) epoch: u64,
}

impl Capture {
    /// Makes the files, if any are asked for, and the thread that writes them.
    pub(super) fn start(config: &RelayConfig) -> Result<Option<Self>, CaptureError> {
        let Some(folder) = &config.capture else { return Ok(None) };
        let recorder = recorder::Recorder::create(folder, &config.networks)?;
        let epoch = recorder.epoch;
        let ports = config.networks.iter().map(|network| network.ports.len()).sum();
        let (full, batches) = mpsc::channel();
        let (returned, written) = mpsc::channel();
        let writer = std::thread::Builder::new()
            .name("capture".to_owned())
            .spawn(move || recorder.run(&batches, &returned))
            .map_err(|source| CaptureError { action: "start a thread to write", path: folder.clone(), source })?;
        let idle = std::iter::repeat_with(Batch::default).take(BATCHES - 1).collect();
        Ok(Some(Capture { batch: Batch::default(), idle, full, written, missing: vec![0; ports], writer, epoch }))
    }

    /// Records a packet (`virtio_net_hdr` and frame), its checksum completed.
    pub(super) fn record(
        &mut self,
        slot: usize,
        at: Time,
        direction: Direction,
        id: Option<u64>,
        remark: Remark,
        packet: &[u8],
    ) {
        if !self.has_room(packet.len()) {
            self.missing[slot] += 1;
            return;
        }
        let missing = std::mem::take(&mut self.missing[slot]);
        self.batch.entries.push(Entry { slot, at, direction, id, remark, missing, length: packet.len() });
        let start = self.batch.bytes.len();
        self.batch.bytes.extend_from_slice(packet);
        complete_checksum(&mut self.batch.bytes[start..]);
    }

    /// Hands over what is there if the writer has nothing else to do, so that little is missing after a sudden end.
    pub(super) fn rest(&mut self) {
        self.idle.extend(self.written.try_iter());
        if self.idle.len() == BATCHES - 1 && !self.batch.entries.is_empty() {
            self.hand_over();
        }
    }

    /// Records nothing more, `now` that everything up to this instant is.
    pub(super) fn finish(mut self, now: Time) -> CaptureEnding {
        // Those missing at the end are told by an entry without a packet.
        let missing = self.missing.iter().enumerate().filter(|(_, missing)| **missing > 0);
        let entries = missing.map(|(slot, missing)| Entry {
            slot,
            at: Time::ZERO,
            direction: Direction::Inbound,
            id: None,
            remark: Remark::default(),
            missing: *missing,
            length: 0,
        });
        self.batch.entries.extend(entries);
        // A writer that has gone says so when it is waited for.
        let _gone = self.full.send(self.batch);
        CaptureEnding { writer: self.writer, ended: now }
    }

    fn has_room(&mut self, length: usize) -> bool {
        if self.batch.bytes.len() + length <= BATCH {
            return true;
        }
        if self.idle.is_empty() {
            self.idle.extend(self.written.try_iter());
        }
        if self.idle.is_empty() {
            return false;
        }
        self.hand_over();
        true
    }

    /// Invariant: there is an idle batch.
    fn hand_over(&mut self) {
        let Some(next) = self.idle.pop() else { return };
        let full = std::mem::replace(&mut self.batch, next);
        let _gone = self.full.send(full);
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::relay::recorder::Recorder;
    use crate::relay::segment::VNET;
    use crate::relay::{NetworkConfig, PortConfig};

    fn networks() -> Vec<NetworkConfig> {
        let port = |label: &str| PortConfig {
            label: label.to_owned(),
            interface: "eth0".to_owned(),
            ifindex: 1,
            mac: [2, 0, 0, 0, 0, 1],
            addresses: Vec::new(),
            profile: link::Profile::default(),
            offload: true,
        };
        vec![NetworkConfig {
            name: "net".to_owned(),
            mtu: 1500,
            ports: vec![port("a"), port("b")],
            pairs: Vec::new(),
            uplink: None,
        }]
    }

    /// A capture whose writer begins when it is told.
    fn held_up(folder: &Path) -> (Capture, Sender<()>) {
        let recorder = Recorder::create(folder, &networks()).expect("a folder of the test's own");
        let (full, batches) = mpsc::channel();
        let (returned, written) = mpsc::channel();
        let (go, start) = mpsc::channel::<()>();
        let writer = std::thread::spawn(move || {
            start.recv().expect("the test says when");
            recorder.run(&batches, &returned)
        });
        let idle = std::iter::repeat_with(Batch::default).take(BATCHES - 1).collect();
        (Capture { batch: Batch::default(), idle, full, written, missing: vec![0; 2], writer, epoch: 0 }, go)
    }

    const PACKET: usize = 64 << 10;

    fn record(capture: &mut Capture, slot: usize, count: usize) {
        for k in 0..count {
            let at = Time::from_nanos(k as u64);
            capture.record(slot, at, Direction::Inbound, None, Remark::default(), &[0; PACKET]);
        }
    }

    #[test]
    fn a_disk_that_stands_still_costs_packets_that_are_counted_and_nothing_else() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let (mut capture, go) = held_up(&folder.path().join("pcap"));
        let room = BATCHES * BATCH / PACKET;
        record(&mut capture, 0, room + 7);
        record(&mut capture, 1, 5);
        go.send(()).expect("the writer waits");
        let ended = Time::from_nanos(7);
        let summary = capture.finish(ended).wait();
        assert_eq!(summary, CaptureSummary { files: 2, recorded: room as u64, unrecorded: 12, failed: None, ended });
        let size = |name: &str| std::fs::metadata(folder.path().join("pcap").join(name)).expect("a file").len();
        assert!(size("a.eth0.pcapng") > (room * PACKET - room * VNET) as u64 && size("b.eth0.pcapng") < 1000);
    }

    #[test]
    fn a_disk_that_has_recovered_is_used_again() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let (mut capture, go) = held_up(folder.path().join("pcap").as_path());
        let room = BATCHES * BATCH / PACKET;
        record(&mut capture, 0, room + 1);
        go.send(()).expect("the writer waits");
        while capture.idle.len() < BATCHES - 1 {
            let written = capture.written.recv().expect("the writer works");
            capture.idle.push(written);
        }
        record(&mut capture, 0, 1);
        let summary = capture.finish(Time::ZERO).wait();
        assert_eq!((summary.recorded, summary.unrecorded), (room as u64 + 1, 1));
    }

    #[test]
    fn a_disk_that_is_full_is_told_and_its_packets_are_counted() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let (mut capture, go) = held_up(folder.path().join("pcap").as_path());
        let file = folder.path().join("pcap/a.eth0.pcapng");
        std::fs::remove_file(&file).expect("it is there");
        std::os::unix::fs::symlink("/dev/full", &file).expect("a link can be made");
        record(&mut capture, 0, 9);
        go.send(()).expect("the writer waits");
        let summary = capture.finish(Time::ZERO).wait();
        assert_eq!((summary.recorded, summary.unrecorded), (0, 9));
        let why = summary.failed.expect("it failed");
        assert!(why.contains("a.eth0.pcapng") && why.contains("No space left"), "{why}");
    }

    #[test]
    fn the_files_of_an_earlier_capture_are_not_written_over() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        Recorder::create(folder.path(), &networks()).expect("an empty folder");
        let again = Recorder::create(folder.path(), &networks()).expect_err("the files are there");
        assert!(again.to_string().contains("make the file") && again.path.ends_with("a.eth0.pcapng"), "{again:?}");
    }
}

//! The thread that writes captures: one pcapng file an interface.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender};

use link::{Cause, Within};
use machine::Time;
use thiserror::Error;

use super::capture::{Batch, CaptureSummary, Entry, Remark, Unusual};
use super::ethernet::HEADER;
use super::pcapng::{self, Interface, Packet, Statistics};
use super::segment::VNET;
use super::{NetworkConfig, PortConfig};
use crate::clock;

/// Why a capture could not be begun.
#[derive(Debug, Error)]
#[error("{action} {}", path.display())]
pub struct CaptureError {
    /// What was tried.
    pub action: &'static str,
    /// On which path.
    pub path: PathBuf,
    /// What the system said.
    pub source: io::Error,
}

/// A file's blocks are collected up to here. Files are opened for each write, so that a thousand of them do not take a
/// thousand descriptors.
const COLLECT: usize = 32 << 10;

/// Everything that the thread holds.
#[derive(Debug)]
pub(super) struct Recorder {
    files: Vec<Recording>,
    /// Nanoseconds from the relay's clock to 1970. Read once, so that differences of times are exact however somebody sets
    /// the machine's clock meanwhile.
    pub(super) epoch: u64,
    failed: Option<String>,
}

/// One interface's file.
#[derive(Debug)]
struct Recording {
    path: PathBuf,
    /// Whole blocks that are not written yet.
    blocks: Vec<u8>,
    /// Packets in them.
    waiting: u64,
    recorded: u64,
    seen: u64,
    unrecorded: u64,
    began: u64,
}

impl Recorder {
    /// Makes a file for each port.
    pub(super) fn create(folder: &Path, networks: &[NetworkConfig]) -> Result<Self, CaptureError> {
        let failed = |action, path: &Path| {
            let path = path.to_owned();
            move |source| CaptureError { action, path, source }
        };
        std::fs::create_dir_all(folder).map_err(failed("make the folder", folder))?;
        let (now, realtime) = (clock::now(), clock::realtime());
        let epoch = realtime.saturating_sub(now.as_nanos());
        let mut files = Vec::new();
        for network in networks {
            for port in &network.ports {
                let path = folder.join(format!("{}.{}.pcapng", port.label, port.interface));
                let mut file = File::create_new(&path).map_err(failed("make the file", &path))?;
                let mut header = Vec::new();
                pcapng::write_header(&mut header, &interface(network, port));
                file.write_all(&header).map_err(failed("write", &path))?;
                files.push(Recording::new(path, realtime));
            }
        }
        Ok(Recorder { files, epoch, failed: None })
    }

    /// Writes batches until there are no more, and gives them back.
    pub(super) fn run(mut self, batches: &Receiver<Batch>, written: &Sender<Batch>) -> CaptureSummary {
        while let Ok(mut batch) = batches.recv() {
            let mut rest = &batch.bytes[..];
            for entry in &batch.entries {
                let (packet, others) = rest.split_at(entry.length);
                self.take(entry, packet);
                rest = others;
            }
            batch.entries.clear();
            batch.bytes.clear();
            // The relay may have ended.
            let _gone = written.send(batch);
        }
        self.finish()
    }

    fn take(&mut self, entry: &Entry, packet: &[u8]) {
        let Recorder { files, epoch, failed } = self;
        let file = &mut files[entry.slot];
        file.seen += entry.missing;
        file.unrecorded += entry.missing;
        let Some(frame) = packet.get(VNET..) else { return };
        file.seen += 1;
        if failed.is_some() {
            file.unrecorded += 1;
            return;
        }
        file.waiting += 1;
        let comments = comments(&entry.remark, packet);
        let packet = Packet {
            at: since_1970(*epoch, entry.at),
            direction: entry.direction,
            id: entry.id,
            missing: entry.missing,
            comments: &comments,
            frame,
        };
        pcapng::write_packet(&mut file.blocks, &packet);
        if file.blocks.len() >= COLLECT {
            file.write(failed);
        }
    }

    fn finish(mut self) -> CaptureSummary {
        let ended = since_1970(self.epoch, clock::now());
        for file in &mut self.files {
            let Recording { began, seen, unrecorded, .. } = *file;
            pcapng::write_statistics(&mut file.blocks, &Statistics { began, ended, seen, unrecorded });
            file.write(&mut self.failed);
        }
        CaptureSummary {
            files: self.files.len(),
            recorded: self.files.iter().map(|file| file.recorded).sum(),
            unrecorded: self.files.iter().map(|file| file.unrecorded).sum(),
            failed: self.failed,
            ended: Time::ZERO,
        }
    }
}

impl Recording {
    fn new(path: PathBuf, began: u64) -> Self {
        Recording { path, blocks: Vec::new(), waiting: 0, recorded: 0, seen: 0, unrecorded: 0, began }
    }

    fn write(&mut self, failed: &mut Option<String>) {
        if failed.is_none() {
            let opened = OpenOptions::new().append(true).open(&self.path);
            let written = opened.and_then(|mut file| file.write_all(&self.blocks));
            *failed = written.err().map(|error| format!("{}: {error}", self.path.display()));
        }
        let counter = if failed.is_none() { &mut self.recorded } else { &mut self.unrecorded };
        *counter += std::mem::take(&mut self.waiting);
        self.blocks.clear();
    }
}

fn since_1970(epoch: u64, at: Time) -> u64 {
    epoch.saturating_add(at.as_nanos())
}

fn interface<'a>(network: &NetworkConfig, port: &'a PortConfig) -> Interface<'a> {
    Interface {
        name: &port.interface,
        description: format!("{} on network {}, recorded by the relay at the model's times", port.label, network.name),
        mac: port.mac,
        addresses: &port.addresses,
    }
}

/// What is said of a packet, one fact a comment.
fn comments(remark: &Remark, packet: &[u8]) -> Vec<String> {
    let mut comments = Vec::new();
    comments.extend(remark.fate.map(|fate| match fate {
        Unusual::Dropped(cause, within) => {
            let cause = match cause {
                Cause::Loss => "loss",
                Cause::Queue => "queue",
                Cause::Partition => "partition",
                Cause::Cut => "cut",
                Cause::Overflow => "overflow",
            };
            let within = match within {
                Within::Up => "up",
                Within::Pair(_) => "pair",
                Within::Down(_) => "down",
            };
            format!("dropped: {cause} ({within})")
        }
        Unusual::UnknownDestination => "dropped: unknown destination".to_owned(),
        Unusual::ForeignSource => "dropped: foreign source".to_owned(),
        Unusual::Neighbour => "answered by the relay".to_owned(),
    }));
    if remark.is_copy {
        comments.push("duplicate".to_owned());
    }
    let body = packet.len().saturating_sub(VNET + HEADER) as u32 * 8;
    comments.extend(remark.flips.iter().filter_map(|flip| flip.of(body)).map(|bit| {
        let bit = HEADER as u32 * 8 + bit;
        format!("corrupted: bit {} of byte {}", bit % 8, bit / 8)
    }));
    comments
}

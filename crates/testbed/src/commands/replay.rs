//! `testbed replay`: every packet of a recorded run, decided again by the model.

use std::fs::{self, File};
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use event::{Record, RecordedPort, Verdict, run_directory as names};
use replay::{Recorded, ReplayError};

use crate::cli::{Format, ReplayArguments};
use crate::status::{BadInput, Status};

pub(crate) fn replay(arguments: &ReplayArguments) -> anyhow::Result<Status> {
    let run = &arguments.run;
    let log = run.join(names::EVENTS);
    let text = read_log(&log).map_err(|error| BadInput(format!("cannot read {}: {error}", log.display())))?;
    let text = String::from_utf8_lossy(&text);
    let records = text.lines().filter_map(|line| Record::from_line(line).ok());
    let recorded = Recorded::from_records(records);
    let recorded = recorded.map_err(|why| BadInput(format!("{} cannot be replayed: {why}", run.display())))?;
    let open = |port: &RecordedPort| Reopened::open(names::capture(run, &port.node, &port.interface));
    let networks = replay::replay(&recorded, open).map_err(|error| wrong(run, error))?;
    match arguments.format {
        Format::Human => {
            let colour = report::Output::of_stdout(false).has_colour();
            report::say(&report::replay::replay_table(&recorded, &networks, colour));
        }
        Format::Json => report::say(&format!("{:#}\n", report::replay::replay_json(&recorded, &networks))),
    }
    let alike = report::replay::is_alike(&networks);
    Ok(if alike { Status::OK } else { Status::Judged(Verdict::Fail) })
}

/// Whatever keeps a run from being replayed is in what the user named.
fn wrong(run: &Path, error: ReplayError) -> anyhow::Error {
    let mut words = format!("{} cannot be replayed: {error}", run.display());
    let mut source = std::error::Error::source(&error);
    while let Some(cause) = source {
        words.push_str(&format!(": {cause}"));
        source = cause.source();
    }
    BadInput(words).into()
}

/// A pipe would be waited for, and a device has no end.
fn read_log(path: &Path) -> io::Result<Vec<u8>> {
    if !fs::metadata(path)?.is_file() {
        return Err(io::Error::other("it is no ordinary file"));
    }
    fs::read(path)
}

/// A file that is open only while it is read: a thousand captures would take a thousand descriptors.
struct Reopened {
    path: PathBuf,
    read: u64,
}

/// How much is read at once.
const BLOCK: usize = 64 << 10;

impl Reopened {
    fn open(path: PathBuf) -> io::Result<BufReader<Self>> {
        if !fs::metadata(&path)?.is_file() {
            return Err(io::Error::other("it is no ordinary file"));
        }
        Ok(BufReader::with_capacity(BLOCK, Reopened { path, read: 0 }))
    }
}

impl Read for Reopened {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let mut file = File::open(&self.path)?;
        file.seek(SeekFrom::Start(self.read))?;
        let count = file.read(bytes)?;
        self.read += count as u64;
        Ok(count)
    }
}

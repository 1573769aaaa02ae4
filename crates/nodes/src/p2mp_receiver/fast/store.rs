//! The files of one session on the disk: opened, with what an earlier run left of them.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use fetch::Boot;
use fetch::journal::Writer;
use nix::sys::eventfd::EventFd;
use p2mp::fast::{Identity, Layout, Manifest, MemberId};

use super::blocks::{Blocks, Part};
use super::compare::Comparer;
use super::journal::{self, Earlier, Subject};
use super::sync::Journal;
use super::worker::{Source, Work, WorkError, Worker};
use crate::downloader::disk::{DiskError, begin_journal, reserve};
use crate::downloader::place::{Existing, Place, beside, boot, sync_files, sync_folder};

/// What is to be opened.
pub(super) struct Request {
    /// Of each file of the manifest.
    pub(super) paths: Vec<PathBuf>,
    pub(super) manifest: Arc<Manifest>,
    pub(super) layout: Arc<Layout>,
    pub(super) identity: Identity,
    pub(super) member: MemberId,
    /// Whether what is under the final names may be replaced in the end.
    pub(super) overwrite: bool,
}

/// Open files.
#[derive(Debug)]
pub(super) struct Store {
    pub(super) blocks: Blocks,
    pub(super) worker: Worker,
    /// Where files may be replaced that are perhaps those that are sent.
    pub(super) comparer: Option<Comparer>,
}

impl Store {
    /// Opens all files, or none. Also tells which blocks are there already.
    pub(super) fn open(request: &Request, wake: Arc<EventFd>) -> Result<(Self, Vec<u32>), WorkError> {
        let boot = boot();
        let (mut held, mut parts, mut files) = (Vec::new(), Vec::new(), Vec::<Work>::new());
        let (mut drafts, mut there) = (Drafts::default(), Vec::new());
        for (index, path) in request.paths.iter().enumerate() {
            let (work, part) = match request.open(index, path, boot, &mut drafts) {
                Ok(opened) => opened,
                Err(error) => {
                    files.into_iter().for_each(Work::leave);
                    return Err(error);
                }
            };
            let whole = work.whole.iter().zip(work.first_block..).filter(|(whole, _)| **whole);
            held.extend(whole.map(|(_, block)| block));
            there.push(if request.overwrite { lies_there(path, work.length) } else { None });
            parts.push(part);
            files.push(work);
        }
        if let Err(error) = drafts.publish() {
            files.into_iter().for_each(Work::leave);
            return Err(error.into());
        }
        let failed = |source| DiskError::Io { doing: "start a thread for", path: request.paths[0].clone(), source };
        let worker = Worker::start(Arc::clone(&request.layout), files, Arc::clone(&wake)).map_err(failed)?;
        let any = there.iter().any(Option::is_some);
        let comparer = any.then(|| Comparer::start(there, wake).map_err(failed)).transpose()?;
        let blocks = Blocks::new(Arc::clone(&request.layout), parts);
        Ok((Store { blocks, worker, comparer }, held))
    }
}

impl Request {
    fn open(
        &self,
        index: usize,
        path: &Path,
        boot: Boot,
        drafts: &mut Drafts,
    ) -> Result<(Work, Option<Part>), WorkError> {
        let length = self.manifest.files()[index].length;
        let blocks = self.layout.blocks_of(index);
        let first_block = blocks.start;
        if let (false, Some(file)) = (self.overwrite, lies_there(path, length)) {
            let source = Source::Present { file, path: path.to_owned() };
            return Ok((Work { length, source, first_block, whole: vec![true; blocks.len()] }, None));
        }
        let existing = if self.overwrite { Existing::Replace } else { Existing::Continue };
        let (place, remains) = Place::prepare(path, existing)?;
        let replaces = remains.as_ref().is_some_and(|remains| !remains.journal.is_empty());
        let earlier = remains.map_or(Earlier::Nothing, |remains| {
            let journal = journal::read(&remains.journal, self.identity, &self.manifest, &self.layout, index, boot);
            // What was cut off behind is not there.
            match journal {
                Earlier::Blocks(held) => {
                    Earlier::Blocks(held.into_iter().filter(|index| self.ends(*index) <= remains.part_length).collect())
                }
                other => other,
            }
        });
        let held = match earlier {
            Earlier::Foreign if !self.overwrite => {
                return Err(WorkError::Foreign { path: place.part_path().to_owned() });
            }
            Earlier::Another if !self.overwrite => {
                return Err(WorkError::Unfinished { path: place.part_path().to_owned() });
            }
            Earlier::Foreign | Earlier::Another | Earlier::Nothing => Vec::new(),
            Earlier::Blocks(held) => held,
        };
        match self.make_room(&place, index, length, &held, boot, replaces.then_some(drafts)) {
            Ok((part, journal)) => {
                let mut whole = vec![false; blocks.len()];
                held.iter().for_each(|block| whole[(block - first_block) as usize] = true);
                let source = Source::Part { part: part.clone(), place, journal: journal.map(Box::new) };
                Ok((Work { length, source, first_block, whole }, Some(part)))
            }
            Err(error) => {
                place.leave(false);
                Err(error.into())
            }
        }
    }

    /// Brings the part file to its length, with space as far as can be, and begins its journal.
    fn make_room(
        &self,
        place: &Place,
        index: usize,
        length: u64,
        held: &[u32],
        boot: Boot,
        drafts: Option<&mut Drafts>,
    ) -> Result<(Part, Option<Journal>), DiskError> {
        let failed = |doing, path: &Path| {
            let path = path.to_owned();
            move |source| DiskError::Io { doing, path, source }
        };
        let file = place.part().map_err(failed("open", place.part_path()))?;
        file.set_len(length).map_err(failed("size", place.part_path()))?;
        if length > 0 {
            reserve(&file, length).map_err(failed("reserve space for", place.part_path()))?;
        }
        let journal = self.journal(index, held, boot, place, drafts).map_err(failed("create", place.journal_path()))?;
        Ok((Part { file: Arc::new(file), path: place.part_path().to_owned() }, journal))
    }

    /// Where a block ends in its file.
    fn ends(&self, block: u32) -> u64 {
        self.layout.block(block).map_or(u64::MAX, |block| block.offset + u64::from(block.length))
    }

    /// A new journal that says what of the old one holds today. It takes the place of that with all others, by `drafts`;
    /// where there is none it needs no care.
    fn journal(
        &self,
        index: usize,
        held: &[u32],
        boot: Boot,
        place: &Place,
        drafts: Option<&mut Drafts>,
    ) -> io::Result<Option<Journal>> {
        let subject = Subject { identity: self.identity, payload: self.layout.payload(), member: self.member };
        let length = self.manifest.files()[index].length;
        let Some((writer, bytes)) = journal::begin(subject, &self.layout, index, length, boot) else {
            // Another one's would speak of this file.
            let _ = fs::remove_file(place.journal_path());
            return Ok(None);
        };
        let beginning = (writer.clone(), bytes.to_vec());
        let (mut writer, mut bytes): (Writer, Vec<u8>) = beginning.clone();
        let pieces = journal::pieces(&self.layout, index, length).expect("as it was begun");
        let first = self.layout.blocks_of(index).start;
        for block in held {
            let piece = pieces.get(block - first).expect("as many pieces as blocks");
            bytes.extend_from_slice(&writer.piece(piece));
        }
        let file = match drafts {
            Some(drafts) => drafts.add(place.journal_path(), &bytes)?,
            None => Arc::new(begin_journal(place.journal_path(), &bytes)?),
        };
        Ok(Some(Journal { file, writer, pieces, recorded: 0, durable: 0, beginning }))
    }
}

/// The file under its final name, if it could be the one.
fn lies_there(path: &Path, length: u64) -> Option<File> {
    let could_be_it = fs::metadata(path).is_ok_and(|found| found.is_file() && found.len() == length);
    // Anything but a file may block whoever opens it.
    could_be_it.then(|| File::open(path).ok()).flatten()
}

/// Journals that are to take the place of an earlier run's, whole or not at all. What those record must not be lost, so the
/// new ones are on the disk before.
#[derive(Default)]
struct Drafts(Vec<(PathBuf, Arc<File>)>);

impl Drafts {
    fn add(&mut self, journal: &Path, content: &[u8]) -> io::Result<Arc<File>> {
        let file = Arc::new(begin_journal(&draft(journal), content)?);
        self.0.push((journal.to_owned(), Arc::clone(&file)));
        Ok(file)
    }

    fn publish(&self) -> Result<(), DiskError> {
        let Drafts(journals) = self;
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| DiskError::Io { doing: "replace", path, source }
        };
        // Links may lead to files in other folders.
        let folders: BTreeMap<_, _> = journals.iter().map(|(path, _)| (path.parent(), path)).collect();
        let files: Vec<(&Path, &File)> = journals.iter().map(|(path, file)| (&**path, &**file)).collect();
        sync_files(&files).map_err(|(path, error)| failed(&path)(error))?;
        journals.iter().try_for_each(|(path, _)| fs::rename(draft(path), path).map_err(failed(path)))?;
        folders.values().try_for_each(|path| sync_folder(path).map_err(failed(path)))
    }
}

fn draft(journal: &Path) -> PathBuf {
    beside(journal, ".new")
}

#[cfg(test)]
mod tests {
    use nix::sys::eventfd::EfdFlags;
    use p2mp::fast::FileEntry;

    use super::super::worker::Job;
    use super::*;

    #[test]
    fn what_was_whole_is_there_again_however_often_many_files_are_opened() {
        let folder = tempfile::tempdir().unwrap();
        // More than are synced singly, of two blocks each.
        let names: Vec<_> = (0..16).map(|file| format!("file-{file}")).collect();
        let files = names.iter().map(|name| FileEntry::new(name, 512 * 1030)).collect();
        let manifest = Arc::new(Manifest::new(files).unwrap());
        let layout = Arc::new(Layout::new(&manifest, 512).unwrap());
        let request = Request {
            paths: names.iter().map(|name| folder.path().join(name)).collect(),
            layout: Arc::clone(&layout),
            identity: Identity([7; 16]),
            member: MemberId(1),
            overwrite: false,
            manifest,
        };
        let wake = Arc::new(EventFd::from_flags(EfdFlags::EFD_NONBLOCK).unwrap());
        let (store, held) = Store::open(&request, Arc::clone(&wake)).unwrap();
        assert!(held.is_empty());
        let seconds: Vec<u32> = (0..names.len()).map(|file| layout.blocks_of(file).start + 1).collect();
        for block in seconds.iter().map(|index| layout.block(*index).unwrap()) {
            store.worker.give(Job::Whole { block, holds: None });
        }
        drop(store);
        for _ in 0..2 {
            assert_eq!(Store::open(&request, Arc::clone(&wake)).unwrap().1, seconds);
        }
        let is_draft = |entry: fs::DirEntry| entry.file_name().to_string_lossy().ends_with(".new");
        assert!(!fs::read_dir(folder.path()).unwrap().any(|entry| is_draft(entry.unwrap())));
    }
}

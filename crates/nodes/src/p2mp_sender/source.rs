//! The file that is sent, segment by segment.

use std::path::{Path, PathBuf};

use p2mp::classic::{Dialect, text};

use super::sent_file::{SentFile, SentFileError};

/// Looked through at once, in bytes.
const LOOK: usize = 1 << 20;

/// A file open for sending. Its length is that when it was opened.
#[derive(Debug)]
pub(super) struct Source {
    file: SentFile,
    length: u64,
}

/// Why a file cannot be sent.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// As no file can be.
    #[error(transparent)]
    File(#[from] SentFileError),
    /// The text dialect's own program would cut the data there.
    #[error("{} holds `###` at byte {offset}, which the text dialect cannot carry", path.display())]
    Separator {
        /// The file.
        path: PathBuf,
        /// Where.
        offset: u64,
    },
}

impl Source {
    pub(super) fn open(path: &Path) -> Result<Self, SourceError> {
        let (file, metadata) = SentFile::open(path)?;
        Ok(Source { file, length: metadata.len() })
    }

    pub(super) fn length(&self) -> u64 {
        self.length
    }

    /// Writes the segment of `length` bytes at `sequence` to the end of `datagram`; `data` is room to read it into.
    pub(super) fn encode(
        &self,
        dialect: Dialect,
        sequence: u32,
        length: u32,
        data: &mut Vec<u8>,
        datagram: &mut Vec<u8>,
    ) -> Result<(), SourceError> {
        data.resize(length as usize, 0);
        self.file.read(data, u64::from(sequence))?;
        dialect.write_segment(sequence, data, datagram);
        Ok(())
    }

    /// Looks through the whole file, whether the program of the text dialect could take segments of `mss` bytes of it.
    pub(super) fn ensure_text_can_carry(&self, mss: u32) -> Result<(), SourceError> {
        let mss = mss as usize;
        let mut data = vec![0; LOOK.max(mss) / mss * mss];
        let mut offset = 0;
        while offset < self.length {
            let length = usize::try_from(self.length - offset).map_or(data.len(), |left| left.min(data.len()));
            let data = &mut data[..length];
            self.file.read(data, offset)?;
            if let Some(at) = data.chunks(mss).position(|segment| !text::is_within_its_means(segment)) {
                let segment = &data[at * mss..][..mss.min(length - at * mss)];
                let within = segment.windows(text::SEPARATOR.len()).position(|window| window == text::SEPARATOR);
                let offset = offset + (at * mss + within.unwrap_or(0)) as u64;
                return Err(SourceError::Separator { path: self.file.path().to_owned(), offset });
            }
            offset += length as u64;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn separators_are_found_within_segments_only() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("f");
        let says = |content: &[u8], mss| {
            std::fs::write(&path, content).unwrap();
            Source::open(&path).unwrap().ensure_text_can_carry(mss).map_err(|error| error.to_string())
        };
        assert!(says(b"abc###def", 5).is_ok(), "the segments are `abc##` and `#def`");
        assert!(
            says(b"abc###def", 9).unwrap_err().ends_with("holds `###` at byte 3, which the text dialect cannot carry")
        );
        // The last of many segments, beyond what is looked through at once.
        let mut long = vec![b'x'; 3 << 20];
        long.extend_from_slice(b"####");
        assert!(says(&long, 1000).unwrap_err().contains("at byte 3145728,"));
        assert!(says(b"", 1).is_ok());
    }

    #[test]
    fn what_is_no_file_is_refused() {
        assert!(matches!(Source::open(Path::new("/")), Err(SourceError::File(SentFileError::NotAFile { .. }))));
        assert!(matches!(Source::open(Path::new("/dev/null")), Err(SourceError::File(SentFileError::NotAFile { .. }))));
        let error = Source::open(Path::new("/nowhere/at/all")).unwrap_err();
        assert_eq!(error.to_string(), "cannot open /nowhere/at/all");
    }
}

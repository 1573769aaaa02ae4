//! Which files a session carries.

use std::fmt;

/// The most files of a session.
pub const MOST_FILES: usize = 4096;

/// The longest name of a file, in bytes of UTF-8: what file systems take.
pub const LONGEST_NAME: usize = 255;

/// What a transfer is known by, whoever sends it: drawn from the names, lengths and ages of its files. Two sessions with
/// the same identity and lengths carry the same files, as far as one can tell without reading them; BLAKE3 over each whole
/// file decides in the end.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Identity(pub [u8; 16]);

/// The files of a session, at least one, with names that differ.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    files: Vec<FileEntry>,
}

/// One file of a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileEntry {
    /// Its name, as the sender says it: safe as a plain file name by construction of [`Manifest`].
    pub name: String,
    /// Its length in bytes.
    pub length: u64,
    /// BLAKE3 over the whole, once the sender knows it.
    pub digest: Option<[u8; 32]>,
}

/// Why a list of files is none that a receiver takes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ManifestError {
    /// Too few or too many.
    #[error("a session carries 1 to {MOST_FILES} files, not {0}")]
    Count(usize),
    /// Could lead out of the receiver's folder, or is no name at all.
    #[error("`{0}` is not the plain name of a file")]
    Name(String),
    /// Two files would be one.
    #[error("`{0}` is named twice")]
    Twice(String),
}

impl FileEntry {
    /// A file whose digest is not known yet.
    pub fn new(name: &str, length: u64) -> Self {
        FileEntry { name: name.to_owned(), length, digest: None }
    }
}

impl Manifest {
    /// Checks names and their number.
    ///
    /// # Errors
    /// When a name could be anything but one file in one folder, or there are too many or none.
    pub fn new(files: Vec<FileEntry>) -> Result<Self, ManifestError> {
        if files.is_empty() || files.len() > MOST_FILES {
            return Err(ManifestError::Count(files.len()));
        }
        if let Some(wrong) = files.iter().find(|file| !is_plain(&file.name)) {
            return Err(ManifestError::Name(shown(&wrong.name)));
        }
        let mut names: Vec<_> = files.iter().map(|file| file.name.as_str()).collect();
        names.sort_unstable();
        if let Some(pair) = names.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(ManifestError::Twice(shown(pair[0])));
        }
        Ok(Manifest { files })
    }

    /// The files, in their order.
    pub fn files(&self) -> &[FileEntry] {
        &self.files
    }

    /// Bytes of all files.
    pub fn length(&self) -> u64 {
        self.files.iter().fold(0, |sum, file| file.length.saturating_add(sum))
    }

    /// Notes the digest of a file. One that is known already stays.
    pub fn set_digest(&mut self, file: usize, digest: [u8; 32]) {
        if let Some(file) = self.files.get_mut(file) {
            file.digest.get_or_insert(digest);
        }
    }

    /// Whether `other` lists the same files; digests that only one of them knows do not count.
    pub fn agrees_with(&self, other: &Manifest) -> bool {
        let same = |(own, other): (&FileEntry, &FileEntry)| {
            own.name == other.name
                && own.length == other.length
                && own.digest.zip(other.digest).is_none_or(|(own, other)| own == other)
        };
        self.files.len() == other.files.len() && self.files.iter().zip(&other.files).all(same)
    }
}

/// Neither empty, hidden, nor leading anywhere, on any system.
fn is_plain(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= LONGEST_NAME
        && !name.starts_with('.')
        && !name.chars().any(|letter| letter.is_control() || matches!(letter, '/' | '\\'))
}

/// A name from the network, fit for a message.
fn shown(name: &str) -> String {
    name.chars().take(80).flat_map(char::escape_debug).collect()
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_lead_elsewhere_are_refused() {
        for name in ["", ".", "..", ".profile", "a/b", "/etc/passwd", "..\\x", "a\0b", "a\nb", &"x".repeat(256)] {
            let refused = Manifest::new(vec![FileEntry::new(name, 1)]);
            assert!(matches!(refused, Err(ManifestError::Name(_))), "{name:?}");
        }
        for name in ["film.mp4", "a b", "Ärger.txt", "x..y", "-rf", &"x".repeat(255)] {
            assert!(Manifest::new(vec![FileEntry::new(name, 1)]).is_ok(), "{name:?}");
        }
    }

    #[test]
    fn two_files_are_not_one() {
        let twice = Manifest::new(vec![FileEntry::new("a", 1), FileEntry::new("b", 1), FileEntry::new("a", 2)]);
        assert_eq!(twice, Err(ManifestError::Twice("a".into())));
        assert_eq!(Manifest::new(Vec::new()), Err(ManifestError::Count(0)));
    }
}

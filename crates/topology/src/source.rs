//! The text of a topology file, and the places in it that messages point to.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use machine::Size;
use serde::Serialize;

use crate::diagnostic::{Diagnostic, Diagnostics, Location};

/// A larger file is refused: 1 MiB.
pub const MAX_FILE_BYTES: usize = 1 << 20;

/// A topology file's text, and the name that messages give it. The caller reads the file, and those that it names; this
/// crate never does.
#[derive(Clone, Debug)]
pub struct Source {
    name: String,
    text: String,
    /// Where each line begins, in bytes.
    lines: Vec<usize>,
    /// Where it is: what it names is beside it.
    folder: PathBuf,
    files: Option<Files>,
}

/// Reads the file of this path, so many bytes of it at most and one more if there are more; else
/// says why not.
type Read = dyn Fn(&Path, Size) -> Result<Vec<u8>, String> + Send + Sync;

#[derive(Clone)]
struct Files(Arc<Read>);

impl fmt::Debug for Files {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Files")
    }
}

impl Source {
    /// A file that was read as text already.
    pub fn new(name: impl Into<String>, text: impl Into<String>) -> Source {
        let text = text.into();
        let lines = std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect();
        Source { name: name.into(), text, lines, folder: PathBuf::new(), files: None }
    }

    /// With the files in its folder: `read` is given a path and how many bytes to read at most; of a longer file it returns
    /// one more. It says why it cannot.
    #[must_use]
    pub fn with_files(
        self,
        folder: impl Into<PathBuf>,
        read: impl Fn(&Path, Size) -> Result<Vec<u8>, String> + Send + Sync + 'static,
    ) -> Source {
        Source { folder: folder.into(), files: Some(Files(Arc::new(read))), ..self }
    }

    /// Where a file is that the topology names by this path.
    pub(crate) fn path_of(&self, path: &str) -> PathBuf {
        self.folder.join(path)
    }

    /// The beginning of a file beside it, or why there is none.
    pub(crate) fn beside(&self, path: &str, at_most: Size) -> Result<Vec<u8>, String> {
        match &self.files {
            Some(Files(read)) => read(&self.path_of(path), at_most),
            None => Err("the topology was given without files".to_owned()),
        }
    }

    /// A file's bytes as they were read.
    ///
    /// # Errors
    ///
    /// When they are more than [`MAX_FILE_BYTES`] or not UTF-8.
    pub fn from_bytes(name: impl Into<String>, bytes: &[u8]) -> Result<Source, Diagnostics> {
        let name = name.into();
        // Some editors begin every file with a byte order mark, which UTF-8 does not need.
        let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
        if bytes.len() > MAX_FILE_BYTES {
            return Err(too_large(&name));
        }
        match std::str::from_utf8(bytes) {
            Ok(text) => Ok(Source::new(name, text)),
            Err(error) => {
                let valid = String::from_utf8_lossy(&bytes[..error.valid_up_to()]).into_owned();
                let line = valid.matches('\n').count() + 1;
                let column = valid.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
                let source = Source::new(name, String::from_utf8_lossy(bytes));
                let place = Place::File { line: line as u32, column: column as u32, length: 1 };
                let message = format!("byte 0x{:02x} is not UTF-8", bytes[error.valid_up_to()]);
                Err(Diagnostic::invalid(message, source.location(place)).into())
            }
        }
    }

    /// As messages name it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// All of it.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Refuses what no YAML reader should be given: too much, and control characters, which an editor does not show.
    pub(crate) fn check(&self) -> Result<(), Diagnostics> {
        if self.text.len() > MAX_FILE_BYTES {
            return Err(too_large(&self.name));
        }
        for (index, line) in self.text.split('\n').enumerate() {
            let forbidden = |c: char| c.is_control() && !matches!(c, '\t' | '\r');
            if let Some((column, found)) = line.chars().enumerate().find(|(_, c)| forbidden(*c)) {
                let place = Place::File { line: index as u32 + 1, column: column as u32 + 1, length: 1 };
                let message = format!("control character U+{:04X} in the file", u32::from(found));
                return Err(Diagnostic::invalid(message, self.location(place)).into());
            }
        }
        Ok(())
    }

    /// What a message shows of a place.
    pub(crate) fn location(&self, place: Place) -> Location {
        match place {
            Place::File { line, column, length } => Location::File {
                file: self.name.clone(),
                line: line as usize,
                column: column as usize,
                length: length as usize,
                excerpt: self.line(line).to_owned(),
            },
            Place::Setting(_) | Place::Whole => Location::Whole { file: self.name.clone() },
        }
    }

    /// The place of the first `word` inside `place`, or `place` itself where it is not found literally.
    pub(crate) fn narrow(&self, place: Place, word: &str) -> Place {
        let Place::File { line, column, length } = place else { return place };
        let written: String = self.line(line).chars().skip(column as usize - 1).take(length as usize).collect();
        match written.find(word) {
            Some(start) if !word.is_empty() => {
                let skipped = written[..start].chars().count() as u32;
                Place::File { line, column: column + skipped, length: word.chars().count() as u32 }
            }
            _ => place,
        }
    }

    fn line(&self, line: u32) -> &str {
        let start = self.lines.get(line as usize - 1).copied().unwrap_or(self.text.len());
        self.text[start..].split('\n').next().unwrap_or_default().trim_end_matches('\r')
    }
}

/// How large it is nobody has looked: it is not read any further.
fn too_large(name: &str) -> Diagnostics {
    let message = format!("the file is too large; a topology has at most {}", Size::from_bytes(MAX_FILE_BYTES as u64));
    Diagnostic::invalid(message, Location::Whole { file: name.to_owned() }).into()
}

/// Where something was written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) enum Place {
    /// In the file. Line and column count from 1, in characters; the length is of the word.
    File {
        /// Invariant: at least 1.
        line: u32,
        /// Invariant: at least 1.
        column: u32,
        /// At least 1 for a caret to be seen.
        length: u32,
    },
    /// In the setting of this index.
    Setting(u32),
    /// The file as a whole.
    #[default]
    Whole,
}

//! All reports into a run directory, under the names of [`event::run_directory`].

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use event::{RunState, run_directory};

use crate::{junit, markdown, result_json};

/// A report could not be written.
#[derive(Debug, thiserror::Error)]
#[error("failed to write `{}`", file.display())]
pub struct WriteError {
    /// The file.
    pub file: PathBuf,
    /// What the system said.
    pub source: io::Error,
}

/// Writes `result.json`, `junit.xml` and `summary.md` into `directory`, which exists. Each appears whole or not at
/// all, so that a program that waits for one may read it as soon as it is there.
///
/// # Errors
/// The first file that could not be written; the others have been tried nevertheless.
pub fn write_all(state: &RunState, directory: &Path) -> Result<(), WriteError> {
    let result = format!("{:#}\n", result_json(state));
    let files = [
        (run_directory::RESULT, result),
        (run_directory::JUNIT, junit(state)),
        (run_directory::SUMMARY, markdown(state)),
    ];
    files.map(|(name, text)| write_whole(directory, name, &text)).into_iter().collect()
}

pub(crate) fn write_whole(directory: &Path, name: &str, text: &str) -> Result<(), WriteError> {
    let file = directory.join(name);
    let draft = directory.join(format!(".{name}.draft"));
    fs::write(&draft, text).and_then(|()| fs::rename(&draft, &file)).map_err(|source| WriteError { file, source })
}

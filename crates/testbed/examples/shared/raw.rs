//! Each run for programs, beside the table for people.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::Path;

use anyhow::Context as _;
use serde_json::Value;

/// Where every run is told to programs, if anywhere.
pub(crate) struct Raw(Option<File>);

impl Raw {
    /// Appends to a file, one JSON object a line.
    pub(crate) fn append_to(path: Option<&Path>) -> anyhow::Result<Self> {
        let open = |path: &Path| {
            let file = OpenOptions::new().create(true).append(true).open(path);
            file.with_context(|| format!("cannot write {}", path.display()))
        };
        path.map(open).transpose().map(Raw)
    }

    pub(crate) fn tell(&mut self, run: &Value) -> anyhow::Result<()> {
        self.0.as_mut().map_or(Ok(()), |file| writeln!(file, "{run}")).context("cannot write the raw results")
    }
}

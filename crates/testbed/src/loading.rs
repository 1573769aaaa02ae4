//! Topology files to plans, with messages for people.

use std::fs::File;
use std::io::{IsTerminal, Read};
use std::path::Path;

use anyhow::Context;
use machine::Seed;
use topology::diagnostic::Colour;
use topology::{Diagnostics, Overrides, Plan, Source};

use crate::cli::Variation;
use crate::status::{BadInput, Status};

/// The largest topology file that is read.
const LARGEST: u64 = 1 << 20;

/// The plan of a file; or the status to return, when its diagnostics have been printed.
pub(crate) fn load(path: &Path, variation: &Variation, drawn: Seed) -> anyhow::Result<Result<Plan, Status>> {
    let bytes = read(path).map_err(|error| BadInput(format!("cannot read {}: {error}", path.display())))?;
    let overrides = Overrides { seed: variation.seed, drawn_seed: drawn, set: variation.settings.clone() };
    let loaded =
        Source::from_bytes(path.display().to_string(), &bytes).and_then(|source| topology::load(&source, &overrides));
    match loaded {
        Ok(plan) => Ok(Ok(plan)),
        Err(diagnostics) => Ok(Err(print(&diagnostics))),
    }
}

fn read(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    // One byte more than is allowed tells that there is more.
    File::open(path)?.take(LARGEST + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn print(diagnostics: &Diagnostics) -> Status {
    let terminal = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let colour = if terminal { Colour::Ansi } else { Colour::Plain };
    eprint!("{}", diagnostics.render(colour));
    if diagnostics.is_only_not_yet() { Status::Unable } else { Status::BadInput }
}

/// A seed nobody has chosen; short enough to be typed again.
pub(crate) fn draw_seed() -> anyhow::Result<Seed> {
    let mut bytes = [0; 4];
    File::open("/dev/urandom").and_then(|mut random| random.read_exact(&mut bytes)).context("cannot draw a seed")?;
    Ok(Seed::new(u64::from(u32::from_le_bytes(bytes))))
}

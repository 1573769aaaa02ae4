//! Topology files to plans, with messages for people.

use std::fs::File;
use std::io::{IsTerminal, Read};
use std::path::Path;

use anyhow::Context;
use machine::{Seed, Size};
use topology::diagnostic::Colour;
use topology::plan::Network;
use topology::{Diagnostics, Overrides, Plan, Source, Sweep};

use crate::cli::{Engine, Variation};
use crate::status::{BadInput, Status};

/// The largest topology file that is read.
const LARGEST: u64 = 1 << 20;

/// The plan of a file, for a run that records its packets if `record`; or the status to return, when its diagnostics have been printed.
pub(crate) fn load(
    path: &Path,
    variation: &Variation,
    drawn: Seed,
    record: bool,
    kernel: Kernel,
) -> anyhow::Result<Result<Plan, Status>> {
    loaded(path, variation, drawn, record, kernel, topology::load, concerns_netem)
}

/// The sweep of a file, whose runs record their packets if `record`, all its points checked; or the status to return.
/// `None` if the file has none.
pub(crate) fn sweep(
    path: &Path,
    variation: &Variation,
    drawn: Seed,
    record: bool,
) -> anyhow::Result<Result<Option<Sweep>, Status>> {
    // Its plans are only looked at; each is loaded again for its run.
    loaded(path, variation, drawn, record, Kernel::Any, topology::sweep, |_| false)
}

/// Whose netem may carry the networks of a plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kernel {
    /// Nobody's: the plan is the same on every machine.
    Any,
    /// This machine's. It is asked only where that matters; until then the calling process must have one thread.
    This,
}

impl Kernel {
    /// That on which this engine carries packets.
    pub(crate) fn of(engine: Engine) -> Kernel {
        if matches!(engine, Engine::Netns | Engine::Docker) { Kernel::This } else { Kernel::Any }
    }
}

fn concerns_netem(plan: &Plan) -> bool {
    plan.networks().iter().any(Network::concerns_netem)
}

fn loaded<T>(
    path: &Path,
    variation: &Variation,
    drawn: Seed,
    record: bool,
    kernel: Kernel,
    load: fn(&Source, &Overrides) -> Result<T, Diagnostics>,
    concerns_netem: fn(&T) -> bool,
) -> anyhow::Result<Result<T, Status>> {
    let bytes = read(path).map_err(|error| BadInput(format!("cannot read {}: {error}", path.display())))?;
    let mut overrides =
        Overrides { seed: variation.seed, set: variation.settings.clone(), record, ..Overrides::new(drawn) };
    let folder = path.parent().unwrap_or(Path::new(""));
    let beside = |path: &Path, at_most| read_beside(path, at_most).map_err(|error| error.to_string());
    let loaded = Source::from_bytes(path.display().to_string(), &bytes).and_then(|source| {
        let source = source.with_files(folder, beside);
        let plan = load(&source, &overrides)?;
        if kernel == Kernel::Any || !concerns_netem(&plan) {
            return Ok(plan);
        }
        overrides.netem = fabric::preflight::netem();
        load(&source, &overrides)
    });
    Ok(loaded.map_err(|diagnostics| print(&diagnostics)))
}

fn read(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    // One byte more than is allowed tells that there is more, behind a byte order mark, too.
    File::open(path)?.take(LARGEST + 4).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// A pipe would be waited for, and a device has no end.
pub(crate) fn read_beside(path: &Path, at_most: Size) -> std::io::Result<Vec<u8>> {
    if !std::fs::metadata(path)?.is_file() {
        return Err(std::io::Error::other("it is no ordinary file"));
    }
    let mut bytes = Vec::new();
    File::open(path)?.take(at_most.as_bytes() + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

pub(crate) fn print(diagnostics: &Diagnostics) -> Status {
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

//! `testbed init`: the init of a container whose network others made.

use std::process::ExitCode;

use anyhow::Context;
use fabric::inline::{Candidate, Driver, Inline, InlineError, Passed};
use link::HalfCounters;
use machine::Seed;
use nodes::init::container::ContainerInit;
use topology::plan::Medium;
use topology::{Overrides, Shape};

use crate::cli::InitArguments;
use crate::loading;
use crate::status::{BadInput, Status};

/// How large a share of the memory of large machines packets in a link may take, as in a run.
const MEMORY: machine::Size = fabric::relay::RelayConfig::DEFAULT_MEMORY;

pub(crate) fn init(arguments: &InitArguments) -> ExitCode {
    match live(arguments) {
        Ok(Ok(code)) => ExitCode::from(code),
        Ok(Err(status)) => status.into(),
        Err(error) => {
            eprintln!("error: {error:#}");
            Status::from_error(&error).into()
        }
    }
}

/// The exit status of the program; or that of an init that could not start it, when that was told.
fn live(arguments: &InitArguments) -> anyhow::Result<Result<u8, Status>> {
    let own = ContainerInit::prepare().context("cannot wait for signals")?;
    let seed = match arguments.seed {
        Some(seed) => seed,
        None => loading::draw_seed()?,
    };
    for (path, size) in &arguments.make_file {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        conductor::files::make(path, &name, *size, seed).with_context(|| format!("cannot write {}", path.display()))?;
    }
    let mut shaped = match shape(arguments, seed)? {
        Ok(shaped) => shaped,
        Err(status) => return Ok(Err(status)),
    };
    let ended = match own.run(&arguments.program, arguments.user) {
        Ok(status) => status,
        Err(error) => {
            let status = error.status();
            eprintln!("error: {:#}", anyhow::Error::from(error));
            status
        }
    };
    if let Some((name, inline)) = &mut shaped {
        tell_what_passed(name, inline);
    }
    Ok(Ok(ended))
}

/// The impaired interface and its name, if anything is to be impaired.
fn shape(arguments: &InitArguments, seed: Seed) -> anyhow::Result<Result<Option<(String, Inline)>, Status>> {
    let read = |overrides: &Overrides| {
        topology::shape(&arguments.shape, &arguments.shaper, overrides, |source| {
            source
                .with_files("", |path, at_most| loading::read_beside(path, at_most).map_err(|error| error.to_string()))
        })
    };
    let mut overrides = Overrides::new(seed);
    let wanted = match read(&overrides) {
        Ok(wanted) => wanted,
        Err(diagnostics) => return Ok(Err(loading::print(&diagnostics))),
    };
    if wanted.medium == Medium::Bridge {
        return Ok(Ok(None));
    }
    let interface = arguments.interface.as_deref().filter(|name| !name.is_empty());
    let mut candidate = Candidate::find(interface).map_err(explained)?;
    overrides.netem = candidate.netem();
    let Shape { profile, medium, .. } = match read(&overrides) {
        Ok(shape) => shape,
        Err(diagnostics) => return Ok(Err(loading::print(&diagnostics))),
    };
    let driver = if medium == Medium::Netem { Driver::Netem } else { Driver::Relay };
    let name = candidate.name().to_owned();
    let host = nix::unistd::gethostname().unwrap_or_default();
    // Containers that are alike must not lose the same packets.
    let label = host.to_string_lossy();
    let inline = candidate.shape(driver, &profile, &label, seed, MEMORY).map_err(explained)?;
    let by = if driver == Driver::Netem { "netem" } else { "the relay" };
    eprintln!("testbed: {name} is shaped by {by}: {}; seed {seed}", arguments.shape.trim());
    Ok(Ok(Some((name, inline))))
}

/// What to do about an error, behind it.
fn explained(error: InlineError) -> anyhow::Error {
    let remedy = match &error {
        InlineError::Capability { is_ordinary_user: true, .. } => {
            "capabilities that a container is given have no effect for an ordinary user: start it as root (docker run \
             --user 0, compose `user: \"0\"`), and name the program's user with --user"
        }
        InlineError::Capability { .. } => {
            "give them to the container: docker run --cap-add NET_ADMIN --cap-add NET_RAW, or in compose \
             `cap_add: [NET_ADMIN, NET_RAW]`"
        }
        InlineError::Ambiguous { .. } => "SHAPE_INTERFACE or --interface names one, by its name or an address of it",
        InlineError::None => "a container with network `none` has nothing to shape",
        InlineError::Refused { .. } => "`testbed doctor` says what this kernel lacks",
        InlineError::Unknown { .. } => return BadInput(error.to_string()).into(),
        _ => return error.into(),
    };
    anyhow::anyhow!("{error}: {remedy}")
}

fn tell_what_passed(name: &str, inline: &mut Inline) {
    match inline.passed() {
        Ok(Some(Passed::Relay(port, lost))) => {
            let half = |half: &HalfCounters| {
                let dropped = &half.dropped;
                let queued = dropped.queue.packets;
                let lost = dropped.loss.packets;
                format!("{} packets, {lost} lost, {queued} dropped from a full queue", half.offered.packets)
            };
            eprintln!("testbed: {name} sent {}; received {}", half(&port.up), half(&port.down));
            if lost > 0 {
                eprintln!("testbed: the relay itself lost {lost} packets: this machine was too busy for it");
            }
        }
        Ok(Some(Passed::Netem { up, down })) => {
            let half = |work: fabric::QueueWork| format!("{} packets and dropped {}", work.passed, work.drops);
            eprintln!("testbed: netem passed {} that left {name}, {} that reached it", half(up), half(down));
        }
        Ok(None) => {}
        Err(error) => eprintln!("testbed: what passed {name} is not known: {error}"),
    }
}

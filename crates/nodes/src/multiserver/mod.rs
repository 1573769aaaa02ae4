//! `multiserver`: file servers of one file and their check server, each a process of its own, under one console.
//!
//! * `ports`: the ports of the command line, checked before anything starts.
//! * `driver`: the loop between the processes and the console.
//! * `server`: the life of one server, without the process.
//! * `child`: its process.
//! * `console`: the block of states, choices and answers, in words.
//! * `view`: where they are shown: `screen`, a terminal refreshed in place, or plain lines.
//! * `typing`, `editor`: what is typed, and the line that it makes.
//! * `printer`: output that makes nobody wait.

mod child;
mod console;
mod driver;
mod editor;
mod ports;
mod printer;
mod screen;
mod server;
mod typing;
mod view;

use std::io;
use std::net::{IpAddr, Ipv6Addr};
use std::path::PathBuf;

use machine::{Rate, Span};

use crate::downloader::seconds;
use crate::events::EventSink;
use crate::exit::Exit;
use crate::file_server::{self, ContentError};
use crate::http::listen::{ListenArgs, ListenError, connections_that_fit};
pub use ports::PortsError;
use ports::{PortList, Ports};

/// Serves FILE from N servers, each a process of its own, with a check server that tells clients who lives
///
/// On its console 1 to N shuts down or wakes up that server, and -1 quits; the end of the input does not.
#[derive(Debug, clap::Parser)]
#[command(name = "multiserver", version)]
pub struct Args {
    /// Seconds between two status lines
    #[arg(short, long, value_name = "SECONDS", default_value = "1", value_parser = seconds)]
    interval: Span,
    /// How many file servers
    #[arg(short = 'n', long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1000))]
    servers: u16,
    /// The file to serve; a change of it is noticed
    #[arg(short, long, value_name = "FILE")]
    file: PathBuf,
    /// Address of this machine to listen on; without it all of them
    #[arg(short, long, value_name = "ADDR")]
    address: Option<String>,
    /// A port for each file server, and perhaps one more for the check server
    #[arg(short, long, value_name = "PORT", num_args = 1.., required = true, allow_negative_numbers = true)]
    ports: Vec<String>,
    /// Let each file server send no faster than this, such as 50Mbit
    #[arg(long, value_name = "RATE")]
    rate: Option<Rate>,
    /// Exit when a client reports to the check server that it has everything
    #[arg(long)]
    until_done: bool,
}

/// Why nothing was started.
#[derive(Debug, thiserror::Error)]
pub enum MultiserverError {
    /// The list of ports is wrong.
    #[error(transparent)]
    Ports(#[from] PortsError),
    /// A rate of zero would never send a byte.
    #[error("--rate 0 would send nothing")]
    NoRate,
    /// Nobody would say when it is done.
    #[error("--until-done needs a check server: give one port more than servers")]
    NobodyToTell,
    /// Neither an address nor a name of one.
    #[error("`{address}` is no address")]
    NoAddress {
        /// What was typed.
        address: String,
        /// What the resolver says.
        source: io::Error,
    },
    /// The file cannot be served.
    #[error(transparent)]
    Content(#[from] ContentError),
    /// Others listen there.
    #[error("{0} taken")]
    Taken(PortList),
    /// An address of another machine.
    #[error("{0} is not an address of this machine")]
    NotHere(IpAddr),
    /// A port cannot be had for another reason.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// Signals cannot be caught, or no thread be started.
    #[error("cannot {call}")]
    System {
        /// What was tried.
        call: &'static str,
        /// What the kernel says.
        source: io::Error,
    },
}

impl MultiserverError {
    /// Whether the command line makes no sense, rather than this machine refusing it.
    fn is_usage(&self) -> bool {
        use MultiserverError::{NoAddress, NoRate, NobodyToTell, Ports};
        matches!(self, Ports(_) | NoRate | NobodyToTell | NoAddress { .. })
    }
}

/// What was asked for, and is possible.
#[derive(Clone, Debug)]
struct Setup {
    interval: Span,
    file: PathBuf,
    address: IpAddr,
    ports: Ports,
    rate: Option<Rate>,
    until_done: bool,
}

/// Serves until it is told to quit, or with `--until-done` until a client has everything.
pub(crate) async fn run(args: Args, events: EventSink) -> Result<Exit, MultiserverError> {
    match prepare(args).await {
        Ok(setup) => driver::drive(setup, events).await,
        Err(error) if error.is_usage() => {
            let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}")).unwrap_or_default();
            eprintln!("error: {error}{cause}");
            Ok(Exit::Usage)
        }
        Err(error) => Err(error),
    }
}

/// Checks everything that can be checked before anything starts.
async fn prepare(args: Args) -> Result<Setup, MultiserverError> {
    let Args { interval, servers, file, address, ports, rate, until_done } = args;
    let ports = Ports::parse(&ports, servers.into())?;
    if until_done && ports.check.is_none() {
        return Err(MultiserverError::NobodyToTell);
    }
    if rate.is_some_and(|rate| rate.as_bytes_per_sec() == 0) {
        return Err(MultiserverError::NoRate);
    }
    let address = match address {
        Some(address) => resolve(address).await?,
        None => Ipv6Addr::UNSPECIFIED.into(),
    };
    file_server::check(&file)?;
    // Each process takes a few descriptors of this one.
    connections_that_fit(1);
    try_ports(address, &ports)?;
    Ok(Setup { interval, file, address, ports, rate, until_done })
}

/// The address that was typed, or the first of the name that was.
async fn resolve(address: String) -> Result<IpAddr, MultiserverError> {
    if let Ok(address) = address.parse() {
        return Ok(address);
    }
    let found = tokio::net::lookup_host((address.as_str(), 0)).await.map(|found| found.map(|found| found.ip()));
    match found.map(Iterator::collect::<Vec<_>>) {
        // Clients try IPv4 where they are given an address of it.
        Ok(found) if !found.is_empty() => Ok(*found.iter().find(|address| address.is_ipv4()).unwrap_or(&found[0])),
        Ok(_) => Err(MultiserverError::NoAddress { address, source: io::ErrorKind::NotFound.into() }),
        Err(source) => Err(MultiserverError::NoAddress { address, source }),
    }
}

/// Listens on all ports for a moment. Not longer: a server that is shut down must refuse connections, which it could not
/// if its socket were held here.
fn try_ports(address: IpAddr, ports: &Ports) -> Result<(), MultiserverError> {
    let (mut held, mut taken) = (Vec::new(), Vec::new());
    for port in ports.all() {
        match (ListenArgs { listen: address, port }).listen() {
            Ok(listener) => held.push(listener),
            Err(error) => match error.source.kind() {
                io::ErrorKind::AddrInUse => taken.push(port),
                io::ErrorKind::AddrNotAvailable => return Err(MultiserverError::NotHere(address)),
                _ => return Err(error.into()),
            },
        }
    }
    if taken.is_empty() { Ok(()) } else { Err(MultiserverError::Taken(PortList(taken))) }
}

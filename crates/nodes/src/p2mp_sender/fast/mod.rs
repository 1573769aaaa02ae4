//! The fast mode of a sender: [`p2mp::fast::Sender`] over a socket and files.
//!
//! * `driver`: the loop between the machine and the rest.
//! * `source`: the files, read and coded; `ahead`: a file that is read in its order.
//! * `show`: what people and the testbed see of it.

mod ahead;
mod driver;
mod show;
mod source;

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use machine::{Rate, Span};

use crate::events::EventSink;
use crate::udp::InterfaceError;
pub use driver::run;
pub use source::SourceError;

/// What the user wants.
#[derive(Debug)]
pub struct Options {
    /// Who is to have the files: as the user calls them, and where they are.
    pub receivers: Vec<(String, SocketAddr)>,
    /// At least one; each is sent under the last part of its path.
    pub files: Vec<PathBuf>,
    /// The most bytes of a file in a datagram.
    pub most_payload: usize,
    /// On the wire, or found out.
    pub rate: Option<Rate>,
    /// The multicast group to try; `None`: to each receiver by itself.
    pub group: Option<std::net::IpAddr>,
    /// Routers that the group's datagrams pass, and one more.
    pub hops: u8,
    /// By which the group's datagrams leave, by name or address; else that which leads to the first receiver.
    pub interface: Option<String>,
    /// How long a receiver may bring nothing new before it is given up.
    pub give_up: Span,
    /// Whether to show people how far it is: not where stdout is for programs.
    pub shows: bool,
    /// What happens is told here.
    pub sinks: Vec<EventSink>,
}

/// Why nothing can be sent, or no more.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// The files.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The interface.
    #[error(transparent)]
    Interface(#[from] InterfaceError),
    /// Signals cannot be caught.
    #[error("cannot catch signals")]
    Signals(#[source] io::Error),
    /// The socket.
    #[error("cannot {doing}")]
    Socket {
        /// A verb and its object.
        doing: &'static str,
        /// What the kernel says.
        source: io::Error,
    },
}

impl SendError {
    /// Whether something else must be asked for; nothing was sent.
    pub(super) fn is_usage(&self) -> bool {
        matches!(
            self,
            SendError::Interface(InterfaceError::Unknown { .. }) | SendError::Source(SourceError::Manifest(_))
        )
    }
}

//! Who may have the file: the sources and the check server, as they are given or found out.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc::{self, Receiver, Sender};

use super::link::Link;
use super::{Args, DownloaderError, ports};
use crate::check_server::board::FileView;
use crate::http::Url;
use crate::http::tls::Trust;

/// What comes from elsewhere than the sources' answers and the disk.
#[derive(Debug)]
pub(crate) enum Control {
    /// A source to fetch from, and its name.
    Source(Url, String),
    /// Something to say to a person.
    Remark(String),
    /// A check server to listen to.
    Check(Url),
    /// What a check server says of a server.
    Liveness(Liveness),
    /// What a check server knows of the file; `None` if it knows nothing, or cannot be asked.
    File(Option<FileView>),
    /// The addresses of the source with this number.
    Resolved(usize, Vec<SocketAddr>),
}

/// What a check server says of a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Liveness {
    /// What it calls it.
    pub(crate) url: Url,
    /// Where it reached it, if that means the same place here.
    pub(crate) peer: Option<SocketAddr>,
    pub(crate) alive: bool,
}

/// Everybody, and those who say who else there is.
#[derive(Debug)]
pub(crate) struct Roster {
    pub(crate) trust: Trust,
    /// In the order in which they are numbered.
    pub(crate) links: Vec<Arc<Link>>,
    pub(crate) check: Option<Url>,
    pub(crate) to_control: Sender<Control>,
    pub(crate) controls: Receiver<Control>,
    pub(crate) signals: Signals,
}

/// The signals that end a download.
#[derive(Debug)]
pub(crate) struct Signals {
    interrupt: Signal,
    terminate: Signal,
    /// A file beyond the limit of sizes is to be an error, not the end of this process.
    _file_size: Signal,
}

impl Roster {
    /// Those on the command line; ports are asked what is there.
    pub(crate) fn new(args: &Args) -> Result<Self, DownloaderError> {
        let trust = Trust::new(args.ca_certificate.as_deref())?;
        let (to_control, controls) = mpsc::channel(64);
        let signals = Signals::catch().map_err(DownloaderError::Signals)?;
        let check = args.check.clone();
        let mut roster = Roster { trust, links: Vec::new(), check, to_control, controls, signals };
        let same_host = |url: &Url| args.urls.iter().filter(|other| other.host() == url.host()).count() > 1;
        for url in &args.urls {
            // A host with several servers needs the port to tell them apart.
            let name = if same_host(url) { format!("{}:{}", url.host(), url.port()) } else { url.host().to_owned() };
            roster.add(url.clone(), name);
        }
        for (index, port) in args.ports.iter().enumerate() {
            let url = Url::new(&args.address, *port, "/");
            tokio::spawn(ports::find_out(url, index + 1, roster.trust.clone(), roster.to_control.clone()));
        }
        Ok(roster)
    }

    pub(crate) fn add(&mut self, url: Url, name: String) {
        self.links.push(Arc::new(Link::new(url, name, self.trust.clone(), self.to_control.clone())));
    }
}

impl Signals {
    pub(crate) fn catch() -> std::io::Result<Self> {
        Ok(Signals {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            _file_size: signal(SignalKind::from_raw(libc::SIGXFSZ))?,
        })
    }

    /// Waits until the program shall end.
    pub(crate) async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

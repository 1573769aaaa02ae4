//! What is known of all watched servers, and the changes of it.

use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};

use event::NodeReport;
use fetch::Digest;
use machine::Time;
use serde::{Deserialize, Serialize};
use tokio::sync::{broadcast, watch};

use crate::clock;
use crate::events::EventSink;
use crate::http::Url;

/// Changes that a slow listener may be behind before it is told the whole state again.
const BEHIND: usize = 256;

/// A server as `/status` and `/events` show it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ServerView {
    pub(crate) url: String,
    pub(crate) name: String,
    pub(crate) alive: bool,
    /// The address and port where it was last reached, so that it is recognised by whatever name it is called.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) peer: Option<SocketAddr>,
    /// For how long it has been so, in milliseconds.
    #[serde(default)]
    pub(crate) since_ms: u64,
}

/// What the check server knows of the file that all servers should have.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct FileView {
    /// Of the whole, in hexadecimal; absent while it is being computed.
    pub(crate) sha256: Option<String>,
    /// Bytes; absent if only the hash was given. With neither, nothing is known after all.
    pub(crate) length: Option<u64>,
}

impl FileView {
    /// A known hash, a hash to come of a file that is this long, or nothing.
    pub(crate) fn new(sha256: Option<Digest>, length: Option<u64>) -> Self {
        FileView { sha256: sha256.map(|digest| digest.to_string()), length }
    }
}

/// What changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// The server with this number.
    Server(usize),
    /// What is known of the file.
    File,
}

/// The document at `/status`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StatusView {
    /// `check`: tells a downloader that asks an unknown port what it found.
    pub(crate) role: String,
    pub(crate) servers: Vec<ServerView>,
    /// Absent if it was told nothing of the file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) file: Option<FileView>,
    /// How many downloaders said that they have everything.
    #[serde(default)]
    pub(crate) done: u64,
}

/// The value of `role` in a check server's status.
pub(crate) const ROLE: &str = "check";

/// The state of every watched server.
#[derive(Debug)]
pub(crate) struct Board {
    servers: Mutex<Vec<Server>>,
    file: Mutex<Option<FileView>>,
    changes: broadcast::Sender<Change>,
    done: watch::Sender<u64>,
    events: EventSink,
}

#[derive(Debug)]
struct Server {
    url: Url,
    name: String,
    alive: bool,
    since: Time,
    /// Where it was last reached.
    peer: Option<SocketAddr>,
}

impl Board {
    /// All are dead until they answer.
    pub(crate) fn new(urls: &[Url], events: EventSink) -> Self {
        let since = clock::now();
        let same_host = |url: &Url| urls.iter().filter(|other| other.host() == url.host()).count() > 1;
        let server = |url: &Url| {
            // A host with several servers needs the port to tell them apart.
            let name = if same_host(url) { format!("{}:{}", url.host(), url.port()) } else { url.host().to_owned() };
            Server { url: url.clone(), name, alive: false, since, peer: None }
        };
        Board {
            servers: Mutex::new(urls.iter().map(server).collect()),
            file: Mutex::new(None),
            changes: broadcast::channel(BEHIND).0,
            done: watch::channel(0).0,
            events,
        }
    }

    /// Notes what was found of a server, at `peer` if it was reached; publishes it if it is new.
    pub(crate) fn set(&self, index: usize, alive: bool, peer: Option<SocketAddr>) {
        let name = {
            let mut servers = self.servers.lock().unwrap_or_else(PoisonError::into_inner);
            let server = &mut servers[index];
            // Where it was reached once is worth knowing when it is gone.
            let peer = peer.or(server.peer);
            if server.alive == alive && server.peer == peer {
                return;
            }
            let is_news = server.alive != alive;
            server.peer = peer;
            if !is_news {
                drop(servers);
                let _ = self.changes.send(Change::Server(index));
                return;
            }
            (server.alive, server.since) = (alive, clock::now());
            server.name.clone()
        };
        // Nobody may be listening.
        let _ = self.changes.send(Change::Server(index));
        tracing::info!(name, alive, "server changed");
        self.events.tell(&NodeReport::Watched { server: name, alive });
    }

    /// Notes what is known of the file; publishes it if it is new.
    pub(crate) fn set_file(&self, view: FileView) {
        let known = self.file.lock().unwrap_or_else(PoisonError::into_inner).replace(view.clone());
        if known != Some(view) {
            let _ = self.changes.send(Change::File);
        }
    }

    /// What is known of the file.
    pub(crate) fn file(&self) -> Option<FileView> {
        self.file.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What changes from here on.
    pub(crate) fn changes(&self) -> broadcast::Receiver<Change> {
        self.changes.subscribe()
    }

    /// The document at `/status`.
    pub(crate) fn status(&self) -> StatusView {
        StatusView { role: ROLE.to_owned(), servers: self.views(), file: self.file(), done: *self.done.borrow() }
    }

    /// A downloader has everything.
    pub(crate) fn note_done(&self) {
        self.done.send_modify(|count| *count += 1);
    }

    /// Waits until a downloader has everything.
    pub(crate) fn done(&self) -> impl Future<Output = ()> + use<> {
        let mut done = self.done.subscribe();
        async move {
            // The sender lives in the board, which outlives every wait.
            let _ = done.wait_for(|count| *count > 0).await;
        }
    }

    /// The state of all now.
    pub(crate) fn views(&self) -> Vec<ServerView> {
        let now = clock::now();
        let servers = self.servers.lock().unwrap_or_else(PoisonError::into_inner);
        let view = |server: &Server| ServerView {
            url: server.url.to_string(),
            name: server.name.clone(),
            alive: server.alive,
            peer: server.peer,
            since_ms: now.since(server.since).as_millis(),
        };
        servers.iter().map(view).collect()
    }
}

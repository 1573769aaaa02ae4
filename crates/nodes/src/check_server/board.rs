//! What is known of all watched servers, and the changes of it.

use std::sync::{Mutex, PoisonError};

use event::NodeReport;
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
    /// For how long it has been so, in milliseconds.
    #[serde(default)]
    pub(crate) since_ms: u64,
}

/// The document at `/status`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StatusView {
    /// `check`: tells a downloader that asks an unknown port what it found.
    pub(crate) role: String,
    pub(crate) servers: Vec<ServerView>,
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
    changes: broadcast::Sender<usize>,
    done: watch::Sender<u64>,
    events: EventSink,
}

#[derive(Debug)]
struct Server {
    url: Url,
    name: String,
    alive: bool,
    since: Time,
}

impl Board {
    /// All are dead until they answer.
    pub(crate) fn new(urls: &[Url], events: EventSink) -> Self {
        let since = clock::now();
        let same_host = |url: &Url| urls.iter().filter(|other| other.host() == url.host()).count() > 1;
        let server = |url: &Url| {
            // A host with several servers needs the port to tell them apart.
            let name = if same_host(url) { format!("{}:{}", url.host(), url.port()) } else { url.host().to_owned() };
            Server { url: url.clone(), name, alive: false, since }
        };
        Board {
            servers: Mutex::new(urls.iter().map(server).collect()),
            changes: broadcast::channel(BEHIND).0,
            done: watch::channel(0).0,
            events,
        }
    }

    /// Notes what was found of a server; publishes it if it is new.
    pub(crate) fn set(&self, server: usize, alive: bool) {
        let name = {
            let mut servers = self.servers.lock().unwrap_or_else(PoisonError::into_inner);
            let server = &mut servers[server];
            if server.alive == alive {
                return;
            }
            (server.alive, server.since) = (alive, clock::now());
            server.name.clone()
        };
        // Nobody may be listening.
        let _ = self.changes.send(server);
        tracing::info!(name, alive, "server changed");
        self.events.tell(&NodeReport::Watched { server: name, alive });
    }

    /// The state of all now, and the numbers of those that change from here on.
    pub(crate) fn follow(&self) -> (Vec<ServerView>, broadcast::Receiver<usize>) {
        // Subscribed first, so that no change falls between.
        let changes = self.changes.subscribe();
        (self.views(), changes)
    }

    /// The document at `/status`.
    pub(crate) fn status(&self) -> StatusView {
        StatusView { role: ROLE.to_owned(), servers: self.views(), done: *self.done.borrow() }
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
            since_ms: now.since(server.since).as_millis(),
        };
        servers.iter().map(view).collect()
    }
}

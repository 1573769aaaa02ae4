//! The transfer programs that a node may be, one file each, and any other program.
//!
//! A role is a struct of its fields, an entry of [`ROLES`] and a variant of [`RoleSpec`].

mod check_server;
mod downloader;
mod file_server;
mod p2mp_receiver;
mod p2mp_sender;
mod p2p_downloader;
mod peer;
mod router;
mod run;
mod tracker;

use serde::Serialize;

pub(crate) use self::check_server::CheckServer;
pub(crate) use self::downloader::Downloader;
pub(crate) use self::file_server::FileServer;
pub(crate) use self::p2mp_receiver::P2mpReceiver;
pub(crate) use self::p2mp_sender::P2mpSender;
pub(crate) use self::p2p_downloader::P2pDownloader;
pub(crate) use self::peer::Peer;
pub(crate) use self::router::Router;
pub(crate) use self::run::Run;
pub(crate) use self::tracker::Tracker;
use crate::findings::Findings;
use crate::plan::Program;
use crate::resolve::names::Directory;
use crate::source::Place;
use crate::yaml::{At, Fault, Node, decode, fields_of};

/// What the file says of a node's program.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub(crate) enum RoleSpec {
    Run(Run),
    FileServer(FileServer),
    CheckServer(CheckServer),
    Downloader(Downloader),
    P2mpSender(P2mpSender),
    P2mpReceiver(P2mpReceiver),
    Tracker(Tracker),
    Peer(Peer),
    P2pDownloader(P2pDownloader),
    Router(Router),
}

/// A role, or `run`, as the format knows it.
pub(crate) struct RoleKind {
    pub(crate) name: &'static str,
    /// The fields that it adds to those of every node.
    pub(crate) fields: fn() -> &'static [&'static str],
    pub(crate) read: fn(&Node) -> Result<RoleSpec, Fault>,
    /// It never exits by itself.
    pub(crate) serves: bool,
    /// It reports progress, so that an event can wait for it.
    pub(crate) reports: bool,
}

/// Any other program. It may exit, and may report by `TESTBED_EVENTS_FD`.
pub(crate) const RUN: RoleKind = RoleKind {
    name: "run",
    fields: fields_of::<Run>,
    read: |node| decode(node).map(RoleSpec::Run),
    serves: false,
    reports: true,
};

/// Every `role:`.
pub(crate) const ROLES: &[RoleKind] = &[
    RoleKind {
        name: "file-server",
        fields: fields_of::<FileServer>,
        read: |node| decode(node).map(RoleSpec::FileServer),
        serves: true,
        reports: false,
    },
    RoleKind {
        name: "check-server",
        fields: fields_of::<CheckServer>,
        read: |node| decode(node).map(RoleSpec::CheckServer),
        serves: true,
        reports: false,
    },
    RoleKind {
        name: "downloader",
        fields: fields_of::<Downloader>,
        read: |node| decode(node).map(RoleSpec::Downloader),
        serves: false,
        reports: true,
    },
    RoleKind {
        name: "p2mp-sender",
        fields: fields_of::<P2mpSender>,
        read: |node| decode(node).map(RoleSpec::P2mpSender),
        serves: false,
        reports: true,
    },
    RoleKind {
        name: "p2mp-receiver",
        fields: fields_of::<P2mpReceiver>,
        read: |node| decode(node).map(RoleSpec::P2mpReceiver),
        serves: false,
        reports: true,
    },
    RoleKind {
        name: "tracker",
        fields: fields_of::<Tracker>,
        read: |node| decode(node).map(RoleSpec::Tracker),
        serves: true,
        reports: false,
    },
    RoleKind {
        name: "peer",
        fields: fields_of::<Peer>,
        read: |node| decode(node).map(RoleSpec::Peer),
        serves: true,
        reports: false,
    },
    RoleKind {
        name: "p2p-downloader",
        fields: fields_of::<P2pDownloader>,
        read: |node| decode(node).map(RoleSpec::P2pDownloader),
        serves: false,
        reports: true,
    },
    RoleKind {
        name: "router",
        fields: fields_of::<Router>,
        read: |node| decode(node).map(RoleSpec::Router),
        serves: true,
        reports: false,
    },
];

impl RoleSpec {
    pub(crate) fn kind(&self) -> &'static RoleKind {
        let name = match self {
            RoleSpec::Run(_) => return &RUN,
            RoleSpec::FileServer(_) => "file-server",
            RoleSpec::CheckServer(_) => "check-server",
            RoleSpec::Downloader(_) => "downloader",
            RoleSpec::P2mpSender(_) => "p2mp-sender",
            RoleSpec::P2mpReceiver(_) => "p2mp-receiver",
            RoleSpec::Tracker(_) => "tracker",
            RoleSpec::Peer(_) => "peer",
            RoleSpec::P2pDownloader(_) => "p2p-downloader",
            RoleSpec::Router(_) => "router",
        };
        ROLES.iter().find(|kind| kind.name == name).expect("every variant has its entry in the table")
    }

    /// What follows `role:`; `None` for a `run:` program.
    pub(crate) fn role_name(&self) -> Option<&'static str> {
        Some(self.kind().name).filter(|name| *name != RUN.name)
    }

    /// The file in its disk that `file:` is compared with.
    pub(crate) fn out(&self) -> Option<&str> {
        match self {
            RoleSpec::Run(run) => run.out.as_ref().map(|out| out.value.as_str()),
            RoleSpec::Downloader(downloader) => Some(downloader.out_name()),
            RoleSpec::P2mpReceiver(receiver) => Some(receiver.out_name()),
            RoleSpec::P2pDownloader(downloader) => Some(downloader.out_name()),
            _ => None,
        }
    }

    /// Looks up what it refers to. `None` after a finding.
    pub(crate) fn resolve(&self, place: Place, names: &Directory<'_>, findings: &mut Findings<'_>) -> Option<Program> {
        match self {
            RoleSpec::Run(run) => run.resolve(place, findings),
            RoleSpec::FileServer(role) => role.resolve(names, findings).map(Program::Role),
            RoleSpec::CheckServer(role) => role.resolve(names, findings).map(Program::Role),
            RoleSpec::Downloader(role) => role.resolve(names, findings).map(Program::Role),
            RoleSpec::P2mpSender(role) => role.resolve(names, findings).map(Program::Role),
            RoleSpec::P2mpReceiver(role) => role.resolve(findings).map(Program::Role),
            RoleSpec::Tracker(role) => Some(Program::Role(role.resolve())),
            RoleSpec::Peer(role) => role.resolve(names, findings).map(Program::Role),
            RoleSpec::P2pDownloader(role) => role.resolve(names, findings).map(Program::Role),
            RoleSpec::Router(role) => Some(Program::Role(role.resolve())),
        }
    }
}

/// Checks the name of a file that a program writes into its disk.
pub(crate) fn check_path(path: &At<String>, findings: &mut Findings<'_>) -> bool {
    let text = path.value.as_str();
    let wrong = if text.is_empty() {
        "a file name cannot be empty".to_owned()
    } else if text.contains('\0') || text.len() > 255 {
        "a file name is at most 255 bytes, without NUL".to_owned()
    } else if text.starts_with('/') {
        format!("`{text}` is absolute; name a file inside the node's disk")
    } else if text.split('/').any(|part| part == "..") {
        format!("`{text}` leads out of the node's disk")
    } else if text.split('/').any(|part| part.is_empty() || part == ".") {
        format!("`{text}` is not the plain name of a file")
    } else {
        return true;
    };
    findings.invalid(path.place, wrong);
    false
}

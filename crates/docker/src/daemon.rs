//! The daemon: whether it is there and will do, and what to do if not.

use std::io;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bollard::errors::Error;
use bollard::{API_DEFAULT_VERSION, Docker};

/// A daemon that answers.
#[derive(Clone, Debug)]
pub struct Daemon {
    pub(crate) client: Docker,
    /// Where it listens.
    pub socket: PathBuf,
    /// Its version, as `docker version` tells it.
    pub version: String,
    /// The version of its API.
    pub api: String,
    /// How it keeps images and containers on disk (`overlay2` …).
    pub storage: String,
}

/// What Docker calls its own variable.
const HOST: &str = "DOCKER_HOST";
const DEFAULT_SOCKET: &str = "/var/run/docker.sock";

/// Docker 20.10: the first that sets the modes of namespaces which a node needs.
const LEAST_API: (u32, u32) = (1, 41);

/// A daemon that is alive tells its version at once.
const FIRST_ANSWER: Duration = Duration::from_secs(10);

/// Unpacking an image may take a while.
const PATIENCE: Duration = Duration::from_secs(120);

/// Why the daemon is of no use, or did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum DockerError {
    /// There is none.
    #[error("no Docker daemon answers at {}: {why}; {remedy}", socket.display())]
    Unreachable {
        /// Where it was looked for.
        socket: PathBuf,
        /// What the system said.
        why: String,
        /// What to do.
        remedy: &'static str,
    },
    /// It is on another machine.
    #[error(
        "{HOST} is `{host}`: `--engine docker` needs a daemon on this machine's own kernel, at a `unix://` socket, because it joins containers to its links itself"
    )]
    Elsewhere {
        /// What the variable says.
        host: String,
    },
    /// It cannot do what is needed.
    #[error("the Docker daemon at {} {why}", socket.display())]
    Unsuitable {
        /// Where it is.
        socket: PathBuf,
        /// And what is missing.
        why: String,
    },
    /// It has refused.
    #[error("Docker failed to {action}: {why}")]
    Refused {
        /// What was asked of it.
        action: String,
        /// Its words.
        why: String,
    },
    /// This program could not be read or packed.
    #[error("failed to make an image of {}", path.display())]
    Executable {
        /// Where it is.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl Daemon {
    /// Where a daemon would listen.
    ///
    /// # Errors
    /// When `DOCKER_HOST` names a daemon elsewhere.
    pub fn place() -> Result<PathBuf, DockerError> {
        match std::env::var(HOST) {
            Err(_) => Ok(PathBuf::from(DEFAULT_SOCKET)),
            Ok(host) if host.is_empty() => Ok(PathBuf::from(DEFAULT_SOCKET)),
            Ok(host) => match host.strip_prefix("unix://") {
                Some(path) if path.starts_with('/') => Ok(PathBuf::from(path)),
                _ => Err(DockerError::Elsewhere { host }),
            },
        }
    }

    /// Connects to the daemon and makes sure that it will do.
    ///
    /// # Errors
    /// When there is none, it may not be used, or it cannot do what nodes need.
    pub async fn connect() -> Result<Daemon, DockerError> {
        let socket = Daemon::place()?;
        reach(&socket)?;
        let unsuitable = |why: String| DockerError::Unsuitable { socket: socket.clone(), why };
        let strange = |error: Error| match error {
            Error::RequestTimeoutError => unsuitable(format!("has not answered in {} s", FIRST_ANSWER.as_secs())),
            error => unsuitable(format!("does not answer as one: {}", words(&error))),
        };
        let path = socket.to_string_lossy();
        let client = Docker::connect_with_unix(&path, FIRST_ANSWER.as_secs(), API_DEFAULT_VERSION).map_err(strange)?;
        let client = client.negotiate_version().await.map_err(strange)?;
        let told = client.version().await.map_err(strange)?;
        let (version, api) = (told.version.unwrap_or_default(), told.api_version.unwrap_or_default());
        if numbers(&api).is_none_or(|api| api < LEAST_API) {
            let (major, minor) = LEAST_API;
            return Err(unsuitable(format!(
                "is version {version} (API {api}): API {major}.{minor} is needed, which is Docker 20.10"
            )));
        }
        let info = client.info().await.map_err(strange)?;
        if info.security_options.unwrap_or_default().iter().any(|option| option.contains("name=rootless")) {
            return Err(unsuitable(
                "runs without root: its containers are in a user namespace that this program has no power over; `--engine netns` needs neither root nor Docker"
                    .to_owned(),
            ));
        }
        let (own, its) = (kernel(), info.kernel_version.unwrap_or_default());
        if own != its {
            return Err(unsuitable(format!(
                "runs on another kernel ({its}, this one is {own}): its containers cannot be joined to links here; run testbed where the daemon runs"
            )));
        }
        let client = client.with_timeout(PATIENCE);
        Ok(Daemon { client, version, api, storage: info.driver.unwrap_or_default(), socket })
    }
}

/// The daemon's own client would say no more than that it could not connect.
fn reach(socket: &Path) -> Result<(), DockerError> {
    let Err(error) = UnixStream::connect(socket) else { return Ok(()) };
    let remedy = match error.kind() {
        io::ErrorKind::PermissionDenied => {
            "let this user use Docker (`sudo usermod -aG docker $USER`, then log in again), or run as root"
        }
        io::ErrorKind::NotFound => "install Docker, or start it (`sudo systemctl start docker`)",
        io::ErrorKind::ConnectionRefused => "start it (`sudo systemctl start docker`)",
        _ => "see whether Docker runs",
    };
    let why = match error.kind() {
        io::ErrorKind::NotFound => "there is no such socket".to_owned(),
        io::ErrorKind::ConnectionRefused => "nobody listens there".to_owned(),
        io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
        _ => error.to_string(),
    };
    Err(DockerError::Unreachable { socket: socket.to_owned(), why, remedy })
}

pub(crate) fn refused(action: impl Into<String>) -> impl FnOnce(Error) -> DockerError {
    let action = action.into();
    move |error| DockerError::Refused { action, why: words(&error) }
}

/// What the daemon said, in one line.
pub(crate) fn words(error: &Error) -> String {
    let text = match error {
        Error::DockerResponseServerError { message, .. } => message.clone(),
        Error::DockerStreamError { error } => error.clone(),
        other => {
            let mut text = other.to_string();
            let mut source = std::error::Error::source(other);
            while let Some(cause) = source {
                let cause_text = cause.to_string();
                if !text.contains(&cause_text) {
                    text = format!("{text}: {cause_text}");
                }
                source = cause.source();
            }
            text
        }
    };
    text.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join("; ")
}

fn numbers(version: &str) -> Option<(u32, u32)> {
    let (major, minor) = version.split_once('.')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

fn kernel() -> String {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    release.trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_socket_and_one_without_a_daemon_are_told_apart() {
        let folder = std::env::temp_dir().join(format!("testbed-docker-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let socket = folder.join("docker.sock");
        let missing = reach(&socket).unwrap_err().to_string();
        assert!(missing.contains("there is no such socket; install Docker"), "{missing}");
        drop(std::os::unix::net::UnixListener::bind(&socket).unwrap());
        let silent = reach(&socket).unwrap_err().to_string();
        assert!(silent.contains("nobody listens there; start it"), "{silent}");
        std::fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn versions_are_compared_as_numbers() {
        assert!(numbers("1.9") < Some(LEAST_API) && numbers("1.100") > Some(LEAST_API));
        assert_eq!((numbers("1.41"), numbers("latest"), numbers("")), (Some((1, 41)), None, None));
    }
}

//! Containers: made, started, awaited, removed.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use bollard::errors::Error;
use bollard::models::{ContainerCreateBody, HostConfig, HostConfigLogConfig, Mount as ApiMount, MountType};
use bollard::query_parameters::{
    CreateContainerOptionsBuilder, ListContainersOptionsBuilder, RemoveContainerOptionsBuilder, StartContainerOptions,
};
use futures_util::{StreamExt, future, stream};

use crate::LABEL_RUN;
use crate::daemon::{Daemon, DockerError, refused, words};

/// A container that is to be.
#[derive(Clone, Debug, Default)]
pub struct ContainerSpec {
    /// Its name among the daemon's containers.
    pub name: String,
    /// Its host name.
    pub hostname: String,
    /// By name.
    pub image: String,
    /// What is executed as its first process.
    pub command: Vec<String>,
    /// What it sees of this machine's files.
    pub mounts: Vec<Mount>,
    /// Settings of its network namespace, by their names for sysctl(8).
    pub sysctls: BTreeMap<String, String>,
    /// Whether its first process can write those while it runs.
    pub writable_sysctls: bool,
    /// The run that it belongs to: its directory.
    pub run: String,
}

/// A file or folder of this machine in a container.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mount {
    /// Where it is there. Whatever the image has in that place is hidden.
    pub target: PathBuf,
    /// Where it is here.
    pub source: PathBuf,
    /// Whether it can be changed there.
    pub writable: bool,
}

/// A container that there is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Container {
    /// The daemon's.
    pub id: String,
    /// Its name.
    pub name: String,
    /// The run that it belongs to: its directory.
    pub run: String,
}

/// Containers that are started at the same time. More of them gain nothing: the daemon takes one lock or another.
const AT_ONCE: usize = 8;

/// How often it is asked whether containers are gone.
const LOOK: Duration = Duration::from_millis(50);

impl Daemon {
    /// Starts all of `specs`, or those that were begun before `stop` was set: the daemon would go on with a request that nobody
    /// waits for. When one fails, or not all were begun, none is left.
    ///
    /// # Errors
    /// The first failure.
    pub async fn start_all(&self, specs: &[ContainerSpec], stop: &Cell<bool>) -> Result<(), DockerError> {
        let begun = stream::iter(specs).take_while(|_| future::ready(!stop.get()));
        let started: Vec<Result<String, DockerError>> =
            begun.map(|spec| self.start(spec, stop)).buffer_unordered(AT_ONCE).collect().await;
        let ids: Vec<String> = started.iter().flatten().cloned().collect();
        let failed = started.into_iter().find_map(Result::err);
        if failed.is_some() || stop.get() {
            self.remove_all(&ids).await;
        }
        failed.map_or(Ok(()), Err)
    }

    /// Starts one; no other is begun where that fails.
    async fn start(&self, spec: &ContainerSpec, stop: &Cell<bool>) -> Result<String, DockerError> {
        let started = self.start_one(spec).await;
        stop.set(stop.get() || started.is_err());
        started
    }

    async fn start_one(&self, spec: &ContainerSpec) -> Result<String, DockerError> {
        let options = CreateContainerOptionsBuilder::default().name(&spec.name).build();
        let made = self.client.create_container(Some(options), body(spec)).await;
        let id = made.map_err(refused(format!("make the container {}", spec.name)))?.id;
        let started = self.client.start_container(&id, None::<StartContainerOptions>).await;
        if started.is_err() {
            self.remove_all(std::slice::from_ref(&id)).await;
        }
        started.map_err(refused(format!("start the container {}", spec.name)))?;
        Ok(id)
    }

    /// Removes containers, whatever runs in them. What is gone already is no failure; what else fails is told to the log of
    /// this program.
    pub async fn remove_all(&self, ids: &[String]) {
        stream::iter(ids)
            .for_each_concurrent(AT_ONCE, |id| async move {
                let options = RemoveContainerOptionsBuilder::default().force(true).v(true).build();
                match self.client.remove_container(id, Some(options)).await {
                    // It removes itself, and is about to (409) or has done so (404).
                    Ok(()) | Err(Error::DockerResponseServerError { status_code: 404 | 409, .. }) => {}
                    Err(error) => tracing::warn!(container = id, error = words(&error), "cannot remove a container"),
                }
            })
            .await;
    }

    /// All containers of runs, running or not; of one run alone if `run` is given.
    ///
    /// # Errors
    /// When the daemon does not tell.
    pub async fn containers(&self, run: Option<&str>) -> Result<Vec<Container>, DockerError> {
        let label = run.map_or_else(|| LABEL_RUN.to_owned(), |run| format!("{LABEL_RUN}={run}"));
        let filters = [("label".to_owned(), vec![label])].into();
        let options = ListContainersOptionsBuilder::default().all(true).filters(&filters).build();
        let found = self.client.list_containers(Some(options)).await.map_err(refused("list containers"))?;
        let container = |found: bollard::models::ContainerSummary| {
            let name = found.names.unwrap_or_default().into_iter().next().unwrap_or_default();
            let run = found.labels.unwrap_or_default().remove(LABEL_RUN).unwrap_or_default();
            Some(Container { id: found.id?, name: name.trim_start_matches('/').to_owned(), run })
        };
        Ok(found.into_iter().filter_map(container).collect())
    }

    /// Waits until a run has no container any more; those that are left after `patience` are removed.
    ///
    /// # Errors
    /// When the daemon does not tell.
    pub async fn await_end_of(&self, run: &str, patience: Duration) -> Result<(), DockerError> {
        let gone = async {
            while !self.containers(Some(run)).await?.is_empty() {
                #[expect(clippy::disallowed_methods, reason = "the daemon tells of no end but when it is asked")]
                tokio::time::sleep(LOOK).await;
            }
            Ok(())
        };
        if let Ok(gone) = tokio::time::timeout(patience, gone).await {
            return gone;
        }
        let left: Vec<String> = self.containers(Some(run)).await?.into_iter().map(|left| left.id).collect();
        self.remove_all(&left).await;
        Ok(())
    }
}

/// What is needed beside Docker's own choice, which is enough for what programs as root may do: to make links and to end
/// connections. NET_RAW is among Docker's, but not everybody's.
const CAPABILITIES: [&str; 2] = ["NET_ADMIN", "NET_RAW"];

/// Docker's own choice without `/proc/sys`.
const READ_ONLY: [&str; 4] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sysrq-trigger"];

fn body(spec: &ContainerSpec) -> ContainerCreateBody {
    let strings = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
    let mount = |mount: &Mount| ApiMount {
        target: Some(mount.target.to_string_lossy().into_owned()),
        source: Some(mount.source.to_string_lossy().into_owned()),
        typ: Some(MountType::BIND),
        read_only: Some(!mount.writable),
        ..ApiMount::default()
    };
    let host_config = HostConfig {
        auto_remove: Some(true),
        network_mode: Some("none".to_owned()),
        // Ours is process 1, whatever the daemon's default is.
        init: Some(false),
        // Its files are this machine's, and its network's owner is whom the sandbox has power over.
        userns_mode: Some("host".to_owned()),
        cap_add: Some(strings(&CAPABILITIES)),
        security_opt: Some(strings(&["no-new-privileges", "label=disable"])),
        sysctls: Some(spec.sysctls.clone().into_iter().collect()),
        readonly_paths: spec.writable_sysctls.then(|| strings(&READ_ONLY)),
        mounts: Some(spec.mounts.iter().map(mount).collect()),
        // What programs print goes into the run directory.
        log_config: Some(HostConfigLogConfig { typ: Some("none".to_owned()), config: None }),
        ..HostConfig::default()
    };
    ContainerCreateBody {
        hostname: Some(spec.hostname.clone()),
        image: Some(spec.image.clone()),
        entrypoint: Some(spec.command.clone()),
        // The image's own arguments are for its own entry point.
        cmd: Some(Vec::new()),
        user: Some("0:0".to_owned()),
        working_dir: Some("/".to_owned()),
        labels: Some([(LABEL_RUN.to_owned(), spec.run.clone())].into()),
        // An image may have one, which would execute who knows what beside the node's program.
        healthcheck: Some(bollard::models::HealthConfig { test: Some(strings(&["NONE"])), ..Default::default() }),
        host_config: Some(host_config),
        ..ContainerCreateBody::default()
    }
}

//! Nodes as containers: what each is made of, and their inits as they arrive.
//!
//! A node's container is this executable as `testbed node`, in the node's image or one of its own, without any network. It
//! sees its own folder of the run directory under the same path as everybody, and the files that nodes share. What it needs
//! of the kernel is asked of the daemon; what it is to do comes over a socket in the run directory.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use docker::image::{self, Executable, ForeignImage};
use docker::{ContainerSpec, Daemon, DockerError, Mount};
use event::run_directory as names;
use fabric::{Adoptee, Births};
use nix::unistd::{getegid, geteuid};
use tokio::net::UnixListener;
use tokio::task::JoinSet;
use topology::Plan;
use topology::plan::{Node, Program};

use crate::engine::{Places, in_full};
use crate::files::SharedFiles;
use crate::hosts;
use crate::launch::launch;

/// Why nodes could not be made as containers. None of them is left.
#[derive(Debug, thiserror::Error)]
pub enum ContainerError {
    /// The daemon did not do its part.
    #[error(transparent)]
    Docker(#[from] DockerError),
    /// What containers need of the run directory could not be made.
    #[error("failed to {action}")]
    RunDirectory {
        /// What was tried.
        action: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// The init of a node ended, or could not connect.
    #[error(
        "the container of node {node} was started, but its init did not report: does the daemon see the files of this machine, {} among them?",
        run.display()
    )]
    Silent {
        /// Which.
        node: String,
        /// The run directory.
        run: PathBuf,
    },
}

/// The containers of one run.
#[derive(Debug)]
pub struct Containers {
    daemon: Daemon,
    run: PathBuf,
    stop: Cell<bool>,
}

/// What containers are made of.
#[derive(Debug)]
pub struct Material {
    executable: Executable,
    /// The name of this executable's image, if any node is in it.
    own: String,
    foreign: BTreeMap<String, ForeignImage>,
}

/// Where inits find the socket.
const CONTROL_IN_CONTAINER: &str = "/.testbed/control";

/// That socket in the run directory, for as long as inits arrive.
const CONTROL: &str = "control";

/// An init that has not come so long after the last container was started does not come.
const PATIENCE: Duration = Duration::from_secs(30);

/// How often it is looked whether a container that has not reported is there at all.
const LOOK: Duration = Duration::from_millis(200);

/// Auto-removal takes the daemon a while, more so for hundreds.
const LONGEST_END: Duration = Duration::from_secs(20);

/// Folders of this machine that are a container's own.
const OWN_FOLDERS: [&str; 4] = ["proc", "sys", "dev", "run"];

impl Containers {
    /// Those of the run in directory `run`; there are none yet.
    ///
    /// # Errors
    /// When there is no daemon that will do.
    pub async fn connect(run: &Path) -> Result<Self, ContainerError> {
        Ok(Containers { daemon: Daemon::connect().await?, run: run.to_owned(), stop: Cell::new(false) })
    }

    /// Provides the images of `plan`. Nothing is left to take away when this is dropped.
    ///
    /// # Errors
    /// When one is not to be had.
    pub async fn provide_images(&self, plan: &Plan) -> Result<Material, ContainerError> {
        let executable = Executable::of_this_process()?;
        let mut material = Material { executable, own: String::new(), foreign: BTreeMap::new() };
        for node in plan.nodes() {
            match image_of(node) {
                Some(name) if !material.foreign.contains_key(name) => {
                    // That may take minutes, in which nothing else is to be seen.
                    let fetching = || eprintln!("fetching the image {name} …");
                    let found = image::provide_foreign(&self.daemon, name, fetching).await?;
                    material.foreign.insert(name.to_owned(), found);
                }
                None if material.own.is_empty() => {
                    material.own = image::provide_own(&self.daemon, &material.executable).await?;
                }
                _ => {}
            }
        }
        Ok(material)
    }

    /// No further container is begun; [`start`](Self::start) returns when those are gone that were.
    pub fn stop(&self) {
        self.stop.set(true);
    }

    /// Makes a container for each node of `plan` and waits for their inits; `None` if it was [stopped](Self::stop) meanwhile.
    /// `probes` says that links will be measured.
    ///
    /// # Errors
    /// When the daemon refuses, or an init does not come.
    pub async fn start(
        &self,
        plan: &Plan,
        files: &SharedFiles,
        material: &Material,
        probes: bool,
    ) -> Result<Option<(Births, Places)>, ContainerError> {
        let failed = |action| move |source| ContainerError::RunDirectory { action, source };
        let hosts = hosts::write_all(plan, &self.run.join(names::HOSTS)).map_err(failed("write the nodes' names"))?;
        let specs: Vec<ContainerSpec> = plan
            .nodes()
            .iter()
            .zip(&hosts)
            .map(|(node, hosts)| ContainerSpec {
                sysctls: sysctls(plan),
                mounts: self.mounts(node, hosts, files, &material.executable),
                ..self.spec(node, material, probes)
            })
            .collect();
        let listener = self.listen().map_err(failed("listen for the nodes' inits"))?;
        let expected: BTreeSet<String> = plan.nodes().iter().map(|node| node.name.clone()).collect();
        let all_started = Cell::new(false);
        let starting = async {
            self.daemon.start_all(&specs, &self.stop).await?;
            all_started.set(true);
            Ok(())
        };
        let (_, arrived) = tokio::try_join!(starting, self.arrivals(&listener, expected, &all_started))?;
        let Some(mut arrived) = arrived else { return Ok(None) };
        let adoptees = plan.nodes().iter().filter_map(|node| arrived.remove(&node.name)).collect();
        // Containers have their own hold on it.
        let _gone_already = fs::remove_file(self.run.join(CONTROL));
        let launches = plan
            .node_ids()
            .map(|id| {
                let node = plan.node(id);
                let image = image_of(node).and_then(|image| material.foreign.get(image)).map(|image| &image.env);
                launch(plan, id, files, &names::disk(&self.run, &node.name), image)
            })
            .collect();
        Ok(Some((Births::Adopted(adoptees), Places { launches, hosts: vec![None; plan.nodes().len()] })))
    }

    /// Waits until no container is left, and removes those that do not go by themselves.
    pub async fn end(self) {
        let _gone_already = fs::remove_file(self.run.join(CONTROL));
        if let Err(error) = self.daemon.await_end_of(&self.label(), LONGEST_END).await {
            // That it is not there any more says more than what came of the last request.
            let why = Daemon::connect().await.err().unwrap_or(error);
            eprintln!(
                "warning: {}\nwarning: what ran in this run's containers has ended by itself; what the daemon still knows of them goes when it is back, or by `testbed gc`",
                in_full(&why)
            );
        }
    }

    fn label(&self) -> String {
        self.run.to_string_lossy().into_owned()
    }

    /// What does not depend on the plan.
    fn spec(&self, node: &Node, material: &Material, probes: bool) -> ContainerSpec {
        let mut command = match image_of(node) {
            Some(_) => material.executable.command_in_foreign_image(),
            None => vec![image::EXECUTABLE.to_owned()],
        };
        let (uid, gid) = (geteuid(), getegid());
        let sockets = if probes { node.interfaces.len() } else { 0 };
        command.extend(["node", "--name", &node.name, "--connect", CONTROL_IN_CONTAINER].map(str::to_owned));
        command.extend(["--caller".to_owned(), format!("{uid}:{gid}")]);
        command.extend(["--packet-sockets".to_owned(), sockets.to_string()]);
        ContainerSpec {
            name: container_name(&self.run, &node.name),
            hostname: node.name.clone(),
            image: image_of(node).map_or_else(|| material.own.clone(), str::to_owned),
            command,
            writable_sysctls: node.is_router(),
            run: self.label(),
            ..ContainerSpec::default()
        }
    }

    fn mounts(&self, node: &Node, hosts: &Path, files: &SharedFiles, executable: &Executable) -> Vec<Mount> {
        let same = |path: &Path, writable| Mount { target: path.to_owned(), source: path.to_owned(), writable };
        let mut mounts = vec![
            Mount { target: CONTROL_IN_CONTAINER.into(), source: self.run.join(CONTROL), writable: true },
            Mount { target: "/etc/hosts".into(), source: hosts.to_owned(), writable: false },
            same(&names::node(&self.run, &node.name), true),
        ];
        match &node.program {
            Program::Role(_) => {}
            Program::Run { image: Some(_), .. } => {
                let mount = |(source, target)| Mount { target, source, writable: false };
                mounts.extend(executable.mounts().into_iter().map(mount));
            }
            // As on namespaces, it is a program of this machine.
            Program::Run { image: None, .. } => {
                mounts.extend(machine_folders().iter().map(|path| same(path, path == Path::new("/tmp"))));
            }
        }
        mounts.extend(files.paths().iter().map(|path| same(path, false)));
        mounts.sort();
        mounts.dedup_by(|later, earlier| later.target == earlier.target);
        mounts
    }

    fn listen(&self) -> io::Result<UnixListener> {
        // The kernel's limit of 108 bytes is on the name that is given, not on the path.
        let folder = File::open(&self.run)?;
        let path = format!("/proc/self/fd/{}/{CONTROL}", folder.as_raw_fd());
        let listener = UnixListener::bind(&path)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
        Ok(listener)
    }

    /// The inits of all that are `expected`, as they come. None is missed before `all_started`: a busy daemon takes its time.
    async fn arrivals(
        &self,
        listener: &UnixListener,
        mut expected: BTreeSet<String>,
        all_started: &Cell<bool>,
    ) -> Result<Option<BTreeMap<String, Adoptee>>, ContainerError> {
        let mut arrived = BTreeMap::new();
        let mut greetings = JoinSet::new();
        let mut waited = Duration::ZERO;
        while !expected.is_empty() {
            if self.stop.get() && all_started.get() {
                return Ok(None);
            }
            tokio::select! {
                accepted = listener.accept() => {
                    waited = Duration::ZERO;
                    let Ok(connection) = accepted.and_then(|(stream, _)| stream.into_std()) else { continue };
                    greetings.spawn_blocking(move || Adoptee::welcome(connection));
                }
                Some(greeting) = greetings.join_next() => match greeting {
                    Ok(Ok((name, adoptee))) if expected.remove(&name) => {
                        arrived.insert(name, adoptee);
                    }
                    other => tracing::warn!(?other, "a stranger at the nodes' socket"),
                },
                () = pause(LOOK) => {
                    if all_started.get() && !self.stop.get() {
                        waited += LOOK;
                        self.see_to_it(&expected, waited).await?;
                    }
                }
            }
        }
        Ok(Some(arrived))
    }

    /// Whether those that are still expected may come.
    async fn see_to_it(&self, expected: &BTreeSet<String>, waited: Duration) -> Result<(), ContainerError> {
        let silent = |node: &String| Err(ContainerError::Silent { node: node.clone(), run: self.run.clone() });
        let there: BTreeSet<String> =
            self.daemon.containers(Some(&self.label())).await?.into_iter().map(|container| container.name).collect();
        match expected.iter().find(|node| !there.contains(&container_name(&self.run, node))) {
            Some(gone) => silent(gone),
            None if waited > PATIENCE => expected.first().map_or(Ok(()), silent),
            None => Ok(()),
        }
    }
}

fn image_of(node: &Node) -> Option<&str> {
    match &node.program {
        Program::Run { image, .. } => image.as_deref(),
        Program::Role(_) => None,
    }
}

/// Says which run and which node, and is nobody else's.
fn container_name(run: &Path, node: &str) -> String {
    let mut hasher = DefaultHasher::new();
    run.hash(&mut hasher);
    let name = |path: Option<&Path>| {
        path.and_then(Path::file_name).map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
    };
    format!("{}-{:08x}-{node}", name(run.parent()), hasher.finish() as u32)
}

/// Settings of a node's network namespace: programs without capabilities may use low ports and ping, and nothing announces,
/// detects or configures itself.
fn sysctls(plan: &Plan) -> BTreeMap<String, String> {
    let mut settings =
        vec![("net.ipv4.ip_unprivileged_port_start", "0"), ("net.ipv4.ping_group_range", "0 2147483647")];
    if Path::new("/proc/net/if_inet6").exists() {
        settings.extend([
            // Docker switches it off where it gives no addresses.
            ("net.ipv6.conf.all.disable_ipv6", "0"),
            ("net.ipv6.conf.default.disable_ipv6", "0"),
            ("net.ipv6.conf.default.accept_dad", "0"),
            ("net.ipv6.conf.default.accept_ra", "0"),
            ("net.ipv6.conf.default.autoconf", "0"),
        ]);
    }
    if plan.is_routed() {
        // With several ways an answer may take another one than the question (RFC 3704).
        settings.extend([("net.ipv4.conf.all.rp_filter", "0"), ("net.ipv4.conf.default.rp_filter", "0")]);
    }
    settings.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

/// The top folders of this machine, links to folders among them.
fn machine_folders() -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir("/") else { return Vec::new() };
    let folders = entries.flatten().filter(|entry| {
        let own = OWN_FOLDERS.iter().any(|own| entry.file_name() == *own);
        !own && entry.path().is_dir()
    });
    folders.map(|entry| entry.path()).collect()
}

async fn pause(span: Duration) {
    #[expect(clippy::disallowed_methods, reason = "the daemon tells of no end but when it is asked")]
    tokio::time::sleep(span).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_container_is_named_after_its_run_and_node() {
        let name = container_name(Path::new("/a/runs/failover/20260101T000000Z"), "client");
        assert!(name.starts_with("failover-") && name.ends_with("-client"), "{name}");
        assert_ne!(name, container_name(Path::new("/b/runs/failover/20260101T000000Z"), "client"));
    }
}

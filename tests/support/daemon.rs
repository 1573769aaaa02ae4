//! Docker's daemon: the machine's, one of a test's own, and what only looks like one.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::{has_program, pause};

/// Between two looks at what Docker says, which has no way to be waited for.
const LOOK: Duration = Duration::from_millis(100);
/// No step of these tests takes so long on a machine that is alive.
const LOOKS: u32 = 600;

/// Whether this user may use a Docker daemon here.
pub(crate) fn answers() -> bool {
    has_program("docker") && docker(&["version"]).status.success()
}

/// What the command line client says.
pub(crate) fn docker(words: &[&str]) -> Output {
    Command::new("docker").args(words).stdin(Stdio::null()).output().expect("docker can be started")
}

#[track_caller]
pub(crate) fn wait_until(what: &str, mut is: impl FnMut() -> bool) {
    for _ in 0..LOOKS {
        if is() {
            return;
        }
        pause(LOOK, "nobody tells of a container's end");
    }
    panic!("{what} did not come");
}

/// A daemon of the test's own, which may be killed.
pub(crate) struct OwnDaemon {
    pub(crate) child: Child,
    pub(crate) folder: tempfile::TempDir,
}

impl OwnDaemon {
    pub(crate) fn start() -> OwnDaemon {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("daemon.json"), "{}").expect("its settings");
        let mut daemon = OwnDaemon { child: OwnDaemon::spawn(folder.path()), folder };
        daemon.await_answer();
        daemon
    }

    pub(crate) fn spawn(folder: &Path) -> Child {
        let place = |name: &str| folder.join(name).to_string_lossy().into_owned();
        let log = std::fs::File::create(folder.join("log")).expect("its log");
        // In a network of its own: a daemon that is to have no bridge takes the machine's down.
        Command::new("unshare")
            .args(["--net", "dockerd"])
            .args([
                "--config-file",
                &place("daemon.json"),
                "--data-root",
                &place("data"),
                "--exec-root",
                &place("exec"),
            ])
            .args(["--pidfile", &place("pid"), "--host", &format!("unix://{}", place("socket"))])
            .args(["--bridge=none", "--iptables=false", "--ip-masq=false"])
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("its log"))
            .stderr(log)
            .spawn()
            .expect("dockerd can be started")
    }

    pub(crate) fn host(&self) -> String {
        format!("unix://{}", self.folder.path().join("socket").display())
    }

    pub(crate) fn await_answer(&mut self) {
        let host = self.host();
        wait_until("the daemon's first answer", || docker(&["-H", &host, "version"]).status.success());
    }
}

impl Drop for OwnDaemon {
    fn drop(&mut self) {
        // Ends what it has started, too.
        let _gone = kill(Pid::from_raw(self.child.id() as i32), Signal::SIGTERM);
        let _ended = self.child.wait();
        // Containers' file systems stay mounted after a daemon was killed.
        let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        let own = self.folder.path().to_string_lossy().into_owned();
        for mount in
            mounts.lines().rev().filter_map(|line| line.split(' ').nth(1)).filter(|path| path.starts_with(&own))
        {
            let _left = nix::mount::umount2(mount, nix::mount::MntFlags::MNT_DETACH);
        }
    }
}

/// Answers every request as a daemon of this API version would.
pub(crate) fn old_daemon(socket: &Path, api: &'static str) {
    let listener = UnixListener::bind(socket).expect("a socket");
    std::thread::spawn(move || {
        for connection in listener.incoming().flatten() {
            std::thread::spawn(move || {
                let mut request = BufReader::new(connection);
                let mut line = String::new();
                while request.read_line(&mut line).is_ok_and(|count| count > 0) {
                    if line.ends_with("\r\n\r\n") {
                        let body = format!("{{\"Version\":\"1.0\",\"ApiVersion\":\"{api}\"}}");
                        let head = format!(
                            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
                            body.len()
                        );
                        if request.get_mut().write_all((head + &body).as_bytes()).is_err() {
                            return;
                        }
                        line.clear();
                    }
                }
            });
        }
    });
}

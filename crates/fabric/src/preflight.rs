//! Whether this machine can run a plan, and what to do where it cannot.
//!
//! * [`examine`]: everything that a run may need, tried where trying is harmless.
//! * [`require`]: what one plan needs; raises soft limits on the way.
//! * [`netem()`]: what the kernel has of netem, which decides what carries a network.

mod limits;
mod probe;

use nix::errno::Errno;

pub use limits::{LimitError, require};
pub(crate) use probe::tried_on;
pub use probe::{examine, netem};

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What it is: `user namespaces`.
    pub what: &'static str,
    /// Whether it is there.
    pub state: State,
    /// What was found, in words.
    pub detail: String,
    /// What to do about it; empty where there is nothing to do.
    pub remedy: String,
}

/// Whether a thing is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// All that a run can ask of it.
    Ready,
    /// Runs work, with the limits that the finding names.
    Limited,
    /// No run works without.
    Missing,
}

const APPARMOR: &str = "/proc/sys/kernel/apparmor_restrict_unprivileged_userns";
const DEBIAN: &str = "/proc/sys/kernel/unprivileged_userns_clone";
const MOST_USER_NAMESPACES: &str = "/proc/sys/user/max_user_namespaces";

/// What a user can do when the kernel refuses namespaces with this error.
pub(crate) fn namespace_remedy(errno: Errno) -> String {
    let by_root = "or run it with sudo";
    if setting(APPARMOR) == Some(1) {
        return format!(
            "AppArmor keeps ordinary users from user namespaces: sudo sysctl -w \
             kernel.apparmor_restrict_unprivileged_userns=0, {by_root}"
        );
    }
    if setting(DEBIAN) == Some(0) {
        return format!("user namespaces are off: sudo sysctl -w kernel.unprivileged_userns_clone=1, {by_root}");
    }
    if setting(MOST_USER_NAMESPACES) == Some(0) {
        return format!("user namespaces are off: sudo sysctl -w user.max_user_namespaces=100000, {by_root}");
    }
    match errno {
        Errno::ENOSPC | Errno::EUSERS => {
            format!("there are too many namespaces already: raise the limits under /proc/sys/user, {by_root}")
        }
        Errno::ENOMEM | Errno::EAGAIN => {
            "the limit of processes or memory is reached: see ulimit -u and the cgroup's pids.max".to_owned()
        }
        Errno::EINVAL | Errno::ENOSYS => "this kernel was built without namespaces".to_owned(),
        _ => format!(
            "something forbids new namespaces, as a container's seccomp profile does: allow them (docker run \
             --privileged), {by_root}"
        ),
    }
}

/// A number under `/proc/sys`; `None` where there is no such setting.
fn setting(path: &str) -> Option<u64> {
    std::fs::read_to_string(path).ok()?.trim().parse().ok()
}

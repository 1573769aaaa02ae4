//! The one module that makes and enters namespaces.
#![allow(unsafe_code, reason = "clone with namespace flags and mount_setattr have no safe form")]

use std::ffi::CString;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, FromRawFd, OwnedFd, RawFd};

use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, setns};
use nix::unistd::{Gid, Pid, Uid};

/// What a fork returned, and to whom.
pub(crate) enum Forked {
    /// To the parent: the child's id.
    Parent(Pid),
    /// To the child.
    Child,
}

/// Forks, with the child in new namespaces as `flags` say.
///
/// # Safety
///
/// As for `fork`: in a process of several threads the child may call async-signal-safe functions only.
pub(crate) unsafe fn fork_into(flags: CloneFlags) -> Result<Forked, Errno> {
    let thread_id = thread_id_address();
    let mut flags = flags.bits() as libc::c_ulong | libc::SIGCHLD as libc::c_ulong;
    if thread_id != 0 {
        flags |= (libc::CLONE_CHILD_SETTID | libc::CLONE_CHILD_CLEARTID) as libc::c_ulong;
    }
    // SAFETY: no CLONE_VM, so the child has its own copy of everything, as after fork; `thread_id` is where the C
    // library keeps the calling thread's id, as the kernel was told by that library.
    let result = unsafe { libc::syscall(libc::SYS_clone, flags, 0usize, 0usize, thread_id, 0usize) };
    match Errno::result(result)? {
        0 => Ok(Forked::Child),
        pid => Ok(Forked::Parent(Pid::from_raw(pid as i32))),
    }
}

/// Where the C library keeps the calling thread's id, 0 where the kernel does not tell. Its own fork renews what stands
/// there; so does this one.
fn thread_id_address() -> usize {
    #[cfg(target_pointer_width = "64")]
    {
        let mut address: usize = 0;
        // SAFETY: PR_GET_TID_ADDRESS writes one pointer to the given place.
        let result = unsafe { libc::prctl(libc::PR_GET_TID_ADDRESS, &mut address as *mut usize) };
        if result == 0 { address } else { 0 }
    }
    // The kernel's 32-bit forms disagree about the size of the result.
    #[cfg(not(target_pointer_width = "64"))]
    0
}

/// In a new user namespace: this process is `uid` and `gid` inside, who are `outer_uid` and `outer_gid` outside; nobody
/// else exists.
pub(crate) fn map_user(uid: Uid, outer_uid: Uid, gid: Gid, outer_gid: Gid) -> Result<(), (&'static str, io::Error)> {
    // Since Linux 3.19 an unprivileged process has to give up setgroups before it may map its group.
    write("/proc/self/setgroups", "deny").map_err(|error| ("write /proc/self/setgroups", error))?;
    write("/proc/self/uid_map", &format!("{uid} {outer_uid} 1"))
        .map_err(|error| ("write /proc/self/uid_map", error))?;
    write("/proc/self/gid_map", &format!("{gid} {outer_gid} 1")).map_err(|error| ("write /proc/self/gid_map", error))
}

/// Mounts made here from now on are seen nowhere else, and those made elsewhere not here.
pub(crate) fn detach_mounts() -> Result<(), Errno> {
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>)
}

/// Shows the processes of the caller's own PID namespace in `/proc`.
pub(crate) fn mount_proc() -> Result<(), Errno> {
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(Some("proc"), "/proc", Some("proc"), flags, None::<&str>)
}

/// Keeps whoever lives in this mount namespace from writing below `path`, which is a mount point; with `all_below` also
/// to what is mounted there. A machine's root needs no capability to write most of `/proc/sys` and `/sys`.
pub(crate) fn make_read_only(path: &str, all_below: bool) -> Result<(), Errno> {
    let attributes = libc::mount_attr { attr_set: libc::MOUNT_ATTR_RDONLY, attr_clr: 0, propagation: 0, userns_fd: 0 };
    let name = CString::new(path).map_err(|_| Errno::EINVAL)?;
    let flags = if all_below { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: a path that ends with NUL, and a structure together with its size, which outlive the call.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            libc::AT_FDCWD,
            name.as_ptr(),
            flags,
            &raw const attributes,
            size_of::<libc::mount_attr>(),
        )
    };
    match Errno::result(result) {
        // Before Linux 5.12, and in sandboxes that do not know the call: only the topmost mount.
        Err(Errno::ENOSYS | Errno::EPERM) => {
            let kept = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
            mount(
                None::<&str>,
                path,
                None::<&str>,
                MsFlags::MS_REMOUNT | MsFlags::MS_BIND | MsFlags::MS_RDONLY | kept,
                None::<&str>,
            )
        }
        result => result.map(drop),
    }
}

/// Makes `path` a mount point that shows what it showed before.
pub(crate) fn bind_to_itself(path: &str) -> Result<(), Errno> {
    mount(Some(path), path, None::<&str>, MsFlags::MS_BIND, None::<&str>)
}

/// A descriptor of the calling thread's network namespace.
pub(crate) fn own_network() -> io::Result<OwnedFd> {
    Ok(File::open("/proc/thread-self/ns/net").or_else(|_| File::open("/proc/self/ns/net"))?.into())
}

/// Moves the calling thread into a network namespace.
pub(crate) fn enter_network(namespace: impl AsFd) -> Result<(), Errno> {
    setns(namespace, CloneFlags::CLONE_NEWNET)
}

/// Moves the calling thread into the network namespace of a process.
pub(crate) fn enter_network_of(process: Pid) -> io::Result<()> {
    // SAFETY: takes no pointers.
    let descriptor = unsafe { libc::syscall(libc::SYS_pidfd_open, process.as_raw(), 0) };
    if descriptor >= 0 {
        // SAFETY: the descriptor is new and owned by nobody else.
        let process = unsafe { OwnedFd::from_raw_fd(descriptor as RawFd) };
        if enter_network(process).is_ok() {
            return Ok(());
        }
    }
    // Before Linux 5.8 only a file names a namespace.
    Ok(enter_network(File::open(format!("/proc/{process}/ns/net"))?)?)
}

/// Moves the calling thread into a new network namespace.
pub(crate) fn leave_network() -> Result<(), Errno> {
    nix::sched::unshare(CloneFlags::CLONE_NEWNET)
}

/// Writes a file of `/proc` in one system call, as the kernel wants it.
pub(crate) fn write(path: &str, value: &str) -> io::Result<()> {
    File::options().write(true).open(path)?.write_all(value.as_bytes())
}

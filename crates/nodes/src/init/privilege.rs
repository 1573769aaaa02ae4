//! With which powers a program runs.
//!
//! * `none`, as an ordinary user in a user namespace of ours: capabilities vanish at the program's execution by
//!   themselves; as the machine's root: the program keeps user 0, which then means nothing (`SECBIT_NOROOT`).
//!   A program that carries capabilities in its file (Debian's `ping` does) gets those over the node's own network:
//!   without them in the bounding set the kernel would refuse to execute it at all.
//! * `root`: user 0. In a user namespace of the node's own it may have everything, as that reaches no further; as the
//!   machine's root what concerns network, files and users.
//!
//! capabilities(7) has the rules.
#![allow(unsafe_code, reason = "runs between clone and exec: raw system calls only")]

use std::fs;

use nix::errno::Errno;
use nix::unistd::geteuid;

use super::protocol::Privilege;

/// Whom a program runs as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct User {
    /// `setuid(2)`
    pub uid: u32,
    /// `setgid(2)`; it is in no other group.
    pub gid: u32,
}

/// What to change before a program is executed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Powers {
    becomes: Option<User>,
    /// User 0 gets no capabilities by being user 0.
    root_means_nothing: bool,
    /// The most that can be had from a file, or by being user 0.
    bounding: u64,
    /// Those kept up to the execution.
    held: u64,
    /// The kernel's refusal is a failure; else it only confirms that there is nothing to lose.
    must_succeed: bool,
}

const NET_BIND_SERVICE: u64 = 1 << 10;
const NET_ADMIN: u64 = 1 << 12;
const NET_RAW: u64 = 1 << 13;
/// Reach no further than the node's own network namespace.
const OWN_NETWORK: u64 = NET_BIND_SERVICE | NET_ADMIN | NET_RAW;
/// CHOWN, DAC_OVERRIDE, FOWNER, FSETID, KILL, SETGID, SETUID, SETPCAP, SYS_CHROOT, AUDIT_WRITE, SETFCAP: what daemons
/// that start as root use to become somebody else. Nothing that mounts, loads, traces or reboots.
const FILES_AND_USERS: u64 = 0b1_1111_1011 & !(1 << 2) | 1 << 18 | 1 << 29 | 1 << 31;
const EVERYTHING: u64 = u64::MAX;

/// `_LINUX_CAPABILITY_VERSION_3`
const CAPABILITY_VERSION: u32 = 0x2008_0522;
const SECBIT_NOROOT: libc::c_ulong = 1;
const SECBIT_NOROOT_LOCKED: libc::c_ulong = 2;
/// A call that changes no capability sets beyond this one.
const LAST_POSSIBLE_CAPABILITY: u32 = 63;

impl Powers {
    /// How this process, as who it is, has to execute a program with `privilege` for `caller`, if that is somebody else.
    pub(super) fn of(privilege: Privilege, caller: Option<User>) -> Powers {
        let root = geteuid().is_root();
        match privilege {
            Privilege::None => Powers {
                becomes: caller.filter(|caller| *caller != ROOT),
                root_means_nothing: true,
                bounding: OWN_NETWORK,
                held: 0,
                must_succeed: root,
            },
            Privilege::Root => {
                let limit = if root && rules_the_machine() { OWN_NETWORK | FILES_AND_USERS } else { EVERYTHING };
                Powers {
                    becomes: (!root || caller.is_some_and(|caller| caller != ROOT)).then_some(ROOT),
                    root_means_nothing: false,
                    bounding: limit,
                    held: limit,
                    must_succeed: true,
                }
            }
        }
    }

    /// Changes this process accordingly; to be called after the fork and before the execution. Neither allocates nor
    /// locks.
    pub(super) fn assume(&self) -> Result<(), Errno> {
        let (root, other) = (self.becomes.filter(|user| *user == ROOT), self.becomes.filter(|user| *user != ROOT));
        root.map_or(Ok(()), |root| root.assume(false))?;
        self.refusal_counts(self.limit_bounding_set())?;
        if self.root_means_nothing {
            let bits = SECBIT_NOROOT | SECBIT_NOROOT_LOCKED;
            // SAFETY: a plain system call.
            let locked = Errno::result(unsafe { libc::prctl(libc::PR_SET_SECUREBITS, bits, 0, 0, 0) });
            self.refusal_counts(locked.map(drop))?;
        }
        // Whoever is not root any more may change none of the above.
        other.map_or(Ok(()), |other| other.assume(true))?;
        // Ambient ones are a part of the inheritable ones, so they go with those.
        hold_no_more_than(self.held)
    }

    fn refusal_counts(&self, result: Result<(), Errno>) -> Result<(), Errno> {
        if self.must_succeed { result } else { Ok(()) }
    }

    fn limit_bounding_set(&self) -> Result<(), Errno> {
        for capability in (0..=LAST_POSSIBLE_CAPABILITY).filter(|bit| self.bounding & (1 << bit) == 0) {
            // SAFETY: a plain system call.
            match Errno::result(unsafe { libc::prctl(libc::PR_CAPBSET_DROP, libc::c_ulong::from(capability), 0, 0, 0) })
            {
                // Past the last one that this kernel knows.
                Err(Errno::EINVAL) => break,
                result => result?,
            };
        }
        Ok(())
    }
}

const ROOT: User = User { uid: 0, gid: 0 };

impl User {
    /// Makes this process the user's. Neither allocates nor locks.
    fn assume(self, leave_other_groups: bool) -> Result<(), Errno> {
        let (uid, gid) = (self.uid, self.gid);
        // SAFETY: plain system calls, past the C library, which would ask the threads of the parent to follow.
        unsafe {
            if leave_other_groups {
                Errno::result(libc::syscall(libc::SYS_setgroups, 0, std::ptr::null::<libc::gid_t>()))?;
            }
            Errno::result(libc::syscall(libc::SYS_setresgid, gid, gid, gid))?;
            Errno::result(libc::syscall(libc::SYS_setresuid, uid, uid, uid)).map(drop)
        }
    }
}

/// From now on this process is `user` to every file system, and itself to everything else (setfsuid(2)): what it makes is the
/// user's, and what the user may not touch it may not.
pub(super) fn act_as(user: User) {
    // SAFETY: plain system calls. They tell of no failure; root may become anybody.
    unsafe {
        libc::syscall(libc::SYS_setfsgid, user.gid);
        libc::syscall(libc::SYS_setfsuid, user.uid);
    }
}

/// `struct __user_cap_header_struct`
#[repr(C)]
struct CapabilityHeader {
    version: u32,
    pid: i32,
}

/// `struct __user_cap_data_struct`: the sets' lower halves, then their upper ones.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct CapabilityHalf {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

pub(super) fn hold_no_more_than(limit: u64) -> Result<(), Errno> {
    let mut header = CapabilityHeader { version: CAPABILITY_VERSION, pid: 0 };
    let mut halves = [CapabilityHalf::default(); 2];
    let limits = [limit as u32, (limit >> 32) as u32];
    // SAFETY: both structures are those of version 3 and outlive the calls.
    unsafe {
        Errno::result(libc::syscall(libc::SYS_capget, &raw mut header, halves.as_mut_ptr()))?;
        for (half, limit) in halves.iter_mut().zip(limits) {
            half.permitted &= limit;
            half.effective = half.permitted;
            half.inheritable = 0;
        }
        Errno::result(libc::syscall(libc::SYS_capset, &raw mut header, halves.as_ptr())).map(drop)
    }
}

/// Whether user 0 here is the machine's root, or as good as that: a map of all users to themselves.
fn rules_the_machine() -> bool {
    let Ok(map) = fs::read_to_string("/proc/self/uid_map") else {
        return true;
    };
    map.split_whitespace().eq(["0", "0", "4294967295"])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limits_are_those_of_capability_h() {
        // CHOWN 0, DAC_OVERRIDE 1, FOWNER 3, FSETID 4, KILL 5, SETGID 6, SETUID 7, SETPCAP 8, SYS_CHROOT 18,
        // AUDIT_WRITE 29, SETFCAP 31.
        let expected: u64 = [0, 1, 3, 4, 5, 6, 7, 8, 18, 29, 31].iter().map(|bit| 1_u64 << bit).sum();
        assert_eq!(FILES_AND_USERS, expected);
        let sys_admin = 1 << 21;
        assert_eq!((FILES_AND_USERS | OWN_NETWORK) & sys_admin, 0);
    }
}

//! From a command to a running program.
//!
//! The child shares the init's memory until it executes the program (`CLONE_VM | CLONE_VFORK`, as posix_spawn(3) does
//! it): no page tables are copied, and it leaves the reason of a failure where its parent finds it, before the parent
//! goes on.
#![allow(unsafe_code, reason = "clone(2) with shared memory, and raw system calls up to execve(2)")]

use std::cell::Cell;
use std::ffi::{CString, NulError, c_char, c_int, c_void};
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::ptr;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use thiserror::Error;

use super::inherited::close_range;
use super::privilege::Powers;
use super::protocol::Start;

/// What a program gets as descriptors 0, 1, 2 and [`EVENTS_FD`].
#[derive(Debug)]
pub(super) struct ProgramEnds {
    pub(super) stdin: OwnedFd,
    pub(super) stdout: OwnedFd,
    pub(super) stderr: OwnedFd,
    pub(super) events: OwnedFd,
}

/// Where a program finds the descriptor for its reports.
const EVENTS_FD: RawFd = 3;
const EVENTS_VARIABLE: &str = "TESTBED_EVENTS_FD";
/// Where a program without `PATH` is looked for.
const DEFAULT_PATH: &str = "/usr/local/bin:/usr/bin:/bin";
/// For a handful of frames that hold no buffers.
const STACK_WORDS: usize = 8 * 1024;

/// Why a program does not run.
#[derive(Debug, Error, PartialEq, Eq)]
pub(super) enum LaunchError {
    #[error("no program is named")]
    NoProgram,
    #[error("{what} contains a NUL byte")]
    Nul { what: &'static str },
    #[error("`{program}`: not found in PATH ({path})")]
    NotFound { program: String, path: String },
    #[error("`{program}`: {}", lower(*.errno))]
    Execute { program: String, errno: Errno },
    #[error("`{program}`: it exists, but the interpreter or loader that it asks for does not")]
    NoInterpreter { program: String },
    #[error("`{program}`: neither a program for this machine nor a script that begins with `#!`")]
    Format { program: String },
    #[error("working directory {cwd}: {}", lower(*.errno))]
    Directory { cwd: String, errno: Errno },
    #[error("cannot change to the privileges asked for: {}", lower(*.errno))]
    Privilege { errno: Errno },
    #[error("cannot make a process for it: {}", lower(*.errno))]
    Process { errno: Errno },
}

fn lower(errno: Errno) -> String {
    errno.desc().to_lowercase()
}

/// Starts what `start` describes with `powers`; returns its process.
pub(super) fn launch(start: &Start, powers: Powers, ends: ProgramEnds) -> Result<i32, LaunchError> {
    let program = start.argv.first().ok_or(LaunchError::NoProgram)?;
    let argv = c_strings("an argument", start.argv.iter().cloned())?;
    let environment = start
        .env
        .iter()
        .filter(|(name, _)| *name != EVENTS_VARIABLE)
        .map(|(name, value)| format!("{name}={value}"))
        .chain([format!("{EVENTS_VARIABLE}={EVENTS_FD}")]);
    let environment = c_strings("the environment", environment)?;
    let path = start.env.get("PATH").map_or(DEFAULT_PATH, String::as_str);
    let candidates = c_strings("the program's path", candidates(program, path))?;
    let cwd = CString::new(start.cwd.as_os_str().as_bytes())
        .map_err(|_: NulError| LaunchError::Nul { what: "the working directory" })?;
    // None of them may stand where another one goes.
    let ends = [ends.stdin, ends.stdout, ends.stderr, ends.events]
        .iter()
        .map(out_of_the_way)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|errno| LaunchError::Process { errno })?;

    let (argv_pointers, environment_pointers) = (pointers(&argv), pointers(&environment));
    let plan = ChildPlan {
        candidates: pointers(&candidates),
        argv: argv_pointers.as_ptr(),
        environment: environment_pointers.as_ptr(),
        cwd: cwd.as_ptr(),
        ends: ends.iter().map(AsRawFd::as_raw_fd).collect(),
        powers,
        failure: Cell::new(None),
    };
    let pid = clone_into(&plan).map_err(|errno| LaunchError::Process { errno })?;
    let Some(failure) = plan.failure.get() else {
        return Ok(pid);
    };
    // SAFETY: a plain system call; the child has ended, or is about to.
    unsafe { libc::waitpid(pid, ptr::null_mut(), 0) };
    Err(match failure {
        (Stage::Directory, errno) => LaunchError::Directory { cwd: start.cwd.display().to_string(), errno },
        (Stage::Descriptors, errno) => LaunchError::Process { errno },
        (Stage::Privilege, errno) => LaunchError::Privilege { errno },
        (Stage::Execution, errno) => explain(start, program, path, errno),
    })
}

fn explain(start: &Start, program: &str, path: &str, errno: Errno) -> LaunchError {
    let program = program.to_owned();
    match errno {
        Errno::ENOENT if !program.contains('/') => LaunchError::NotFound { program, path: path.to_owned() },
        Errno::ENOENT if start.cwd.join(Path::new(&program)).exists() => LaunchError::NoInterpreter { program },
        Errno::ENOEXEC => LaunchError::Format { program },
        errno => LaunchError::Execute { program, errno },
    }
}

/// The paths to try, in order: execvp(3)'s rule.
fn candidates<'a>(program: &'a str, path: &'a str) -> Box<dyn Iterator<Item = String> + 'a> {
    if program.contains('/') {
        return Box::new([program.to_owned()].into_iter());
    }
    Box::new(path.split(':').map(move |folder| match folder {
        "" => format!("./{program}"),
        folder => format!("{folder}/{program}"),
    }))
}

fn c_strings(what: &'static str, texts: impl Iterator<Item = String>) -> Result<Vec<CString>, LaunchError> {
    texts.map(CString::new).collect::<Result<_, NulError>>().map_err(|_| LaunchError::Nul { what })
}

/// Ends with a null pointer, as execve(2) wants it. Borrows from `strings`, which must outlive the result.
fn pointers(strings: &[CString]) -> Vec<*const c_char> {
    strings.iter().map(|string| string.as_ptr()).chain([ptr::null()]).collect()
}

fn out_of_the_way(end: impl AsFd) -> Result<OwnedFd, Errno> {
    let number = fcntl(end, FcntlArg::F_DUPFD_CLOEXEC(EVENTS_FD + 1))?;
    // SAFETY: the descriptor was just made and belongs to nobody.
    Ok(unsafe { std::os::fd::FromRawFd::from_raw_fd(number) })
}

/// All that the child needs, made before it exists: it must not allocate.
struct ChildPlan {
    candidates: Vec<*const c_char>,
    argv: *const *const c_char,
    environment: *const *const c_char,
    cwd: *const c_char,
    /// For descriptors 0, 1, 2 and [`EVENTS_FD`].
    ends: Vec<RawFd>,
    powers: Powers,
    /// Written by the child, read by the parent after the child has gone.
    failure: Cell<Option<(Stage, Errno)>>,
}

#[derive(Clone, Copy)]
enum Stage {
    Descriptors,
    Directory,
    Privilege,
    Execution,
}

fn clone_into(plan: &ChildPlan) -> Result<i32, Errno> {
    // Of 16-byte words, as the top of a stack must be aligned to 16.
    let mut stack: Vec<u128> = Vec::with_capacity(STACK_WORDS);
    let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD;
    // SAFETY: the child runs on `stack`, which only grows down from its end, and uses `plan`; both outlive it, as
    // CLONE_VFORK holds this thread until the child has executed the program or ended. The process has one thread and
    // all signals are blocked, so nothing else runs in the shared memory meanwhile.
    let pid = unsafe {
        let top = stack.as_mut_ptr().add(STACK_WORDS).cast::<c_void>();
        libc::clone(child, top, flags, ptr::from_ref(plan).cast_mut().cast())
    };
    Errno::result(pid)
}

extern "C" fn child(plan: *mut c_void) -> c_int {
    // SAFETY: `clone_into` passes a plan that outlives this process's use of it.
    let plan = unsafe { &*plan.cast_const().cast::<ChildPlan>() };
    let failure = become_program(plan);
    plan.failure.set(Some(failure));
    127
}

/// Returns only if it fails.
fn become_program(plan: &ChildPlan) -> (Stage, Errno) {
    // SAFETY: plain system calls on descriptors of this process's own table and on strings of the plan.
    unsafe {
        libc::setsid();
        for (wanted, end) in (0..).zip(&plan.ends) {
            if libc::dup2(*end, wanted) == -1 {
                return (Stage::Descriptors, Errno::last());
            }
        }
        // Everything else is closed at the execution anyway; this covers what the init did not open itself.
        close_range(EVENTS_FD.unsigned_abs() + 1, u32::MAX);
        if libc::chdir(plan.cwd) == -1 {
            return (Stage::Directory, Errno::last());
        }
        if let Err(errno) = plan.powers.assume() {
            return (Stage::Privilege, errno);
        }
        let mut none = std::mem::MaybeUninit::uninit();
        libc::sigemptyset(none.as_mut_ptr());
        libc::sigprocmask(libc::SIG_SETMASK, none.as_ptr(), ptr::null_mut());
    }
    let mut denied = false;
    for candidate in plan.candidates.iter().take_while(|candidate| !candidate.is_null()) {
        // SAFETY: three null-terminated arguments of the plan.
        unsafe { libc::execve(*candidate, plan.argv, plan.environment) };
        match Errno::last() {
            Errno::EACCES => denied = true,
            Errno::ENOENT | Errno::ENOTDIR => {}
            errno => return (Stage::Execution, errno),
        }
    }
    (Stage::Execution, if denied { Errno::EACCES } else { Errno::ENOENT })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_taken_as_it_is_and_a_name_is_looked_up() {
        assert_eq!(candidates("/bin/sh", "/usr/bin").collect::<Vec<_>>(), ["/bin/sh"]);
        assert_eq!(candidates("./run", "/usr/bin").collect::<Vec<_>>(), ["./run"]);
        assert_eq!(candidates("sh", "/usr/bin::/bin").collect::<Vec<_>>(), ["/usr/bin/sh", "./sh", "/bin/sh"]);
    }
}

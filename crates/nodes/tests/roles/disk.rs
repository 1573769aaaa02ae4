//! `downloader` on disks that are full, forbidden, limited or taken: one clear line, exit status 3, and nothing lost.
#![allow(unsafe_code, reason = "takes a system call away from a child, which no safe wrapper offers")]

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::process::{Download, Server, noise};
use crate::reply::{Allowance, serve_metered};
use crate::running;

const LENGTH: usize = 6_000_000;

struct Setting {
    folder: tempfile::TempDir,
    server: Server,
}

impl Setting {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let movie = folder.path().join("movie");
        fs::write(&movie, noise(LENGTH)).unwrap();
        fs::create_dir(folder.path().join("disk")).unwrap();
        Setting { server: Server::serve(&movie, 0, &[]), folder }
    }

    fn out(&self) -> PathBuf {
        self.folder.path().join("disk/out")
    }

    /// Runs a shell script; `$get` is a download into `out`, `$disk` the folder of it. Returns what it printed.
    fn script(&self, words: &[&str], script: &str, prepare: fn(&mut Command)) -> String {
        let (disk, get) = (self.folder.path().join("disk"), env!("CARGO_BIN_EXE_downloader"));
        let mut command = Command::new(words[0]);
        command.args(&words[1..]).arg(format!("cd \"$disk\"\n{script}")).env("disk", disk).env("movie", "../movie");
        command.env("get", format!("{get} {} -o {} -i 60", self.server.url(), self.out().display()));
        prepare(&mut command);
        let output = command.stdin(Stdio::null()).output().unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
    }

    /// The same with a file system of its own on `$disk`, this large. `None` if this machine does not let it.
    fn on_a_disk_of(&self, size: &str, script: &str, prepare: fn(&mut Command)) -> Option<String> {
        let unshare = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c"];
        if !Command::new(unshare[0])
            .args(&unshare[1..5])
            .args(["-c", "true"])
            .output()
            .is_ok_and(|o| o.status.success())
        {
            let why = "no mount namespaces for this user";
            assert!(std::env::var_os("CI").is_none(), "SKIPPED under CI: {why}");
            println!("SKIPPED: {why}");
            return None;
        }
        let mount = format!("mount -t tmpfs -o size={size} tmpfs \"$disk\" && cd \"$disk\" || exit 99\n{script}");
        Some(self.script(&unshare, &mount, prepare))
    }
}

fn plainly(_: &mut Command) {}

/// As on a file system that can neither reserve space nor tell how much there is.
fn without_foresight(command: &mut Command) {
    let deny = u32::from(u16::try_from(libc::EOPNOTSUPP).unwrap()) | libc::SECCOMP_RET_ERRNO;
    let statement = |code: u32, k: u32, jt: u8, jf: u8| libc::sock_filter { code: code as u16, jt, jf, k };
    let filter = [
        statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 0),
        statement(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, libc::SYS_fallocate as u32, 1, 0),
        statement(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, libc::SYS_fstatfs as u32, 0, 1),
        statement(libc::BPF_RET | libc::BPF_K, deny, 0, 0),
        statement(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ALLOW, 0, 0),
    ];
    let install = move || {
        let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_ptr().cast_mut() };
        // SAFETY: two system calls that read their arguments only; `program` outlives them.
        let done = unsafe {
            libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
                && libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &program) == 0
        };
        if done { Ok(()) } else { Err(std::io::Error::last_os_error()) }
    };
    // SAFETY: makes system calls only, which is what may be done between fork and exec.
    unsafe { command.pre_exec(install) };
}

#[test]
fn too_small_a_disk_is_told_before_anything_is_fetched() {
    let setting = Setting::new();
    let Some(said) = setting.on_a_disk_of("3m", "$get; echo status $?; ls -A", plainly) else { return };
    assert!(said.contains("cannot reserve space for") && said.contains("No space left on device"), "{said}");
    assert!(said.contains("status 3\n"), "{said}");
    assert!(!said.lines().any(|line| line.starts_with("out")), "nothing of use is left, so nothing is: {said}");
}

#[test]
fn a_disk_that_fills_up_costs_nothing_when_there_is_space_again() {
    let setting = Setting::new();
    let script = "$get; echo first $?
        mount -o remount,size=64m \"$disk\"
        $get --continue; echo second $?; cmp out $movie && ls -A";
    let Some(said) = setting.on_a_disk_of("3m", script, without_foresight) else { return };
    assert!(said.contains("cannot write") && said.contains("No space left on device"), "{said}");
    assert!(said.contains("bytes are kept; --continue goes on from here"), "{said}");
    assert!(said.contains("first 3\n") && said.contains("second 0\nout\n"), "{said}");
    assert!(said.lines().any(|line| line.contains("bytes are here already")), "it resumes: {said}");
    let after = said.split("first 3\n").nth(1).expect("looked for above");
    let received = after.lines().filter_map(|line| line.strip_prefix("Server1: ")?.split('/').next()).next_back();
    let kilobytes: f64 = received.expect("it shows metric lines").parse().unwrap();
    // Nothing that was recorded comes again.
    let kept = said.lines().find_map(|line| line.strip_suffix(" bytes are kept; --continue goes on from here"));
    let kept: f64 = kept.expect("looked for above").parse().unwrap();
    assert!(kilobytes <= (LENGTH as f64 - kept) / 1000.0 + 100.0, "{said}");
    // The disk took 3 MiB. If hashes had come before it was full, what is whole of it is found by them, recorded or not; at
    // most each of the four ranges that a source may have open left a piece of 256 KiB in parts.
    let second_life = said.rsplit("connecting").next().expect("there is a last part");
    if !second_life.contains("hashes came") {
        assert!(kilobytes <= 6000.0 - 3145.0 + 4.0 * 262.2 + 100.0, "{said}");
    }
}

#[test]
fn a_read_only_disk_is_named() {
    let setting = Setting::new();
    let script = "mount -o remount,ro \"$disk\"; $get; echo status $?";
    let Some(said) = setting.on_a_disk_of("3m", script, plainly) else { return };
    assert!(said.contains("cannot create") && said.contains("Read-only file system"), "{said}");
    assert!(said.contains("status 3\n"), "{said}");
}

#[test]
fn a_limit_of_file_sizes_is_an_error_and_not_a_signal() {
    let setting = Setting::new();
    let said = setting.script(&["sh", "-c"], "ulimit -f 2000; $get; echo status $?; ls -A", plainly);
    assert!(said.contains("File too large") && said.contains("status 3\n"), "{said}");
}

#[test]
fn what_is_in_the_way_is_named() {
    let setting = Setting::new();
    let out = setting.out();
    let url = [setting.server.url()];
    let fails = |out: &Path, more: &[&str], said: &str| {
        let ended = Download::start(&url, out, more).end();
        assert_eq!(ended.status.code(), Some(3), "{said}: {}", ended.stderr);
        assert!(ended.stderr.contains(said), "{said}: {}", ended.stderr);
    };
    fails(Path::new("/nowhere/out"), &[], "cannot create /nowhere/out.part: No such file or directory");
    fails(Path::new("/dev/null"), &["--overwrite"], "/dev/null is a device, not a file");
    fails(Path::new("/nowhere/"), &[], "/nowhere/ is a folder that does not exist, not a file");
    fails(&out.with_file_name("x".repeat(252)), &[], "File name too long");

    let journal = out.with_file_name("out.journal");
    fs::create_dir(&journal).unwrap();
    fails(&out, &[], "out.journal: Is a directory");
    fs::remove_dir(&journal).unwrap();

    // One that is under way until this test ends.
    let endless = running::url(serve_metered(&noise(LENGTH), &Allowance::of(200_000)));
    let mut first = Download::start(&[endless], &out, &[]);
    first.wait_for_bytes(100_000);
    fails(&out, &["--overwrite"], "another download writes");
    fails(&out, &["-r"], "another download writes");
}

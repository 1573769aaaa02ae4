//! Programs that nobody here wrote: servers that the downloader fetches from, and clients that fetch from `file-server`.

use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use fetch::{Digest, Manifest};
use nodes::metalink;

use crate::ports::Ports;
use crate::process::{Process, Server, noise};
use crate::reply::{Allowance, Gate, Reply, serve, serve_metered};
use crate::running::{Running, url};
use crate::wire::request;

const LENGTH: usize = 3_000_000;

/// A folder with the file in it, for programs that may run as somebody else.
struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> (Self, Vec<u8>) {
        let folder = tempfile::tempdir().unwrap();
        std::fs::set_permissions(folder.path(), PermissionsExt::from_mode(0o755)).unwrap();
        let file = noise(LENGTH);
        std::fs::write(folder.path().join("f"), &file).unwrap();
        (Folder(folder), file)
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    }
}

/// A web server that serves a folder.
struct Foreign {
    process: Process,
    port: u16,
}

/// As fast as it can.
const UNBOUNDED: &str = "";

impl Foreign {
    /// Whoever asks it must bear that it does not listen yet.
    fn nginx(folder: &Folder, port: u16, bound: &str) -> Option<Self> {
        let (program, at) = (find("nginx")?, folder.path().display());
        let configuration = folder.write(
            "nginx.conf",
            &format!(
                "daemon off; master_process off; pid {at}/nginx.pid; error_log stderr crit; events {{}}
                http {{
                    access_log off; client_body_temp_path {at}/t1; proxy_temp_path {at}/t2; fastcgi_temp_path {at}/t3;
                    uwsgi_temp_path {at}/t4; scgi_temp_path {at}/t5;
                    server {{ listen 127.0.0.1:{port}; root {at}; {bound} }}
                }}"
            ),
        );
        Some(Foreign::start(Command::new(program).arg("-p").arg(folder.path()).arg("-c").arg(configuration), port))
    }

    fn apache(folder: &Folder, port: u16) -> Option<Self> {
        const MODULES: &str = "/usr/lib/apache2/modules";
        let (program, at) = (find("apache2")?, folder.path().display());
        let configuration = folder.write(
            "apache.conf",
            &format!(
                "ServerRoot {at}\nServerName localhost\nListen 127.0.0.1:{port}\nPidFile {at}/apache.pid\n\
                 ErrorLog {at}/apache.log\nMutex file:{at} default\nUser nobody\nGroup nogroup\n\
                 LoadModule mpm_event_module {MODULES}/mod_mpm_event.so\n\
                 LoadModule authz_core_module {MODULES}/mod_authz_core.so\n\
                 DocumentRoot {at}\n<Directory {at}>\nRequire all granted\n</Directory>\n"
            ),
        );
        // One process, that ends when it is killed.
        Some(Foreign::start(Command::new(program).arg("-X").arg("-f").arg(configuration), port))
    }

    fn python(folder: &Folder) -> Option<Self> {
        let program = find("python3")?;
        let mut command = Command::new(program);
        command.args(["-u", "-m", "http.server", "0", "--bind", "127.0.0.1", "--directory"]).arg(folder.path());
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let port = line.split("port ").nth(1).and_then(|rest| rest.split(' ').next()?.parse().ok());
        Some(Foreign { process: Process { child }, port: port.unwrap_or_else(|| panic!("it does not listen: {line}")) })
    }

    fn start(command: &mut Command, port: u16) -> Self {
        Foreign { process: Process { child: command.stdin(Stdio::null()).spawn().unwrap() }, port }
    }
}

/// A program, also where an ordinary user's PATH does not look; says so if it is missing.
fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut places: Vec<PathBuf> = std::env::split_paths(&path).collect();
    places.extend(["/usr/sbin", "/sbin"].map(PathBuf::from));
    let found = places.into_iter().map(|place| place.join(program)).find(|path| path.is_file());
    if found.is_none() {
        assert!(std::env::var_os("CI").is_none(), "SKIPPED under CI: {program} is not installed");
        println!("SKIPPED: {program} is not installed");
    }
    found
}

#[test]
fn nginx_and_apache_are_sources_alone_and_together() {
    let ((folder, file), ports) = (Folder::new(), Ports::free(2));
    let start = || [Foreign::nginx(&folder, ports[0], UNBOUNDED), Foreign::apache(&folder, ports[1])];
    let servers: Vec<_> = start().into_iter().flatten().collect();
    for server in &servers {
        let ended = Running::start(&[url(server.port)], &[]).end();
        assert!(ended.status.success() && ended.file.as_ref() == Some(&file), "{}", ended.stderr);
        assert!(!ended.stderr.contains("byte ranges"), "{}", ended.stderr);
    }
    // Each makes its own tag of the same file. With hashes from anybody that is of no account.
    let (all_here, served) = (Gate::default(), file.clone());
    let gate = all_here.clone();
    let with_hashes = serve(move |asked| {
        let right = Reply::right(&served, asked).field("ETag", "\"tag\"");
        if asked.for_part() { right.paced_by(&gate) } else { right }
    });
    drop(servers);
    let mut running = Running::start(&[url(with_hashes), url(ports[0]), url(ports[1])], &[]);
    let alive = |port: u16| move |line: &str| line == format!("127.0.0.1:{port}: alive");
    running.wait_for(alive(with_hashes)).unwrap_or_else(|said| panic!("{said}"));
    let later = start();
    let mut unheard: Vec<_> = later.iter().flatten().map(|server| alive(server.port)).collect();
    if !unheard.is_empty() {
        let are_all_heard = |line: &str| {
            unheard.retain(|is_it| !is_it(line));
            unheard.is_empty()
        };
        running.wait_for(are_all_heard).unwrap_or_else(|said| panic!("{said}"));
    }
    all_here.open();
    let ended = running.end();
    assert!(ended.status.success() && ended.file == Some(file), "{}", ended.stderr);
    assert!(ended.stderr.contains("every piece has the SHA-256"), "{}", ended.stderr);
}

#[test]
fn a_nginx_that_is_killed_and_comes_back_is_used_again() {
    let ((folder, file), ports) = (Folder::new(), Ports::free(1));
    // So slow that it would take a minute.
    let Some(mut server) = Foreign::nginx(&folder, ports[0], "limit_rate 50k;") else { return };
    let mut running = Running::start(&[url(server.port)], &[]);
    running.wait_for(|line| line.ends_with("alive")).unwrap_or_else(|said| panic!("{said}"));
    server.process.kill();
    running.wait_for(|line| line.contains("down")).unwrap_or_else(|said| panic!("{said}"));
    let _revived = Foreign::nginx(&folder, server.port, UNBOUNDED);
    let ended = running.end();
    assert!(ended.status.success() && ended.file == Some(file), "{}", ended.stderr);
}

#[test]
fn pythons_server_has_no_ranges_and_that_is_said() {
    let (folder, file) = Folder::new();
    let Some(python) = Foreign::python(&folder) else { return };
    let ended = Running::start(&[url(python.port)], &[]).end();
    assert!(ended.status.success() && ended.file.as_ref() == Some(&file), "{}", ended.stderr);
    let line = "127.0.0.1: serves no byte ranges, so it sends all or nothing: used as one stream, while no other source delivers";
    assert!(ended.stderr.lines().any(|said| said == line), "{}", ended.stderr);

    // Beside one that has ranges it is told, and not asked for the file.
    let allowance = Allowance::of(200_000);
    let ranges = serve_metered(&file, &allowance);
    let mut running = Running::start(&[url(python.port), url(ranges)], &[]);
    let told = |said: &str| said.contains(&line["127.0.0.1".len()..]);
    running.wait_for(told).unwrap_or_else(|said| panic!("{said}"));
    allowance.lift();
    let ended = running.end();
    assert!(ended.status.success() && ended.file == Some(file), "{}", ended.stderr);
    assert!(ended.received < 2 * LENGTH as u64, "{} bytes were received", ended.received);
}

/// Runs a client in a fresh folder; `None` if it is not installed.
fn client(program: &str, args: &[&str], made: &Path) -> Option<Output> {
    let output = Command::new(find(program)?).args(args).current_dir(made).stdin(Stdio::null()).output().unwrap();
    Some(output)
}

#[test]
fn curl_finds_all_that_it_knows_of_http() {
    let (folder, file) = Folder::new();
    let server = Server::serve(&folder.path().join("f"), 0, &[]);
    let made = tempfile::tempdir().unwrap();
    let url = server.url() + "f";
    let curl = |args: &[&str]| client("curl", &[&["-s", "-S"], args, &[&url]].concat(), made.path());
    let Some(whole) = curl(&["-f"]) else { return };
    assert!(whole.stdout == file);
    assert!(curl(&["-f", "-r", "1000-1999"]).unwrap().stdout == file[1000..2000]);
    assert!(curl(&["-f", "-r", "-500"]).unwrap().stdout == file[LENGTH - 500..]);
    assert!(curl(&["-f", "-0"]).unwrap().stdout == file, "HTTP/1.0");
    // Several ranges may be answered with everything (RFC 9110 §14.2).
    assert!(curl(&["-f", "-r", "0-9,100-109"]).unwrap().stdout == file);
    let head = String::from_utf8(curl(&["-f", "-I"]).unwrap().stdout).unwrap();
    assert!(head.starts_with("HTTP/1.1 200 OK") && head.contains(&format!("Content-Length: {LENGTH}")), "{head}");
    let tag = head.lines().find_map(|line| line.strip_prefix("ETag: ")).unwrap().trim();
    for (tag, length) in [(tag, 10), ("\"another\"", LENGTH)] {
        let conditional = format!("If-Range: {tag}");
        assert_eq!(curl(&["-f", "-r", "0-9", "-H", &conditional]).unwrap().stdout.len(), length);
    }
    let unsatisfiable = curl(&["-r", "3000000-", "-o", "none", "-w", "%{http_code}"]).unwrap();
    assert_eq!(unsatisfiable.stdout, b"416");
    // It goes on where it stopped.
    std::fs::write(made.path().join("part"), &file[..1_234_567]).unwrap();
    assert!(curl(&["-f", "-C", "-", "-o", "part"]).unwrap().status.success());
    assert!(std::fs::read(made.path().join("part")).unwrap() == file);
}

#[test]
fn wget_and_python_fetch_and_go_on() {
    let (folder, file) = Folder::new();
    let server = Server::serve(&folder.path().join("f"), 0, &[]);
    let made = tempfile::tempdir().unwrap();
    let url = server.url() + "f";
    std::fs::write(made.path().join("f"), &file[..1_234_567]).unwrap();
    if let Some(wget) = client("wget", &["-q", "-c", &url], made.path()) {
        assert!(wget.status.success() && std::fs::read(made.path().join("f")).unwrap() == file);
        // There is nothing more to be had of a file that is whole.
        assert!(client("wget", &["-q", "-c", &url], made.path()).unwrap().status.success());
    }
    let script =
        format!("import sys, urllib.request as u; sys.stdout.buffer.write(u.urlopen('{}').read())", server.url());
    if let Some(python) = client("python3", &["-c", &script], made.path()) {
        assert!(python.status.success() && python.stdout == file, "it follows the redirect of the root");
    }
}

#[test]
fn aria2_checks_the_pieces_by_our_metalink() {
    let (folder, file) = Folder::new();
    let server = Server::serve(&folder.path().join("f"), 0, &[]);
    let quiet = ["--no-conf", "--console-log-level=warn", "--summary-interval=0", "--max-tries=2"];
    // A Metalink on the disk, as a user keeps it: that of the server, which has no hashes before it has read the file.
    let made = tempfile::tempdir().unwrap();
    let document = loop {
        let answer = request(server.port, "GET /f.meta4", &[]);
        if answer.status == 200 {
            break answer.body;
        }
        assert_eq!(answer.status, 503);
    };
    let manifest = metalink::read(&document, "f").unwrap();
    let write = |port: u16, manifest: &Manifest| {
        std::fs::write(made.path().join("of.meta4"), metalink::write("f", &url(port), manifest)).unwrap();
    };
    write(server.port, &manifest);
    let Some(aria2) = client("aria2c", &[&quiet[..], &["-M", "of.meta4"]].concat(), made.path()) else { return };
    assert!(aria2.status.success() && std::fs::read(made.path().join("f")).unwrap() == file);
    std::fs::remove_file(made.path().join("f")).unwrap();

    // One byte is another one than the hashes say.
    let mut damaged = file.clone();
    damaged[1_000_000] ^= 1;
    let liar = serve(move |asked| Reply::right(&damaged, asked));
    let hashes = file.chunks(manifest.pieces().size() as usize).map(Digest::of).collect();
    let same = Manifest::of_pieces(LENGTH as u64, manifest.pieces().size(), hashes, Some(Digest::of(&file))).unwrap();
    assert_eq!(manifest.same_hashes(&same), Some(true), "as anybody would compute them");
    write(liar, &same);
    let aria2 = client("aria2c", &[&quiet[..], &["-M", "of.meta4"]].concat(), made.path()).unwrap();
    let said = String::from_utf8_lossy(&aria2.stdout).into_owned() + &String::from_utf8_lossy(&aria2.stderr);
    assert!(!aria2.status.success() && said.contains("checksum"), "{said}");
}

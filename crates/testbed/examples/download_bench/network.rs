//! A case as a topology: four servers, and a client that starts when they are ready.

use std::path::Path;

use clap::ValueEnum;
use nodes::metalink::SUFFIX;

use crate::case::{Case, Hashes, VICTIM};
use crate::shared::usage;
use crate::shared::yaml::{put, words};

/// The name of the file that is downloaded.
pub(crate) const FILE: &str = "movie";

/// What serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Servers {
    /// nginx with sendfile, one worker each
    Nginx,
    /// `file-server`
    Ours,
}

/// What downloads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Client {
    /// `downloader`
    Ours,
    /// aria2
    Aria2,
}

impl Servers {
    pub(crate) fn word(self) -> &'static str {
        match self {
            Servers::Nginx => "nginx",
            Servers::Ours => "file-server",
        }
    }
}

impl Client {
    pub(crate) fn word(self) -> &'static str {
        match self {
            Client::Ours => "downloader",
            Client::Aria2 => "aria2",
        }
    }
}

/// What the programs of a topology need to be told.
#[derive(Debug)]
pub(crate) struct Paths<'a> {
    /// The testbed.
    pub(crate) testbed: &'a Path,
    /// This program.
    pub(crate) bench: &'a Path,
    /// The folder with the file, and with its Metalink if the case has one.
    pub(crate) served: &'a Path,
    /// Further options of aria2.
    pub(crate) aria2: &'a [String],
}

/// The node of the client.
pub(crate) const CLIENT: &str = "client";

/// The node of a server, from 0.
pub(crate) fn server(index: usize) -> String {
    format!("server-{}", index + 1)
}

/// The topology's text.
pub(crate) fn topology(case: &Case, servers: Servers, client: Client, paths: &Paths<'_>) -> String {
    let file = paths.served.join(FILE);
    let mut text =
        format!("name: {}\nseed: 1\ntimeout: 120s\nfiles:\n  {FILE}: {{ path: {file:?} }}\nnodes:\n", case.name);
    let names: Vec<String> = (0..case.lines.len()).map(server).collect();
    for (name, line) in names.iter().zip(&case.lines) {
        let program = match servers {
            Servers::Nginx => format!("run: {}, ready: {{ tcp: 80 }}", words(&nginx(paths.served, false))),
            Servers::Ours => format!("role: file-server, file: {FILE}"),
        };
        let link = line.map_or(String::new(), |line| {
            format!(", link: {{ rate: {}Mbit, delay: {}us }}", line.rate, line.round_trip * 500)
        });
        put(&mut text, format_args!("  {name}: {{ {program}{link} }}"));
    }
    let mut client_words = vec![paths.bench.display().to_string(), usage::WORD.to_owned()];
    if case.hashes != Hashes::None {
        client_words
            .extend(names.iter().flat_map(|name| [usage::ONCE.to_owned(), name.clone(), format!("/{FILE}{SUFFIX}")]));
    }
    client_words.extend(command(case, client, paths, &names));
    let (client_words, after) = (words(&client_words), names.join(", "));
    put(&mut text, format_args!("  {CLIENT}: {{ run: {client_words}, after: [{after}], out: {FILE} }}"));
    if !case.faults.is_empty() {
        put(&mut text, format_args!("events:"));
    }
    for (at, fault) in case.faults {
        put(&mut text, format_args!("  - {{ at: {at}s, {}: {} }}", fault.word(), names[VICTIM]));
    }
    put(&mut text, format_args!("expect:\n  {CLIENT}: {{ exit: 0, file: {FILE} }}"));
    text
}

/// The servers' URLs of the file.
pub(crate) fn urls(case: &Case) -> Vec<String> {
    (0..case.lines.len()).map(|index| format!("http://{}/{FILE}", server(index))).collect()
}

fn command(case: &Case, client: Client, paths: &Paths<'_>, servers: &[String]) -> Vec<String> {
    let mut words: Vec<String> = match client {
        Client::Ours => {
            let testbed = paths.testbed.display().to_string();
            [testbed.as_str(), "role", "downloader", "-o", FILE].map(str::to_owned).to_vec()
        }
        Client::Aria2 => {
            let split = format!("--split={}", servers.len());
            // One connection to each server and splits from 1 MiB on were best of what was tried: with two and four to each
            // it took 1.24 and 1.39 × the bound of `mixed` instead of 1.09, with splits from 4 MiB on 1.52. Selectors of
            // servers made no difference, other orders of pieces were worse.
            [
                "aria2c",
                "--no-conf=true",
                "--show-console-readout=false",
                "--summary-interval=0",
                "--console-log-level=warn",
                "--max-connection-per-server=1",
                split.as_str(),
                "--min-split-size=1M",
                "--file-allocation=none",
            ]
            .map(str::to_owned)
            .to_vec()
        }
    };
    if client == Client::Aria2 {
        words.extend(case.aria2.iter().map(|option| (*option).to_owned()));
        words.extend_from_slice(paths.aria2);
    }
    if client == Client::Aria2 && case.hashes != Hashes::None {
        words.push(format!("--metalink-file={}", paths.served.join(FILE).display()) + SUFFIX);
    } else {
        words.extend(urls(case));
    }
    words
}

/// nginx with everything but the file inside the node's disk; `user root` keeps root's nginx from giving its folders away,
/// which takes a capability. For many clients it has a worker for each processor; else one process, which logs each answer's
/// bytes into `served.log`. Without `tcp_nopush`: here it halves the throughput of short answers, and gives long ones nothing.
pub(crate) fn nginx(served: &Path, for_many: bool) -> Vec<String> {
    let (processes, log, listen) = if for_many {
        ("worker_processes auto; worker_rlimit_nofile 8192;", "access_log off;", "listen 80 backlog=4096 reuseport;")
    } else {
        ("master_process off;", "log_format bytes $body_bytes_sent; access_log served.log bytes;", "listen 80;")
    };
    let configuration = format!(
        "daemon off; user root; pid nginx.pid; error_log stderr warn; {processes}
events {{ worker_connections 4096; }}
http {{
  client_body_temp_path tmp/body; proxy_temp_path tmp/proxy; fastcgi_temp_path tmp/fastcgi;
  uwsgi_temp_path tmp/uwsgi; scgi_temp_path tmp/scgi;
  {log}
  sendfile on; open_file_cache max=100; keepalive_requests 1000000;
  server {{ {listen} location / {{ root {}; }} }}
}}",
        served.display()
    );
    let script = "mkdir -p logs tmp; printf '%s\\n' \"$1\" > nginx.conf; exec nginx -p \"$PWD\" -e stderr -c \"$PWD/nginx.conf\"";
    ["sh", "-c", script, "nginx", configuration.as_str()].map(str::to_owned).to_vec()
}

//! What `check-server` publishes, and when.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::time::Instant;

use nix::sys::signal::Signal;

use crate::ports::Ports;
use crate::process::{Server, noise};
use crate::wire::request;

#[test]
fn the_hash_of_a_file_is_published_and_follows_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("f");
    let check = |args: &[&str]| Server::check(&["http://127.0.0.1:1/".to_owned()], args);
    std::fs::write(&path, noise(1000)).unwrap();
    let watching = check(&["--file", path.to_str().unwrap()]);
    let mut events = Events::of(&watching);
    for length in [1000, 2000] {
        let digest = fetch::Digest::of(&noise(length));
        // At once, as nobody may see it half written.
        let new = folder.path().join("new");
        std::fs::write(&new, noise(length)).unwrap();
        std::fs::rename(new, &path).unwrap();
        events.wait_for_line(&format!(r#"data: {{"sha256":"{digest}","length":{length}}}"#));
        let status = String::from_utf8(request(watching.port, "GET /status", &[]).body).unwrap();
        assert!(status.contains(&digest.to_string()), "{status}");
    }
    let digest = fetch::Digest::of(b"x").to_string();
    let told = check(&["--checksum", &digest]);
    Events::of(&told).wait_for_line(&format!(r#"data: {{"sha256":"{digest}","length":null}}"#));
}

/// A listener to `/events`.
struct Events(BufReader<TcpStream>);

impl Events {
    fn of(check: &Server) -> Self {
        let mut stream = TcpStream::connect(("127.0.0.1", check.port)).unwrap();
        stream.write_all(b"GET /events HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        Events(BufReader::new(stream))
    }

    fn wait_for_line(&mut self, wanted: &str) {
        let mut line = String::new();
        while line.trim_end() != wanted {
            line.clear();
            assert!(self.0.read_line(&mut line).unwrap() > 0, "the check server is gone");
        }
    }

    /// Waits until it says that the server at this port is alive or not.
    fn wait_for(&mut self, port: u16, alive: bool) {
        let (server, state) = (format!(":{port}/\""), format!("\"alive\":{alive}"));
        let mut line = String::new();
        while !(line.starts_with("data: ") && line.contains(&server) && line.contains(&state)) {
            line.clear();
            assert!(self.0.read_line(&mut line).unwrap() > 0, "the check server is gone");
        }
    }
}

#[test]
fn a_death_is_told_at_once_and_a_return_too() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("f");
    std::fs::write(&path, noise(1000)).unwrap();
    let ports = Ports::free(1);
    let mut first = Server::serve(&path, ports[0], &[]);
    let second = Server::serve(&path, 0, &[]);
    // With questions an hour apart, only the end of the connection can tell of a death.
    let check = Server::check(&[first.url(), second.url()], &["--interval", "1h"]);
    let mut events = Events::of(&check);
    events.wait_for(first.port, true);
    let killed = clock();
    first.process.kill();
    events.wait_for(first.port, false);
    println!("told {:?} after the kill", killed.elapsed());
    let status = String::from_utf8(request(check.port, "GET /status", &[]).body).unwrap();
    assert!(status.starts_with(r#"{"role":"check","servers":[{"url""#), "{status}");
    let _revived = Server::serve(&path, first.port, &[]);
    events.wait_for(first.port, true);
}

#[test]
fn a_server_that_falls_silent_is_dead_although_its_connections_stand() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("f");
    std::fs::write(&path, noise(1000)).unwrap();
    let server = Server::serve(&path, 0, &[]);
    let check = Server::check(&[server.url()], &["--interval", "100ms"]);
    let mut events = Events::of(&check);
    events.wait_for(server.port, true);
    server.process.signal(Signal::SIGSTOP);
    events.wait_for(server.port, false);
    // Its kernel accepts connections all the while: that must not count.
    let mut late = Events::of(&check);
    late.wait_for(server.port, false);
    server.process.signal(Signal::SIGCONT);
    events.wait_for(server.port, true);
}

#[test]
fn it_answers_in_http() {
    let check = Server::check(&["http://127.0.0.1:1/".to_owned()], &[]);
    assert_eq!(request(check.port, "GET /", &[]).status, 404);
    assert_eq!(request(check.port, "POST /done", &[("Content-Length", "0")]).status, 204);
    assert_eq!(request(check.port, "POST /status", &[("Content-Length", "0")]).status, 405);
    let status = String::from_utf8(request(check.port, "GET /status", &[]).body).unwrap();
    assert!(status.contains(r#""alive":false"#) && status.contains(r#""done":1"#), "{status}");
}

#[expect(clippy::disallowed_methods, reason = "a duration is printed, nothing is asserted of it")]
fn clock() -> Instant {
    Instant::now()
}

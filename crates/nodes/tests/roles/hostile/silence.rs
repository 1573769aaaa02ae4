//! Servers that take their time.

use std::time::Duration;

use super::{LENGTH, beside_an_honest_one, case, part};
use crate::process::noise;
use crate::reply::{Reply, serve};
use crate::running::{Running, url};

const SILENT: &[&str] = &["down: no answer"];

#[test]
fn servers_that_take_their_time() {
    beside_an_honest_one(vec![
        case("accepts and says nothing", SILENT, |_, right| right.silent_after(0)),
        part("says nothing when it is asked for bytes", SILENT, |_, right| right.silent_after(0)),
        part("half a head, then nothing", SILENT, |_, right| right.silent_after(30)),
        part("a head, then nothing", SILENT, |_, right| {
            let head = right.head_length();
            right.silent_after(head)
        }),
        part("some of the body, then nothing", SILENT, |_, right| right.silent_after(20_000)),
        case("a byte at a time in the head", SILENT, |_, right| right.dripping_after(0)),
        part("a byte at a time in the head of a part", SILENT, |_, right| right.dripping_after(0)),
    ]);
}

/// As one that wakes up a disk, or fetches from elsewhere first.
#[test]
fn a_server_that_thinks_for_seconds_before_each_answer_is_used() {
    let file = noise(LENGTH);
    let served = file.clone();
    let port = serve(move |asked| Reply::right(&served, asked).thinking(Duration::from_secs(2)));
    let ended = Running::start(&[url(port)], &[]).end();
    assert!(ended.status.success() && ended.file == Some(file), "{}", ended.stderr);
}

#[test]
fn servers_that_hang_up() {
    beside_an_honest_one(vec![
        case("closes each connection", &["the server closed the connection"], |_, _| Reply::raw("").closing()),
        part("closes when it is asked for bytes", &["the server closed the connection"], |_, _| {
            Reply::raw("").closing()
        }),
    ]);
}

#[test]
fn a_port_where_nobody_listens_is_named_and_waited_for() {
    // Bound, and never listening.
    let dead = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port();
    let mut running = Running::start(&[url(dead)], &[]);
    running.wait_for(|line| line == "127.0.0.1: down: connection refused").unwrap_or_else(|said| panic!("{said}"));
    running.interrupt();
    let ended = running.end();
    assert_eq!((ended.status.code(), ended.file), (Some(130), None), "{}", ended.stderr);
}

//! Requests over TCP, and how connections end.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};

use super::{Client, PATIENCE, Program, Served, head};
use crate::ports::fresh_address;

#[test]
fn every_form_of_request_is_answered_as_published() {
    let served = Served::of(25_000);
    let peer = Program::peer(&served.path(), &[]);
    for (request, answer) in [
        ("GET f:0\n", served.answer(0, 10_000)),
        ("GET f:2\r\n", served.answer(20_000, 5_000)),
        ("get f\n", served.answer(0, 25_000)),
        ("GETHDR f:1\n", head(10_000, 10_000)),
        ("GetHdr f\n", head(0, 25_000)),
    ] {
        let mut client = Client::of(&peer);
        client.say(request).hears(&answer);
        client.0.shutdown(Shutdown::Write).unwrap();
        client.ends();
    }
    let mut client = Client::of(&peer);
    for _ in 0..20 {
        let mut begin = [0; 37];
        client.say("GET f:*\n").0.read_exact(&mut begin).unwrap();
        let text = std::str::from_utf8(&begin).unwrap();
        let first = text.strip_prefix("200 OK\nBODY_BYTE_OFFSET_IN_FILE: ").unwrap().chars().next().unwrap();
        let offset = first.to_digit(10).unwrap() as usize * 10_000;
        let answer = served.answer(offset, 10_000.min(25_000 - offset));
        assert!(answer.starts_with(&begin));
        client.hears(&answer[begin.len()..]);
    }
}

#[test]
fn a_file_of_whole_blocks_ends_in_an_empty_one() {
    let served = Served::of(20_000);
    let peer = Program::peer(&served.path(), &[]);
    Client::of(&peer).say("GET f:2\nGETHDR f:2\n").hears(&head(20_000, 0)).hears(&head(20_000, 0));
    let small = Program::peer(&served.path(), &["--block-size", "7", "--name", "other"]);
    Client::of(&small).say("GET other:2857\n").hears(&served.answer(19_999, 1));
}

#[test]
fn requests_come_in_pieces_or_many_at_once_and_are_answered_in_order() {
    let served = Served::of(25_000);
    let peer = Program::peer(&served.path(), &[]);
    let requests = "GET f:1\nGETHDR f:0\r\nGET f\nGET f:2\n";
    let answers =
        [served.answer(10_000, 10_000), head(0, 10_000), served.answer(0, 25_000), served.answer(20_000, 5_000)]
            .concat();
    Client::of(&peer).say(requests).hears(&answers);
    let mut slow = Client::of(&peer);
    for byte in requests.bytes() {
        slow.0.write_all(&[byte]).unwrap();
    }
    // Byte by byte on this side, too.
    for wanted in &answers {
        slow.hears(std::slice::from_ref(wanted));
    }
}

#[test]
fn what_is_no_request_is_refused_and_ends_the_connection() {
    let served = Served::of(25_000);
    let peer = Program::peer(&served.path(), &["--pre-delay", "50ms"]);
    for wrong in ["HELLO", "GET", "GET g:0", "GET f:3", "GET f:-1", "GET f:99999999999999999999", "GET f:", "", "PUT f"]
    {
        let refusal = format!("400 BAD_FORMAT: {wrong}\n");
        Client::of(&peer).say(&format!("{wrong}\nGET f:0\n")).hears(refusal.as_bytes()).ends();
        let mut client = Client::of(&peer);
        client.say(&format!("GET f:2\n{wrong}\n")).hears(&served.answer(20_000, 5_000)).hears(refusal.as_bytes());
        client.ends();
    }
    let endless = "x".repeat(5_000);
    Client::of(&peer).say(&endless).hears(format!("400 BAD_FORMAT: {}\n", "x".repeat(1024)).as_bytes()).ends();
}

#[test]
fn an_idle_connection_is_closed_and_one_that_is_owed_an_answer_is_not() {
    let served = Served::of(25_000);
    let peer = Program::peer(&served.path(), &["--idle", "100ms", "--pre-delay", "400ms"]);
    Client::of(&peer).ends();
    let mut client = Client::of(&peer);
    client.say("GET f:0\n").hears(&served.answer(0, 10_000)).ends();
}

#[test]
fn an_answer_takes_its_time() {
    #[expect(clippy::disallowed_methods, reason = "that it is not faster is what is promised")]
    fn now() -> std::time::Instant {
        std::time::Instant::now()
    }
    let served = Served::of(25_000);
    // The fixed port's pace is 40 ms: ten events for a block.
    let peer = Program::peer(&served.path(), &["--pre-delay", "200ms", "--stretch", "50ms"]);
    let mut client = Client::of(&peer);
    let asked = now();
    client.say("GET f:0\n").hears(b"2");
    assert!(asked.elapsed().as_millis() >= 200);
    client.hears(&served.answer(0, 10_000)[1..]);
    assert!(asked.elapsed().as_millis() >= 200 + 9 * 40, "{:?}", asked.elapsed());
}

/// Five connections that the peer has taken.
fn five(peer: &Program) -> Vec<Client> {
    let mut clients: Vec<Client> = (0..5).map(|_| Client::of(peer)).collect();
    clients.iter_mut().for_each(|client| _ = client.say("GETHDR f\n").hears(&head(0, 25_000)));
    clients
}

#[test]
fn the_sixth_connection_of_a_client_is_closed() {
    let served = Served::of(25_000);
    let peer = Program::peer(&served.path(), &[]);
    let mut clients = five(&peer);
    Client::of(&peer).say("GETHDR f\n").ends();
    Client::from(fresh_address().into(), peer.at).say("GETHDR f\n").hears(&head(0, 25_000));
    clients.iter_mut().for_each(|client| _ = client.say("GETHDR f\n").hears(&head(0, 25_000)));
    // When one has left, another one may come, as soon as the peer has seen it.
    clients.pop();
    let first = |mut client: Client| client.say("GETHDR f\n").0.read(&mut [0]).unwrap_or(0);
    while first(Client::of(&peer)) == 0 {}
}

#[test]
fn or_any_other_is() {
    let served = Served::of(25_000);
    let peer = Program::peer(&served.path(), &["--close-random"]);
    let mut clients = five(&peer);
    Client::of(&peer).say("GETHDR f\n").hears(&head(0, 25_000));
    // It is closed by now, so it cannot hear any more.
    let hears = |client: &mut Client| matches!(client.say("GETHDR f\n").0.read(&mut [0]), Ok(1));
    let alive = clients.iter_mut().filter_map(|client| hears(client).then_some(())).count();
    assert_eq!(alive, 4);
}

#[test]
fn a_client_that_takes_nothing_fills_no_memory() {
    let served = Served::of(8 << 20);
    let peer = Program::peer(&served.path(), &[]);
    let mut greedy: Vec<Client> = (0..5).map(|_| Client::of(&peer)).collect();
    for client in &mut greedy {
        client.say(&"GET f\n".repeat(500));
    }
    // Whoever reads is served meanwhile.
    let stream: TcpStream = Client::from(fresh_address().into(), peer.at).0;
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut honest = Client(stream);
    honest.say("GET f\n").hears(&served.answer(0, 8 << 20));
    greedy[0].hears(&served.answer(0, 8 << 20)).hears(&served.answer(0, 8 << 20));
    assert!(peer.peak_memory() < 64 << 10, "{} KiB", peer.peak_memory());
}

#[test]
fn a_port_that_is_taken_and_knobs_without_sense_are_told() {
    let served = Served::of(25_000);
    let holder = std::net::TcpListener::bind((fresh_address(), 0)).unwrap();
    let held = holder.local_addr().unwrap();
    let (address, port) = (held.ip().to_string(), held.port().to_string());
    for (words, message) in [
        (&["--listen", &address, "--port", &port][..], "cannot listen on"),
        (&["--ports", "100"], "--ports 100 is more than 99"),
        (&["--bytes-per-event", "0"], "would send nothing"),
        (&["--max-connections", "0"], "would serve nobody"),
        (&["--block-size", "0"], "cannot divide"),
        (&["--name", "a b"], "a name has no blanks"),
    ] {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_peer"));
        let ended = command.arg(served.path()).args(words).output().unwrap();
        let said = String::from_utf8(ended.stderr).unwrap();
        assert!(ended.status.code() == Some(3) && said.contains(message), "{words:?}: {said}");
    }
}

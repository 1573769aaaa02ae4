//! `downloader` against servers that lie. Beside each liar stands an honest one: the file must come out right, and the
//! lie must be named.

use std::io::Write;
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use fetch::{Digest, Manifest};
use nodes::metalink;

use crate::process::{Download, Ended, Server, noise};
use crate::wire::{Asked, answer_well, scripted};

const LENGTH: usize = 3_000_000;

/// Downloads from an honest server and a liar, and tells how it went. The liar describes the file rightly, hashes
/// and all.
fn beside_an_honest_server(lie: impl Fn(&[u8], &Asked, &mut TcpStream) -> bool + Send + Sync + 'static) -> Ended {
    let folder = tempfile::tempdir().unwrap();
    let (movie, out, file) = (folder.path().join("f"), folder.path().join("out"), Arc::new(noise(LENGTH)));
    std::fs::write(&movie, &*file).unwrap();
    let honest = Server::serve(&movie, 0, &["--rate", "20Mbit"]);
    let served = Arc::clone(&file);
    let hashes = metalink::write("f", "f", &manifest(&file));
    let liar = scripted(move |asked, stream| match asked.range {
        Some((0, 1)) => answer_well(&served, asked, stream),
        Some(_) => lie(&served, asked, stream),
        None => {
            let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{hashes}", hashes.len());
            stream.write_all(answer.as_bytes()).is_ok()
        }
    });
    let urls = [format!("{}f", honest.url()), format!("http://127.0.0.1:{liar}/f")];
    let ended = Download::start(&urls, &out, &[]).end();
    assert!(ended.status.success(), "{}", ended.stderr);
    assert!(std::fs::read(&out).unwrap() == *file, "another file came out");
    ended
}

/// As `file-server` cuts a small file.
fn manifest(file: &[u8]) -> Manifest {
    let hashes = file.chunks(256 << 10).map(Digest::of).collect();
    Manifest::of_pieces(file.len() as u64, 256 << 10, hashes, Some(Digest::of(file))).unwrap()
}

#[test]
fn flipped_bytes_are_fetched_elsewhere() {
    let ended = beside_an_honest_server(|file, asked, stream| {
        let mut wrong = file.to_vec();
        wrong.iter_mut().for_each(|byte| *byte ^= 0x40);
        answer_well(&wrong, asked, stream)
    });
    assert!(ended.stderr.contains("corrupt"), "{}", ended.stderr);
}

#[test]
fn a_liar_without_hashes_is_found_out_when_another_publishes_them() {
    let folder = tempfile::tempdir().unwrap();
    let (out, file) = (folder.path().join("out"), Arc::new(noise(LENGTH)));
    let mut wrong = file.to_vec();
    wrong.iter_mut().step_by(1000).for_each(|byte| *byte ^= 0x40);
    let liar = scripted(move |asked, stream| answer_well(&wrong, asked, stream));
    let (served, document) = (Arc::clone(&file), metalink::write("f", "f", &manifest(&file)));
    // Hashes are ready at the third question, whoever has sent how much by then: it lay on the disk unchecked.
    let questions = AtomicU64::new(0);
    let honest = scripted(move |asked, stream| {
        let answer = match asked.path.as_str() {
            "/f" => return answer_well(&served, asked, stream),
            _ if questions.fetch_add(1, Ordering::Relaxed) < 2 => {
                "HTTP/1.1 503 Later\r\nRetry-After: 1\r\nContent-Length: 0\r\n\r\n".to_owned()
            }
            _ => format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{document}", document.len()),
        };
        stream.write_all(answer.as_bytes()).is_ok()
    });
    let urls = [liar, honest].map(|port| format!("http://127.0.0.1:{port}/f"));
    let ended = Download::start(&urls, &out, &[]).end();
    assert!(ended.status.success(), "{}", ended.stderr);
    assert!(std::fs::read(&out).unwrap() == *file, "another file came out");
    assert!(ended.stderr.contains("every piece has the SHA-256"), "{}", ended.stderr);
}

#[test]
fn troubles_are_told_in_few_words() {
    let refused = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port();
    let folder = tempfile::tempdir().unwrap();
    let (movie, out, file) = (folder.path().join("f"), folder.path().join("out"), noise(LENGTH));
    std::fs::write(&movie, &file).unwrap();
    let honest = Server::serve(&movie, 0, &["--rate", "20Mbit"]);
    let urls = [format!("{}f", honest.url()), format!("http://127.0.0.1:{refused}/f")];
    let ended = Download::start(&urls, &out, &[]).end();
    let line = format!("127.0.0.1:{refused}: down: connection refused");
    assert!(ended.stderr.lines().any(|said| said == line), "{}", ended.stderr);
}

#[test]
fn a_wrong_content_range_is_named() {
    let ended = beside_an_honest_server(|file, asked, stream| {
        let (start, end) = asked.range.unwrap();
        let shifted = Asked { path: "/f".into(), range: Some((start.saturating_sub(1), end - 1)) };
        answer_well(file, &shifted, stream)
    });
    assert!(ended.stderr.contains("asked for bytes"), "{}", ended.stderr);
}

#[test]
fn a_truncated_answer_loses_nothing() {
    let ended = beside_an_honest_server(|file, asked, stream| {
        let (start, end) = asked.range.unwrap();
        let head = format!(
            "HTTP/1.1 206 P\r\nContent-Range: bytes {start}-{}/{LENGTH}\r\nContent-Length: {}\r\n\r\n",
            end - 1,
            end - start
        );
        let half = start as usize..(start + (end - start) / 2) as usize;
        let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&file[half]));
        false
    });
    let line = ": down: connection reset: the server closed it in the middle of an answer";
    assert!(ended.stderr.lines().any(|said| said.ends_with(line)), "{}", ended.stderr);
}

#[test]
fn an_endless_body_is_cut_off() {
    let ended = beside_an_honest_server(|file, asked, stream| {
        let (start, end) = asked.range.unwrap();
        let head = format!(
            "HTTP/1.1 206 P\r\nContent-Range: bytes {start}-{}/{LENGTH}\r\nTransfer-Encoding: chunked\r\n\r\n",
            end - 1
        );
        let body = &file[start as usize..end as usize];
        let mut alive = stream.write_all(head.as_bytes()).is_ok();
        while alive {
            let chunk = format!("{:x}\r\n", body.len());
            alive = stream
                .write_all(chunk.as_bytes())
                .and_then(|()| stream.write_all(body))
                .and_then(|()| stream.write_all(b"\r\n"))
                .is_ok();
        }
        false
    });
    assert!(ended.received < 2 * LENGTH as u64, "{} bytes were taken", ended.received);
}

#[test]
fn an_endless_head_is_cut_off() {
    let ended = beside_an_honest_server(|_, _, stream| {
        let line = format!("X-{}: y\r\n", "x".repeat(1000));
        let mut alive = stream.write_all(b"HTTP/1.1 206 Partial Content\r\n").is_ok();
        while alive {
            alive = stream.write_all(line.as_bytes()).is_ok();
        }
        false
    });
    assert!(ended.stderr.contains("not a valid answer"), "{}", ended.stderr);
}

#[test]
fn nonsense_and_statuses_are_named() {
    let nonsense = beside_an_honest_server(|_, _, stream| stream.write_all(b"HELLO\r\n\r\n").is_ok());
    assert!(nonsense.stderr.contains("not a valid answer"), "{}", nonsense.stderr);
    let busy = beside_an_honest_server(|_, _, stream| {
        stream.write_all(b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n").is_ok()
    });
    assert!(busy.stderr.contains("status 503"), "{}", busy.stderr);
}

#[test]
fn a_server_without_ranges_still_gives_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let (out, file) = (folder.path().join("out"), Arc::new(noise(LENGTH)));
    let served = Arc::clone(&file);
    let port = scripted(move |asked, stream| {
        if asked.path != "/f" {
            let _ = stream.write_all(b"HTTP/1.0 404 Not Found\r\n\r\n");
            return false;
        }
        let head = format!("HTTP/1.0 200 OK\r\nContent-Length: {LENGTH}\r\n\r\n");
        let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&served));
        false
    });
    let ended = Download::start(&[format!("http://127.0.0.1:{port}/f")], &out, &[]).end();
    assert!(ended.status.success(), "{}", ended.stderr);
    assert!(std::fs::read(&out).unwrap() == *file);
    assert!(ended.stderr.contains("rests on TCP"), "{}", ended.stderr);
}

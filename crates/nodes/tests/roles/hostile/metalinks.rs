//! Metalinks of no use. Beside each stands one honest server with a right one, and the liar's bytes are right.

use std::sync::atomic::{AtomicUsize, Ordering};

use nodes::metalink::MEDIA_TYPE;

use super::{Case, Cast, Form, LENGTH, at_once, beside_an_honest_one, case};
use crate::process::noise;
use crate::reply::{Asked, Reply, document, serve};
use crate::running::{Running, url};

const USELESS: &str = "its Metalink is of no use";

/// A source whose Metalink is this.
fn metalink(
    name: &'static str,
    words: &'static [&'static str],
    made: impl Fn(String) -> Vec<u8> + Send + Sync + 'static,
) -> Case {
    let lie = move |asked: &Asked, right| {
        let document = || Reply::new("200 OK").field("Content-Type", MEDIA_TYPE).body(made(document(&noise(LENGTH))));
        if asked.for_file() { right } else { document() }
    };
    case(name, words, lie).with(Cast { liar_slow: true, ..Cast::default() })
}

#[test]
fn what_cannot_be_read_is_named_and_left() {
    beside_an_honest_one(vec![
        metalink("a billion laughs", &[USELESS], |right| {
            let mut lol = String::from("<!DOCTYPE metalink [<!ENTITY a0 \"lol\">");
            for n in 1..20 {
                lol.push_str(&format!("<!ENTITY a{n} \"{}\">", format!("&a{};", n - 1).repeat(10)));
            }
            let entity = right.replace("<size>2500000<", "<size>&a19;<");
            entity.replacen("<metalink", &format!("{lol}]><metalink"), 1).into_bytes()
        }),
        metalink("deep nesting", &[USELESS, "too deep"], |right| {
            right.replacen("<file", &format!("{}<file", "<x>".repeat(100_000)), 1).into_bytes()
        }),
        metalink("torn", &[USELESS], |right| right.as_bytes()[..right.len() / 2].to_vec()),
        metalink("not XML", &[USELESS], |right| right.replace("</file>", "</pieces>").into_bytes()),
        metalink("a size that is none", &[USELESS, "`-1` is not a size"], |right| {
            right.replace("<size>2500000<", "<size>-1<").into_bytes()
        }),
        metalink("a size beyond all numbers", &[USELESS, "is not a size"], |right| {
            right.replace("<size>", &format!("<size>{}", "9".repeat(40))).into_bytes()
        }),
        metalink("a hash too few", &[USELESS, "do not fit"], |right| {
            let first = right.find("   <hash>").unwrap();
            let second = first + 1 + right[first + 1..].find("   <hash>").unwrap();
            [&right[..first], &right[second..]].concat().into_bytes()
        }),
        metalink("a hash that is none", &[USELESS, "is not a SHA-256"], |right| {
            right.replace("<hash>", "<hash>g").into_bytes()
        }),
        metalink("no bytes to a piece", &[USELESS], |right| {
            right.replace("length=\"262144\"", "length=\"0\"").into_bytes()
        }),
        metalink("the hashes of another length", &[USELESS, "2500001 bytes, and the file has 2500000"], |_| {
            document(&noise(LENGTH + 1)).into_bytes()
        }),
    ]);
}

#[test]
fn one_without_end_is_cut_off() {
    beside_an_honest_one(vec![
        case("a hundred megabytes", &[USELESS, "more than"], |asked, right| {
            let more = || "<!-- more -->".repeat(80_000);
            if asked.for_file() {
                right
            } else {
                Reply::new("200 OK").field("Content-Length", "100000000").endless(more())
            }
        }),
        case("chunks without end", &[USELESS, "more than"], |asked, right| {
            let chunk = || format!("100000\r\n{}\r\n", " ".repeat(1 << 20));
            if asked.for_file() {
                right
            } else {
                Reply::new("200 OK").chunked(1, "").mangled(Vec::clear).endless(chunk())
            }
        }),
    ]);
}

#[test]
fn hashes_that_are_late_or_never_come_hold_nothing_up() {
    let ways: Vec<Form> = vec![
        ("404", |_| Reply::new("404 Not Found").body("<html>".repeat(1000))),
        ("500", |_| Reply::new("500 Internal Server Error")),
        ("an answer to everything", |_| Reply::new("200 OK").body("<html><body>Welcome</body></html>")),
        ("a redirect", |_| Reply::new("302 Found").field("Location", "/")),
        ("closes", |_| Reply::raw("").closing()),
        ("an empty document", |_| Reply::new("200 OK")),
        ("one of many attributes", |right| {
            let attributes = format!("<file {}", "a=\"b\" ".repeat(100_000)).into_bytes();
            right
                .mangled(|body| {
                    let at = body.windows(5).position(|part| part == b"<file").unwrap();
                    body.splice(at..at + 5, attributes).for_each(drop);
                })
                .recounted()
        }),
        ("one of several files", |right| {
            let (head, tail) =
                (b"<metalink><file name=\"g\"><size>1</size><hash type=\"sha-256\">".to_vec(), b"</hash></file>");
            let digest = fetch::Digest::of(b"g").to_string();
            right
                .mangled(|body| {
                    let from = body.windows(5).position(|part| part == b"<file").unwrap();
                    let more = [&head[..], digest.as_bytes(), tail].concat();
                    *body = [&more[..], &body[from..]].concat();
                })
                .recounted()
        }),
    ];
    at_once(ways, |(name, way)| {
        let file = noise(LENGTH);
        let served = file.clone();
        let port = serve(move |asked| {
            let right = Reply::right(&served, asked);
            if asked.for_file() { right } else { way(right) }
        });
        let ended = Running::start(&[url(port)], &[]).end();
        let vouched = if name.starts_with("one of") { "every piece has the SHA-256" } else { "rests on TCP alone" };
        let is_fine = ended.status.success() && ended.file == Some(file) && ended.stderr.contains(vouched);
        if is_fine && !ended.stderr.contains("of no use") { Ok(()) } else { Err(format!("{name}: {}", ended.stderr)) }
    });
}

/// Hashes are ready at the third question, whoever has sent how much by then: it lies on the disk unchecked.
#[test]
fn a_liar_without_hashes_is_found_out_when_another_publishes_them() {
    let file = noise(LENGTH);
    let mut wrong = file.clone();
    wrong.iter_mut().step_by(1000).for_each(|byte| *byte ^= 0x40);
    let liar =
        serve(move |asked| if asked.for_file() { Reply::right(&wrong, asked) } else { Reply::new("404 Not Found") });
    let (served, questions) = (file.clone(), AtomicUsize::new(0));
    let honest = serve(move |asked| {
        let is_early = !asked.for_file() && questions.fetch_add(1, Ordering::Relaxed) < 2;
        let later = || Reply::new("503 Later").field("Retry-After", "1");
        if is_early { later() } else { Reply::right(&served, asked) }
    });
    let ended = Running::start(&[url(liar), url(honest)], &[]).end();
    assert!(ended.status.success() && ended.file == Some(file), "{}", ended.stderr);
    assert!(ended.stderr.contains("every piece has the SHA-256"), "{}", ended.stderr);
}

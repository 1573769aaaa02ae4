//! Redirects and errors.

use super::{LENGTH, at_once, beside_an_honest_one, case, part};
use crate::process::noise;
use crate::reply::{Reply, serve};
use crate::running::{Running, url};

#[test]
fn errors_are_named() {
    beside_an_honest_one(vec![
        case("404", &["status 404 Not Found"], |_, _| Reply::new("404 Not Found")),
        case("403", &["status 403 Forbidden"], |_, _| Reply::new("403 Forbidden").body("go away")),
        case("410", &["status 410 Gone"], |_, _| Reply::new("410 Gone")),
        case("416", &["status 416"], |_, _| Reply::new("416 Range Not Satisfiable")),
        part("416 for bytes that exist", &["status 416"], |_, _| {
            Reply::new("416 Range Not Satisfiable").field("Content-Range", &format!("bytes */{LENGTH}"))
        }),
        part("500", &["status 500"], |_, _| Reply::new("500 Internal Server Error")),
        part("502", &["status 502"], |_, _| Reply::new("502 Bad Gateway").body("<html>".repeat(10_000))),
        part("503", &["status 503"], |_, _| Reply::new("503 Service Unavailable")),
        part("503 and when to come back", &["status 503"], |_, _| {
            Reply::new("503 Service Unavailable").field("Retry-After", "3600")
        }),
        part("204", &["status 204"], |_, _| Reply::new("204 No Content").without("Content-Length")),
        part("an unknown status", &["status 799"], |_, _| Reply::new("799 Whatever")),
    ]);
}

#[test]
fn redirects_that_lead_nowhere() {
    // Bound, and never listening.
    let dead = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port();
    let to_the_dead = format!("http://127.0.0.1:{dead}/f");
    let to = |place: &'static str| move |_: &_, _| Reply::new("302 Found").field("Location", place);
    beside_an_honest_one(vec![
        case("in a circle", &["redirects more than"], to("/f")),
        case("on and on", &["redirects more than"], |asked, _| {
            Reply::new("307 Temporary Redirect").field("Location", &format!("/{}", asked.nth))
        }),
        case("nowhere", &["302"], |_, _| Reply::new("302 Found")),
        case("to another scheme", &["redirects badly", "ftp://x/f"], to("ftp://x/f")),
        case("to what is no URL", &["redirects badly"], to("http://:::/")),
        case("to a dead host", &["it redirected to http://127.0.0.1:"], move |_, _| {
            Reply::new("301 Moved Permanently").field("Location", &to_the_dead)
        }),
    ]);
}

#[test]
fn redirects_are_followed() {
    let file = noise(LENGTH);
    let served = file.clone();
    let other = serve(move |asked| Reply::right(&served, asked));
    let elsewhere = format!("http://localhost:{other}/f");
    let ways: Vec<(&str, &str, Vec<String>)> = vec![
        ("to another host", "302 Found", vec![elsewhere.clone()]),
        (
            "relative, then absolute",
            "301 Moved Permanently",
            vec!["a/../b?c".into(), "//localhost:PORT/x".into(), elsewhere.clone()],
        ),
        ("five of them", "308 Permanent Redirect", vec!["/1".into(), "/2".into(), "/3".into(), "/4".into(), elsewhere]),
    ];
    at_once(ways, |(name, status, places)| {
        let (status, places) = (status.to_owned(), places.clone());
        let file = file.clone();
        let next = std::sync::atomic::AtomicUsize::new(0);
        let port = serve(move |asked| {
            if asked.path.ends_with(".meta4") {
                return Reply::new("404 Not Found");
            }
            let at = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            let own = asked.head.lines().find_map(|line| line.strip_prefix("host: ").or(line.strip_prefix("Host: ")));
            let own = own.and_then(|host| host.rsplit(':').next()).unwrap_or_default();
            let place = places.get(at).or(places.last()).unwrap().replace("PORT", own);
            Reply::new(&status).field("Location", &place)
        });
        let ended = Running::start(&[url(port)], &[]).end();
        let is_fine = ended.status.success() && ended.file == Some(file);
        if is_fine { Ok(()) } else { Err(format!("{name}: {}", ended.stderr)) }
    });
}

#[test]
fn a_file_that_appears_later_is_fetched() {
    for status in ["404 Not Found", "503 Service Unavailable", "500 Internal Server Error"] {
        let file = noise(LENGTH);
        let served = file.clone();
        let port = serve(move |asked| if asked.nth < 6 { Reply::new(status) } else { Reply::right(&served, asked) });
        let ended = Running::start(&[url(port)], &[]).end();
        assert!(ended.status.success() && ended.file == Some(file), "{status}: {}", ended.stderr);
        assert!(ended.stderr.contains(&format!("status {}", &status[..3])), "{}", ended.stderr);
    }
}

#[test]
fn a_server_without_ranges_gives_the_file_and_that_is_said() {
    let file = noise(LENGTH);
    let served = file.clone();
    let port = serve(move |asked| {
        let whole = Reply::new("200 OK").status_line("HTTP/1.0 200 OK").body(&served).closing();
        if asked.for_file() { whole } else { Reply::new("404 Not Found").closing() }
    });
    let ended = Running::start(&[url(port)], &[]).end();
    assert!(ended.status.success() && ended.file == Some(file), "{}", ended.stderr);
    for words in ["127.0.0.1: serves no byte ranges", "rests on TCP alone"] {
        assert!(ended.stderr.contains(words), "{}", ended.stderr);
    }
}

/// Its question is answered with a range, and no other.
#[test]
fn ranges_that_turn_out_to_be_none_are_told() {
    beside_an_honest_one(vec![part("everything, always", &["serves no byte ranges"], |_, _| {
        Reply::new("200 OK").body(noise(LENGTH))
    })]);
}

//! Check servers that lie. A download needs none: it goes on, and says what is wrong.

use super::{LENGTH, at_once};
use crate::process::noise;
use crate::reply::{Asked, Gate, Reply, serve};
use crate::running::{Running, url};

type Script = Box<dyn Fn(&Asked) -> Reply + Send + Sync>;

/// A download with such a check server, which must be named with these words before the end; none for one that only
/// must do no harm.
fn with_check_server(name: &str, words: &[&str], script: Script) -> Result<(), String> {
    let file = noise(LENGTH);
    let (served, exposed) = (file.clone(), Gate::default());
    let gate = exposed.clone();
    let source = serve(move |asked| {
        let right = Reply::right(&served, asked);
        if asked.for_part() { right.paced_by(&gate) } else { right }
    });
    let check = serve(script);
    let options = ["--check".to_owned(), format!("http://127.0.0.1:{check}/")];
    let mut running = Running::start(&[url(source)], &options);
    if !words.is_empty() {
        let who = format!("check server http://127.0.0.1:{check}/: ");
        let is_it = |line: &str| line.starts_with(&who) && words.iter().all(|word| line.contains(word));
        let named = running.wait_for(is_it).map_err(|said| format!("{name}: not told {words:?}, but:\n{said}"))?;
        println!("{name}: {named}");
    }
    let memory = running.peak_memory();
    exposed.open();
    let ended = running.end();
    let is_fine = ended.status.success() && ended.file == Some(file) && memory < super::MOST_MEMORY;
    if is_fine { Ok(()) } else { Err(format!("{name}: {memory} KiB, {}\n{}", ended.status, ended.stderr)) }
}

fn events() -> Reply {
    Reply::new("200 OK").without("Content-Length").field("Content-Type", "text/event-stream")
}

/// A check server says this of whatever is at `port`.
fn event(port: u16, alive: bool) -> String {
    let server = format!("{{\"url\":\"http://127.0.0.1:{port}/\",\"name\":\"x\",\"alive\":{alive},\"since_ms\":1}}");
    format!("event: server\ndata: {server}\n\n")
}

#[test]
fn what_is_wrong_with_a_check_server_is_told() {
    let cases: Vec<(&str, &[&str], Script)> = vec![
        ("404", &["status 404"], Box::new(|_| Reply::new("404 Not Found"))),
        ("a web page", &["it is no check server"], Box::new(|_| Reply::new("200 OK").body("<html>"))),
        ("no HTTP", &["it is not HTTP"], Box::new(|_| Reply::raw("HELLO\r\n\r\n").closing())),
        ("closes", &["the server closed"], Box::new(|_| Reply::raw("").closing())),
        ("says nothing", &["no answer"], Box::new(|_| Reply::raw("").silent_after(0))),
        ("dies", &["the server closed"], Box::new(|_| events().chunked(1, "").mangled(Vec::clear).closing())),
        ("a line without end", &["a line without end"], Box::new(|_| events().endless("x".repeat(1 << 16)))),
        (
            "a head without end",
            &["not a valid answer"],
            Box::new(|_| Reply::raw("HTTP/1.1 200 OK\r\n").endless("X: y\r\n")),
        ),
    ];
    at_once(cases, |(name, words, script)| with_check_server(name, words, script));
}

#[test]
fn events_that_make_no_sense_do_no_harm() {
    let cases: Vec<(&str, &[&str], Script)> = vec![
        (
            "garbage",
            &[],
            Box::new(|_| events().endless("data: {\"url\": 7}\n\n: \0\u{fffd}\ndata: [[[[\n\n".repeat(100))),
        ),
        ("deep JSON", &[], Box::new(|_| events().endless(format!("data: {}\n\n", "[".repeat(100_000))))),
        (
            "servers that nobody knows",
            &[],
            Box::new(|_| events().endless((1..1000).map(|port| event(port, port % 2 == 0)).collect::<String>())),
        ),
    ];
    at_once(cases, |(name, words, script)| with_check_server(name, words, script));
}

/// Everything that is said of the source is wrong, all the time and as fast as it can be read.
#[test]
fn a_check_server_that_lies_about_a_source_does_not_stop_it() {
    for (name, says) in [("dead", &[false][..]), ("alive", &[true][..]), ("both", &[true, false][..])] {
        let file = noise(LENGTH);
        let served = file.clone();
        let source = serve(move |asked| Reply::right(&served, asked));
        let lies: String = says.iter().map(|alive| event(source, *alive)).collect::<String>().repeat(100);
        let check =
            serve(
                move |asked| {
                    if asked.path == "/events" { events().endless(lies.clone()) } else { Reply::new("204 No Content") }
                },
            );
        let options = ["--check".to_owned(), format!("http://127.0.0.1:{check}/")];
        let ended = Running::start(&[url(source)], &options).end();
        assert!(ended.status.success() && ended.file == Some(file), "{name}: {}", ended.stderr);
    }
}

/// It calls a server alive that is not: that must not become a flood of questions.
#[test]
fn a_dead_server_that_is_called_alive_all_the_time_is_asked_a_few_times_a_second() {
    let file = noise(LENGTH);
    let (served, gate) = (file.clone(), Gate::default());
    let (paced, asked_often) = (gate.clone(), std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0)));
    let honest = serve(move |asked| {
        let right = Reply::right(&served, asked);
        if asked.for_part() { right.paced_by(&paced) } else { right }
    });
    let count = std::sync::Arc::clone(&asked_often);
    let silent = serve(move |asked| {
        if asked.for_file() {
            count.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        }
        Reply::raw("").silent_after(0)
    });
    let lies = event(silent, true).repeat(100);
    let check =
        serve(
            move |asked| {
                if asked.path == "/events" { events().endless(lies.clone()) } else { Reply::new("204 No Content") }
            },
        );
    let options = ["--check".to_owned(), format!("http://127.0.0.1:{check}/")];
    #[expect(clippy::disallowed_methods, reason = "what is asserted is how often in a second")]
    let begun = std::time::Instant::now();
    let mut running = Running::start(&[url(honest), url(silent)], &options);
    let who = format!("127.0.0.1:{silent}: down");
    running.wait_for(|line| line.starts_with(&who)).unwrap_or_else(|said| panic!("{said}"));
    gate.open();
    let ended = running.end();
    assert!(ended.status.success() && ended.file == Some(file), "{}", ended.stderr);
    // Eight questions may be open at once, each for 1.15 s: seven a second, and eight at the beginning. Twice that is far
    // below a flood, however many seconds a busy machine takes.
    let asked = asked_often.load(std::sync::atomic::Ordering::Relaxed) as f64;
    let seconds = begun.elapsed().as_secs_f64();
    assert!(asked < 2.0 * (8.0 + 7.0 * seconds), "asked {asked} times in {seconds} s");
}

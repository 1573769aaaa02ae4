//! `downloader` against servers that lie. Beside each liar stands an honest one: the file must come out right, and the
//! liar must be named with what it did. The honest one is slow until that line has been seen, so no test depends on who
//! is faster.
//!
//! * `bodies`: too short, too long, other ranges, encodings.
//! * `heads`: what is not HTTP, or not an answer.
//! * `silence`: servers that take their time.
//! * `identity`: lengths, entity tags and hashes that differ, or change.
//! * `statuses`: redirects and errors.
//! * `metalinks`: hashes of no use.
//! * `checks`: check servers that lie.

mod bodies;
mod checks;
mod heads;
mod identity;
mod metalinks;
mod silence;
mod statuses;

use std::sync::Arc;

use crate::process::noise;
use crate::reply::{Asked, Gate, Reply, serve};
use crate::running::{Ended, Running, url};

/// Several pieces, and more than a first range.
const LENGTH: usize = 2_500_000;

/// What a downloader may hold in memory, in KiB, whatever is sent to it.
const MOST_MEMORY: u64 = 64 << 10;

/// One lie, and the words that its line must have.
pub(super) struct Case {
    name: &'static str,
    words: &'static [&'static str],
    lie: Lie,
    cast: Cast,
}

impl Case {
    /// With others than one honest server.
    pub(super) fn with(self, cast: Cast) -> Self {
        Case { cast, ..self }
    }
}

/// A way to say something, by name.
type Form = (&'static str, fn(Reply) -> Reply);

type Lie = Box<dyn Fn(&Asked, Reply) -> Reply + Send + Sync>;

pub(super) fn case(
    name: &'static str,
    words: &'static [&'static str],
    lie: impl Fn(&Asked, Reply) -> Reply + Send + Sync + 'static,
) -> Case {
    Case { name, words, lie: Box::new(lie), cast: Cast::default() }
}

/// One that lies only when it is asked for bytes of the file.
pub(super) fn part(
    name: &'static str,
    words: &'static [&'static str],
    lie: impl Fn(&Asked, Reply) -> Reply + Send + Sync + 'static,
) -> Case {
    case(name, words, move |asked, right| if asked.for_part() { lie(asked, right) } else { right })
}

/// Plays each case, all at once: they wait for most of their time.
pub(super) fn beside_an_honest_one(cases: Vec<Case>) {
    at_once(cases, |case| {
        let exposed = beside(case)?;
        println!("{}", exposed.named);
        Ok(())
    });
}

/// Does `work` with each of them, all at once; fails with what went wrong with any.
pub(super) fn at_once<T: Send>(all: Vec<T>, work: impl Fn(T) -> Result<(), String> + Sync) {
    let work = &work;
    let wrong: Vec<String> = std::thread::scope(|scope| {
        let threads: Vec<_> = all.into_iter().map(|one| scope.spawn(move || work(one))).collect();
        threads.into_iter().filter_map(|thread| thread.join().expect("a case returns its failures").err()).collect()
    });
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// How a download beside a liar ended.
pub(super) struct Exposed {
    /// The line that named the liar.
    pub(super) named: String,
    pub(super) ended: Ended,
}

/// Who plays beside a liar.
#[derive(Clone)]
pub(super) struct Cast {
    pub(super) honest: usize,
    /// What the honest ones make of the right answer.
    pub(super) honestly: fn(&Asked, Reply) -> Reply,
    pub(super) liar_first: bool,
    /// Whether the liar says nothing before bytes are fetched from an honest one.
    pub(super) late: bool,
    /// Whether the honest ones say nothing before bytes are fetched from the liar.
    pub(super) honest_late: bool,
    /// Whether the liar, too, is slow until it is named.
    pub(super) liar_slow: bool,
    /// Options of the downloader.
    pub(super) options: Vec<String>,
}

impl Default for Cast {
    fn default() -> Self {
        Cast {
            honest: 1,
            honestly: |_, right| right,
            liar_first: true,
            late: false,
            honest_late: false,
            liar_slow: false,
            options: Vec::new(),
        }
    }
}

/// Downloads from a liar and honest ones; what went wrong is told under the name of the case.
pub(super) fn beside(case: Case) -> Result<Exposed, String> {
    let Case { name, words, lie, cast } = case;
    let file = Arc::new(noise(LENGTH));
    let (exposed, begun, liar_begun) = (Gate::default(), Gate::default(), Gate::default());
    let mut ports: Vec<u16> = (0..cast.honest)
        .map(|_| {
            let (served, gate, honestly) = (Arc::clone(&file), exposed.clone(), cast.honestly);
            let (asked_for_part, liar_begun) = (begun.clone(), liar_begun.clone());
            serve(move |asked| {
                if cast.honest_late {
                    liar_begun.pass();
                }
                let right = honestly(asked, Reply::right(&served, asked));
                if !asked.for_part() {
                    return right;
                }
                asked_for_part.open();
                right.paced_by(&gate)
            })
        })
        .collect();
    let honest = ports.clone();
    let served = Arc::clone(&file);
    let (late, gate) = (cast.late, exposed.clone());
    let liar = serve(move |asked| {
        if late {
            begun.pass();
        }
        if asked.for_part() {
            liar_begun.open();
        }
        let reply = lie(asked, Reply::right(&served, asked));
        if cast.liar_slow && asked.for_part() { reply.paced_by(&gate) } else { reply }
    });
    ports.insert(if cast.liar_first { 0 } else { ports.len() }, liar);
    let urls: Vec<String> = ports.into_iter().map(url).collect();
    let mut running = Running::start(&urls, &cast.options);
    let who = format!("127.0.0.1:{liar}");
    let is_it = |line: &str| line.contains(&who) && words.iter().all(|word| line.contains(word));
    let named =
        running.wait_for(is_it).map_err(|said| format!("{name}: {who} was not told {words:?}, but:\n{said}"))?;
    let memory = running.peak_memory();
    exposed.open();
    let ended = running.end();
    // The first of two may be in the minority until the second is heard.
    let last_said = |honest: &u16| {
        let who = format!("127.0.0.1:{honest}: ");
        ended.stderr.lines().rfind(|line| line.starts_with(&who)).unwrap_or_default().to_owned()
    };
    let is_blamed = honest.iter().any(|honest| last_said(honest).contains("set apart"));
    for (holds, otherwise) in [
        (memory < MOST_MEMORY, format!("it held {memory} KiB of memory")),
        (ended.status.success(), format!("it ended with {}", ended.status)),
        (ended.file.as_ref() == Some(&*file), "another file came out".to_owned()),
        (!is_blamed, "an honest one is blamed".to_owned()),
    ] {
        if !holds {
            return Err(format!("{name}: {otherwise}\n{}", ended.stderr));
        }
    }
    Ok(Exposed { named, ended })
}

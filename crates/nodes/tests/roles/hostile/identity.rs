//! Lengths, entity tags and hashes that differ, or change.

use super::{Case, Cast, LENGTH, beside_an_honest_one, case, part};
use crate::process::noise;
use crate::reply::{Asked, Reply, document};

/// Two agree, and the liar is the first to be asked.
fn outvoted(case: Case) -> Case {
    case.with(Cast { honest: 2, ..Cast::default() })
}

/// Nobody publishes hashes, and the honest ones have this tag.
fn tagged(asked: &Asked, right: Reply) -> Reply {
    match asked.path.as_str() {
        "/f" => right.field("ETag", "\"honest\""),
        _ => Reply::new("404 Not Found"),
    }
}

/// One of each, the honest one heard first: as many votes for either.
fn tie() -> Cast {
    Cast { honestly: tagged, late: true, ..Cast::default() }
}

/// What a server has whose file is `length` bytes long, and another one.
fn another_file(asked: &Asked, length: usize) -> Reply {
    let mut file = noise(length);
    file.iter_mut().for_each(|byte| *byte ^= 0x40);
    Reply::right(&file, asked)
}

#[test]
fn a_minority_is_set_apart() {
    beside_an_honest_one(vec![
        outvoted(case("a longer file", &["set apart", "2500001 bytes where the others have 2500000"], |asked, _| {
            another_file(asked, LENGTH + 1)
        })),
        outvoted(case("an empty file", &["set apart", "0 bytes where"], |asked, _| another_file(asked, 0))),
        outvoted(case("other hashes", &["set apart", "it publishes other hashes"], |asked, _| {
            another_file(asked, LENGTH)
        })),
        case("another tag", &["set apart", "entity tag \"lie\" where the others have \"honest\""], |asked, right| {
            tagged(asked, right).field("ETag", "\"lie\"")
        })
        .with(Cast { honest: 2, honestly: tagged, ..Cast::default() }),
    ]);
}

#[test]
fn of_as_many_votes_the_first_that_was_heard_wins() {
    beside_an_honest_one(vec![
        case("another tag", &["set apart", "entity tag \"lie\" where the others have \"honest\""], |asked, right| {
            tagged(asked, right).field("ETag", "\"lie\"")
        })
        .with(tie()),
        case("a weak tag", &["set apart", "entity tag W/\"honest\""], |asked, right| {
            tagged(asked, right).field("ETag", "W/\"honest\"")
        })
        .with(tie()),
        case("a shorter file", &["set apart", "2499999 bytes where the others have 2500000"], |asked, _| {
            another_file(asked, LENGTH - 1)
        })
        .with(Cast { honestly: |_, right| right, ..tie() }),
    ]);
}

#[test]
fn the_expected_checksum_decides_whoever_was_first() {
    let expected = fetch::Digest::of(&noise(LENGTH)).to_string();
    let options = vec!["--checksum".into(), expected];
    let cast = || Cast { honest_late: true, options: options.clone(), ..Cast::default() };
    let alone = |asked: &Asked, right| if asked.for_file() { right } else { Reply::new("404 Not Found") };
    const UNEXPECTED: &[&str] = &["set apart", "does not have the expected SHA-256"];
    beside_an_honest_one(vec![
        case("it publishes another hash", UNEXPECTED, |asked, _| another_file(asked, LENGTH)).with(cast()),
        case("a whole file of another length, without hashes", UNEXPECTED, move |asked, _| {
            alone(asked, another_file(asked, LENGTH / 2))
        })
        .with(cast()),
        case("a whole file with another tag, and nobody has hashes", UNEXPECTED, |asked, right| {
            tagged(asked, if asked.for_file() { another_file(asked, LENGTH) } else { right }).field("ETag", "\"lie\"")
        })
        .with(Cast { honestly: tagged, ..cast() }),
    ]);
}

#[test]
fn damaged_bytes_are_fetched_elsewhere() {
    beside_an_honest_one(vec![
        part("one bit", &["corrupt, sent by"], |_, right| right.mangled(|body| body[1000] ^= 1)),
        part("all of it, again and again", &["set apart", "it sent 8 corrupt pieces"], |_, right| {
            right.mangled(|body| body.fill(0))
        }),
        part("the bytes of another place", &["corrupt, sent by"], |_, right| right.mangled(|body| body.rotate_left(1))),
    ]);
}

#[test]
fn a_file_that_changes_midway_is_noticed() {
    const CHANGED: &[&str] = &["its file has changed"];
    let changed = |asked: &Asked, right: Reply, tag: &str| {
        if asked.for_file() { right.field("ETag", tag) } else { Reply::new("404 Not Found") }
    };
    beside_an_honest_one(vec![
        case("its tag, once", CHANGED, move |asked, right| {
            changed(asked, right, if asked.nth < 4 { "\"one\"" } else { "\"two\"" })
        }),
        case("its tag, each time", CHANGED, move |asked, right| {
            let tag = format!("\"{}\"", asked.nth);
            changed(asked, right, &tag)
        }),
        part("its length", CHANGED, |asked, right| {
            let (start, end) = asked.bounds();
            right.field("Content-Range", &format!("bytes {start}-{}/{}", end - 1, LENGTH + 5))
        }),
        part("all of it", CHANGED, |_, _| Reply::new("200 OK").body(noise(LENGTH / 2))),
    ]);
}

#[test]
fn hashes_of_another_file_do_no_harm() {
    beside_an_honest_one(vec![
        outvoted(case("hashes of another file, and this file", &["set apart", "other hashes"], |asked, right| {
            if asked.for_file() { right } else { another_file(asked, LENGTH) }
        })),
        outvoted(case("hashes of a longer file", &["2500001"], |asked, right| {
            if asked.for_file() { right } else { Reply::new("200 OK").body(document(&noise(LENGTH + 1))) }
        })),
    ]);
}

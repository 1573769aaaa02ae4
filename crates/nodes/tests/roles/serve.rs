//! What `file-server` answers.

use std::io::{BufReader, Read, Write};
use std::net::TcpStream;
use std::process::Command;

use nodes::metalink;

use crate::process::{Server, noise};
use crate::wire::{read_answer, request};

#[test]
fn ranges_are_answered_as_the_rfc_says() {
    let folder = tempfile::tempdir().unwrap();
    let (path, file) = (folder.path().join("f"), noise(100_000));
    std::fs::write(&path, &file).unwrap();
    let server = Server::serve(&path, 0, &[]);
    let whole = request(server.port, "GET /f", &[]);
    assert_eq!((whole.status, &whole.body), (200, &file));
    let tag = whole.field("etag").unwrap().to_owned();
    assert_eq!(whole.field("accept-ranges"), Some("bytes"));

    for (range, start, end) in [("0-0", 0, 1), ("5-9", 5, 10), ("99990-", 99_990, 100_000), ("-7", 99_993, 100_000)] {
        let part = request(server.port, "GET /f", &[("Range", &format!("bytes={range}"))]);
        assert_eq!((part.status, &part.body[..]), (206, &file[start..end]), "{range}");
        let told = format!("bytes {start}-{}/100000", end - 1);
        assert_eq!(part.field("content-range"), Some(told.as_str()));
        let head = request(server.port, "HEAD /f", &[("Range", &format!("bytes={range}"))]);
        assert_eq!((head.status, head.field("content-length")), (206, part.field("content-length")));
    }
    let beyond = request(server.port, "GET /f", &[("Range", "bytes=100000-")]);
    assert_eq!((beyond.status, beyond.field("content-range")), (416, Some("bytes */100000")));
    for ignored in ["bytes=0-1,5-6", "bytes=9-5", "lines=1-2"] {
        assert_eq!(request(server.port, "HEAD /f", &[("Range", ignored)]).status, 200, "{ignored}");
    }
    let conditional =
        |value: &str| request(server.port, "HEAD /f", &[("Range", "bytes=0-1"), ("If-Range", value)]).status;
    assert_eq!((conditional(&tag), conditional("\"other\"")), (206, 200));
    assert_eq!(request(server.port, "GET /f", &[("If-None-Match", &tag)]).status, 304);

    // Another state of the file has another tag.
    std::fs::write(&path, &file[1..]).unwrap();
    let changed = request(server.port, "GET /f", &[("Range", "bytes=0-1"), ("If-Range", &tag)]);
    assert_eq!((changed.status, &changed.body[..]), (200, &file[1..]));
}

#[test]
fn the_root_leads_to_the_file_and_nothing_else_is_there() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a b.mp4");
    std::fs::write(&path, "x").unwrap();
    let server = Server::serve(&path, 0, &[]);
    let root = request(server.port, "GET /", &[]);
    assert_eq!((root.status, root.field("location")), (302, Some("/a%20b.mp4")));
    assert_eq!(request(server.port, "GET /a%20b.mp4?x=1", &[]).body, b"x");
    for missing in ["/a", "/../a%20b.mp4", "/a%20b.mp4/", "/%2e%2e/etc/passwd"] {
        assert_eq!(request(server.port, &format!("GET {missing}"), &[]).status, 404, "{missing}");
    }
    assert_eq!(request(server.port, "DELETE /", &[]).status, 405);
}

#[test]
fn the_metalink_has_the_hashes() {
    let folder = tempfile::tempdir().unwrap();
    let (path, file) = (folder.path().join("f"), noise(1_000_000));
    std::fs::write(&path, &file).unwrap();
    let server = Server::serve(&path, 0, &[]);
    let link = request(server.port, "HEAD /f", &[]);
    assert!(link.field("link").unwrap().contains("rel=describedby"));
    let document = loop {
        // It says when to come back while it is hashing.
        let answer = request(server.port, "GET /f.meta4", &[]);
        match answer.status {
            200 => break answer.body,
            503 => assert!(answer.field("retry-after").is_some()),
            other => panic!("{other}"),
        }
    };
    let manifest = metalink::read(&document, "f").unwrap();
    assert_eq!(manifest.pieces().length(), 1_000_000);
    for piece in manifest.pieces().iter() {
        let range = manifest.pieces().range(piece);
        let expected = fetch::Digest::of(&file[range.start as usize..range.end as usize]);
        assert_eq!(manifest.hash(piece), Some(expected));
    }
}

#[test]
fn one_connection_takes_many_requests_also_before_the_answers() {
    let folder = tempfile::tempdir().unwrap();
    let (path, file) = (folder.path().join("f"), noise(3_000_000));
    std::fs::write(&path, &file).unwrap();
    let server = Server::serve(&path, 0, &[]);
    let mut stream = TcpStream::connect(("127.0.0.1", server.port)).unwrap();
    let ask = |range: &str| format!("GET /f HTTP/1.1\r\nHost: x\r\nRange: bytes={range}\r\n\r\n");
    stream.write_all([ask("0-1999999"), ask("2000000-")].concat().as_bytes()).unwrap();
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut found = read_answer(&mut reader, false).body;
    found.extend(read_answer(&mut reader, false).body);
    assert!(found == file);
    stream.write_all(b"HEAD / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
    assert_eq!(read_answer(&mut reader, true).status, 302);
    assert_eq!(reader.read(&mut [0]).unwrap(), 0, "closed as it was asked");
}

#[test]
fn hostile_heads_are_refused_in_words() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("f");
    std::fs::write(&path, "x").unwrap();
    let server = Server::serve(&path, 0, &[]);
    let endless = format!("GET / HTTP/1.1\r\nX: {}", "x".repeat(20_000));
    for (head, status) in [
        (endless.as_str(), 431),
        ("\u{16}\u{3}\u{1}\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\n\r\n", 400),
        ("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n", 413),
    ] {
        let mut stream = TcpStream::connect(("127.0.0.1", server.port)).unwrap();
        stream.write_all(head.as_bytes()).unwrap();
        assert_eq!(read_answer(&mut BufReader::new(stream), false).status, status, "{:.40}", head);
    }
    assert_eq!(request(server.port, "GET /f", &[]).body, b"x", "others are served as before");
}

#[test]
fn programs_that_nobody_here_wrote_fetch_from_it() {
    let folder = tempfile::tempdir().unwrap();
    let (path, file) = (folder.path().join("f"), noise(2_000_000));
    std::fs::write(&path, &file).unwrap();
    let server = Server::serve(&path, 0, &[]);
    let (url, made) = (server.url(), folder.path().join("made"));
    let metalink = format!("{url}f.meta4");
    // aria2 takes the name, the hashes and the URL from the Metalink.
    let programs: [(&str, &[&str]); 3] = [
        ("curl", &["-sfL", "-r", "0-", "-o", "f", &url]),
        ("wget", &["-q", "-O", "f", &url]),
        ("aria2c", &["--console-log-level=warn", "--summary-interval=0", &metalink]),
    ];
    for (program, args) in programs {
        let _ = std::fs::remove_dir_all(&made);
        std::fs::create_dir(&made).unwrap();
        match Command::new(program).args(args).current_dir(&made).status() {
            Ok(status) => {
                assert!(status.success(), "{program}: {status}");
                assert!(std::fs::read(made.join("f")).unwrap() == file, "{program}");
            }
            Err(_) => println!("SKIPPED {program}: not installed"),
        }
    }
}

#[test]
fn a_corrupt_server_flips_one_bit_in_some_blocks_under_true_hashes() {
    const BLOCK: usize = 16 << 10;
    let folder = tempfile::tempdir().unwrap();
    let (path, file) = (folder.path().join("f"), noise(100 * BLOCK + 5));
    std::fs::write(&path, &file).unwrap();
    let damaged = |seed: &str| {
        let server = Server::serve(&path, 0, &["--corrupt", "30%", "--seed", seed]);
        let sent = request(server.port, "GET /f", &[]).body;
        assert_eq!(sent.len(), file.len());
        let blocks = sent.chunks(BLOCK).zip(file.chunks(BLOCK)).map(|(sent, right)| {
            let bits = sent.iter().zip(right).map(|(sent, right)| (sent ^ right).count_ones()).sum::<u32>();
            assert!(bits <= 1, "{bits} bits of a block differ");
            bits == 1
        });
        let blocks: Vec<bool> = blocks.collect();
        let document = request(server.port, "GET /f.meta4", &[]);
        assert_eq!(document.status, 200);
        let published = metalink::read(&document.body, "f").unwrap();
        let pieces = published.pieces();
        for piece in pieces.iter() {
            let range = pieces.range(piece);
            let bytes = &file[range.start as usize..range.end as usize];
            assert_eq!(published.hash(piece), Some(fetch::Digest::of(bytes)), "its hashes stay true");
        }
        blocks
    };
    let first = damaged("7");
    let count = first.iter().filter(|damaged| **damaged).count();
    assert!((10..=50).contains(&count), "{count} of 101 blocks at 30 %");
    assert_eq!(first, damaged("7"), "the seed decides which");
    assert_ne!(first, damaged("8"));

    let untouched = Server::serve(&path, 0, &["--corrupt", "0%"]);
    assert_eq!(request(untouched.port, "GET /f", &[]).body, file);
}

//! Where a download ends up: its name, what is there already, what the disk does meanwhile.

use std::fs;
use std::io::Write;
use std::path::Path;

use crate::ports::Ports;
use crate::process::{Download, Server, noise, recorded};
use crate::reply::{Allowance, serve_metered};
use crate::running::url;
use crate::wire::{Asked, answer_well, scripted};

/// Serves `file` without hashes, and advertises this name for it.
fn advertising(file: Vec<u8>, disposition: &'static str) -> String {
    let port = scripted(move |asked: &Asked, stream| {
        let (first, end) = asked.range.unwrap_or((0, file.len() as u64));
        if asked.path != "/f" {
            return answer_well(&file, asked, stream);
        }
        let body = &file[first as usize..end as usize];
        let head = format!(
            "HTTP/1.1 206 Partial Content\r\nContent-Disposition: {disposition}\r\nContent-Range: bytes {first}-{}/{}\r\n\
             Content-Length: {}\r\n\r\n",
            end - 1,
            file.len(),
            body.len()
        );
        stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body)).is_ok()
    });
    format!("http://127.0.0.1:{port}/f")
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn in_a_folder_the_file_gets_the_name_that_servers_advertise() {
    let (folder, file) = (tempfile::tempdir().unwrap(), noise(200_000));
    let movie = folder.path().join("my movie.mp4");
    fs::write(&movie, &file).unwrap();
    let server = Server::serve(&movie, 0, &[]);
    let port = server.port.to_string();
    let advertised = advertising(file.clone(), "attachment; filename=\"no\"; filename*=UTF-8''..%2Fna%C3%AFve.mp4");
    let url = server.url();
    for (args, name) in [
        // The root leads to the file.
        (vec![url.as_str()], "my movie.mp4"),
        (vec!["-p", &port], "my movie.mp4"),
        (vec![advertised.as_str()], "naïve.mp4"),
        // The first on the command line decides, though it may not be the first to answer.
        (vec![advertised.as_str(), url.as_str()], "naïve.mp4"),
    ] {
        let made = tempfile::tempdir().unwrap();
        let ended = Download::with(args.iter().copied(), made.path()).end();
        assert!(ended.status.success(), "{args:?}: {}", ended.stderr);
        assert_eq!(names(made.path()), [name], "{args:?}");
        assert!(fs::read(made.path().join(name)).unwrap() == file);
    }
}

#[test]
fn a_file_without_a_usable_name_needs_one_from_the_user() {
    let (made, file) = (tempfile::tempdir().unwrap(), noise(1000));
    let url = advertising(file, "attachment; filename=\"..\"");
    let root = scripted(move |_, stream| {
        stream
            .write_all(b"HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 0-0/9\r\nContent-Length: 1\r\n\r\nx")
            .is_ok()
    });
    let ended = Download::with([format!("http://127.0.0.1:{root}/").as_str()].into_iter(), made.path()).end();
    assert_eq!(ended.status.code(), Some(2), "{}", ended.stderr);
    assert!(ended.stderr.contains("give it one by -o FILE"), "{}", ended.stderr);
    let ended = Download::with([url.as_str()].into_iter(), made.path()).end();
    assert!(ended.status.success(), "{}", ended.stderr);
    assert_eq!(names(made.path()), ["f"], "the URL has one where the advertised one is useless");
}

#[test]
fn a_name_is_waited_for_until_a_server_is_up() {
    let (folder, file) = (tempfile::tempdir().unwrap(), noise(100_000));
    let (movie, made) = (folder.path().join("movie"), folder.path().join("made"));
    fs::write(&movie, &file).unwrap();
    fs::create_dir(&made).unwrap();
    let ports = Ports::free(1);
    let port = ports[0];
    let url = format!("http://127.0.0.1:{port}/");
    let mut waiting = Download::with([url.as_str()].into_iter(), &made);
    let said = waiting.next_line();
    assert!(said.contains("connection refused"), "{said}");
    let _server = Server::serve(&movie, port, &[]);
    let ended = waiting.end();
    assert!(ended.status.success(), "{}", ended.stderr);
    assert_eq!(names(&made), ["movie"]);
}

#[test]
fn without_hashes_the_word_of_the_check_server_decides() {
    let (folder, file) = (tempfile::tempdir().unwrap(), noise(300_000));
    let (out, copy) = (folder.path().join("out"), folder.path().join("copy"));
    fs::write(&copy, &file).unwrap();
    let url = advertising(file.clone(), "inline");
    let digest = fetch::Digest::of(&file).to_string();
    let check = |args: &[&str]| Server::check(std::slice::from_ref(&url), args);
    let wrong = "00".repeat(32);
    for (check, more, status, said) in [
        (check(&["--checksum", &digest]), vec![], 0, "it has the expected SHA-256"),
        (check(&["--file", copy.to_str().unwrap()]), vec![], 0, "it has the expected SHA-256"),
        (check(&["--checksum", &wrong]), vec![], 1, "failed"),
        (check(&["--checksum", &wrong]), vec!["--checksum", &digest], 0, "another one than --checksum, which counts"),
        (check(&[]), vec![], 0, "rests on TCP alone"),
    ] {
        let check_url = check.url();
        let ended = Download::start(
            std::slice::from_ref(&url),
            &out,
            &[&["--check", &check_url, "--overwrite"], &more[..]].concat(),
        )
        .end();
        assert_eq!(ended.status.code(), Some(status), "{more:?}: {}", ended.stderr);
        assert!(ended.stderr.contains(said), "{said}: {}", ended.stderr);
        assert_eq!(ended.sha256.is_some(), status == 0 && !said.contains("TCP"), "{}", ended.stderr);
    }
}

#[test]
fn a_file_that_is_here_already_is_known_by_its_checksum() {
    let (folder, file) = (tempfile::tempdir().unwrap(), noise(300_000));
    let out = folder.path().join("out");
    fs::write(&out, &file).unwrap();
    let digest = fetch::Digest::of(&file).to_string();
    // Nobody is there, and nobody need be.
    let nobody = ["http://127.0.0.1:1/f".to_owned()];
    let ended = Download::start(&nobody, &out, &["--continue", "--checksum", &digest]).end();
    assert!(ended.status.success(), "{}", ended.stderr);
    assert_eq!(ended.sha256, Some(digest.clone()), "{}", ended.stderr);
    // Another file is no beginning of it, and is replaced when the right one is here.
    fs::write(&out, noise(1000)).unwrap();
    let url = [advertising(file.clone(), "inline")];
    let ended = Download::start(&url, &out, &["--continue", "--checksum", &digest]).end();
    assert!(ended.status.success() && fs::read(&out).unwrap() == file, "{}", ended.stderr);
    assert_eq!(names(folder.path()), ["out"]);
}

#[test]
fn a_check_server_that_is_not_there_holds_up_nothing() {
    let (folder, file) = (tempfile::tempdir().unwrap(), noise(1000));
    let url = advertising(file, "inline");
    let ended = Download::start(&[url], &folder.path().join("out"), &["--check", "http://127.0.0.1:1/"]).end();
    assert!(ended.status.success(), "{}", ended.stderr);
    assert!(ended.stderr.contains("rests on TCP alone"), "{}", ended.stderr);
}

#[test]
fn a_part_file_that_somebody_cuts_or_removes_never_becomes_a_wrong_file() {
    let (folder, file) = (tempfile::tempdir().unwrap(), noise(6_000_000));
    let (out, part) = (folder.path().join("out"), folder.path().join("out.part"));
    // A download of which so much has come and no more will, until it is allowed; all but what comes is recorded.
    let at_rest = |bytes: u64| {
        let allowance = Allowance::of(bytes);
        let urls = [url(serve_metered(&file, &allowance))];
        let mut download = Download::start(&urls, &out, &[]);
        while recorded(&folder.path().join("out.journal")) + 600_000 < bytes {
            assert!(download.next().is_some(), "it ended too early");
        }
        (download, urls, allowance)
    };
    // Cut for good, and cut with what follows written again: both leave bytes missing that were recorded.
    for bytes in [1_000_000, 4_500_000] {
        let (download, urls, allowance) = at_rest(bytes);
        fs::OpenOptions::new().write(true).open(&part).unwrap().set_len(bytes / 10).unwrap();
        allowance.lift();
        let ended = download.end();
        assert_eq!(ended.status.code(), Some(3), "{}", ended.stderr);
        assert!(ended.stderr.contains("somebody else changed"), "{}", ended.stderr);
        assert!(!out.exists());
        let ended = Download::start(&urls, &out, &["--continue"]).end();
        assert!(ended.status.success(), "{}", ended.stderr);
        assert!(fs::read(&out).unwrap() == file);
        fs::remove_file(&out).unwrap();
    }
    let (download, _urls, allowance) = at_rest(1_000_000);
    fs::remove_file(&part).unwrap();
    allowance.lift();
    let ended = download.end();
    assert!(ended.status.success(), "{}", ended.stderr);
    assert!(fs::read(&out).unwrap() == file, "what was removed is written again");
    assert_eq!(names(folder.path()), ["out"]);
}

#[test]
fn a_target_that_appears_meanwhile_stays_and_the_download_is_kept() {
    let (folder, file, allowance) = (tempfile::tempdir().unwrap(), noise(2_000_000), Allowance::of(1_000_000));
    let (out, urls) = (folder.path().join("out"), [url(serve_metered(&file, &allowance))]);
    let mut download = Download::start(&urls, &out, &["-r"]);
    download.wait_for_bytes(500_000);
    fs::write(&out, "somebody else's").unwrap();
    allowance.lift();
    let ended = download.end();
    assert_eq!(ended.status.code(), Some(3), "{}", ended.stderr);
    assert!(ended.stderr.contains("was made by somebody else meanwhile; the whole file is in"), "{}", ended.stderr);
    assert_eq!(fs::read(&out).unwrap(), b"somebody else's");
    let ended = Download::start(&urls, &out, &["--continue"]).end();
    assert!(ended.status.success(), "{}", ended.stderr);
    assert_eq!((ended.received, fs::read(&out).unwrap() == file), (0, true));
}

#[test]
fn an_earlier_runs_work_is_neither_lost_nor_used_unasked() {
    let (folder, file, allowance) = (tempfile::tempdir().unwrap(), noise(4_000_000), Allowance::of(3_000_000));
    let (out, urls) = (folder.path().join("out"), [url(serve_metered(&file, &allowance))]);
    let mut download = Download::start(&urls, &out, &[]);
    while recorded(&folder.path().join("out.journal")) < 2_000_000 {
        assert!(download.next().is_some(), "it ended too early");
    }
    download.process.kill();
    let ended = Download::start(&urls, &out, &[]).end();
    assert_eq!(ended.status.code(), Some(3), "{}", ended.stderr);
    assert!(ended.stderr.contains("--continue goes on with it, --overwrite begins anew"), "{}", ended.stderr);
    allowance.lift();
    let ended = Download::start(&urls, &out, &["-c"]).end();
    assert!(ended.status.success() && ended.received <= 2_000_000, "{} {}", ended.received, ended.stderr);
    assert!(fs::read(&out).unwrap() == file);
}

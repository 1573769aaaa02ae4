//! How much memory a download takes, however large its file and however slow its disk.

use std::path::Path;

use fetch::Pieces;

use crate::process::{Download, Server};
use crate::wire::{Asked, scripted};

/// The bound that the README promises, in kB.
const MOST: u64 = 64 << 10;

/// A folder in memory, where there is one with so much room: for what is not about disks.
pub(crate) fn folder(room: u64) -> tempfile::TempDir {
    let shared = Path::new("/dev/shm");
    let has_room = nix::sys::statvfs::statvfs(shared).is_ok_and(|disk| {
        let free = disk.blocks_available().saturating_mul(disk.fragment_size());
        free > room
    });
    if has_room { tempfile::tempdir_in(shared).unwrap() } else { tempfile::tempdir().unwrap() }
}

/// The most memory that a process ever had, in kB.
fn peak(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.trim().strip_suffix(" kB")?.trim().parse().ok()).unwrap_or(0)
}

/// Runs a download to its end; the most memory that it had at any report, in kB.
fn peak_of(mut download: Download) -> u64 {
    let pid = download.process.child.id();
    let mut most = 0;
    while download.next().is_some() {
        most = peak(pid).max(most);
    }
    let ended = download.end();
    assert!(ended.status.success(), "{}", ended.stderr);
    most
}

#[test]
fn a_large_file_takes_little_memory() {
    const LENGTH: u64 = 512 << 20;
    let folder = folder(2 << 30);
    let movie = folder.path().join("movie");
    std::fs::File::create(&movie).unwrap().set_len(LENGTH).unwrap();
    let servers: Vec<Server> = (0..2).map(|_| Server::serve(&movie, 0, &[])).collect();
    let urls: Vec<String> = servers.iter().map(Server::url).collect();
    let most = peak_of(Download::start(&urls, &folder.path().join("out"), &[]));
    println!("{most} kB at most");
    assert!((1..MOST).contains(&most), "{most} kB");
    assert_eq!(std::fs::metadata(folder.path().join("out")).unwrap().len(), LENGTH);
}

/// Sources that publish nearly the longest documents that are read, each its own copy.
#[test]
fn the_longest_lists_of_hashes_take_little_memory() {
    const PIECE: u64 = 4 << 10;
    const LENGTH: u64 = 80_000 * PIECE;
    let folder = folder(2 << 30);
    let pieces = Pieces::new(LENGTH, PIECE as u32).unwrap();
    let zeros = fetch::Digest::of(&vec![0; PIECE as usize]);
    let manifest =
        fetch::Manifest::of_pieces(LENGTH, PIECE as u32, vec![zeros; pieces.count() as usize], None).unwrap();
    let document = nodes::metalink::write("f", "f", &manifest);
    assert!(document.len() > 6 << 20, "near the longest that is read: {}", document.len());
    let urls: Vec<String> = (0..4)
        .map(|_| {
            let document = document.clone();
            let port = scripted(move |asked: &Asked, stream| answer(&document, LENGTH, asked, stream));
            format!("http://127.0.0.1:{port}/f")
        })
        .collect();
    let most = peak_of(Download::start(&urls, &folder.path().join("out"), &[]));
    println!("{most} kB at most");
    assert!((1..MOST).contains(&most), "{most} kB");
}

fn answer(document: &str, length: u64, asked: &Asked, stream: &mut std::net::TcpStream) -> bool {
    use std::io::Write;
    if asked.path == "/f.meta4" {
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", document.len());
        return stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(document.as_bytes())).is_ok();
    }
    let (first, end) = asked.range.unwrap_or((0, length));
    let head = format!(
        "HTTP/1.1 206 Partial Content\r\nContent-Range: bytes {first}-{}/{length}\r\nContent-Length: {}\r\n\r\n",
        end - 1,
        end - first
    );
    let chunk = vec![0; 256 << 10];
    let mut sound = stream.write_all(head.as_bytes()).is_ok();
    let mut left = end - first;
    while sound && left > 0 {
        let now = left.min(chunk.len() as u64);
        sound = stream.write_all(&chunk[..now as usize]).is_ok();
        left -= now;
    }
    sound
}

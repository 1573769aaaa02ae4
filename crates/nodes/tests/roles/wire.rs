//! A raw HTTP client and a scripted HTTP server: both show and do what a library would hide.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;

/// An answer as it came.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        let fields = self.head.lines().skip(1).filter_map(|line| line.split_once(": "));
        fields.into_iter().find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
    }
}

/// Sends `METHOD PATH` with these fields on a connection of its own.
pub(crate) fn request(port: u16, line: &str, fields: &[(&str, &str)]) -> Answer {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    let mut head = format!("{line} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n");
    for (name, value) in fields {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    stream.write_all(format!("{head}\r\n").as_bytes()).unwrap();
    let mut reader = BufReader::new(stream);
    read_answer(&mut reader, line.starts_with("HEAD"))
}

/// Reads one answer; its body by `Content-Length`.
pub(crate) fn read_answer(reader: &mut impl BufRead, without_body: bool) -> Answer {
    let head = read_head(reader);
    let status = head.split(' ').nth(1).unwrap_or_else(|| panic!("no answer: {head:?}")).parse().unwrap();
    let mut answer = Answer { status, head, body: Vec::new() };
    let length = answer.field("content-length").map_or(0, |length| length.parse().unwrap());
    if !without_body && status != 304 {
        answer.body.resize(length, 0);
        reader.read_exact(&mut answer.body).unwrap();
    }
    answer
}

/// The lines up to the empty one.
fn read_head(reader: &mut impl BufRead) -> String {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") && reader.read_line(&mut head).unwrap_or(0) > 0 {}
    head
}

/// A request as a scripted server sees it.
pub(crate) struct Asked {
    pub(crate) path: String,
    /// First byte and the one after the last.
    pub(crate) range: Option<(u64, u64)>,
}

/// Serves on a free port for the rest of the test; `script` writes each answer. A connection is closed when it fails or
/// says `false`. Returns the port.
pub(crate) fn scripted(script: impl Fn(&Asked, &mut TcpStream) -> bool + Send + Sync + 'static) -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let script = Arc::new(script);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (script, mut stream) = (Arc::clone(&script), stream.unwrap());
            std::thread::spawn(move || {
                let mut reader = BufReader::new(stream.try_clone().unwrap());
                loop {
                    let head = read_head(&mut reader);
                    let Some(path) = head.split(' ').nth(1).map(str::to_owned) else { return };
                    let line = head.lines().find(|line| line.to_ascii_lowercase().starts_with("range: bytes="));
                    let range = line.and_then(|line| {
                        let (first, last) = line[13..].split_once('-')?;
                        Some((first.parse().ok()?, last.parse::<u64>().ok()? + 1))
                    });
                    if !script(&Asked { path, range }, &mut stream) {
                        return;
                    }
                }
            });
        }
    });
    port
}

/// Answers a range of `file` as it should be; 404 for anything but `/f`.
pub(crate) fn answer_well(file: &[u8], asked: &Asked, stream: &mut TcpStream) -> bool {
    if asked.path != "/f" {
        return stream.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n").is_ok();
    }
    let (start, end) = asked.range.unwrap_or((0, file.len() as u64));
    let body = &file[start as usize..end as usize];
    let head = format!(
        "HTTP/1.1 206 Partial Content\r\nContent-Range: bytes {start}-{}/{}\r\nContent-Length: {}\r\n\r\n",
        end - 1,
        file.len(),
        body.len()
    );
    stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body)).is_ok()
}

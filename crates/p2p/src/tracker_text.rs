//! What goes between a client and the tracker: a datagram each way.
//!
//! ```text
//! → GET redsox.jpg.torrent\n
//! ← NUM_BLOCKS: 81\nFILE_SIZE: 805975\nIP1: 10.0.0.1\nPORT1: 18765\nIP2: 10.0.0.1\nPORT2: 20013\n
//! ```
//!
//! Words are understood in any case, the newline of a request may be missing, and keys that are not known are passed over: so
//! answers of ours may carry a digest that clients of others do not see.

use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};

/// The published port.
pub const PORT: u16 = 19_876;

/// The longest request or answer that is looked at, in bytes.
pub const LONGEST: usize = 1024;

/// What is said to anything that is no request.
pub const BAD_FORMAT: &str = "400 BAD_FORMAT\n";

const SUFFIX: &str = ".torrent";

/// What a client learns of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// As the tracker counts them.
    pub blocks: u64,
    /// Of the file, in bytes.
    pub size: u64,
    /// Peers that have something of it.
    pub peers: Vec<SocketAddr>,
    /// SHA-256 of the file; the published tracker tells none.
    pub digest: Option<[u8; 32]>,
}

/// Why an answer is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AnswerError {
    /// It says that the request was none.
    #[error("the tracker refused the request: {0}")]
    Refused(String),
    /// A key is missing, or its value makes no sense.
    #[error("the tracker's answer has no usable {0}")]
    Missing(&'static str),
    /// It is too long, or no text.
    #[error("the tracker's answer is no text of at most {LONGEST} bytes")]
    NoText,
}

/// The file that a request asks for; `None` where it is none.
pub fn requested_file(datagram: &[u8]) -> Option<&str> {
    let text = text(datagram)?;
    let line = text.strip_suffix('\n').unwrap_or(text);
    let line = line.strip_suffix('\r').unwrap_or(line);
    let (verb, name) = line.split_once(' ')?;
    let file = without_torrent(name).filter(|file| is_name(file))?;
    verb.eq_ignore_ascii_case("GET").then_some(file)
}

/// The name of a file in a request's or an announcement's.
pub(crate) fn without_torrent(name: &str) -> Option<&str> {
    let cut = name.len().checked_sub(SUFFIX.len())?;
    let is_torrent = name.get(cut..).is_some_and(|suffix| suffix.eq_ignore_ascii_case(SUFFIX));
    name.get(..cut).filter(|_| is_torrent)
}

/// What stands for a file in a request or an announcement.
pub(crate) fn torrent_name(file: &str) -> String {
    format!("{file}{SUFFIX}")
}

/// The request for `file`.
pub fn request(file: &str) -> String {
    format!("GET {}\n", torrent_name(file))
}

/// Whether that can be the name of a file in a request.
pub fn is_name(file: &str) -> bool {
    !file.is_empty() && !file.contains(|c: char| c.is_whitespace() || c.is_control())
}

impl Answer {
    /// As it is sent.
    pub fn encode(&self) -> String {
        let mut text = format!("NUM_BLOCKS: {}\nFILE_SIZE: {}\n", self.blocks, self.size);
        for (peer, nth) in self.peers.iter().zip(1..) {
            // A text takes everything.
            _ = write!(text, "IP{nth}: {}\nPORT{nth}: {}\n", peer.ip(), peer.port());
        }
        if let Some(digest) = &self.digest {
            _ = writeln!(text, "SHA256: {}", hex(digest));
        }
        text
    }

    /// Reads one.
    ///
    /// # Errors
    /// When it is none, or refuses.
    pub fn decode(datagram: &[u8]) -> Result<Answer, AnswerError> {
        let text = text(datagram).ok_or(AnswerError::NoText)?;
        if text.starts_with("400") {
            return Err(AnswerError::Refused(text.trim_end().to_owned()));
        }
        let value = |key: &str| {
            let of_key =
                |line: &&str| line.split_once(':').is_some_and(|(found, _)| found.trim().eq_ignore_ascii_case(key));
            text.lines().find(of_key).and_then(|line| line.split_once(':')).map(|(_, value)| value.trim())
        };
        let number =
            |key: &'static str| value(key).and_then(|value| value.parse().ok()).ok_or(AnswerError::Missing(key));
        let (blocks, size) = (number("NUM_BLOCKS")?, number("FILE_SIZE")?);
        let mut peers = Vec::new();
        for nth in 1.. {
            let (Some(ip), Some(port)) = (value(&format!("IP{nth}")), value(&format!("PORT{nth}"))) else { break };
            let ip: IpAddr = ip.parse().map_err(|_| AnswerError::Missing("IP"))?;
            let port = port.parse().ok().filter(|port| *port != 0).ok_or(AnswerError::Missing("PORT"))?;
            peers.push(SocketAddr::new(ip, port));
        }
        if peers.is_empty() {
            return Err(AnswerError::Missing("IP1"));
        }
        Ok(Answer { blocks, size, peers, digest: value("SHA256").and_then(digest) })
    }
}

/// In small letters.
pub(crate) fn hex(digest: &[u8; 32]) -> String {
    digest.iter().fold(String::new(), |mut text, byte| {
        _ = write!(text, "{byte:02x}");
        text
    })
}

/// Reads it, in letters of any size.
pub(crate) fn digest(hex: &str) -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    if hex.len() != 2 * bytes.len() || !hex.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return None;
    }
    for (byte, at) in bytes.iter_mut().zip((0..).step_by(2)) {
        *byte = u8::from_str_radix(hex.get(at..at + 2)?, 16).ok()?;
    }
    Some(bytes)
}

fn text(datagram: &[u8]) -> Option<&str> {
    (datagram.len() <= LONGEST).then(|| std::str::from_utf8(datagram).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_published_answer_is_read_and_written() {
        let bytes = b"NUM_BLOCKS: 81\nFILE_SIZE: 805975\nIP1: 128.119.243.168\nPORT1: 18765\nIP2: 128.119.243.168\nPORT2: 20013\n";
        let answer = Answer::decode(bytes).unwrap();
        assert_eq!((answer.blocks, answer.size, answer.digest), (81, 805_975, None));
        assert_eq!(answer.peers, ["128.119.243.168:18765".parse().unwrap(), "128.119.243.168:20013".parse().unwrap()]);
        assert_eq!(answer.encode().as_bytes(), bytes);
    }

    #[test]
    fn a_digest_goes_along_and_unknown_keys_are_passed_over() {
        let mut answer =
            Answer { blocks: 1, size: 5, peers: vec!["[::1]:9".parse().unwrap()], digest: Some([0xa5; 32]) };
        assert_eq!(Answer::decode(answer.encode().as_bytes()).unwrap(), answer);
        let odd = answer.encode().replace("SHA256", "COLOUR").to_lowercase();
        answer.digest = None;
        assert_eq!(Answer::decode(odd.as_bytes()).unwrap(), answer);
    }

    #[test]
    fn requests_are_read_in_any_case_with_or_without_a_newline() {
        for request in ["GET a.jpg.torrent\n", "get a.jpg.TORRENT", "Get a.jpg.torrent\r\n"] {
            assert_eq!(requested_file(request.as_bytes()), Some("a.jpg"), "{request:?}");
        }
        for wrong in [
            "",
            "GET",
            "GET \n",
            "GET .torrent\n",
            "GET a b.torrent\n",
            "PUT a.torrent\n",
            "GET a.jpg\n",
            "GET a\u{7}.torrent",
        ] {
            assert_eq!(requested_file(wrong.as_bytes()), None, "{wrong:?}");
        }
        assert_eq!(requested_file(&[b'x'; LONGEST + 1]), None);
        assert_eq!(requested_file(request("redsox.jpg").as_bytes()), Some("redsox.jpg"));
    }

    #[test]
    fn what_is_no_answer_is_told_why() {
        assert_eq!(Answer::decode(BAD_FORMAT.as_bytes()), Err(AnswerError::Refused("400 BAD_FORMAT".into())));
        for (text, missing) in [
            ("", "NUM_BLOCKS"),
            ("NUM_BLOCKS: 1\nFILE_SIZE: -1\n", "FILE_SIZE"),
            ("NUM_BLOCKS: 1\nFILE_SIZE: 1\n", "IP1"),
            ("NUM_BLOCKS: 1\nFILE_SIZE: 1\nIP1: here\nPORT1: 1\n", "IP"),
            ("NUM_BLOCKS: 1\nFILE_SIZE: 1\nIP1: 1.2.3.4\nPORT1: 0\n", "PORT"),
        ] {
            assert_eq!(Answer::decode(text.as_bytes()), Err(AnswerError::Missing(missing)), "{text:?}");
        }
        assert_eq!(Answer::decode(&[0xff]), Err(AnswerError::NoText));
    }
}

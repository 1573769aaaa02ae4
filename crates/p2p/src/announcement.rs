//! How a peer tells our tracker of itself: a datagram that it repeats, and that nobody answers.
//!
//! ```text
//! → PEER redsox.jpg.torrent\nFILE_SIZE: 805975\nBLOCK_SIZE: 10000\nPORTS: 18765 20013 27114\nSHA256: 9f86…\n
//! ```
//!
//! The published protocol has no such thing: there the tracker knows the peers from elsewhere. To any other tracker this is no
//! request, which it answers by `400 BAD_FORMAT`. The address is the datagram's own; the ports are all that the peer listens on
//! now, and replace those that it told before; none at all says that it goes. The digest may be missing. Keys that are not known
//! are passed over.

use std::fmt::Write as _;

use machine::Span;

use crate::layout::Layout;
use crate::tracker_text::{digest, hex, is_name, torrent_name};

/// The longest announcement that is looked at, in bytes: what fits into one packet of any usual network.
pub const LONGEST: usize = 1400;

/// Ports in an announcement at most.
pub const MOST_PORTS: usize = 100;

/// The longest name of a file that can be announced, in bytes.
pub const LONGEST_NAME: usize = 512;

/// How often a peer announces itself.
pub const EVERY: Span = Span::from_secs(3);

/// A peer that was not heard of for so long is forgotten: two of its datagrams may be lost.
pub const FORGET: Span = Span::from_secs(10);

/// What a peer says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Announcement {
    /// The name of the file.
    pub file: String,
    /// How the peer divides it.
    pub layout: Layout,
    /// The ports that it listens on, none of them 0; at most [`MOST_PORTS`]. None: it goes.
    pub ports: Vec<u16>,
    /// SHA-256 of the file, once it is known.
    pub digest: Option<[u8; 32]>,
}

impl Announcement {
    /// As it is sent.
    pub fn encode(&self) -> String {
        let Announcement { file, layout, ports, digest } = self;
        let mut text = format!("PEER {}\nFILE_SIZE: {}\n", torrent_name(file), layout.size);
        // A text takes everything.
        _ = write!(text, "BLOCK_SIZE: {}\nPORTS:", layout.block_size());
        ports.iter().for_each(|port| _ = write!(text, " {port}"));
        text.push('\n');
        if let Some(digest) = digest {
            _ = writeln!(text, "SHA256: {}", hex(digest));
        }
        text
    }

    /// Reads one; `None` where it is none, or makes no sense.
    pub fn decode(datagram: &[u8]) -> Option<Announcement> {
        let text = std::str::from_utf8(datagram).ok().filter(|text| text.len() <= LONGEST)?;
        let (first, rest) = text.split_once('\n')?;
        let (verb, name) = first.strip_suffix('\r').unwrap_or(first).split_once(' ')?;
        let file = crate::tracker_text::without_torrent(name).filter(|file| is_name(file))?;
        if !verb.eq_ignore_ascii_case("PEER") || file.len() > LONGEST_NAME {
            return None;
        }
        let fields = || rest.lines().filter_map(|line| line.split_once(':'));
        let value =
            |key: &str| fields().find(|(found, _)| found.trim().eq_ignore_ascii_case(key)).map(|(_, text)| text.trim());
        let number = |key| value(key).and_then(|text| text.parse::<u64>().ok());
        let layout = Layout::new(number("FILE_SIZE")?, number("BLOCK_SIZE")?)?;
        let mut ports = Vec::new();
        for port in value("PORTS")?.split_ascii_whitespace() {
            let port = port.parse().ok().filter(|port| *port != 0)?;
            if ports.len() == MOST_PORTS {
                return None;
            }
            if !ports.contains(&port) {
                ports.push(port);
            }
        }
        // A digest that is none must not count as a peer that knows none.
        let digest = match value("SHA256") {
            Some(text) => Some(digest(text)?),
            None => None,
        };
        Some(Announcement { file: file.to_owned(), layout, ports, digest })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::tracker_text::requested_file;

    fn announcement() -> Announcement {
        Announcement {
            file: "redsox.jpg".into(),
            layout: Layout::published(805_975),
            ports: vec![18_765, 20_013],
            digest: None,
        }
    }

    #[test]
    fn it_is_written_as_documented() {
        let text = "PEER redsox.jpg.torrent\nFILE_SIZE: 805975\nBLOCK_SIZE: 10000\nPORTS: 18765 20013\n";
        assert_eq!(announcement().encode(), text);
        assert_eq!(requested_file(text.as_bytes()), None, "to other trackers it is no request");
        let known = Announcement { digest: Some([0xa5; 32]), ports: Vec::new(), ..announcement() };
        assert!(known.encode().ends_with(&format!("PORTS:\nSHA256: {}\n", "a5".repeat(32))));
        for told in [announcement(), known] {
            assert_eq!(Announcement::decode(told.encode().as_bytes()), Some(told));
        }
    }

    #[test]
    fn it_is_read_in_any_case_with_keys_of_later_times() {
        let text = "peer redsox.jpg.TORRENT\r\ncolour: red\r\nports:  18765 20013 18765 \r\nblock_size:10000\r\nfile_size: 805975";
        assert_eq!(Announcement::decode(text.as_bytes()), Some(announcement()));
    }

    #[test]
    fn what_makes_no_sense_is_none() {
        let good = announcement().encode();
        let many: Vec<String> = (1..=MOST_PORTS + 1).map(|port| port.to_string()).collect();
        for wrong in [
            "GET redsox.jpg.torrent\n".to_owned(),
            good.replace("PEER", "PEERS"),
            good.replace("redsox.jpg", "red sox"),
            good.replace("redsox.jpg", ""),
            good.replace("redsox.jpg", &"x".repeat(LONGEST_NAME + 1)),
            good.replace("805975", "-1"),
            good.replace(": 10000", ": 0"),
            good.replace("BLOCK_SIZE", "BLOCKS"),
            good.replace("18765", "0"),
            good.replace("18765", "65536"),
            good.replace("PORTS", "PORT"),
            good.replace("18765 20013", &many.join(" ")),
            format!("{good}SHA256: abc\n"),
            format!("{good}{}", "x".repeat(LONGEST)),
        ] {
            assert_eq!(Announcement::decode(wrong.as_bytes()), None, "{wrong:?}");
        }
    }

    #[test]
    fn the_longest_that_is_written_is_read() {
        let longest = Announcement {
            file: "x".repeat(LONGEST_NAME),
            layout: Layout::new(u64::MAX, u64::MAX - 1).expect("of two blocks"),
            ports: (0..MOST_PORTS).map(|nth| u16::MAX - nth as u16).collect(),
            digest: Some([0xff; 32]),
        };
        assert_eq!(Announcement::decode(longest.encode().as_bytes()), Some(longest));
    }

    proptest! {
        /// Nothing that arrives panics, and what is taken is taken again from its own text.
        #[test]
        fn any_bytes_are_read_or_refused(noise in any::<Vec<u8>>(), cut in 0_usize..200, at in 0_usize..80, with: u8) {
            let mut bytes = announcement().encode().into_bytes();
            if let Some(byte) = bytes.get_mut(at) {
                *byte = with;
            }
            bytes.truncate(cut);
            for told in [Announcement::decode(&bytes), Announcement::decode(&noise)].into_iter().flatten() {
                prop_assert_eq!(Announcement::decode(told.encode().as_bytes()), Some(told));
            }
        }
    }
}

//! `RECEIVER… PORT FILE MSS`: who is sent what, as the assignment writes it.

use std::ffi::{OsStr, OsString};
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;

/// What the words of a command line ask for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Task {
    /// As they were written, at least one.
    pub(crate) receivers: Vec<String>,
    /// Where they listen, but for those that have a port of their own.
    pub(crate) port: u16,
    /// What is sent.
    pub(crate) file: PathBuf,
    /// The most data in a segment, in bytes.
    pub(crate) mss: u32,
}

/// The largest that is taken: fits into a datagram over IPv4.
pub(crate) const LARGEST_MSS: u32 = 65_499;

/// Why the words make no sense, or a name leads nowhere.
#[derive(Debug, thiserror::Error)]
pub enum WordsError {
    /// Too few.
    #[error("at least four words are wanted: RECEIVER… PORT FILE MSS")]
    TooFew,
    /// Not a port.
    #[error("`{word}` is no port from 1 to 65535; it is the third word from the end: RECEIVER… PORT FILE MSS")]
    Port {
        /// What was written.
        word: String,
    },
    /// Not a size of segments.
    #[error("`{word}` is no number of bytes from 1 to {LARGEST_MSS}; the last word is the MSS")]
    Mss {
        /// What was written.
        word: String,
    },
    /// Not a name.
    #[error("`{word}` is not the name or the address of a receiver")]
    Receiver {
        /// What was written.
        word: String,
    },
    /// Nobody knows the name.
    #[error("cannot find `{word}`")]
    Unknown {
        /// What was written.
        word: String,
        /// What the resolver says.
        source: std::io::Error,
    },
    /// A name without an address that can be reached.
    #[error("`{word}` has no address of a family that this machine has")]
    NoAddress {
        /// What was written.
        word: String,
    },
    /// Not all replicas have come.
    #[error("{found} of {expected} receivers were found in {patience}")]
    TooFewFound {
        /// Different addresses.
        found: usize,
        /// How many are wanted.
        expected: usize,
        /// How long they were waited for.
        patience: machine::Span,
    },
    /// Acknowledgements could not be told apart.
    #[error("`{first}` and `{second}` are the same receiver, {address}")]
    Twice {
        /// What was written first.
        first: String,
        /// What was written later.
        second: String,
        /// What both are.
        address: SocketAddr,
    },
}

impl Task {
    /// Reads the words.
    pub(crate) fn read(words: &[OsString]) -> Result<Self, WordsError> {
        let [receivers @ .., port, file, mss] = words else { return Err(WordsError::TooFew) };
        if receivers.is_empty() {
            return Err(WordsError::TooFew);
        }
        let shown = |word: &OsStr| word.to_string_lossy().into_owned();
        let number = |word: &OsStr| word.to_str().and_then(|word| word.parse::<u32>().ok());
        let receiver = |word: &OsString| match word.to_str() {
            Some(name) if !name.is_empty() => Ok(name.to_owned()),
            _ => Err(WordsError::Receiver { word: shown(word) }),
        };
        let valid = number(port).and_then(|port| u16::try_from(port).ok()).filter(|port| *port > 0);
        Ok(Task {
            receivers: receivers.iter().map(receiver).collect::<Result<_, _>>()?,
            port: valid.ok_or_else(|| WordsError::Port { word: shown(port) })?,
            file: file.into(),
            mss: number(mss)
                .filter(|mss| (1..=LARGEST_MSS).contains(mss))
                .ok_or_else(|| WordsError::Mss { word: shown(mss) })?,
        })
    }

    /// Looks all receivers up, in their order; `reaches` tells which addresses can be sent to. Blocks while names are
    /// asked for.
    pub(crate) fn addresses(&self, reaches: impl Fn(&SocketAddr) -> bool) -> Result<Vec<SocketAddr>, WordsError> {
        let mut addresses: Vec<SocketAddr> = Vec::with_capacity(self.receivers.len());
        for word in &self.receivers {
            let (host, port) = split(word, self.port).ok_or_else(|| WordsError::Receiver { word: word.clone() })?;
            let found = (host, port).to_socket_addrs();
            let mut found = found.map_err(|source| WordsError::Unknown { word: word.clone(), source })?;
            let address = found.find(&reaches).ok_or_else(|| WordsError::NoAddress { word: word.clone() })?;
            if let Some(at) = addresses.iter().position(|other| *other == address) {
                let (first, second) = (self.receivers[at].clone(), word.clone());
                return Err(WordsError::Twice { first, second, address });
            }
            addresses.push(address);
        }
        Ok(addresses)
    }
}

/// `host`, `host:port`, an IPv6 address as such or in brackets, `[address]:port`.
pub(super) fn split(word: &str, default: u16) -> Option<(&str, u16)> {
    if let Some(rest) = word.strip_prefix('[') {
        let (host, port) = rest.split_once(']')?;
        let port = if port.is_empty() { default } else { port.strip_prefix(':')?.parse().ok()? };
        return Some((host, port));
    }
    match word.split_once(':') {
        Some((host, port)) if !port.contains(':') => Some((host, port.parse().ok().filter(|port| *port > 0)?)),
        _ => Some((word, default)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(words: &str) -> Result<Task, WordsError> {
        Task::read(&words.split(' ').map(OsString::from).collect::<Vec<_>>())
    }

    #[test]
    fn the_words_are_those_of_the_assignment() {
        let task = read("one 10.0.0.2 fd00::3 7735 movie 500").unwrap();
        assert_eq!(task.receivers, ["one", "10.0.0.2", "fd00::3"]);
        assert_eq!((task.port, task.mss, task.file), (7735, 500, PathBuf::from("movie")));
    }

    #[test]
    fn what_makes_no_sense_is_named() {
        for (words, says) in [
            ("7735 movie 500", "at least four words"),
            ("one 0 movie 500", "`0` is no port"),
            ("one 65536 movie 500", "`65536` is no port"),
            ("one 7735 movie 0", "`0` is no number of bytes"),
            ("one 7735 movie 65500", "`65500` is no number of bytes"),
            ("one 7735 movie 1k", "`1k` is no number of bytes"),
            (" 7735 movie 500", "`` is not the name"),
        ] {
            let error = read(words).unwrap_err().to_string();
            assert!(error.contains(says), "{words}: {error}");
        }
    }

    #[test]
    fn receivers_may_have_a_port_of_their_own() {
        let task = read("127.0.0.1 127.0.0.1:9 [::1]:10 ::1 [::2] 7735 movie 500").unwrap();
        let addresses: Vec<String> = task.addresses(|_| true).unwrap().iter().map(ToString::to_string).collect();
        assert_eq!(addresses, ["127.0.0.1:7735", "127.0.0.1:9", "[::1]:10", "[::1]:7735", "[::2]:7735"]);
    }

    #[test]
    fn one_receiver_is_not_two() {
        let error = read("127.0.0.1 127.0.0.1:7735 7735 movie 500").unwrap().addresses(|_| true).unwrap_err();
        assert_eq!(error.to_string(), "`127.0.0.1` and `127.0.0.1:7735` are the same receiver, 127.0.0.1:7735");
        let error = read("127.0.0.1 7735 movie 500").unwrap().addresses(SocketAddr::is_ipv6).unwrap_err();
        assert!(error.to_string().starts_with("`127.0.0.1` has no address"), "{error}");
        for word in ["[::1", "[::1]9", "a:0", "a:70000", "a:b"] {
            let error = read(&format!("{word} 7735 movie 500")).unwrap().addresses(|_| true).unwrap_err();
            assert!(matches!(error, WordsError::Receiver { .. }), "{word}: {error}");
        }
    }
}

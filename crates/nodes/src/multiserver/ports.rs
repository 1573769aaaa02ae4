//! The ports of a command line, checked before anything starts.

use std::collections::BTreeSet;
use std::fmt;

/// Ports of file servers and of their check server. Invariant: all of them are different, and from 1024 on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Ports {
    /// In the order of the command line; at least one.
    pub(super) servers: Vec<u16>,
    pub(super) check: Option<u16>,
}

/// What is wrong with a list of ports.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PortsError {
    /// Not numbers.
    #[error("not a port number: {}", .0.join(", "))]
    NotANumber(Vec<String>),
    /// System ports, or no ports at all.
    #[error("ports are from 1024 to 65535, not {}", .0.join(", "))]
    Range(Vec<String>),
    /// Neither one for each server nor one more.
    #[error("-n {servers} needs {servers} ports, or {} with the check server's, not {found}", servers + 1)]
    Count {
        /// Servers.
        servers: usize,
        /// Ports.
        found: usize,
    },
    /// The same one again.
    #[error("{0} given more than once")]
    Twice(PortList),
}

/// Ports in a sentence: `port 1024 is`, `ports 1024, 1025 are`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortList(pub Vec<u16>);

impl Ports {
    /// One of `words` for each of the `servers`, and perhaps one more for the check server.
    pub(super) fn parse(words: &[String], servers: usize) -> Result<Self, PortsError> {
        let is_number = |word: &&String| {
            let digits = word.strip_prefix('-').unwrap_or(word);
            !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())
        };
        let (numbers, others): (Vec<_>, Vec<_>) = words.iter().partition(is_number);
        if !others.is_empty() {
            return Err(PortsError::NotANumber(others.iter().map(|word| format!("`{word}`")).collect()));
        }
        let port = |word: &String| word.parse().ok().filter(|port: &u16| *port >= 1024);
        let outside: Vec<_> = numbers.iter().filter(|word| port(word).is_none()).map(|word| (*word).clone()).collect();
        if !outside.is_empty() {
            return Err(PortsError::Range(outside));
        }
        let mut ports: Vec<u16> = words.iter().filter_map(port).collect();
        if ports.len() != servers && ports.len() != servers + 1 {
            return Err(PortsError::Count { servers, found: ports.len() });
        }
        let mut seen = BTreeSet::new();
        let twice: BTreeSet<_> = ports.iter().filter(|port| !seen.insert(**port)).copied().collect();
        if !twice.is_empty() {
            return Err(PortsError::Twice(PortList(twice.into_iter().collect())));
        }
        let check = if ports.len() > servers { ports.pop() } else { None };
        Ok(Ports { servers: ports, check })
    }

    /// All of them.
    pub(super) fn all(&self) -> impl Iterator<Item = u16> + '_ {
        self.servers.iter().copied().chain(self.check)
    }
}

impl fmt::Display for PortList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let numbers: Vec<_> = self.0.iter().map(u16::to_string).collect();
        match &numbers[..] {
            [one] => write!(f, "port {one} is"),
            several => write!(f, "ports {} are", several.join(", ")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(words: &str, servers: usize) -> Result<Ports, String> {
        let words: Vec<_> = words.split(' ').map(str::to_owned).collect();
        Ports::parse(&words, servers).map_err(|error| error.to_string())
    }

    #[test]
    fn the_last_of_n_and_one_ports_is_the_check_servers() {
        let with = parse("21018 27215 35416 19222 39223", 4).unwrap();
        assert_eq!((with.servers, with.check), (vec![21018, 27215, 35416, 19222], Some(39223)));
        let without = parse("1024 65535", 2).unwrap();
        assert_eq!((without.servers, without.check), (vec![1024, 65535], None));
    }

    #[test]
    fn every_wrong_port_is_named_in_one_line() {
        for (words, servers, line) in [
            ("80 21018 70000 1023 -7", 4, "ports are from 1024 to 65535, not 80, 70000, 1023, -7"),
            ("99999999999999999999999 2000", 2, "ports are from 1024 to 65535, not 99999999999999999999999"),
            ("2000 x +1 -", 3, "not a port number: `x`, `+1`, `-`"),
            ("2000", 2, "-n 2 needs 2 ports, or 3 with the check server's, not 1"),
            ("2000 2001 2002", 1, "-n 1 needs 1 ports, or 2 with the check server's, not 3"),
            ("2000 2001 2000 2001 2000", 4, "ports 2000, 2001 are given more than once"),
            ("2000 2000", 1, "port 2000 is given more than once"),
        ] {
            assert_eq!(parse(words, servers), Err(line.to_owned()), "{words}");
        }
    }
}

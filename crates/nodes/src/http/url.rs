//! The URLs that are fetched from: `http` and `https` ones, split into what a client needs.

use std::fmt;
use std::str::FromStr;

/// An `http` or `https` URL without user, query kept in the target, fragment dropped.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Url {
    tls: bool,
    /// Name or address; IPv6 addresses without brackets.
    host: String,
    port: u16,
    /// Origin form: path and query, begins with `/`.
    target: String,
}

/// Why a text is not such a URL.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UrlError {
    /// Another scheme, or none.
    #[error("`{0}` is not an http:// or https:// URL")]
    Scheme(String),
    /// No host, a port out of range, a user, or characters that have no place in a URL.
    #[error("`{0}` is not a valid URL")]
    Malformed(String),
}

/// Longer ones are refused.
const LONGEST: usize = 8 * 1024;

impl Url {
    /// The `http` URL of `target` (path and query) at a host and port.
    pub fn new(host: &str, port: u16, target: &str) -> Self {
        Url { tls: false, host: host.to_owned(), port, target: target.to_owned() }
    }

    /// Whether it is an `https` URL.
    pub fn is_tls(&self) -> bool {
        self.tls
    }

    /// Name or address; IPv6 addresses without brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port; unless written 80, or 443 for `https`.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Path and query, as in a request line.
    pub fn target(&self) -> &str {
        &self.target
    }

    /// The value of the `Host` header.
    pub fn authority(&self) -> String {
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        if self.port == default_port(self.tls) { host } else { format!("{host}:{}", self.port) }
    }

    /// Whether both are served by the same host and port in the same way.
    pub fn same_origin(&self, other: &Url) -> bool {
        self.tls == other.tls && self.port == other.port && self.host.eq_ignore_ascii_case(&other.host)
    }

    fn scheme(&self) -> &'static str {
        if self.tls { "https" } else { "http" }
    }

    /// The last segment of the path as it stands, percent-encoded; empty for a folder.
    pub fn file_name(&self) -> &str {
        let path = self.target.split('?').next().unwrap_or_default();
        path.rsplit('/').next().unwrap_or_default()
    }

    /// The same with `suffix` at the end of its path; a query is dropped.
    pub fn with_suffix(&self, suffix: &str) -> Url {
        let path = self.target.split('?').next().unwrap_or_default();
        Url { target: format!("{path}{suffix}"), ..self.clone() }
    }

    /// The URL that a reference in an answer of this one means, RFC 3986 §5.2 as far as servers use it.
    ///
    /// # Errors
    /// When it leads to another scheme or is malformed.
    pub fn join(&self, reference: &str) -> Result<Url, UrlError> {
        let reference = reference.split('#').next().unwrap_or_default();
        let scheme_end = reference.find([':', '/', '?']);
        if scheme_end.is_some_and(|at| reference[at..].starts_with(':')) {
            return reference.parse();
        }
        if let Some(rest) = reference.strip_prefix("//") {
            return format!("{}://{rest}", self.scheme()).parse();
        }
        let path = self.target.split('?').next().unwrap_or_default();
        let target = match reference.chars().next() {
            None => self.target.clone(),
            Some('/') => reference.to_owned(),
            Some('?') => format!("{path}{reference}"),
            Some(_) => {
                let folder = path.rfind('/').map_or("/", |at| &path[..=at]);
                format!("{folder}{}", reference.trim_start_matches("./"))
            }
        };
        check_target(&target)?;
        Ok(Url { target, ..self.clone() })
    }
}

impl FromStr for Url {
    type Err = UrlError;

    fn from_str(text: &str) -> Result<Self, UrlError> {
        let malformed = || UrlError::Malformed(text.chars().take(200).collect());
        let (tls, rest) = match text.split_once("://") {
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http") => (false, rest),
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("https") => (true, rest),
            _ => return Err(UrlError::Scheme(text.chars().take(200).collect())),
        };
        let rest = rest.split('#').next().unwrap_or_default();
        let (authority, target) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        let (host, port) = split_port(authority).ok_or_else(malformed)?;
        let port = port.unwrap_or(default_port(tls));
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"-._:%".contains(&b);
        if host.is_empty() || host.len() > 255 || !host.bytes().all(plain) {
            return Err(malformed());
        }
        let target = if target.starts_with('/') { target.to_owned() } else { format!("/{target}") };
        check_target(&target)?;
        Ok(Url { tls, host: host.to_owned(), port, target })
    }
}

/// Of `http` or `https`.
const fn default_port(tls: bool) -> u16 {
    if tls { 443 } else { 80 }
}

/// `host`, `host:port`, `[v6]` or `[v6]:port`.
fn split_port(authority: &str) -> Option<(&str, Option<u16>)> {
    let (host, port) = match authority.strip_prefix('[') {
        Some(rest) => {
            let (host, after) = rest.split_once(']')?;
            (host, if after.is_empty() { "" } else { after.strip_prefix(':')? })
        }
        None => {
            let (host, port) = authority.split_once(':').unwrap_or((authority, ""));
            (host, port)
        }
    };
    let digits = port.bytes().all(|b| b.is_ascii_digit());
    let port = if port.is_empty() { None } else { Some(port.parse().ok().filter(|port| digits && *port > 0)?) };
    Some((host, port))
}

/// A target goes into a request line as it is: nothing in it may end that line.
fn check_target(target: &str) -> Result<(), UrlError> {
    let sound = target.len() <= LONGEST && target.bytes().all(|b| b.is_ascii_graphic());
    if sound { Ok(()) } else { Err(UrlError::Malformed(target.chars().take(200).collect())) }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}{}", self.scheme(), self.authority(), self.target)
    }
}

/// `name` with every byte that is not unreserved (RFC 3986 §2.3) percent-encoded.
pub(crate) fn encode_segment(name: &[u8]) -> String {
    name.iter().fold(String::with_capacity(name.len()), |mut out, byte| {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(byte) {
            out.push(char::from(*byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
        out
    })
}

/// The bytes that a percent-encoded text stands for; a `%` without two digits stands for itself.
pub(crate) fn decode(text: &str) -> Vec<u8> {
    let bytes = text.as_bytes();
    let digit = |at: usize| bytes.get(at).and_then(|b| char::from(*b).to_digit(16));
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        let (decoded, taken) = match (byte, digit(at + 1), digit(at + 2)) {
            (b'%', Some(high), Some(low)) => ((high * 16 + low) as u8, 3),
            _ => (byte, 1),
        };
        out.push(decoded);
        at += taken;
    }
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn urls_are_split_and_printed_again() {
        for (text, host, port, target) in [
            ("http://a", "a", 80, "/"),
            ("HTTP://a:8080/b?c#d", "a", 8080, "/b?c"),
            ("http://[::1]:81/x", "::1", 81, "/x"),
            ("http://[fd00::1]", "fd00::1", 80, "/"),
            ("http://a?q", "a", 80, "/?q"),
            ("https://a/b", "a", 443, "/b"),
            ("https://a:80/b", "a", 80, "/b"),
        ] {
            let url: Url = text.parse().unwrap();
            assert_eq!((url.host(), url.port(), url.target()), (host, port, target), "{text}");
            assert_eq!(url.to_string().parse(), Ok(url));
        }
        for wrong in [
            "",
            "a",
            "ftp://a/",
            "http://",
            "http://a:0/",
            "http://a:99999",
            "http://u@a/",
            "http://a/b c",
            "http://a/\r\nX: y",
        ] {
            assert!(wrong.parse::<Url>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn references_are_resolved() {
        let base: Url = "http://a:81/b/c?d".parse().unwrap();
        for (reference, whole) in [
            ("/x", "http://a:81/x"),
            ("x", "http://a:81/b/x"),
            ("./x", "http://a:81/b/x"),
            ("?y", "http://a:81/b/c?y"),
            ("//z/x", "http://z/x"),
            ("http://z:82/#f", "http://z:82/"),
        ] {
            assert_eq!(base.join(reference).unwrap().to_string(), whole, "{reference}");
        }
        assert!(base.join("https://a/").is_ok_and(|url| url.is_tls()));
        assert!(base.join("ftp://a/").is_err());
        assert!(base.join("/x\r\ny").is_err());
        assert_eq!(base.with_suffix(".meta4").to_string(), "http://a:81/b/c.meta4");
    }

    proptest! {
        #[test]
        fn any_name_survives_the_encoding(name: Vec<u8>) {
            prop_assert_eq!(decode(&encode_segment(&name)), name);
        }

        #[test]
        fn nothing_panics(text: String) {
            let base = Url::new("a", 80, "/");
            if let Ok(url) = base.join(&text) {
                prop_assert!(url.target().bytes().all(|b| b.is_ascii_graphic()));
            }
            let _ = decode(&text);
        }
    }
}

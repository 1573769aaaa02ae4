//! The head of a request, from bytes that anybody may have sent.

/// The longest head that is read, in bytes.
pub(crate) const LONGEST: usize = 16 << 10;

/// The most header fields that are read.
const MOST_FIELDS: usize = 64;

/// What matters of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Request {
    /// GET, not HEAD.
    pub(crate) wants_body: bool,
    /// Path without query, as it came.
    pub(crate) path: String,
    /// Under which name and port the client found this server, if it says so.
    pub(crate) host: Option<String>,
    pub(crate) range: Option<String>,
    pub(crate) if_range: Option<String>,
    pub(crate) if_none_match: Option<String>,
    /// Whether the client would send another on the same connection.
    pub(crate) keep_alive: bool,
}

/// What the bytes so far are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Parsed {
    /// Not a whole head yet.
    Partial,
    /// A head of this many bytes.
    Request(Request, usize),
    /// A head that cannot be answered with a file; this status tells why. The connection must be closed after it.
    Refused(u16),
}

/// Reads the head at the beginning of `bytes`.
pub(crate) fn parse(bytes: &[u8]) -> Parsed {
    let mut fields = [httparse::EMPTY_HEADER; MOST_FIELDS];
    let mut head = httparse::Request::new(&mut fields);
    let length = match head.parse(bytes) {
        Ok(httparse::Status::Complete(length)) if length <= LONGEST => length,
        Ok(httparse::Status::Partial) if bytes.len() < LONGEST => return Parsed::Partial,
        Ok(_) | Err(httparse::Error::TooManyHeaders) => return Parsed::Refused(431),
        Err(httparse::Error::Version) => return Parsed::Refused(505),
        Err(_) => return Parsed::Refused(400),
    };
    let is_1_1 = head.version == Some(1);
    let field = |name: &str| {
        let mut found = head.headers.iter().filter(|field| field.name.eq_ignore_ascii_case(name));
        let first = found.next()?;
        // Said twice, it may be understood in two ways: by nobody then.
        Some(if found.next().is_some() { None } else { std::str::from_utf8(first.value).ok() })
    };
    let single = |name: &str| field(name).flatten().map(str::to_owned);
    let body_follows =
        field("transfer-encoding").is_some() || field("content-length").is_some_and(|length| length != Some("0"));
    if body_follows {
        return Parsed::Refused(413);
    }
    // RFC 9112 §3.2: exactly one Host in HTTP/1.1.
    if is_1_1 && field("host").flatten().is_none() {
        return Parsed::Refused(400);
    }
    let wants_body = match head.method {
        Some("GET") => true,
        Some("HEAD") => false,
        _ => return Parsed::Refused(405),
    };
    let Some(path) = path_of(head.path.unwrap_or_default()) else { return Parsed::Refused(400) };
    let connection = single("connection").unwrap_or_default().to_ascii_lowercase();
    let says = |word: &str| connection.split(',').any(|token| token.trim() == word);
    let request = Request {
        wants_body,
        path: path.to_owned(),
        host: single("host"),
        range: single("range"),
        if_range: single("if-range"),
        if_none_match: single("if-none-match"),
        keep_alive: if is_1_1 { !says("close") } else { says("keep-alive") },
    };
    Parsed::Request(request, length)
}

/// The path of a target in origin or absolute form, without its query.
fn path_of(target: &str) -> Option<&str> {
    let origin = match target.split_once("://") {
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http") => rest.find('/').map_or("/", |at| &rest[at..]),
        _ => target,
    };
    let path = origin.split('?').next().unwrap_or_default();
    path.starts_with('/').then_some(path)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn request(text: &str) -> Request {
        match parse(text.as_bytes()) {
            Parsed::Request(request, length) => {
                assert_eq!(length, text.len());
                request
            }
            other => panic!("{text}: {other:?}"),
        }
    }

    #[test]
    fn heads_are_understood() {
        let get = request("GET /a?b HTTP/1.1\r\nhost: x\r\nRANGE: bytes=0-1\r\nIf-Range: \"t\"\r\n\r\n");
        assert_eq!((get.wants_body, get.path.as_str(), get.keep_alive), (true, "/a", true));
        assert_eq!((get.range.as_deref(), get.if_range.as_deref()), (Some("bytes=0-1"), Some("\"t\"")));
        assert!(!request("HEAD / HTTP/1.1\r\nHost: x\r\nConnection: foo, Close\r\n\r\n").keep_alive);
        assert!(!request("GET / HTTP/1.0\r\n\r\n").keep_alive);
        assert!(request("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n").keep_alive);
        assert_eq!(request("GET http://h:1/p HTTP/1.1\r\nHost: h\r\n\r\n").path, "/p");
        assert_eq!(request("GET / HTTP/1.1\r\nHost: x\r\nRange: a\r\nRange: b\r\n\r\n").range, None);
    }

    #[test]
    fn what_cannot_be_answered_has_a_status() {
        for (text, status) in [
            ("GET / HTTP/1.1\r\n\r\n", 400),
            ("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
            ("POST / HTTP/1.1\r\nHost: a\r\n\r\n", 405),
            ("GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello", 413),
            ("GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 413),
            ("GET * HTTP/1.1\r\nHost: a\r\n\r\n", 400),
            ("GET / HTTP/3.0\r\n\r\n", 505),
            ("\x16\x03\x01\x02\x00", 400),
        ] {
            assert_eq!(parse(text.as_bytes()), Parsed::Refused(status), "{text:?}");
        }
        let endless = format!("GET / HTTP/1.1\r\nX: {}", "x".repeat(LONGEST));
        assert_eq!(parse(endless.as_bytes()), Parsed::Refused(431));
        let many = format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "x: y\r\n".repeat(MOST_FIELDS));
        assert_eq!(parse(many.as_bytes()), Parsed::Refused(431));
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes: Vec<u8>, torn in 0usize..80) {
            let _ = parse(&bytes);
            let whole = b"GET /a HTTP/1.1\r\nHost: x\r\nRange: bytes=0-1\r\n\r\n";
            let head = &whole[..torn.min(whole.len())];
            prop_assert_eq!(parse(head) == Parsed::Partial, head.len() < whole.len());
        }
    }
}

//! Where the body of an answer ends: RFC 9112 §6 and §7.1.

use bytes::{Buf, Bytes, BytesMut};
use hyper::header::{CONTENT_LENGTH, HeaderMap, TRANSFER_ENCODING};
use hyper::{StatusCode, header::HeaderValue};

/// A line that begins a chunk, or a trailer, may be this long, in bytes.
const LONGEST_LINE: usize = 4 << 10;

/// Trailers may be this long together, in bytes.
const LONGEST_TRAILERS: usize = 16 << 10;

/// What is left of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Framing {
    /// This many bytes.
    Length(u64),
    /// Chunks; what comes next of them.
    Chunked(Chunked),
    /// Everything until the connection ends.
    UntilClose,
}

/// What comes next of a chunked body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Chunked {
    /// The line with a chunk's size.
    Size,
    /// This many bytes of a chunk.
    Data(u64),
    /// The line end after a chunk.
    DataEnd,
    /// Trailers, of which so many bytes came.
    Trailers(usize),
    /// Nothing.
    Over,
}

/// What a look at the buffer gave.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Taken {
    /// Body bytes.
    Bytes(Bytes),
    /// Nothing before more is read.
    NeedsMore,
    /// The body is over.
    Over,
}

impl Framing {
    /// How the body of an answer to a GET is framed.
    ///
    /// # Errors
    /// In words, what makes it ambiguous: a client that guesses can be made to take one answer for another.
    pub(crate) fn of(status: StatusCode, headers: &HeaderMap) -> Result<Self, &'static str> {
        if status == StatusCode::NO_CONTENT || status == StatusCode::NOT_MODIFIED {
            return Ok(Framing::Length(0));
        }
        let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
        match (codings.next(), codings.next()) {
            (None, _) => {}
            (Some(coding), None) if coding.as_bytes().eq_ignore_ascii_case(b"chunked") => {
                return Ok(Framing::Chunked(Chunked::Size));
            }
            _ => return Err("it has a transfer coding that nobody asked for"),
        }
        let mut lengths = headers.get_all(CONTENT_LENGTH).iter().map(length);
        match lengths.next() {
            None => Ok(Framing::UntilClose),
            Some(None) => Err("its Content-Length is not a number of bytes"),
            Some(Some(first)) if lengths.all(|other| other == Some(first)) => Ok(Framing::Length(first)),
            Some(Some(_)) => Err("it has two Content-Lengths"),
        }
    }

    /// Whether nothing is left.
    pub(crate) fn is_over(self) -> bool {
        matches!(self, Framing::Length(0) | Framing::Chunked(Chunked::Over))
    }

    /// Takes what there is of the body from the beginning of `buffer`.
    ///
    /// # Errors
    /// In words, what is wrong with a chunk.
    pub(crate) fn take(&mut self, buffer: &mut BytesMut) -> Result<Taken, &'static str> {
        match self {
            Framing::Length(left) => Ok(take_some(left, buffer)),
            Framing::UntilClose => Ok(take_some(&mut u64::MAX.clone(), buffer)),
            Framing::Chunked(next) => next.take(buffer),
        }
    }
}

fn take_some(left: &mut u64, buffer: &mut BytesMut) -> Taken {
    if *left == 0 {
        return Taken::Over;
    }
    if buffer.is_empty() {
        return Taken::NeedsMore;
    }
    let len = buffer.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
    *left -= len as u64;
    Taken::Bytes(buffer.split_to(len).freeze())
}

impl Chunked {
    fn take(&mut self, buffer: &mut BytesMut) -> Result<Taken, &'static str> {
        loop {
            match self {
                Chunked::Size => match httparse::parse_chunk_size(buffer) {
                    Ok(httparse::Status::Complete((line, size))) => {
                        buffer.advance(line);
                        *self = if size == 0 { Chunked::Trailers(0) } else { Chunked::Data(size) };
                    }
                    Ok(httparse::Status::Partial) if buffer.len() <= LONGEST_LINE => return Ok(Taken::NeedsMore),
                    Ok(httparse::Status::Partial) | Err(_) => return Err("it has a chunk without a size"),
                },
                Chunked::Data(left) => {
                    let taken = take_some(left, buffer);
                    if *left == 0 {
                        *self = Chunked::DataEnd;
                    }
                    return Ok(taken);
                }
                Chunked::DataEnd => match buffer.get(..2) {
                    Some(b"\r\n") => {
                        buffer.advance(2);
                        *self = Chunked::Size;
                    }
                    Some(_) => return Err("it has a chunk that is longer than its size"),
                    None => return Ok(Taken::NeedsMore),
                },
                Chunked::Trailers(seen) => {
                    let Some(end) = buffer.iter().position(|byte| *byte == b'\n') else {
                        let bounded = buffer.len() <= LONGEST_LINE;
                        return if bounded { Ok(Taken::NeedsMore) } else { Err("it has a trailer without end") };
                    };
                    let is_last = matches!(&buffer[..end], b"" | b"\r");
                    *seen += end + 1;
                    if *seen > LONGEST_TRAILERS {
                        return Err("it has trailers without end");
                    }
                    buffer.advance(end + 1);
                    if is_last {
                        *self = Chunked::Over;
                    }
                }
                Chunked::Over => return Ok(Taken::Over),
            }
        }
    }
}

/// A `Content-Length`: digits only (RFC 9110 §8.6), within 64 bits.
fn length(value: &HeaderValue) -> Option<u64> {
    let text = value.to_str().ok()?;
    (!text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())).then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(fields: &[(&'static str, &'static str)]) -> Result<Framing, &'static str> {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(*name, HeaderValue::from_static(value));
        }
        Framing::of(StatusCode::OK, &headers)
    }

    /// The body in `pieces`, read as they come; what is left in the buffer at its end.
    fn read(mut framing: Framing, pieces: &[&[u8]]) -> Result<(Vec<u8>, Vec<u8>), &'static str> {
        let (mut buffer, mut body) = (BytesMut::new(), Vec::new());
        for piece in pieces {
            buffer.extend_from_slice(piece);
            loop {
                match framing.take(&mut buffer)? {
                    Taken::Bytes(bytes) => body.extend_from_slice(&bytes),
                    Taken::NeedsMore => break,
                    Taken::Over => return Ok((body, buffer.to_vec())),
                }
            }
        }
        Err("the pieces end before the body")
    }

    #[test]
    fn a_body_is_framed_by_its_length_by_chunks_or_by_the_end_and_never_by_two_of_them() {
        assert_eq!(of(&[("content-length", "7")]), Ok(Framing::Length(7)));
        assert_eq!(of(&[("content-length", "7"), ("content-length", "7")]), Ok(Framing::Length(7)));
        assert_eq!(of(&[("transfer-encoding", "Chunked")]), Ok(Framing::Chunked(Chunked::Size)));
        assert_eq!(of(&[]), Ok(Framing::UntilClose));
        for wrong in ["-1", "+1", "", "1e3", "99999999999999999999", "1, 1"] {
            assert!(of(&[("content-length", wrong)]).is_err(), "{wrong}");
        }
        assert!(of(&[("content-length", "7"), ("content-length", "8")]).is_err());
        assert!(of(&[("transfer-encoding", "gzip, chunked")]).is_err());
    }

    #[test]
    fn chunks_are_joined_and_what_follows_the_body_is_left() {
        let whole = b"4;ext=1\r\nWiki\r\n5\r\npedia\r\n0\r\nTrailer: x\r\n\r\nHTTP/1.1";
        let expected = (b"Wikipedia".to_vec(), b"HTTP/1.1".to_vec());
        assert_eq!(read(Framing::Chunked(Chunked::Size), &[whole]), Ok(expected));
        for wrong in [&b"x\r\n"[..], b"4\r\nWikipedia", b"FFFFFFFFFFFFFFFFF\r\n"] {
            assert!(read(Framing::Chunked(Chunked::Size), &[wrong]).is_err());
        }
        let endless = [b"0\r\n".to_vec(), b"a: b\r\n".repeat(10_000)].concat();
        assert_eq!(read(Framing::Chunked(Chunked::Size), &[&endless]), Err("it has trailers without end"));
    }

    proptest! {
        #[test]
        fn how_the_bytes_come_makes_no_difference(sizes in prop::collection::vec(1usize..40, 0..6), cut in 0usize..200) {
            let mut wire = Vec::new();
            let mut body = Vec::new();
            for (n, size) in sizes.iter().enumerate() {
                let chunk = vec![n as u8; *size];
                wire.extend(format!("{size:x}\r\n").bytes().chain(chunk.iter().copied()).chain(*b"\r\n"));
                body.extend(chunk);
            }
            wire.extend(b"0\r\n\r\n");
            let (head, tail) = wire.split_at(cut.min(wire.len()));
            prop_assert_eq!(read(Framing::Chunked(Chunked::Size), &[head, tail]), Ok((body, Vec::new())));
        }

        #[test]
        fn no_bytes_panic(bytes: Vec<u8>) {
            let _ = read(Framing::Chunked(Chunked::Size), &[&bytes]);
        }
    }
}

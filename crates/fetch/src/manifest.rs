//! What is known about a file: hashes, entity tag, and when two descriptions mean the same one.

use std::fmt;
use std::str::FromStr;

use sha2::{Digest as _, Sha256};

use crate::pieces::{PieceIndex, Pieces};

/// A SHA-256.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest(pub [u8; 32]);

impl Digest {
    /// The hash of these bytes.
    pub fn of(bytes: &[u8]) -> Self {
        Digest(Sha256::digest(bytes).into())
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Digest {
    type Err = ManifestError;

    /// 64 hexadecimal digits.
    fn from_str(text: &str) -> Result<Self, ManifestError> {
        let text = text.trim();
        if text.len() != 64 || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(ManifestError::NotSha256);
        }
        let mut digest = [0; 32];
        for (byte, pair) in digest.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
            let pair = std::str::from_utf8(pair).expect("hexadecimal digits are ASCII");
            *byte = u8::from_str_radix(pair, 16).map_err(|_| ManifestError::NotSha256)?;
        }
        Ok(Digest(digest))
    }
}

/// An entity tag, RFC 9110 §8.8.3, as it stands in the header: `"abc"` or `W/"abc"`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Validator(String);

impl Validator {
    /// The longest tag taken, in bytes; a longer one is no use to anybody.
    pub const MAX: usize = 256;

    /// Reads the value of an `ETag` header; `None` if it is not one.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let opaque = text.strip_prefix("W/").unwrap_or(text);
        let inner = opaque.strip_prefix('"')?.strip_suffix('"')?;
        let valid =
            text.len() <= Validator::MAX && inner.bytes().all(|b| b == 0x21 || (0x23..=0x7e).contains(&b) || b >= 0x80);
        valid.then(|| Validator(text.to_owned()))
    }

    /// Whether equal tags mean equal bytes; only then may ranges of two answers be put together.
    pub fn is_strong(&self) -> bool {
        !self.0.starts_with("W/")
    }

    /// The text of the header.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Validator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What is wrong with published hashes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ManifestError {
    /// Not 64 hexadecimal digits.
    #[error("not a SHA-256 in hexadecimal")]
    NotSha256,
    /// Pieces of no bytes, or too many of them.
    #[error("{length} bytes cannot be cut into pieces of {piece_size}")]
    Cut {
        /// Of the file.
        length: u64,
        /// Of a piece.
        piece_size: u32,
    },
    /// One hash per piece is needed.
    #[error("{found} hashes for {wanted} pieces")]
    Count {
        /// In the list.
        found: usize,
        /// By length and piece size.
        wanted: u32,
    },
}

/// Published hashes of a file: of each piece, of the whole, or both.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    pieces: Pieces,
    /// Invariant: empty, or one for each piece.
    hashes: Vec<Digest>,
    whole: Option<Digest>,
}

impl Manifest {
    /// Hashes of each piece of `piece_size` bytes, and of the whole if known.
    pub fn of_pieces(
        length: u64,
        piece_size: u32,
        hashes: Vec<Digest>,
        whole: Option<Digest>,
    ) -> Result<Self, ManifestError> {
        let pieces = Pieces::new(length, piece_size).ok_or(ManifestError::Cut { length, piece_size })?;
        if hashes.len() != pieces.count() as usize {
            return Err(ManifestError::Count { found: hashes.len(), wanted: pieces.count() });
        }
        Ok(Manifest { pieces, hashes, whole })
    }

    /// A hash of the whole alone.
    pub fn of_whole(length: u64, whole: Digest) -> Result<Self, ManifestError> {
        let pieces = Pieces::of_length(length).ok_or(ManifestError::Cut { length, piece_size: u32::MAX })?;
        Ok(Manifest { pieces, hashes: Vec::new(), whole: Some(whole) })
    }

    /// How the file is cut.
    pub fn pieces(&self) -> Pieces {
        self.pieces
    }

    /// The hash that a piece must have, if the pieces' hashes are published.
    pub fn hash(&self, piece: PieceIndex) -> Option<Digest> {
        self.hashes.get(piece.get() as usize).copied()
    }

    /// Whether each piece can be checked by itself.
    pub fn has_pieces(&self) -> bool {
        !self.hashes.is_empty() || self.pieces.count() == 0
    }

    /// The hash of the whole file, if published.
    pub fn whole(&self) -> Option<Digest> {
        self.whole
    }

    /// Whether both have the same hashes; `None` if they cannot be compared, because they cut the file otherwise.
    pub fn same_hashes(&self, other: &Manifest) -> Option<bool> {
        if self.pieces == other.pieces && !self.hashes.is_empty() && !other.hashes.is_empty() {
            return Some(self.hashes == other.hashes);
        }
        Some(self.whole? == other.whole?)
    }

    /// Names the content: equal for equal hashes of an equally cut file.
    pub fn digest(&self) -> Digest {
        let mut sha = Sha256::new();
        sha.update(self.pieces.length().to_be_bytes());
        sha.update(self.pieces.size().to_be_bytes());
        self.hashes.iter().for_each(|hash| sha.update(hash.0));
        if let (true, Some(whole)) = (self.hashes.is_empty(), self.whole) {
            sha.update(whole.0);
        }
        Digest(sha.finalize().into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_reads_what_it_prints() {
        let digest = Digest::of(b"abc");
        assert_eq!(digest.to_string().parse(), Ok(digest));
        assert!(digest.to_string().starts_with("ba7816bf"));
        for wrong in ["", "ba78", &"g".repeat(64), &"é".repeat(32)] {
            assert_eq!(wrong.parse::<Digest>(), Err(ManifestError::NotSha256), "{wrong}");
        }
    }

    #[test]
    fn a_manifest_has_one_hash_for_each_piece() {
        let hash = Digest::of(b"");
        assert_eq!(Manifest::of_pieces(25, 10, vec![hash; 2], None), Err(ManifestError::Count { found: 2, wanted: 3 }));
        assert!(matches!(Manifest::of_pieces(25, 0, vec![], None), Err(ManifestError::Cut { .. })));
        assert!(Manifest::of_pieces(25, 10, vec![hash; 3], None).is_ok());
    }

    #[test]
    fn an_entity_tag_is_taken_only_in_its_form() {
        assert!(Validator::parse("\"a\"").is_some_and(|tag| tag.is_strong()));
        assert!(Validator::parse("W/\"a\"").is_some_and(|tag| !tag.is_strong()));
        for wrong in ["", "a", "\"", "\"a\"b\"", "w/\"a\"", "\"a b\"", "\"a\r\n\""] {
            assert_eq!(Validator::parse(wrong), None, "{wrong:?}");
        }
    }
}

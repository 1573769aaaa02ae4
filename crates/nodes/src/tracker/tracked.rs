//! `NAME=SIZE` or `NAME=SIZE,SHA256`: a file that a tracker is told of.

use std::str::FromStr;

use fetch::Digest;
use machine::Size;
use p2p::tracker_text::is_name;

/// The longest name that a request can hold beside its other words, in bytes.
const LONGEST_NAME: usize = 900;

/// A file as the command line says it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Tracked {
    pub(crate) name: String,
    pub(crate) size: Size,
    pub(crate) digest: Option<Digest>,
}

/// It is no such file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum TrackedError {
    #[error("`{0}` is not NAME=SIZE or NAME=SIZE,SHA256")]
    Form(String),
    #[error("`{0}` cannot be asked for: a name has no blanks, and at most {LONGEST_NAME} bytes")]
    Name(String),
}

impl FromStr for Tracked {
    type Err = TrackedError;

    fn from_str(text: &str) -> Result<Self, TrackedError> {
        let wrong = || TrackedError::Form(text.to_owned());
        let (name, rest) = text.rsplit_once('=').ok_or_else(wrong)?;
        let (size, digest) = rest.split_once(',').map_or((rest, None), |(size, digest)| (size, Some(digest)));
        if !is_name(name) || name.len() > LONGEST_NAME {
            return Err(TrackedError::Name(name.to_owned()));
        }
        let digest = digest.map(|digest| digest.parse().map_err(|_| wrong())).transpose()?;
        Ok(Tracked { name: name.to_owned(), size: size.parse().map_err(|_| wrong())?, digest })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_read_with_and_without_a_digest() {
        let read = |text: &str| text.parse::<Tracked>();
        let plain = Tracked { name: "a=b".into(), size: Size::from_bytes(5), digest: None };
        assert_eq!(read("a=b=5"), Ok(plain));
        let known = read(&format!("f=1MB,{}", "0f".repeat(32))).unwrap();
        assert_eq!((known.size, known.digest.map(|digest| digest.0)), (Size::from_bytes(1_000_000), Some([0x0f; 32])));
        for wrong in ["", "f", "f=", "f=x", "f=5,", "f=5,12", "f=-1"] {
            assert_eq!(read(wrong), Err(TrackedError::Form(wrong.into())));
        }
        for wrong in ["", "a b", "a\nb", &"x".repeat(LONGEST_NAME + 1)] {
            assert_eq!(read(&format!("{wrong}=5")), Err(TrackedError::Name(wrong.into())));
        }
    }
}

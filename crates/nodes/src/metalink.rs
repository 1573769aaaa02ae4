//! Metalink version 4, RFC 5854: what a file server publishes of its file's hashes, and reading it back.

use std::fmt::Write as _;

use fetch::{Digest, Manifest, ManifestError};
use quick_xml::Reader;
use quick_xml::XmlVersion;
use quick_xml::escape::escape;
use quick_xml::events::{BytesStart, Event};

/// The media type of a Metalink document.
pub const MEDIA_TYPE: &str = "application/metalink4+xml";

/// What is appended to a file's URL to get its Metalink.
pub const SUFFIX: &str = ".meta4";

/// The longest document that is read, in bytes: room for 80 000 pieces.
pub const LONGEST: usize = 8 << 20;

/// Elements nested deeper than this are not Metalink.
const DEEPEST: usize = 16;

/// Why a Metalink could not be used.
#[derive(Debug, thiserror::Error)]
pub enum MetalinkError {
    /// Not well-formed XML.
    #[error("not well-formed XML")]
    Xml(#[from] quick_xml::Error),
    /// More than [`LONGEST`] bytes, or nested deeper than any Metalink.
    #[error("too large or too deep to be a Metalink")]
    TooLarge,
    /// A text that does not fit where it stands.
    #[error("`{text}` is not {what}")]
    Malformed {
        /// What stood there, shortened.
        text: String,
        /// What belongs there.
        what: &'static str,
    },
    /// No entry describes the file.
    #[error("no file in it has a size and a SHA-256")]
    NoFile,
    /// The hashes do not fit the size.
    #[error("its hashes do not fit its file")]
    Manifest(#[from] ManifestError),
}

/// The Metalink of one file called `name`, found at `url`.
pub fn write(name: &str, url: &str, manifest: &Manifest) -> String {
    let pieces = manifest.pieces();
    let mut xml = String::with_capacity(600 + pieces.count() as usize * 90);
    xml.push_str("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<metalink xmlns=\"urn:ietf:params:xml:ns:metalink\">\n");
    let mut line = |text: std::fmt::Arguments<'_>| {
        xml.write_fmt(text).expect("writing to a string cannot fail");
        xml.push('\n');
    };
    line(format_args!(" <file name=\"{}\">", escape(name)));
    line(format_args!("  <size>{}</size>", pieces.length()));
    if let Some(whole) = manifest.whole() {
        line(format_args!("  <hash type=\"sha-256\">{whole}</hash>"));
    }
    if manifest.has_pieces() && pieces.count() > 0 {
        line(format_args!("  <pieces length=\"{}\" type=\"sha-256\">", pieces.size()));
        for hash in pieces.iter().filter_map(|piece| manifest.hash(piece)) {
            line(format_args!("   <hash>{hash}</hash>"));
        }
        line(format_args!("  </pieces>"));
    }
    line(format_args!("  <url>{}</url>\n </file>\n</metalink>", escape(url)));
    xml
}

/// Whether this is meant to be a Metalink, sound or not.
pub fn looks_like_one(document: &[u8]) -> bool {
    const WHERE: usize = 1 << 10;
    document[..document.len().min(WHERE)].windows(9).any(|part| part == b"<metalink")
}

/// Reads a document. Of several files the one called `name` is taken, else the first that has hashes.
///
/// # Errors
/// When it is not a Metalink, or describes no file with a size and a SHA-256 of the whole or of every piece.
pub fn read(document: &[u8], name: &str) -> Result<Manifest, MetalinkError> {
    if document.len() > LONGEST {
        return Err(MetalinkError::TooLarge);
    }
    let mut reader = Reader::from_reader(document);
    reader.config_mut().trim_text(true);
    let mut path: Vec<Element> = Vec::new();
    let mut found: Option<Manifest> = None;
    let mut file = FileEntry::default();
    let mut text = String::new();
    loop {
        match reader.read_event()? {
            Event::Start(start) => {
                if path.len() >= DEEPEST {
                    return Err(MetalinkError::TooLarge);
                }
                let element = Element::of(&start, &mut file)?;
                path.push(element);
                text.clear();
            }
            Event::Empty(start) => {
                Element::of(&start, &mut file)?;
            }
            // A text of ours holds digits only; an entity or CDATA there is refused as malformed when it is read.
            Event::Text(part) => text.push_str(&part),
            Event::End(_) => {
                let ended = path.pop();
                file.take(ended, path.last().copied(), &text)?;
                if ended == Some(Element::File) {
                    let entry = std::mem::take(&mut file);
                    let named = entry.name == name;
                    match entry.manifest()? {
                        Some(manifest) if named => return Ok(manifest),
                        Some(manifest) => found = found.or(Some(manifest)),
                        None => {}
                    }
                }
                text.clear();
            }
            Event::Eof if path.is_empty() => return found.ok_or(MetalinkError::NoFile),
            Event::Eof => return Err(malformed("the end", "a whole document")),
            _ => {}
        }
    }
}

/// The name of the file that a document describes: `guess` if one is called so, else that of its only file.
pub fn file_name(document: &[u8], guess: &str) -> Option<String> {
    let mut reader = Reader::from_reader(document);
    let mut names = Vec::new();
    while let Ok(event) = reader.read_event() {
        match event {
            Event::Start(start) | Event::Empty(start) if start.local_name().as_ref() == "file" => {
                let name = start.try_get_attribute("name").ok().flatten();
                names.extend(
                    name.and_then(|name| name.normalized_value(XmlVersion::Implicit1_0).ok().map(String::from)),
                );
            }
            Event::Eof => break,
            _ => {}
        }
    }
    match &names[..] {
        _ if names.iter().any(|name| name == guess) => Some(guess.to_owned()),
        [only] => Some(only.clone()),
        _ => None,
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Element {
    File,
    Size,
    Pieces { sha256: bool },
    Hash { sha256: bool },
    Other,
}

impl Element {
    /// What has begun; its attributes go into `file`.
    fn of(start: &BytesStart<'_>, file: &mut FileEntry) -> Result<Self, MetalinkError> {
        let attribute = |wanted: &str| -> Result<Option<String>, MetalinkError> {
            match start.try_get_attribute(wanted).map_err(quick_xml::Error::from)? {
                Some(found) => Ok(Some(found.normalized_value(XmlVersion::Implicit1_0)?.into_owned())),
                None => Ok(None),
            }
        };
        let is_sha256 = |kind: Option<String>| kind.is_some_and(|kind| kind.eq_ignore_ascii_case("sha-256"));
        Ok(match start.local_name().as_ref() {
            "file" => {
                *file = FileEntry { name: attribute("name")?.unwrap_or_default(), ..FileEntry::default() };
                Element::File
            }
            "size" => Element::Size,
            "pieces" => {
                let sha256 = is_sha256(attribute("type")?);
                if sha256 {
                    let length = attribute("length")?.unwrap_or_default();
                    let size = length.parse().map_err(|_| malformed(&length, "the length of a piece"))?;
                    file.piece_size = Some(size);
                }
                Element::Pieces { sha256 }
            }
            "hash" => Element::Hash { sha256: is_sha256(attribute("type")?) },
            _ => Element::Other,
        })
    }
}

#[derive(Default)]
struct FileEntry {
    name: String,
    size: Option<u64>,
    whole: Option<Digest>,
    piece_size: Option<u32>,
    hashes: Vec<Digest>,
}

impl FileEntry {
    fn take(&mut self, ended: Option<Element>, within: Option<Element>, text: &str) -> Result<(), MetalinkError> {
        match (ended, within) {
            (Some(Element::Size), Some(Element::File)) => {
                self.size = Some(text.parse().map_err(|_| malformed(text, "a size in bytes"))?);
            }
            (Some(Element::Hash { sha256: true }), Some(Element::File)) => {
                self.whole = Some(text.parse().map_err(|_| malformed(text, "a SHA-256"))?);
            }
            (Some(Element::Hash { .. }), Some(Element::Pieces { sha256: true })) => {
                self.hashes.push(text.parse().map_err(|_| malformed(text, "a SHA-256"))?);
            }
            _ => {}
        }
        Ok(())
    }

    fn manifest(self) -> Result<Option<Manifest>, ManifestError> {
        match (self.size, self.piece_size, self.whole) {
            (Some(size), Some(piece_size), whole) => {
                Manifest::of_pieces(size, piece_size, self.hashes, whole).map(Some)
            }
            (Some(size), None, Some(whole)) => Manifest::of_whole(size, whole).map(Some),
            _ => Ok(None),
        }
    }
}

fn malformed(text: &str, what: &'static str) -> MetalinkError {
    MetalinkError::Malformed { text: text.chars().take(40).collect(), what }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_written_is_read(length in 0..100_000u64, piece_size in 1..5000u32, name in "[ -~]{1,20}", whole: bool) {
            let pieces = length.div_ceil(u64::from(piece_size));
            let hashes: Vec<_> = (0..pieces).map(|piece| Digest::of(&piece.to_be_bytes())).collect();
            let whole = (whole || pieces == 0).then(|| Digest::of(b"whole"));
            let manifest = Manifest::of_pieces(length, piece_size, hashes, whole).unwrap();
            let read = read(write(&name, "x", &manifest).as_bytes(), &name).unwrap();
            prop_assert_eq!(read.whole(), manifest.whole());
            if pieces > 0 {
                prop_assert_eq!(read, manifest);
            }
        }

        #[test]
        fn no_order_of_its_parts_makes_it_panic(parts in prop::collection::vec(any::<prop::sample::Index>(), 0..40)) {
            let hash = Digest::of(b"").to_string();
            let parts: String = parts.iter().map(|part| match part.index(16) {
                0 => "<file name=\"x\">",
                1 => "</file>",
                2 => "<size>",
                3 => "</size>",
                4 => "9",
                5 => "18446744073709551615",
                6 => "<hash type=\"sha-256\">",
                7 => "</hash>",
                8 => "<pieces length=\"3\" type=\"sha-256\">",
                9 => "<pieces length=\"4294967295\" type=\"sha-256\">",
                10 => "</pieces>",
                11 => "<hash>",
                12 => "&lt;&a;&#0;",
                13 => "<![CDATA[9]]>",
                14 => "<metalink/>",
                _ => &hash,
            }).collect();
            if let Ok(manifest) = read(parts.as_bytes(), "x") {
                prop_assert!(manifest.has_pieces() || manifest.whole().is_some());
            }
        }

        #[test]
        fn no_document_makes_it_panic(document in prop::collection::vec(any::<u8>(), 0..300), cut in 0..2000usize) {
            let _ = read(&document, "x");
            let manifest = Manifest::of_pieces(9, 3, vec![Digest::of(b""); 3], Some(Digest::of(b"a"))).unwrap();
            let mut torn = write("x", "x", &manifest).into_bytes();
            torn.truncate(cut);
            torn.extend(document);
            let _ = read(&torn, "x");
        }
    }

    #[test]
    fn a_document_names_its_file() {
        let document = |names: &[&str]| {
            let files: String =
                names.iter().map(|name| format!("<file name=\"{}\"><size>1</size></file>", escape(*name))).collect();
            format!("<metalink>{files}</metalink>").into_bytes()
        };
        assert_eq!(file_name(&document(&["a & b"]), "x").as_deref(), Some("a & b"));
        assert_eq!(file_name(&document(&["a", "x"]), "x").as_deref(), Some("x"));
        assert_eq!(file_name(&document(&["a", "b"]), "x"), None);
        assert_eq!(file_name(b"<a><b", "x"), None);
    }

    #[test]
    fn wrong_documents_are_told_apart() {
        let file = |inner: &str| format!("<metalink><file name=\"a\">{inner}</file></metalink>");
        let error = |inner: &str| read(file(inner).as_bytes(), "a").unwrap_err().to_string();
        let hash = Digest::of(b"").to_string();
        assert_eq!(error(""), "no file in it has a size and a SHA-256");
        assert_eq!(error("<size>-1</size>"), "`-1` is not a size in bytes");
        assert_eq!(error("<hash type=\"sha-256\">00</hash>"), "`00` is not a SHA-256");
        let short = format!("<size>9</size><pieces length=\"3\" type=\"sha-256\"><hash>{hash}</hash></pieces>");
        assert_eq!(error(&short), "its hashes do not fit its file");
        let deep = "<a>".repeat(DEEPEST + 1);
        assert!(matches!(read(deep.as_bytes(), "a"), Err(MetalinkError::TooLarge)));
        // Pieces of another hash, as older generators write, are passed over.
        let old = format!(
            "<size>9</size><pieces length=\"3\" type=\"sha-1\"><hash>x</hash></pieces><hash type=\"sha-256\">{hash}</hash>"
        );
        assert_eq!(read(file(&old).as_bytes(), "a").unwrap().whole(), Some(Digest::of(b"")));
    }
}

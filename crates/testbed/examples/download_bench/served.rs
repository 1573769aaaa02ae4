//! The file that is downloaded, and its hashes.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use fetch::{Digest, Manifest};
use nodes::metalink;

use crate::case::Hashes;
use crate::network::FILE;
use crate::shared::random;

/// Bytes that are hashed as one.
const PIECE: u32 = 1 << 20;

/// The folder with a file of `length` bytes that is found at `urls`, and its Metalink if it has hashes; made when it is first
/// asked for.
pub(crate) fn folder(scratch: &Path, length: u64, hashes: Hashes, urls: &[String]) -> anyhow::Result<PathBuf> {
    let folder = scratch.join(format!("{hashes:?}-{length}"));
    let file = folder.join(FILE);
    if !file.exists() {
        fs::create_dir_all(&folder)?;
        random::write(&file, length)?;
        if hashes != Hashes::None {
            let mut pieces = digests(&file)?;
            if hashes == Hashes::OneWrong {
                pieces[0] = pieces[1];
            }
            let manifest = Manifest::of_pieces(length, PIECE, pieces, None)?;
            // The project's own document names one place, its server.
            let document = metalink::write(FILE, "URLS", &manifest).replace("URLS", &urls.join("</url>\n  <url>"));
            fs::write(folder.join(format!("{FILE}{}", metalink::SUFFIX)), document)?;
        }
    }
    Ok(folder)
}

/// Of each piece.
fn digests(file: &Path) -> io::Result<Vec<Digest>> {
    let mut file = File::open(file)?;
    let mut digests = Vec::new();
    loop {
        let mut piece = Vec::with_capacity(PIECE as usize);
        if (&mut file).take(PIECE.into()).read_to_end(&mut piece)? == 0 {
            return Ok(digests);
        }
        digests.push(Digest::of(&piece));
    }
}

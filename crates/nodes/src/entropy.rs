//! The one place of the role programs that draws what nobody can guess.

use std::fs::File;
use std::io::{self, Read as _};

/// 64 random bits.
pub(crate) fn draw() -> io::Result<u64> {
    let mut bytes = [0; 8];
    File::open("/dev/urandom").and_then(|mut random| random.read_exact(&mut bytes))?;
    Ok(u64::from_ne_bytes(bytes))
}

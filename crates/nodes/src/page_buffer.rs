//! Memory that a file's bytes are copied from or to.

use std::ops::{Deref, DerefMut};

/// What the kernel copies at once to or from the page cache.
pub(crate) const PAGE: usize = 4096;

/// Bytes that begin where a page does.
///
/// The kernel copies by `rep movsb`. On AMD's Zen 3 that takes three times as long where target and source lie 16 bytes
/// apart within their pages: 100 MiB are read in 60 ms instead of 21. That is exactly where an allocator puts what is large,
/// behind 16 bytes of its own, while the bytes of a file begin with a page.
#[derive(Debug)]
pub(crate) struct PageBuffer {
    bytes: Vec<u8>,
    start: usize,
    length: usize,
}

impl PageBuffer {
    /// Zeros, `length` of them.
    pub(crate) fn new(length: usize) -> Self {
        let bytes = vec![0; length + PAGE];
        // Where it cannot be told it only takes longer.
        let start = bytes.as_ptr().align_offset(PAGE).min(PAGE);
        PageBuffer { bytes, start, length }
    }
}

impl Deref for PageBuffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes[self.start..][..self.length]
    }
}

impl DerefMut for PageBuffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.bytes[self.start..][..self.length]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_begins_with_a_page_and_is_as_long_as_it_was_asked_to_be() {
        for length in [0, 1, PAGE, 200_000] {
            let mut buffer = PageBuffer::new(length);
            assert!(buffer.as_ptr().addr().is_multiple_of(PAGE));
            assert_eq!(buffer.len(), length);
            buffer.fill(1);
        }
    }
}

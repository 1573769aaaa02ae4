//! Splits a stream of bytes into lines and never holds more than a bound.

/// Collects bytes until they make a line.
///
/// Invariant: it holds no more than `longest` bytes, whatever it is fed. Of a longer line it hands out the beginning,
/// once, and swallows the rest.
///
/// ```
/// use nodes::init::lines::{Line, LineBuffer};
///
/// let mut buffer = LineBuffer::new(4);
/// let mut seen = Vec::new();
/// buffer.feed(b"one\ntwo and", |line| seen.push(format!("{line:?}")));
/// buffer.feed(b" three\nend", |line| seen.push(format!("{line:?}")));
/// buffer.finish(|line| seen.push(format!("{line:?}")));
/// assert_eq!(seen, [r#"Whole("one")"#, r#"Cut("two ")"#, r#"Whole("end")"#]);
/// ```
#[derive(Debug)]
pub struct LineBuffer {
    longest: usize,
    held: Vec<u8>,
    /// The beginning of the present line was handed out as cut.
    swallowing: bool,
}

/// One line, without its end.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Line<'a> {
    /// All of it.
    Whole(&'a [u8]),
    /// The beginning of a line that is longer than the bound.
    Cut(&'a [u8]),
}

impl<'a> Line<'a> {
    /// The bytes that there are.
    pub fn bytes(self) -> &'a [u8] {
        match self {
            Line::Whole(bytes) | Line::Cut(bytes) => bytes,
        }
    }
}

impl std::fmt::Debug for Line<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let name = if matches!(self, Line::Whole(_)) { "Whole" } else { "Cut" };
        f.debug_tuple(name).field(&String::from_utf8_lossy(self.bytes())).finish()
    }
}

impl LineBuffer {
    /// For lines of at most `longest` bytes, their end not counted.
    pub fn new(longest: usize) -> Self {
        LineBuffer { longest, held: Vec::new(), swallowing: false }
    }

    /// Takes the next bytes of the stream; `each` gets every line that they complete, and the beginning of a line that
    /// they make too long.
    pub fn feed(&mut self, mut bytes: &[u8], mut each: impl FnMut(Line<'_>)) {
        while let Some(end) = bytes.iter().position(|byte| *byte == b'\n') {
            let (line, rest) = (&bytes[..end], &bytes[end + 1..]);
            if self.swallowing {
                self.swallowing = false;
            } else if self.held.is_empty() && line.len() <= self.longest {
                each(Line::Whole(line));
            } else if self.held.len() + line.len() <= self.longest {
                self.held.extend_from_slice(line);
                each(Line::Whole(&self.held));
            } else {
                self.cut(line, &mut each);
            }
            self.held.clear();
            bytes = rest;
        }
        if self.swallowing {
            return;
        }
        if self.held.len() + bytes.len() <= self.longest {
            self.held.extend_from_slice(bytes);
        } else {
            self.cut(bytes, &mut each);
            self.held = Vec::new();
            self.swallowing = true;
        }
    }

    /// The stream has ended: `each` gets what stands after the last end of a line, if anything does.
    pub fn finish(&mut self, mut each: impl FnMut(Line<'_>)) {
        if !self.held.is_empty() {
            each(Line::Whole(&self.held));
        }
        self.held = Vec::new();
        self.swallowing = false;
    }

    fn cut(&mut self, more: &[u8], each: &mut impl FnMut(Line<'_>)) {
        self.held.extend_from_slice(&more[..self.longest - self.held.len()]);
        each(Line::Cut(&self.held));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn split(longest: usize, chunks: &[Vec<u8>]) -> Vec<(bool, Vec<u8>)> {
        let mut buffer = LineBuffer::new(longest);
        let mut lines = Vec::new();
        for chunk in chunks {
            buffer.feed(chunk, |line| lines.push((matches!(line, Line::Whole(_)), line.bytes().to_vec())));
            assert!(buffer.held.len() <= longest, "it holds {} bytes of at most {longest}", buffer.held.len());
        }
        buffer.finish(|line| lines.push((matches!(line, Line::Whole(_)), line.bytes().to_vec())));
        lines
    }

    proptest! {
        /// However the stream is cut into reads, the lines are those of the whole, each up to the bound.
        #[test]
        fn lines_do_not_depend_on_how_they_arrive(
            chunks in prop::collection::vec(prop::collection::vec(prop_oneof![4 => Just(b'a'), 1 => Just(b'\n')], 0..20), 0..20),
            longest in 1_usize..12,
        ) {
            let whole: Vec<u8> = chunks.concat();
            let mut expected: Vec<_> = whole
                .split(|byte| *byte == b'\n')
                .map(|line| (line.len() <= longest, line[..line.len().min(longest)].to_vec()))
                .collect();
            // After the last end of a line there is a line only if there are bytes.
            if expected.last().is_some_and(|(_, line)| line.is_empty()) {
                expected.pop();
            }
            prop_assert_eq!(split(longest, &chunks), expected);
        }
    }
}

//! The line that is being typed.

/// Collects bytes into lines. On a terminal that leaves it to us, it knows the keys that a terminal itself would.
#[derive(Debug)]
pub(super) struct Editor {
    keys: Keys,
    line: Vec<u8>,
    escape: Escape,
}

/// Whose work it is to understand keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Keys {
    /// Ours: the terminal hands on every key at once.
    Here,
    /// The terminal's, or nobody's: lines come as they are.
    Elsewhere,
}

/// What was entered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Entered {
    /// A line, without its end.
    Line(String),
    /// Ctrl-D on an empty line.
    EndOfInput,
}

/// How far into the sequence of a key such as an arrow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Escape {
    No,
    Begun,
    Control,
}

/// Bytes of a line beyond these are dropped; no choice is that long.
const LONGEST: usize = 256;

impl Editor {
    pub(super) fn new(keys: Keys) -> Self {
        Editor { keys, line: Vec::new(), escape: Escape::No }
    }

    /// Takes what was typed and returns what is complete.
    pub(super) fn push(&mut self, bytes: &[u8]) -> Vec<Entered> {
        bytes.iter().filter_map(|byte| self.take(*byte)).collect()
    }

    /// The line so far, at most `columns` wide: its end, where it is longer.
    pub(super) fn shown(&self, columns: usize) -> String {
        let text = super::console::printable(&String::from_utf8_lossy(&self.line));
        let mut left = columns;
        let from = text.char_indices().rev().take_while(|(_, c)| {
            // Two columns is the most that a character takes.
            let width = if c.is_ascii() { 1 } else { 2 };
            let fits = width <= left;
            left = left.saturating_sub(width);
            fits
        });
        let start = from.last().map_or(text.len(), |(at, _)| at);
        text[start..].to_owned()
    }

    fn take(&mut self, byte: u8) -> Option<Entered> {
        if self.keys == Keys::Here && self.escape != Escape::No {
            self.escape = match (self.escape, byte) {
                (Escape::Begun, b'[' | b'O') => Escape::Control,
                (Escape::Control, 0x20..=0x3f) => Escape::Control,
                _ => Escape::No,
            };
            return None;
        }
        match byte {
            b'\n' => return Some(self.complete()),
            _ if self.keys == Keys::Elsewhere => self.append(byte),
            b'\r' => return Some(self.complete()),
            4 if self.line.is_empty() => return Some(Entered::EndOfInput),
            // Backspace and Ctrl-H.
            0x7f | 8 => self.erase(),
            // Ctrl-U.
            0x15 => self.line.clear(),
            // Ctrl-W.
            0x17 => {
                self.erase_while(|byte| byte == b' ');
                self.erase_while(|byte| byte != b' ');
            }
            0x1b => self.escape = Escape::Begun,
            0..0x20 => {}
            _ => self.append(byte),
        }
        None
    }

    fn append(&mut self, byte: u8) {
        if self.line.len() < LONGEST {
            self.line.push(byte);
        }
    }

    /// The last character, which may be several bytes.
    fn erase(&mut self) {
        while self.line.pop().is_some_and(|byte| byte & 0xc0 == 0x80) {}
    }

    fn erase_while(&mut self, condition: impl Fn(u8) -> bool) {
        while self.line.last().is_some_and(|byte| condition(*byte)) {
            self.line.pop();
        }
    }

    fn complete(&mut self) -> Entered {
        let line = std::mem::take(&mut self.line);
        Entered::Line(String::from_utf8_lossy(line.strip_suffix(b"\r").unwrap_or(&line)).into_owned())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn typed(keys: Keys, bytes: &[u8]) -> (Vec<Entered>, String) {
        let mut editor = Editor::new(keys);
        let entered = editor.push(bytes);
        (entered, editor.shown(80))
    }

    fn line(text: &str) -> Entered {
        Entered::Line(text.to_owned())
    }

    #[test]
    fn lines_come_whole_however_they_arrive() {
        assert_eq!(typed(Keys::Elsewhere, b"1\r\n-1\n2"), (vec![line("1"), line("-1")], "2".to_owned()));
        assert_eq!(typed(Keys::Here, b"1\r-1\n2"), (vec![line("1"), line("-1")], "2".to_owned()));
        let long = [b'x'; 100_000];
        assert_eq!(typed(Keys::Elsewhere, &[&long[..], b"\n3\n"].concat()).0[1], line("3"));
    }

    #[test]
    fn keys_do_what_they_do_in_a_terminal() {
        for (keys, left) in [
            (&b"12\x7f"[..], "1"),
            (b"1\xc3\xa9\x7f", "1"),
            (b"\x7f\x7f4", "4"),
            (b"12 34\x15", ""),
            (b"12 34 \x17", "12 "),
            (b"1\x1b[A\x1bOP\x1b[1;5C2\x1bx3", "123"),
            (b"1\x01\x022", "12"),
        ] {
            assert_eq!(typed(Keys::Here, keys), (vec![], left.to_owned()), "{keys:?}");
        }
        assert_eq!(typed(Keys::Here, b"\x04").0, [Entered::EndOfInput]);
        assert_eq!(typed(Keys::Here, b"1\x04"), (vec![], "1".to_owned()), "only an empty line ends");
    }

    #[test]
    fn a_line_is_shown_as_far_as_it_fits() {
        let mut editor = Editor::new(Keys::Here);
        editor.push("abcdé".as_bytes());
        assert_eq!(
            (editor.shown(6).as_str(), editor.shown(4).as_str(), editor.shown(1).as_str()),
            ("abcdé", "cdé", "")
        );
    }

    proptest! {
        #[test]
        fn no_bytes_panic_or_reach_the_terminal_raw(bytes: Vec<u8>, columns in 0..100_usize) {
            for keys in [Keys::Here, Keys::Elsewhere] {
                let mut editor = Editor::new(keys);
                editor.push(&bytes);
                let shown = editor.shown(columns);
                prop_assert!(!shown.contains(char::is_control) && shown.chars().count() <= columns);
            }
        }
    }
}

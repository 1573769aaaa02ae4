//! Text from a log made harmless: for a terminal, for XML, for Markdown.

use std::fmt::Write as _;

/// Longest text of one value; what is longer ends in an ellipsis.
const LONGEST: usize = 400;

/// One line without control characters, cut to a length a person still reads.
///
/// Escape sequences move the cursor and recolour what follows, and bidirectional or invisible characters make a text
/// read as what it is not, so all of them are spelled out.
pub(crate) fn line(text: &str) -> String {
    let mut out = String::with_capacity(text.len().min(LONGEST + 8));
    for (n, c) in text.chars().enumerate() {
        if n == LONGEST {
            out.push('…');
            break;
        }
        match c {
            '\n' | '\r' | '\t' => out.extend(c.escape_default()),
            _ if misleads(c) => out.extend(c.escape_unicode()),
            _ => out.push(c),
        }
    }
    out
}

/// [`line()`] for an attribute value or text of XML 1.0, which has no place at all for most control characters.
pub(crate) fn xml(text: &str) -> String {
    let mut out = String::new();
    for c in line(text).chars() {
        match c {
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&apos;"),
            '\u{fffe}' | '\u{ffff}' => {
                let _ = write!(out, "{}", c.escape_unicode());
            }
            _ => out.push(c),
        }
    }
    out
}

/// [`line()`] for running text or a table cell of GitHub's Markdown, which lets any punctuation be escaped.
pub(crate) fn markdown(text: &str) -> String {
    let mut out = String::new();
    for c in line(text).chars() {
        if matches!(c, '\\' | '`' | '*' | '_' | '<' | '>' | '[' | ']' | '|' | '#' | '~' | '&' | '!' | '@' | '$') {
            out.push('\\');
        }
        out.push(c);
    }
    out
}

/// Control characters (Unicode Cc), line separators, and the invisible ones of Cf.
fn misleads(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_would_obey_is_spelled_out() {
        assert_eq!(line("\u{1b}[2Ja\nb\u{9b}c\u{202e}d"), "\\u{1b}[2Ja\\nb\\u{9b}c\\u{202e}d");
        assert_eq!(line("ż 試験 %"), "ż 試験 %");
    }

    #[test]
    fn a_text_without_end_is_cut() {
        let cut = line(&"x".repeat(1 << 20));
        assert_eq!(cut.chars().count(), LONGEST + 1);
        assert!(cut.ends_with('…'));
    }

    #[test]
    fn xml_and_markdown_lose_their_meaning() {
        assert_eq!(xml("a<b>&\"'\u{0}\u{ffff}"), "a&lt;b&gt;&amp;&quot;&apos;\\u{0}\\u{ffff}");
        assert_eq!(markdown("| <b> `x` *y*\n"), "\\| \\<b\\> \\`x\\` \\*y\\*\\\\n");
    }
}

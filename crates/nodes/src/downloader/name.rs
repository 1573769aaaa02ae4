//! The name of the file to make, where the user named a folder only: what a server advertises, made harmless.

use crate::http::url::decode;

/// The longest name that is made, in bytes: file systems take 255, and the part file and the journal are longer.
const LONGEST: usize = 200;

/// A longer end of a name is not an extension, in bytes.
const LONGEST_EXTENSION: usize = 16;

/// Endings that our own files have: a target must not look like another download's.
const OURS: [&str; 3] = [".part", ".journal", ".journal.new"];

/// The name in a `Content-Disposition` field, RFC 6266: `filename*` before `filename`.
pub(crate) fn of_disposition(field: &[u8]) -> Option<String> {
    // Servers send UTF-8 though only ASCII is meant; anything else is Latin-1 (RFC 6266 §4.3).
    let field = String::from_utf8(field.to_vec()).unwrap_or_else(|_| field.iter().copied().map(char::from).collect());
    let (mut plain, mut extended) = (None, None);
    for (name, value) in parameters(&field) {
        match name.to_ascii_lowercase().as_str() {
            "filename" if plain.is_none() => plain = Some(value),
            "filename*" if extended.is_none() => extended = decode_extended(&value),
            _ => {}
        }
    }
    [extended, plain].into_iter().flatten().find_map(|name| safe(&name))
}

/// The name in the last segment of a path, percent-encoded.
pub(crate) fn of_segment(segment: &str) -> Option<String> {
    safe(&String::from_utf8_lossy(&decode(segment)))
}

/// A name that leads nowhere else, shows what it is, and fits; `None` if nothing is left of it.
pub(crate) fn safe(advertised: &str) -> Option<String> {
    let last = advertised.rsplit(['/', '\\']).next().unwrap_or_default();
    let shown: String = last.chars().filter(|c| !is_invisible(*c)).collect();
    // Neither hidden nor `..`, and no option to the programs that it will be given to.
    let plain = shown.trim().trim_start_matches('.').trim_start();
    let mut name = plain.strip_prefix('-').map_or_else(|| plain.to_owned(), |rest| format!("_{rest}"));
    if OURS.iter().any(|ending| name.to_ascii_lowercase().ends_with(ending)) {
        name.push('_');
    }
    shorten(&mut name);
    (!name.is_empty()).then_some(name)
}

/// Control characters, and such as hide or turn round what follows.
fn is_invisible(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

/// Cuts out of the middle, so that the extension stays.
fn shorten(name: &mut String) {
    if name.len() <= LONGEST {
        return;
    }
    let extension = name.rfind('.').filter(|dot| name.len() - dot <= LONGEST_EXTENSION).unwrap_or(name.len());
    let extension = name.split_off(extension);
    let mut end = LONGEST - extension.len();
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    name.truncate(end);
    name.push_str(&extension);
}

/// The parameters after the type: `name=token` or `name="quoted"`.
fn parameters(field: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut rest = field.split_once(';').map_or("", |(_, rest)| rest);
    while let Some((name, after)) = rest.split_once('=') {
        let name = name.trim_matches([';', ' ', '\t']).to_owned();
        let after = after.trim_start();
        let mut value = String::new();
        if let Some(quoted) = after.strip_prefix('"') {
            let mut chars = quoted.chars();
            while let Some(c) = chars.next().filter(|c| *c != '"') {
                value.extend(if c == '\\' { chars.next() } else { Some(c) });
            }
            rest = chars.as_str();
        } else {
            let end = after.find(';').unwrap_or(after.len());
            value.push_str(after[..end].trim());
            rest = &after[end..];
        }
        found.push((name, value));
    }
    found
}

/// `charset'language'percent-encoded`, RFC 8187.
fn decode_extended(value: &str) -> Option<String> {
    let (charset, rest) = value.split_once('\'')?;
    let bytes = decode(rest.split_once('\'')?.1);
    match charset.to_ascii_lowercase().as_str() {
        "utf-8" => String::from_utf8(bytes).ok(),
        "iso-8859-1" => Some(bytes.into_iter().map(char::from).collect()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_examples_of_the_standard_are_understood() {
        for (field, name) in [
            ("Attachment; filename=example.html", Some("example.html")),
            ("INLINE; FILENAME= \"an example.html\"", Some("an example.html")),
            ("attachment; filename*= UTF-8''%e2%82%ac%20rates", Some("€ rates")),
            ("attachment; filename=\"EURO rates\"; filename*=utf-8'en'%e2%82%ac%20rates", Some("€ rates")),
            ("attachment; filename*=iso-8859-1''%a3%20rates; filename=b", Some("£ rates")),
            ("attachment; filename*=koi8-r''%a3; filename=b", Some("b")),
            (r#"attachment; x="a;filename=no"; filename="a\"b;c""#, Some("a\"b;c")),
            ("attachment; filename=\"naïve.txt\"", Some("naïve.txt")),
            ("attachment", None),
            ("attachment; filename=", None),
            ("attachment; filename=\"", None),
        ] {
            assert_eq!(of_disposition(field.as_bytes()).as_deref(), name, "{field}");
        }
        assert_eq!(of_disposition(b"attachment; filename=\"na\xefve\"").as_deref(), Some("naïve"));
    }

    #[test]
    fn names_lead_nowhere_and_hide_nothing() {
        for (advertised, name) in [
            ("../../etc/passwd", Some("passwd")),
            ("C:\\autoexec.bat", Some("autoexec.bat")),
            ("..", None),
            ("a/..", None),
            (".bashrc", Some("bashrc")),
            ("-rf", Some("_rf")),
            ("a\u{202e}gpj.exe", Some("agpj.exe")),
            ("a\nb\u{1b}[2J", Some("ab[2J")),
            ("movie.part", Some("movie.part_")),
            ("movie.JOURNAL", Some("movie.JOURNAL_")),
            ("  ", None),
        ] {
            assert_eq!(safe(advertised).as_deref(), name, "{advertised}");
        }
        assert_eq!(of_segment("a%20b").as_deref(), Some("a b"));
        assert_eq!(of_segment("a%2F%2e%2e"), None);
        let long = safe(&format!("{}.tar.gz", "ä".repeat(300))).unwrap();
        assert!(long.len() <= LONGEST && long.ends_with("ä.gz"), "{long}");
    }

    proptest! {
        #[test]
        fn any_name_is_one_plain_file(advertised: String, field: Vec<u8>) {
            for name in [safe(&advertised), of_disposition(&field), of_segment(&advertised)].into_iter().flatten() {
                prop_assert!(name.len() <= LONGEST + 1 && !name.is_empty());
                prop_assert!(!name.starts_with('.') && !name.contains(['/', '\0', '\n']));
            }
        }
    }
}

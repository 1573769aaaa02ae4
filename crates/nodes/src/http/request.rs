//! A request as bytes.

use super::Url;

/// Asks `method` of `url` with these further fields; has no body.
///
/// Targets and field values are checked where they are made: nothing in them ends a line.
pub(crate) fn request(method: &str, url: &Url, fields: &[(&str, String)]) -> Vec<u8> {
    let mut text = format!(
        concat!(
            "{} {} HTTP/1.1\r\n",
            "host: {}\r\n",
            // Ranges of a compressed answer are not ranges of the file.
            "accept-encoding: identity\r\n",
            "user-agent: downloader/",
            env!("CARGO_PKG_VERSION"),
            "\r\n",
        ),
        method,
        url.target(),
        url.authority(),
    );
    if method == "POST" {
        text.push_str("content-length: 0\r\n");
    }
    for (name, value) in fields {
        debug_assert!(value.bytes().all(|byte| byte >= b' '), "{name}: {value:?}");
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    text.push_str("\r\n");
    text.into_bytes()
}

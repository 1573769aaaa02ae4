//! What a source has: length, entity tag, ranges, hashes.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use fetch::serve::parse_content_range;
use fetch::{Description, Hashes, Input, Manifest, Validator};
use hyper::StatusCode;
use hyper::header::{
    CONTENT_DISPOSITION, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, HeaderMap, HeaderName, LINK, LOCATION,
    RETRY_AFTER,
};

use super::link::{Lane, Link};
use super::range::Outlet;
use super::trouble::Trouble;
use crate::http::Url;
use crate::http::connection::Answer;
use crate::http::url::decode;
use crate::{clock, metalink};

/// Redirects that are followed.
const MOST_REDIRECTS: usize = 5;

/// A body that is read only to keep its connection, in bytes.
const SHORT_BODY: usize = 16 << 10;

/// Between the first two questions for hashes that are still being computed; then twice as long each time.
const HASHES_AGAIN: Duration = Duration::from_millis(50);

/// Between two such questions at most.
const HASHES_AGAIN_MOST: Duration = Duration::from_secs(1);

/// Learns what the source has, and tells it: the file as soon as it is known, its hashes when they come, if `manifest`.
pub(crate) async fn describe(link: &Link, manifest: bool, outlet: &Outlet) -> Result<(), Trouble> {
    let request = outlet.request;
    let guess = link.url.with_suffix(metalink::SUFFIX);
    let likely = manifest && !link.url.file_name().is_empty();
    // Asked for beside the file, on a connection that will serve later: it saves a round trip to a distant source.
    let mut guessed = pin!(hashes(link, &guess, &link.url));
    let mut early = None;
    let found = {
        let mut located = pin!(locate(link, Some(outlet)));
        loop {
            tokio::select! {
                biased;
                answer = &mut guessed, if likely && early.is_none() => early = Some(answer),
                found = &mut located => break found?,
            }
        }
    };
    link.set_resolved(found.url.clone());
    let guessed_right = likely && found.hashes_at == guess;
    let (description, asked) = (found.description, guessed_right && early.is_none());
    let length = description.length;
    let hashes = match early {
        _ if !manifest => Hashes::Unpublished,
        Some(Ok(manifest)) if guessed_right => {
            fitting(link, manifest, length).map_or(Hashes::Unpublished, Hashes::Published)
        }
        _ => Hashes::Awaited,
    };
    let follow = hashes == Hashes::Awaited;
    outlet.put(Input::Described { request, description: Description { hashes, ..description } }).await;
    if follow {
        let manifest = if asked { guessed.await? } else { self::hashes(link, &found.hashes_at, &found.url).await? };
        outlet.put(Input::Hashes { request, manifest: fitting(link, manifest, length) }).await;
    }
    Ok(())
}

/// Hashes of a file of this length; none that are of another one.
fn fitting(link: &Link, manifest: Option<Arc<Manifest>>, length: u64) -> Option<Arc<Manifest>> {
    let described = manifest.as_ref()?.pieces().length();
    if described != length {
        link.remark(&format!("its Metalink is of no use: it describes {described} bytes, and the file has {length}"));
    }
    manifest.filter(|_| described == length)
}

/// Where a file is and what its server says of it.
pub(super) struct Found {
    pub(super) url: Url,
    pub(super) hashes_at: Url,
    pub(super) disposition: Option<Vec<u8>>,
    description: Description,
}

/// Follows redirects to the file. Asks for one byte rather than by HEAD: the answer shows whether ranges work, and some
/// servers know no HEAD.
pub(super) async fn locate(link: &Link, outlet: Option<&Outlet>) -> Result<Found, Trouble> {
    let mut url = link.url.clone();
    for _ in 0..=MOST_REDIRECTS {
        let fields = [("range", "bytes=0-0".to_owned())];
        let asked = link.get_telling(&url, &fields, Lane::Own, outlet).await;
        if asked.is_err() && url != link.url {
            // What is wrong is wrong there.
            link.remark(&format!("it redirected to {url}"));
        }
        let answer = asked?;
        let (status, headers) = (answer.head.status(), answer.head.headers().clone());
        let length = length(status, &headers)?;
        if status != StatusCode::OK {
            read_short(answer).await;
        }
        let Some(length) = length else {
            let location = text(&headers, &LOCATION).ok_or(Trouble::Status(status))?;
            let to = url.join(location).map_err(|error| Trouble::Violation(format!("it redirects badly: {error}")))?;
            if url.is_tls() && !to.is_tls() {
                return Err(Trouble::Violation(format!("it redirects from https to {to}, where anybody may answer")));
            }
            url = to;
            continue;
        };
        let validator = text(&headers, &ETAG).and_then(Validator::parse);
        let description =
            Description { length, validator, ranges: status != StatusCode::OK, hashes: Hashes::Unpublished };
        let links = headers.get_all(LINK).iter().filter_map(|value| value.to_str().ok());
        let advertised = links.filter_map(described_by).find_map(|reference| url.join(reference).ok());
        let hashes_at = advertised.unwrap_or_else(|| url.with_suffix(metalink::SUFFIX));
        let disposition = headers.get(CONTENT_DISPOSITION).map(|value| value.as_bytes().to_vec());
        return Ok(Found { url, hashes_at, disposition, description });
    }
    Err(Trouble::Violation(format!("it redirects more than {MOST_REDIRECTS} times")))
}

/// The length of the file by the answer to a question for its first byte; `None` if it is a redirect.
fn length(status: StatusCode, headers: &HeaderMap) -> Result<Option<u64>, Trouble> {
    let length = match status {
        StatusCode::PARTIAL_CONTENT => {
            text(headers, &CONTENT_RANGE).and_then(parse_content_range).and_then(|(_, total)| total)
        }
        StatusCode::OK => text(headers, &CONTENT_LENGTH).and_then(|length| length.parse().ok()),
        // No byte can be had of an empty file.
        StatusCode::RANGE_NOT_SATISFIABLE if text(headers, &CONTENT_RANGE) == Some("bytes */0") => Some(0),
        status if status.is_redirection() => return Ok(None),
        status => return Err(Trouble::Status(status)),
    };
    length.map(Some).ok_or_else(|| Trouble::Violation("it does not tell the length of its file".into()))
}

/// The hashes of the file at `url` that are published at `place`, if any. Waits while the source still computes them, as
/// long as the engine does: bytes flow meanwhile.
async fn hashes(link: &Link, place: &Url, url: &Url) -> Result<Option<Arc<Manifest>>, Trouble> {
    let mut pause = HASHES_AGAIN;
    loop {
        let answer = link.get(place, &[], Lane::Own).await?;
        let status = answer.head.status();
        let again = status == StatusCode::SERVICE_UNAVAILABLE && answer.head.headers().contains_key(RETRY_AFTER);
        if status == StatusCode::OK {
            let is_said_to_be =
                text(answer.head.headers(), &CONTENT_TYPE).is_some_and(|kind| kind == metalink::MEDIA_TYPE);
            let Some(document) = read(answer, metalink::LONGEST).await? else {
                link.remark(&format!("its Metalink is of no use: it has more than {} bytes", metalink::LONGEST));
                return Ok(None);
            };
            let name = String::from_utf8_lossy(&decode(url.file_name())).into_owned();
            return match metalink::read(&document, &name) {
                Ok(manifest) => Ok(Some(Arc::new(manifest))),
                Err(error) => {
                    // Some servers have an answer to everything: that is no Metalink.
                    if is_said_to_be || metalink::looks_like_one(&document) {
                        link.remark(&format!("its Metalink is of no use: {error}"));
                    }
                    Ok(None)
                }
            };
        }
        read_short(answer).await;
        if !again {
            return Ok(None);
        }
        tokio::time::sleep_until(clock::instant(clock::now()) + pause).await;
        pause = (pause * 2).min(HASHES_AGAIN_MOST);
    }
}

/// The reference of the `describedby` relation in a `Link` field (RFC 8288), if it is a Metalink.
fn described_by(value: &str) -> Option<&str> {
    value.split(',').find_map(|link| {
        let (reference, parameters) = link.trim().strip_prefix('<')?.split_once('>')?;
        let has = |wanted: &str| {
            parameters.split(';').any(|parameter| {
                let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
                format!("{}={}", name.trim(), value.trim().trim_matches('"')).eq_ignore_ascii_case(wanted)
            })
        };
        let is_metalink = !parameters.contains("type=") || has(&format!("type={}", metalink::MEDIA_TYPE));
        (has("rel=describedby") && is_metalink).then_some(reference)
    })
}

/// Reads a body that does not matter, if it is short, so that its connection can be used again.
async fn read_short(answer: Answer) {
    let _ = read(answer, SHORT_BODY).await;
}

/// The whole body; `None` if it is longer than `most` bytes.
pub(super) async fn read(mut answer: Answer, most: usize) -> Result<Option<Bytes>, Trouble> {
    let mut body = BytesMut::new();
    while let Some(bytes) = answer.chunk().await? {
        if body.len() + bytes.len() > most {
            return Ok(None);
        }
        body.extend_from_slice(&bytes);
    }
    Ok(Some(body.freeze()))
}

/// The one value of a field; `None` if it is missing, said twice or not text.
pub(super) fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    let mut values = headers.get_all(name).iter();
    let first = values.next()?;
    if values.next().is_some() { None } else { first.to_str().ok() }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn no_link_or_length_panics(value: String, parts in prop::collection::vec(any::<prop::sample::Index>(), 0..12)) {
            const PARTS: [&str; 12] =
                ["<", ">", ";", ",", "=", "\"", " ", "rel", "describedby", "type", "é", "application/metalink4+xml"];
            let built: String = parts.iter().map(|part| PARTS[part.index(PARTS.len())]).collect();
            for value in [value, built] {
                if let Some(reference) = described_by(&value) {
                    prop_assert!(value.contains(reference));
                    let _ = Url::new("a", 80, "/b").join(reference);
                }
                if let Ok(value) = hyper::header::HeaderValue::from_str(&value) {
                    let headers = HeaderMap::from_iter([(CONTENT_RANGE, value.clone()), (CONTENT_LENGTH, value)]);
                    for status in [200, 206, 302, 416, 500] {
                        let _ = length(StatusCode::from_u16(status).unwrap(), &headers);
                    }
                }
            }
        }
    }

    #[test]
    fn the_metalink_is_found_among_links() {
        let metalink = "<a.meta4>; rel=describedby; type=\"application/metalink4+xml\"";
        for value in [metalink.to_owned(), format!("<b>; rel=next, {metalink}"), "<a.meta4>;rel=\"describedby\"".into()]
        {
            assert_eq!(described_by(&value), Some("a.meta4"), "{value}");
        }
        for value in ["", "a", "<a>; rel=duplicate", "<a>; rel=describedby; type=\"text/html\"", "<a"] {
            assert_eq!(described_by(value), None, "{value}");
        }
    }
}

//! What a source has: length, entity tag, ranges, hashes.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use fetch::serve::parse_content_range;
use fetch::{Description, Hashes, Input, Manifest, Validator};
use http_body_util::{BodyExt, Limited};
use hyper::StatusCode;
use hyper::header::{CONTENT_LENGTH, CONTENT_RANGE, ETAG, HeaderMap, HeaderName, LINK, LOCATION, RETRY_AFTER};

use super::link::{Exchange, Link};
use super::range::Outlet;
use super::trouble::Trouble;
use crate::http::Url;
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
        let mut located = pin!(locate(link));
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
    let hashes = match early {
        _ if !manifest => Hashes::Unpublished,
        Some(Ok(manifest)) if guessed_right => manifest.map_or(Hashes::Unpublished, Hashes::Published),
        _ => Hashes::Awaited,
    };
    let follow = hashes == Hashes::Awaited;
    outlet.put(Input::Described { request, description: Description { hashes, ..description } }).await;
    if follow {
        let manifest = if asked { guessed.await? } else { self::hashes(link, &found.hashes_at, &found.url).await? };
        outlet.put(Input::Hashes { request, manifest }).await;
    }
    Ok(())
}

/// Where a file is and what its server says of it.
struct Found {
    url: Url,
    hashes_at: Url,
    description: Description,
}

/// Follows redirects to the file. Asks for one byte rather than by HEAD: the answer shows whether ranges work, and some
/// servers know no HEAD.
async fn locate(link: &Link) -> Result<Found, Trouble> {
    let mut url = link.url.clone();
    for _ in 0..=MOST_REDIRECTS {
        let exchange = link.get(&url, &[("range", "bytes=0-0".to_owned())]).await?;
        let (status, headers) = (exchange.response.status(), exchange.response.headers().clone());
        let length = length(status, &headers)?;
        if status != StatusCode::OK {
            read_short(link, exchange).await;
        }
        let Some(length) = length else {
            let location = text(&headers, &LOCATION).ok_or(Trouble::Status(status))?;
            url = url.join(location).map_err(|error| Trouble::Violation(format!("it redirects badly: {error}")))?;
            continue;
        };
        let validator = text(&headers, &ETAG).and_then(Validator::parse);
        let description =
            Description { length, validator, ranges: status != StatusCode::OK, hashes: Hashes::Unpublished };
        let links = headers.get_all(LINK).iter().filter_map(|value| value.to_str().ok());
        let advertised = links.filter_map(described_by).find_map(|reference| url.join(reference).ok());
        let hashes_at = advertised.unwrap_or_else(|| url.with_suffix(metalink::SUFFIX));
        return Ok(Found { url, hashes_at, description });
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
        let exchange = link.get(place, &[]).await?;
        let status = exchange.response.status();
        let again = status == StatusCode::SERVICE_UNAVAILABLE && exchange.response.headers().contains_key(RETRY_AFTER);
        if status == StatusCode::OK {
            let Some(document) = read(link, exchange, metalink::LONGEST).await? else { return Ok(None) };
            let name = String::from_utf8_lossy(&decode(url.file_name())).into_owned();
            return match metalink::read(&document, &name) {
                Ok(manifest) => Ok(Some(Arc::new(manifest))),
                Err(error) => {
                    tracing::info!(source = link.name, error = &error as &dyn std::error::Error, "no use of {place}");
                    Ok(None)
                }
            };
        }
        read_short(link, exchange).await;
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
async fn read_short(link: &Link, exchange: Exchange) {
    let _ = read(link, exchange, SHORT_BODY).await;
}

/// The whole body; `None` if it is longer than `most` bytes.
async fn read(link: &Link, mut exchange: Exchange, most: usize) -> Result<Option<Bytes>, Trouble> {
    match Limited::new(exchange.response.body_mut(), most).collect().await {
        Ok(body) => {
            link.keep(exchange);
            Ok(Some(body.to_bytes()))
        }
        Err(error) => match error.downcast::<hyper::Error>() {
            Ok(error) => Err(Trouble::Http(*error)),
            Err(_) => Ok(None),
        },
    }
}

/// The one value of a field; `None` if it is missing, said twice or not text.
pub(super) fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    let mut values = headers.get_all(name).iter();
    let first = values.next()?;
    if values.next().is_some() { None } else { first.to_str().ok() }
}

#[cfg(test)]
mod tests {
    use super::*;

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

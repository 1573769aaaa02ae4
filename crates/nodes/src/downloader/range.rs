//! A range of the file from one source.

use fetch::serve::parse_content_range;
use fetch::{ByteRange, Head, Input, RequestId, Validator};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::header::{CONTENT_LENGTH, CONTENT_RANGE, ETAG};
use hyper::{Response, StatusCode};
use tokio::sync::mpsc::Sender;

use super::ask::text;
use super::link::Link;
use super::trouble::Trouble;

/// Where what arrives of a range goes; waits while there is no room.
pub(crate) struct Outlet {
    pub(crate) request: RequestId,
    pub(crate) to_driver: Sender<Input>,
}

impl Outlet {
    pub(super) async fn put(&self, input: Input) {
        // Closed only when the download is over, and this task with it.
        let _ = self.to_driver.send(input).await;
    }
}

/// Asks for `range` and hands on what comes, until its end.
pub(crate) async fn fetch(
    link: &Link,
    range: ByteRange,
    validator: Option<&Validator>,
    outlet: &Outlet,
) -> Result<(), Trouble> {
    let mut fields = vec![("range", format!("bytes={}-{}", range.start, range.end - 1))];
    // A weak tag may not be used here (RFC 9110 §13.1.5).
    if let Some(tag) = validator.filter(|tag| tag.is_strong()) {
        fields.push(("if-range", tag.as_str().to_owned()));
    }
    let mut exchange = link.get(&link.resolved(), &fields).await?;
    let head = head(&exchange.response, range)?;
    let request = outlet.request;
    let mut missing = head.range.len();
    outlet.put(Input::Opened { request, head }).await;
    while let Some(frame) = exchange.response.frame().await {
        let Ok(bytes) = frame?.into_data() else { continue };
        missing = missing
            .checked_sub(bytes.len() as u64)
            .ok_or_else(|| Trouble::Violation("it sends more than it announced".into()))?;
        if !bytes.is_empty() {
            outlet.put(Input::Body { request, bytes }).await;
        }
    }
    if missing > 0 {
        return Err(Trouble::Violation(format!("it ends {missing} bytes too early")));
    }
    link.keep(exchange);
    Ok(())
}

/// What the answer announces, if it is one to this question.
fn head(response: &Response<Incoming>, asked: ByteRange) -> Result<Head, Trouble> {
    let headers = response.headers();
    let length = text(headers, &CONTENT_LENGTH).and_then(|length| length.parse::<u64>().ok());
    let validator = text(headers, &ETAG).and_then(Validator::parse);
    match response.status() {
        StatusCode::PARTIAL_CONTENT => {
            let told = headers.get(CONTENT_RANGE);
            let parsed = text(headers, &CONTENT_RANGE).and_then(parse_content_range);
            let sound = |range: ByteRange| {
                range.start == asked.start
                    && range.end <= asked.end
                    && length.is_none_or(|length| length == range.len())
            };
            match parsed {
                Some((range, total)) if sound(range) => Ok(Head { range, total, validator }),
                _ => {
                    let told = told.and_then(|told| told.to_str().ok()).unwrap_or("no range");
                    let (first, last) = (asked.start, asked.end - 1);
                    Err(Trouble::Violation(format!("asked for bytes {first}-{last}, it sends {told:.40}")))
                }
            }
        }
        StatusCode::OK => {
            let length = length.ok_or_else(|| Trouble::Violation("it does not tell the length of its file".into()))?;
            Ok(Head { range: ByteRange::new(0, length), total: Some(length), validator })
        }
        status => Err(Trouble::Status(status)),
    }
}

//! A range of the file from one source.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use fetch::serve::parse_content_range;
use fetch::{ByteRange, Head, Input, RequestId, Validator};
use hyper::header::{CONTENT_LENGTH, CONTENT_RANGE, ETAG};
use hyper::{Response, StatusCode};
use tokio::sync::mpsc::Sender;
use tokio::time::timeout_at;

use super::ask::text;
use super::link::{Lane, Link};
use super::trouble::Trouble;
use crate::clock;
use crate::throttle::Throttle;

/// While bytes are held back, the engine is told this often that their source is not silent.
const HELD_EVERY: Duration = Duration::from_millis(100);

/// Where what arrives of a range goes; waits while there is no room.
pub(crate) struct Outlet {
    pub(crate) request: RequestId,
    pub(crate) to_driver: Sender<Input>,
    /// Of all that is taken from all sources, if there is a limit. What is held back fills the kernel's buffers, and so
    /// slows the source down.
    pub(crate) throttle: Option<Arc<Throttle>>,
}

impl Outlet {
    pub(super) async fn put(&self, input: Input) {
        // Closed only when the download is over, and this task with it.
        let _ = self.to_driver.send(input).await;
    }

    /// Hands on body bytes, no faster than is allowed.
    async fn put_body(&self, mut bytes: Bytes) {
        let request = self.request;
        while !bytes.is_empty() {
            let granted = match &self.throttle {
                Some(throttle) => self.grant(throttle, bytes.len()).await,
                None => bytes.len(),
            };
            self.put(Input::Body { request, bytes: bytes.split_to(granted) }).await;
        }
    }

    async fn grant(&self, throttle: &Throttle, wanted: usize) -> usize {
        let mut granted = pin!(throttle.grant(wanted as u64));
        loop {
            let deadline = clock::instant(clock::now()) + HELD_EVERY;
            match timeout_at(deadline, &mut granted).await {
                Ok(bytes) => return usize::try_from(bytes).unwrap_or(wanted).min(wanted),
                Err(_) => self.put(Input::Held { request: self.request }).await,
            }
        }
    }
}

/// Asks for `range` and hands on what comes, until its end. What goes wrong when all of it is here is no failure, and
/// returned.
pub(crate) async fn fetch(
    link: &Link,
    range: ByteRange,
    validator: Option<&Validator>,
    outlet: &Outlet,
) -> Result<Option<Trouble>, Trouble> {
    let mut fields = vec![("range", format!("bytes={}-{}", range.start, range.end - 1))];
    // A weak tag may not be used here (RFC 9110 §13.1.5).
    if let Some(tag) = validator.filter(|tag| tag.is_strong()) {
        fields.push(("if-range", tag.as_str().to_owned()));
    }
    let mut answer = link.get(&link.resolved(), &fields, Lane::Shared).await?;
    let head = head(&answer.head, range)?;
    let request = outlet.request;
    let mut missing = head.range.len();
    outlet.put(Input::Opened { request, head }).await;
    loop {
        let bytes = match answer.chunk().await {
            Ok(Some(bytes)) => bytes,
            Ok(None) if missing > 0 => {
                return Err(Trouble::Violation(format!("it ends {missing} bytes too early")));
            }
            Ok(None) => return Ok(None),
            Err(error) if missing == 0 => return Ok(Some(error.into())),
            Err(error) => return Err(error.into()),
        };
        let more = || Trouble::Violation("it sends more than it announced".into());
        match missing.checked_sub(bytes.len() as u64) {
            Some(rest) => missing = rest,
            None if missing == 0 => return Ok(Some(more())),
            None => return Err(more()),
        }
        outlet.put_body(bytes).await;
    }
}

/// What the answer announces, if it is one to this question.
fn head(response: &Response<()>, asked: ByteRange) -> Result<Head, Trouble> {
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

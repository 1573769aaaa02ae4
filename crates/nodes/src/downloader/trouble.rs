//! Why an exchange with a source failed, in words and for the engine.

use std::error::Error;
use std::io;

use fetch::CloseReason;
use hyper::StatusCode;

/// Why a request did not end as it should.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Trouble {
    /// No connection.
    #[error("cannot connect")]
    Dial(#[source] io::Error),
    /// The connection or its HTTP broke.
    #[error("the exchange broke off")]
    Http(#[from] hyper::Error),
    /// An answer that does not carry the file.
    #[error("status {0}")]
    Status(StatusCode),
    /// An answer that contradicts itself or the request.
    #[error("not a valid answer: {0}")]
    Violation(String),
}

impl Trouble {
    /// What the engine needs to know of it.
    pub(crate) fn reason(&self) -> CloseReason {
        match self {
            Trouble::Dial(error) => of_io(error),
            Trouble::Status(status) => CloseReason::Status(status.as_u16()),
            Trouble::Violation(_) => CloseReason::Violation,
            Trouble::Http(error) if error.is_parse() => CloseReason::Violation,
            Trouble::Http(error) => {
                let cause = error.source().and_then(|cause| cause.downcast_ref::<io::Error>());
                cause.map_or(CloseReason::Reset, of_io)
            }
        }
    }

    /// For people, in one line: begins with the reason, as the engine words it.
    pub(crate) fn line(&self) -> String {
        let reason = self.reason();
        match self {
            Trouble::Dial(error) => match error.kind() {
                io::ErrorKind::ConnectionRefused => reason.to_string(),
                kind => format!("{reason}: cannot connect, {kind}"),
            },
            Trouble::Http(error) if error.is_incomplete_message() || reason == CloseReason::Reset => {
                // hyper tells a body that ends early as an error of reading, from which it is a reset all the same.
                let at_its_end = error.is_incomplete_message() || is_early_end(error);
                let middle = "the server closed it in the middle of an answer";
                if at_its_end { format!("{reason}: {middle}") } else { reason.to_string() }
            }
            Trouble::Http(error) if error.is_parse() => format!("{reason}: it is not HTTP"),
            Trouble::Http(_) => reason.to_string(),
            Trouble::Status(status) => {
                let words = status.canonical_reason().map(|words| format!(" {words}")).unwrap_or_default();
                format!("{reason}{words}")
            }
            Trouble::Violation(_) => self.to_string(),
        }
    }
}

/// Whether the connection ended where more was announced.
fn is_early_end(error: &hyper::Error) -> bool {
    let cause = error.source().and_then(|cause| cause.downcast_ref::<io::Error>());
    cause.is_some_and(|cause| cause.kind() == io::ErrorKind::UnexpectedEof)
}

fn of_io(error: &io::Error) -> CloseReason {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => CloseReason::Refused,
        io::ErrorKind::ConnectionReset
        | io::ErrorKind::ConnectionAborted
        | io::ErrorKind::BrokenPipe
        | io::ErrorKind::UnexpectedEof => CloseReason::Reset,
        // hyper reports a chunked body that makes no sense like this.
        io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput => CloseReason::Violation,
        _ => CloseReason::TimedOut,
    }
}

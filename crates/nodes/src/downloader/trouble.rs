//! Why an exchange with a source failed, in words and for the engine.

use std::io;

use fetch::CloseReason;
use hyper::StatusCode;

use crate::http::connection::ExchangeError;
use crate::http::tls::distrust;

/// Why a request did not end as it should.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Trouble {
    /// No connection.
    #[error("cannot connect")]
    Dial(#[source] io::Error),
    /// The connection or its HTTP broke.
    #[error("the exchange broke off")]
    Exchange(#[from] ExchangeError),
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
            Trouble::Dial(error) | Trouble::Exchange(ExchangeError::Io(error)) => of_io(error),
            Trouble::Exchange(ExchangeError::Unanswered | ExchangeError::Truncated) => CloseReason::Reset,
            Trouble::Status(status) => CloseReason::Status(status.as_u16()),
            Trouble::Violation(_) | Trouble::Exchange(ExchangeError::Malformed(_)) => CloseReason::Violation,
        }
    }

    /// For people, in one line: begins with the reason, as the engine words it.
    pub(crate) fn line(&self) -> String {
        let reason = self.reason();
        match self {
            Trouble::Dial(error) | Trouble::Exchange(ExchangeError::Io(error)) if distrust(error).is_some() => {
                format!("{reason}: {}", distrust(error).unwrap_or_default())
            }
            Trouble::Dial(error) => match error.kind() {
                io::ErrorKind::ConnectionRefused => reason.to_string(),
                io::ErrorKind::NotFound => format!("{reason}: its name has no address"),
                kind => format!("{reason}: cannot connect, {kind}"),
            },
            Trouble::Exchange(ExchangeError::Io(_)) => reason.to_string(),
            Trouble::Exchange(error) => format!("{reason}: {error}"),
            Trouble::Status(status) => {
                let words = status.canonical_reason().map(|words| format!(" {words}")).unwrap_or_default();
                format!("{reason}{words}")
            }
            Trouble::Violation(_) => self.to_string(),
        }
    }
}

/// Why a connection failed, to an engine.
pub(crate) fn of_io(error: &io::Error) -> CloseReason {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => CloseReason::Refused,
        io::ErrorKind::ConnectionReset
        | io::ErrorKind::ConnectionAborted
        | io::ErrorKind::BrokenPipe
        | io::ErrorKind::UnexpectedEof => CloseReason::Reset,
        _ if distrust(error).is_some() => CloseReason::Violation,
        _ => CloseReason::TimedOut,
    }
}

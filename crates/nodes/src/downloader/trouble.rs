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
    #[error("it answers {0}")]
    Status(StatusCode),
    /// An answer that contradicts itself or the request.
    #[error("it {0}")]
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

    /// In one line, with its causes.
    pub(crate) fn line(&self) -> String {
        let mut line = self.to_string();
        let mut cause = self.source();
        while let Some(error) = cause {
            line.push_str(&format!(": {error}"));
            cause = error.source();
        }
        line
    }
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

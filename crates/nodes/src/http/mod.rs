//! What the HTTP programs share below their own logic.
//!
//! * `url`: the URLs that are fetched from, and references within them.
//! * `listen`: a listening socket on both address families.
//! * `dial`: a stream to whatever a name resolves to now; `tls`: whom to believe that it is the right one.
//! * `request`, `connection`, `framing`: a client's side: what it asks, connections with pipelining, and where the body
//!   of an answer ends.

pub(crate) mod connection;
pub(crate) mod dial;
mod framing;
pub(crate) mod listen;
pub(crate) mod request;
pub(crate) mod tls;
pub(crate) mod url;

pub use listen::{ListenArgs, ListenError};
pub use tls::TrustError;
pub use url::{Url, UrlError};

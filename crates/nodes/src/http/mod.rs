//! What the HTTP programs share below their own logic.
//!
//! * `url`: the URLs that are fetched from, and references within them.
//! * `listen`: a listening socket on both address families.
//! * `dial`: a connection to whatever a name resolves to now.

pub(crate) mod dial;
pub(crate) mod listen;
pub(crate) mod url;

pub use listen::{ListenArgs, ListenError};
pub use url::{Url, UrlError};

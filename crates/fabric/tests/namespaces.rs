//! Plans raised on real namespaces, as root and as an ordinary user.
//!
//! A sandbox starts from a process of one thread, so each test forks; the child has one.
#![allow(unsafe_code, reason = "tests fork and change users")]
#![allow(clippy::disallowed_methods, clippy::unwrap_used, reason = "tests bound how long a fact may take, and panic")]

mod namespaces {
    pub(crate) mod child;
    pub(crate) mod death;
    pub(crate) mod host;
    pub(crate) mod reach;
}

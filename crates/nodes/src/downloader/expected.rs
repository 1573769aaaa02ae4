//! Who says which SHA-256 the whole file has, and what is to be said where they disagree.

use std::collections::BTreeSet;

use fetch::{Digest, Expectation, Integrity};

use crate::check_server::board::FileView;

/// What everybody says.
#[derive(Debug, Default)]
pub(crate) struct Expected {
    /// `--checksum`: counts before all others.
    user: Option<Digest>,
    /// By sources; empty if they contradict each other.
    published: Option<Option<Digest>>,
    check: Option<FileView>,
    /// Of the file being fetched.
    length: Option<u64>,
    said: BTreeSet<&'static str>,
}

impl Expected {
    pub(crate) fn new(user: Option<Digest>) -> Self {
        Expected { user, ..Expected::default() }
    }

    /// A source publishes this.
    pub(crate) fn published(&mut self, digest: Digest) {
        self.published = match self.published {
            Some(known) if known != Some(digest) => Some(None),
            _ => Some(Some(digest)),
        };
    }

    /// The file being fetched is this long.
    pub(crate) fn length(&mut self, length: u64) {
        self.length = Some(length);
    }

    /// The check server says this, or cannot be asked. Returns what the engine is to know of it.
    pub(crate) fn check(&mut self, view: Option<FileView>) -> Expectation {
        // One that is gone may have known it, and nobody has contradicted it.
        if view.is_some() || self.checked().is_none() {
            self.check = view;
        }
        match (self.checked(), &self.check) {
            (Some(digest), _) => Expectation::Digest(digest),
            (None, Some(FileView { length: Some(_), .. })) => Expectation::Awaited,
            _ => Expectation::Nothing,
        }
    }

    fn checked(&self) -> Option<Digest> {
        self.check.as_ref()?.sha256.as_ref()?.parse().ok()
    }

    /// What a person should know, once.
    pub(crate) fn contradictions(&mut self) -> Vec<&'static str> {
        let mut found = Vec::new();
        let published = self.published.flatten();
        if let Some(checked) = self.checked() {
            if self.user.is_some_and(|user| user != checked) {
                found.push("the check server's SHA-256 is another one than --checksum, which counts");
            } else if published.is_some_and(|published| published != checked) {
                found.push("the check server's SHA-256 is another one than the servers publish, whose counts");
            }
        }
        let theirs = self.check.as_ref().and_then(|check| check.length);
        if self.length.zip(theirs).is_some_and(|(ours, theirs)| ours != theirs) {
            found.push("the check server's file is longer or shorter than the one being fetched");
        }
        found.retain(|line| self.said.insert(line));
        found
    }

    /// The hash of a complete file, if anything vouches for one.
    pub(crate) fn digest(&self, integrity: Integrity) -> Option<Digest> {
        let published = self.published.flatten();
        match integrity {
            Integrity::Transport => None,
            Integrity::Pieces => self.user.or(published),
            Integrity::Whole => self.user.or(published).or(self.checked()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_contradiction_is_said_once() {
        let (ours, other) = (Digest::of(b"a"), Digest::of(b"b"));
        let view = |digest, length| Some(FileView::new(digest, length));
        let mut expected = Expected::new(None);
        assert_eq!(expected.check(view(None, Some(5))), Expectation::Awaited);
        assert_eq!(expected.check(view(Some(ours), Some(5))), Expectation::Digest(ours));
        expected.length(5);
        expected.published(ours);
        assert!(expected.contradictions().is_empty());
        assert_eq!(expected.check(None), Expectation::Digest(ours), "its word outlives it");
        assert_eq!(expected.check(view(Some(other), Some(6))), Expectation::Digest(other));
        assert_eq!(expected.contradictions().len(), 2);
        assert!(expected.contradictions().is_empty());

        let mut expected = Expected::new(Some(ours));
        expected.check(view(Some(other), None));
        assert!(expected.contradictions()[0].contains("--checksum, which counts"));
        assert_eq!(expected.digest(Integrity::Whole), Some(ours));
        assert_eq!(expected.check(view(None, None)), Expectation::Nothing);
    }
}

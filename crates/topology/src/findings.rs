//! Collecting what is wrong, so that one pass reports all of it.

use std::path::PathBuf;

use crate::diagnostic::{Diagnostic, Diagnostics, Kind, Location};
use crate::roles::ROLES;
use crate::source::{Place, Source};
use crate::yaml::{Fault, Reason, Setting, listed, nearest};

/// What was found so far, and what is needed to say where.
pub(crate) struct Findings<'a> {
    /// `None` keeps nothing.
    source: Option<&'a Source>,
    settings: &'a [Setting],
    found: Diagnostics,
}

impl<'a> Findings<'a> {
    pub(crate) fn new(source: &'a Source, settings: &'a [Setting]) -> Self {
        Findings { source: Some(source), settings, found: Diagnostics::default() }
    }

    /// For what was said already.
    pub(crate) fn silent() -> Self {
        Findings { source: None, settings: &[], found: Diagnostics::default() }
    }

    pub(crate) fn into_result(mut self) -> Result<(), Diagnostics> {
        self.found.sort();
        if self.found.is_empty() { Ok(()) } else { Err(self.found) }
    }

    /// The place of a word within the text at `place`.
    pub(crate) fn narrow(&self, place: Place, word: &str) -> Place {
        self.source.map_or(place, |source| source.narrow(place, word))
    }

    /// Where a file is that the topology names by this path.
    pub(crate) fn path_of(&self, path: &str) -> PathBuf {
        self.source.map_or_else(|| path.into(), |source| source.path_of(path))
    }

    pub(crate) fn invalid(&mut self, place: Place, message: impl Into<String>) {
        self.push(Kind::Invalid, place, message.into(), None);
    }

    pub(crate) fn invalid_but(&mut self, place: Place, message: impl Into<String>, help: impl Into<String>) {
        self.push(Kind::Invalid, place, message.into(), Some(help.into()));
    }

    /// Something is wrong in a file that this one names.
    pub(crate) fn elsewhere(&mut self, location: Location, message: String, help: Option<&str>) {
        let help = help.map(str::to_owned);
        self.found.push(Diagnostic { kind: Kind::Invalid, message, location, help });
    }

    /// The file is right here, but asks for what is not built.
    pub(crate) fn not_yet(&mut self, place: Place, feature: &str) {
        let message = format!("{feature} is not supported yet");
        self.push(Kind::NotYet { feature: feature.replace('`', "") }, place, message, None);
    }

    /// A name of something that there is none of. `what` is singular: `node`.
    pub(crate) fn unknown<'n>(&mut self, place: Place, what: &str, found: &str, known: impl Iterator<Item = &'n str>) {
        let known: Vec<&str> = known.collect();
        let help = match nearest(found, known.iter().copied()) {
            Some(near) => format!("did you mean `{near}`?"),
            None if known.is_empty() => format!("the file has no {what}s"),
            None if known.len() <= 12 => format!("the {what}s are {}", listed(&known)),
            None => format!("the {what}s are {} and {} more", listed(&known[..12]), known.len() - 12),
        };
        self.invalid_but(place, format!("unknown {what} `{found}`"), help);
    }

    pub(crate) fn fault(&mut self, fault: Fault, fallback: Place) {
        let place = fault.place.unwrap_or(fallback);
        match fault.reason {
            Reason::Said(message) => self.invalid(place, message),
            Reason::UnknownField { found, known } => self.unknown(place, "field", &found, known.into_iter()),
            Reason::UnknownRole { found } => {
                self.unknown(place, "role", &found, ROLES.iter().map(|kind| kind.name));
            }
            Reason::UnknownVariant { found, known } => {
                let message = format!("`{found}` is none of {}", listed(&known));
                let help = nearest(&found, known).map(|near| format!("did you mean `{near}`?"));
                self.push(Kind::Invalid, place, message, help);
            }
        }
    }

    fn push(&mut self, kind: Kind, place: Place, message: String, help: Option<String>) {
        let Some(source) = self.source else { return };
        let location = match place {
            Place::Setting(index) => {
                let setting = self.settings.get(index as usize).map(Setting::to_string);
                Location::Setting { text: setting.unwrap_or_default() }
            }
            place => source.location(place),
        };
        self.found.push(Diagnostic { kind, message, location, help });
    }
}

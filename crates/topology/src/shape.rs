//! One link in a few words, as an environment variable carries it: `delay=20ms loss=1%`.
//!
//! The words are settings of the link of a topology's only node, so they have its vocabulary, its checks and its messages,
//! and what carries the link is chosen as for any other.

use link::Profile;

use crate::diagnostic::{Diagnostic, Diagnostics, Location};
use crate::plan::Medium;
use crate::{Overrides, Setting, Source, load};

/// An impairment of one interface.
#[derive(Clone, Debug, PartialEq)]
pub struct Shape {
    /// Both directions: `up` leaves the interface, `down` reaches it.
    pub profile: Profile,
    /// What is to carry it out; [`Medium::Bridge`] where there is nothing to do.
    pub medium: Medium,
    /// Why that was chosen.
    pub why: String,
}

/// The only node of the topology around the words …
const TOPOLOGY: &str = "name: shape\nlinks: { shape: {} }\nnodes: { this: { run: [this], link: shape } }\n";
/// … whose link they set.
const LINK: &str = "links.shape";

/// Reads words such as `delay=20ms up.rate=10Mbit`, for both directions alike or for one, or a link in braces as a topology
/// has it. `shaper` is `auto`, `netem` or `relay`. The settings of `overrides` are not looked at; files that `trace` names are
/// found as `with_files` gives them to a source.
///
/// # Errors
///
/// Everything that is wrong with them.
pub fn shape(
    words: &str,
    shaper: &str,
    overrides: &Overrides,
    with_files: impl FnOnce(Source) -> Source,
) -> Result<Shape, Diagnostics> {
    let mut set = vec![Setting { path: "shaper".to_owned(), value: shaper.to_owned() }];
    let words = words.trim();
    if words.starts_with('{') {
        set.push(Setting { path: LINK.to_owned(), value: words.to_owned() });
    } else {
        for word in words.split_whitespace() {
            set.push(setting(word)?);
        }
    }
    let source = with_files(Source::new("shape", TOPOLOGY));
    let plan = load(&source, &Overrides { set, ..overrides.clone() }).map_err(|found| found.map(as_written))?;
    let interface = &plan.nodes()[0].interfaces[0];
    let network = plan.network(interface.network);
    Ok(Shape { profile: interface.link.clone(), medium: network.medium, why: network.why.clone() })
}

fn setting(word: &str) -> Result<Setting, Diagnostics> {
    match word.split_once('=') {
        Some((path, value)) if !path.is_empty() && !value.is_empty() => {
            Ok(Setting { path: format!("{LINK}.{path}"), value: value.to_owned() })
        }
        _ => {
            let location = Location::Setting { text: word.to_owned() };
            let wrong = Diagnostic::invalid(format!("`{word}` is not of the form name=value"), location);
            let help = "such as: delay=20ms loss=1% down.rate=10Mbit".to_owned();
            Err(Diagnostic { help: Some(help), ..wrong }.into())
        }
    }
}

/// Nobody has seen the topology around the words.
fn as_written(mut found: Diagnostic) -> Diagnostic {
    found.location = match found.location {
        Location::Setting { text } => {
            let rest = text.strip_prefix(LINK).map(|rest| rest.trim_start_matches(['.', '=']).to_owned());
            Location::Setting { text: rest.unwrap_or(text) }
        }
        other => other,
    };
    found.message = found.message.replace("network `net`", "it").replace("the link of `this`", "the link");
    found
}

#[cfg(test)]
mod tests {
    use machine::{Seed, Span};

    use super::*;
    use crate::NetemSupport;

    fn read(words: &str) -> Result<Shape, String> {
        shape(words, "auto", &Overrides::new(Seed::new(1)), |source| source).map_err(|found| found.to_string())
    }

    #[test]
    fn words_are_for_both_directions_or_for_one() {
        let alike = read("delay=20ms  loss=1%").unwrap();
        assert_eq!((alike.profile.up.delay, &alike.profile.up), (Span::from_millis(20), &alike.profile.down));
        assert_eq!(alike.medium, Medium::Relay);
        let one = read("down.rate=10Mbit down.burst.p=1% down.burst.r=30%").unwrap().profile;
        assert_eq!(one.up, link::HalfLink::default());
        assert!(one.down.rate.is_some() && one.down.burst.is_some());
        let braces = read("{ up: { delay: 5ms, jitter: 1ms } }").unwrap().profile;
        assert_eq!((braces.up.jitter, braces.down.delay), (Span::from_millis(1), Span::ZERO));
        for nothing in ["", "  ", "delay=0s"] {
            assert_eq!(read(nothing).unwrap().medium, Medium::Bridge, "{nothing:?}");
        }
    }

    #[test]
    fn what_is_wrong_is_said_of_the_word_that_was_written() {
        for (words, says) in [
            ("delay", "`delay` is not of the form name=value"),
            ("delay=", "`delay=` is not of the form"),
            ("dely=20ms", "did you mean `delay`?"),
            ("delay=20mz", "delay=20mz"),
            ("loss=200%", "loss=200%"),
            ("delay=1ms up.rate=1Mbit", "not a mix"),
            ("jitter=5ms", "more than the delay"),
            ("{ delay: 1ms", "{ delay: 1ms"),
            ("trace=absent", "absent"),
        ] {
            let said = read(words).unwrap_err();
            assert!(said.contains(says) && !said.contains("links.shape"), "{words}: {said}");
        }
    }

    #[test]
    fn netem_carries_what_it_can_and_says_what_it_cannot() {
        let overrides = Overrides { netem: NetemSupport::Seeded, ..Overrides::new(Seed::new(1)) };
        let chosen = |words, shaper| shape(words, shaper, &overrides, |source| source);
        assert_eq!(chosen("delay=20ms loss=1%", "auto").unwrap().medium, Medium::Netem);
        assert_eq!(chosen("delay=20ms loss=1%", "relay").unwrap().medium, Medium::Relay);
        let said = chosen("drop=[3]", "netem").unwrap_err().to_string();
        assert!(said.contains("netem cannot shape it: the link has a list"), "{said}");
        assert!(chosen("delay=1ms", "tbf").unwrap_err().to_string().contains("tbf"));
    }
}

//! Colours, by what they mean.

/// What a text says about the thing that it names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Tone {
    /// Nothing special.
    #[default]
    Plain,
    /// As it should be.
    Good,
    /// As it should not be.
    Bad,
    /// On its way, or a fault at work.
    Notice,
    /// Of less interest.
    Faint,
    /// Of more interest.
    Strong,
}

impl Tone {
    /// `text` in this tone's colour (ECMA-48 SGR, the first eight colours only, so that the user's theme decides).
    pub(crate) fn paint(self, text: &str, colour: bool) -> String {
        let code = match self {
            Tone::Plain => return text.to_owned(),
            Tone::Good => "32",
            Tone::Bad => "31;1",
            Tone::Notice => "33",
            Tone::Faint => "2",
            Tone::Strong => "1",
        };
        if colour && !text.is_empty() { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

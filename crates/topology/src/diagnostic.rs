//! What is wrong with a topology, as data and as text for a person.

use std::fmt::{self, Write};

/// How bad it is, which decides the exit status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The file is wrong.
    Invalid,
    /// The file is right, but asks for what is not built yet.
    NotYet {
        /// As the file names it: `sweep`.
        feature: String,
    },
}

/// Where it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Location {
    /// A word of the file. Line and column count from 1, in characters.
    File {
        /// As the caller named the source.
        file: String,
        /// 1-based.
        line: usize,
        /// 1-based.
        column: usize,
        /// Characters to mark.
        length: usize,
        /// The line's text.
        excerpt: String,
    },
    /// A setting of the command line.
    Setting {
        /// As it was given: `nodes.client.resume=no`.
        text: String,
    },
    /// The file as a whole.
    Whole {
        /// As the caller named the source.
        file: String,
    },
}

/// One finding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// How bad it is.
    pub kind: Kind,
    /// What is wrong, without the place.
    pub message: String,
    /// Where.
    pub location: Location,
    /// What to do about it.
    pub help: Option<String>,
}

impl Diagnostic {
    pub(crate) fn invalid(message: impl Into<String>, location: Location) -> Diagnostic {
        Diagnostic { kind: Kind::Invalid, message: message.into(), location, help: None }
    }
}

/// Whether the text for a person has ANSI colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Colour {
    /// Bold, red and blue.
    Ansi,
    /// None.
    Plain,
}

/// All findings of a file, in its order; never empty as an error.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Diagnostics {
    list: Vec<Diagnostic>,
    /// Found beyond the bound of the list.
    dropped: usize,
}

/// More findings than this are counted, not kept.
const MAX_FINDINGS: usize = 100;

impl Diagnostics {
    /// The same findings said in another way.
    pub(crate) fn map(mut self, say: impl FnMut(Diagnostic) -> Diagnostic) -> Diagnostics {
        self.list = self.list.into_iter().map(say).collect();
        self
    }

    /// Each finding.
    pub fn iter(&self) -> impl Iterator<Item = &Diagnostic> {
        self.list.iter()
    }

    /// Whether nothing was found.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Whether the file is right as a file and only asks for what is not built yet.
    pub fn is_only_not_yet(&self) -> bool {
        self.list.iter().all(|one| one.kind != Kind::Invalid)
    }

    /// The text for a person, with a newline at the end.
    pub fn render(&self, colour: Colour) -> String {
        let mut text = String::new();
        for (index, diagnostic) in self.list.iter().enumerate() {
            if index > 0 {
                text.push('\n');
            }
            render_one(&mut text, diagnostic, colour).expect("writing to a string cannot fail");
        }
        if self.dropped > 0 {
            writeln!(text, "\n… and {} more", self.dropped).expect("writing to a string cannot fail");
        }
        text
    }

    /// Into the order of the file; what is about no line of it comes first.
    pub(crate) fn sort(&mut self) {
        self.list.sort_by_key(|one| match one.location {
            Location::File { line, column, .. } => (line, column),
            Location::Setting { .. } | Location::Whole { .. } => (0, 0),
        });
    }

    pub(crate) fn push(&mut self, diagnostic: Diagnostic) {
        if self.list.len() < MAX_FINDINGS {
            self.list.push(diagnostic);
        } else {
            self.dropped += 1;
        }
    }
}

impl From<Diagnostic> for Diagnostics {
    fn from(diagnostic: Diagnostic) -> Self {
        Diagnostics { list: vec![diagnostic], dropped: 0 }
    }
}

impl fmt::Display for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.render(Colour::Plain).trim_end())
    }
}

impl std::error::Error for Diagnostics {}

fn render_one(text: &mut String, diagnostic: &Diagnostic, colour: Colour) -> fmt::Result {
    let paint = |code, part: &str| match colour {
        Colour::Ansi => format!("\x1b[{code}m{part}\x1b[0m"),
        Colour::Plain => part.to_owned(),
    };
    let (red, blue, bold) = ("1;31", "1;34", "1");
    let message = visible(&diagnostic.message);
    writeln!(text, "{}{} {}", paint(red, "error"), paint(bold, ":"), paint(bold, &message))?;
    let mut gutter = 1;
    match &diagnostic.location {
        Location::Whole { file } => writeln!(text, " {} {}", paint(blue, "-->"), visible(file))?,
        Location::Setting { text: setting } => {
            writeln!(text, " {} --set {}", paint(blue, "-->"), visible(&clip(setting, 0).0))?;
        }
        Location::File { file, line, column, length, excerpt } => {
            gutter = line.to_string().len();
            let (shown, column_shown) = clip(excerpt, *column - 1);
            let length = (*length).clamp(1, shown.chars().count().saturating_sub(column_shown).max(1));
            writeln!(text, "{:gutter$}{} {}:{line}:{column}", "", paint(blue, "-->"), visible(file))?;
            let bar = paint(blue, "|");
            writeln!(text, "{:gutter$} {bar}", "")?;
            writeln!(text, "{} {bar} {}", paint(blue, &line.to_string()), visible(&shown))?;
            writeln!(text, "{:gutter$} {bar} {:column_shown$}{}", "", "", paint(red, &"^".repeat(length)))?;
        }
    }
    if let Some(help) = &diagnostic.help {
        writeln!(text, "{:gutter$} {} {}: {}", "", paint(blue, "="), paint(bold, "help"), visible(help))?;
    }
    Ok(())
}

/// At most this many characters of a line are shown.
const EXCERPT_WIDTH: usize = 120;

/// A window of the line around the character at `column` (from 0), and where that character is in the window.
fn clip(line: &str, column: usize) -> (String, usize) {
    if line.chars().count() <= EXCERPT_WIDTH {
        return (line.to_owned(), column);
    }
    let skipped = column.saturating_sub(EXCERPT_WIDTH / 2);
    let window: String = line.chars().skip(skipped).take(EXCERPT_WIDTH).collect();
    (window, column - skipped)
}

/// The text with what would move the cursor or change colours made harmless, one character for one.
fn visible(text: &str) -> String {
    text.chars()
        .map(|c| {
            if c == '\t' {
                ' '
            } else if c.is_control() {
                char::REPLACEMENT_CHARACTER
            } else {
                c
            }
        })
        .collect()
}

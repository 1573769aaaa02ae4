//! Where states and facts are shown: a terminal refreshed in place, or plain lines.

use super::console::{self, PROMPT, Row};
use super::editor::{Editor, Entered, Keys};
use super::printer::Printer;
use super::screen::{self, Screen};

/// The console's two sides: what is shown, and the line that is being typed.
#[derive(Debug)]
pub(super) struct View {
    printer: Printer,
    /// None where stdout is no terminal: there blocks go to stdout and facts to stderr.
    screen: Option<Screen>,
    editor: Editor,
    /// What was shown last, and whether more than that is new.
    rows: Vec<Row>,
    stale: bool,
}

/// Why the states are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Occasion {
    /// One of them changed, it is time again, or somebody asked.
    News,
    /// Something less happened, if anything: plain lines need no new block for that.
    Other,
}

impl View {
    /// The terminal's, if stdout is one.
    pub(super) fn open() -> std::io::Result<Self> {
        let screen = Screen::take();
        let keys = screen.as_ref().map_or(Keys::Elsewhere, Screen::keys);
        Ok(View { printer: Printer::start()?, screen, editor: Editor::new(keys), rows: Vec::new(), stale: true })
    }

    /// A fact, in one line.
    pub(super) fn note(&mut self, line: String) {
        self.stale = true;
        match &mut self.screen {
            Some(screen) => screen.note(line),
            None => _ = self.printer.err(format!("{}\n", console::printable(&line))),
        }
    }

    /// Shows everything as it is now.
    pub(super) fn show(&mut self, rows: &[Row], occasion: Occasion) {
        match (&mut self.screen, occasion) {
            (Some(_), Occasion::Other) if !self.stale && self.rows == rows => {}
            (Some(screen), _) => {
                self.stale = !screen.draw(&self.printer, rows, &self.editor);
                self.rows = rows.to_vec();
            }
            (None, Occasion::Other) => {}
            (None, Occasion::News) => {
                let lines = console::block(rows, usize::MAX).join("\n");
                // One that is not taken is made up for by the next.
                self.printer.out(format!("{lines}\n{PROMPT}\n"));
            }
        }
    }

    /// Takes what was typed and returns what is complete.
    pub(super) fn typed(&mut self, bytes: &[u8]) -> Vec<Entered> {
        self.stale = true;
        self.editor.push(bytes)
    }

    /// What is shown may look otherwise now.
    pub(super) fn touch(&mut self) {
        self.stale = true;
    }

    /// Gives the terminal back and stops this process, until it is continued.
    pub(super) fn stop_here(&mut self) {
        self.close();
        screen::stop_here();
    }

    /// After it was stopped or in the background: takes the terminal again.
    pub(super) fn resume(&mut self) {
        self.stale = true;
        if let Some(screen) = &mut self.screen {
            screen.resume();
        }
    }

    /// Writes what waits and gives the terminal back.
    pub(super) fn close(&mut self) {
        match &mut self.screen {
            Some(screen) => screen.leave(&self.printer),
            None => self.printer.flush(),
        }
    }
}

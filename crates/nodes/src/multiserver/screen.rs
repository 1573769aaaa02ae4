//! A terminal: the block stands at its end and is refreshed in place; what happened scrolls by above it.
#![allow(unsafe_code, reason = "stopping like a program that does not catch Ctrl-Z takes its action back for a moment")]

use std::io::{IsTerminal, stdin, stdout};

use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, raise, sigaction};
use nix::sys::termios::{LocalFlags, SetArg, SpecialCharacterIndices, Termios, tcgetattr, tcsetattr};

use super::console::{self, PROMPT, Row};
use super::editor::{Editor, Keys};
use super::printer::Printer;
use super::typing::in_foreground;

/// Where a terminal does not tell its size: lines, columns.
const USUAL_SIZE: (u16, u16) = (24, 80);

/// Lines of notes that wait for a terminal that does not take them; older ones are dropped.
const MOST_NOTES: usize = 1000;

/// The terminal and what stands on it.
#[derive(Debug)]
pub(super) struct Screen {
    keys: Keyboard,
    notes: Vec<String>,
    /// Columns of each line that stands there, the prompt's last.
    standing: Vec<usize>,
}

/// The mode of the terminal that is typed on.
#[derive(Debug)]
enum Keyboard {
    /// Not a terminal: nothing to change, nothing echoed.
    None,
    /// As the shell left it.
    Left,
    /// Keys come at once, and are not echoed: an echo would land in the middle of a refresh.
    Taken { before: Termios },
}

impl Screen {
    /// If stdout is a terminal that can move its cursor.
    pub(super) fn take() -> Option<Self> {
        let dumb = std::env::var_os("TERM").is_none_or(|name| name == "dumb" || name.is_empty());
        if dumb || !stdout().is_terminal() {
            return None;
        }
        let keys = match stdin().is_terminal() {
            true => Keyboard::Left,
            false if in_foreground(stdout()) => Keyboard::None,
            // Started in the background, with nothing to type on: it stays there.
            false => return None,
        };
        let mut screen = Screen { keys, notes: Vec::new(), standing: Vec::new() };
        screen.take_keyboard();
        Some(screen)
    }

    /// Whose work it is to understand keys.
    pub(super) fn keys(&self) -> Keys {
        if matches!(self.keys, Keyboard::None) { Keys::Elsewhere } else { Keys::Here }
    }

    pub(super) fn note(&mut self, line: String) {
        if self.notes.len() == MOST_NOTES {
            self.notes.remove(0);
        }
        self.notes.push(line);
    }

    /// Refreshes everything. Whether it could.
    pub(super) fn draw(&mut self, printer: &Printer, rows: &[Row], editor: &Editor) -> bool {
        // In the background it would write into the shell's lines.
        if matches!(self.keys, Keyboard::Left) {
            return false;
        }
        let size = console_size();
        let (height, width) = (usize::from(size.0), usize::from(size.1));
        let mut lines = console::block(rows, height);
        lines.push(format!("{PROMPT} {}", editor.shown(width.saturating_sub(PROMPT.len() + 2))));
        let lines: Vec<String> = lines.into_iter().map(|line| cut(line, width)).collect();
        let taken = printer.out(compose(&self.standing, width, &self.notes, &lines));
        if taken {
            self.notes.clear();
            self.standing = lines.iter().map(|line| line.chars().count()).collect();
        }
        taken
    }

    /// After the shell had the terminal: in the foreground takes the keyboard again, and starts a new block.
    pub(super) fn resume(&mut self) {
        self.standing.clear();
        self.take_keyboard();
    }

    /// Gives the terminal back to the shell, the cursor below the block.
    pub(super) fn leave(&mut self, printer: &Printer) {
        if !self.standing.is_empty() && printer.out("\n".to_owned()) {
            self.standing.clear();
        }
        printer.flush();
        self.leave_keyboard();
    }

    fn take_keyboard(&mut self) {
        if matches!(self.keys, Keyboard::None) || !in_foreground(stdin()) {
            return;
        }
        let Ok(now) = tcgetattr(stdin()) else { return };
        let mut wanted = now.clone();
        wanted.local_flags.remove(LocalFlags::ICANON | LocalFlags::ECHO);
        wanted.control_chars[SpecialCharacterIndices::VMIN as usize] = 1;
        wanted.control_chars[SpecialCharacterIndices::VTIME as usize] = 0;
        if tcsetattr(stdin(), SetArg::TCSANOW, &wanted).is_ok() {
            let before = match std::mem::replace(&mut self.keys, Keyboard::Left) {
                Keyboard::Taken { before } => before,
                Keyboard::Left | Keyboard::None => now,
            };
            self.keys = Keyboard::Taken { before };
        }
    }

    fn leave_keyboard(&mut self) {
        if let Keyboard::Taken { before } = &self.keys {
            // From the background this would stop the program, and the shell has its own mode there anyway.
            if in_foreground(stdin()) {
                let _ = tcsetattr(stdin(), SetArg::TCSANOW, before);
            }
            self.keys = Keyboard::Left;
        }
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        self.leave_keyboard();
    }
}

/// Stops this process as Ctrl-Z does; returns when it is continued, or at once where no shell could continue it.
pub(super) fn stop_here() {
    let default = SigAction::new(SigHandler::SigDfl, SaFlags::empty(), SigSet::empty());
    // SAFETY: the default action runs no code of ours, and the action that was there is put back as it was.
    let Ok(before) = (unsafe { sigaction(Signal::SIGTSTP, &default) }) else { return };
    let _ = raise(Signal::SIGTSTP);
    // SAFETY: as above.
    let _ = unsafe { sigaction(Signal::SIGTSTP, &before) };
}

fn console_size() -> (u16, u16) {
    let size = ::console::Term::stdout().size_checked().unwrap_or(USUAL_SIZE);
    if size.0 == 0 || size.1 == 0 { USUAL_SIZE } else { size }
}

/// As much of a line as fits without touching the last column, where some terminals wrap already.
fn cut(line: String, width: usize) -> String {
    if line.chars().count() < width { line } else { line.chars().take(width.saturating_sub(1)).collect() }
}

/// What to write so that `notes` and then `lines` stand where lines of the widths `standing` stood, with the cursor at
/// their end. A terminal that became narrower has wrapped those; that is counted.
fn compose(standing: &[usize], width: usize, notes: &[String], lines: &[String]) -> String {
    let height: usize = standing.iter().map(|columns| columns.div_ceil(width.max(1)).max(1)).sum();
    let mut text = String::from("\r");
    if height > 1 {
        text.push_str(&format!("\x1b[{}A", height - 1));
    }
    for note in notes {
        text.push_str(&format!("{}\x1b[K\n", console::printable(note)));
    }
    text.push_str(&lines.join("\x1b[K\n"));
    text.push_str("\x1b[K\x1b[J");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As much of a terminal as is needed: no scrolling, no wrapping.
    fn show(texts: &[String]) -> Vec<String> {
        let mut screen: Vec<Vec<char>> = vec![Vec::new()];
        let (mut row, mut column) = (0, 0);
        for text in texts {
            let mut rest = text.as_str();
            while let Some(c) = rest.chars().next() {
                if let Some(sequence) = rest.strip_prefix("\x1b[") {
                    let end = sequence.find(char::is_alphabetic).unwrap();
                    let number: usize = sequence[..end].parse().unwrap_or(1);
                    match &sequence[end..=end] {
                        "A" => row -= number,
                        "K" => screen[row].truncate(column),
                        "J" => {
                            screen[row].truncate(column);
                            screen.truncate(row + 1);
                        }
                        other => panic!("what is {other}?"),
                    }
                    rest = &sequence[end + 1..];
                    continue;
                }
                match c {
                    '\r' => column = 0,
                    '\n' => (row, column) = (row + 1, 0),
                    c => {
                        let wide_enough = screen[row].len().max(column + 1);
                        screen[row].resize(wide_enough, ' ');
                        screen[row][column] = c;
                        column += 1;
                    }
                }
                if screen.len() <= row {
                    screen.push(Vec::new());
                }
                rest = &rest[c.len_utf8()..];
            }
        }
        screen.into_iter().map(String::from_iter).collect()
    }

    fn strings(lines: &[&str]) -> Vec<String> {
        lines.iter().map(|line| (*line).to_owned()).collect()
    }

    #[test]
    fn a_refresh_leaves_one_block_with_the_notes_above() {
        let first = compose(&[], 80, &[], &strings(&["block", "state: Alive", "prompt 12"]));
        let second =
            compose(&[5, 12, 9], 80, &strings(&["it \x1b[2Jdied"]), &strings(&["block", "state: Dead", "prompt 123"]));
        let third = compose(&[5, 11, 10], 80, &[], &strings(&["block", "prompt"]));
        assert_eq!(show(std::slice::from_ref(&first)), ["block", "state: Alive", "prompt 12"]);
        assert_eq!(
            show(&[first.clone(), second.clone()]),
            ["it \u{fffd}[2Jdied", "block", "state: Dead", "prompt 123"]
        );
        assert_eq!(show(&[first, second, third]), ["it \u{fffd}[2Jdied", "block", "prompt"]);
    }

    #[test]
    fn lines_that_a_narrower_terminal_has_wrapped_are_counted() {
        let text = compose(&[10, 0, 25, 3], 10, &[], &strings(&["x"]));
        assert!(text.starts_with("\r\x1b[5A"), "one, an empty one, three and the prompt's: {text:?}");
        assert_eq!(cut("x".repeat(10), 10).len(), 9);
    }
}

//! The console in words: the block of states, the choices, and the answers to wrong ones.

/// What a person may enter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Choice {
    /// Shut down or wake up this server, from 1.
    Server(usize),
    /// Wake up the check server.
    Check,
    /// End everything.
    Quit,
    /// Nothing: show the block again.
    Look,
}

/// What can be chosen now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Menu {
    pub(super) servers: usize,
    /// There is a check server and it is dead: the number after the last server's wakes it up.
    pub(super) check_is_down: bool,
}

/// A line of the block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) port: u16,
    pub(super) alive: bool,
}

/// The last line of the block; what is typed stands behind it.
pub(super) const PROMPT: &str = "Enter your Choice:";

/// Lines of the block beside the servers', with the prompt.
const FIXED_LINES: usize = 6;

/// The lines of the block, all but the prompt. Where only `room` lines fit, the last servers are summed up.
pub(super) fn block(rows: &[Row], room: usize) -> Vec<String> {
    let mut lines = vec!["-----".to_owned(), "MultiServer Downloader".to_owned(), "-----".to_owned()];
    let all = rows.len() + FIXED_LINES <= room;
    let shown = if all { rows.len() } else { room.saturating_sub(FIXED_LINES + 1).min(rows.len()) };
    let line = |(index, row): (usize, &Row)| {
        let (number, port) = (index + 1, row.port);
        let state = if row.alive { "Alive" } else { "Dead" };
        format!("Server {number} at Port: {port} Status: {state} To shut down/wake up enter {number}")
    };
    lines.extend(rows.iter().enumerate().take(shown).map(line));
    if let rest @ [_, ..] = &rows[shown..] {
        let alive = rest.iter().filter(|row| row.alive).count();
        let (first, last, dead) = (shown + 1, rows.len(), rest.len() - alive);
        lines.push(format!("Servers {first} to {last} do not fit here: {alive} Alive, {dead} Dead"));
    }
    lines.extend(["To quit, enter -1:".to_owned(), String::new()]);
    lines
}

/// Understands a line.
///
/// # Errors
/// What to answer, in one line.
pub(super) fn choose(line: &str, menu: Menu) -> Result<Choice, String> {
    let word = line.trim();
    let last = menu.servers;
    match word.parse::<usize>() {
        _ if word.is_empty() => Ok(Choice::Look),
        _ if word == "-1" => Ok(Choice::Quit),
        Ok(number) if (1..=last).contains(&number) => Ok(Choice::Server(number)),
        Ok(number) if number == last + 1 && menu.check_is_down => Ok(Choice::Check),
        _ => {
            let servers = if last == 1 { "1 for the server".to_owned() } else { format!("1 to {last} for a server") };
            let check = if menu.check_is_down { format!(", {} for the check server", last + 1) } else { String::new() };
            Err(format!("`{}` is not a choice: enter {servers}{check}, or -1 to quit", shortened(word)))
        }
    }
}

/// As much of a word as an answer may repeat, in printable characters.
fn shortened(word: &str) -> String {
    const MOST: usize = 40;
    let mut text = printable(&word.chars().take(MOST).collect::<String>());
    if word.chars().nth(MOST).is_some() {
        text.push('…');
    }
    text
}

/// `text` without anything that would move a terminal's cursor or change its colours.
pub(super) fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MENU: Menu = Menu { servers: 4, check_is_down: false };

    fn rows(states: &[(u16, bool)]) -> Vec<Row> {
        states.iter().map(|&(port, alive)| Row { port, alive }).collect()
    }

    #[test]
    fn the_block_reads_as_it_always_did() {
        let lines = block(&rows(&[(21018, false), (27215, true)]), usize::MAX);
        assert_eq!(
            lines.join("\n") + "\n" + PROMPT,
            "-----\nMultiServer Downloader\n-----\n\
             Server 1 at Port: 21018 Status: Dead To shut down/wake up enter 1\n\
             Server 2 at Port: 27215 Status: Alive To shut down/wake up enter 2\n\
             To quit, enter -1:\n\nEnter your Choice:"
        );
    }

    #[test]
    fn a_block_that_does_not_fit_sums_up_its_end() {
        let many: Vec<_> = (0..100).map(|n| (2000 + n, n % 10 != 9)).collect();
        let lines = block(&rows(&many), 24);
        assert_eq!(lines.len() + 1, 24, "the prompt is the last line");
        assert_eq!(lines[20], "Servers 18 to 100 do not fit here: 74 Alive, 9 Dead");
        assert_eq!(block(&rows(&many), 106).len() + 1, 106, "all fit");
        assert_eq!(block(&rows(&many), 0).len(), FIXED_LINES, "even where nothing fits there is something");
    }

    #[test]
    fn choices_are_understood() {
        for (line, choice) in [
            ("1", Choice::Server(1)),
            (" 4 \r", Choice::Server(4)),
            ("-1", Choice::Quit),
            ("", Choice::Look),
            ("  ", Choice::Look),
        ] {
            assert_eq!(choose(line, MENU), Ok(choice), "{line}");
        }
        assert_eq!(choose("5", Menu { check_is_down: true, ..MENU }), Ok(Choice::Check));
    }

    #[test]
    fn wrong_choices_are_answered_in_one_line() {
        let answer = |line: &str| choose(line, MENU).unwrap_err();
        assert_eq!(answer("5"), "`5` is not a choice: enter 1 to 4 for a server, or -1 to quit");
        for line in ["0", "-2", "quit", "1 2", "1.0", "99999999999999999999", "\x1b[2J", "é"] {
            assert!(answer(line).ends_with("enter 1 to 4 for a server, or -1 to quit"), "{line}");
        }
        let down = Menu { servers: 1, check_is_down: true };
        let line = choose("3", down).unwrap_err();
        assert_eq!(line, "`3` is not a choice: enter 1 for the server, 2 for the check server, or -1 to quit");
        assert!(answer(&"x".repeat(100_000)).len() < 120);
    }

    proptest! {
        #[test]
        fn no_line_panics_or_reaches_the_terminal_raw(line: String) {
            if let Err(answer) = choose(&line, MENU) {
                prop_assert!(!answer.contains(char::is_control));
            }
        }
    }
}

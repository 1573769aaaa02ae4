//! The exit status of the role programs.

/// How a role program ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// The task is done; a file is whole and, where hashes were to be had, verified.
    Done,
    /// The task cannot be done: no source is left, the file is not the expected one, or a receiver was given up.
    Failed,
    /// The command line makes no sense.
    Usage,
    /// This machine does not let it: no space, no permission, the target exists, the port is taken.
    Machine,
    /// Stopped by a signal; what a downloader fetched is kept for `--resume`.
    Interrupted,
}

/// Every exit status with its meaning; the README's table is made of it.
pub const TABLE: &[(u8, &str)] = &[
    (0, "done; the file is whole and has the hashes that were published"),
    (1, "failed: no source has a right file, or not every receiver has it in the end"),
    (2, "the command line makes no sense; nothing was done"),
    (3, "this machine cannot: no space, no permission, the target exists, the port is taken"),
    (130, "interrupted; what a downloader fetched is kept, --resume goes on"),
];

impl Exit {
    /// The status of the process.
    pub const fn status(self) -> u8 {
        match self {
            Exit::Done => 0,
            Exit::Failed => 1,
            Exit::Usage => 2,
            Exit::Machine => 3,
            Exit::Interrupted => 130,
        }
    }
}

/// The table as the end of a `--help`.
pub(crate) fn help() -> String {
    TABLE.iter().fold(String::from("Exit status:\n"), |mut text, (status, meaning)| {
        text.push_str(&format!("  {status:>3}  {meaning}\n"));
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_status_has_a_meaning() {
        for exit in [Exit::Done, Exit::Failed, Exit::Usage, Exit::Machine, Exit::Interrupted] {
            assert!(TABLE.iter().any(|(status, _)| *status == exit.status()));
        }
    }
}

//! Output that never makes the servers wait: a reader that has stopped reading, or a terminal held by Ctrl-S, must
//! not keep a death from being seen or a signal from being heard.

use std::io::Write;
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::time::Duration;

/// Texts that may wait to be written.
const MOST_WAITING: usize = 1024;

/// How long the end waits for a reader.
const PATIENCE: Duration = Duration::from_millis(500);

/// Writes on a thread of its own, in order.
#[derive(Debug)]
pub(super) struct Printer {
    texts: SyncSender<Text>,
}

enum Text {
    Out(String),
    Err(String),
    /// Answered when everything before is written.
    Flush(SyncSender<()>),
}

impl Printer {
    pub(super) fn start() -> std::io::Result<Self> {
        let (texts, waiting) = mpsc::sync_channel(MOST_WAITING);
        std::thread::Builder::new().name("console".into()).spawn(move || write(&waiting))?;
        Ok(Printer { texts })
    }

    /// To stdout. Whether it was taken; it is not while too much waits.
    pub(super) fn out(&self, text: String) -> bool {
        self.texts.try_send(Text::Out(text)).is_ok()
    }

    /// To stderr.
    pub(super) fn err(&self, text: String) -> bool {
        self.texts.try_send(Text::Err(text)).is_ok()
    }

    /// Waits until all is written, but not for a reader that does not read.
    pub(super) fn flush(&self) {
        let (done, all_is_written) = mpsc::sync_channel(1);
        if self.texts.try_send(Text::Flush(done)).is_ok() {
            let _ = all_is_written.recv_timeout(PATIENCE);
        }
    }
}

fn write(texts: &Receiver<Text>) {
    while let Ok(text) = texts.recv() {
        // A reader that is gone is no reason to stop.
        let _ = match text {
            Text::Out(text) => {
                let mut stdout = std::io::stdout().lock();
                stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush())
            }
            Text::Err(text) => std::io::stderr().write_all(text.as_bytes()),
            Text::Flush(done) => {
                let _ = done.try_send(());
                Ok(())
            }
        };
    }
}

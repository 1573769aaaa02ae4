//! The thread that writes, so that whoever reads cannot hold up the run.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Lines that wait for a slow reader take no more than this; further ones are counted and left out.
const MOST_WAITING_BYTES: usize = 64 << 20;

/// Where lines go.
pub(super) enum Sink {
    /// A terminal: one bar, whose message is the panel, and lines above it.
    Terminal(ProgressBar),
    /// Anything else. Panels are left out.
    Writer(Box<dyn Write + Send>),
}

impl Sink {
    pub(super) fn terminal(target: ProgressDrawTarget) -> Self {
        let bar = ProgressBar::with_draw_target(None, target);
        bar.set_style(ProgressStyle::with_template("{msg}").expect("the template is a constant"));
        Sink::Terminal(bar)
    }
}

/// The way to the thread.
pub(super) struct Printer {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    queue: Mutex<Queue>,
    changed: Condvar,
}

#[derive(Default)]
struct Queue {
    lines: VecDeque<String>,
    bytes: usize,
    lost: u64,
    /// The newest panel; older ones that were not drawn are of no interest.
    panel: Option<String>,
    /// What is written last, when the panel is gone.
    last: String,
    finished: bool,
    /// Nobody reads any more.
    closed: bool,
}

impl Printer {
    pub(super) fn start(sink: Sink) -> io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let theirs = Arc::clone(&shared);
        let thread = thread::Builder::new().name("report".to_owned()).spawn(move || write_all(sink, &theirs))?;
        Ok(Printer { shared, thread: Some(thread) })
    }

    /// Adds a line, given without its end.
    pub(super) fn line(&mut self, line: String) {
        self.change(|queue| queue.push(line));
    }

    /// Replaces the panel.
    pub(super) fn panel(&mut self, panel: String) {
        self.change(|queue| queue.panel = Some(panel));
    }

    /// Takes the panel away, writes `last` as it is, and waits until all is written.
    pub(super) fn finish(self, last: &str) {
        self.change(|queue| last.clone_into(&mut queue.last));
    }

    fn change(&self, change: impl FnOnce(&mut Queue)) {
        change(&mut self.shared.lock());
        self.shared.changed.notify_one();
    }
}

impl Drop for Printer {
    fn drop(&mut self) {
        self.change(|queue| queue.finished = true);
        if let Some(thread) = self.thread.take() {
            // Its panic, if any, has been reported by the panic hook; a view is no reason to fail a run.
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for work and takes all of it.
    fn take(&self) -> Queue {
        let queue = self.lock();
        let mut queue = self
            .changed
            .wait_while(queue, |queue| !queue.finished && queue.lines.is_empty() && queue.panel.is_none())
            .unwrap_or_else(PoisonError::into_inner);
        let closed = queue.closed;
        let taken = std::mem::take(&mut *queue);
        queue.closed = closed;
        taken
    }
}

impl Queue {
    fn push(&mut self, line: String) {
        if self.closed {
            return;
        }
        if self.bytes + line.len() > MOST_WAITING_BYTES {
            self.lost += 1;
            return;
        }
        self.bytes += line.len();
        self.lines.push_back(line);
    }
}

fn write_all(mut sink: Sink, shared: &Shared) {
    loop {
        let batch = shared.take();
        if sink.write(&batch).is_err() {
            // Closed: nothing that is written from now on can be seen.
            shared.lock().closed = true;
        }
        if batch.finished {
            // The same holds for the last words.
            let _ = sink.close(&batch.last);
            return;
        }
    }
}

impl Sink {
    fn write(&mut self, batch: &Queue) -> io::Result<()> {
        let lost = (batch.lost > 0).then(|| format!("{{\"lost_lines\":{}}}", batch.lost));
        let lines = batch.lines.iter().chain(&lost);
        match self {
            Sink::Terminal(bar) => {
                for line in lines {
                    bar.println(line);
                }
                if let Some(panel) = &batch.panel {
                    bar.set_message(panel.clone());
                }
                Ok(())
            }
            Sink::Writer(writer) => {
                let mut text = String::with_capacity(batch.bytes + batch.lines.len());
                for line in lines {
                    text.push_str(line);
                    text.push('\n');
                }
                writer.write_all(text.as_bytes())?;
                writer.flush()
            }
        }
    }

    fn close(self, last: &str) -> io::Result<()> {
        let mut writer: Box<dyn Write> = match self {
            Sink::Terminal(bar) => {
                bar.finish_and_clear();
                Box::new(io::stdout())
            }
            Sink::Writer(writer) => writer,
        };
        writer.write_all(last.as_bytes())?;
        writer.flush()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    struct Closed;

    impl Write for Closed {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// Writes nothing until told to, as a terminal that somebody stopped.
    struct Stopped {
        go: mpsc::Receiver<()>,
        written: mpsc::Sender<Vec<u8>>,
    }

    impl Write for Stopped {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let _ = self.go.recv();
            let _ = self.written.send(bytes.to_vec());
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_closed_reader_ends_nothing() {
        let mut printer = Printer::start(Sink::Writer(Box::new(Closed))).unwrap();
        for n in 0..1000 {
            printer.line(format!("{n}"));
        }
        printer.finish("");
    }

    #[test]
    fn a_stopped_reader_holds_up_nobody_and_misses_nothing() {
        let (go, waits) = mpsc::channel();
        let (written, results) = mpsc::channel();
        let mut printer = Printer::start(Sink::Writer(Box::new(Stopped { go: waits, written }))).unwrap();
        // Returning from here at all is the point: the reader takes nothing yet.
        for n in 0..1000 {
            printer.line(format!("{n}"));
        }
        drop(go);
        printer.finish("the end");
        let all: Vec<u8> = results.iter().flatten().collect();
        let expected: String = (0..1000).map(|n| format!("{n}\n")).chain(["the end".to_owned()]).collect();
        assert_eq!(String::from_utf8(all).unwrap(), expected);
    }

    #[test]
    fn what_waits_is_bounded() {
        let mut queue = Queue::default();
        let line = "x".repeat(1 << 20);
        for _ in 0..100 {
            queue.push(line.clone());
        }
        assert_eq!((queue.lines.len(), queue.lost), (64, 36));
    }
}

//! The loop between the processes and the console.

use std::ffi::OsString;
use std::net::IpAddr;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

use event::NodeReport;
use machine::{Rate, Span, Time};
use nix::sys::signal::Signal as Kill;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc::{self, Receiver, Sender};
use tokio::task::AbortHandle;

use super::child::{self, Handle, Told};
use super::console::{Choice, Menu, Row, choose};
use super::editor::Entered;
use super::server::{End, Order, Server};
use super::typing::{self, Typed};
use super::view::{Occasion, View};
use super::{MultiserverError, Setup};
use crate::check_server::watch;
use crate::clock;
use crate::events::EventSink;
use crate::exit::Exit;
use crate::http::Url;

/// Between two questions to a server whether it still answers.
const ASK_EVERY: Span = Span::from_millis(500);

/// Things that processes said and nobody has heard yet; beyond it they wait.
const MOST_UNHEARD: usize = 256;

/// Starts everything, and serves until the end.
pub(super) async fn drive(setup: Setup, events: EventSink) -> Result<Exit, MultiserverError> {
    let mut signals = Signals::catch()?;
    let mut typed = typing::read().map_err(|source| MultiserverError::System { call: "read stdin", source })?;
    let view = View::open().map_err(|source| MultiserverError::System { call: "start a thread", source })?;
    let (tell, mut told) = mpsc::channel(MOST_UNHEARD);
    let mut driver = Driver::new(setup, view, events, tell);
    driver.start_all();
    let exit = driver.run(&mut told, &mut typed, &mut signals).await;
    driver.end_all(&mut told, &mut signals).await;
    driver.view.show(&driver.rows(), Occasion::Other);
    driver.view.close();
    Ok(exit)
}

struct Driver {
    setup: Setup,
    /// The file servers, then the check server.
    posts: Vec<Post>,
    view: View,
    events: EventSink,
    tell: Sender<(usize, Told)>,
    /// Whether the testbed knows that everything runs.
    told_ready: bool,
    /// When the states are shown again.
    due: Time,
}

/// A port, and what runs there.
struct Post {
    name: String,
    port: u16,
    server: Server,
    handle: Option<Handle>,
    /// Asks whether it answers, since it said that it is ready.
    watch: Option<AbortHandle>,
    /// The last line that it said before it was ready: why it could not start, if it could not.
    last_words: Option<String>,
    /// Bytes sent by earlier processes, and by this one.
    sent: (u64, u64),
    connections: u32,
    rate: Rate,
}

struct Signals {
    interrupt: Signal,
    terminate: Signal,
    stop: Signal,
    resume: Signal,
    resize: Signal,
}

impl Driver {
    fn new(setup: Setup, view: View, events: EventSink, tell: Sender<(usize, Told)>) -> Self {
        let ports = setup.ports.servers.iter().enumerate();
        let mut posts: Vec<_> =
            ports.map(|(index, port)| Post::new(format!("Server {} at port {port}", index + 1), *port)).collect();
        posts.extend(setup.ports.check.map(|port| Post::new(format!("the check server at port {port}"), port)));
        let due = clock::now() + setup.interval;
        Driver { setup, posts, view, events, tell, told_ready: false, due }
    }

    fn start_all(&mut self) {
        for index in 0..self.posts.len() {
            let order = self.posts[index].server.start();
            self.carry_out(index, order);
        }
    }

    /// Until somebody wants the end.
    async fn run(
        &mut self,
        told: &mut Receiver<(usize, Told)>,
        typed: &mut Receiver<Typed>,
        signals: &mut Signals,
    ) -> Exit {
        let mut can_type = true;
        let mut shown = Vec::new();
        self.view.show(&self.rows(), Occasion::Other);
        loop {
            let due = self.deadline();
            let mut asked = false;
            tokio::select! {
                biased;
                _ = signals.interrupt.recv() => return self.interrupted(),
                _ = signals.terminate.recv() => return self.interrupted(),
                _ = signals.stop.recv() => {
                    self.view.stop_here();
                    signals.continued().await;
                    self.view.resume();
                }
                _ = signals.resume.recv() => self.view.resume(),
                _ = signals.resize.recv() => self.view.touch(),
                Some((index, told)) = told.recv() => {
                    if self.hear(index, told) {
                        self.view.note("a client has everything: all servers are ended".to_owned());
                        self.view.show(&self.rows(), Occasion::Other);
                        return Exit::Done;
                    }
                }
                heard = typed.recv(), if can_type => match heard {
                    Some(Typed::Bytes(bytes)) => for entered in self.view.typed(&bytes) {
                        match self.enter(entered) {
                            Some(Choice::Quit) => return Exit::Done,
                            choice => asked |= choice == Some(Choice::Look),
                        }
                    },
                    Some(Typed::Foreground) => self.view.resume(),
                    None => can_type = false,
                },
                () = tokio::time::sleep_until(clock::instant(due)) => {}
            }
            self.advance();
            let (now, rows) = (clock::now(), self.rows());
            let is_due = now >= self.due;
            if is_due {
                self.due = now + self.setup.interval;
            }
            // While servers start, each of them would be news.
            let changed = rows != shown && !self.posts.iter().any(|post| post.server.is_coming());
            let occasion = if is_due || changed || asked { Occasion::News } else { Occasion::Other };
            self.view.show(&rows, occasion);
            if occasion == Occasion::News {
                shown = rows;
            }
        }
    }

    fn interrupted(&mut self) -> Exit {
        self.view.note("interrupted: all servers are ended".to_owned());
        self.view.show(&self.rows(), Occasion::Other);
        Exit::Interrupted
    }

    /// Ends every process and waits for that; a second signal makes it short.
    async fn end_all(&mut self, told: &mut Receiver<(usize, Told)>, signals: &mut Signals) {
        let now = clock::now();
        for index in 0..self.posts.len() {
            let order = self.posts[index].server.end(now);
            self.carry_out(index, order);
        }
        while self.posts.iter().any(|post| !post.server.is_down()) {
            let due = self.posts.iter().filter_map(|post| post.server.deadline()).min().unwrap_or(Time::MAX);
            tokio::select! {
                biased;
                _ = signals.interrupt.recv() => self.kill_all(),
                _ = signals.terminate.recv() => self.kill_all(),
                Some((index, told)) = told.recv() => {
                    if let Told::Ended(_) = told {
                        self.posts[index].server.ended();
                    }
                }
                () = tokio::time::sleep_until(clock::instant(due)) => {}
            }
            self.advance();
        }
    }

    fn kill_all(&mut self) {
        for index in 0..self.posts.len() {
            self.carry_out(index, Some(Order::Kill));
        }
    }

    fn advance(&mut self) {
        let now = clock::now();
        for index in 0..self.posts.len() {
            let post = &mut self.posts[index];
            let order = post.server.advance(now);
            if post.server.is_found_silent(now) {
                self.view.note(format!("{} does not answer", post.name));
            }
            self.carry_out(index, order);
        }
    }

    fn deadline(&self) -> Time {
        self.posts.iter().filter_map(|post| post.server.deadline()).fold(self.due, Time::min)
    }

    fn rows(&self) -> Vec<Row> {
        let servers = &self.posts[..self.setup.ports.servers.len()];
        servers.iter().map(|post| Row { port: post.port, alive: post.server.is_alive() }).collect()
    }

    /// Carries out a line that was entered.
    fn enter(&mut self, entered: Entered) -> Option<Choice> {
        let servers = self.setup.ports.servers.len();
        let check = self.posts.get(servers);
        let menu = Menu { servers, check_is_down: check.is_some_and(|check| check.server.is_down()) };
        let line = match entered {
            Entered::Line(line) => line,
            Entered::EndOfInput => {
                self.view.note("the end of the input does not quit: enter -1 for that".to_owned());
                return None;
            }
        };
        match choose(&line, menu) {
            Ok(choice) => {
                let index = match choice {
                    Choice::Server(number) => number - 1,
                    Choice::Check => servers,
                    Choice::Quit | Choice::Look => return Some(choice),
                };
                let order = self.posts[index].server.toggle(clock::now());
                self.carry_out(index, order);
                Some(choice)
            }
            Err(answer) => {
                self.view.note(answer);
                None
            }
        }
    }

    fn carry_out(&mut self, index: usize, order: Option<Order>) {
        let signal = match order {
            None => return,
            Some(Order::Start) => {
                let (role, arguments) = self.command(index);
                let post = &mut self.posts[index];
                post.last_words = None;
                post.handle = Some(child::start(role, &arguments, index, self.tell.clone()));
                return;
            }
            Some(Order::Terminate) => Kill::SIGTERM,
            Some(Order::Kill) => Kill::SIGKILL,
        };
        if let Some(handle) = &self.posts[index].handle {
            handle.signal(signal);
        }
    }

    /// What to run at a post.
    fn command(&self, index: usize) -> (&'static str, Vec<OsString>) {
        let Setup { address, ports, file, rate, until_done, .. } = &self.setup;
        let port = self.posts[index].port.to_string();
        let mut words: Vec<OsString> =
            vec!["--listen".into(), address.to_string().into(), "--port".into(), port.into()];
        if index < ports.servers.len() {
            words.extend(rate.iter().flat_map(|rate| ["--rate".into(), rate.to_string().into()]));
            words.extend(["--".into(), file.into()]);
            return ("file-server", words);
        }
        if *until_done {
            words.push("--until-done".into());
        }
        words.extend(ports.servers.iter().map(|port| watched(*address, *port).to_string().into()));
        ("check-server", words)
    }

    /// Takes what a process lets know. Whether it is the news that a client has everything.
    fn hear(&mut self, index: usize, told: Told) -> bool {
        let is_check = index == self.setup.ports.servers.len();
        let post = &mut self.posts[index];
        match told {
            Told::Report(NodeReport::Ready) => {
                if post.server.ready(clock::now()) {
                    post.watch = Some(watch(watched(self.setup.address, post.port), index, self.tell.clone()));
                    if self.told_ready {
                        self.view.note(format!("{} is up", post.name));
                    }
                    self.tell_ready();
                }
            }
            Told::Answers(answers) => {
                if post.server.answers(clock::now(), answers) {
                    self.view.note(format!("{} answers again", post.name));
                }
            }
            Told::Report(NodeReport::Served { bytes, connections, rate }) => {
                (post.sent.1, post.connections, post.rate) = (bytes, connections, rate);
                self.tell_served();
            }
            Told::Report(report @ NodeReport::Watched { .. }) if is_check => {
                self.events.tell(&report);
            }
            Told::Report(_) => {}
            Told::Line(line) if !post.server.has_been_ready() => post.last_words = Some(line),
            Told::Line(line) => self.view.note(format!("{}: {line}", post.name)),
            // Nobody can shut it down here: it ends well only when it is done.
            Told::Ended(Ok(status)) if is_check && self.setup.until_done && status.success() => {
                post.server.ended();
                return true;
            }
            Told::Ended(status) => self.ended(index, status),
        }
        false
    }

    fn ended(&mut self, index: usize, status: std::io::Result<ExitStatus>) {
        let servers = self.setup.ports.servers.len();
        let post = &mut self.posts[index];
        post.sent = (post.sent.0 + post.sent.1, 0);
        (post.connections, post.rate, post.handle) = (0, Rate::default(), None);
        if let Some(watch) = post.watch.take() {
            watch.abort();
        }
        let (end, order) = post.server.ended();
        let how = match status {
            Ok(status) => in_words(status),
            Err(error) => error.to_string(),
        };
        let name = &post.name;
        let line = match (end, post.last_words.take()) {
            (End::Asked, _) => format!("{name} is shut down"),
            (End::NeverReady, Some(why)) => {
                format!("{name} could not start: {}", why.strip_prefix("error: ").unwrap_or(&why))
            }
            (End::NeverReady, None) => format!("{name} could not start: it {how}"),
            (End::Unasked, _) => format!("{name} {how}"),
        };
        let again = if index == servers { format!("; enter {} to start it again", servers + 1) } else { String::new() };
        self.view.note(format!("{line}{again}"));
        self.carry_out(index, order);
        self.tell_ready();
        self.tell_served();
    }

    /// Tells the testbed, once, that whatever could be started is ready.
    fn tell_ready(&mut self) {
        if !self.told_ready && !self.posts.iter().any(|post| post.server.is_starting()) {
            self.told_ready = true;
            self.events.tell(&NodeReport::Ready);
        }
    }

    /// Tells the testbed what all servers have sent.
    fn tell_served(&self) {
        let sum = self.posts.iter().fold((0, 0, 0_u64), |sum, post| {
            let rate = post.rate.as_bits_per_sec();
            (sum.0 + post.sent.0 + post.sent.1, sum.1 + post.connections, sum.2.saturating_add(rate))
        });
        let rate = Rate::from_bits_per_sec(sum.2);
        self.events.sample(&NodeReport::Served { bytes: sum.0, connections: sum.1, rate });
    }
}

impl Post {
    fn new(name: String, port: u16) -> Self {
        let (server, rate) = (Server::new(), Rate::default());
        Post { name, port, server, handle: None, watch: None, last_words: None, sent: (0, 0), connections: 0, rate }
    }
}

/// Asks the server at `url` whether it answers, as the check server does, and tells what is found.
fn watch(url: Url, number: usize, tell: Sender<(usize, Told)>) -> AbortHandle {
    let watching = async move {
        watch::watch(&url, ASK_EVERY, |answers, _| {
            // While the console has more to hear than it can, an answer is not the news that it lacks; the next one is
            // told again. A death is told by the process.
            let _ = tell.try_send((number, Told::Answers(answers)));
        })
        .await;
    };
    tokio::spawn(watching).abort_handle()
}

/// Where a server of this machine is found from here.
fn watched(address: IpAddr, port: u16) -> Url {
    let host = if address.is_unspecified() { "127.0.0.1".to_owned() } else { address.to_string() };
    Url::new(&host, port, "/")
}

fn in_words(status: ExitStatus) -> String {
    match status.signal() {
        Some(signal) => format!("was killed by signal {signal}"),
        None => format!("ended with exit status {}", status.code().unwrap_or_default()),
    }
}

impl Signals {
    fn catch() -> Result<Self, MultiserverError> {
        let catch = |kind| signal(kind).map_err(|source| MultiserverError::System { call: "catch signals", source });
        Ok(Signals {
            interrupt: catch(SignalKind::interrupt())?,
            terminate: catch(SignalKind::terminate())?,
            stop: catch(SignalKind::from_raw(libc::SIGTSTP))?,
            resume: catch(SignalKind::from_raw(libc::SIGCONT))?,
            resize: catch(SignalKind::window_change())?,
        })
    }

    /// Waits for the signal that continued this process, so that it is not taken for one that came later. A process
    /// that no shell controls was not stopped, and gets none.
    async fn continued(&mut self) {
        let soon = clock::instant(clock::now() + Span::from_millis(50));
        let _ = tokio::time::timeout_at(soon, self.resume.recv()).await;
    }
}

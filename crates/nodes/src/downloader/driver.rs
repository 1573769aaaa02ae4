//! The loop between the engine and the rest.

use std::collections::BTreeMap;
use std::sync::Arc;

use fetch::{
    CloseReason, Config, Digest, Engine, Failure, Hashes, Input, Integrity, Manifest, Outcome, Output, Remains,
    RequestId,
};
use machine::{Machine, Time};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc::{self, Receiver, Sender, UnboundedReceiver};
use tokio::task::AbortHandle;

use super::disk::{Answer, Disk, DiskError};
use super::display::{Display, vouched};
use super::link::Link;
use super::place::{Place, PlaceError, boot};
use super::range::{Outlet, fetch};
use super::reporter::Reporter;
use super::{Args, DownloaderError, ask, check, ports};
use crate::clock;
use crate::events::EventSink;
use crate::exit::Exit;
use crate::http::Url;

/// Arrivals that wait for the engine; beyond it the connections wait. What waits when a range is cut short was received
/// for nothing, so this is small.
const MOST_ARRIVALS: usize = 4;

/// Answers of the disk that are taken at once.
const MOST_ANSWERS: usize = 64;

/// What comes from elsewhere than the sources and the disk.
#[derive(Debug)]
pub(crate) enum Control {
    /// A source to fetch from, and its name.
    Source(Url, String),
    /// A check server to listen to.
    Check(Url),
    /// What a check server says of the server at this URL.
    Liveness(Url, bool),
}

/// Fetches into `place` until the end.
pub(crate) async fn drive(
    args: Args,
    place: Place,
    remains: Option<Remains>,
    events: EventSink,
) -> Result<Exit, DownloaderError> {
    let catch = |kind| signal(kind).map_err(DownloaderError::Signals);
    let mut signals = [catch(SignalKind::interrupt())?, catch(SignalKind::terminate())?];
    let began = clock::now();
    let (answers, disk_answers) = mpsc::unbounded_channel();
    let disk = Disk::start(&place, answers)?;
    let config = Config { expect: args.checksum, remains, ..Config::new(boot()) };
    let (to_driver, arrivals) = mpsc::channel(MOST_ARRIVALS);
    let (to_control, controls) = mpsc::channel(64);
    let mut driver = Driver {
        engine: Engine::new(config),
        disk,
        links: Vec::new(),
        open: BTreeMap::new(),
        to_driver,
        to_control,
        check: None,
        whole: Whole::Unknown,
        expected: args.checksum,
        reporter: Reporter::new(events, args.format),
        display: Display::new(&args, began),
        outcome: None,
    };
    driver.reporter.ready();
    driver.begin(&args);
    let end = driver.run(arrivals, disk_answers, controls, &mut signals).await;
    driver.conclude(place, began, end).await
}

struct Driver {
    engine: Engine,
    disk: Disk,
    /// In the order of the engine's sources.
    links: Vec<Arc<Link>>,
    /// Requests under way.
    open: BTreeMap<RequestId, AbortHandle>,
    to_driver: Sender<Input>,
    to_control: Sender<Control>,
    check: Option<Url>,
    whole: Whole,
    expected: Option<Digest>,
    reporter: Reporter,
    display: Display,
    outcome: Option<Outcome>,
}

/// What sources say of the SHA-256 of the whole.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Whole {
    Unknown,
    Agreed(Digest),
    Disputed,
}

/// Why the loop ended.
enum End {
    Outcome,
    Interrupted,
    Disk(DiskError),
}

impl Driver {
    fn begin(&mut self, args: &Args) {
        if let Some(check) = &args.check {
            self.listen_to(check.clone());
        }
        let same_host = |url: &Url| args.urls.iter().filter(|other| other.host() == url.host()).count() > 1;
        for url in &args.urls {
            // A host with several servers needs the port to tell them apart.
            let name = if same_host(url) { format!("{}:{}", url.host(), url.port()) } else { url.host().to_owned() };
            self.add_source(url.clone(), name);
        }
        for (index, port) in args.ports.iter().enumerate() {
            let url = Url::new(&args.address, *port, "/");
            tokio::spawn(ports::find_out(url, index + 1, self.to_control.clone()));
        }
    }

    async fn run(
        &mut self,
        mut arrivals: Receiver<Input>,
        mut disk_answers: UnboundedReceiver<Answer>,
        mut controls: Receiver<Control>,
        signals: &mut [Signal; 2],
    ) -> End {
        let [interrupt, terminate] = signals;
        let mut inputs = Vec::with_capacity(MOST_ARRIVALS);
        let mut answers = Vec::with_capacity(MOST_ANSWERS);
        loop {
            self.carry_out();
            if self.outcome.is_some() {
                return End::Outcome;
            }
            let now = clock::now();
            self.reporter.sample(now, &self.engine, &self.links);
            self.display.draw(now, &self.engine, &self.links, false);
            let deadline = self.deadline();
            let has_room = self.engine.wants_body();
            tokio::select! {
                biased;
                _ = interrupt.recv() => return End::Interrupted,
                _ = terminate.recv() => return End::Interrupted,
                _ = disk_answers.recv_many(&mut answers, MOST_ANSWERS) => {}
                Some(control) = controls.recv() => self.control(control),
                _ = arrivals.recv_many(&mut inputs, MOST_ARRIVALS), if has_room => {}
                () = tokio::time::sleep_until(clock::instant(deadline)) => {}
            }
            let now = clock::now();
            for answer in answers.drain(..) {
                match answer {
                    Ok(input) => self.engine.handle(now, input),
                    Err(error) => return End::Disk(error),
                }
                self.reporter.touch();
            }
            for input in inputs.drain(..) {
                self.hear(now, input);
            }
            self.engine.advance(now);
        }
    }

    fn deadline(&self) -> Time {
        let engine = self.engine.deadline().map(|(at, _)| at);
        [engine, self.reporter.deadline(), self.display.deadline()].into_iter().flatten().min().unwrap_or(Time::MAX)
    }

    fn hear(&mut self, now: Time, input: Input) {
        match &input {
            // Its hashes follow.
            Input::Described { description, .. } if description.hashes == Hashes::Awaited => {}
            Input::Described { request, .. } | Input::Hashes { request, .. } | Input::Closed { request, .. } => {
                self.open.remove(request);
            }
            _ => {}
        }
        match &input {
            Input::Described { description, .. } => self.note_whole(description.manifest()),
            Input::Hashes { manifest, .. } => self.note_whole(manifest.as_ref()),
            _ => {}
        }
        self.engine.handle(now, input);
        self.reporter.touch();
    }

    fn note_whole(&mut self, manifest: Option<&Arc<Manifest>>) {
        let Some(digest) = manifest.and_then(|manifest| manifest.whole()) else { return };
        self.whole = match self.whole {
            Whole::Unknown => Whole::Agreed(digest),
            Whole::Agreed(known) if known == digest => Whole::Agreed(known),
            Whole::Agreed(_) | Whole::Disputed => Whole::Disputed,
        };
    }

    fn control(&mut self, control: Control) {
        match control {
            Control::Source(url, name) => self.add_source(url, name),
            Control::Check(url) => self.listen_to(url),
            Control::Liveness(url, alive) => {
                let matching = self.links.iter().enumerate().filter(|(_, link)| link.url.same_origin(&url));
                for (index, _) in matching {
                    if let Some(source) = self.engine.source_id(index) {
                        self.engine.handle(clock::now(), Input::Liveness { source, alive });
                    }
                }
            }
        }
        self.reporter.touch();
    }

    fn add_source(&mut self, url: Url, name: String) {
        self.links.push(Arc::new(Link::new(url, name)));
        self.engine.add_source(clock::now());
    }

    fn listen_to(&mut self, check: Url) {
        self.check = Some(check.clone());
        tokio::spawn(check::listen(check, self.to_control.clone()));
    }

    fn carry_out(&mut self) {
        while let Some(output) = self.engine.poll() {
            let Some(output) = self.disk.carry_out(output) else { continue };
            match output {
                Output::Describe { request, source, manifest } => {
                    let (link, to_driver) = (Arc::clone(&self.links[source.index()]), self.to_driver.clone());
                    self.spawn(request, async move {
                        let outlet = Outlet { request, to_driver };
                        if let Err(trouble) = ask::describe(&link, manifest, &outlet).await {
                            link.failed(&trouble);
                            outlet.put(Input::Closed { request, why: trouble.reason() }).await;
                        }
                    });
                }
                Output::Open { request, source, range, validator } => {
                    let (link, to_driver) = (Arc::clone(&self.links[source.index()]), self.to_driver.clone());
                    self.spawn(request, async move {
                        let outlet = Outlet { request, to_driver };
                        let why = match fetch(&link, range, validator.as_ref(), &outlet).await {
                            Ok(()) => CloseReason::Complete,
                            Err(trouble) => {
                                link.failed(&trouble);
                                trouble.reason()
                            }
                        };
                        outlet.put(Input::Closed { request, why }).await;
                    });
                }
                Output::Cancel { request } => {
                    if let Some(task) = self.open.remove(&request) {
                        task.abort();
                    }
                }
                Output::Note(note) => {
                    self.display.note(&note, &self.links);
                    if let fetch::Note::Source { source, .. } = note {
                        let index = source.index();
                        self.reporter.source(index, &self.links[index], &self.engine);
                    }
                }
                Output::Finished(outcome) => self.outcome = Some(outcome),
                Output::Prepare { .. }
                | Output::Write { .. }
                | Output::Append { .. }
                | Output::Sync { .. }
                | Output::Hash { .. }
                | Output::HashFile { .. } => unreachable!("the disk takes these"),
            }
        }
    }

    fn spawn(&mut self, request: RequestId, work: impl Future<Output = ()> + Send + 'static) {
        self.open.insert(request, tokio::spawn(work).abort_handle());
    }

    /// Brings the disk to rest, puts the file in its place, tells everybody.
    async fn conclude(mut self, place: Place, began: Time, end: End) -> Result<Exit, DownloaderError> {
        self.open.values().for_each(AbortHandle::abort);
        self.display.draw(clock::now(), &self.engine, &self.links, true);
        self.reporter.last_progress(&self.engine, &self.links);
        let progress = self.engine.progress();
        let disk = self.disk;
        match (end, self.outcome) {
            (End::Disk(error), _) => {
                // Its threads may still work on a disk that fails; the lock goes with the process.
                Err(error.into())
            }
            (End::Interrupted, _) | (End::Outcome, None) => {
                blocking(move || disk.finish()).await;
                place.leave();
                self.display.say("interrupted; --resume goes on from here");
                Ok(Exit::Interrupted)
            }
            (End::Outcome, Some(Outcome::Failed(failure))) => {
                let known_wrong = matches!(failure, Failure::Digest { .. });
                blocking(move || {
                    disk.finish();
                    if known_wrong { place.discard() } else { place.leave() }
                })
                .await;
                self.display.say(&format!("failed: {failure}"));
                for link in &self.links {
                    if let Some(trouble) = link.trouble() {
                        self.display.say(&format!("  {}: {trouble}", link.name));
                    }
                }
                Ok(Exit::Failed)
            }
            (End::Outcome, Some(Outcome::Complete { integrity })) => {
                let completed: Result<_, PlaceError> = blocking(move || {
                    disk.finish();
                    place.complete()
                })
                .await;
                let target = completed?;
                let length = progress.length.unwrap_or_default();
                let published = if let Whole::Agreed(digest) = self.whole { Some(digest) } else { None };
                let sha256 = self.expected.or(published).filter(|_| integrity != Integrity::Transport);
                self.reporter.finished(length, sha256);
                self.display.say(&format!(
                    "{}: {length} bytes in {:.2} s; {}; {} bytes received for nothing",
                    target.display(),
                    clock::now().since(began).as_secs_f64(),
                    vouched(integrity),
                    progress.wasted,
                ));
                if let Some(check) = &self.check {
                    check::tell_done(check).await;
                }
                Ok(Exit::Done)
            }
        }
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(work).await.expect("disk work does not panic and is not cancelled")
}

//! The loop between the engine and the rest.

use std::collections::BTreeMap;
use std::sync::Arc;

use fetch::{
    CloseReason, Config, Engine, Expectation, Failure, Hashes, Input, Manifest, Outcome, Output, Remains, RequestId,
    SourceState,
};
use machine::{Machine, Time};
use tokio::sync::mpsc::{self, Receiver, Sender, UnboundedReceiver};
use tokio::task::AbortHandle;

use super::disk::{Answer, Disk, DiskError};
use super::display::{Display, vouched};
use super::expected::Expected;
use super::link::Link;
use super::place::{Place, PlaceError, boot};
use super::range::{Outlet, fetch};
use super::reporter::Reporter;
use super::roster::{Control, Roster, Signals};
use super::watched::{Watched, look_up};
use super::{Args, DownloaderError, ask, check};
use crate::clock;
use crate::exit::Exit;
use crate::http::Url;
use crate::http::tls::Trust;
use crate::throttle::Throttle;

/// Arrivals that wait for the engine; beyond it the connections wait. What waits when a range is cut short was received
/// for nothing, so this is small.
const MOST_ARRIVALS: usize = 4;

/// Answers of the disk that are taken at once.
const MOST_ANSWERS: usize = 64;

/// Fetches into `place` from everybody on the roster, until the end.
pub(crate) async fn drive(
    args: Args,
    roster: Roster,
    place: Place,
    remains: Option<Remains>,
    reporter: Reporter,
) -> Result<Exit, DownloaderError> {
    let began = clock::now();
    let (answers, disk_answers) = mpsc::unbounded_channel();
    let disk = Disk::start(&place, answers)?;
    let config = Config { expect: args.checksum, remains, segments: args.segments, ..Config::new(boot()) };
    let (to_driver, arrivals) = mpsc::channel(MOST_ARRIVALS);
    let Roster { trust, links, check, to_control, controls, mut signals } = roster;
    let mut driver = Driver {
        engine: Engine::new(config),
        trust,
        disk,
        throttle: args.limit_rate.map(|rate| Arc::new(Throttle::new(rate))),
        links: Vec::new(),
        open: BTreeMap::new(),
        to_driver,
        to_control,
        check: None,
        expected: Expected::new(args.checksum),
        watched: Watched::default(),
        reporter,
        display: Display::new(&args, began),
        outcome: None,
    };
    if let Some(check) = check {
        driver.listen_to(check);
    }
    links.into_iter().for_each(|link| driver.add_source(link));
    let end = driver.run(arrivals, disk_answers, controls, &mut signals).await;
    driver.conclude(place, began, end).await
}

struct Driver {
    engine: Engine,
    trust: Trust,
    disk: Disk,
    throttle: Option<Arc<Throttle>>,
    /// In the order of the engine's sources.
    links: Vec<Arc<Link>>,
    /// Requests under way.
    open: BTreeMap<RequestId, AbortHandle>,
    to_driver: Sender<Input>,
    to_control: Sender<Control>,
    check: Option<Url>,
    expected: Expected,
    watched: Watched,
    reporter: Reporter,
    display: Display,
    outcome: Option<Outcome>,
}

/// Why the loop ended.
enum End {
    Outcome,
    Interrupted,
    Disk(DiskError),
}

impl Driver {
    async fn run(
        &mut self,
        mut arrivals: Receiver<Input>,
        mut disk_answers: UnboundedReceiver<Answer>,
        mut controls: Receiver<Control>,
        signals: &mut Signals,
    ) -> End {
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
                () = signals.next() => return End::Interrupted,
                _ = disk_answers.recv_many(&mut answers, MOST_ANSWERS) => {}
                Some(control) = controls.recv() => {
                    self.control(control);
                    // Whoever has a lot to say must not keep bytes waiting.
                    while has_room && inputs.len() < MOST_ARRIVALS && let Ok(input) = arrivals.try_recv() {
                        inputs.push(input);
                    }
                }
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
        if let Some(digest) = manifest.and_then(|manifest| manifest.whole()) {
            self.expected.published(digest);
            self.say_contradictions();
        }
    }

    fn say_contradictions(&mut self) {
        for line in self.expected.contradictions() {
            self.display.say(line);
        }
    }

    fn control(&mut self, control: Control) {
        match control {
            Control::Source(url, name) => {
                self.add_source(Arc::new(Link::new(url, name, self.trust.clone(), self.to_control.clone())));
            }
            Control::Remark(line) => self.display.say(&line),
            Control::Check(url) => self.listen_to(url),
            Control::Liveness(said) => {
                let about = self.watched.hear(&said, &self.links);
                about.into_iter().for_each(|index| self.live(index, said.alive));
            }
            Control::Resolved(index, addresses) => {
                if let Some(alive) = self.watched.resolved(index, addresses, &self.links) {
                    self.live(index, alive);
                }
            }
            Control::File(view) => {
                let told = self.expected.check(view);
                self.say_contradictions();
                self.engine.handle(clock::now(), Input::Expect(told));
            }
        }
        self.reporter.touch();
    }

    fn live(&mut self, index: usize, alive: bool) {
        if let Some(source) = self.engine.source_id(index) {
            self.engine.handle(clock::now(), Input::Liveness { source, alive });
        }
    }

    fn add_source(&mut self, link: Arc<Link>) {
        if self.check.is_some() {
            tokio::spawn(look_up(self.links.len(), link.url.clone(), self.to_control.clone()));
        }
        self.links.push(link);
        self.engine.add_source(clock::now());
    }

    fn listen_to(&mut self, check: Url) {
        // Until it has said whether it does, it may know the hash of the file.
        self.engine.handle(clock::now(), Input::Expect(Expectation::Awaited));
        self.check = Some(check.clone());
        for (index, link) in self.links.iter().enumerate() {
            tokio::spawn(look_up(index, link.url.clone(), self.to_control.clone()));
        }
        tokio::spawn(check::listen(check, self.trust.clone(), self.to_control.clone()));
    }

    fn carry_out(&mut self) {
        while let Some(output) = self.engine.poll() {
            let Some(output) = self.disk.carry_out(output) else { continue };
            match output {
                Output::Describe { request, source, manifest } => {
                    let (link, to_driver) = (Arc::clone(&self.links[source.index()]), self.to_driver.clone());
                    let throttle = self.throttle.clone();
                    self.spawn(request, async move {
                        let outlet = Outlet { request, to_driver, throttle };
                        if let Err(trouble) = ask::describe(&link, manifest, &outlet).await {
                            link.failed(&trouble);
                            outlet.put(Input::Closed { request, why: trouble.reason() }).await;
                        }
                    });
                }
                Output::Open { request, source, range, validator } => {
                    let (link, to_driver) = (Arc::clone(&self.links[source.index()]), self.to_driver.clone());
                    let throttle = self.throttle.clone();
                    self.spawn(request, async move {
                        let outlet = Outlet { request, to_driver, throttle };
                        let why = match fetch(&link, range, validator.as_ref(), &outlet).await {
                            Ok(None) => CloseReason::Complete,
                            Ok(Some(trouble)) => {
                                link.remark(&format!("{} (after a whole range)", trouble.line()));
                                CloseReason::Complete
                            }
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
                    if let fetch::Note::Identified { length, .. } = note {
                        self.expected.length(length);
                        self.say_contradictions();
                    }
                    if let fetch::Note::Source { source, state } = note {
                        let index = source.index();
                        if matches!(state, SourceState::Down(_) | SourceState::SetApart(_)) {
                            self.links[index].hang_up();
                        }
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
        match end {
            End::Interrupted => self.display.leave(clock::now(), &self.engine),
            _ => self.display.draw(clock::now(), &self.engine, &self.links, true),
        }
        self.reporter.last_progress(&self.engine, &self.links);
        let progress = self.engine.progress();
        let disk = self.disk;
        match (end, self.outcome) {
            // The disk's threads may still work on a disk that fails; the lock goes with the process.
            (End::Disk(DiskError::Cut { .. }), _) => Err(place.changed().into()),
            (End::Disk(error), _) => {
                let has_written = disk.has_written();
                let kept = place.leave(has_written);
                if kept > 0 || has_written {
                    self.display.say(&format!("{kept} bytes are kept; --continue goes on from here"));
                }
                Err(error.into())
            }
            (End::Interrupted, _) | (End::Outcome, None) => {
                let kept = blocking(move || {
                    let has_written = disk.has_written();
                    disk.finish();
                    place.leave(has_written)
                })
                .await;
                self.display.say(&format!("interrupted; {kept} bytes are kept, --resume goes on from here"));
                Ok(Exit::Interrupted)
            }
            (End::Outcome, Some(Outcome::Failed(failure))) => {
                let known_wrong = matches!(failure, Failure::Digest { .. });
                blocking(move || {
                    let has_written = disk.has_written();
                    disk.finish();
                    if known_wrong { place.discard() } else { _ = place.leave(has_written) }
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
                let length = progress.length.unwrap_or_default();
                let completed: Result<_, PlaceError> = blocking(move || {
                    let was_written = disk.finish();
                    place.complete(length, was_written)
                })
                .await;
                let target = completed?;
                self.reporter.finished(length, self.expected.digest(integrity));
                self.display.say(&format!(
                    "{}: {length} bytes in {:.2} s; {}; {} bytes received for nothing",
                    target.display(),
                    clock::now().since(began).as_secs_f64(),
                    vouched(integrity),
                    progress.wasted,
                ));
                if let Some(check) = &self.check {
                    check::tell_done(check, &self.trust).await;
                }
                Ok(Exit::Done)
            }
        }
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(work).await.expect("disk work does not panic and is not cancelled")
}

//! What a log says of a recording.

use event::{Changed, Event, LinkChange, Record, RecordedLinks, RecordedPort, Recording};
use link::{Trace, Traces};
use machine::{Seed, Time};

/// Everything beside the captures that decides about packets.
#[derive(Clone, Debug)]
pub struct Recorded {
    /// The topology's name.
    pub name: String,
    /// The run's one seed.
    pub seed: Seed,
    /// What was recorded.
    pub links: RecordedLinks,
    /// What happened to the links, in order.
    pub changes: Vec<LinkChange>,
    /// Until when everything was recorded, by the relay's clock.
    pub ended: Time,
    pub(crate) traces: Traces,
}

/// Why nothing can be decided again.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotReplayable {
    /// Not the log of a run.
    #[error("it holds no run")]
    NoRun,
    /// Its log does not say what its links were.
    #[error("its recording does not say what its links were: an earlier version made it")]
    TooOld,
    /// Nobody asked for a recording.
    #[error("its packets were not recorded; `{repeat} --pcap` records them")]
    NotRecorded {
        /// The command that repeats the run.
        repeat: String,
    },
    /// The log does not say where the recording ends.
    #[error("its recording has no end: the run was killed or cut short, or still goes on")]
    Unended,
    /// Something is missing in the captures.
    #[error("{unrecorded} packets are in none of its captures: {why}")]
    Unrecorded {
        /// How many.
        unrecorded: u64,
        /// As far as the log says.
        why: String,
    },
    /// The log says what cannot be.
    #[error("its log contradicts itself: {0}")]
    Contradiction(String),
}

impl Recorded {
    /// What a run's records say.
    ///
    /// # Errors
    ///
    /// When they do not say enough, or contradict themselves.
    pub fn from_records(records: impl IntoIterator<Item = Record>) -> Result<Recorded, NotReplayable> {
        let (mut run, mut links, mut recording) = (None, None, None);
        let mut changes = Vec::new();
        for Record { event, .. } in records {
            match event {
                Event::RunBegan { name, seed, repeat, .. } => run = Some((name, seed, repeat)),
                Event::RecordingBegan(found) => links = Some(found),
                Event::LinksChanged(change) => changes.push(change),
                Event::PacketsRecorded(found) => recording = Some(found),
                _ => {}
            }
        }
        let (name, seed, repeat) = run.ok_or(NotReplayable::NoRun)?;
        let missing = if recording.is_some() { NotReplayable::TooOld } else { NotReplayable::NotRecorded { repeat } };
        let links: RecordedLinks = links.ok_or(missing)?;
        let Recording { unrecorded, failed, ended_ns, .. } = recording.ok_or(NotReplayable::Unended)?;
        if unrecorded > 0 || failed.is_some() {
            let why = failed.unwrap_or_else(|| "the disk did not keep up".to_owned());
            return Err(NotReplayable::Unrecorded { unrecorded, why });
        }
        let mut traces = Traces::new();
        for trace in &links.traces {
            let wrong = |error| NotReplayable::Contradiction(format!("trace `{}`: {error}", trace.name));
            traces.insert(trace.name.clone(), Trace::from_instants(&trace.name, &trace.instants_ms).map_err(wrong)?);
        }
        let recorded = Recorded { name, seed, links, changes, ended: Time::from_nanos(ended_ns), traces };
        recorded.check()?;
        Ok(recorded)
    }

    /// t = 0 of the run, by the relay's clock.
    pub fn started(&self) -> Option<Time> {
        let began = self.changes.iter().find(|change| change.change == Changed::TracesBegan);
        began.map(|change| Time::from_nanos(change.relay_ns))
    }

    /// All ports of all networks, in order.
    pub fn ports(&self) -> impl Iterator<Item = &RecordedPort> {
        self.links.networks.iter().flat_map(|network| &network.ports)
    }

    /// Whether every position and every name leads somewhere.
    fn check(&self) -> Result<(), NotReplayable> {
        let wrong = |why: String| Err(NotReplayable::Contradiction(why));
        for network in &self.links.networks {
            let ports = network.ports.len();
            if let Some(pair) = network.pairs.iter().find(|pair| pair.from.max(pair.to) >= ports) {
                return wrong(format!(
                    "a pair of ports {} and {} on {} with {ports} ports",
                    pair.from, pair.to, network.name
                ));
            }
        }
        // They become names of files.
        let strange = |name: &str| name.is_empty() || name.starts_with('.') || name.contains(['/', '\0']);
        if let Some(port) = self.ports().find(|port| strange(&port.node) || strange(&port.interface)) {
            return wrong(format!("a node called {:?} with an interface {:?}", port.node, port.interface));
        }
        let networks = self.links.networks.len();
        if let Some(change) = self.changes.iter().find(|change| change.entered.len() != networks) {
            return wrong(format!("a change tells of {} networks, there are {networks}", change.entered.len()));
        }
        Ok(())
    }
}

//! Links as a file writes them: halves with only what is named, and shorthands.

use std::fmt;

use link::{Burst, HalfLink, Ordinals, Profile, Queue};
use machine::{Rate, Ratio, Size, Span};
use serde::de::value::MapAccessDeserializer;
use serde::de::{self, Deserialize, Deserializer, MapAccess, Visitor};
use serde::{Serialize, Serializer};

use super::trace::TraceSpec;
use super::words::Scalar;
use crate::yaml::At;

/// One direction; what is absent is not named.
#[derive(Clone, Debug, Default, PartialEq, Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct HalfSpec {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) rate: Option<At<Rate>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) delay: Option<At<Span>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) jitter: Option<At<Span>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) loss: Option<At<Ratio>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) burst: Option<At<Burst>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) drop: Option<At<Vec<At<Scalar>>>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) reorder: Option<At<Ratio>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) duplicate: Option<At<Ratio>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) corrupt: Option<At<Ratio>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) queue: Option<At<QueueSpec>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) trace: Option<At<TraceSpec>>,
}

impl HalfSpec {
    /// Lays what is named over `half`. Loss is one thing: naming `loss` ends `burst` and the other way round, and so do
    /// `rate` and `trace`.
    pub(crate) fn apply(&self, half: &mut HalfLink) {
        if let Some(rate) = &self.rate {
            half.rate = Some(rate.value);
            half.trace = None;
        }
        if let Some(trace) = &self.trace {
            half.trace.clone_from(&trace.value.trace);
            half.rate = None;
        }
        if let Some(loss) = &self.loss {
            half.loss = loss.value;
            half.burst = None;
        }
        if let Some(burst) = &self.burst {
            half.burst = Some(burst.value);
            half.loss = Ratio::ZERO;
        }
        if let Some(drop) = &self.drop {
            // What is no ordinal has a finding of its own.
            half.drop = drop.value.iter().filter_map(|one| one.value.0.parse::<Ordinals>().ok()).collect();
        }
        set(&mut half.delay, &self.delay);
        set(&mut half.jitter, &self.jitter);
        set(&mut half.reorder, &self.reorder);
        set(&mut half.duplicate, &self.duplicate);
        set(&mut half.corrupt, &self.corrupt);
        if let Some(queue) = &self.queue {
            half.queue = Some(queue.value.0);
        }
    }
}

fn set<T: Copy>(field: &mut T, named: &Option<At<T>>) {
    if let Some(named) = named {
        *field = named.value;
    }
}

/// Both directions: `{up: …, down: …}`, or the fields of a half for both alike.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum LinkSpec {
    /// Absent is not named.
    Halves {
        up: Option<Box<At<HalfSpec>>>,
        down: Option<Box<At<HalfSpec>>>,
    },
    Alike(Box<HalfSpec>),
}

impl LinkSpec {
    pub(crate) fn apply(&self, profile: &mut Profile) {
        match self {
            LinkSpec::Halves { up, down } => {
                if let Some(up) = up {
                    up.value.apply(&mut profile.up);
                }
                if let Some(down) = down {
                    down.value.apply(&mut profile.down);
                }
            }
            LinkSpec::Alike(half) => {
                half.apply(&mut profile.up);
                half.apply(&mut profile.down);
            }
        }
    }

    pub(crate) fn profile(&self) -> Profile {
        let mut profile = Profile::default();
        self.apply(&mut profile);
        profile
    }

    pub(crate) fn halves(&self) -> impl Iterator<Item = &HalfSpec> {
        let (first, second) = match self {
            LinkSpec::Halves { up, down } => {
                (up.as_ref().map(|half| &half.value), down.as_ref().map(|half| &half.value))
            }
            LinkSpec::Alike(half) => (Some(half.as_ref()), None),
        };
        first.into_iter().chain(second)
    }

    /// What it names, to be completed.
    pub(super) fn halves_mut(&mut self) -> impl Iterator<Item = &mut HalfSpec> {
        let (first, second) = match self {
            LinkSpec::Halves { up, down } => {
                (up.as_mut().map(|half| &mut half.value), down.as_mut().map(|half| &mut half.value))
            }
            LinkSpec::Alike(half) => (Some(half.as_mut()), None),
        };
        first.into_iter().chain(second)
    }
}

/// Every field that a link may have, before it is known which form it takes.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct LinkFields {
    up: Option<Box<At<HalfSpec>>>,
    down: Option<Box<At<HalfSpec>>>,
    rate: Option<At<Rate>>,
    delay: Option<At<Span>>,
    jitter: Option<At<Span>>,
    loss: Option<At<Ratio>>,
    burst: Option<At<Burst>>,
    drop: Option<At<Vec<At<Scalar>>>>,
    reorder: Option<At<Ratio>>,
    duplicate: Option<At<Ratio>>,
    corrupt: Option<At<Ratio>>,
    queue: Option<At<QueueSpec>>,
    trace: Option<At<TraceSpec>>,
}

impl LinkFields {
    fn into_spec<E: de::Error>(self) -> Result<LinkSpec, E> {
        let LinkFields { up, down, rate, delay, jitter, loss, burst, drop, reorder, duplicate, corrupt, queue, trace } =
            self;
        let alike = HalfSpec { rate, delay, jitter, loss, burst, drop, reorder, duplicate, corrupt, queue, trace };
        if up.is_none() && down.is_none() {
            return Ok(LinkSpec::Alike(Box::new(alike)));
        }
        if alike != HalfSpec::default() {
            return Err(E::custom(
                "a link has either `up` and `down`, or the fields of a half for both alike, not a mix",
            ));
        }
        Ok(LinkSpec::Halves { up, down })
    }
}

impl<'de> Deserialize<'de> for LinkSpec {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        LinkFields::deserialize(deserializer)?.into_spec()
    }
}

impl Serialize for LinkSpec {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            LinkSpec::Alike(half) => half.serialize(serializer),
            LinkSpec::Halves { up, down } => {
                let halves = [("up", up), ("down", down)];
                serializer.collect_map(halves.into_iter().filter_map(|(name, half)| Some((name, half.as_ref()?))))
            }
        }
    }
}

/// A profile's name or a link of its own.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub(crate) enum LinkRef {
    Name(String),
    Own(Box<LinkSpec>),
}

impl<'de> Deserialize<'de> for LinkRef {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct LinkRefVisitor;

        impl<'de> Visitor<'de> for LinkRefVisitor {
            type Value = LinkRef;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the name of a link profile or a map")
            }

            fn visit_str<E: de::Error>(self, name: &str) -> Result<LinkRef, E> {
                Ok(LinkRef::Name(name.to_owned()))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<LinkRef, A::Error> {
                LinkSpec::deserialize(MapAccessDeserializer::new(map)).map(|own| LinkRef::Own(Box::new(own)))
            }
        }

        deserializer.deserialize_any(LinkRefVisitor)
    }
}

/// `64KiB`, or packets as `100` or `100p`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct QueueSpec(pub(crate) Queue);

impl<'de> Deserialize<'de> for QueueSpec {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct QueueVisitor;

        impl Visitor<'_> for QueueVisitor {
            type Value = QueueSpec;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a queue such as 64KiB, or 100 packets")
            }

            fn visit_u64<E: de::Error>(self, packets: u64) -> Result<QueueSpec, E> {
                let packets = u32::try_from(packets).map_err(|_| {
                    E::custom(format!("a queue of {packets} packets is too long; for bytes write {packets}B"))
                })?;
                Ok(QueueSpec(Queue::Packets(packets)))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<QueueSpec, E> {
                match text.trim().strip_suffix('p').map(str::parse) {
                    Some(Ok(packets)) => self.visit_u64(packets),
                    _ => text.parse().map(|size: Size| QueueSpec(Queue::Bytes(size))).map_err(E::custom),
                }
            }
        }

        deserializer.deserialize_any(QueueVisitor)
    }
}

impl Serialize for QueueSpec {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Queue::Bytes(size) => serializer.collect_str(&format_args!("{size}")),
            Queue::Packets(packets) => serializer.collect_str(&format_args!("{packets}p")),
        }
    }
}

//! Links as they are written down: a trace by its name alone, for it is long and many links share it.

use std::collections::BTreeMap;

use machine::{Rate, Ratio, Span};
use serde::{Deserialize, Serialize};

use crate::{Burst, DropList, HalfLink, Profile, Queue, Trace};

/// One direction of a link as it is written down; the fields are those of [`HalfLink`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct WrittenHalf {
    /// See [`HalfLink::rate`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate: Option<Rate>,
    /// See [`HalfLink::delay`].
    #[serde(skip_serializing_if = "is_no_time")]
    pub delay: Span,
    /// See [`HalfLink::jitter`].
    #[serde(skip_serializing_if = "is_no_time")]
    pub jitter: Span,
    /// See [`HalfLink::loss`].
    #[serde(skip_serializing_if = "is_zero")]
    pub loss: Ratio,
    /// See [`HalfLink::burst`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub burst: Option<Burst>,
    /// See [`HalfLink::drop`].
    #[serde(skip_serializing_if = "DropList::is_empty")]
    pub drop: DropList,
    /// See [`HalfLink::reorder`].
    #[serde(skip_serializing_if = "is_zero")]
    pub reorder: Ratio,
    /// See [`HalfLink::duplicate`].
    #[serde(skip_serializing_if = "is_zero")]
    pub duplicate: Ratio,
    /// See [`HalfLink::corrupt`].
    #[serde(skip_serializing_if = "is_zero")]
    pub corrupt: Ratio,
    /// See [`HalfLink::queue`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub queue: Option<Queue>,
    /// The name of [`HalfLink::trace`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trace: Option<String>,
}

/// Both directions of a link as they are written down.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct WrittenProfile {
    /// Leaving the node.
    pub up: WrittenHalf,
    /// Reaching the node.
    pub down: WrittenHalf,
}

/// A link follows a trace that is nowhere to be found.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no trace `{name}`")]
pub struct UnknownTrace {
    /// What it is called.
    pub name: String,
}

/// Traces by their names.
pub type Traces = BTreeMap<String, Trace>;

impl WrittenHalf {
    /// The half link that was written down.
    ///
    /// # Errors
    ///
    /// When its trace is not among `traces`.
    pub fn read(&self, traces: &Traces) -> Result<HalfLink, UnknownTrace> {
        let find = |name: &String| traces.get(name).cloned().ok_or_else(|| UnknownTrace { name: name.clone() });
        Ok(HalfLink {
            rate: self.rate,
            delay: self.delay,
            jitter: self.jitter,
            loss: self.loss,
            burst: self.burst,
            drop: self.drop.clone(),
            reorder: self.reorder,
            duplicate: self.duplicate,
            corrupt: self.corrupt,
            queue: self.queue,
            trace: self.trace.as_ref().map(find).transpose()?,
        })
    }
}

impl WrittenProfile {
    /// The link that was written down.
    ///
    /// # Errors
    ///
    /// When a trace of it is not among `traces`.
    pub fn read(&self, traces: &Traces) -> Result<Profile, UnknownTrace> {
        Ok(Profile { up: self.up.read(traces)?, down: self.down.read(traces)? })
    }
}

impl From<HalfLink> for WrittenHalf {
    fn from(half: HalfLink) -> Self {
        let HalfLink { rate, delay, jitter, loss, burst, drop, reorder, duplicate, corrupt, queue, trace } = half;
        let trace = trace.map(|trace| trace.name().to_owned());
        WrittenHalf { rate, delay, jitter, loss, burst, drop, reorder, duplicate, corrupt, queue, trace }
    }
}

impl From<Profile> for WrittenProfile {
    fn from(Profile { up, down }: Profile) -> Self {
        WrittenProfile { up: up.into(), down: down.into() }
    }
}

fn is_no_time(span: &Span) -> bool {
    span.is_zero()
}

fn is_zero(ratio: &Ratio) -> bool {
    *ratio == Ratio::ZERO
}

#[cfg(test)]
mod tests {
    use machine::Size;
    use proptest::prelude::*;

    use super::*;

    fn ratio() -> impl Strategy<Value = Ratio> {
        (0..=1_000_000_000u32).prop_map(|parts| Ratio::from_parts_per_billion(parts).unwrap())
    }

    fn queue() -> impl Strategy<Value = Queue> {
        prop_oneof![
            any::<u64>().prop_map(|bytes| Queue::Bytes(Size::from_bytes(bytes))),
            any::<u32>().prop_map(Queue::Packets)
        ]
    }

    prop_compose! {
        fn half()(
            rate in prop::option::of(any::<u64>().prop_map(Rate::from_bits_per_sec)),
            (delay, jitter) in (any::<u64>().prop_map(Span::from_nanos), any::<u64>().prop_map(Span::from_nanos)),
            (loss, reorder, duplicate, corrupt) in (ratio(), ratio(), ratio(), ratio()),
            burst in prop::option::of((ratio(), ratio(), ratio(), ratio()).prop_map(|(p, r, good, bad)| Burst { p, r, good, bad })),
            drop in prop::collection::vec(1..50u64, 0..4),
            queue in prop::option::of(queue()),
            traced in any::<bool>(),
        ) -> HalfLink {
            let drop = drop.iter().map(|ordinal| ordinal.to_string().parse::<crate::Ordinals>().unwrap()).collect();
            let trace = traced.then(|| Trace::parse("some/trace", "1\n4\n").unwrap());
            HalfLink { rate, delay, jitter, loss, burst, drop, reorder, duplicate, corrupt, queue, trace }
        }
    }

    proptest! {
        #[test]
        fn a_link_that_was_written_down_is_read_as_it_was(up in half(), down in half()) {
            let profile = Profile { up, down };
            let text = serde_json::to_string(&profile).unwrap();
            let written: WrittenProfile = serde_json::from_str(&text).unwrap();
            prop_assert_eq!(&written, &WrittenProfile::from(profile.clone()));
            let traces: Traces = [("some/trace".to_owned(), Trace::parse("some/trace", "1\n4\n").unwrap())].into();
            prop_assert_eq!(written.read(&traces), Ok(profile.clone()));
            if profile.up.trace.is_some() {
                prop_assert_eq!(written.read(&Traces::new()), Err(UnknownTrace { name: "some/trace".to_owned() }));
            }
        }
    }
}

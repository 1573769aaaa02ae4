//! `role: p2mp-sender`: sends one file to several receivers at once.

use machine::{Rate, Size, Span};
use serde::{Deserialize, Serialize};

use super::RoleSpec;
use crate::findings::Findings;
use crate::plan::{Role, SegmentTimeout, TransferMode};
use crate::resolve::names::Directory;
use crate::spec::Names;
use crate::yaml::At;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct P2mpSender {
    to: At<Names>,
    file: At<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mss: Option<At<Size>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mode: Option<At<ModeWord>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    timeout: Option<At<Span>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    timeout_mode: Option<At<TimeoutWord>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    give_up: Option<At<Span>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    multicast: Option<At<bool>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rate: Option<At<Rate>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum ModeWord {
    StopAndWait,
    Fast,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum TimeoutWord {
    Adaptive,
    Fixed,
    Shared,
}

/// What fits into a UDP datagram over IPv4 beside the protocol's header of eight bytes.
const MAX_MSS: u64 = 65_499;
/// Fits into an Ethernet frame beside the headers of IPv6, and of a tunnel.
const DEFAULT_MSS: u32 = 1400;
/// The fast mode finds out what passes, so its bound is anything.
const DEFAULT_FAST_MSS: u32 = MAX_MSS as u32;
/// That of the published assignment.
const DEFAULT_TIMEOUT: Span = Span::from_secs(1);
const DEFAULT_GIVE_UP: Span = Span::from_secs(30);

impl P2mpSender {
    pub(super) fn resolve(&self, names: &Directory<'_>, findings: &mut Findings<'_>) -> Option<Role> {
        let receivers = |spec: &RoleSpec| matches!(spec, RoleSpec::P2mpReceiver(_));
        let to = names.nodes_that(&self.to, "is not a p2mp-receiver", receivers, findings);
        let file = names.file(&self.file, findings);
        if let Some(mss) = self.mss.as_ref().filter(|mss| !(1..=MAX_MSS).contains(&mss.value.as_bytes())) {
            findings.invalid(mss.place, format!("a segment has 1 to {MAX_MSS} bytes"));
        }
        let give_up = self.give_up.as_ref().map_or(DEFAULT_GIVE_UP, |at| at.value);
        if let Some(at) = self.give_up.as_ref().filter(|at| at.value.is_zero()) {
            findings.invalid(at.place, "after no time at all every receiver would be given up");
        }
        let mode = match self.mode.as_ref().map(|mode| mode.value) {
            None | Some(ModeWord::StopAndWait) => self.stop_and_wait(findings),
            Some(ModeWord::Fast) => self.fast(findings),
        };
        Some(Role::P2mpSender { to: to?, file: file?, mss: self.segment(), mode, give_up })
    }

    fn segment(&self) -> u32 {
        self.mss.as_ref().and_then(|mss| u32::try_from(mss.value.as_bytes()).ok()).unwrap_or(
            match self.mode.as_ref().map(|mode| mode.value) {
                None | Some(ModeWord::StopAndWait) => DEFAULT_MSS,
                Some(ModeWord::Fast) => DEFAULT_FAST_MSS,
            },
        )
    }

    fn stop_and_wait(&self, findings: &mut Findings<'_>) -> TransferMode {
        for (field, place) in
            [("multicast", self.multicast.as_ref().map(|at| at.place)), ("rate", self.rate.as_ref().map(|at| at.place))]
        {
            if let Some(place) = place {
                findings.invalid(place, format!("`{field}` belongs to `mode: fast`; this is stop-and-wait"));
            }
        }
        if let Some(timeout) = self.timeout.as_ref().filter(|timeout| timeout.value.is_zero()) {
            findings.invalid(timeout.place, "a timeout of 0 expires before any answer");
        }
        let given = self.timeout.as_ref().map(|at| at.value);
        let timeout = match (self.timeout_mode.as_ref().map(|at| at.value), given) {
            (None, None) | (Some(TimeoutWord::Adaptive), _) => SegmentTimeout::Adaptive,
            (None, Some(timeout)) => SegmentTimeout::Fixed(timeout),
            (Some(TimeoutWord::Fixed), given) => SegmentTimeout::Fixed(given.unwrap_or(DEFAULT_TIMEOUT)),
            (Some(TimeoutWord::Shared), given) => SegmentTimeout::Shared(given.unwrap_or(DEFAULT_TIMEOUT)),
        };
        if let (SegmentTimeout::Adaptive, Some(at)) = (timeout, &self.timeout) {
            let help = "leave one of `timeout` and `timeout-mode: adaptive` out";
            findings.invalid_but(at.place, "an adaptive timeout cannot be given", help);
        }
        TransferMode::StopAndWait { timeout }
    }

    fn fast(&self, findings: &mut Findings<'_>) -> TransferMode {
        for (field, place) in [
            ("timeout", self.timeout.as_ref().map(|at| at.place)),
            ("timeout-mode", self.timeout_mode.as_ref().map(|at| at.place)),
        ] {
            if let Some(place) = place {
                findings.invalid(place, format!("`{field}` belongs to `mode: stop-and-wait`; this is fast"));
            }
        }
        if let Some(rate) = self.rate.as_ref().filter(|rate| rate.value == Rate::default()) {
            findings.invalid_but(rate.place, "a rate of 0 sends nothing", "leave `rate` out to let it find one");
        }
        TransferMode::Fast {
            multicast: self.multicast.as_ref().map(|at| at.value),
            rate: self.rate.as_ref().map(|at| at.value),
        }
    }
}

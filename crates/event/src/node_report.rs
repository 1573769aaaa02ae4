//! What a node's program says on the descriptor that `TESTBED_EVENTS_FD` names: one JSON object a line.

use machine::Rate;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

/// The longest line that is read; longer ones are cut and logged as malformed.
pub const LONGEST_LINE: usize = 64 * 1024;

/// One line of a node's own report. A `kind` that is not listed here is kept as [`NodeReport::Other`].
#[derive(Clone, Debug, PartialEq)]
pub enum NodeReport {
    /// The program does its work from now on.
    Ready,
    /// How far its own task is.
    Progress {
        /// Bytes in hand for good.
        bytes: u64,
        /// Bytes of the whole; 0 where the program is not told before the end.
        total: u64,
        /// Body bytes received by this incarnation, wasted ones too.
        received: u64,
    },
    /// A downloader's view of one of its sources.
    Source {
        /// The source's name.
        source: String,
        /// What the downloader thinks of it.
        state: SourceState,
        /// Body bytes received from it by this incarnation.
        received: u64,
        /// Its speed now.
        rate: Rate,
        /// Why it is in this state, where that needs words.
        why: Option<String>,
    },
    /// What a server has sent.
    Served {
        /// Body bytes sent by this incarnation.
        bytes: u64,
        /// Connections open now.
        connections: u32,
        /// Its speed now.
        rate: Rate,
    },
    /// A check server's view of one of the servers it watches.
    Watched {
        /// The server's name.
        server: String,
        /// Whether it lives.
        alive: bool,
    },
    /// A receiver throws away, on purpose, a share of what reaches it (its `p`).
    Discarded {
        /// Datagrams that reached this incarnation.
        arrived: u64,
        /// Those of them that it threw away.
        discarded: u64,
    },
    /// The program's task is done and verified.
    Finished {
        /// Bytes of the result.
        bytes: u64,
        /// SHA-256 of the result in hexadecimal, where the program knows it.
        sha256: Option<String>,
    },
    /// A sender's transfer to several receivers is over.
    Transferred(Transferred),
    /// Anything else, kept as it came.
    Other(Value),
}

/// What a sender tells of a transfer that is over.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Transferred {
    /// From the first datagram to the last answer.
    pub seconds: f64,
    /// Segments with data that the file was cut into and that arrived.
    pub segments: u64,
    /// Bytes of the file that arrived.
    pub bytes: u64,
    /// Of a stop-and-wait transfer: what its time went to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rounds: Option<Rounds>,
    /// In the order of the command line.
    pub receivers: Vec<Delivery>,
}

/// The rounds of a stop-and-wait transfer: in its first one a segment goes to everybody, in each that follows to those who
/// lack it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Rounds {
    /// Of all segments, the end among them.
    pub count: u64,
    /// How many of them no loss has made: the answer came, and it came later than the timeout.
    pub needless: u64,
    /// What passed from the first round to the last one of each segment, for all segments together, in seconds: timeouts.
    /// The rest of the transfer's time was spent on round trips.
    pub waited: f64,
}

/// What a sender tells of one of its receivers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Delivery {
    /// As the sender's command line calls it.
    pub name: String,
    /// Whether it has the whole file.
    pub complete: bool,
    /// Segments sent to it again.
    pub retransmissions: u64,
}

impl Transferred {
    /// The time for a segment with data, on average, in seconds; 0 for an empty file.
    pub fn mean_seconds(&self) -> f64 {
        if self.segments == 0 { 0.0 } else { self.seconds / self.segments as f64 }
    }
}

/// What a downloader thinks of a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SourceState {
    /// Being connected or asked what it has.
    Connecting,
    /// Sends, or could.
    Alive,
    /// Connected, but nothing comes.
    Stalled,
    /// Cannot be reached.
    Dead,
    /// Set apart: it disagrees with the others, or sent wrong bytes.
    Rejected,
}

#[derive(Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", rename_all_fields = "kebab-case")]
enum Known {
    Ready,
    Progress {
        bytes: u64,
        total: u64,
        #[serde(default)]
        received: u64,
    },
    Source {
        source: String,
        state: SourceState,
        received: u64,
        rate: u64,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        why: Option<String>,
    },
    Served {
        bytes: u64,
        connections: u32,
        rate: u64,
    },
    Watched {
        server: String,
        alive: bool,
    },
    Discarded {
        arrived: u64,
        discarded: u64,
    },
    Finished {
        bytes: u64,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        sha256: Option<String>,
    },
    Transferred(Transferred),
}

impl NodeReport {
    /// Reads one line.
    ///
    /// # Errors
    /// When it is not a JSON object with a string `kind`. An object of a known kind with fields that do not fit is
    /// kept as [`NodeReport::Other`].
    pub fn from_line(line: &str) -> Result<Self, serde_json::Error> {
        serde_json::from_str(line)
    }

    /// Writes one line, without its end.
    pub fn to_line(&self) -> String {
        serde_json::to_string(self).expect("a report has no map keys that are not strings")
    }
}

impl Serialize for NodeReport {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let known = match self.clone() {
            NodeReport::Ready => Known::Ready,
            NodeReport::Progress { bytes, total, received } => Known::Progress { bytes, total, received },
            NodeReport::Source { source, state, received, rate, why } => {
                Known::Source { source, state, received, rate: rate.as_bits_per_sec(), why }
            }
            NodeReport::Served { bytes, connections, rate } => {
                Known::Served { bytes, connections, rate: rate.as_bits_per_sec() }
            }
            NodeReport::Watched { server, alive } => Known::Watched { server, alive },
            NodeReport::Discarded { arrived, discarded } => Known::Discarded { arrived, discarded },
            NodeReport::Finished { bytes, sha256 } => Known::Finished { bytes, sha256 },
            NodeReport::Transferred(transferred) => Known::Transferred(transferred),
            NodeReport::Other(value) => return value.serialize(serializer),
        };
        known.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for NodeReport {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(deserializer)?;
        if !value.get("kind").is_some_and(Value::is_string) {
            return Err(D::Error::custom("a report is a JSON object with a string `kind`"));
        }
        Ok(match Known::deserialize(&value) {
            Ok(Known::Ready) => NodeReport::Ready,
            Ok(Known::Progress { bytes, total, received }) => NodeReport::Progress { bytes, total, received },
            Ok(Known::Source { source, state, received, rate, why }) => {
                NodeReport::Source { source, state, received, rate: Rate::from_bits_per_sec(rate), why }
            }
            Ok(Known::Served { bytes, connections, rate }) => {
                NodeReport::Served { bytes, connections, rate: Rate::from_bits_per_sec(rate) }
            }
            Ok(Known::Watched { server, alive }) => NodeReport::Watched { server, alive },
            Ok(Known::Discarded { arrived, discarded }) => NodeReport::Discarded { arrived, discarded },
            Ok(Known::Finished { bytes, sha256 }) => NodeReport::Finished { bytes, sha256 },
            Ok(Known::Transferred(transferred)) => NodeReport::Transferred(transferred),
            Err(_) => NodeReport::Other(value),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documented_lines_are_understood() {
        assert_eq!(NodeReport::from_line(r#"{"kind":"ready"}"#).unwrap(), NodeReport::Ready);
        assert_eq!(
            NodeReport::from_line(r#"{"kind":"progress","bytes":3,"total":10}"#).unwrap(),
            NodeReport::Progress { bytes: 3, total: 10, received: 0 }
        );
    }

    #[test]
    fn other_kinds_are_kept_and_other_shapes_refused() {
        let line = r#"{"colour":"red","kind":"mood"}"#;
        let report = NodeReport::from_line(line).unwrap();
        assert!(matches!(report, NodeReport::Other(_)));
        assert_eq!(report.to_line(), line);
        for wrong in ["", "7", "[]", "{}", r#"{"kind":7}"#, r#"{"kind":"ready""#] {
            assert!(NodeReport::from_line(wrong).is_err(), "{wrong} was taken for a report");
        }
    }

    fn lost() -> Delivery {
        Delivery { name: "receiver-2".into(), complete: false, retransmissions: 7 }
    }

    #[test]
    fn a_transfer_is_told_in_this_form() {
        let rounds = Some(Rounds { count: 4, needless: 0, waited: 1.0 });
        let transferred = Transferred { seconds: 1.25, segments: 2, bytes: 5, rounds, receivers: vec![lost()] };
        assert_eq!(transferred.mean_seconds(), 0.625);
        let line = concat!(
            r#"{"kind":"transferred","seconds":1.25,"segments":2,"bytes":5,"rounds":{"count":4,"needless":0,"waited":1.0},"#,
            r#""receivers":[{"name":"receiver-2","complete":false,"retransmissions":7}]}"#
        );
        assert_eq!(NodeReport::Transferred(transferred).to_line(), line);
    }

    #[test]
    fn every_kind_is_written_as_it_is_read() {
        for report in [
            NodeReport::Ready,
            NodeReport::Progress { bytes: 1, total: 2, received: 3 },
            NodeReport::Source {
                source: "server-1".into(),
                state: SourceState::Dead,
                received: 9,
                rate: Rate::from_mbit(3),
                why: Some("refused".into()),
            },
            NodeReport::Served { bytes: 5, connections: 1, rate: Rate::from_mbit(1) },
            NodeReport::Watched { server: "server-2".into(), alive: false },
            NodeReport::Discarded { arrived: 9, discarded: 2 },
            NodeReport::Finished { bytes: 5, sha256: None },
            NodeReport::Transferred(Transferred {
                seconds: 1.25,
                segments: 2,
                bytes: 5,
                rounds: None,
                receivers: vec![lost()],
            }),
        ] {
            assert_eq!(NodeReport::from_line(&report.to_line()).unwrap(), report);
        }
    }
}

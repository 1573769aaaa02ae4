//! What recording every packet (`--pcap`) costs: the same flow and the same links without and with it, in turn.

use std::path::{Path, PathBuf};

use anyhow::Context;
use machine::Span;
use nix::unistd::mkdtemp;
use serde_json::{Value, json};

use super::load;
use super::throughput::{self, CUT, Carrier, WHOLE, median};

/// A flow at full speed fills small disks.
const LONGEST_FLOW: Span = Span::from_millis(500);

/// A recorded train is cut into its packets; what that costs by itself stands beside the recording.
const FLOWS: [(Carrier, bool); 3] = [(WHOLE, false), (CUT, false), (WHOLE, true)];

/// One TCP flow as fast as it goes, and so many links under load.
pub(super) fn measure(time: Span, rounds: u32, links: u32) -> anyhow::Result<Value> {
    let mut flows: [Vec<Value>; 3] = Default::default();
    let mut loads: [Vec<Value>; 2] = Default::default();
    for _ in 0..rounds {
        for ((carrier, is_recorded), found) in FLOWS.iter().zip(&mut flows) {
            let folder = is_recorded.then(Folder::new).transpose()?;
            found.push(throughput::once(carrier, true, time.min(LONGEST_FLOW), folder.as_ref().map(Folder::path))?);
        }
        for (is_recorded, found) in [false, true].into_iter().zip(&mut loads) {
            let folder = is_recorded.then(Folder::new).transpose()?;
            found.push(load::measure("relay", links, time, folder.as_ref().map(Folder::path))?);
        }
    }
    let middle = |found: &[Value], pointer: &str| {
        median(found.iter().map(|one| one.pointer(pointer).and_then(Value::as_f64).unwrap_or_default()).collect())
    };
    // Of what should be in the files.
    let unrecorded = |found: &[Value]| {
        let shares = found.iter().map(|one| {
            let [written, missing] =
                ["written", "missing"].map(|name| one["recording"][name].as_f64().unwrap_or_default());
            missing / (written + missing).max(1.0)
        });
        median(shares.collect())
    };
    let flows = FLOWS.iter().zip(&flows).map(|((carrier, is_recorded), found)| {
        json!({
            "over": carrier.name,
            "recorded": is_recorded,
            "gbit-per-second": middle(found, "/gbit-per-second"),
            "cpu-us-per-packet": middle(found, "/cpu-us-per-packet"),
            "unrecorded": unrecorded(found),
        })
    });
    let loads = [false, true].into_iter().zip(&loads).map(|(is_recorded, found)| {
        let error = |name: &str| middle(found, &format!("/delay-error-ms/{name}"));
        json!({
            "recorded": is_recorded,
            "links": links,
            "delay-error-ms": { "p50": error("p50"), "p99": error("p99"), "max": error("max") },
            "relay-cpu-us-per-packet": middle(found, "/relay-cpu-us-per-packet"),
            "unrecorded": unrecorded(found),
        })
    });
    Ok(json!({ "flows": flows.collect::<Vec<_>>(), "load": loads.collect::<Vec<_>>() }))
}

/// A folder for temporary files, which goes with this.
struct Folder(PathBuf);

impl Folder {
    fn new() -> anyhow::Result<Folder> {
        let place = std::env::temp_dir();
        let folder = mkdtemp(&place.join("testbed-bench-XXXXXX"));
        Ok(Folder(folder.with_context(|| format!("no room for a recording in {}", place.display()))?))
    }

    fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What cannot be removed stays, as other temporary files do.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

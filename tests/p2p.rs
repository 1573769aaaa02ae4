//! Files from peers: the topologies do what their first lines promise.

mod support;

use event::{Event, NodeReport};
use support::{Place, passed};

#[test]
fn a_file_comes_from_a_swarm_in_test_mode() {
    let place = Place::new();
    let run = passed(&place, "p2p-churn.yaml");
    // The tracker tells what the peers hashed.
    let hash = run.records().into_iter().find_map(|record| match record.event {
        Event::NodeReported { node, report: NodeReport::Finished { bytes: 805_975, sha256 }, .. }
            if node == "client" =>
        {
            Some(sha256)
        }
        _ => None,
    });
    assert!(hash.is_some(), "{}", run.ended.told());
}

#[test]
fn a_downloader_that_is_killed_goes_on_from_what_it_has() {
    let place = Place::new();
    let text = "
name: p2p-resume
seed: 3
timeout: 60s
files: { movie: { size: 4MB } }
nodes:
  tracker: { role: tracker, interval: 200ms }
  seed: { count: 3, role: peer, file: movie, tracker: tracker, ports: 1, churn: 0s, pre-delay: 50ms, stretch: 5ms, bytes-per-event: 2000 }
  client: { role: p2p-downloader, file: movie, tracker: tracker, after: seed }
events:
  - { when: \"client >= 40%\", kill: client }
  - { after: 200ms, revive: client }
  - { when: \"client >= 60%\", kill: seed-1 }
expect:
  client: { exit: 0, file: movie, wasted: \"< 40%\" }
";
    let run = place.run_text("p2p-resume", text);
    run.expect_status(0);
}

//! The topologies of the project do what their first lines promise.

mod support;

use event::{Direction, Event, NodeReport};
use support::{Place, Run, has_program, skip, topology};

fn run(place: &Place, name: &str) -> Run {
    let run = place.run(&topology(name), &[]);
    run.expect_status(0);
    run
}

/// Bytes of the client's progress when the fault with this word fired.
fn progress_at_fault(run: &Run, word: &str) -> (f64, usize) {
    let mut progress = 0.0;
    for (position, record) in run.records().iter().enumerate() {
        match &record.event {
            Event::NodeReported { node, report: NodeReport::Progress { bytes, total, .. }, .. } if node == "client" => {
                progress = *bytes as f64 / *total as f64;
            }
            Event::FaultFired { label, .. } if label.contains(word) => return (progress, position),
            _ => {}
        }
    }
    panic!("no fault {word}\n{}", run.ended.told());
}

#[test]
fn failover_kills_at_40_per_cent_revives_at_70_and_the_file_is_identical() {
    let place = Place::new();
    let run = run(&place, "failover.yaml");

    let (at_kill, kill) = progress_at_fault(&run, "kill");
    let (at_revival, _) = progress_at_fault(&run, "revive");
    // The trigger is `>=`; what bounds it from above is one report interval of the downloader.
    assert!(at_kill >= 0.40 && at_revival >= 0.70, "killed at {at_kill}, revived at {at_revival}");
    if run.kept_up() {
        assert!(at_kill < 0.55 && at_revival < 0.85, "killed at {at_kill}, revived at {at_revival}");
    }
    let died = run.position(
        "server-2's death",
        |event| matches!(event, Event::NodeExited { node, incarnation: 1, .. } if node == "server-2"),
    );
    let back = run.position(
        "server-2's revival",
        |event| matches!(event, Event::NodeStarted { node, incarnation: 2, .. } if node == "server-2"),
    );
    assert!(kill < died && died < back, "kill {kill}, death {died}, revival {back}");

    // The testbed compared the files; so do we, with the file made again from the seed.
    let again = place.run(&topology("failover.yaml"), &[]);
    again.expect_status(0);
    let out = std::fs::read(run.disk("client", "movie")).unwrap();
    assert!(!out.is_empty() && out == std::fs::read(again.disk("client", "movie")).unwrap());

    let table = run.ended.stdout();
    let verdict = if run.kept_up() { "PASS" } else { "INVALID" };
    for word in [verdict, "server-1", "server-4", "check", "client", "run directory:"] {
        assert!(table.contains(word), "the final table does not name {word}\n{table}");
    }
    for file in ["plan.yaml", "result.json", "junit.xml", "summary.md"] {
        assert!(run.directory.join(file).is_file(), "{file} is missing");
    }
    assert!(!run.directory.join("files").exists(), "generated inputs are removed at the end");
}

#[test]
fn rough_links_do_all_that_they_say_and_the_files_are_right() {
    let place = Place::new();
    let state = run(&place, "rough-links.yaml").state();
    assert!(state.links.iter().all(|link| link.adds_up()), "{:?}", state.links);
    let half = |node: &str, direction: Direction| {
        let half = state.links.iter().find(|link| link.node == node && link.direction == direction);
        half.unwrap_or_else(|| panic!("{node} has no such half"))
    };
    for node in ["client", "listener-1", "listener-2", "listener-3"] {
        let down = half(node, Direction::Down);
        assert!(down.lost > 0 && down.duplicated > 0 && down.corrupted > 0, "{down:?}");
    }
    for server in ["server-1", "server-2"] {
        let up = half(server, Direction::Up);
        assert!(up.offered >= 22 && up.lost == 4, "the first, and those from 20 to 22: {up:?}");
    }
}

#[test]
fn resume_continues_from_the_journal() {
    let place = Place::new();
    let run = run(&place, "resume.yaml");
    let client = run.state().node("client").unwrap().clone();
    assert_eq!(client.incarnation, 2, "killed and revived once");
    let progress = client.progress.unwrap();
    let wasted = progress.received as f64 / progress.total as f64 - 1.0;
    assert!(
        wasted < 0.25 || !run.kept_up(),
        "a client that began again would have received half of the file twice: {wasted}"
    );
}

#[test]
fn all_down_waits_and_completes() {
    let place = Place::new();
    let run = run(&place, "all-down.yaml");
    let state = run.state();
    let servers: Vec<_> = state.nodes.iter().filter(|node| node.group == "server").collect();
    assert!(servers.len() > 1 && servers.iter().all(|server| server.incarnation == 2), "{servers:?}");
    assert_eq!(state.node("client").unwrap().incarnation, 1, "the client waited and was not started again");
}

#[test]
fn third_party_programs_run_as_they_are() {
    for program in ["nginx", "curl"] {
        if !has_program(program) {
            return skip(&format!("{program} is not installed"));
        }
    }
    run(&Place::new(), "third-party.yaml");
}

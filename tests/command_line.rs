//! What a person meets who gets it wrong, and the commands beside `run`.

mod support;

use std::os::unix::process::CommandExt;
use std::path::Path;

use support::{Place, root, topology};

const QUIET: &str = "name: quiet\nnodes:\n  one: { run: [\"true\"] }\nexpect:\n  one: { exit: 0 }\n";

#[test]
fn bad_input_is_2_and_creates_nothing() {
    let place = Place::new();
    let wrong = place.write("wrong.yaml", "name: wrong\nnodes:\n  one: { runn: [\"true\"] }\n");
    let right = place.write("right.yaml", QUIET);
    for words in [
        vec!["run", "absent.yaml"],
        vec!["run", wrong.to_str().unwrap()],
        // One wrong file of several: the right one is not run either.
        vec!["run", right.to_str().unwrap(), wrong.to_str().unwrap()],
        vec!["run", right.to_str().unwrap(), "--set", "nonsense"],
        vec!["run", right.to_str().unwrap(), "--set", "nodes.nobody.env.A=b"],
        vec!["run", right.to_str().unwrap(), "--seed", "minus one"],
        vec!["run", right.to_str().unwrap(), "--junit", "no/such/folder/all.xml"],
        vec!["run"],
        vec!["frobnicate"],
        vec!["report", "nowhere"],
        vec!["plan", "absent.yaml"],
        vec!["check", wrong.to_str().unwrap()],
    ] {
        let ended = place.testbed(&words);
        assert_eq!(ended.status(), Some(2), "{words:?}\n{}", ended.told());
        assert!(!ended.stderr().is_empty(), "{words:?} says nothing");
        assert_eq!(place.entries(), ["right.yaml", "wrong.yaml"], "{words:?} has created something");
    }
}

/// Nobody writes ten megabytes by hand: what is given by mistake is not read to its end, however it begins.
#[test]
fn a_file_that_is_too_large_for_a_topology_is_told_so() {
    let place = Place::new();
    let nodes: String = (0..400_000).map(|at| format!("  n{at}: {{ run: [x] }}\n")).collect();
    for mark in ["", "\u{feff}"] {
        let text = format!("{mark}name: large\nnodes:\n{nodes}");
        assert!(text.len() > 9_000_000);
        place.write("large.yaml", &text);
        let ended = place.testbed(["check", "large.yaml"]);
        ended.expect_status(2);
        let said = "error: the file is too large; a topology has at most 1MiB\n --> large.yaml";
        assert!(ended.stderr().starts_with(said), "{}", ended.told());
    }
    // A file whose first megabyte would do is not taken for that.
    let comment = "#".repeat((1 << 20) + 1 - QUIET.len());
    place.write("just.yaml", &format!("\u{feff}{QUIET}{comment}"));
    place.testbed(["check", "just.yaml"]).expect_status(2);
    place.write("just.yaml", &format!("\u{feff}{QUIET}{}", &comment[1..]));
    place.testbed(["check", "just.yaml"]).expect_status(0);
}

#[test]
fn a_message_names_file_line_column_and_the_nearest_name() {
    let place = Place::new();
    place.write("wrong.yaml", "name: wrong\nnodes:\n  one: { runn: [\"true\"] }\n");
    let ended = place.testbed(["check", "wrong.yaml"]);
    let said = ended.stderr();
    for part in ["wrong.yaml:3:10", "runn", "`run`", "^"] {
        assert!(said.contains(part), "`{part}` is not in\n{said}");
    }
}

#[test]
fn what_comes_later_says_so_by_name_with_3() {
    let place = Place::new();
    let right = place.write("right.yaml", QUIET);
    let ended = place.testbed(["run", right.to_str().unwrap(), "--engine", "swarm"]);
    ended.expect_status(3);
    assert!(ended.stderr().contains("not supported yet"), "{}", ended.told());
    // A process cannot run in virtual time.
    let ended = place.testbed(["run", right.to_str().unwrap(), "--engine", "sim"]);
    ended.expect_status(3);
    assert!(ended.stderr().contains("node `one` runs `true`"), "{}", ended.told());
    assert!(!place.path().join("runs").exists());
}

#[test]
fn netem_is_had_or_said_to_be_missing_and_never_left_out() {
    let place = Place::new();
    let shaped = QUIET.replace("[\"true\"]", "[\"true\"], link: { delay: 1ms }");
    let file = place.write("shaped.yaml", &format!("{shaped}shaper: netem\n"));
    let ended = place.testbed(["run".as_ref(), file.as_os_str()]);
    let doctor = place.testbed(["doctor"]).stdout();
    if doctor.contains("not in this kernel") {
        ended.expect_status(3);
        for part in ["network net asks for netem", "leave `shaper` out", "scripts/with-netem-kernel"] {
            assert!(ended.stderr().contains(part), "`{part}` is not in\n{}", ended.told());
        }
        assert!(!place.path().join("runs").exists());
        assert!(doctor.contains("scripts/with-netem-kernel"), "{doctor}");
    } else {
        ended.expect_status(0);
    }
}

#[test]
fn one_run_of_a_sweep_is_asked_for_by_fixing_what_is_swept() {
    let place = Place::new();
    place.write("swept.yaml", &format!("{QUIET}sweep: {{ one.stop-grace: [1s, 2s] }}\n"));
    let ended = place.testbed(["run", "swept.yaml"]);
    ended.expect_status(2);
    assert!(ended.stderr().contains("`testbed sweep swept.yaml`"), "{}", ended.told());
    assert!(ended.stderr().contains("--set one.stop-grace=1s"), "{}", ended.told());
    assert!(!place.path().join("runs").exists());
    place.testbed(["check", "swept.yaml"]).expect_status(0);
    let _ended = place.testbed_passes(["run", "swept.yaml", "--set", "one.stop-grace=1s"]);
}

#[test]
fn a_run_directory_that_cannot_be_made_is_named() {
    let place = Place::new();
    place.write("right.yaml", QUIET);
    place.write("blocked", "a file, not a folder");
    let ended = place.testbed(["run", "right.yaml", "--out", "blocked"]);
    ended.expect_status(3);
    assert!(ended.stderr().contains("blocked"), "{}", ended.told());
}

#[test]
fn a_failing_run_is_1_and_names_its_cause_in_one_line() {
    let place = Place::new();
    let run = place.run_text("quiet", &QUIET.replace("\"true\"", "\"sh\", \"-c\", \"exit 5\""));
    run.expect_status(1);
    let said = run.ended.stdout();
    if !run.kept_up() {
        return;
    }
    let verdict = said.lines().find(|line| line.contains("FAIL")).expect("a verdict line");
    assert!(verdict.contains("one: exit 0") && verdict.contains("exit 5"), "{verdict}");
    assert!(said.contains("--seed"), "the command that repeats the run is told\n{said}");
}

#[test]
fn a_program_that_is_not_there_is_named() {
    let place = Place::new();
    let run = place.run_text("quiet", &QUIET.replace("\"true\"", "\"no-such-program\""));
    run.expect_status(1);
    let causes = run.state().causes;
    assert!(causes.iter().any(|cause| cause.contains("no-such-program")), "{causes:?}");
}

#[test]
fn a_run_that_does_not_end_fails_at_its_timeout_and_says_who_was_waited_for() {
    let place = Place::new();
    let run = place.run_text("quiet", &format!("timeout: 500ms\n{}", QUIET.replace("\"true\"", "\"sleep\", \"60\"")));
    run.expect_status(1);
    let causes = run.state().causes;
    let is_it = |cause: &String| cause.contains("timeout") && cause.contains("one is still running");
    assert!(causes.iter().any(is_it), "{causes:?}");
}

#[test]
fn the_same_seed_generates_the_same_file_and_another_seed_another() {
    let text = "name: files\nfiles: { blob: { size: 100kB } }\nnodes:\n  one: { run: [\"true\"], files: { blob: blob } }\nexpect:\n  one: { exit: 0 }\n";
    let place = Place::new();
    let file = place.write("files.yaml", text);
    let blob = |seed: &str| {
        let run = place.run(&file, &["--seed", seed]);
        run.expect_status(0);
        std::fs::read(run.disk("one", "blob")).unwrap()
    };
    let (first, again, other) = (blob("1"), blob("1"), blob("2"));
    assert_eq!(first.len(), 100_000);
    assert!(first == again && first != other);
}

#[test]
fn a_file_of_the_user_is_found_beside_the_topology() {
    let place = Place::new();
    let text = "name: beside\nfiles: { blob: { path: data/blob } }\nnodes:\n  one: { run: [\"true\"], files: { blob: blob } }\nexpect:\n  one: { exit: 0 }\n";
    let folder = place.path().join("elsewhere");
    std::fs::create_dir_all(folder.join("data")).unwrap();
    std::fs::write(folder.join("data/blob"), "of the user").unwrap();
    let file = folder.join("beside.yaml");
    std::fs::write(&file, text).unwrap();
    let run = place.run(Path::new("elsewhere/beside.yaml"), &[]);
    run.expect_status(0);
    assert_eq!(std::fs::read(run.disk("one", "blob")).unwrap(), b"of the user");
    std::fs::remove_file(folder.join("data/blob")).unwrap();
    let gone = place.testbed(["check", "elsewhere/beside.yaml"]);
    assert!(gone.expect_status(2).stderr().contains("elsewhere/data/blob"), "{}", gone.told());
}

#[test]
fn several_runs_at_once_do_not_disturb_each_other() {
    let place = Place::new();
    // Of a file so small one piece that is fetched twice is a large part, and three at once have no time to spare.
    let text = std::fs::read_to_string(topology("failover.yaml")).unwrap();
    let lenient = text.replace(", within: 40s, file: movie, wasted: \"< 5%\"", ", file: movie");
    assert_ne!(text, lenient);
    let file = place.write("failover.yaml", &lenient);
    let mut command = place.command();
    command.arg("run").arg(&file).args(["--set", "files.movie.size=8MiB", "--set", "events.2.at=100ms"]);
    let children: Vec<_> = (0..3)
        .map(|_| {
            let stdout = std::process::Stdio::piped();
            command.stdout(stdout).stderr(std::process::Stdio::piped()).spawn().expect("testbed can be started")
        })
        .collect();
    for child in children {
        let output = child.wait_with_output().expect("a child can be waited for");
        let ended = support::Ended { output };
        // Three at once may starve two cores, which is then said; a wrong verdict would be FAIL.
        assert!(matches!(ended.status(), Some(0 | 4)), "{}", ended.told());
    }
    let runs = std::fs::read_dir(place.path().join("runs/failover")).unwrap().flatten();
    assert_eq!(runs.filter(|entry| entry.file_type().unwrap().is_dir()).count(), 3);
}

#[test]
fn repeat_and_junit_tell_of_every_run() {
    let place = Place::new();
    place.write("quiet.yaml", QUIET);
    let words = ["run", "quiet.yaml", "--repeat", "3", "--junit", "all.xml"];
    let Some(ended) = place.testbed_passes(words) else { return };
    assert!(ended.stdout().contains("3 of 3 passed"), "{}", ended.told());
    let junit = std::fs::read_to_string(place.path().join("all.xml")).unwrap();
    assert_eq!(junit.matches("<testsuite ").count(), 3, "{junit}");
}

#[test]
fn the_step_summary_of_a_ci_is_appended_to() {
    let place = Place::new();
    place.write("quiet.yaml", QUIET);
    let summary = place.write("summary.md", "before\n");
    let mut command = place.command();
    command.env("GITHUB_STEP_SUMMARY", &summary).args(["run", "quiet.yaml"]);
    let ended = support::Ended { output: command.output().unwrap() };
    // A starved machine is told of as well.
    let verdict = if ended.status() == Some(4) { "INVALID" } else { "PASS" };
    assert!(matches!(ended.status(), Some(0 | 4)), "{}", ended.told());
    let text = std::fs::read_to_string(summary).unwrap();
    assert!(text.starts_with("before\n") && text.contains(verdict), "{text}");
}

#[test]
fn reports_are_made_again_from_the_log_alone() {
    let place = Place::new();
    let run = place.run_text("quiet", QUIET);
    run.expect_status(0);
    let result = run.directory.join("result.json");
    let before = std::fs::read_to_string(&result).unwrap();
    std::fs::remove_file(&result).unwrap();
    let ended = place.testbed(["report".as_ref(), run.directory.as_os_str()]);
    assert_eq!(ended.status(), run.ended.status(), "{}", ended.told());
    assert_eq!(std::fs::read_to_string(&result).unwrap(), before);
    let verdict = if run.kept_up() { "PASS" } else { "INVALID" };
    assert!(ended.stdout().contains(verdict), "{}", ended.told());
}

#[test]
fn plan_shows_addresses_carriers_and_why() {
    let place = Place::new();
    let ended = place.testbed(["plan".as_ref(), topology("failover.yaml").as_os_str()]);
    ended.expect_status(0);
    for part in ["server-1", "client", "relay", "queue", "kill", "eth0", "of packets under way", "at most 512MiB"] {
        assert!(ended.stdout().contains(part), "`{part}` is not in\n{}", ended.stdout());
    }
    assert!(place.entries().is_empty(), "`plan` creates nothing");
}

#[test]
fn doctor_gc_schema_completions_and_roles_answer() {
    let place = Place::new();
    let doctor = place.testbed(["doctor"]);
    assert!(matches!(doctor.status(), Some(0 | 3)), "{}", doctor.told());
    assert!(doctor.stdout().contains("namespaces"), "{}", doctor.told());

    place.testbed(["gc"]).expect_status(0);
    let schema = place.testbed(["schema"]);
    let parsed: serde_json::Value = serde_json::from_str(&schema.stdout()).expect("the schema is JSON");
    assert!(parsed["properties"]["nodes"].is_object());
    assert!(place.testbed(["completions", "bash"]).stdout().contains("testbed"));

    let roles = place.testbed(["role", "help"]);
    for role in ["file-server", "check-server", "downloader", "multiserver"] {
        assert!(roles.stdout().contains(role) || roles.stderr().contains(role), "{}", roles.told());
    }
}

#[test]
fn under_the_name_of_a_role_testbed_is_that_role() {
    let place = Place::new();
    let as_role = place.command().arg0("/any/folder/downloader").arg("--help").output().unwrap();
    assert!(String::from_utf8_lossy(&as_role.stdout).contains("Usage: downloader"), "{as_role:?}");
    let as_itself = place.command().arg0("another").arg("--help").output().unwrap();
    assert!(String::from_utf8_lossy(&as_itself.stdout).contains("Run topologies"), "{as_itself:?}");
}

/// A node that runs several servers, each a process of its own, started from the one executable; the check server tells
/// who lives, and the client finds out which of the ports is which.
#[test]
fn multiserver_is_a_program_of_a_node_like_any_other() {
    let text = r#"
name: five
timeout: 60s
files: { movie: { size: 4MiB } }
nodes:
  server:
    run: [/proc/self/exe, role, multiserver, -i, "3600", -n, "4", -f, movie, -p, "21018", "27215", "35416", "19222", "39223", --until-done]
    files: { movie: movie }
    ready: { tcp: 39223 }
  client:
    run: [/proc/self/exe, role, downloader, -a, server, -p, "21018", "27215", "35416", "19222", "39223", -o, movie]
    after: server
    out: movie
    link: { down: { rate: 50Mbit } }
expect:
  server: { exit: 0, prints: "/Server 4 at Port: 19222 Status: Alive/" }
  client: { exit: 0, file: movie }
"#;
    let place = Place::new();
    let run = place.run_text("five", text);
    run.expect_status(0);
}

#[test]
fn every_topology_of_the_project_passes_check() {
    let place = Place::new();
    let folder = root().join("topologies");
    let files: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "yaml"))
        .collect();
    assert!(files.len() >= 4);
    let mut words = vec!["check".into()];
    words.extend(files.into_iter().map(std::path::PathBuf::into_os_string));
    place.testbed(words).expect_status(0);
}

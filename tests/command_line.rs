//! What a person meets who gets it wrong, and the commands beside `run`.

mod support;

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
    for words in [
        vec!["run", right.to_str().unwrap(), "--engine", "docker"],
        vec!["run", right.to_str().unwrap(), "--engine", "swarm"],
        vec!["run", right.to_str().unwrap(), "--engine", "sim"],
        vec!["run", right.to_str().unwrap(), "--pcap"],
    ] {
        let ended = place.testbed(&words);
        ended.expect_status(3);
        assert!(ended.stderr().contains("not supported yet"), "{}", ended.told());
    }
    let later = place.write("later.yaml", &format!("{QUIET}sweep: {{ one.count: [1, 2] }}\n"));
    let ended = place.testbed(["run".as_ref(), later.as_os_str()]);
    ended.expect_status(3);
    assert!(ended.stderr().contains("sweep"), "{}", ended.told());
    assert!(!place.path().join("runs").exists());
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
    let verdict = said.lines().find(|line| line.contains("FAIL")).expect("a verdict line");
    assert!(verdict.contains("one: exit 0") && verdict.contains("exit 5"), "{verdict}");
    assert!(said.contains("--seed"), "the command that repeats the run is told\n{said}");
}

#[test]
fn a_program_that_is_not_there_is_named() {
    let place = Place::new();
    let run = place.run_text("quiet", &QUIET.replace("\"true\"", "\"no-such-program\""));
    run.expect_status(1);
    assert!(run.state().causes[0].contains("no-such-program"), "{:?}", run.state().causes);
}

#[test]
fn a_run_that_does_not_end_fails_at_its_timeout_and_says_who_was_waited_for() {
    let place = Place::new();
    let run = place.run_text("quiet", &format!("timeout: 500ms\n{}", QUIET.replace("\"true\"", "\"sleep\", \"60\"")));
    run.expect_status(1);
    let cause = &run.state().causes[0];
    assert!(cause.contains("timeout") && cause.contains("one is still running"), "{cause}");
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
fn several_runs_at_once_do_not_disturb_each_other() {
    let place = Place::new();
    let file = topology("failover.yaml");
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
    let ended = place.testbed(["run", "quiet.yaml", "--repeat", "3", "--junit", "all.xml"]);
    ended.expect_status(0);
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
    assert!(command.output().unwrap().status.success());
    let text = std::fs::read_to_string(summary).unwrap();
    assert!(text.starts_with("before\n") && text.contains("PASS"), "{text}");
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
    ended.expect_status(0);
    assert_eq!(std::fs::read_to_string(&result).unwrap(), before);
    assert!(ended.stdout().contains("PASS"), "{}", ended.told());
}

#[test]
fn plan_shows_addresses_carriers_and_why() {
    let place = Place::new();
    let ended = place.testbed(["plan".as_ref(), topology("failover.yaml").as_os_str()]);
    ended.expect_status(0);
    for part in ["server-1", "client", "relay", "queue", "kill", "eth0"] {
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
    for role in ["file-server", "check-server", "downloader"] {
        assert!(roles.stdout().contains(role) || roles.stderr().contains(role), "{}", roles.told());
    }
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

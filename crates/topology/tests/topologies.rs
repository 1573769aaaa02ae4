//! The topologies of the repository: each right one loads, each wrong one gives exactly the message beside it.
#![allow(clippy::unwrap_used, reason = "in a test a panic is the report")]

use std::fs;
use std::path::{Path, PathBuf};

use machine::Seed;
use topology::plan::Medium;
use topology::{Overrides, Plan, Source};

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../topologies").join(name)
}

fn yaml_files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<PathBuf> =
        entries.filter(|path| path.extension().is_some_and(|extension| extension == "yaml")).collect();
    files.sort();
    files
}

fn read(path: &Path) -> Result<Plan, topology::Diagnostics> {
    let name = path.file_name().unwrap().to_str().unwrap();
    let beside = |path: &Path, _| fs::read(path).map_err(|error| error.kind().to_string());
    let source = Source::from_bytes(name, &fs::read(path).unwrap())?.with_files(path.parent().unwrap(), beside);
    let overrides = Overrides::new(Seed::new(1));
    let plan = topology::load(&source, &overrides)?;
    // Of a sweep every point is right, or told.
    topology::sweep(&source, &overrides)?;
    Ok(plan)
}

#[test]
fn every_topology_loads() {
    let files = yaml_files(&folder(""));
    assert!(files.len() >= 4, "only {} topologies", files.len());
    for path in files {
        let plan = read(&path).unwrap_or_else(|error| panic!("{}:\n{error}", path.display()));
        assert_eq!(plan.name(), path.file_stem().unwrap().to_str().unwrap(), "a topology is called like its file");
        assert!(!plan.to_yaml().contains('!'), "plan.yaml has tags:\n{}", plan.to_yaml());
    }
}

#[test]
fn the_main_job_is_what_it_says() {
    let plan = read(&folder("failover.yaml")).unwrap();
    let names: Vec<&str> = plan.nodes().iter().map(|node| node.name.as_str()).collect();
    assert_eq!(names, ["server-1", "server-2", "server-3", "server-4", "check", "client"]);
    let client = plan.node(plan.node_named("client").unwrap());
    assert_eq!(client.after.len(), 5, "it waits for its servers and the check server");
    assert_eq!(plan.networks()[0].medium, Medium::Relay, "{}", plan.networks()[0].why);
    assert_eq!(plan.events()[0].label, "client >= 40%: kill server-2");
    assert_eq!(plan.events()[2].label, "at 1s: link server-3 {up: {rate: 10Mbit, delay: 100ms}} for 2s");
}

/// With `UPDATE` in the environment the messages are written instead of compared.
#[test]
fn every_wrong_topology_gives_its_message() {
    let files = yaml_files(&folder("invalid"));
    assert!(files.len() >= 60, "only {} wrong topologies", files.len());
    let mut different = Vec::new();
    for path in files {
        let found = match read(&path) {
            Ok(_) => panic!("{} is right", path.display()),
            Err(diagnostics) => diagnostics.render(topology::Colour::Plain),
        };
        let beside = path.with_extension("txt");
        if std::env::var_os("UPDATE").is_some() {
            fs::write(&beside, &found).unwrap();
        } else if fs::read_to_string(&beside).unwrap_or_default() != found {
            different.push(format!("{}:\n{found}", beside.display()));
        }
    }
    assert!(different.is_empty(), "set UPDATE=1 to accept:\n{}", different.join("\n"));
}

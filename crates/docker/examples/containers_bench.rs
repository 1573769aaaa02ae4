//! How long containers take to be up: those of a run of `testbed`, with their links, and as many by the daemon's API alone, from
//! the same image and in turn with the former.
//!
//!     containers_bench [--binary PATH] [--rounds N] [COUNT]
//!
//! Also what a packet takes between two containers over a network without impairments, beside the same in namespaces.
#![allow(clippy::disallowed_methods, reason = "it measures time")]

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use bollard::models::{ContainerCreateBody, HostConfig};
use bollard::query_parameters::{CreateContainerOptions, StartContainerOptions};
use docker::Daemon;
use docker::image::{Executable, provide_own};
use futures_util::{StreamExt, stream};

/// As many are started at the same time as a run does.
const AT_ONCE: usize = 8;

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

fn main() -> Outcome<()> {
    let mut arguments = std::env::args().skip(1);
    if std::env::args().nth(1).as_deref() == Some("sleep") {
        // What the bare containers run: this executable is all that is in their image.
        loop {
            std::thread::park();
        }
    }
    let (mut binary, mut rounds, mut count) = (PathBuf::from("target/release/testbed"), 5, 100);
    while let Some(word) = arguments.next() {
        match word.as_str() {
            "--binary" => binary = arguments.next().ok_or("--binary wants a path")?.into(),
            "--rounds" => rounds = arguments.next().ok_or("--rounds wants a number")?.parse()?,
            word => count = word.parse()?,
        }
    }
    let binary = binary.canonicalize()?;
    let folder = std::env::temp_dir().join(format!("containers-bench-{}", std::process::id()));
    std::fs::create_dir_all(&folder)?;
    let measured = measure(&binary, &folder, rounds, count);
    std::fs::remove_dir_all(&folder)?;
    measured
}

fn measure(binary: &Path, folder: &Path, rounds: usize, count: usize) -> Outcome<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (mut ours, mut bare) = (Vec::new(), Vec::new());
    // The first of each makes its image, and what the daemon has to learn of it.
    for round in 0..=rounds {
        let up = testbed_up(binary, folder, count)?;
        let alone = runtime.block_on(bare_up(count))?;
        println!("round {round}: {count} nodes with links {up:.3?}, {count} containers by the API alone {alone:.3?}");
        if round > 0 {
            ours.push(up);
            bare.push(alone);
        }
    }
    let (ours, bare) = (median(&mut ours), median(&mut bare));
    let ratio = ours.as_secs_f64() / bare.as_secs_f64();
    println!("{count} containers, median of {rounds}: {ours:.3?} / {bare:.3?} = {ratio:.3} (target 1.3)");
    for engine in ["netns", "docker"] {
        println!("{engine}: round trip over a network without impairments: {}", round_trip(binary, folder, engine)?);
    }
    Ok(())
}

fn median(values: &mut [Duration]) -> Duration {
    values.sort_unstable();
    values[values.len() / 2]
}

/// From the first request to the daemon until all links carry packets: what the log tells of a run.
fn testbed_up(binary: &Path, folder: &Path, count: usize) -> Outcome<Duration> {
    let file = folder.join("many.yaml");
    let others = count - 1;
    std::fs::write(
        &file,
        format!(
            "name: many\nseed: 1\nnodes:\n  other: {{ role: p2mp-receiver, out: none, count: {others} }}\n  last: {{ role: p2mp-sender, to: other-1, file: none }}\nfiles: {{ none: {{ size: 0B }} }}\nexpect:\n  last: {{ exit: 0 }}\n"
        ),
    )?;
    let told = run(binary, folder, &file, "docker")?;
    let line = told.lines().find(|line| line.contains("fabric-raised")).ok_or("the log does not tell")?;
    let took = line.split("\"took\":\"").nth(1).and_then(|rest| rest.split('"').next()).ok_or("without a time")?;
    Ok(Duration::from_nanos(took.parse::<machine::Span>()?.as_nanos()))
}

fn run(binary: &Path, folder: &Path, file: &Path, engine: &str) -> Outcome<String> {
    let output = Command::new(binary)
        .args(["run", "--engine", engine, "--format", "json"])
        .arg(file)
        .current_dir(folder)
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// From the first request to the daemon until the last container runs.
async fn bare_up(count: usize) -> Outcome<Duration> {
    let daemon = Daemon::connect().await?;
    let image = provide_own(&daemon, &Executable::of_this_process()?).await?;
    let client =
        bollard::Docker::connect_with_unix(&daemon.socket.to_string_lossy(), 120, bollard::API_DEFAULT_VERSION)?;
    let client = client.negotiate_version().await?;
    let began = Instant::now();
    let started: Vec<Outcome<String>> = stream::iter(0..count)
        .map(|_| async {
            let body = ContainerCreateBody {
                image: Some(image.clone()),
                entrypoint: Some(vec![docker::image::EXECUTABLE.to_owned(), "sleep".to_owned()]),
                host_config: Some(HostConfig {
                    network_mode: Some("none".to_owned()),
                    auto_remove: Some(true),
                    ..HostConfig::default()
                }),
                ..ContainerCreateBody::default()
            };
            let id = client.create_container(None::<CreateContainerOptions>, body).await?.id;
            client.start_container(&id, None::<StartContainerOptions>).await?;
            Ok(id)
        })
        .buffer_unordered(AT_ONCE)
        .collect()
        .await;
    let took = began.elapsed();
    let ids: Vec<String> = started.into_iter().collect::<Outcome<_>>()?;
    daemon.remove_all(&ids).await;
    Ok(took)
}

/// The summary that ping(8) gives of a thousand packets.
fn round_trip(binary: &Path, folder: &Path, engine: &str) -> Outcome<String> {
    let file = folder.join("echo.yaml");
    std::fs::write(
        &file,
        "name: echo\nseed: 1\nnodes:\n  far: { run: [sleep, \"60\"] }\n  near: { run: [ping, -q, -c, \"1000\", -i, \"0.002\", far] }\nexpect:\n  near: { exit: 0 }\n",
    )?;
    run(binary, folder, &file, engine)?;
    let log = folder.join("runs/echo/latest/nodes/near/stdout.log");
    let told = std::fs::read_to_string(log)?;
    Ok(told.lines().last().unwrap_or_default().to_owned())
}

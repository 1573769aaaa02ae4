//! `testbed init` impairs the network of a namespace that others made, from inside: here that of a node, on a bridge.

mod support;

use std::os::unix::process::ExitStatusExt;

use support::ping::{no_ping, quickest, times};
use support::{Place, Run, binary};

/// `pinger` pings `target`, whose init is told `shape`; further fields of the file in `rest`.
fn ping(place: &Place, shape: &str, rest: &str) -> Run {
    let text = format!(
        r#"
name: pinging
seed: 5
timeout: 40s
nodes:
  target:
    run: ["{binary}", init, --shape, "{shape}", --seed, "9", sleep, "60"]
    user: root
    ready: {{ log: "/eth0 is shaped/" }}
  pinger: {{ run: ["sh", "-c", "ping -n -i 0.02 -W 2 -c 20 target; :"], after: [target] }}
{rest}
expect:
  pinger: {{ exit: 0 }}
"#,
        binary = binary().display(),
    );
    let run = place.run_text("pinging", &text);
    run.expect_status(0);
    run
}

#[test]
fn delays_of_both_directions_add_up_where_the_network_is_a_bridge() {
    if no_ping() {
        return;
    }
    let place = Place::new();
    let run = ping(&place, "up.delay=10ms down.delay=5ms", "");
    assert_eq!(run.state().networks[0].medium, "bridge");
    let quickest = quickest(&times(&run));
    assert!((15.0..25.0).contains(&quickest), "{quickest} ms instead of 15");
}

#[test]
fn ipv6_moves_with_its_addresses_and_questions_for_them_pass() {
    if no_ping() {
        return;
    }
    let place = Place::new();
    let run = ping(&place, "delay=5ms", "networks: { net: { subnet: fd00:7::/64 } }");
    let quickest = quickest(&times(&run));
    assert!((10.0..20.0).contains(&quickest), "{quickest} ms instead of 10");
}

#[test]
fn a_download_through_it_is_whole_and_no_faster_than_its_rate() {
    let place = Place::new();
    let text = format!(
        r#"
name: serving
seed: 5
timeout: 60s
files: {{ movie: {{ size: 4MiB }} }}
nodes:
  server:
    run: ["{binary}", init, --seed, "5", --make-file, movie=4MiB, file-server, --port, "80", movie]
    user: root
    env: {{ SHAPE: "up.rate=40Mbit up.delay=2ms" }}
    ready: {{ tcp: 80 }}
  client: {{ role: downloader, from: server, out: movie }}
expect:
  client: {{ exit: 0, file: movie, within: 30s }}
"#,
        binary = binary().display(),
    );
    let run = place.run_text("serving", &text);
    // The file that the init made is the one that a topology with this seed has.
    run.expect_status(0);
    let taken = run.state().took.expect("the run has ended");
    // 4 MiB in frames of 1514 bytes that carry 1448, at 40 Mbit/s.
    assert!(taken.as_millis() >= 870, "{taken}");
}

/// Runs `testbed init` as the program of a node that is `user`, with `words`; what it printed, and the run.
fn init(place: &Place, user: &str, words: &str) -> (String, Run) {
    let text = format!(
        "name: one\nseed: 5\ntimeout: 40s\nnodes:\n  this: {{ run: [\"{}\", init, {words}]{user} }}\n  \
         other: {{ run: [sleep, \"60\"] }}\nexpect: {{ this: {{ exit: 0 }} }}\n",
        binary().display()
    );
    let run = place.run_text("one", &text);
    let folder = event::run_directory::node(&run.directory, "this");
    let said = ["stdout.log", "stderr.log"].map(|log| std::fs::read_to_string(folder.join(log)).unwrap_or_default());
    (said.concat(), run)
}

const ROOT: &str = ", user: root";

#[test]
fn the_program_has_no_capabilities_and_can_gain_none() {
    let place = Place::new();
    let (said, run) = init(
        &place,
        ROOT,
        r#"--shape, "delay=1ms", sh, -c, "grep -E '^(Cap(Eff|Prm|Inh)|NoNewPrivs)' /proc/self/status""#,
    );
    run.expect_status(0);
    for line in ["CapEff:\t0000000000000000", "CapPrm:\t0000000000000000", "NoNewPrivs:\t1"] {
        assert!(said.contains(line), "{said}");
    }
    assert!(said.contains("eth0 is shaped by"), "{said}");
    assert!(said.contains("eth0 sent") || said.contains("netem passed"), "what passed is told at the end: {said}");
}

#[test]
fn what_a_container_lacks_is_named_with_what_gives_it() {
    let place = Place::new();
    let (said, run) = init(&place, "", r#"--shape, "delay=1ms", "true""#);
    run.expect_status(1);
    let as_ordinary = said.contains("--user");
    assert!(said.contains("NET_ADMIN") && (as_ordinary || said.contains("--cap-add NET_ADMIN")), "{said}");
    assert!(run.state().causes.iter().any(|cause| cause.contains("exit 3")), "{:?}", run.state().causes);
    // Without anything to impair it takes nothing.
    init(&place, "", r#""true""#).1.expect_status(0);
}

#[test]
fn wrong_words_are_bad_input_and_nothing_starts() {
    for (words, says) in [
        (r#"--shape, "dely=1ms", sh, -c, "echo started""#, "did you mean `delay`?"),
        (r#"--shape, "delay=1ms", --interface, eth7, sh, -c, "echo started""#, "no interface `eth7`; there is eth0"),
        (r#"--shape, "loss=1%", --shaper, tbf, sh, -c, "echo started""#, "`tbf`"),
    ] {
        let place = Place::new();
        let (said, run) = init(&place, ROOT, words);
        assert!(said.contains(says) && !said.contains("started\n"), "{words}: {said}");
        assert!(run.state().causes.iter().any(|cause| cause.contains("exit 2")), "{:?}", run.state().causes);
    }
}

#[test]
fn it_ends_as_its_program_ends() {
    let status = |words: &[&str]| {
        let place = Place::new();
        place.testbed([&["init"], words].concat()).status()
    };
    assert_eq!(status(&["sh", "-c", "exit 7"]), Some(7));
    assert_eq!(status(&["sh", "-c", "kill -KILL $$"]), Some(137));
    assert_eq!(status(&["there-is-no-such-program"]), Some(127));
    assert_eq!(status(&["/etc/passwd"]), Some(126));
    assert_eq!(status(&["file-server", "--help"]), Some(0), "the name of a role means this executable");
    // Children of children are reaped by it, and do not outlive its program's end by being waited for.
    assert_eq!(status(&["sh", "-c", "(sleep 0.1; exit 3) & exit 4"]), Some(4));
}

#[test]
fn signals_reach_the_program() {
    let place = Place::new();
    let mut command = place.command();
    command.args(["init", "sh", "-c", "trap 'echo heard; exit 5' TERM; echo there; while :; do sleep 0.05; done"]);
    let mut child = command.stdout(std::process::Stdio::piped()).spawn().expect("testbed can be started");
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(child.stdout.take().expect("it was piped")));
    assert_eq!(lines.next().expect("a line").expect("text"), "there");
    let pid = nix::unistd::Pid::from_raw(child.id() as i32);
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).expect("it runs");
    assert_eq!(lines.next().expect("a line").expect("text"), "heard");
    let status = child.wait().expect("it can be waited for");
    assert_eq!((status.code(), status.signal()), (Some(5), None));
}

#[test]
fn the_network_of_whoever_is_no_container_stays_as_it_is() {
    let place = Place::new();
    let ended = place.testbed(["init", "--shape", "delay=1ms", "true"]);
    ended.expect_status(3);
    assert!(ended.stderr().contains("only the init of a container may change its network"), "{}", ended.told());
}

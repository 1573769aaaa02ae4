//! Each packet of a run is accounted for, from the sender's link to what the receiver's program kept, whatever happened.

mod support;

use event::{Direction, LinkAccount, RunState};
use serde_json::Value;
use support::{Place, Run};

/// Everything at once, in the middle of a transfer: losses, bursts, duplicates, wrong bits, full queues, a machine that
/// dies and comes back, a partition, a link that changes; and receivers that throw away a share of what is left.
const ROUGH: &str = r#"
name: accounts
seed: 11
timeout: 90s
shaper: relay
files: { notice: { size: 3MB } }
links:
  rough:
    up: { delay: 2ms, loss: 1% }
    down: { rate: 30Mbit, queue: 20kB, delay: 5ms, burst: { p: 1%, r: 30% }, duplicate: 1%, corrupt: 0.5% }
nodes:
  caller: { role: p2mp-sender, to: listener, file: notice, mode: fast, link: { delay: 3ms, loss: 0.5% } }
  listener: { count: 3, role: p2mp-receiver, p: 5%, out: notice, link: rough }
pairs:
  - { from: caller, to: listener-3, link: { delay: 4ms, loss: 1% } }
events:
  - { when: "listener-1 >= 20%", partition: [[caller], [listener-3]], for: 700ms }
  - { when: "listener-1 >= 25%", crash: listener-2 }
  - { after: 1s, revive: listener-2 }
  - { after: 100ms, link: listener-1, set: { down: { rate: 10Mbit } }, for: 200ms }
expect:
  caller: { exit: 0 }
  listener: { exit: 0, file: notice }
"#;

fn sum(state: &RunState, of: impl Fn(&LinkAccount<'_>) -> u64) -> u64 {
    state.accounts().map(|account| of(&account)).sum()
}

fn accounts_add_up(run: &Run) -> RunState {
    let state = run.state();
    assert_eq!(state.links.len(), 2 * 4 + 1, "two halves for each node, and the pair: {:?}", state.links);
    for account in state.accounts() {
        assert!(account.adds_up(), "{account:?}");
        let is_listening = account.count.node.starts_with("listener") && account.count.direction == Direction::Down;
        assert_eq!(account.program.is_some(), is_listening, "{account:?}");
    }
    let result = std::fs::read_to_string(run.directory.join("result.json")).expect("a run leaves its result");
    let result: Value = serde_json::from_str(&result).expect("it is JSON");
    let links = result["links"].as_array().expect("a list");
    assert!(links.iter().all(|link| link["adds_up"] == true), "{links:#?}");
    state
}

#[test]
fn a_rough_run_with_a_crash_and_a_partition_adds_up_on_either_engine() {
    for words in [&["--engine", "sim"][..], &[]] {
        let place = Place::new();
        let file = place.write("accounts.yaml", ROUGH);
        let run = place.run(&file, words);
        run.expect_status(0);
        let state = accounts_add_up(&run);
        let lost = sum(&state, |account| account.count.lost);
        let thrown = sum(&state, |account| account.program.unwrap_or_default().discarded);
        let kept = sum(&state, |account| account.program.unwrap_or_default().kept());
        assert!(lost > 0 && thrown > 0 && kept > thrown, "{lost} lost, {thrown} thrown away, {kept} kept");
        if run.kept_up() {
            // A machine that stood still meanwhile had nothing to lose.
            let cut = sum(&state, |account| account.count.cut);
            let parted = sum(&state, |account| account.count.partition);
            assert!(cut > 0 && parted > 0, "{cut} cut off, {parted} parted");
        }
        let table = run.ended.stdout();
        for word in ["to program", "program p", "kept"] {
            assert!(table.contains(word), "the table has no {word}\n{table}");
        }
        assert!(!table.contains("do not add up"), "{table}");
    }
}

//! Who lives: a server that comes back is used again within 250 ms, and neither the check server's word nor the client's
//! own silence-counting is trusted alone. In virtual time, where no machine is busy.

use machine::{Rate, Span, Time};
use sim::{Content, Fault, Health, Report, Server, World};

const LENGTH: usize = 8_000_000;

fn at(millis: u64) -> Time {
    Time::ZERO + Span::from_millis(millis)
}

/// The check server, as these tests see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Check {
    /// There is none.
    None,
    /// It tells what is so.
    True,
    /// It says dead whenever it is not asked to say anything.
    Pessimist,
    /// It says alive.
    Optimist,
}

/// Two servers of 8 Mbit/s each, of which the second one suffers these faults.
fn run(check: Check, faults: &[(u64, Fault)]) -> Report {
    let mut world = World::new(3, vec![Content::random(3, LENGTH, 64 << 10)]);
    for _ in 0..2 {
        world.add_server(Server::new(0, Rate::from_mbit(8), Span::from_millis(10)));
    }
    if check == Check::True {
        world.add_check(Span::from_millis(30), Span::from_millis(400));
    }
    if matches!(check, Check::Pessimist | Check::Optimist) {
        for time in (50..10_000).step_by(50) {
            world.plan(at(time), Fault::Rumour { server: 1, alive: check == Check::Optimist });
        }
    }
    faults.iter().for_each(|(when, fault)| world.plan(at(*when), fault.clone()));
    let report = world.run(at(60_000));
    assert!(report.is_complete(), "{check:?} {faults:?}\n{report:#?}");
    report
}

fn health(health: Health) -> Fault {
    Fault::Health(1, health)
}

/// When the second server's first bytes came in each of its lives.
fn first_bytes(report: &Report) -> Vec<Time> {
    report.first_bytes.iter().filter(|first| first.server == 1).map(|first| first.at).collect()
}

#[test]
fn a_revived_server_is_used_again_within_250_ms() {
    let mut longest = Span::ZERO;
    for sickness in [Health::Killed, Health::Crashed] {
        for check in [Check::None, Check::True, Check::Pessimist, Check::Optimist] {
            // Every phase of asking again, and absences from a blink to seconds.
            for back in (1_005..1_160).step_by(19).chain([1_700, 2_503, 3_011]) {
                let report = run(check, &[(1_000, health(sickness)), (back, health(Health::Up))]);
                let again = first_bytes(&report).into_iter().find(|first| *first >= at(back));
                let again = again.unwrap_or_else(|| panic!("{sickness:?} {check:?} {back}: never\n{:#?}", report.log));
                // A crash of less than the silence that an ordinary loss causes is noticed when that is over.
                let noticed = if sickness == Health::Crashed { at(back).max(at(1_000 + 700)) } else { at(back) };
                let took = again.since(noticed);
                assert!(took.as_millis() <= 250, "{sickness:?} {check:?} back at {back} ms: {took}\n{:#?}", report.log);
                longest = longest.max(took);
            }
        }
    }
    println!("at most {longest}");
}

#[test]
fn a_server_that_is_called_dead_and_delivers_keeps_its_work() {
    let calm = run(Check::None, &[]);
    let rumoured = run(Check::Pessimist, &[]);
    // Both serve to the end: half of the time of one.
    assert!(rumoured.ended.since(calm.ended).as_millis() <= 100, "{:?} against {:?}", rumoured.ended, calm.ended);
    let down = rumoured.log.iter().find(|line| line.contains("SourceId(1), state: Down"));
    assert_eq!(down, None, "bytes that flow outweigh a word");
}

#[test]
fn a_server_that_is_called_alive_and_is_dead_holds_nothing_back() {
    for sickness in [Health::Killed, Health::Crashed, Health::Stalled] {
        let honest = run(Check::None, &[(1_000, health(sickness))]);
        let rumoured = run(Check::Optimist, &[(1_000, health(sickness))]);
        let later = rumoured.ended.since(honest.ended);
        assert!(later.as_millis() <= 100, "{sickness:?}: {:?} against {:?}", rumoured.ended, honest.ended);
    }
}

#[test]
fn silence_and_the_check_server_together_are_believed_sooner_than_silence_alone() {
    let noticed = |report: &Report| {
        let line = report.log.iter().find(|line| line.contains("SourceId(1), state: Down"));
        line.and_then(|line| line.split_once(' ')).map(|(time, _)| time.to_owned())
    };
    let alone = run(Check::None, &[(1_000, health(Health::Crashed))]);
    let told =
        run(Check::None, &[(1_000, health(Health::Crashed)), (1_150, Fault::Rumour { server: 1, alive: false })]);
    let millis = |report: &Report| {
        let time = noticed(report).unwrap_or_else(|| panic!("nobody noticed\n{:#?}", report.log));
        let digits: String = time.chars().filter(char::is_ascii_digit).collect();
        let value: u64 = digits.parse().unwrap();
        if time.ends_with("ns") {
            value / 1_000_000
        } else if time.ends_with("us") {
            value / 1000
        } else {
            value
        }
    };
    let (alone, told) = (millis(&alone), millis(&told));
    assert!((1_550..1_750).contains(&alone), "by silence alone at {alone} ms");
    assert!((1_150..1_300).contains(&told), "with the check server's word at {told} ms");
}

#[test]
fn a_server_that_never_answers_is_asked_less_and_less_often() {
    let report = run(Check::None, &[(0, health(Health::Mute))]);
    // Four seconds: a question each 150 ms would be 27.
    assert!(report.questions <= 15, "{} questions\n{:#?}", report.questions, report.log);
}

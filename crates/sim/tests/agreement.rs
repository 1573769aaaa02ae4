//! The rows that drivers of links are held to, in virtual time: what is expected of relay and netem, and that it is what the
//! profiles say. `tests/bench.rs` and `tests/netem.rs` hold the drivers to it.

use std::fmt::Write as _;

use machine::Seed;
use sim::agreement::{Expected, Figure, Figures, Leeway, Model, Netem, Row, rows};

const SEEDS: u32 = 64;

fn expected() -> Vec<(Row, Expected)> {
    let rows = rows();
    let model = Model::of(&rows).expect("the table is right");
    rows.into_iter()
        .map(|row| {
            let expected = model.expected(&row, SEEDS);
            (row, expected)
        })
        .collect()
}

fn row(name: &str) -> Row {
    rows().into_iter().find(|row| row.name == name).expect("a row of the table")
}

#[test]
fn figures_are_those_of_the_table() {
    let mut table = format!("{:<18}{:>6}", "row", "sent");
    for figure in Figure::ALL {
        write!(table, "{:>18}", figure.name()).unwrap();
    }
    writeln!(table, "  netem (means and standard deviations over {SEEDS} seeds)").unwrap();
    for (row, expected) in expected() {
        write!(table, "{:<18}{:>6}", row.name, row.traffic.packets).unwrap();
        for figure in Figure::ALL {
            let cell = expected.of(figure).map_or("-".to_owned(), |(mean, deviation)| {
                if deviation == 0.0 { format!("{mean:.2}") } else { format!("{mean:.2} ± {deviation:.2}") }
            });
            write!(table, "{cell:>18}").unwrap();
        }
        let netem = match row.netem {
            Netem::Alike => "alike".to_owned(),
            Netem::Differs(why) => format!("differs: {why}"),
        };
        writeln!(table, "  {netem}").unwrap();
    }
    let committed = include_str!("agreement.txt");
    assert_eq!(table, committed, "the table has changed; if that is meant, commit this:\n{table}");
}

/// The table is no witness for itself: shares are binomial (or Gilbert and Elliott's), delays and rates those of the file.
#[test]
fn what_is_expected_is_what_the_profiles_say() {
    let all = expected();
    let of = |name: &str, figure| all.iter().find(|(row, _)| row.name == name).unwrap().1.of(figure).unwrap();
    // Of a sum of 64 draws the mean is known to an eighth of a standard deviation; five of those.
    for (name, figure, n, share) in [
        ("loss-tenth", Figure::Lost, 4000.0, 0.001),
        ("loss-1", Figure::Lost, 4000.0, 0.01),
        ("loss-5", Figure::Lost, 2000.0, 0.05),
        ("loss-20", Figure::Lost, 2000.0, 0.2),
        ("duplicate", Figure::Copies, 1000.0, 0.02),
        ("corrupt", Figure::Corrupted, 2000.0, 0.05),
        ("everything", Figure::Lost, 1000.0, 0.02),
        ("asymmetric-down", Figure::Lost, 1000.0, 0.01),
    ] {
        let (mean, deviation) = of(name, figure);
        let sigma = f64::sqrt(n * share * (1.0 - share));
        assert!((mean - n * share).abs() < 5.0 * sigma / 8.0, "{name}: {mean} of {n}");
        // A standard deviation from 64 values is known to a ninth.
        assert!((deviation / sigma - 1.0).abs() < 5.0 / 9.0, "{name}: ± {deviation} instead of {sigma}");
    }
    // A 26th of the packets finds the bad state, in runs of four: the variance is (2 − p − r)/(p + r) times the binomial one.
    let (mean, deviation) = of("burst", Figure::Lost);
    let (share, memory) = (1.0 / 26.0, (2.0 - 0.26) / 0.26);
    let sigma = f64::sqrt(4000.0 * share * (1.0 - share) * memory);
    assert!((mean - 4000.0 * share).abs() < 5.0 * sigma / 8.0, "{mean}");
    assert!((deviation / sigma - 1.0).abs() < 5.0 / 9.0, "± {deviation} instead of {sigma}");
    for (name, millis) in [
        ("delay-1ms", 1.0),
        ("delay-10ms", 10.0),
        ("delay-100ms", 100.0),
        // 200 bytes at 10 and 50 Mbit/s.
        ("rate-and-delay", 30.16),
        ("asymmetric-up", 5.16),
        ("asymmetric-down", 20.032),
    ] {
        for figure in [Figure::Mean, Figure::P50, Figure::P90, Figure::P99] {
            assert!((of(name, figure).0 - millis).abs() < 1e-6, "{name}: {:?}", of(name, figure));
        }
    }
    // Uniform in 9 to 11 ms.
    let quantiles = [Figure::P50, Figure::P90, Figure::P99].map(|figure| of("jitter-1ms", figure).0);
    assert!(
        quantiles.iter().zip([10.0, 10.8, 10.98]).all(|(found, wanted)| (found - wanted).abs() < 0.05),
        "{quantiles:?}"
    );
    for (name, mbit) in [("rate-1mbit", 1.0), ("rate-10mbit", 10.0), ("rate-100mbit", 100.0), ("rate-500mbit", 500.0)] {
        let (rate, _) = of(name, Figure::Rate);
        assert!((rate / mbit - 1.0).abs() < 0.001, "{name}: {rate}");
        assert_eq!(of(name, Figure::Lost), (0.0, 0.0), "{name}: the train fits into the queue");
    }
    assert_eq!(of("drop-list", Figure::Lost), (12.0, 0.0));
    // One being sent and twenty that wait, of sixty.
    assert_eq!(of("queue", Figure::Lost), (39.0, 0.0));
    assert_eq!(of("jitter-8ms", Figure::Reordered), (0.0, 0.0), "the model keeps the order");
}

#[test]
fn a_driver_that_is_off_strays() {
    let strays = |name: &str, change: &dyn Fn(&mut Figures)| {
        let row = row(name);
        let model = Model::of(std::slice::from_ref(&row)).unwrap();
        let mut figures = model.figures(&row, Seed::new(5));
        change(&mut figures);
        let strays = model.expected(&row, SEEDS).strays(&row, &figures, &Leeway::KEPT_UP);
        strays.into_iter().map(|stray| stray.figure).collect::<Vec<_>>()
    };
    assert_eq!(strays("delay-10ms", &|_| {}), []);
    assert_eq!(strays("delay-10ms", &|figures| figures.p50 = figures.p50 * 11 / 10), [Figure::P50]);
    assert_eq!(strays("delay-10ms", &|figures| figures.reordered = 1), [Figure::Reordered]);
    assert_eq!(strays("loss-1", &|figures| figures.lost = 0), [Figure::Lost]);
    assert_eq!(strays("loss-1", &|figures| figures.lost = 75), [Figure::Lost]);
    assert_eq!(strays("rate-100mbit", &|figures| figures.rate *= 1.03), [Figure::Rate]);
    assert_eq!(strays("rate-100mbit", &|figures| figures.rate *= 0.99), []);
}

//! The profiles that drivers of links are held to, and the traffic that shows them.

use std::fmt::Write as _;

use machine::{Span, Time};

/// The node that has the links of all rows.
pub const LEFT: &str = "left";

/// The node at the other ends, whose own links impair nothing.
pub const RIGHT: &str = "right";

/// One profile, and what is sent through it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// Unique; also the name of its network.
    pub name: &'static str,
    /// The link of [`LEFT`], as a topology file says it.
    pub link: &'static str,
    /// Through which half of it the traffic goes.
    pub way: Way,
    /// What is sent.
    pub traffic: Traffic,
    /// What of it can be told.
    pub kind: Kind,
    /// How netem compares.
    pub netem: Netem,
}

/// A half of the link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// From [`LEFT`] to [`RIGHT`].
    Up,
    /// From [`RIGHT`] to [`LEFT`].
    Down,
}

/// What the traffic of a row shows beside what was lost, came twice or was damaged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// How long each packet took.
    Delays,
    /// How fast a line sends that always has something to send.
    Rate,
    /// What a full queue drops: how much depends on how fast the sender is, so it is counted only in good time.
    Queue,
}

/// How netem compares with the model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Netem {
    /// Alike, and `shaper: auto` takes it where a seed can be kept.
    Alike,
    /// It does otherwise by nature: `shaper: auto` avoids it, and an explicit `netem` is refused, for a reason with this word.
    Differs(&'static str),
}

/// Packets of one size, in turns: those of a turn are sent one right after the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Traffic {
    /// How many.
    pub packets: u32,
    /// Ethernet bytes without FCS of each, [`SMALLEST`](Traffic::SMALLEST) to 1514.
    pub bytes: u32,
    /// How many at a time.
    pub turn: u32,
    /// From the beginning of a turn to that of the next.
    pub interval: Span,
}

impl Traffic {
    /// Headers of Ethernet, IPv4 and UDP, and room for what a packet says about itself.
    pub const SMALLEST: u32 = 42 + 48;

    /// When packet `number`, from 0, is to be sent, if the first is at `begin`.
    pub fn time_of(&self, number: u32, begin: Time) -> Time {
        begin + self.interval * u64::from(number / self.turn)
    }

    /// From the first turn to the last.
    pub fn lasts(&self) -> Span {
        self.time_of(self.packets - 1, Time::ZERO).since(Time::ZERO)
    }
}

/// The table. A packet every few milliseconds shows delays, many at once show losses, and a long train shows a rate.
pub fn rows() -> Vec<Row> {
    let paced = |packets, millis| Traffic { packets, bytes: 200, turn: 1, interval: Span::from_millis(millis) };
    let dense = |packets| Traffic { packets, bytes: 200, turn: 8, interval: Span::from_millis(5) };
    let train = |packets| Traffic { packets, bytes: 1514, turn: packets, interval: Span::ZERO };
    let up = |name, link, traffic, kind, netem| Row { name, link, way: Way::Up, traffic, kind, netem };
    let (delays, rate) = (Kind::Delays, Kind::Rate);
    let alike = Netem::Alike;
    let asymmetric = "{ up: { rate: 10Mbit, delay: 5ms }, down: { rate: 50Mbit, delay: 20ms, loss: 1% } }";
    vec![
        up("delay-1ms", "{ delay: 1ms }", paced(500, 4), delays, alike),
        up("delay-10ms", "{ delay: 10ms }", paced(500, 4), delays, alike),
        up("delay-100ms", "{ delay: 100ms }", paced(500, 4), delays, alike),
        up("jitter-1ms", "{ delay: 10ms, jitter: 1ms }", paced(500, 4), delays, Netem::Differs("jitter")),
        up("jitter-8ms", "{ delay: 20ms, jitter: 8ms }", paced(1000, 2), delays, Netem::Differs("jitter")),
        // Packets that may overtake others do so by the jitter, too.
        up("jitter-overtaking", "{ delay: 20ms, jitter: 8ms, reorder: 1% }", paced(1000, 2), delays, alike),
        up("loss-tenth", "{ loss: 0.1% }", dense(4000), delays, alike),
        up("loss-1", "{ loss: 1% }", dense(4000), delays, alike),
        up("loss-5", "{ delay: 5ms, loss: 5% }", dense(2000), delays, alike),
        up("loss-20", "{ loss: 20% }", dense(2000), delays, alike),
        up("burst", "{ burst: { p: 1%, r: 25% } }", dense(4000), delays, alike),
        up("burst-mild", "{ burst: { p: 5%, r: 20%, good: 0.5%, bad: 50% } }", dense(4000), delays, alike),
        up("drop-list", "{ drop: [3, 100-110] }", dense(400), delays, Netem::Differs("drop")),
        up("reorder", "{ delay: 9ms, reorder: 5% }", paced(1000, 2), delays, alike),
        up("duplicate", "{ delay: 2ms, duplicate: 2% }", paced(1000, 2), delays, alike),
        up("corrupt", "{ corrupt: 5% }", dense(2000), delays, alike),
        up(
            "everything",
            "{ rate: 20Mbit, delay: 10ms, loss: 2%, duplicate: 2%, corrupt: 2% }",
            paced(1000, 2),
            delays,
            alike,
        ),
        // A packet of 200 bytes takes 0.16 ms of the line.
        up("rate-and-delay", "{ rate: 10Mbit, delay: 30ms }", paced(500, 4), delays, alike),
        up("asymmetric-up", asymmetric, paced(500, 4), delays, alike),
        Row { way: Way::Down, ..up("asymmetric-down", asymmetric, paced(1000, 2), delays, alike) },
        up("rate-1mbit", "{ rate: 1Mbit, queue: 100 }", train(100), rate, alike),
        up("rate-10mbit", "{ rate: 10Mbit, queue: 300 }", train(300), rate, alike),
        up("rate-100mbit", "{ rate: 100Mbit, queue: 2000 }", train(1500), rate, alike),
        up("rate-500mbit", "{ rate: 500Mbit, queue: 4000 }", train(3000), rate, alike),
        up("queue", "{ rate: 1Mbit, queue: 20 }", train(60), Kind::Queue, alike),
    ]
}

/// The topology of two nodes that has a network for each of `rows`, under `shaper` (`relay`, `netem` or `auto`).
///
/// Both nodes' programs are placeholders: whoever raises this sends the traffic himself.
pub fn topology<'a>(rows: impl IntoIterator<Item = &'a Row>, shaper: &str, seed: u64) -> String {
    let (mut networks, mut left, mut right) = (String::new(), String::new(), String::new());
    for (number, Row { name, link, .. }) in rows.into_iter().enumerate() {
        // Subnets by number: a derived one may be another in a smaller table.
        let _ = writeln!(networks, "  {name}: {{ subnet: 10.77.{number}.0/24 }}");
        let _ = writeln!(left, "      {name}: {{ link: {link} }}");
        let _ = writeln!(right, "      {name}: {{}}");
    }
    format!(
        "name: agreement\nseed: {seed}\nshaper: {shaper}\nnetworks:\n{networks}nodes:\n  \
         {LEFT}:\n    run: [\"true\"]\n    networks:\n{left}  {RIGHT}:\n    run: [\"true\"]\n    networks:\n{right}"
    )
}

#[cfg(test)]
mod tests {
    use machine::Seed;
    use topology::plan::Medium;
    use topology::{NetemSupport, Overrides, Source};

    use super::*;

    fn network(row: &Row, shaper: &str) -> Result<(Medium, String), String> {
        let text = topology([row], shaper, 7);
        let overrides = Overrides { netem: NetemSupport::Seeded, ..Overrides::new(Seed::new(7)) };
        let plan = topology::load(&Source::new("agreement.yaml", &text), &overrides).map_err(|wrong| wrong.to_string());
        plan.map(|plan| (plan.networks()[0].medium, plan.networks()[0].why.clone()))
    }

    #[test]
    fn auto_takes_netem_exactly_where_the_table_says_that_it_is_alike() {
        for row in rows() {
            let (medium, why) = network(&row, "auto").unwrap();
            match row.netem {
                Netem::Alike => assert_eq!(medium, Medium::Netem, "{}: {why}", row.name),
                Netem::Differs(word) => {
                    assert_eq!(medium, Medium::Relay, "{}", row.name);
                    assert!(why.contains("not netem") && why.contains(word), "{}: {why}", row.name);
                }
            }
        }
    }

    #[test]
    fn an_explicit_netem_is_refused_exactly_where_the_table_says_that_it_differs() {
        for row in rows() {
            match (network(&row, "netem"), row.netem) {
                (Ok((medium, _)), Netem::Alike) => assert_eq!(medium, Medium::Netem, "{}", row.name),
                (Err(wrong), Netem::Differs(word)) => assert!(wrong.contains(word), "{}: {wrong}", row.name),
                (found, said) => panic!("{}: {found:?} instead of {said:?}", row.name),
            }
        }
    }

    #[test]
    fn the_table_is_long_enough_and_its_names_are_unique() {
        let rows = rows();
        let names: std::collections::BTreeSet<_> = rows.iter().map(|row| row.name).collect();
        assert!(rows.len() >= 20 && names.len() == rows.len());
        let sizes = rows.iter().map(|row| row.traffic.bytes);
        assert!(sizes.into_iter().all(|bytes| (Traffic::SMALLEST..=1514).contains(&bytes)));
    }
}

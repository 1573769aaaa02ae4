//! What is told of the packets of a row.

use machine::{Span, Time};

use super::table::{Kind, Row};

/// One packet that arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// Which of the row's packets, from 0.
    pub number: u32,
    /// When the first packet of its turn was sent.
    pub sent: Time,
    /// When it arrived.
    pub at: Time,
    /// Whether it is other than it was sent.
    pub is_damaged: bool,
}

/// What became of the packets of a row. Delays count from the beginning of a packet's turn.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Figures {
    /// How many were sent.
    pub sent: u64,
    /// How many of them did not arrive.
    pub lost: u64,
    /// How many arrived once more.
    pub copies: u64,
    /// How many of those that arrived, second ones not counted, were other than they had been sent.
    pub corrupted: u64,
    /// How many, second ones not counted, arrived behind one that was sent later (RFC 4737, section 3).
    pub reordered: u64,
    /// Of all that arrived, second ones not counted.
    pub mean: Span,
    /// Half of them took no longer.
    pub p50: Span,
    /// Nine of ten.
    pub p90: Span,
    /// 99 of 100.
    pub p99: Span,
    /// Bits in a second from the first arrival to the last; 0 where there are not two.
    pub rate: f64,
}

/// One of the figures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Figure {
    /// [`Figures::lost`].
    Lost,
    /// [`Figures::copies`].
    Copies,
    /// [`Figures::corrupted`].
    Corrupted,
    /// [`Figures::reordered`].
    Reordered,
    /// [`Figures::mean`], in milliseconds.
    Mean,
    /// [`Figures::p50`], in milliseconds.
    P50,
    /// [`Figures::p90`], in milliseconds.
    P90,
    /// [`Figures::p99`], in milliseconds.
    P99,
    /// [`Figures::rate`], in Mbit/s.
    Rate,
}

impl Figures {
    /// What these arrivals, in their order, say of a row of whose packets all were sent.
    pub fn of(row: &Row, arrivals: &[Arrival]) -> Figures {
        let traffic = row.traffic;
        let mut seen = vec![false; traffic.packets as usize];
        let mut figures = Figures { sent: u64::from(traffic.packets), ..Figures::default() };
        let mut delays = Vec::with_capacity(arrivals.len());
        let mut highest = None;
        for arrival in arrivals {
            let Some(seen) = seen.get_mut(arrival.number as usize) else { continue };
            if std::mem::replace(seen, true) {
                figures.copies += 1;
                continue;
            }
            figures.corrupted += u64::from(arrival.is_damaged);
            figures.reordered += u64::from(highest > Some(arrival.number));
            highest = highest.max(Some(arrival.number));
            delays.push(arrival.at.since(arrival.sent));
        }
        figures.lost = figures.sent - delays.len() as u64;
        if let (Some(first), Some(last)) = (arrivals.first(), arrivals.last()) {
            // The first arrival ends what the others took.
            let bits = (arrivals.len() as u64 - 1) * u64::from(traffic.bytes) * 8;
            let nanos = last.at.since(first.at).as_nanos();
            figures.rate = if nanos == 0 { 0.0 } else { bits as f64 * 1e9 / nanos as f64 };
        }
        delays.sort_unstable();
        let quantile =
            |percent| delays.get(delays.len().saturating_sub(1) * percent / 100).copied().unwrap_or_default();
        [figures.p50, figures.p90, figures.p99] = [50, 90, 99].map(quantile);
        let sum: u128 = delays.iter().map(|delay| u128::from(delay.as_nanos())).sum();
        figures.mean = Span::from_nanos((sum / delays.len().max(1) as u128) as u64);
        figures
    }

    /// One of them, as a number.
    pub fn get(&self, figure: Figure) -> f64 {
        let millis = |span: Span| span.as_nanos() as f64 / 1e6;
        match figure {
            Figure::Lost => self.lost as f64,
            Figure::Copies => self.copies as f64,
            Figure::Corrupted => self.corrupted as f64,
            Figure::Reordered => self.reordered as f64,
            Figure::Mean => millis(self.mean),
            Figure::P50 => millis(self.p50),
            Figure::P90 => millis(self.p90),
            Figure::P99 => millis(self.p99),
            Figure::Rate => self.rate / 1e6,
        }
    }
}

impl Figure {
    /// All of them.
    pub const ALL: [Figure; 9] = [
        Figure::Lost,
        Figure::Copies,
        Figure::Corrupted,
        Figure::Reordered,
        Figure::Mean,
        Figure::P50,
        Figure::P90,
        Figure::P99,
        Figure::Rate,
    ];

    /// Its name in tables, with its unit.
    pub fn name(self) -> &'static str {
        match self {
            Figure::Lost => "lost",
            Figure::Copies => "copies",
            Figure::Corrupted => "corrupted",
            Figure::Reordered => "reordered",
            Figure::Mean => "mean ms",
            Figure::P50 => "p50 ms",
            Figure::P90 => "p90 ms",
            Figure::P99 => "p99 ms",
            Figure::Rate => "Mbit/s",
        }
    }

    /// Whether it is a number of packets.
    pub fn is_count(self) -> bool {
        matches!(self, Figure::Lost | Figure::Copies | Figure::Corrupted | Figure::Reordered)
    }

    /// Whether a machine that is slow leaves it as it is. Which packets overtake others depends on when they are sent.
    pub fn withstands_slowness(self) -> bool {
        self.is_count() && self != Figure::Reordered
    }

    /// Whether it says anything about rows of this kind.
    pub fn tells(self, kind: Kind) -> bool {
        match self {
            Figure::Rate => kind == Kind::Rate,
            Figure::Mean | Figure::P50 | Figure::P90 | Figure::P99 => kind == Kind::Delays,
            _ => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::table::rows;
    use super::*;

    #[test]
    fn every_packet_is_counted_once_and_second_ones_apart() {
        let row = Row { traffic: super::super::Traffic { packets: 5, ..rows()[0].traffic }, ..rows()[0].clone() };
        let arrival = |number, at| Arrival {
            number,
            sent: Time::ZERO + Span::from_millis(u64::from(number)),
            at: Time::ZERO + Span::from_millis(at),
            is_damaged: number == 3,
        };
        // 2 comes before 1, 3 twice, 4 never.
        let figures = Figures::of(&row, &[arrival(0, 2), arrival(2, 4), arrival(1, 5), arrival(3, 6), arrival(3, 6)]);
        assert_eq!((figures.sent, figures.lost, figures.copies), (5, 1, 1));
        assert_eq!((figures.corrupted, figures.reordered), (1, 1));
        assert_eq!((figures.p50, figures.p99), (Span::from_millis(2), Span::from_millis(3)));
        assert_eq!(figures.mean, Span::from_micros(2750));
        // Four of 200 bytes in the 4 ms after the first.
        assert_eq!(figures.rate, 1_600_000.0);
        assert_eq!(Figures::of(&row, &[]).lost, 5);
    }
}

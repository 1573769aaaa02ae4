//! netem's parameters as the payload of `TCA_OPTIONS`, and back (`linux/pkt_sched.h`, `net/sched/sch_netem.c`).
//!
//! A `struct tc_netem_qopt` is followed by attributes, without one around them. In a change, an attribute that is absent
//! leaves what it stands for as it was, so those of shares and of the rate are always there.

use machine::Span;

use super::{Loss, Netem};
use crate::netlink::{Attributes, attribute};

const CORR: u16 = 1;
const REORDER: u16 = 3;
const CORRUPT: u16 = 4;
const LOSS: u16 = 5;
const RATE: u16 = 6;
const RATE64: u16 = 8;
const LATENCY64: u16 = 10;
const JITTER64: u16 = 11;
const PRNG_SEED: u16 = 14;

/// `NETEM_LOSS_GE`, inside [`LOSS`].
const LOSS_GE: u16 = 2;
/// `NLA_F_NESTED`.
const NESTED: u16 = 1 << 15;

/// `struct tc_netem_qopt`: six words.
const QOPT: usize = 24;

/// The kernel's unit of time in that structure: 64 ns (`PSCHED_SHIFT`).
const TICK_SHIFT: u32 = 6;

impl Netem {
    /// As a request has it. What tc(8) sends comes first, in its order; then what it says only by rounding.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let independent = match self.loss {
            Loss::Independent(share) => share,
            Loss::GilbertElliott { .. } => 0,
        };
        // Of the packets that may overtake, each first one may (`gap`).
        let gap = u32::from(self.reorder > 0);
        let mut out = words(&[ticks(self.latency), self.limit, independent, gap, self.duplicate, ticks(self.jitter)]);
        // Nothing here depends on the packet before.
        attribute(&mut out, CORR, &words(&[0, 0, 0]));
        attribute(&mut out, REORDER, &words(&[self.reorder, 0]));
        attribute(&mut out, CORRUPT, &words(&[self.corrupt, 0]));
        if let Loss::GilbertElliott { p, r, h, k1 } = self.loss {
            let mut nested = Vec::new();
            attribute(&mut nested, LOSS_GE, &words(&[p, r, h, k1]));
            attribute(&mut out, LOSS | NESTED, &nested);
        }
        let rate = u32::try_from(self.rate).unwrap_or(u32::MAX);
        if rate == u32::MAX {
            attribute(&mut out, RATE64, &self.rate.to_ne_bytes());
        }
        // No overhead and no cells.
        attribute(&mut out, RATE, &words(&[rate, 0, 0, 0]));
        attribute(&mut out, LATENCY64, &self.latency.as_nanos().to_ne_bytes());
        attribute(&mut out, JITTER64, &self.jitter.as_nanos().to_ne_bytes());
        if let Some(seed) = self.seed {
            attribute(&mut out, PRNG_SEED, &seed.to_ne_bytes());
        }
        out
    }

    /// Reads what a kernel says; `None` where it is none or says something that no request of ours asks for.
    pub(crate) fn decode(options: &[u8]) -> Option<Self> {
        let (qopt, attributes) = options.split_at_checked(QOPT)?;
        let [latency, limit, loss, gap, duplicate, jitter] = read_words(qopt)?;
        let span = |ticks: u32| Span::from_nanos(u64::from(ticks) << TICK_SHIFT);
        let mut netem = Netem {
            limit,
            latency: span(latency),
            jitter: span(jitter),
            loss: Loss::Independent(loss),
            duplicate,
            ..Netem::default()
        };
        let mut rate64 = None;
        for (kind, value) in Attributes(attributes) {
            match kind & !NESTED {
                CORR if read_words::<3>(value)? != [0; 3] => return None,
                REORDER => [netem.reorder, _] = read_words(value)?,
                CORRUPT => [netem.corrupt, _] = read_words(value)?,
                LOSS => {
                    let (_, model) = Attributes(value).find(|(kind, _)| *kind == LOSS_GE)?;
                    let [p, r, h, k1] = read_words(model)?;
                    netem.loss = Loss::GilbertElliott { p, r, h, k1 };
                }
                RATE => {
                    let [rate, overhead, cell, cell_overhead] = read_words(value)?;
                    if [overhead, cell, cell_overhead] != [0; 3] {
                        return None;
                    }
                    netem.rate = u64::from(rate);
                }
                RATE64 => rate64 = Some(read_long(value)?),
                LATENCY64 => netem.latency = Span::from_nanos(read_long(value)?),
                JITTER64 => netem.jitter = Span::from_nanos(read_long(value)?),
                PRNG_SEED => netem.seed = Some(read_long(value)?),
                _ => {}
            }
        }
        netem.rate = rate64.unwrap_or(netem.rate);
        // With a gap a kernel takes every packet in between for one that overtakes, unless it has a share.
        (gap == u32::from(netem.reorder > 0)).then_some(netem)
    }
}

fn ticks(span: Span) -> u32 {
    u32::try_from(span.as_nanos() >> TICK_SHIFT).unwrap_or(u32::MAX)
}

fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_ne_bytes()).collect()
}

/// The first `N` words.
fn read_words<const N: usize>(from: &[u8]) -> Option<[u32; N]> {
    let mut words = [0; N];
    for (at, word) in words.iter_mut().enumerate() {
        *word = u32::from_ne_bytes(*from.get(at * 4..)?.first_chunk()?);
    }
    Some(words)
}

fn read_long(from: &[u8]) -> Option<u64> {
    from.first_chunk().map(|bytes| u64::from_ne_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use link::{Burst, HalfLink};
    use machine::Rate;
    use proptest::prelude::*;

    use super::*;

    /// What `tc` of iproute2 6.1.0 sends, captured with strace 6.1 in a network namespace of its own:
    /// `unshare -n strace -e trace=sendmsg -xx -s 4096 tc qdisc add dev lo root handle 1: netem WORDS`. Zeros such as
    /// `reorder 0%` make it send the attributes that we always send.
    const SENT_BY_TC: [(&str, &str); 3] = [
        (
            "limit 64 delay 5ms 0ms 0% reorder 0% corrupt 0% rate 0bit",
            "2d310100 40000000 00000000 00000000 00000000 00000000 \
             10000100 00000000 00000000 00000000 0c000300 00000000 00000000 0c000400 00000000 00000000 \
             14000600 00000000 00000000 00000000 00000000",
        ),
        (
            "limit 1234 delay 10ms 2ms 0% loss 1% duplicate 2% corrupt 0.1% reorder 5% rate 100mbit",
            "5a620200 d2040000 295c8f02 01000000 52b81e05 127a0000 \
             10000100 00000000 00000000 00000000 0c000300 cdcccc0c 00000000 0c000400 37894100 00000000 \
             14000600 20bcbe00 00000000 00000000 00000000",
        ),
        (
            "limit 64 delay 0ms 0ms 0% loss gemodel 1% 20% 90% 0.5% reorder 0% corrupt 0% rate 40gbit",
            "00000000 40000000 00000000 00000000 00000000 00000000 \
             10000100 00000000 00000000 00000000 0c000300 00000000 00000000 0c000400 00000000 00000000 \
             18000580 14000200 295c8f02 33333333 99999919 14ae4701 \
             0c000800 00f2052a 01000000 14000600 ffffffff 00000000 00000000 00000000",
        ),
    ];

    fn bytes(hex: &str) -> Vec<u8> {
        let digits: Vec<u8> = hex.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
        digits.chunks(2).map(|two| u8::from_str_radix(str::from_utf8(two).unwrap(), 16).unwrap()).collect()
    }

    /// The same halves as the command lines above.
    fn halves() -> [(HalfLink, u32); 3] {
        let share = |text: &str| text.parse().unwrap();
        let line = HalfLink { delay: Span::from_millis(5), ..HalfLink::default() };
        let all = HalfLink {
            rate: Some(Rate::from_mbit(100)),
            delay: Span::from_millis(10),
            jitter: Span::from_millis(2),
            loss: share("1%"),
            duplicate: share("2%"),
            corrupt: share("0.1%"),
            reorder: share("5%"),
            ..HalfLink::default()
        };
        let burst = Burst { p: share("1%"), r: share("20%"), good: share("0.5%"), bad: share("90%") };
        let bursty = HalfLink { rate: Some(Rate::from_mbit(40_000)), burst: Some(burst), ..HalfLink::default() };
        [(line, 64), (all, 1234), (bursty, 64)]
    }

    #[test]
    #[cfg_attr(target_endian = "big", ignore = "the bytes are those of a little-endian machine")]
    fn the_bytes_are_those_of_tc_and_then_exact_times_and_the_seed() {
        for ((command, sent), (half, limit)) in SENT_BY_TC.into_iter().zip(halves()) {
            let netem = Netem { limit, ..Netem::of(&half, 1500, 0x0123_4567_89ab_cdef) };
            let encoded = netem.encode();
            let (same, ours) = encoded.split_at(bytes(sent).len());
            assert_eq!(same, bytes(sent), "{command}");
            // Latency and jitter in nanoseconds, then the seed: attributes of 12 bytes.
            let nanos = |span: Span| format!("{:016x}", span.as_nanos().swap_bytes());
            let exact =
                format!("0c000a00 {} 0c000b00 {} 0c000e00 efcdab8967452301", nanos(half.delay), nanos(half.jitter));
            assert_eq!(ours, bytes(&exact), "{command}");
        }
    }

    #[test]
    #[cfg_attr(target_endian = "big", ignore = "the bytes are those of a little-endian machine")]
    fn what_a_kernel_without_the_newer_attributes_says_is_read() {
        let (_, sent) = SENT_BY_TC[1];
        let netem = Netem::decode(&bytes(sent)).unwrap();
        assert_eq!((netem.latency, netem.jitter), (Span::from_millis(10), Span::from_millis(2)));
        assert_eq!((netem.limit, netem.rate, netem.seed), (1234, 12_500_000, None));
    }

    #[test]
    #[cfg_attr(target_endian = "big", ignore = "the bytes are those of a little-endian machine")]
    fn what_no_request_asks_for_is_not_taken_for_one() {
        let mut encoded = Netem { limit: 1, ..Netem::default() }.encode();
        assert!(Netem::decode(&encoded).is_some());
        encoded[12] = 1;
        assert_eq!(Netem::decode(&encoded), None, "a gap without a share of packets that overtake");
        encoded[12] = 0;
        encoded[QOPT + 4] = 1;
        assert_eq!(Netem::decode(&encoded), None, "a delay that depends on the one before");
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_read_back(
            limit: u32, latency in 0..600_000_000_000u64, jitter in 0..2_000_000_000u64, duplicate: u32, reorder: u32,
            corrupt: u32, rate: u64, seed: Option<u64>, independent: u32, model: Option<[u32; 4]>,
        ) {
            let loss = match model {
                None => Loss::Independent(independent),
                Some([p, r, h, k1]) => Loss::GilbertElliott { p, r, h, k1 },
            };
            let (latency, jitter) = (Span::from_nanos(latency), Span::from_nanos(jitter));
            let netem = Netem { limit, latency, jitter, loss, duplicate, reorder, corrupt, rate, seed };
            prop_assert_eq!(Netem::decode(&netem.encode()), Some(netem));
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = Netem::decode(&bytes);
        }
    }
}

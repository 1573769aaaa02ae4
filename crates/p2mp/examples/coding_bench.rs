//! Two erasure codes side by side: what they cost, and how often as many symbols as there are originals do not suffice.
//!
//! `cargo run --release -p p2mp --example coding_bench`

use std::hint::black_box;
use std::time::{Duration, Instant};

use p2mp::coding::Coder;
use p2mp::fast::Block;
use raptorq::{EncodingPacket, ObjectTransmissionInformation, SourceBlockDecoder, SourceBlockEncoder};
use raptorq::{PayloadId, SourceBlockEncodingPlan};

const ORIGINALS: u16 = 1024;
const RECOVERIES: u16 = 512;
const PAYLOAD: u16 = 1440;
const BYTES: usize = ORIGINALS as usize * PAYLOAD as usize;
const ROUNDS: u32 = 40;

fn main() {
    let bytes: Vec<u8> = (0..BYTES as u64).map(|n| (n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8).collect();
    println!("blocks of {ORIGINALS} symbols of {PAYLOAD} bytes; MB/s count the bytes of the block");
    println!("{:<20} {:>5} {:>14} {:>15} {:>20}", "code", "loss", "encode", "restore", "one more needed");
    for per_cent in [1, 5, 20] {
        reed_solomon(&bytes, per_cent);
        raptor_q(&bytes, per_cent);
    }
}

fn reed_solomon(bytes: &[u8], per_cent: usize) {
    let lost = lost(per_cent);
    let block = Block {
        index: 0,
        file: 0,
        offset: 0,
        length: BYTES as u32,
        originals: ORIGINALS,
        recoveries: RECOVERIES,
        payload: PAYLOAD,
    };
    let mut coder = Coder::default();
    let mut recoveries = Vec::new();
    let encoding = mean(|| coder.encode(&block, black_box(bytes), &mut recoveries).expect("a code"));
    let mut slots = bytes.to_vec();
    let payload = usize::from(PAYLOAD);
    let restoring = mean_of(|round| {
        let mut holds: Vec<u16> = (0..ORIGINALS).collect();
        for (n, slot) in losses(round, lost).into_iter().enumerate() {
            holds[slot] = ORIGINALS + n as u16;
            slots[slot * payload..][..payload].copy_from_slice(&recoveries[n * payload..][..payload]);
        }
        let before = now();
        coder.restore(&block, &mut slots, &holds).expect("as many symbols as originals");
        let taken = before.elapsed();
        assert!(slots == bytes);
        taken
    });
    report("reed-solomon-simd", per_cent, encoding, restoring, 0);
}

fn raptor_q(bytes: &[u8], per_cent: usize) {
    let lost = lost(per_cent);
    let config = ObjectTransmissionInformation::new(BYTES as u64, PAYLOAD, 1, 1, 8);
    // What depends on the block's size alone is computed once, as a sender would.
    let plan = SourceBlockEncodingPlan::generate(ORIGINALS);
    let mut encoded = None;
    let wanted = lost as u32 + 4;
    let encoding = mean(|| {
        let encoder = SourceBlockEncoder::with_encoding_plan(0, &config, black_box(bytes), &plan);
        encoded = Some((encoder.source_packets(), encoder.repair_packets(0, wanted)));
    });
    let (originals, recoveries): (Vec<EncodingPacket>, Vec<EncodingPacket>) = encoded.expect("there are rounds");
    let mut more = 0;
    let restoring = mean_of(|round| {
        let missing = losses(round, lost);
        let mut decoder = SourceBlockDecoder::new(0, &config, BYTES as u64);
        let held = originals.iter().enumerate().filter(|(slot, _)| !missing.contains(slot)).map(|(_, packet)| packet);
        // Which of the recovery symbols arrive differs from receiver to receiver.
        let first = round * 1000;
        let encoder = SourceBlockEncoder::with_encoding_plan(0, &config, bytes, &plan);
        let arriving = if first == 0 { recoveries.clone() } else { encoder.repair_packets(first, wanted) };
        let held: Vec<EncodingPacket> = held.chain(&arriving[..lost]).map(renewed).collect();
        let before = now();
        let mut restored = decoder.decode(held);
        let mut spare = arriving[lost..].iter();
        if restored.is_none() {
            more += 1;
        }
        while restored.is_none() {
            restored = decoder.decode([renewed(spare.next().expect("four more suffice"))]);
        }
        let taken = before.elapsed();
        assert!(restored.is_some_and(|restored| restored == bytes));
        taken
    });
    report("raptorq", per_cent, encoding, restoring, more);
}

fn lost(per_cent: usize) -> usize {
    usize::from(ORIGINALS) * per_cent / 100
}

/// A packet of its own, as one that arrived.
fn renewed(packet: &EncodingPacket) -> EncodingPacket {
    let id = packet.payload_id();
    EncodingPacket::new(PayloadId::new(id.source_block_number(), id.encoding_symbol_id()), packet.data().to_vec())
}

fn losses(round: u32, lost: usize) -> Vec<usize> {
    // 37 has no divisor in common with 1024: all differ.
    (0..lost).map(|n| (n * 37 + round as usize * 11) % usize::from(ORIGINALS)).collect()
}

fn mean(mut work: impl FnMut()) -> Duration {
    mean_of(|_| {
        let before = now();
        work();
        before.elapsed()
    })
}

fn mean_of(mut work: impl FnMut(u32) -> Duration) -> Duration {
    // The first warms up caches and allocates.
    work(0);
    (0..ROUNDS).map(work).sum::<Duration>() / ROUNDS
}

fn report(code: &str, per_cent: usize, encoding: Duration, restoring: Duration, more: u32) {
    let speed = |time: Duration| BYTES as f64 / 1e6 / time.as_secs_f64();
    println!(
        "{code:<20} {per_cent:>4}% {:>9.0} MB/s {:>10.0} MB/s {:>14} of {ROUNDS}",
        speed(encoding),
        speed(restoring),
        more
    );
}

#[expect(clippy::disallowed_methods, reason = "a benchmark measures time")]
fn now() -> Instant {
    Instant::now()
}

//! What a packet socket listens to: interfaces and lengths of frames, as a classic BPF program that runs before anything is
//! copied.
//!
//! The namespace may hold more than the relay's ports: bridges of unshaped networks, whose traffic must not fill the ring.

use std::ops::RangeInclusive;

/// `struct sock_filter`, classic BPF.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Instruction {
    pub(super) code: u16,
    pub(super) if_true: u8,
    pub(super) if_false: u8,
    pub(super) operand: u32,
}

/// So many ranges fit into the memory that the kernel grants for a filter without privileges (`optmem_max`, 20 KiB).
const MOST_RANGES: usize = 250;

const LOAD_LENGTH: u16 = 0x80; // BPF_LD | BPF_W | BPF_LEN
const LOAD_WORD: u16 = 0x20; // BPF_LD | BPF_W | BPF_ABS
const JUMP_GE: u16 = 0x35; // BPF_JMP | BPF_JGE | BPF_K
const JUMP_GT: u16 = 0x25; // BPF_JMP | BPF_JGT | BPF_K
const RETURN: u16 = 0x06; // BPF_RET | BPF_K
const IFINDEX: u32 = 0xffff_f008; // SKF_AD_OFF + SKF_AD_IFINDEX

/// A program that takes whole frames of these lengths from these interfaces, and no others. With more than 250 gaps
/// between the interfaces' numbers it takes all that lie between the first and the last.
pub(super) fn of(mut interfaces: Vec<u32>, lengths: RangeInclusive<u32>) -> Vec<Instruction> {
    interfaces.sort_unstable();
    let mut ranges = ranges_of(&interfaces);
    if ranges.len() > MOST_RANGES {
        ranges = vec![*ranges[0].start()..=*ranges[ranges.len() - 1].end()];
    }
    let verdict = |operand| Instruction { code: RETURN, if_true: 0, if_false: 0, operand };
    let mut program = vec![
        Instruction { code: LOAD_LENGTH, if_true: 0, if_false: 0, operand: 0 },
        Instruction { code: JUMP_GE, if_true: 0, if_false: 1, operand: *lengths.start() },
        Instruction { code: JUMP_GT, if_true: 0, if_false: 1, operand: *lengths.end() },
        verdict(0),
        Instruction { code: LOAD_WORD, if_true: 0, if_false: 0, operand: IFINDEX },
    ];
    for range in ranges {
        program.extend([
            // Below this range and above the last: to "none".
            Instruction { code: JUMP_GE, if_true: 0, if_false: 2, operand: *range.start() },
            // Above this range: to the next.
            Instruction { code: JUMP_GT, if_true: 2, if_false: 0, operand: *range.end() },
            verdict(u32::MAX),
            verdict(0),
        ]);
    }
    program.push(verdict(0));
    program
}

fn ranges_of(sorted: &[u32]) -> Vec<RangeInclusive<u32>> {
    let mut ranges: Vec<RangeInclusive<u32>> = Vec::new();
    for &number in sorted {
        match ranges.last_mut() {
            Some(last) if number <= last.end().saturating_add(1) => *last = *last.start()..=number,
            _ => ranges.push(number..=number),
        }
    }
    ranges
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn takes(program: &[Instruction], ifindex: u32, length: u32) -> bool {
        let (mut at, mut loaded) = (0, 0);
        loop {
            let Instruction { code, if_true, if_false, operand } = program[at];
            at += 1;
            let jump = |holds: bool| usize::from(if holds { if_true } else { if_false });
            match code {
                LOAD_LENGTH => loaded = length,
                LOAD_WORD if operand == IFINDEX => loaded = ifindex,
                JUMP_GE => at += jump(loaded >= operand),
                JUMP_GT => at += jump(loaded > operand),
                RETURN => return operand > 0,
                _ => panic!("an instruction that is not in the repertoire"),
            }
        }
    }

    proptest! {
        #[test]
        fn the_program_takes_exactly_the_interfaces(interfaces in prop::collection::vec(1..100u32, 0..60)) {
            let program = of(interfaces.clone(), 14..=1514);
            for ifindex in 0..110 {
                prop_assert_eq!(takes(&program, ifindex, 100), interfaces.contains(&ifindex), "{}", ifindex);
            }
        }

        #[test]
        fn the_program_takes_exactly_the_lengths(from in 0..2000u32, to in 0..2000u32, length in 0..2100u32) {
            prop_assert_eq!(takes(&of(vec![7], from..=to), 7, length), (from..=to).contains(&length));
        }
    }

    #[test]
    fn scattered_interfaces_are_taken_by_one_range() {
        let program = of((0..1000).map(|k| 5 + 2 * k).collect(), 0..=u32::MAX);
        assert_eq!(program.len(), 10);
        let takes = |ifindex| takes(&program, ifindex, 100);
        assert!(takes(5) && takes(2003) && !takes(4) && !takes(2004));
    }
}

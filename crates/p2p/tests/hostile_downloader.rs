//! Trackers and peers that say anything, at any time: the downloader keeps its bounds.

use std::collections::BTreeSet;

use bytes::Bytes;
use fetch::{Boot, CloseReason};
use machine::{Machine, Span, Time};
use p2p::downloader::{CONNECTIONS, ChannelId, Config, Downloader, Input, Output};
use p2p::layout::Layout;
use p2p::peer_text::head;
use p2p::tracker_text::Answer;
use proptest::prelude::*;

const SIZE: u64 = 95_000;
const EVERY: Span = Span::from_secs(2);

fn config() -> Config {
    Config {
        file: "f".into(),
        boot: Boot([7; 16]),
        expect: None,
        remains: None,
        connections: CONNECTIONS,
        block: 10_000,
        ask_every: EVERY,
    }
}

fn answer(size: u64, ports: &[u16]) -> Bytes {
    let peers = ports.iter().map(|port| ([10, 0, 0, 1], *port).into()).collect();
    Answer { blocks: Layout::published(size).blocks(), size, peers, digest: None }.encode().into()
}

#[derive(Clone, Debug)]
enum Happening {
    Pass(u64),
    Tracker(Bytes),
    Connected(usize),
    /// What was asked for on a channel, as far as this many bytes.
    Answered(usize, usize),
    Said(usize, Vec<u8>),
    Closed(usize),
}

fn happening() -> impl Strategy<Value = Happening> {
    let size = prop_oneof![8 => Just(SIZE), 1 => Just(0), 1 => any::<u64>()];
    let answers = (size, prop::collection::vec(1_u16..20, 0..4)).prop_map(|(size, ports)| answer(size, &ports));
    let datagram = prop_oneof![6 => answers, 1 => prop::collection::vec(any::<u8>(), 0..80).prop_map(Bytes::from)];
    let spans = (any::<u64>(), 0_u64..20_000).prop_map(|(offset, length)| {
        let mut text =
            format!("200 OK\nBODY_BYTE_OFFSET_IN_FILE: {offset}\nBODY_BYTE_LENGTH: {length}\n\n").into_bytes();
        text.resize(text.len() + 100, b'x');
        text
    });
    let said = prop_oneof![spans, prop::collection::vec(any::<u8>(), 1..2000)];
    prop_oneof![
        6 => (0_u64..3000).prop_map(Happening::Pass),
        3 => datagram.prop_map(Happening::Tracker),
        6 => (0_usize..6).prop_map(Happening::Connected),
        12 => (0_usize..6, 1_usize..15_000).prop_map(|(nth, most)| Happening::Answered(nth, most)),
        1 => (0_usize..6, said).prop_map(|(nth, said)| Happening::Said(nth, said)),
        2 => (0_usize..6).prop_map(Happening::Closed),
    ]
}

/// Plays the world as badly as it likes, and looks at every word of the downloader's.
struct World {
    downloader: Downloader,
    now: Time,
    open: Vec<(ChannelId, Vec<u8>)>,
    seen: BTreeSet<ChannelId>,
    asked: Option<Time>,
    is_finished: bool,
}

impl World {
    fn carry_out(&mut self) {
        while let Some(output) = self.downloader.poll() {
            assert!(!self.is_finished, "nothing follows the end: {output:?}");
            match output {
                Output::AskTracker(_) => {
                    assert!(self.asked.is_none_or(|last| self.now.since(last) >= EVERY), "asked too soon");
                    self.asked = Some(self.now);
                }
                Output::Connect { channel, .. } => {
                    assert!(self.seen.insert(channel), "a name is used once");
                    self.open.push((channel, Vec::new()));
                    assert!(self.open.len() <= CONNECTIONS, "too many connections");
                }
                Output::Send { channel, bytes } => {
                    let (_, owed) = self.open.iter_mut().find(|(id, _)| *id == channel).expect("it is open");
                    for line in std::str::from_utf8(&bytes).expect("text").lines() {
                        let block = line.strip_prefix("GET f:").expect("a request").parse().expect("a number");
                        let span = Layout::published(SIZE).block(block).expect("a block of it");
                        owed.extend_from_slice(head(span).as_bytes());
                        owed.resize(owed.len() + span.length as usize, b'.');
                    }
                }
                Output::Close { channel } => self.open.retain(|(id, _)| *id != channel),
                Output::Disk(fetch::Output::Write { generation, offset, bytes }) => {
                    let len = bytes.len() as u64;
                    assert!(offset + len <= SIZE, "written beyond the end");
                    self.downloader.handle(self.now, Input::Disk(fetch::Input::Written { generation, offset, len }));
                }
                Output::Disk(fetch::Output::Sync { generation }) => {
                    self.downloader.handle(self.now, Input::Disk(fetch::Input::Synced { generation }));
                }
                Output::Disk(_) | Output::Note(_) => {}
                Output::Finished(_) => {
                    self.is_finished = true;
                    self.open.clear();
                }
            }
        }
    }

    fn happens(&mut self, happening: Happening) {
        let nth = |nth: usize| self.open.get(nth % self.open.len().max(1)).map(|(id, _)| *id);
        let input = match happening {
            Happening::Pass(millis) => {
                let until = self.now + Span::from_millis(millis);
                while let Some((due, _)) = self.downloader.deadline().filter(|(due, _)| *due <= until) {
                    self.now = due.max(self.now);
                    self.downloader.advance(self.now);
                    self.carry_out();
                }
                self.now = until;
                return;
            }
            Happening::Tracker(datagram) => Some(Input::Tracker(datagram)),
            Happening::Connected(channel) => nth(channel).map(Input::Connected),
            Happening::Answered(channel, most) => nth(channel).and_then(|channel| {
                let (_, owed) = self.open.iter_mut().find(|(id, _)| *id == channel)?;
                let rest = owed.split_off(most.min(owed.len()));
                let bytes = std::mem::replace(owed, rest);
                (!bytes.is_empty()).then(|| Input::Received { channel, bytes: bytes.into() })
            }),
            Happening::Said(channel, said) => {
                nth(channel).map(|channel| Input::Received { channel, bytes: said.into() })
            }
            Happening::Closed(channel) => nth(channel).map(|channel| {
                self.open.retain(|(id, _)| *id != channel);
                Input::Closed { channel, why: CloseReason::Reset }
            }),
        };
        if let Some(input) = input {
            self.downloader.handle(self.now, input);
            self.carry_out();
        }
    }
}

proptest! {
    #[test]
    fn bounds_hold_whatever_happens(first in 0_u8..4, happenings in prop::collection::vec(happening(), 1..400)) {
        let downloader = Downloader::new(Time::ZERO, config());
        let (open, seen) = (Vec::new(), BTreeSet::new());
        let mut world = World { downloader, now: Time::ZERO, open, seen, asked: None, is_finished: false };
        world.happens(Happening::Pass(1));
        if first > 0 {
            world.happens(Happening::Tracker(answer(SIZE, &[1, 2])));
        }
        for happening in happenings {
            // The file is what the first answer says: the checks above know of one only.
            let is_other = matches!(&happening, Happening::Tracker(text) if first == 0 && *text != answer(SIZE, &[1, 2]));
            if !is_other {
                world.happens(happening);
            }
        }
    }
}

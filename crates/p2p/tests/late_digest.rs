//! A tracker may learn the file's SHA-256 from its peers only when a download has begun: it counts all the same.

use bytes::Bytes;
use fetch::{Boot, Digest, Failure, Integrity, Outcome};
use machine::{Machine, Span, Time};
use p2p::downloader::{CONNECTIONS, Config, Downloader, Input, Output};
use p2p::layout::{Layout, Span as Part};
use p2p::peer_text::head;
use p2p::tracker_text::Answer;

const CONTENT: &[u8] = b"fifteen bytes..";

fn answer(digest: Option<Digest>) -> Input {
    let layout = Layout::published(CONTENT.len() as u64);
    let peers = vec![([10, 0, 0, 1], 20_000).into()];
    let answer = Answer { blocks: layout.blocks(), size: layout.size, peers, digest: digest.map(|digest| digest.0) };
    Input::Tracker(answer.encode().into())
}

/// How a download ends whose tracker tells `late` once everything was asked for.
fn ends(late: Option<Digest>) -> Outcome {
    let config = Config {
        file: "f".into(),
        boot: Boot([0; 16]),
        expect: None,
        remains: None,
        connections: CONNECTIONS,
        block: 10_000,
        ask_every: Span::from_secs(2),
    };
    let mut downloader = Downloader::new(Time::ZERO, config);
    downloader.handle(Time::ZERO, answer(None));
    let mut late = Some(answer(late));
    // One instant is enough for all of it.
    while let Some(output) = downloader.poll() {
        let input = match output {
            Output::Connect { channel, .. } => Input::Connected(channel),
            Output::Send { channel, .. } => {
                late.take().into_iter().for_each(|late| downloader.handle(Time::ZERO, late));
                let mut text = head(Part { offset: 0, length: CONTENT.len() as u64 }).into_bytes();
                text.extend_from_slice(CONTENT);
                Input::Received { channel, bytes: Bytes::from(text) }
            }
            Output::Disk(fetch::Output::Write { generation, offset, bytes }) => {
                Input::Disk(fetch::Input::Written { generation, offset, len: bytes.len() as u64 })
            }
            Output::Disk(fetch::Output::HashFile { generation }) => {
                Input::Disk(fetch::Input::FileHashed { generation, digest: Digest::of(CONTENT) })
            }
            Output::Finished(outcome) => return outcome,
            _ => continue,
        };
        downloader.handle(Time::ZERO, input);
    }
    panic!("it does not end");
}

#[test]
fn a_digest_that_is_told_late_decides() {
    assert_eq!(ends(None), Outcome::Complete { integrity: Integrity::Transport });
    assert_eq!(ends(Some(Digest::of(CONTENT))), Outcome::Complete { integrity: Integrity::Whole });
    let (found, expected) = (Digest::of(CONTENT), Digest::of(b"another file"));
    assert_eq!(ends(Some(expected)), Outcome::Failed(Failure::Digest { found, expected }));
}

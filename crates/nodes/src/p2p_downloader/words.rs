//! What happens, in words for people.

use p2p::downloader::Note;

/// A line about it; `None` where nobody wants to know.
pub(super) fn line(note: &Note) -> Option<String> {
    Some(match note {
        Note::Found { size, blocks } => format!("{size} bytes in {blocks} blocks"),
        Note::Peer(peer) => format!("{peer}: named by the tracker"),
        Note::TrackerOdd(what) => format!("tracker: {what}"),
        Note::Lost { peer, why } => format!("{peer}: {why}"),
        Note::Banned { peer, why } => format!("{peer}: {why}; nothing more is asked of it"),
        Note::Engine(note) => return of_engine(note),
        // The first is the swarm's everyday life, the second is told from what comes.
        Note::Moved { .. } | Note::Opened { .. } | Note::Alone => return None,
    })
}

fn of_engine(note: &fetch::Note) -> Option<String> {
    Some(match note {
        fetch::Note::Identified { resumed: 0, rehashed: 0, .. } => return None,
        fetch::Note::Identified { length, resumed, rehashed } => {
            format!("{resumed} of {length} bytes are here already, {rehashed} pieces are checked again")
        }
        fetch::Note::Restarted { lost } => format!("the file is another one than before: {lost} bytes are given up"),
        fetch::Note::Corrupt { piece, .. } => format!("{piece} is corrupt"),
        _ => return None,
    })
}

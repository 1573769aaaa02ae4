//! Which blocks of a file are on the disk already: [`fetch::journal`], with a block as a piece, and with an entity tag that
//! names the transfer, the cut and the receiver.

use bytes::BytesMut;
use fetch::journal::{Header, Replay, Writer, replay};
use fetch::{Boot, Pieces, Validator};
use p2mp::fast::{Identity, Layout, Manifest, MemberId};

/// What the journal of an earlier run is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Subject {
    pub(super) identity: Identity,
    /// Bytes of a symbol.
    pub(super) payload: u16,
    pub(super) member: MemberId,
}

/// What an earlier run left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Earlier {
    /// Nothing that could be told.
    Nothing,
    /// The work of another program, which is not ours to throw away.
    Foreign,
    /// Blocks of another transfer, whose sender may come again.
    Another,
    /// These blocks of this transfer, counted through all files as the layout does.
    Blocks(Vec<u32>),
}

/// Begins the journal of a file. `None` if the file has no blocks, or more than a journal can name (some 380 GB): then
/// another run begins anew.
pub(super) fn begin(
    subject: Subject,
    layout: &Layout,
    file: usize,
    length: u64,
    boot: Boot,
) -> Option<(Writer, BytesMut)> {
    let pieces = pieces(layout, file, length)?;
    let header = Header { pieces, manifest: None, validator: Some(subject.tag()), boot };
    Some(Writer::begin(&header))
}

/// A cut with as many pieces as the file has blocks. Only their number counts.
pub(super) fn pieces(layout: &Layout, file: usize, length: u64) -> Option<Pieces> {
    let count = layout.blocks_of(file).len() as u64;
    let size = length.checked_div(count)?.checked_add(u64::from(!length.is_multiple_of(count)))?;
    let pieces = Pieces::new(length, u32::try_from(size).ok()?)?;
    (u64::from(pieces.count()) == count).then_some(pieces)
}

/// What `journal` says of the blocks of `file`, as `layout` cuts it now. What is not covered by a checkpoint counts only
/// within the boot of the machine in which it was written.
pub(super) fn read(
    journal: &[u8],
    identity: Identity,
    manifest: &Manifest,
    layout: &Layout,
    file: usize,
    boot: Boot,
) -> Earlier {
    if journal.is_empty() {
        return Earlier::Nothing;
    }
    let Ok(Replay { header, durable, recorded, .. }) = replay(journal) else { return Earlier::Nothing };
    let Some(subject) = header.validator.as_ref().and_then(Subject::of) else { return Earlier::Foreign };
    if subject.identity != identity {
        let has_any = header.pieces.iter().any(|piece| recorded.contains(piece));
        return if has_any { Earlier::Another } else { Earlier::Nothing };
    }
    let length = manifest.files()[file].length;
    if header.pieces.length() != length {
        return Earlier::Nothing;
    }
    let Ok(before) = Layout::new(manifest, subject.payload) else { return Earlier::Nothing };
    if pieces(&before, file, length) != Some(header.pieces) {
        return Earlier::Nothing;
    }
    let held = if header.boot == boot { recorded } else { durable };
    let first = before.blocks_of(file).start;
    // Byte ranges that are there, joined, and the blocks of today that lie in them.
    let mut ranges: Vec<(u64, u64)> = Vec::new();
    for piece in header.pieces.iter().filter(|piece| held.contains(*piece)) {
        let block = before.block(first + piece.get()).expect("as many pieces as blocks");
        let end = block.offset + u64::from(block.length);
        match ranges.last_mut() {
            Some(last) if last.1 == block.offset => last.1 = end,
            _ => ranges.push((block.offset, end)),
        }
    }
    let is_there = |index: &u32| {
        let block = layout.block(*index).expect("a block of the file");
        let at = ranges.partition_point(|range| range.1 <= block.offset);
        ranges
            .get(at)
            .is_some_and(|(start, end)| *start <= block.offset && block.offset + u64::from(block.length) <= *end)
    };
    Earlier::Blocks(layout.blocks_of(file).filter(is_there).collect())
}

/// The receiver that wrote `journal`, if it is one of this program.
pub(super) fn member(journal: &[u8]) -> Option<MemberId> {
    let replay = replay(journal).ok()?;
    Some(Subject::of(&replay.header.validator?)?.member)
}

impl Subject {
    fn tag(self) -> Validator {
        let identity = u128::from_be_bytes(self.identity.0);
        let text = format!("\"p2mp-{identity:032x}-{}-{:016x}\"", self.payload, self.member.0);
        Validator::parse(&text).expect("an entity tag without spaces")
    }

    fn of(tag: &Validator) -> Option<Self> {
        let inner = tag.as_str().strip_prefix("\"p2mp-")?.strip_suffix('"')?;
        let mut parts = inner.split('-');
        let identity = Identity(u128::from_str_radix(parts.next()?, 16).ok()?.to_be_bytes());
        let payload = parts.next()?.parse().ok()?;
        let member = MemberId(u64::from_str_radix(parts.next()?, 16).ok()?);
        Some(Subject { identity, payload, member })
    }
}

#[cfg(test)]
mod tests {
    use fetch::PieceIndex;
    use p2mp::fast::FileEntry;

    use super::*;

    const BOOT: Boot = Boot([1; 16]);
    const IDENTITY: Identity = Identity([9; 16]);
    const LENGTH: u64 = 10_000_000;

    fn manifest() -> Manifest {
        Manifest::new(vec![FileEntry::new("a", 5_000_000), FileEntry::new("b", LENGTH)]).unwrap()
    }

    fn journal(layout: &Layout, held: &[u32]) -> Vec<u8> {
        let subject = Subject { identity: IDENTITY, payload: layout.payload(), member: MemberId(77) };
        let (mut writer, mut bytes) = begin(subject, layout, 1, LENGTH, BOOT).unwrap();
        let pieces = pieces(layout, 1, LENGTH).unwrap();
        let piece = |block: u32| -> PieceIndex { pieces.get(block - layout.blocks_of(1).start).unwrap() };
        held.iter().for_each(|block| bytes.extend_from_slice(&writer.piece(piece(*block))));
        bytes.to_vec()
    }

    #[test]
    fn blocks_are_known_again_however_the_file_is_cut_today() {
        let manifest = manifest();
        let old = Layout::new(&manifest, 1400).unwrap();
        let held: Vec<u32> = old.blocks_of(1).skip(1).take(4).collect();
        let bytes = journal(&old, &held);
        assert_eq!(read(&bytes, IDENTITY, &manifest, &old, 1, BOOT), Earlier::Blocks(held.clone()));
        assert_eq!(read(&bytes, IDENTITY, &manifest, &old, 1, Boot([2; 16])), Earlier::Blocks(vec![]), "not synced");
        assert_eq!(member(&bytes), Some(MemberId(77)));

        let new = Layout::new(&manifest, 600).unwrap();
        let range = |layout: &Layout, index| {
            let block = layout.block(index).unwrap();
            (block.offset, block.offset + u64::from(block.length))
        };
        let (start, end) = (range(&old, held[0]).0, range(&old, held[3]).1);
        let inside = |index: &u32| start <= range(&new, *index).0 && range(&new, *index).1 <= end;
        let expected: Vec<u32> = new.blocks_of(1).filter(inside).collect();
        assert!(expected.len() > 5);
        assert_eq!(read(&bytes, IDENTITY, &manifest, &new, 1, BOOT), Earlier::Blocks(expected));
    }

    #[test]
    fn what_is_of_something_else_is_not_believed() {
        let manifest = manifest();
        let layout = Layout::new(&manifest, 1400).unwrap();
        let bytes = journal(&layout, &[4, 5]);
        let read = |bytes: &[u8], identity| read(bytes, identity, &manifest, &layout, 1, BOOT);
        assert_eq!(read(&bytes, Identity([8; 16])), Earlier::Another);
        assert_eq!(read(&journal(&layout, &[]), Identity([8; 16])), Earlier::Nothing, "nobody loses anything");
        assert_eq!(read(&bytes[..100], IDENTITY), Earlier::Nothing);
        assert_eq!(read(b"", IDENTITY), Earlier::Nothing);
        let mut damaged = bytes.clone();
        damaged[30] ^= 1;
        assert_eq!(read(&damaged, IDENTITY), Earlier::Nothing);
        let pieces = Pieces::of_length(LENGTH).unwrap();
        let download = Header { pieces, manifest: None, validator: Validator::parse("\"5f-7\""), boot: BOOT };
        assert_eq!(read(&Writer::begin(&download).1, IDENTITY), Earlier::Foreign);
    }
}

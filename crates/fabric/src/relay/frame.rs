//! Buffers that are used again and again, within a bound; and long trains that stay in the receive ring as long as its room
//! allows, as copying them would take the relay about as long as all else.

use std::cell::{Cell, Ref, RefCell};
use std::collections::VecDeque;
use std::rc::{Rc, Weak};

use super::ring::Slot;

/// A packet with its `virtio_net_hdr`, shared by the copies of a flood. Its buffer goes back to the shelf, or its slot to the
/// kernel, with the last of them.
#[derive(Clone, Debug)]
pub(super) struct Frame {
    /// Invariant: `None` only while being dropped.
    buffer: Option<Rc<Buffer>>,
    shelf: Rc<Shelf>,
}

/// Where buffers lie that nobody uses. In a steady state nothing is allocated.
#[derive(Debug)]
pub(super) struct Shelf {
    idle: [RefCell<Vec<Rc<Buffer>>>; CLASSES.len()],
    /// Bytes of all buffers, used or idle.
    held: Cell<usize>,
    bound: usize,
    /// Frames that stay in the ring, in the order of their arrival, each with the number of frames taken at which it must go.
    /// Those that are gone are still in it until then.
    in_ring: RefCell<VecDeque<(u64, Weak<Buffer>)>>,
}

/// Where the bytes of a frame are.
#[derive(Debug)]
struct Buffer(RefCell<Place>);

#[derive(Debug)]
enum Place {
    Shelf { bytes: Box<[u8]>, length: usize, class: usize },
    Ring(Slot),
}

/// Capacities of buffers: a small packet must not take the room of a large one, or the bound would mean little.
const CLASSES: [usize; 6] = [128, 512, 2048, 9216, 32_768, 69_632];

/// What a buffer costs beside its bytes.
const OVERHEAD: usize = 96;

/// Shorter frames are copied: that takes no longer than keeping account of them.
const WORTH_KEEPING: usize = 8192;

impl Shelf {
    /// A shelf that never holds more than `bound` bytes, in use or not.
    pub(super) fn new(bound: usize) -> Rc<Self> {
        Rc::new(Shelf { idle: Default::default(), held: Cell::new(0), bound, in_ring: RefCell::default() })
    }

    /// A frame of `length` bytes, written by `write`; `None` if there is no room for it.
    pub(super) fn take(self: &Rc<Self>, length: usize, write: impl FnOnce(&mut [u8])) -> Option<Frame> {
        let mut buffer = self.buffer(length)?;
        let place = Rc::get_mut(&mut buffer).expect("a buffer from the shelf has one owner");
        if let Place::Shelf { bytes, length: written, .. } = place.0.get_mut() {
            *written = length;
            write(&mut bytes[..length]);
        }
        Some(Frame { buffer: Some(buffer), shelf: Rc::clone(self) })
    }

    /// A frame of a packet that has arrived: where it is, if `keep` leaves it there, or else a copy; `None` if there is no room
    /// for that.
    pub(super) fn adopt(self: &Rc<Self>, packet: &[u8], keep: impl FnOnce() -> Option<Slot>) -> Option<Frame> {
        let Some(slot) = (packet.len() >= WORTH_KEEPING).then(keep).flatten() else {
            return self.take(packet.len(), |out| out.copy_from_slice(packet));
        };
        let until = slot.may_stay_until();
        let buffer = Rc::new(Buffer(RefCell::new(Place::Ring(slot))));
        self.in_ring.borrow_mut().push_back((until, Rc::downgrade(&buffer)));
        Some(Frame { buffer: Some(buffer), shelf: Rc::clone(self) })
    }

    /// Moves those frames out of the ring that may no longer stay in it when so many have been taken. One for which there is no
    /// room stays: then the kernel will find none either, and count what it drops.
    pub(super) fn clear_ring(self: &Rc<Self>, taken: u64) {
        while let Some(staying) = self.next_in_the_way(taken) {
            let Some(buffer) = staying.upgrade() else { continue };
            let length = buffer.bytes().len();
            let Some(place) = self.buffer(length).and_then(Rc::into_inner) else { continue };
            let mut place = place.0.into_inner();
            if let Place::Shelf { bytes, length: written, .. } = &mut place {
                *written = length;
                bytes[..length].copy_from_slice(&buffer.bytes());
            }
            // With this its slot goes back to the kernel.
            *buffer.0.borrow_mut() = place;
        }
    }

    fn next_in_the_way(&self, taken: u64) -> Option<Weak<Buffer>> {
        let mut in_ring = self.in_ring.borrow_mut();
        in_ring.front().filter(|(until, _)| *until <= taken)?;
        in_ring.pop_front().map(|(_, buffer)| buffer)
    }

    /// A buffer for so many bytes, of which nobody else knows.
    fn buffer(&self, length: usize) -> Option<Rc<Buffer>> {
        let class = CLASSES.iter().position(|capacity| *capacity >= length)?;
        let idle = self.idle[class].borrow_mut().pop();
        idle.or_else(|| self.allocate(class))
    }

    fn allocate(&self, class: usize) -> Option<Rc<Buffer>> {
        let cost = CLASSES[class] + OVERHEAD;
        let mut others = (0..CLASSES.len()).rev();
        while self.held.get() + cost > self.bound {
            // Idle buffers of other sizes make room.
            let other = others.next()?;
            let freed = self.idle[other].take().len() * (CLASSES[other] + OVERHEAD);
            self.held.set(self.held.get() - freed);
        }
        self.held.set(self.held.get() + cost);
        let bytes = vec![0; CLASSES[class]].into_boxed_slice();
        Some(Rc::new(Buffer(RefCell::new(Place::Shelf { bytes, length: 0, class }))))
    }
}

impl Buffer {
    fn bytes(&self) -> Ref<'_, [u8]> {
        Ref::map(self.0.borrow(), |place| match place {
            Place::Shelf { bytes, length, .. } => &bytes[..*length],
            Place::Ring(slot) => slot.packet(),
        })
    }
}

impl Frame {
    /// `virtio_net_hdr` and frame. Not to be kept until the next [`Shelf::clear_ring`], which may move them.
    pub(super) fn bytes(&self) -> Ref<'_, [u8]> {
        self.buffer.as_ref().expect("present until dropped").bytes()
    }
}

impl Frame {
    /// The packet after `alter`, which its other copies do not see; `None` if there is no room for one of its own.
    pub(super) fn altered(mut self, alter: impl FnOnce(&mut [u8])) -> Option<Frame> {
        let buffer = self.buffer.as_mut().expect("present until dropped");
        if let Some(Buffer(place)) = Rc::get_mut(buffer)
            && let Place::Shelf { bytes, length, .. } = place.get_mut()
        {
            alter(&mut bytes[..*length]);
            return Some(self);
        }
        let own = self.bytes();
        self.shelf.take(own.len(), |bytes| {
            bytes.copy_from_slice(&own);
            alter(bytes);
        })
    }
}

impl Drop for Frame {
    fn drop(&mut self) {
        let buffer = self.buffer.take().expect("present until dropped");
        if Rc::strong_count(&buffer) == 1
            && let Place::Shelf { class, .. } = *buffer.0.borrow()
        {
            self.shelf.idle[class].borrow_mut().push(Rc::clone(&buffer));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::ring::tests::Filled;
    use super::*;

    /// A long packet that arrives, taken in by `shelf`.
    fn adopt(filled: &mut Filled, shelf: &Rc<Shelf>, fill: u8) -> Option<Frame> {
        let packet = vec![fill; WORTH_KEEPING];
        assert!(filled.arrive(&packet), "there is room for packet {fill}");
        let frame = shelf.adopt(&packet, || filled.ring.peek().and_then(|received| received.keep()));
        filled.ring.release();
        shelf.clear_ring(filled.ring.taken());
        frame
    }

    #[test]
    fn a_long_packet_stays_in_the_ring_until_it_is_in_the_way() {
        let (mut filled, shelf) = (Filled::new(), Shelf::new(1 << 20));
        let first = adopt(&mut filled, &shelf, 1).expect("it stays");
        let copy = first.clone();
        let (mut number, mut held) = (1, 0);
        while held == 0 {
            number += 1;
            drop(adopt(&mut filled, &shelf, 2));
            held = shelf.held.get();
            assert!(number <= 720, "a quarter of 960 is kept for others");
        }
        assert_eq!((number, held), (720, CLASSES[3] + OVERHEAD), "the first alone was still there");
        assert!([&first, &copy].iter().all(|frame| *frame.bytes() == [1; WORTH_KEEPING]));
        assert!(shelf.in_ring.borrow().len() <= 720);
        drop((first, copy));
        assert_eq!(shelf.idle[3].borrow().len(), 1, "its buffer is used again");
    }

    #[test]
    fn what_finds_no_room_outside_of_the_ring_stays_there() {
        let (mut filled, shelf) = (Filled::new(), Shelf::new(0));
        let first = adopt(&mut filled, &shelf, 1).expect("it stays");
        assert!(shelf.take(3, |_| ()).is_none());
        for _ in 1..960 {
            drop(adopt(&mut filled, &shelf, 2));
        }
        assert_eq!(*first.bytes(), [1; WORTH_KEEPING]);
        assert!(!filled.arrive(&[3; 20]), "in its slot");
        drop(first);
        assert!(filled.arrive(&[3; 20]));
    }

    #[test]
    fn what_is_altered_leaves_the_ring() {
        let (mut filled, shelf) = (Filled::new(), Shelf::new(1 << 20));
        let frame = adopt(&mut filled, &shelf, 1).expect("it stays");
        let copy = frame.clone();
        let altered = frame.altered(|bytes| bytes[0] = 9).expect("room");
        assert_eq!((copy.bytes()[0], altered.bytes()[0], altered.bytes()[1]), (1, 9, 1));
    }

    #[test]
    fn a_buffer_goes_back_with_its_last_copy_and_is_used_again() {
        let shelf = Shelf::new(1 << 20);
        let frame = shelf.take(3, |bytes| bytes.copy_from_slice(b"abc")).expect("room");
        let copy = frame.clone();
        drop(frame);
        assert_eq!((&*copy.bytes(), shelf.idle[0].borrow().len()), (&b"abc"[..], 0));
        drop(copy);
        assert_eq!(shelf.idle[0].borrow().len(), 1);
        let held = shelf.held.get();
        let _again = shelf.take(100, |_| ()).expect("room");
        assert_eq!(shelf.held.get(), held, "nothing was allocated");
    }

    #[test]
    fn what_is_altered_is_seen_by_no_other_copy() {
        let shelf = Shelf::new(2 * (CLASSES[0] + OVERHEAD));
        let frame = shelf.take(3, |bytes| bytes.copy_from_slice(b"abc")).expect("room");
        let alter = |bytes: &mut [u8]| bytes[1] = b'x';
        let altered = frame.clone().altered(alter).expect("room for two");
        assert_eq!((&*frame.bytes(), &*altered.bytes()), (&b"abc"[..], &b"axc"[..]));
        assert!(frame.clone().altered(alter).is_none(), "no room for three");
        drop(altered);
        assert_eq!(frame.altered(alter).expect("in its place").bytes()[..], b"axc"[..]);
        assert_eq!(shelf.held.get(), 2 * (CLASSES[0] + OVERHEAD));
    }

    #[test]
    fn the_bound_holds_and_idle_buffers_make_room_for_other_sizes() {
        let shelf = Shelf::new(10_000);
        let large: Vec<Frame> = std::iter::from_fn(|| shelf.take(2000, |_| ())).collect();
        assert_eq!(large.len(), 4);
        assert!(shelf.take(9000, |_| ()).is_none());
        drop(large);
        assert!(shelf.take(9000, |_| ()).is_some());
        assert!(shelf.held.get() <= 10_000);
        assert!(shelf.take(1 << 20, |_| ()).is_none(), "larger than any packet");
    }
}

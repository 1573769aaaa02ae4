//! Buffers that are used again and again, within a bound.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

/// A packet with its `virtio_net_hdr`, shared by the copies of a flood. Its buffer goes back to the shelf with the last
/// of them.
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
}

#[derive(Debug)]
struct Buffer {
    bytes: Box<[u8]>,
    length: usize,
    class: usize,
}

/// Capacities of buffers: a small packet must not take the room of a large one, or the bound would mean little.
const CLASSES: [usize; 6] = [128, 512, 2048, 9216, 32_768, 69_632];

/// What a buffer costs beside its bytes.
const OVERHEAD: usize = 64;

impl Shelf {
    /// A shelf that never holds more than `bound` bytes, in use or not.
    pub(super) fn new(bound: usize) -> Rc<Self> {
        Rc::new(Shelf { idle: Default::default(), held: Cell::new(0), bound })
    }

    /// A frame of `length` bytes, written by `write`; `None` if there is no room for it.
    pub(super) fn take(self: &Rc<Self>, length: usize, write: impl FnOnce(&mut [u8])) -> Option<Frame> {
        let class = CLASSES.iter().position(|capacity| *capacity >= length)?;
        let idle = self.idle[class].borrow_mut().pop();
        let mut buffer = match idle {
            Some(buffer) => buffer,
            None => self.allocate(class)?,
        };
        let writable = Rc::get_mut(&mut buffer).expect("an idle buffer has one owner");
        writable.length = length;
        write(&mut writable.bytes[..length]);
        Some(Frame { buffer: Some(buffer), shelf: Rc::clone(self) })
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
        Some(Rc::new(Buffer { bytes: vec![0; CLASSES[class]].into_boxed_slice(), length: 0, class }))
    }
}

impl Frame {
    pub(super) fn bytes(&self) -> &[u8] {
        let buffer = self.buffer.as_ref().expect("present until dropped");
        &buffer.bytes[..buffer.length]
    }
}

impl Frame {
    /// The packet after `alter`, which its other copies do not see; `None` if there is no room for one of its own.
    pub(super) fn altered(mut self, alter: impl FnOnce(&mut [u8])) -> Option<Frame> {
        let buffer = self.buffer.as_mut().expect("present until dropped");
        let length = buffer.length;
        if let Some(own) = Rc::get_mut(buffer) {
            alter(&mut own.bytes[..length]);
            return Some(self);
        }
        self.shelf.take(length, |bytes| {
            bytes.copy_from_slice(self.bytes());
            alter(bytes);
        })
    }
}

impl Drop for Frame {
    fn drop(&mut self) {
        let buffer = self.buffer.take().expect("present until dropped");
        if Rc::strong_count(&buffer) == 1 {
            self.shelf.idle[buffer.class].borrow_mut().push(buffer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_goes_back_with_its_last_copy_and_is_used_again() {
        let shelf = Shelf::new(1 << 20);
        let frame = shelf.take(3, |bytes| bytes.copy_from_slice(b"abc")).expect("room");
        let copy = frame.clone();
        drop(frame);
        assert_eq!((copy.bytes(), shelf.idle[0].borrow().len()), (&b"abc"[..], 0));
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
        assert_eq!((frame.bytes(), altered.bytes()), (&b"abc"[..], &b"axc"[..]));
        assert!(frame.clone().altered(alter).is_none(), "no room for three");
        drop(altered);
        assert_eq!(frame.altered(alter).expect("in its place").bytes(), b"axc");
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

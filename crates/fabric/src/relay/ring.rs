//! The receive ring of a packet socket: memory shared with the kernel, which needs no socket buffer and so no privilege.
//!
//! Format `TPACKET_V2` (kernel documentation, `networking/packet_mmap`): slots of one size, each handed over by its
//! status word. Version 3 packs better, but hands over whole blocks by a timer of milliseconds.
#![allow(unsafe_code, reason = "reads memory that the kernel writes")]

use std::cell::Cell;
use std::io;
use std::mem::size_of;
use std::os::fd::{AsRawFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use super::segment::VNET;

/// The slots of a ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Slots {
    /// Bytes of one, a multiple of 16.
    pub(super) slot_size: usize,
    /// How many MiB.
    pub(super) blocks: usize,
    /// For how many that come after it a frame may stay in its slot; 0 where none is [kept](Received::keep).
    kept: usize,
}

/// The unit in which the kernel allocates a ring; slots do not cross its borders.
const BLOCK: usize = 1 << 20;

/// What precedes a frame in its slot: header, address, alignment, `virtio_net_hdr`, and a spare VLAN tag.
const BEFORE_FRAME: usize = 112;

impl Slots {
    /// Slots for frames of IP packets up to `mtu` bytes: 16 MiB, which at the usual MTU are 8192 slots of 2 KiB, more than
    /// 50 ms at 150 000 packets a second. That is about as long as shared machines stall, and the kernel takes its time to
    /// fill a ring with zeroes: 2.4 ms a MiB were seen in a virtual machine, while nodes were waiting.
    pub(crate) fn for_packets(mtu: u32) -> Slots {
        let slot_size = (mtu as usize + BEFORE_FRAME).next_power_of_two().clamp(2048, BLOCK);
        // Jumbo frames take more room each, and a stall brings as many of them.
        Slots { slot_size, blocks: if slot_size <= 4096 { 16 } else { 32 }, kept: 0 }
    }

    /// Slots for trains of segmentation offload, up to 64 KiB and headers: 64 MiB are 960 of them. A quarter is always kept
    /// for what arrives: a TCP flow has at most about 100 under way (its buffers end at 6 MiB by default), so two flows at
    /// full speed survive a stall of any length, and more of them 9 ms at 14 Gbit/s. In the others trains stay until they are
    /// due: that is 10 ms of 37 Gbit/s. Where trains are cut up none stays, and 960 flows may begin to send in one stall.
    pub(super) fn for_trains() -> Slots {
        let slots = Slots { slot_size: BLOCK / 15 / 16 * 16, blocks: 64, kept: 0 };
        Slots { kept: slots.count() / 4 * 3, ..slots }
    }

    /// The longest frame, with its Ethernet header, that fits into a slot.
    pub(super) fn longest_frame(&self) -> usize {
        self.slot_size - BEFORE_FRAME
    }

    pub(super) fn block_size(&self) -> usize {
        BLOCK
    }

    pub(super) fn count(&self) -> usize {
        self.per_block() * self.blocks
    }

    /// Bytes of all.
    pub(super) fn memory(&self) -> usize {
        self.blocks * BLOCK
    }

    fn per_block(&self) -> usize {
        BLOCK / self.slot_size
    }
}

/// A mapped receive ring.
#[derive(Debug)]
pub(crate) struct RxRing {
    memory: Arc<Memory>,
    /// Frames that have been released or kept.
    taken: u64,
    /// Whether the one whose turn it is will stay in its slot.
    stays: Cell<bool>,
}

/// What the kernel and this process share.
#[derive(Debug)]
struct Memory {
    start: NonNull<u8>,
    slots: Slots,
    /// Slots whose frames have been taken out and not been given back.
    kept: Vec<AtomicBool>,
}

// SAFETY: `start` is a mapping that lives as long as this value. Its status words are only accessed atomically. The rest of a
// slot is read by who holds a shared reference to the ring whose turn the slot is, or to the one `Slot` that was made of it,
// and is written by nobody in this process.
unsafe impl Send for Memory {}
// SAFETY: as above.
unsafe impl Sync for Memory {}

/// A frame in a slot that the kernel has handed over.
#[derive(Debug)]
pub(crate) struct Received<'a> {
    pub(super) ifindex: u32,
    /// `CLOCK_REALTIME` in nanoseconds, taken when the frame arrived.
    pub(crate) realtime: u64,
    /// `virtio_net_hdr` and frame; cut off if not `is_whole`.
    pub(crate) packet: &'a [u8],
    pub(super) is_whole: bool,
    pub(super) has_vlan_tag: bool,
    ring: &'a RxRing,
}

impl RxRing {
    /// Length of the `virtio_net_hdr` that precedes each frame.
    pub(crate) const BEFORE_FRAME: usize = VNET;

    pub(super) fn map(socket: &OwnedFd, slots: Slots) -> io::Result<Self> {
        // SAFETY: asks for a new mapping anywhere.
        let start = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                slots.memory(),
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                socket.as_raw_fd(),
                0,
            )
        };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let start = NonNull::new(start.cast()).ok_or_else(|| io::Error::from(io::ErrorKind::OutOfMemory))?;
        let kept = std::iter::repeat_with(AtomicBool::default).take(slots.count()).collect();
        Ok(RxRing { memory: Arc::new(Memory { start, slots, kept }), taken: 0, stays: Cell::new(false) })
    }

    /// The oldest frame that has not been released or kept.
    pub(crate) fn peek(&self) -> Option<Received<'_>> {
        let (memory, index) = (&*self.memory, self.next());
        let status = memory.status(index).load(Ordering::Acquire);
        // Once around, and a frame that was kept is still there: the kernel has found no room either.
        if status & libc::TP_STATUS_USER == 0 || memory.is_kept(index) {
            return None;
        }
        let slot = memory.slot(index);
        // SAFETY: the kernel has handed the slot over (acquired above) and leaves it alone until it is released; a
        // `tpacket2_hdr` fits at its start, which is aligned to 16 bytes, and any bytes are a valid one.
        let header = unsafe { slot.cast::<libc::tpacket2_hdr>().read() };
        // SAFETY: as above; the address follows the header.
        let address = unsafe { slot.add(ADDRESS).cast::<libc::sockaddr_ll>().read() };
        Some(Received {
            ifindex: address.sll_ifindex as u32,
            realtime: u64::from(header.tp_sec) * 1_000_000_000 + u64::from(header.tp_nsec),
            packet: memory.packet(index, &header),
            is_whole: header.tp_snaplen == header.tp_len,
            has_vlan_tag: status & libc::TP_STATUS_VLAN_VALID != 0,
            ring: self,
        })
    }

    /// Goes on to the next frame. The slot of the one that was peeked at goes back to the kernel, unless it was kept: then it
    /// has an owner, who may have given it back by now.
    pub(crate) fn release(&mut self) {
        if !self.stays.take() {
            self.memory.give_back(self.next());
        }
        self.taken += 1;
    }

    /// Frames that have been released or kept.
    pub(super) fn taken(&self) -> u64 {
        self.taken
    }

    fn next(&self) -> usize {
        (self.taken % self.memory.slots.count() as u64) as usize
    }
}

impl Received<'_> {
    /// Has the frame stay where it is, without a copy, after it was released; `None` if it stays already, or this ring keeps
    /// none.
    pub(super) fn keep(&self) -> Option<Slot> {
        let RxRing { memory, taken, stays } = self.ring;
        if memory.slots.kept == 0 || stays.replace(true) {
            return None;
        }
        let index = self.ring.next();
        memory.kept[index].store(true, Ordering::Relaxed);
        Some(Slot { memory: Arc::clone(memory), index, ordinal: *taken })
    }
}

/// A frame that stays in its slot until this is dropped.
#[derive(Debug)]
pub(super) struct Slot {
    memory: Arc<Memory>,
    index: usize,
    /// Counted from 0 over all frames that were taken from the ring.
    ordinal: u64,
}

impl Slot {
    /// `virtio_net_hdr` and frame.
    pub(super) fn packet(&self) -> &[u8] {
        // SAFETY: the kernel has handed the slot over and leaves it alone until this is dropped; otherwise as when peeking.
        let header = unsafe { self.memory.slot(self.index).cast::<libc::tpacket2_hdr>().read() };
        self.memory.packet(self.index, &header)
    }

    /// It may stay until so many frames have been taken from the ring.
    pub(super) fn may_stay_until(&self) -> u64 {
        self.ordinal + self.memory.slots.kept as u64
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.memory.kept[self.index].store(false, Ordering::Relaxed);
        self.memory.give_back(self.index);
    }
}

impl Memory {
    /// What is in a slot that the kernel has handed over and whose header this is.
    fn packet(&self, index: usize, header: &libc::tpacket2_hdr) -> &[u8] {
        let begin = usize::from(header.tp_mac).saturating_sub(VNET).min(self.slots.slot_size);
        let length = (VNET + header.tp_snaplen as usize).min(self.slots.slot_size - begin);
        // SAFETY: the range lies within the slot, which the caller has from the kernel.
        unsafe { std::slice::from_raw_parts(self.slot(index).add(begin).as_ptr(), length) }
    }

    fn is_kept(&self, index: usize) -> bool {
        self.kept[index].load(Ordering::Relaxed)
    }

    fn give_back(&self, index: usize) {
        self.status(index).store(libc::TP_STATUS_KERNEL, Ordering::Release);
    }

    fn slot(&self, index: usize) -> NonNull<u8> {
        let (block, within) = (index / self.slots.per_block(), index % self.slots.per_block());
        // SAFETY: callers' indices are below the number of slots, so this lies within the mapping.
        unsafe { self.start.add(block * BLOCK + within * self.slots.slot_size) }
    }

    fn status(&self, index: usize) -> &AtomicU32 {
        // SAFETY: `tp_status` is the first word of a slot, aligned; kernel and program both access it atomically.
        unsafe { AtomicU32::from_ptr(self.slot(index).cast().as_ptr()) }
    }
}

/// Where the `sockaddr_ll` is in a slot: after the header, aligned.
const ADDRESS: usize = size_of::<libc::tpacket2_hdr>().next_multiple_of(16);

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: the mapping of this value, of this length, to which nothing refers any more.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.slots.memory()) };
    }
}

#[cfg(test)]
pub(super) mod tests {
    use nix::sys::memfd::{MFdFlags, memfd_create};
    use nix::unistd::ftruncate;

    use super::*;

    /// A ring for trains, which the test fills instead of a kernel.
    pub(in crate::relay) struct Filled {
        pub(in crate::relay) ring: RxRing,
        head: usize,
    }

    impl Filled {
        pub(in crate::relay) fn new() -> Filled {
            let slots = Slots::for_trains();
            let file = memfd_create("ring", MFdFlags::MFD_CLOEXEC).expect("memory");
            ftruncate(&file, slots.memory() as i64).expect("memory");
            Filled { ring: RxRing::map(&file, slots).expect("a mapping"), head: 0 }
        }

        /// A packet arrives, as packet(7) puts it there; whether there was room.
        pub(in crate::relay) fn arrive(&mut self, packet: &[u8]) -> bool {
            const MAC: usize = 96;
            let memory = &self.ring.memory;
            if memory.status(self.head).load(Ordering::Acquire) != libc::TP_STATUS_KERNEL {
                return false;
            }
            let slot = memory.slot(self.head);
            // SAFETY: the slot is the kernel's, whose place the test takes; header and packet fit into it.
            unsafe {
                slot.write_bytes(0, MAC);
                let header = slot.cast::<libc::tpacket2_hdr>().as_mut();
                (header.tp_mac, header.tp_snaplen) = (MAC as u16, (packet.len() - VNET) as u32);
                header.tp_len = header.tp_snaplen;
                slot.add(MAC - VNET).copy_from(NonNull::from(packet).cast(), packet.len());
            }
            memory.status(self.head).store(libc::TP_STATUS_USER, Ordering::Release);
            self.head = (self.head + 1) % memory.slots.count();
            true
        }

        /// Takes the next packet, and keeps it; `None` if there is none.
        pub(in crate::relay) fn keep(&mut self) -> Option<Slot> {
            let slot = self.ring.peek()?.keep();
            self.ring.release();
            slot
        }
    }

    #[test]
    fn what_is_kept_stays_and_goes_back_when_it_is_dropped() {
        let mut filled = Filled::new();
        let count = Slots::for_trains().count();
        assert!((0..count).all(|number| filled.arrive(&[number as u8; 20])) && !filled.arrive(&[0; 20]), "it is full");
        let mut kept: Vec<Option<Slot>> = (0..count).map(|_| filled.keep()).collect();
        // Once around: nothing is taken twice, and the kernel finds no room.
        assert!(filled.keep().is_none() && !filled.arrive(&[0; 20]));
        kept[1] = None;
        assert!(!filled.arrive(&[0; 20]), "the first is still there");
        kept[0] = None;
        assert!(filled.arrive(&[7; 20]) && filled.arrive(&[8; 20]) && !filled.arrive(&[9; 20]));
        assert_eq!([filled.keep(), filled.keep()].map(|slot| slot.expect("it has arrived").packet()[0]), [7, 8]);
        let third = kept[2].as_ref().expect("it was kept");
        assert_eq!((third.packet(), third.may_stay_until()), (&[2; 20][..], 2 + count as u64 / 4 * 3));
    }

    #[test]
    fn a_slot_is_given_back_once() {
        let mut filled = Filled::new();
        let count = Slots::for_trains().count();
        assert!((0..count).all(|_| filled.arrive(&[1; 20])));
        // Kept and dropped before it is released: by then the kernel may have put another frame there.
        let received = filled.ring.peek().expect("it is full");
        let slot = received.keep().expect("it is not kept yet");
        assert!(received.keep().is_none(), "it has an owner");
        drop(slot);
        assert!(filled.arrive(&[2; 20]));
        filled.ring.release();
        let others = (1..count).filter(|_| filled.keep().is_some_and(|slot| slot.packet()[0] == 1)).count();
        assert_eq!(others, count - 1);
        assert_eq!(filled.keep().map(|slot| slot.packet()[0]), Some(2));
    }

    #[test]
    fn slots_hold_the_largest_frame_and_fill_their_blocks() {
        let kinds = [
            (Slots::for_packets(1500), 1514),
            (Slots::for_packets(9000), 9014),
            (Slots::for_packets(65_535), 65_549),
            (Slots::for_trains(), 65_549),
        ];
        for (slots, longest) in kinds {
            assert!(slots.longest_frame() >= longest && slots.slot_size.is_multiple_of(16), "{slots:?}");
            assert!(slots.per_block() * slots.slot_size <= BLOCK && slots.count() >= 240, "{slots:?}");
        }
    }
}

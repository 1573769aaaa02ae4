//! The receive ring of a packet socket: memory shared with the kernel, which needs no socket buffer and so no privilege.
//!
//! Format `TPACKET_V2` (kernel documentation, `networking/packet_mmap`): slots of one size, each handed over by its
//! status word. Version 3 packs better, but hands over whole blocks by a timer of milliseconds.
#![allow(unsafe_code, reason = "reads memory that the kernel writes")]

use std::io;
use std::mem::size_of;
use std::os::fd::{AsRawFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, Ordering};

use super::segment::VNET;

/// The slots of a ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Slots {
    /// Bytes of one, a multiple of 16.
    pub(super) slot_size: usize,
    /// How many MiB.
    pub(super) blocks: usize,
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
        Slots { slot_size, blocks: if slot_size <= 4096 { 16 } else { 32 } }
    }

    /// Slots for trains of segmentation offload, up to 64 KiB and headers: 16 MiB are 240 of them. A TCP flow has at most
    /// about 100 under way (its buffers end at 6 MiB by default), so two flows at full speed survive a stall of any length,
    /// and more of them 9 ms at 14 Gbit/s.
    pub(super) fn for_trains() -> Slots {
        Slots { slot_size: BLOCK / 15 / 16 * 16, blocks: 16 }
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

    fn per_block(&self) -> usize {
        BLOCK / self.slot_size
    }
}

/// A mapped receive ring.
#[derive(Debug)]
pub(crate) struct RxRing {
    start: NonNull<u8>,
    slots: Slots,
    next: usize,
}

// SAFETY: the mapping belongs to this value alone and may be used from any one thread.
unsafe impl Send for RxRing {}

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
}

impl RxRing {
    /// Length of the `virtio_net_hdr` that precedes each frame.
    pub(crate) const BEFORE_FRAME: usize = VNET;

    pub(super) fn map(socket: &OwnedFd, slots: Slots) -> io::Result<Self> {
        // SAFETY: asks for a new mapping anywhere.
        let start = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                slots.blocks * BLOCK,
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
        Ok(RxRing { start, slots, next: 0 })
    }

    /// The oldest frame that has not been released.
    pub(crate) fn peek(&self) -> Option<Received<'_>> {
        let status = self.status().load(Ordering::Acquire);
        if status & libc::TP_STATUS_USER == 0 {
            return None;
        }
        let slot = self.slot();
        // SAFETY: the kernel has handed the slot over (acquired above) and leaves it alone until it is released; a
        // `tpacket2_hdr` fits at its start, which is aligned to 16 bytes, and any bytes are a valid one.
        let header = unsafe { slot.cast::<libc::tpacket2_hdr>().read() };
        // SAFETY: as above; the address follows the header.
        let address = unsafe { slot.add(ADDRESS).cast::<libc::sockaddr_ll>().read() };
        let begin = usize::from(header.tp_mac).saturating_sub(VNET).min(self.slots.slot_size);
        let length = (VNET + header.tp_snaplen as usize).min(self.slots.slot_size - begin);
        // SAFETY: as above; the range lies within the slot.
        let packet = unsafe { std::slice::from_raw_parts(slot.add(begin).as_ptr(), length) };
        Some(Received {
            ifindex: address.sll_ifindex as u32,
            realtime: u64::from(header.tp_sec) * 1_000_000_000 + u64::from(header.tp_nsec),
            packet,
            is_whole: header.tp_snaplen == header.tp_len,
            has_vlan_tag: status & libc::TP_STATUS_VLAN_VALID != 0,
        })
    }

    /// Gives the slot of the frame that was peeked at back to the kernel.
    pub(crate) fn release(&mut self) {
        self.status().store(libc::TP_STATUS_KERNEL, Ordering::Release);
        self.next = (self.next + 1) % self.slots.count();
    }

    fn slot(&self) -> NonNull<u8> {
        let (block, within) = (self.next / self.slots.per_block(), self.next % self.slots.per_block());
        // SAFETY: `next` is below the number of slots, so this lies within the mapping.
        unsafe { self.start.add(block * BLOCK + within * self.slots.slot_size) }
    }

    fn status(&self) -> &AtomicU32 {
        // SAFETY: `tp_status` is the first word of a slot, aligned; kernel and program both access it atomically.
        unsafe { AtomicU32::from_ptr(self.slot().cast().as_ptr()) }
    }
}

/// Where the `sockaddr_ll` is in a slot: after the header, aligned.
const ADDRESS: usize = size_of::<libc::tpacket2_hdr>().next_multiple_of(16);

impl Drop for RxRing {
    fn drop(&mut self) {
        // SAFETY: the mapping of this value, of this length.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.slots.blocks * BLOCK) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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

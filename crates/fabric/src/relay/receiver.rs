//! Receiving: one ring for packets and one for trains, merged in the order of arrival.
//!
//! A slot of a ring takes one frame, however small. In slots for trains small packets would soon fill a ring of any
//! reasonable size, and a stalled machine would lose some; so trains have a ring, and a socket, of their own.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::poll::PollTimeout;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags};

use super::ring::{Received, RxRing, Slots};
use super::socket::PacketSocket;

/// Where frames of all ports arrive.
#[derive(Debug)]
pub(super) struct Receiver {
    packets: (PacketSocket, RxRing),
    /// Where any port keeps segmentation offload.
    trains: Option<(PacketSocket, RxRing)>,
    /// Readable when a train has arrived since it was last [cleared](Receiver::clear). The socket itself is readable as long as
    /// the latest train is in its slot, where it may stay until long after it was taken.
    train_arrived: Option<Epoll>,
}

/// Longer than any frame that a veth carries.
const ANY: u32 = u32::MAX;

impl Receiver {
    /// Opens its sockets in the calling thread's network namespace.
    pub(super) fn open(interfaces: &[u32], mtu: u32, offload: bool) -> io::Result<Self> {
        let slots = Slots::for_packets(mtu);
        let longest = if offload { slots.longest_frame() as u32 } else { ANY };
        let packets = PacketSocket::open(interfaces.to_vec(), 0..=longest, slots)?;
        let trains = offload
            .then(|| PacketSocket::open(interfaces.to_vec(), longest + 1..=ANY, Slots::for_trains()))
            .transpose()?;
        let train_arrived = trains.as_ref().map(|(socket, _)| -> nix::Result<Epoll> {
            let arrived = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
            arrived.add(socket.fd(), EpollEvent::new(EpollFlags::EPOLLIN | EpollFlags::EPOLLET, 0))?;
            Ok(arrived)
        });
        Ok(Receiver { packets, trains, train_arrived: train_arrived.transpose()? })
    }

    /// Takes the frame that arrived first, if there is one.
    pub(super) fn take<T>(&mut self, use_it: impl FnOnce(Received<'_>) -> T) -> Option<T> {
        // The kernel fills both rings in the order of arrival. So once a frame is seen in one ring, whatever preceded it
        // is to be seen in the other: look there only afterwards, and a second time into the first.
        let train_at = self.trains.as_ref().and_then(|(_, ring)| Some(ring.peek()?.realtime));
        let packet_at = self.packets.1.peek().map(|packet| packet.realtime);
        let train_at = match (train_at, packet_at) {
            (None, Some(_)) => self.trains.as_ref().and_then(|(_, ring)| Some(ring.peek()?.realtime)),
            _ => train_at,
        };
        let ring = match (&mut self.trains, train_at, packet_at) {
            (Some((_, ring)), Some(train_at), packet_at) if packet_at.is_none_or(|packet_at| train_at < packet_at) => {
                ring
            }
            _ => &mut self.packets.1,
        };
        let taken = ring.peek().map(use_it)?;
        ring.release();
        Some(taken)
    }

    /// How many trains have been taken.
    pub(super) fn trains_taken(&self) -> u64 {
        self.trains.as_ref().map_or(0, |(_, ring)| ring.taken())
    }

    /// How many frames the kernel dropped since the last call, for want of room in the rings.
    pub(super) fn take_drops(&self) -> u64 {
        // Asking a socket of one's own for its statistics does not fail; if it did, there would be nothing to add.
        let sockets = [&self.packets].into_iter().chain(&self.trains);
        sockets.map(|(socket, _)| socket.take_drops().unwrap_or(0)).sum()
    }

    /// What becomes readable when a frame arrives.
    pub(super) fn readable(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        [self.packets.0.fd().as_fd()].into_iter().chain(self.train_arrived.iter().map(|arrived| arrived.0.as_fd()))
    }

    /// To be called before frames are taken that something has become readable for.
    pub(super) fn clear(&self) {
        if let Some(arrived) = &self.train_arrived {
            // It is asked what there is, and neither waits nor fails.
            let _seen = arrived.wait(&mut [EpollEvent::empty()], PollTimeout::ZERO);
        }
    }

    /// A socket to send by.
    pub(super) fn sending(&self) -> &OwnedFd {
        self.packets.0.fd()
    }
}

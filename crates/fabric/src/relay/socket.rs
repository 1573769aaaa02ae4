//! One unbound packet socket for a whole namespace; see packet(7).
#![allow(unsafe_code, reason = "packet sockets are outside of what safe wrappers offer")]

use std::io;
use std::mem::size_of;
use std::ops::RangeInclusive;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use super::filter::{self, Instruction};
use super::ring::{RxRing, Slots};

/// A packet socket with a receive ring and room for a `virtio_net_hdr` before each frame.
///
/// One socket per port would take 12 ms each to close, so one serves all ports.
#[derive(Debug)]
pub(crate) struct PacketSocket {
    fd: OwnedFd,
}

impl PacketSocket {
    /// Opens one in the calling thread's network namespace, listening to frames of these lengths on these interfaces, with
    /// a ring of these slots.
    pub(crate) fn open(interfaces: Vec<u32>, lengths: RangeInclusive<u32>, slots: Slots) -> io::Result<(Self, RxRing)> {
        // Protocol 0 receives nothing until it is bound, so that no frame gets in before the filter and the ring are there.
        // SAFETY: takes no pointers.
        let fd = checked(unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0) })?;
        // SAFETY: `fd` is new and owned by nobody else.
        let socket = PacketSocket { fd: unsafe { OwnedFd::from_raw_fd(fd) } };
        socket.set(libc::SOL_PACKET, libc::PACKET_VERSION, &(libc::tpacket_versions::TPACKET_V2 as libc::c_int))?;
        socket.set(libc::SOL_PACKET, libc::PACKET_VNET_HDR, &(1 as libc::c_int))?;
        socket.set(libc::SOL_PACKET, libc::PACKET_IGNORE_OUTGOING, &(1 as libc::c_int))?;
        socket.attach(&filter::of(interfaces, lengths))?;
        // Sent frames go straight to the device: a veth has no queueing discipline that anybody would miss.
        socket.set(libc::SOL_PACKET, libc::PACKET_QDISC_BYPASS, &(1 as libc::c_int))?;
        let request = libc::tpacket_req {
            tp_block_size: slots.block_size() as libc::c_uint,
            tp_block_nr: slots.blocks as libc::c_uint,
            tp_frame_size: slots.slot_size as libc::c_uint,
            tp_frame_nr: slots.count() as libc::c_uint,
        };
        socket.set(libc::SOL_PACKET, libc::PACKET_RX_RING, &request)?;
        let ring = RxRing::map(&socket.fd, slots)?;
        socket.listen()?;
        Ok((socket, ring))
    }

    /// How many frames the kernel dropped since the last call, for want of room in the ring.
    pub(crate) fn take_drops(&self) -> io::Result<u64> {
        let mut stats = libc::tpacket_stats { tp_packets: 0, tp_drops: 0 };
        let mut length = size_of::<libc::tpacket_stats>() as libc::socklen_t;
        // SAFETY: `stats` and `length` are valid for the call, and `length` says how large `stats` is.
        checked(unsafe {
            libc::getsockopt(
                self.fd.as_raw_fd(),
                libc::SOL_PACKET,
                libc::PACKET_STATISTICS,
                (&raw mut stats).cast(),
                &raw mut length,
            )
        })?;
        Ok(u64::from(stats.tp_drops))
    }

    pub(crate) fn fd(&self) -> &OwnedFd {
        &self.fd
    }

    fn attach(&self, program: &[Instruction]) -> io::Result<()> {
        let mut code: Vec<libc::sock_filter> = program
            .iter()
            .map(|step| libc::sock_filter { code: step.code, jt: step.if_true, jf: step.if_false, k: step.operand })
            .collect();
        let filter = libc::sock_fprog { len: code.len() as libc::c_ushort, filter: code.as_mut_ptr() };
        self.set(libc::SOL_SOCKET, libc::SO_ATTACH_FILTER, &filter)
    }

    fn listen(&self) -> io::Result<()> {
        let mut address = link_layer_address(0);
        address.sll_protocol = (libc::ETH_P_ALL as u16).to_be();
        // SAFETY: `address` is a valid `sockaddr_ll` of the given length.
        checked(unsafe {
            libc::bind(
                self.fd.as_raw_fd(),
                (&raw const address).cast(),
                size_of::<libc::sockaddr_ll>() as libc::socklen_t,
            )
        })?;
        Ok(())
    }

    fn set<T>(&self, level: libc::c_int, name: libc::c_int, value: &T) -> io::Result<()> {
        // SAFETY: `value` is valid for the call, and its length is given.
        checked(unsafe {
            libc::setsockopt(
                self.fd.as_raw_fd(),
                level,
                name,
                std::ptr::from_ref(value).cast(),
                size_of::<T>() as libc::socklen_t,
            )
        })?;
        Ok(())
    }
}

/// The address of an interface, as a packet socket wants it; 0 is any.
pub(super) fn link_layer_address(ifindex: u32) -> libc::sockaddr_ll {
    libc::sockaddr_ll {
        sll_family: libc::AF_PACKET as u16,
        sll_protocol: 0,
        sll_ifindex: ifindex as libc::c_int,
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 0,
        sll_addr: [0; 8],
    }
}

fn checked(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

//! What a node does between its making and its `node_main`.
#![allow(unsafe_code, reason = "closes descriptors by number")]

use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::panic::catch_unwind;
use std::process;

use machine::Span;
use nix::errno::Errno;
use nix::sys::socket::{ControlMessage, MsgFlags, recvmsg, sendmsg};
use nix::unistd::{Gid, Uid, sethostname};

use super::order::{ReceivedOrder, Stage, first_descriptor};
use super::worker::Setting;
use super::{NodeMain, NodeStart, Stillborn, errno_of};
use crate::clock;
use crate::namespace;
use crate::netlink::{Netlink, Refusal};

/// How long an interface may take to carry packets once both its ends are up. The kernel defers that by a second at
/// most; the rest is for a starved machine.
pub(crate) const CARRIER: Span = Span::from_secs(30);

/// Makes the new namespaces a place that a program can live in.
pub(super) fn prepare(
    setting: &Setting,
    order: &ReceivedOrder,
    nested: bool,
    control: &UnixStream,
    mut hub: Netlink,
) -> Result<(), Stillborn> {
    let early = |stage| move |errno| Stillborn { stage, sequence: 0, errno };
    let failed = |stage| move |error: io::Error| early(stage)(errno_of(&error));
    let gid = if nested { Gid::from_raw(0) } else { setting.gid };
    if nested {
        namespace::map_user(Uid::from_raw(0), setting.uid, gid, setting.gid)
            .map_err(|(_, error)| failed(Stage::Users)(error))?;
    }
    // In a container the kernel may refuse; then /proc shows the outer processes, and programs run all the same.
    let _ = namespace::mount_proc();
    sethostname(&order.name).map_err(early(Stage::HostName))?;
    // Before there are interfaces, which take the defaults when they are made.
    settings(setting.rootless, order.routed, gid).map_err(failed(Stage::Settings))?;
    if setting.uid.is_root() {
        shield_machine().map_err(early(Stage::Settings))?;
    }
    if nested {
        let own = namespace::own_network().map_err(failed(Stage::Netlink))?;
        send_descriptor(control, &own).map_err(early(Stage::Netlink))?;
        let mut control: &UnixStream = control;
        control.read_exact(&mut [0]).map_err(failed(Stage::Users))?;
        control.write_all(&[1]).map_err(failed(Stage::Users))
    } else {
        wire(order, &mut Netlink::open().map_err(failed(Stage::Netlink))?, &mut hub)
    }
}

/// Makes the links from inside, sets their far ends up in the hub, and returns when they carry packets.
pub(super) fn wire(order: &ReceivedOrder, inside: &mut Netlink, hub: &mut Netlink) -> Result<(), Stillborn> {
    let refused = |stage| move |Refusal { sequence, errno }| Stillborn { stage, sequence, errno };
    inside.apply(&order.inside.bytes, order.inside.count).map_err(refused(Stage::Inside))?;
    hub.apply(&order.hub.bytes, order.hub.count).map_err(refused(Stage::Hub))?;
    let deadline = clock::now() + CARRIER;
    let running = |netlink: &mut Netlink, index| {
        netlink.await_running(index, deadline).map_err(|error| Stillborn {
            stage: Stage::Carrier,
            sequence: 0,
            errno: errno_of(&error),
        })
    };
    order.near.iter().try_for_each(|&index| running(inside, index))?;
    order.far.iter().try_for_each(|&index| running(hub, index))
}

/// Runs the node.
pub(super) fn begin(node_main: NodeMain, name: String, control: OwnedFd) -> ! {
    keep_only(&[control.as_raw_fd()]);
    let status = catch_unwind(move || node_main(NodeStart { name, control })).unwrap_or(101);
    process::exit(status)
}

/// Closes every descriptor but the standard three and these.
pub(super) fn keep_only(kept: &[RawFd]) {
    let mut kept = kept.to_vec();
    kept.sort_unstable();
    let mut from = 3;
    for next in kept.into_iter().chain([RawFd::MAX]) {
        if next > from {
            // SAFETY: called where nothing that owns one of these descriptors is used or dropped any more: the process
            // ends without unwinding.
            unsafe { libc::syscall(libc::SYS_close_range, from as libc::c_uint, (next - 1) as libc::c_uint, 0) };
        }
        from = next.saturating_add(1);
    }
}

/// Settings of the new network namespace: programs without capabilities may use low ports and ping, and nothing
/// announces, detects or configures itself.
fn settings(rootless: bool, routed: bool, gid: Gid) -> io::Result<()> {
    // In a user namespace only mapped groups can be named. Root may live in one, too: a container's.
    let own_group = format!("{gid} {gid}");
    allow_ping(if rootless { &own_group } else { "0 2147483647" }, &own_group)?;
    if routed {
        // With several ways an answer may take another one than the question (RFC 3704); new namespaces inherit a machine's
        // choice to drop such packets.
        for of in ["all", "default"] {
            namespace::write(&format!("/proc/sys/net/ipv4/conf/{of}/rp_filter"), "0")?;
        }
    }
    for (path, value, required) in [
        ("/proc/sys/net/ipv4/ip_unprivileged_port_start", "0", true),
        ("/proc/sys/net/ipv6/conf/default/accept_dad", "0", false),
        ("/proc/sys/net/ipv6/conf/default/accept_ra", "0", false),
        ("/proc/sys/net/ipv6/conf/default/autoconf", "0", false),
    ] {
        match namespace::write(path, value) {
            // A kernel without IPv6 has none of its settings.
            Err(error) if required || error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

/// To these groups, or to `else_these` where the former do not all exist.
fn allow_ping(groups: &str, else_these: &str) -> io::Result<()> {
    let set = |range: &str| namespace::write("/proc/sys/net/ipv4/ping_group_range", range);
    set(groups).or_else(|error| if error.raw_os_error() == Some(libc::EINVAL) { set(else_these) } else { Err(error) })
}

/// A program of the machine's root could change the whole machine's settings, without any capability: their files are
/// root's. Those of the node's own network stay open.
fn shield_machine() -> Result<(), Errno> {
    namespace::bind_to_itself("/proc/sys")?;
    namespace::bind_to_itself("/proc/sys/net")?;
    namespace::make_read_only("/proc/sys", false)?;
    for path in ["/proc/sysrq-trigger", "/proc/irq", "/proc/bus", "/proc/fs"] {
        match namespace::bind_to_itself(path) {
            Err(Errno::ENOENT) => {}
            bound => bound.and_then(|()| namespace::make_read_only(path, false))?,
        }
    }
    Ok(())
}

fn send_descriptor(over: &UnixStream, descriptor: &OwnedFd) -> Result<(), Errno> {
    let descriptors = [descriptor.as_raw_fd()];
    let rights = [ControlMessage::ScmRights(&descriptors)];
    sendmsg::<()>(over.as_raw_fd(), &[IoSlice::new(&[0])], &rights, MsgFlags::MSG_NOSIGNAL, None).map(drop)
}

/// The descriptor that the other end sends; `None` when it closes instead.
pub(super) fn receive_descriptor(over: &UnixStream) -> Option<OwnedFd> {
    let mut byte = [0];
    let mut space = nix::cmsg_space!([RawFd; 1]);
    let mut parts = [IoSliceMut::new(&mut byte)];
    let message = recvmsg::<()>(over.as_raw_fd(), &mut parts, Some(&mut space), MsgFlags::MSG_CMSG_CLOEXEC).ok()?;
    message.cmsgs().ok()?.find_map(first_descriptor)
}

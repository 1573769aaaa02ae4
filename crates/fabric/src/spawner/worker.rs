//! The spawner's loop: an order, a clone, a report.
#![allow(unsafe_code, reason = "clones into namespaces")]

use std::io::{IoSlice, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::process;

use nix::errno::Errno;
use nix::sched::CloneFlags;
use nix::sys::prctl;
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, SigmaskHow, Signal, sigaction, sigprocmask};
use nix::sys::socket::{ControlMessage, MsgFlags, recv, send, sendmsg};
use nix::unistd::{Gid, Uid};

use super::order::{ReceivedOrder, Report, Stage};
use super::{NodeMain, Stillborn, birth, errno_of};
use crate::namespace::{self, Forked};
use crate::netlink::Netlink;

/// What a spawner knows from its start.
pub(super) struct Setting {
    pub socket: OwnedFd,
    pub hub: RawFd,
    pub uid: Uid,
    pub gid: Gid,
    pub rootless: bool,
    pub node_main: NodeMain,
}

/// Carries out orders until nobody can give any.
pub(super) fn serve(setting: &Setting) -> ! {
    let _ = prctl::set_name(c"spawner");
    birth::keep_only(&[setting.socket.as_raw_fd(), setting.hub]);
    // Children that die are reaped by the kernel; those that outlive the spawner become pid 1's.
    let _ = set_child_action(SaFlags::SA_NOCLDWAIT);
    let mut buffer = vec![0; 256 * 1024];
    loop {
        match recv(setting.socket.as_raw_fd(), &mut buffer, MsgFlags::empty()) {
            Err(Errno::EINTR) => {}
            Err(_) | Ok(0) => process::exit(0),
            Ok(length) => {
                if let Some(order) = ReceivedOrder::decode(&buffer[..length]) {
                    let index = order.index;
                    if let Err(failure) = make(setting, order) {
                        report(setting, index, Err(failure));
                    }
                }
            }
        }
    }
}

fn make(setting: &Setting, order: ReceivedOrder) -> Result<(), Stillborn> {
    let early = |stage| move |errno| Stillborn { stage, sequence: 0, errno };
    let (ours, theirs) = UnixStream::pair().map_err(|error| early(Stage::Clone)(errno_of(&error)))?;
    // In the hub, and open across the clone: the child configures both ends of its links.
    let mut hub = Netlink::open().map_err(|error| early(Stage::Netlink)(errno_of(&error)))?;
    let nested = order.root && setting.rootless;
    let mut flags =
        CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWPID | CloneFlags::CLONE_NEWUTS;
    flags.set(CloneFlags::CLONE_NEWUSER, nested);
    // SAFETY: a spawner has one thread.
    match unsafe { namespace::fork_into(flags) }.map_err(early(Stage::Clone))? {
        Forked::Child => {
            drop(ours);
            let _ = set_child_action(SaFlags::empty());
            let _ = sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None);
            let index = order.index;
            match birth::prepare(setting, &order, nested, &theirs, hub) {
                Ok(()) => report(setting, index, Ok(())),
                Err(failure) => {
                    report(setting, index, Err(failure));
                    process::exit(1);
                }
            }
            birth::begin(setting.node_main, order.name, theirs.into())
        }
        Forked::Parent(pid) => {
            drop(theirs);
            if nested {
                wire_from_outside(&order, &ours, &mut hub)?;
            }
            let message = Report::Cloned { index: order.index, pid: pid.as_raw() }.encode();
            let descriptors = [ours.as_raw_fd()];
            let rights = [ControlMessage::ScmRights(&descriptors)];
            let socket = setting.socket.as_raw_fd();
            sendmsg::<()>(socket, &[IoSlice::new(&message)], &rights, MsgFlags::MSG_NOSIGNAL, None)
                .map_err(early(Stage::Spawner))?;
            Ok(())
        }
    }
}

/// A node that is root in a user namespace of its own has no say in the hub, so the spawner, which has in both, connects
/// the two. The child sends its network namespace and waits.
fn wire_from_outside(order: &ReceivedOrder, child: &UnixStream, hub: &mut Netlink) -> Result<(), Stillborn> {
    let early = |stage| move |errno| Stillborn { stage, sequence: 0, errno };
    let failed = |stage| move |error: std::io::Error| early(stage)(errno_of(&error));
    // The child has said why it failed, if it closed instead.
    let Some(inside) = birth::receive_descriptor(child) else { return Ok(()) };
    let home = namespace::own_network().map_err(failed(Stage::Netlink))?;
    namespace::enter_network(&inside).map_err(early(Stage::Netlink))?;
    let socket = Netlink::open();
    namespace::enter_network(&home).map_err(early(Stage::Netlink))?;
    birth::wire(order, &mut socket.map_err(failed(Stage::Netlink))?, hub)?;
    let mut child: &UnixStream = child;
    child.write_all(&[1]).map_err(failed(Stage::Users))?;
    // The control socket is handed on only after the child has taken the byte that says go.
    child.read_exact(&mut [0]).map_err(failed(Stage::Users))
}

fn report(setting: &Setting, index: u32, outcome: Result<(), Stillborn>) {
    let report = match outcome {
        Ok(()) => Report::Ready { index },
        Err(Stillborn { stage, sequence, errno }) => Report::Failed { index, stage, sequence, errno: errno as i32 },
    };
    let _ = send(setting.socket.as_raw_fd(), &report.encode(), MsgFlags::MSG_NOSIGNAL);
}

fn set_child_action(flags: SaFlags) -> Result<(), Errno> {
    let action = SigAction::new(SigHandler::SigDfl, flags, SigSet::empty());
    // SAFETY: the default action runs no code of ours.
    unsafe { sigaction(Signal::SIGCHLD, &action) }.map(drop)
}

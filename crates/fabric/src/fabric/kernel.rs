//! What of this machine's kernel decides how links are made.

use std::path::Path;

/// What a layout depends on beside its plan.
#[derive(Clone, Copy, Debug)]
pub(super) struct Kernel {
    /// It has IPv6.
    pub ipv6: bool,
    /// Its packet sockets hand over trains of any kind, so that a sender can always leave segmentation to the relay. Where
    /// they do not, senders leave it to nobody, and TCP makes each packet by itself: an eighth of the speed.
    pub relays_trains: bool,
}

/// Whether the kernel has IPv6 and it is not switched off.
pub(crate) fn has_ipv6() -> bool {
    Path::new("/proc/net/if_inet6").exists()
}

/// The one that runs.
pub(super) fn this_kernel() -> Kernel {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    Kernel { ipv6: has_ipv6(), relays_trains: hands_over_trains(&release) }
}

/// Whether packet sockets here hand over trains of UDP, and take them.
pub(crate) fn relays_udp_trains() -> bool {
    this_kernel().relays_trains
}

/// Whether packet sockets of the Linux with this release hand over trains of UDP: `virtio_net_hdr` has a word for them
/// since 6.2, and before that they are dropped.
fn hands_over_trains(release: &str) -> bool {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|digits| digits.parse().unwrap_or(0));
    let version: (u32, u32) = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    version >= (6, 2)
}

#[cfg(test)]
mod tests {
    use super::hands_over_trains;

    #[test]
    fn only_kernels_with_a_word_for_trains_of_udp_relay_them() {
        for (release, expected) in [
            ("6.18.44-fc-v657", true),
            ("6.2.0-39-generic", true),
            ("7.0-rc1", true),
            ("6.1.0-28-amd64", false),
            ("5.15.153.1-microsoft-standard-WSL2", false),
            ("", false),
        ] {
            assert_eq!(hands_over_trains(release), expected, "{release}");
        }
    }
}

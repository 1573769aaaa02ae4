//! The machine is the same before, during and after.

use std::process::Command;

use super::child::{Who, in_child, plan, raised, tell};

/// What the machine's own network looks like to an independent witness.
fn witness() -> String {
    let show = |program: &str, words: &[&str]| {
        let output = Command::new(program).args(words).output().unwrap();
        assert!(output.status.success(), "{program} {words:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    [
        show("ip", &["-o", "link"]),
        show("ip", &["-o", "route", "show", "table", "all"]),
        show("ip", &["-o", "-6", "route", "show", "dev", "lo"]),
        show("tc", &["qdisc"]),
        show(
            "sh",
            &[
                "-c",
                "cat /proc/sys/net/ipv4/ip_unprivileged_port_start /proc/sys/net/ipv4/ping_group_range \
            /proc/sys/net/ipv6/conf/*/disable_ipv6 /proc/sys/net/ipv6/conf/*/accept_ra; hostname",
            ],
        ),
    ]
    .join("\n--\n")
}

#[test]
fn nothing_of_it_changes() {
    let before = witness();
    for who in [Who::Caller, Who::Ordinary] {
        in_child(who, || {
            let plan = plan(
                "name: t\nnetworks: { x: {}, y: {} }\nnodes:\n  a: { run: [x], networks: { x: {}, y: { link: { delay: 1ms } } } }\n  b: { run: [x], networks: { x: {}, y: {} } }\n",
            );
            raised(&plan, |_, _, nodes, _| {
                assert!(tell(&nodes[0], "sh ip -o link | wc -l").parse::<u32>().unwrap() >= 3);
            });
        });
        assert_eq!(witness(), before, "after {who:?}");
    }
}

/// Root's programs need no capability to write root's files, and `user: root` has some over the network.
#[test]
fn what_belongs_to_the_machine_cannot_be_written_in_a_node() {
    in_child(Who::Caller, || {
        let plan = plan("name: t\nnodes: { a: { user: root, run: [x] } }\n");
        raised(&plan, |_, _, nodes, _| {
            // Each writes back what is there, so that a failure of this test changes nothing either.
            for path in ["/proc/sys/vm/swappiness", "/proc/sys/kernel/panic", "/sys/class/net/lo/mtu"] {
                let rewrite =
                    format!("sh [ ! -e {path} ] || {{ v=$(cat {path}); echo $v > {path} && echo written; }} 2>&1");
                assert!(!tell(&nodes[0], &rewrite).contains("written"), "{path}");
            }
            let own = "/proc/sys/net/ipv4/ip_forward";
            assert_eq!(tell(&nodes[0], &format!("sh echo 1 > {own}; cat {own}")), "1");
        });
    });
}

#[test]
fn no_node_changes_the_names_of_all() {
    for who in [Who::Caller, Who::Ordinary] {
        in_child(who, || {
            let status = fabric::sandbox::run(|sandbox| {
                sandbox.hosts("10.0.0.1 one\n").unwrap();
                assert!(std::fs::write("/etc/hosts", "10.0.0.9 one\n").is_err(), "{who:?} wrote it");
                assert_eq!(std::fs::read_to_string("/etc/hosts").unwrap(), "10.0.0.1 one\n");
                0
            });
            assert_eq!(status.unwrap(), 0);
        });
    }
}

/// A rootless container's root: it may make namespaces, and knows one group only.
#[test]
fn root_of_a_user_namespace_can_run_nodes() {
    in_child(Who::Ordinary, || {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWUSER).unwrap();
        let id = nix::unistd::Uid::current();
        assert!(!id.is_root());
        std::fs::write("/proc/self/setgroups", "deny").unwrap();
        std::fs::write("/proc/self/uid_map", "0 65534 1").unwrap();
        std::fs::write("/proc/self/gid_map", "0 65534 1").unwrap();
        let plan = plan("name: t\nnodes: { a: { run: [x] }, b: { user: root, run: [x] } }\n");
        raised(&plan, |_, _, nodes, _| assert_eq!(tell(&nodes[1], "sh id -u"), "0"));
    });
}

#[test]
fn the_doctor_finds_this_machine_able() {
    in_child(Who::Ordinary, || {
        for finding in fabric::preflight::examine() {
            assert!(finding.state != fabric::preflight::State::Missing, "{finding:?}");
        }
    });
}

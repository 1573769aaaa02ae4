//! Namespaces, netlink, link drivers and preflight.

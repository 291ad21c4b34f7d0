//! Network namespaces that nothing but a file descriptor keeps alive, and their kernel settings.

use std::{fs, io};

use netns_rs::NetNs;
use nix::sched::{CloneFlags, unshare};

use crate::error::LabError;

/// A setting below /proc/sys and its value.
type Sysctl = (&'static str, &'static str);

/// What pods need to stand a load test and to have working IPv6 at once.
pub(crate) const POD_SYSCTLS: &[Sysctl] = &[
    // Data planes send packets back on unusual ways.
    ("net/ipv4/conf/all/rp_filter", "0"),
    ("net/ipv4/conf/default/rp_filter", "0"),
    // Short connections: many ports, used again at once, but never the ones sidecars listen on.
    ("net/ipv4/ip_local_port_range", "10000 65535"),
    ("net/ipv4/ip_local_reserved_ports", "15000-15099"),
    ("net/ipv4/tcp_tw_reuse", "1"),
    // Bursts of new connections must not be dropped before the application can accept them.
    ("net/core/somaxconn", "65535"),
    ("net/ipv4/tcp_max_syn_backlog", "65535"),
    // No duplicate address detection (an address would be unusable for a second), no router discovery.
    ("net/ipv6/conf/all/disable_ipv6", "0"),
    ("net/ipv6/conf/default/disable_ipv6", "0"),
    ("net/ipv6/conf/all/accept_dad", "0"),
    ("net/ipv6/conf/default/accept_dad", "0"),
    ("net/ipv6/conf/default/dad_transmits", "0"),
    ("net/ipv6/conf/all/accept_ra", "0"),
    ("net/ipv6/conf/default/accept_ra", "0"),
    ("net/ipv6/conf/default/router_solicitations", "0"),
];

/// What the namespace of the bridge needs to answer "unreachable" for everything that is not a pod, at once.
pub(crate) const SWITCH_SYSCTLS: &[Sysctl] = &[
    ("net/ipv4/conf/all/rp_filter", "0"),
    ("net/ipv4/conf/default/rp_filter", "0"),
    ("net/ipv4/ip_forward", "1"),
    ("net/ipv4/conf/all/send_redirects", "0"),
    ("net/ipv4/conf/default/send_redirects", "0"),
    ("net/ipv4/icmp_ratelimit", "0"),
    ("net/ipv6/icmp/ratelimit", "0"),
    ("net/ipv6/conf/all/forwarding", "1"),
    ("net/ipv6/conf/default/accept_dad", "0"),
    ("net/ipv6/conf/default/dad_transmits", "0"),
    // The bridge's ports are no hosts: without this each sends multicast reports into the lab.
    ("net/ipv6/conf/default/disable_ipv6", "1"),
];

/// Moves the calling thread into a new network namespace with these settings, and returns its descriptor.
/// The thread stays there: call this on a thread made for it.
pub(crate) fn enter_new(of: &str, sysctls: &[Sysctl]) -> Result<NetNs, LabError> {
    unshare(CloneFlags::CLONE_NEWNET).map_err(|errno| LabError::Namespace {
        of: of.to_owned(),
        call: "unshare",
        source: errno.into(),
    })?;
    for (name, value) in sysctls {
        set_sysctl(of, name, value)?;
    }
    current(of)
}

/// The namespace of the calling thread.
pub(crate) fn current(of: &str) -> Result<NetNs, LabError> {
    netns_rs::get_from_current_thread().map_err(|error| LabError::Namespace {
        of: of.to_owned(),
        call: "open",
        source: errno(error),
    })
}

/// Moves the calling thread into a namespace.
pub(crate) fn enter(of: &str, namespace: &NetNs) -> Result<(), LabError> {
    namespace.enter().map_err(|error| LabError::Namespace {
        of: of.to_owned(),
        call: "setns",
        source: errno(error),
    })
}

/// Makes a setting in the calling thread's namespace: /proc/sys/net shows the one of the task that opens it.
pub(crate) fn set_sysctl(of: &str, name: &str, value: &str) -> Result<(), LabError> {
    fs::write(format!("/proc/sys/{name}"), value).map_err(|source| LabError::Sysctl {
        of: of.to_owned(),
        name: name.to_owned(),
        value: value.to_owned(),
        source,
    })
}

fn errno(error: netns_rs::Error) -> io::Error {
    match error {
        netns_rs::Error::OpenNsError(_, source) => source,
        netns_rs::Error::SetnsError(errno) => io::Error::from_raw_os_error(errno as i32),
        other => io::Error::other(other.to_string()),
    }
}

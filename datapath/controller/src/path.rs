//! What carries the bytes of an exchange, and what of the datapath that takes.

/// What carries the requests of a pod's anchored connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Path {
    /// Packets are rewritten at the pod's device: any node, any size, and the sockets stay plain TCP.
    Splice,
    /// Messages are redirected from socket to socket: faster within a node, and programs notice.
    Shortcut,
}

/// The programs of [`Path::Splice`].
pub const SPLICE: &[&str] = &["tc_pod_egress", "tc_pod_ingress"];

impl Path {
    /// The programs that this path needs besides those that every daemon has.
    pub const fn programs(self) -> &'static [&'static str] {
        match self {
            Self::Splice => SPLICE,
            Self::Shortcut => &[],
        }
    }
}

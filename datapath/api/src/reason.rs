//! Why a request took the path it took. Numbers are fixed: metrics and reports use them; retired ones stay.

macro_rules! reasons {
    ($($(#[$doc:meta])* $variant:ident = $number:literal, $text:literal;)*) => {
        /// What happened to a request (or to a part of one) in the kernel.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u32)]
        pub enum Reason { $($(#[$doc])* $variant = $number,)* }

        impl Reason {
            /// All reasons, in number order.
            pub const ALL: &[Self] = &[$(Self::$variant),*];

            /// The reason with that number.
            pub const fn from_number(number: u32) -> Option<Self> {
                match number { $($number => Some(Self::$variant),)* _ => None }
            }

            /// The name in metrics and reports.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }
        }
    };
}

reasons! {
    /// Finished in the kernel, straight between the two sockets.
    Local = 0, "local";
    /// Finished in the kernel, through the leased upstream's TCP connection.
    Remote = 1, "remote";
    /// No free upstream connection to the chosen endpoint.
    NoUpstream = 2, "no_upstream";
    /// No virtual host or no route matches: user space answers 404.
    NoRoute = 3, "no_route";
    /// The cluster has no endpoint: user space answers 503.
    NoEndpoint = 4, "no_endpoint";
    /// The head is longer than the kernel reads.
    HeadTooLong = 5, "head_too_long";
    /// Not an HTTP/1 request, or one the kernel leaves to a stricter judge.
    Malformed = 6, "malformed";
    /// HTTP version other than 1.1.
    Version = 7, "version";
    /// A transfer coding that the kernel does not carry: chunked in more than one piece or with trailers, or another one.
    TransferEncoding = 8, "transfer_encoding";
    /// `connection` asks for more than keep-alive.
    Connection = 9, "connection";
    /// The client asks for an upgrade or a tunnel.
    Upgrade = 10, "upgrade";
    /// The client waits for `100 Continue`.
    Expect = 11, "expect";
    /// Sent while an earlier request was unanswered.
    Pipelined = 12, "pipelined";
    /// User space still owes this client bytes.
    UserPending = 13, "user_pending";
    /// The message is larger than the in-kernel path takes.
    Large = 14, "large";
    /// More headers of interest, or more header lines, than the kernel keeps.
    TooManyHeaders = 15, "too_many_headers";
    /// The configuration changed during the decision.
    Swapped = 16, "swapped";
    /// The listener left the configuration.
    NoListener = 17, "no_listener";
    /// A part of a message of which the kernel lost the boundaries; not a request count.
    Pinned = 18, "pinned";
    /// The kernel could not read the message.
    Unreadable = 19, "unreadable";
    /// A response that user space had to finish.
    Relayed = 20, "relayed";
    /// The leased upstream vanished.
    UpstreamGone = 21, "upstream_gone";
    /// The client vanished before its response.
    ClientGone = 22, "client_gone";
    /// An opaque connection was given an endpoint.
    Opaque = 23, "opaque";
    /// An opaque connection had no endpoint to go to and was refused.
    OpaqueRefused = 24, "opaque_refused";
    /// A connection was anchored.
    Anchored = 25, "anchored";
    /// A connection could not be anchored and was refused.
    AnchorRefused = 26, "anchor_refused";
    /// The head came in more than one piece.
    SplitHead = 27, "split_head";
    /// The route has a time limit.
    Timeout = 28, "timeout";
    /// The route retries.
    Retry = 29, "retry";
    /// The route rewrites path or host.
    Rewrite = 30, "rewrite";
    /// The route changes headers.
    HeaderMutation = 31, "header_mutation";
    /// The route copies requests to another cluster.
    Mirror = 32, "mirror";
    /// The route makes failures on purpose.
    Fault = 33, "fault";
    /// The route leads to a cluster that speaks HTTP/2.
    Http2 = 34, "http2";
    /// The route answers with a redirect: user space does.
    Redirect = 35, "redirect";
    /// The route answers from the configuration: user space does.
    DirectResponse = 36, "direct_response";
    /// The header that should name the cluster names none: user space answers 503.
    NoCluster = 37, "no_cluster";
    /// An anchored connection that is closed again: the map that tells its anchor of it is full.
    AnchorFull = 38, "anchor_full";
    /// An anchored connection whose requests are all user space's: the map of client sockets is full. They are not counted.
    ClientsFull = 39, "clients_full";
    /// A pipelined request that was refused to its sender: the map that says what it must wait for is full.
    WaitingFull = 40, "waiting_full";
    /// A slot in a pool that was not free or not that pool's: it was not used. A defect; not a request count.
    SlotWrong = 41, "slot_wrong";
    /// An anchored connection that is closed again: its pod has its share of the node's. Counted by pod as well.
    OverShare = 42, "over_share";
    /// The path may not be in its normal form, and the listener asks for that.
    Path = 43, "path";
    /// The route's cluster wants a connection for each request, or the address that the client asked for.
    OwnConnection = 44, "own_connection";
}

/// Number of counters.
pub const REASONS: u32 = Reason::ALL.len() as u32;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_dense_and_in_order() {
        for (i, reason) in Reason::ALL.iter().enumerate() {
            assert_eq!(*reason as usize, i, "{reason:?}");
        }
    }
}

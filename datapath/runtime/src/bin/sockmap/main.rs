//! The article's first stage, as an arm to compare with: sockets of one node whose messages skip TCP, application to sidecar,
//! sidecar to sidecar, sidecar to application. Knows nothing of HTTP.
//!
//! Rules, the same as the datapath's (`datapath/ARCHITECTURE.md`, "Why nothing is reordered"):
//! - The two ends of a connection are found by what both see of it ([`kmesh_api::shortcut::Meeting`]), not by addresses alone.
//! - A socket's redirected bytes are read before its TCP bytes. So a message takes the shortcut only if the application at the other
//!   end has read everything that ever went there by TCP.
//! - A redirect has no flow control. So at most 64 KiB wait unread past TCP; what is more, and every longer message, goes by TCP.
//!
//! What an end has read is noted when it sends: then its own program runs under its own socket's lock.
//!
//! An object of its own that links nothing of the datapath's library: a library's maps are all in every object that links it.
//! What needs no maps it shares as modules.
#![cfg_attr(target_arch = "bpf", no_std)]
#![cfg_attr(target_arch = "bpf", no_main)]

#[cfg(target_arch = "bpf")]
#[path = "../../epilogue.rs"]
mod epilogue;
#[cfg(target_arch = "bpf")]
mod maps;
#[cfg(target_arch = "bpf")]
mod meet;
#[cfg(target_arch = "bpf")]
mod message;
#[cfg(target_arch = "bpf")]
#[path = "../../probe_read.rs"]
mod probe_read;
#[cfg(target_arch = "bpf")]
mod reader;
#[cfg(target_arch = "bpf")]
#[path = "../../sock_ops.rs"]
mod sock_ops;

#[cfg(target_arch = "bpf")]
#[expect(
    clippy::needless_pass_by_value,
    reason = "the entry points' attributes fix their signature"
)]
mod programs {
    use aya_ebpf::bindings::sk_action;
    use aya_ebpf::macros::{sk_msg, sock_ops};
    use aya_ebpf::programs::{SkMsgContext, SockOpsContext};

    use crate::{meet, message};

    #[sock_ops]
    fn sockops_meet(ctx: SockOpsContext) -> u32 {
        meet::callback(&ctx);
        1
    }

    #[sk_msg]
    fn msg_shortcut(ctx: SkMsgContext) -> u32 {
        message::send(&ctx)
    }

    const _: () = assert!(sk_action::SK_PASS == 1);
}

#[cfg(not(target_arch = "bpf"))]
fn main() {}

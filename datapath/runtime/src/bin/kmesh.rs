//! Entry points: attribute, call, verdict. Nothing is decided here.
#![cfg_attr(target_arch = "bpf", no_std)]
#![cfg_attr(target_arch = "bpf", no_main)]

#[cfg(target_arch = "bpf")]
#[expect(
    clippy::needless_pass_by_value,
    reason = "the entry points' attributes fix their signature"
)]
mod programs {
    use aya_ebpf::bindings::sk_action;
    use aya_ebpf::macros::{cgroup_sock_addr, classifier, sk_msg, sock_ops, stream_verdict};
    use aya_ebpf::programs::{
        SkBuffContext, SkMsgContext, SockAddrContext, SockOpsContext, TcContext,
    };
    use kmesh_runtime::path::splice;
    use kmesh_runtime::{
        backlog, connect, donate, established, request, response, share, upstream,
    };

    #[cgroup_sock_addr(connect4)]
    fn connect4_route(ctx: SockAddrContext) -> i32 {
        let to = connect::destination4(&ctx);
        connect::connect(&ctx, to, false)
    }

    #[cgroup_sock_addr(connect6)]
    fn connect6_route(ctx: SockAddrContext) -> i32 {
        let to = connect::destination6(&ctx);
        connect::connect(&ctx, to, true)
    }

    #[cgroup_sock_addr(getpeername4)]
    fn getpeername4_restore(ctx: SockAddrContext) -> i32 {
        connect::peer_name(&ctx, false)
    }

    #[cgroup_sock_addr(getpeername6)]
    fn getpeername6_restore(ctx: SockAddrContext) -> i32 {
        connect::peer_name(&ctx, true)
    }

    #[sock_ops]
    fn sockops_track(ctx: SockOpsContext) -> u32 {
        established::callback(&ctx);
        1
    }

    #[sk_msg]
    fn msg_client_request(ctx: SkMsgContext) -> u32 {
        request::client_request(&ctx)
    }

    #[sk_msg]
    fn msg_server_response(ctx: SkMsgContext) -> u32 {
        response::server_response(&ctx)
    }

    #[stream_verdict]
    fn skb_upstream_response(ctx: SkBuffContext) -> u32 {
        upstream::upstream_response(&ctx)
    }

    #[classifier]
    fn tc_pod_egress(ctx: TcContext) -> i32 {
        splice::egress(&ctx)
    }

    #[classifier]
    fn tc_pod_ingress(ctx: TcContext) -> i32 {
        splice::ingress(&ctx)
    }

    #[classifier]
    fn pool_donate(ctx: TcContext) -> i32 {
        donate::donate(&ctx)
    }

    #[classifier]
    fn pool_withdraw(ctx: TcContext) -> i32 {
        donate::withdraw(&ctx)
    }

    #[classifier]
    fn client_backlog(ctx: TcContext) -> i32 {
        backlog::of_client(&ctx)
    }

    #[classifier]
    fn server_backlog(ctx: TcContext) -> i32 {
        backlog::of_server(&ctx)
    }

    #[classifier]
    fn client_activity(ctx: TcContext) -> i32 {
        backlog::activity(&ctx)
    }

    #[classifier]
    fn share_give(ctx: TcContext) -> i32 {
        share::given(&ctx)
    }

    #[classifier]
    fn share_release(ctx: TcContext) -> i32 {
        share::release(&ctx)
    }

    const _: () = assert!(sk_action::SK_PASS == 1);
}

#[cfg(target_arch = "bpf")]
#[path = "../epilogue.rs"]
mod epilogue;

#[cfg(not(target_arch = "bpf"))]
fn main() {}

//! Which part of a breakdown a kernel function belongs to, by the beginning of its name.
//!
//! A sample's frames are asked from the innermost outwards, and the first that a rule names decides: a spin lock under
//! `try_to_wake_up` counts as waking, one under `tcp_sendmsg` as the stack.

/// Parts with the beginnings of names that belong to them; the first part that fits a name has it.
const RULES: [(&str, &[&str]); 7] = [
    (
        "copies",
        &[
            "_copy_to_iter",
            "_copy_from_iter",
            "copy_to_iter",
            "copy_from_iter",
            "copy_page_",
            "copy_user",
            "__copy_user",
            "_copy_to_user",
            "_copy_from_user",
            "rep_movs",
            "skb_copy_datagram",
            "simple_copy_to_iter",
            "csum_and_copy",
            "memcpy",
            "__memcpy",
            "raw_copy",
        ],
    ),
    (
        "bpf",
        &[
            "bpf_",
            "__bpf",
            "___bpf",
            "sk_psock",
            "tcp_bpf",
            "sk_msg",
            "sock_map",
            "sock_hash",
            "__sock_map",
            "__sock_hash",
            "htab_",
            "__htab",
            "array_map",
            "percpu_array",
            "lookup_nulls_elem",
        ],
    ),
    (
        "interception",
        &[
            "nf_", "__nf", "nft_", "ipt_", "iptable", "xt_", "nfnl", "nfqnl", "ip_set",
        ],
    ),
    (
        "context switches",
        &[
            "schedule",
            "__schedule",
            "preempt_schedule",
            "try_to_wake_up",
            "ttwu",
            "wake_up",
            "__wake_up",
            "default_wake",
            "autoremove_wake",
            "ep_autoremove",
            "enqueue_",
            "dequeue_",
            "pick_next",
            "pick_task",
            "pick_eevdf",
            "put_prev",
            "set_next",
            "finish_task_switch",
            "__switch_to",
            "switch_mm",
            "switch_fpu",
            "select_task_rq",
            "select_idle",
            "update_curr",
            "update_load_avg",
            "update_rq",
            "resched",
            "sched_",
            "__sched",
            "check_preempt",
            "wakeup_preempt",
            "rebalance",
            "load_balance",
            "newidle",
            "native_smp_send_resched",
            "prepare_task_switch",
            "psi_",
            "yield_task",
            "__resched",
        ],
    ),
    (
        "connects",
        &[
            "tcp_v4_connect",
            "tcp_v6_connect",
            "tcp_connect",
            "inet_csk_accept",
            "inet_accept",
            "inet_csk_get_port",
            "inet_hash_connect",
            "__inet_hash_connect",
            "__inet_check_established",
            "tcp_close",
            "__tcp_close",
            "inet_release",
            "sock_close",
            "__sock_release",
            "tcp_conn_request",
            "tcp_v4_conn_request",
            "tcp_create_openreq",
            "tcp_v4_syn_recv",
            "tcp_check_req",
            "inet_csk_complete",
            "tcp_time_wait",
            "inet_twsk",
            "tcp_fin",
            "tcp_done",
            "__sys_socket",
            "sock_alloc",
            "__sys_connect",
            "__sys_accept",
            "inet_csk_destroy",
            "inet_stream_connect",
            "tcp_send_active_reset",
            "tcp_disconnect",
            "tcp_reset",
            "inet_unhash",
            "inet_bind",
        ],
    ),
    (
        "stack",
        &[
            "tcp_",
            "__tcp",
            "ip_",
            "__ip",
            "ip6",
            "ipv4_",
            "ipv6_",
            "inet_",
            "__inet",
            "inet6",
            "sk_",
            "__sk_",
            "skb_",
            "__skb",
            "alloc_skb",
            "__alloc_skb",
            "kfree_skb",
            "__kfree_skb",
            "consume_skb",
            "napi_",
            "__napi",
            "gro_",
            "dev_",
            "__dev",
            "net_rx",
            "net_tx",
            "netif_",
            "__netif",
            "veth_",
            "br_",
            "__br",
            "eth_",
            "fib_",
            "neigh_",
            "dst_",
            "rt_",
            "process_backlog",
            "validate_xmit",
            "qdisc",
            "__qdisc",
            "sch_",
            "loopback",
            "sock_def",
            "sock_w",
            "sock_r",
            "sock_",
            "__sock",
            "lock_sock",
            "__lock_sock",
            "release_sock",
            "__release_sock",
            "handle_softirqs",
            "__do_softirq",
            "do_softirq",
            "nmi_",
            "csum_",
            "icmp",
            "udp",
            "mptcp",
            "raw_local",
            "enqueue_to_backlog",
            "deliver_skb",
            "packet_",
            "tpacket",
        ],
    ),
    (
        "system calls",
        &[
            "do_syscall",
            "entry_",
            "syscall_",
            "__x64_sys",
            "x64_sys",
            "__se_sys",
            "__sys_",
            "ep_",
            "__ep",
            "do_epoll",
            "epoll",
            "fget",
            "__fget",
            "fput",
            "__fput",
            "fdget",
            "sockfd_",
            "vfs_",
            "ksys_",
            "new_sync",
            "rw_verify",
            "import_",
            "security_",
            "poll_",
            "do_iter",
            "do_read",
            "do_write",
            "exit_to_user",
            "timerfd",
            "eventfd",
            "do_sys_poll",
            "hrtimer_nanosleep",
            "read_tsc",
            "audit",
        ],
    ),
];

/// Functions in which a CPU without work waits.
const IDLE: [&str; 10] = [
    "default_idle",
    "native_safe_halt",
    "pv_native_safe_halt",
    "cpuidle",
    "do_idle",
    "acpi_idle",
    "acpi_safe_halt",
    "intel_idle",
    "mwait_idle",
    "poll_idle",
];

/// Where kernel frames without a rule go.
const OTHER: &str = "other kernel";

/// The part that these frames (names, innermost first) belong to; `None` for an idle CPU.
pub fn category<'n>(frames: impl IntoIterator<Item = Option<&'n str>>) -> Option<&'static str> {
    for (depth, name) in frames.into_iter().enumerate() {
        // Compiled eBPF has no symbol where `net.core.bpf_jit_kallsyms` is 0.
        let Some(name) = name else {
            if depth == 0 {
                return Some("bpf");
            }
            continue;
        };
        if IDLE.iter().any(|idle| name.starts_with(idle)) {
            return None;
        }
        let fits = |rule: &&(&str, &[&str])| rule.1.iter().any(|start| name.starts_with(start));
        if let Some((part, _)) = RULES.iter().find(fits) {
            return Some(part);
        }
    }
    Some(OTHER)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::breakdown::PARTS;

    #[test]
    fn the_innermost_frame_with_a_rule_decides() {
        for (frames, part) in [
            (
                &[
                    "_raw_spin_unlock_irqrestore",
                    "try_to_wake_up",
                    "tcp_data_ready",
                ][..],
                "context switches",
            ),
            (&["_raw_spin_lock_bh", "tcp_sendmsg"], "stack"),
            (
                &[
                    "rep_movs_alternative",
                    "_copy_from_iter",
                    "tcp_sendmsg_locked",
                ],
                "copies",
            ),
            (&["sock_hash_lookup", "bpf_prog_0123_msg_client"], "bpf"),
            (&["nf_hook_slow", "ip_output"], "interception"),
            (&["do_syscall_64"], "system calls"),
            (&["get_page_from_freelist"], "other kernel"),
        ] {
            assert_eq!(
                category(frames.iter().copied().map(Some)),
                Some(part),
                "{frames:?}"
            );
        }
    }

    #[test]
    fn waiting_is_no_work() {
        assert_eq!(
            category(["pv_native_safe_halt", "default_idle"].map(Some)),
            None
        );
    }

    #[test]
    fn code_without_a_symbol_is_compiled_ebpf() {
        assert_eq!(category([None, Some("tcp_sendmsg")]), Some("bpf"));
    }

    #[test]
    fn every_rule_is_a_part() {
        for (part, _) in RULES {
            assert!(PARTS.iter().any(|(name, _)| *name == part), "{part}");
        }
    }
}

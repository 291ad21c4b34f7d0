//! The maps of the sockmap arm.

use aya_ebpf::bindings::BPF_F_NO_PREALLOC;
use aya_ebpf::btf_maps::{HashMap, PerCpuArray, SkStorage, SockHash};
use aya_ebpf::macros::btf_map;
use kmesh_api::shortcut::{Half, Meeting, PAIRS_MAX, Pair, Sent};

const NO_PREALLOC: usize = BPF_F_NO_PREALLOC as usize;

/// Both ends of every connection, by cookie; their sends run `msg_shortcut`.
#[btf_map]
pub(crate) static SOCKETS: SockHash<u64, { 2 * PAIRS_MAX }> = SockHash::new();
/// Connections whose other end has not been established yet: the active socket's cookie.
#[btf_map]
pub(crate) static MEETINGS: HashMap<Meeting, u64, PAIRS_MAX, NO_PREALLOC> = HashMap::new();
/// Connections with both ends here, by the active socket's cookie.
#[btf_map]
pub(crate) static PAIRS: HashMap<u64, Pair, PAIRS_MAX, NO_PREALLOC> = HashMap::new();
/// Which pair a socket belongs to.
#[btf_map]
pub(crate) static HALF: SkStorage<Half> = SkStorage::new();
/// Messages by outcome.
#[btf_map]
pub(crate) static OUTCOMES: PerCpuArray<u64, { Sent::ALL.len() }> = PerCpuArray::new();

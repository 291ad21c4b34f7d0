//! Every map, in one place. Who writes and who reads each is tabled in `datapath/ARCHITECTURE.md`.

use aya_ebpf::bindings::{BPF_F_MMAPABLE, BPF_F_NO_PREALLOC};
use aya_ebpf::btf_maps::{Array, HashMap, PerCpuArray, RingBuf, SkStorage, SockHash};
use aya_ebpf::macros::btf_map;
use kmesh_api::Image;
use kmesh_api::exchange::{Answered, Client, Server, Spilled, Waiting};
use kmesh_api::limits::{
    CLIENTS_MAX, CLUSTERS_MAX, LARGE_PLACES, PODS_MAX, POOLS_MAX, SPILLED_MAX, UPSTREAMS_MAX,
};
use kmesh_api::pod::{Anchored, AnchoredKey, Pod};
use kmesh_api::pool::{Arrivals, Connection, Place, Pool, PoolKey, Upstream};
use kmesh_api::reason::REASONS;
use kmesh_api::splice::{Flow, FlowKey, Peer, Seam};

use crate::path::splice::{Entry, Scratch};

const MMAPABLE: usize = BPF_F_MMAPABLE as usize;
const NO_PREALLOC: usize = BPF_F_NO_PREALLOC as usize;

/// Which of `IMAGES` is active.
#[btf_map]
pub static ACTIVE: Array<u32, 1, MMAPABLE> = Array::new();
/// The two configurations.
#[btf_map]
pub static IMAGES: Array<Image, 2, MMAPABLE> = Array::new();
/// Enrolled pods by network namespace cookie.
#[btf_map]
pub static PODS: HashMap<u64, Pod, { PODS_MAX as usize }> = HashMap::new();
/// Per-socket state of client sockets.
#[btf_map]
pub static CLIENT: SkStorage<Client> = SkStorage::new();
/// Per-socket state of servers' accepted sockets.
#[btf_map]
pub static SERVER: SkStorage<Server> = SkStorage::new();
/// Anchored client sockets by cookie; their sends run `client_request`.
#[btf_map]
pub static CLIENTS: SockHash<u64, { CLIENTS_MAX as usize }> = SockHash::new();
/// Accepted sockets of upstreams that end on this node, by slot; their sends run `server_response`.
#[btf_map]
pub static SERVERS: SockHash<u32, UPSTREAMS_MAX> = SockHash::new();
/// Upstream sockets whose server is elsewhere, by slot; their receives run `upstream_response`.
#[btf_map]
pub static UPSTREAM_SOCKETS: SockHash<u32, UPSTREAMS_MAX> = SockHash::new();
/// What an anchor must know about a client connection it accepts.
#[btf_map]
pub static ANCHORED: HashMap<AnchoredKey, Anchored, { CLIENTS_MAX as usize }, NO_PREALLOC> =
    HashMap::new();
/// Connections that the controller is about to open, with their slot.
#[btf_map]
pub static EXPECTED: HashMap<Connection, u32, UPSTREAMS_MAX, NO_PREALLOC> = HashMap::new();
/// Slot of an upstream socket by its cookie, and how far it was read, for sockets in `UPSTREAM_SOCKETS`.
#[btf_map]
pub static SLOTS: HashMap<u64, Arrivals, UPSTREAMS_MAX, NO_PREALLOC> = HashMap::new();
/// The upstream connections.
#[btf_map]
pub static UPSTREAMS: Array<Upstream, UPSTREAMS_MAX, MMAPABLE> = Array::new();
/// The free lists.
#[btf_map]
pub static POOLS: HashMap<PoolKey, Pool, { POOLS_MAX as usize }, NO_PREALLOC> = HashMap::new();
/// Places for large messages.
#[btf_map]
pub static PLACES: Array<Place, { LARGE_PLACES as usize }> = Array::new();
/// Exchanges that pipelined requests must wait for.
#[btf_map]
pub static WAITING: HashMap<u64, Waiting, { CLIENTS_MAX as usize }, NO_PREALLOC> = HashMap::new();
/// Requests of which user space must send the rest on.
#[btf_map]
pub static SPILLED: HashMap<u64, Spilled, { SPILLED_MAX as usize }, NO_PREALLOC> = HashMap::new();
/// How far user space has answered each client.
#[btf_map]
pub static ANSWERED: HashMap<u64, Answered, { CLIENTS_MAX as usize }, NO_PREALLOC> = HashMap::new();
/// Slots whose response user space must finish; a lost entry costs the reaper's period.
#[btf_map]
pub static RELAYS: RingBuf<u32, 65536> = RingBuf::new();
/// Round-robin turns by cluster id.
#[btf_map]
pub static TURNS: PerCpuArray<u32, CLUSTERS_MAX> = PerCpuArray::new();
/// Counters by reason.
#[btf_map]
pub static REASON_COUNTS: PerCpuArray<u64, { REASONS as usize }> = PerCpuArray::new();
/// Spliced client connections.
#[btf_map]
pub static FLOWS: HashMap<FlowKey, Flow, { CLIENTS_MAX as usize }, NO_PREALLOC> = HashMap::new();
/// The other connections of the splice path: upstreams, and what anchors take for their clients.
#[btf_map]
pub static PEERS: HashMap<FlowKey, Peer, { CLIENTS_MAX as usize }, NO_PREALLOC> = HashMap::new();
/// The spliced part of each upstream.
#[btf_map]
pub static SEAMS: Array<Seam, UPSTREAMS_MAX, MMAPABLE> = Array::new();
/// 1 for each local port that a spliced connection of whatever pod ever had: a packet to or from another port is no business of the splice path.
#[btf_map]
pub static PORTS: Array<u32, 65536> = Array::new();
/// Headers of the packet at hand.
#[btf_map]
pub static PACKETS: PerCpuArray<Scratch, 1> = PerCpuArray::new();
/// Cookies of spliced clients that closed while their anchor did not hear of it.
#[btf_map]
pub static GONE: RingBuf<u64, 65536> = RingBuf::new();
/// Entries that are about to be made.
#[btf_map]
pub static ENTRIES: PerCpuArray<Entry, 1> = PerCpuArray::new();

//! Loading: the object's programs and maps, as typed handles.

mod ask;
pub mod btf;
pub mod check;
mod error;
mod link;
mod places;
mod refusal;
pub mod shared;
mod size;
pub mod tested;

use std::fs;
use std::os::fd::AsFd;

use aya::maps::{HashMap, MapData, PerCpuArray, RingBuf, SockHash};
use aya::programs::{
    CgroupAttachMode, CgroupSockAddr, Program, ProgramError, SchedClassifier, SkMsg, SkSkb,
    SockOps, TcAttachType,
};
use aya::{Ebpf, EbpfLoader, VerifierLogLevel};
use kmesh_api::exchange::{Answered, Spilled, Waiting};
use kmesh_api::limits::{CLIENTS_MAX, UPSTREAMS_MAX};
use kmesh_api::pod::{Anchored, AnchoredKey, Pod};
use kmesh_api::pool::{Arrivals, Connection, Expected, Pool, PoolKey, Upstream};
use kmesh_api::share::PodUse;
use kmesh_api::splice::{Flow, FlowKey, Peer, Seam};
use kmesh_api::{Image, Reason};

use self::btf::Offsets;
pub use self::error::LoadError;
use self::link::Link;
use self::places::Places;
use self::shared::Shared;
pub use self::size::{MapSize, NotASize};
use crate::defence::{Defence, Without};
use crate::path::Path;

/// The cgroup programs with the names of their hooks.
const SOCK_ADDR: [&str; 4] = [
    "connect4_route",
    "connect6_route",
    "getpeername4_restore",
    "getpeername6_restore",
];

/// The loaded datapath. Everything it holds goes when it is dropped: nothing is pinned.
pub struct Datapath {
    ebpf: Ebpf,
    /// Id of the map of pods.
    pub pods_id: u32,
    /// Which image is active.
    pub active: Shared<u32>,
    /// The two images.
    pub images: Shared<Image>,
    /// The upstream records.
    pub upstreams: Shared<Upstream>,
    /// Enrolled pods by network namespace cookie.
    pub pods: HashMap<MapData, u64, Pod>,
    /// Anchored connections.
    pub anchored: HashMap<MapData, AnchoredKey, Anchored>,
    /// Announced upstream connections.
    pub expected: HashMap<MapData, Connection, Expected>,
    /// Slots of remote upstream sockets.
    pub slots: HashMap<MapData, u64, Arrivals>,
    /// Free lists.
    pub pools: HashMap<MapData, PoolKey, Pool>,
    /// Anchored client sockets.
    pub clients: SockHash<MapData, u64>,
    /// Exchanges that pipelined requests wait for.
    pub waiting: HashMap<MapData, u64, Waiting>,
    /// Requests of which user space must send the rest on.
    pub spilled: HashMap<MapData, u64, Spilled>,
    /// How far user space has answered.
    pub answered: HashMap<MapData, u64, Answered>,
    /// Remote upstream sockets.
    pub upstream_sockets: SockHash<MapData, u32>,
    /// Spliced client connections.
    pub flows: HashMap<MapData, FlowKey, Flow>,
    /// The other connections of the splice path.
    pub peers: HashMap<MapData, FlowKey, Peer>,
    /// The spliced part of each upstream.
    pub seams: Shared<Seam>,
    /// Spliced clients that closed; taken by whoever follows them.
    pub gone: Option<RingBuf<MapData>>,
    /// Slots to relay, as the kernel names them; taken by whoever serves them.
    pub relays: Option<RingBuf<MapData>>,
    /// What each pod uses.
    pub pod_use: HashMap<MapData, u32, PodUse>,
    /// Counters.
    pub reasons: PerCpuArray<MapData, u64>,
}

impl Datapath {
    /// Loads the programs of the path and attaches those that belong to socket maps. Maps have these sizes instead of their own.
    ///
    /// # Errors
    /// [`LoadError`], naming the program or map.
    pub fn load(sizes: &[MapSize], path: Path, without: &Without) -> Result<Self, LoadError> {
        let mut ebpf = object(sizes, without)?;
        load_programs(&mut ebpf, path)?;
        attach_to_map(&mut ebpf, "msg_client_request", "CLIENTS")?;
        attach_to_map(&mut ebpf, "msg_server_response", "SERVERS")?;
        attach_to_map(&mut ebpf, "skb_upstream_response", "UPSTREAM_SOCKETS")?;
        let pods_id = map_id(&ebpf, "PODS")?;
        Ok(Self {
            pods_id,
            active: shared(&mut ebpf, "ACTIVE", 1)?,
            images: shared(&mut ebpf, "IMAGES", 2)?,
            upstreams: shared(&mut ebpf, "UPSTREAMS", UPSTREAMS_MAX)?,
            pods: take(&mut ebpf, "PODS")?,
            anchored: take(&mut ebpf, "ANCHORED")?,
            expected: take(&mut ebpf, "EXPECTED")?,
            slots: take(&mut ebpf, "SLOTS")?,
            pools: take(&mut ebpf, "POOLS")?,
            clients: take(&mut ebpf, "CLIENTS")?,
            waiting: take(&mut ebpf, "WAITING")?,
            spilled: take(&mut ebpf, "SPILLED")?,
            answered: take(&mut ebpf, "ANSWERED")?,
            upstream_sockets: take(&mut ebpf, "UPSTREAM_SOCKETS")?,
            flows: take(&mut ebpf, "FLOWS")?,
            peers: take(&mut ebpf, "PEERS")?,
            seams: shared(&mut ebpf, "SEAMS", UPSTREAMS_MAX)?,
            gone: Some(take(&mut ebpf, "GONE")?),
            relays: Some(take(&mut ebpf, "RELAYS")?),
            pod_use: take(&mut ebpf, "POD_USE")?,
            reasons: take(&mut ebpf, "REASON_COUNTS")?,
            ebpf,
        })
    }

    /// Attaches the cgroup programs to a pod's cgroup, and detaches them when the result is dropped.
    ///
    /// # Errors
    /// [`LoadError::Program`] if the kernel refuses.
    pub fn attach(&mut self, cgroup: impl AsFd + Copy) -> Result<Attached, LoadError> {
        // Several links may sit on one cgroup; `Single` is the only mode that links have (no flags).
        let mode = CgroupAttachMode::Single;
        let mut attached = Attached {
            sock_addr: Vec::new(),
            sock_ops: Vec::new(),
            connects: Vec::new(),
            tc: Vec::new(),
        };
        let before = self.connect_links();
        for name in SOCK_ADDR {
            let program: &mut CgroupSockAddr = program(&mut self.ebpf, name)?;
            let refused = |source| LoadError::Program {
                program: name,
                source,
            };
            let id = program.attach(cgroup, mode).map_err(refused)?;
            attached
                .sock_addr
                .push(program.take_link(id).map_err(refused)?);
        }
        let name = "sockops_track";
        let program: &mut SockOps = program(&mut self.ebpf, name)?;
        let refused = |source| LoadError::Program {
            program: name,
            source,
        };
        let id = program.attach(cgroup, mode).map_err(refused)?;
        attached
            .sock_ops
            .push(program.take_link(id).map_err(refused)?);
        attached.connects = self.connect_links();
        attached.connects.retain(|id| !before.contains(id));
        Ok(attached)
    }

    /// Attaches the splice path's programs to the pod's device. Runs in the pod's network namespace.
    ///
    /// # Errors
    /// [`LoadError::Program`] if the kernel refuses.
    pub fn attach_device(
        &mut self,
        attached: &mut Attached,
        device: &str,
    ) -> Result<(), LoadError> {
        for (name, direction) in [
            ("tc_pod_egress", TcAttachType::Egress),
            ("tc_pod_ingress", TcAttachType::Ingress),
        ] {
            let program: &mut SchedClassifier = program(&mut self.ebpf, name)?;
            let refused = |source| LoadError::Program {
                program: name,
                source,
            };
            let id = program.attach(device, direction).map_err(refused)?;
            let link = program.take_link(id).map_err(refused)?;
            let kept = Link::keep(&link);
            attached
                .tc
                .push(kept.map_err(|source| refused(ProgramError::IOError(source)))?);
        }
        Ok(())
    }

    /// Ids of the links of this datapath's connect programs; links of a program are told by it only.
    fn connect_links(&self) -> Vec<u32> {
        let ids = SOCK_ADDR[..2].iter().filter_map(|name| {
            let program = self.ebpf.program(name)?;
            Some(program.info().ok()?.id())
        });
        let ids: Vec<u32> = ids.collect();
        aya::programs::loaded_links()
            .flatten()
            .filter(|link| ids.contains(&link.program_id()))
            .map(|link| link.id())
            .collect()
    }

    /// Counts by reason, summed over CPUs, in [`Reason::ALL`] order.
    ///
    /// # Errors
    /// [`LoadError::Map`] if the map cannot be read.
    pub fn reason_counts(&self) -> Result<Vec<(Reason, u64)>, LoadError> {
        Reason::ALL
            .iter()
            .map(|&reason| {
                let values =
                    self.reasons
                        .get(&(reason as u32), 0)
                        .map_err(|source| LoadError::Map {
                            map: "REASON_COUNTS",
                            source,
                        })?;
                Ok((reason, values.iter().sum()))
            })
            .collect()
    }
}

/// Links of one pod's cgroup programs.
pub struct Attached {
    sock_addr: Vec<aya::programs::cgroup_sock_addr::CgroupSockAddrLink>,
    sock_ops: Vec<aya::programs::sock_ops::SockOpsLink>,
    /// Ids of the links of the connect programs.
    pub connects: Vec<u32>,
    /// Of the programs at the pod's device.
    tc: Vec<Link>,
}

impl Attached {
    /// Detaches the programs that route new connections; those of existing ones stay.
    pub fn forgo_connects(&mut self) {
        // In the order of `SOCK_ADDR`; a link detaches when it is dropped.
        self.sock_addr.drain(..2.min(self.sock_addr.len()));
    }
}

fn object(sizes: &[MapSize], without: &Without) -> Result<Ebpf, LoadError> {
    if kmesh_object::OBJECT.is_empty() {
        return Err(LoadError::NoObject);
    }
    let btf = fs::read("/sys/kernel/btf/vmlinux").map_err(LoadError::NoBtf)?;
    let offsets = Offsets::find(&btf)?;
    let places = Places::find(&btf);
    let sized = sizes.iter().find(|size| size.map() == "ANCHORED");
    let connections = without.limit(sized.map_or(CLIENTS_MAX, MapSize::entries));
    let anywhere = u32::from(without.is_off(Defence::Namespace));
    let checked = u32::from(!without.is_off(Defence::Numbers));
    let mut loader = EbpfLoader::new();
    for size in sizes {
        loader.map_max_entries(size.map(), size.entries());
    }
    loader
        // The reason and the figures; the whole walk is a hundred thousand lines.
        .verifier_log_level(VerifierLogLevel::STATS)
        .override_global("TCP_RCV_NXT", &offsets.rcv_nxt, true)
        .override_global("TCP_COPIED_SEQ", &offsets.copied_seq, true)
        .override_global("TCP_BYTES_RECEIVED", &offsets.bytes_received, true)
        .override_global("SKB_CB", &offsets.control, true)
        .override_global("TCP_CB_SEQ", &offsets.seq, true)
        .override_global("TCP_CB_END_SEQ", &offsets.end_seq, true)
        .override_global("SKB_DEV", &offsets.device, true)
        .override_global("SOCK_USER_DATA", &offsets.user_data, true)
        .override_global("PSOCK_BACKLOG", &offsets.backlog, true)
        .override_global("PSOCK_INGRESS", &offsets.ingress, true)
        .override_global("CONNECTIONS_MAX", &connections, true)
        .override_global("EXPECTED_ANYWHERE", &anywhere, true)
        .override_global("NUMBERS_CHECKED", &checked, true)
        .override_global("PLACES_USED", &places.used, true)
        .override_global("SOCK_COOKIE", &places.cookie, true)
        .override_global("SOCK_WMEM_QUEUED", &places.queued, true)
        .override_global("SOCK_MEMCG", &places.memcg, true)
        .override_global("MEMCG_COUNTER", &places.counter, true)
        .override_global("COUNTER_USAGE", &places.usage, true)
        .override_global("COUNTER_MAX", &places.max, true)
        .override_global("COUNTER_PARENT", &places.parent, true)
        .load(kmesh_object::OBJECT)
        .map_err(LoadError::Object)
}

/// The programs that every daemon loads, by name.
const PROGRAMS: [&str; 15] = [
    "connect4_route",
    "connect6_route",
    "getpeername4_restore",
    "getpeername6_restore",
    "sockops_track",
    "msg_client_request",
    "msg_server_response",
    "skb_upstream_response",
    "pool_donate",
    "pool_withdraw",
    "client_backlog",
    "server_backlog",
    "client_activity",
    "share_give",
    "share_release",
];

fn load_programs(ebpf: &mut Ebpf, path: Path) -> Result<(), LoadError> {
    (PROGRAMS.iter())
        .chain(path.programs())
        .try_for_each(|name| load_program(ebpf, name))
}

fn load_program(ebpf: &mut Ebpf, name: &'static str) -> Result<(), LoadError> {
    let missing = LoadError::Missing {
        what: "program",
        name,
    };
    let loaded = match ebpf.program_mut(name).ok_or(missing)? {
        Program::CgroupSockAddr(program) => program.load(),
        Program::SockOps(program) => program.load(),
        Program::SkMsg(program) => program.load(),
        Program::SkSkb(program) => program.load(),
        Program::SchedClassifier(program) => program.load(),
        _ => {
            return Err(LoadError::Missing {
                what: "program of the expected type",
                name,
            });
        }
    };
    loaded.map_err(|source| match source {
        ProgramError::LoadError {
            io_error,
            verifier_log,
        } => LoadError::Refused {
            program: name,
            refusal: refusal::refusal(&io_error, &verifier_log.to_string()),
        },
        source => LoadError::Program {
            program: name,
            source,
        },
    })
}

fn program<'a, P>(ebpf: &'a mut Ebpf, name: &'static str) -> Result<&'a mut P, LoadError>
where
    &'a mut P: TryFrom<&'a mut Program>,
{
    ebpf.program_mut(name)
        .and_then(|program| program.try_into().ok())
        .ok_or(LoadError::Missing {
            what: "program",
            name,
        })
}

fn attach_to_map(ebpf: &mut Ebpf, name: &'static str, map: &'static str) -> Result<(), LoadError> {
    let missing = LoadError::Missing {
        what: "map",
        name: map,
    };
    let sockets: SockHash<&MapData, u64>;
    let slots: SockHash<&MapData, u32>;
    let found = ebpf.map(map).ok_or(missing)?;
    let wrong = |source| LoadError::Map { map, source };
    let fd = if map == "CLIENTS" {
        sockets = found.try_into().map_err(wrong)?;
        sockets.fd()
    } else {
        slots = found.try_into().map_err(wrong)?;
        slots.fd()
    };
    let fd = fd
        .try_clone()
        .map_err(|source| LoadError::Mmap { map, source })?;
    let refused = |source| LoadError::Program {
        program: name,
        source,
    };
    match ebpf.program_mut(name) {
        Some(Program::SkMsg(program)) => {
            let program: &mut SkMsg = program;
            program.attach(&fd).map_err(refused)?;
        }
        Some(Program::SkSkb(program)) => {
            let program: &mut SkSkb = program;
            program.attach(&fd).map_err(refused)?;
        }
        _ => {
            return Err(LoadError::Missing {
                what: "program",
                name,
            });
        }
    }
    Ok(())
}

fn map_id(ebpf: &Ebpf, name: &'static str) -> Result<u32, LoadError> {
    let Some(aya::maps::Map::HashMap(map)) = ebpf.map(name) else {
        return Err(LoadError::Missing {
            what: "hash map",
            name,
        });
    };
    let info = map
        .info()
        .map_err(|source| LoadError::Map { map: name, source })?;
    Ok(info.id())
}

fn take<M>(ebpf: &mut Ebpf, name: &'static str) -> Result<M, LoadError>
where
    M: TryFrom<aya::maps::Map, Error = aya::maps::MapError>,
{
    ebpf.take_map(name)
        .ok_or(LoadError::Missing { what: "map", name })?
        .try_into()
        .map_err(|source| LoadError::Map { map: name, source })
}

fn shared<T>(ebpf: &mut Ebpf, name: &'static str, count: usize) -> Result<Shared<T>, LoadError> {
    let Some(aya::maps::Map::Array(map)) = ebpf.map(name) else {
        return Err(LoadError::Missing {
            what: "array map",
            name,
        });
    };
    Shared::map(map.fd().as_fd(), count).map_err(|source| LoadError::Mmap { map: name, source })
}

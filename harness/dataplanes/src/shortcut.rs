//! The programs that let the sockets of one lab skip TCP (`datapath/runtime/src/bin/sockmap`), loaded and attached.
//!
//! They are attached to the lab's cgroup and held by this process: they see no other lab's sockets, and they go when this value is
//! dropped or this process dies, whichever way.

use std::{
    collections::BTreeMap,
    fs::{self, File},
};

use aya::{
    Ebpf, EbpfLoader,
    maps::{MapData, PerCpuArray, SockHash},
    programs::{CgroupAttachMode, SkMsg, SockOps},
};
use kmesh_api::shortcut::Sent;
use kmesh_controller::load::btf;
use netns_lab::Lab;

use crate::{arm::MessageCounters, error::ArmError};

/// The kernel's fields that the programs read, by the name of the constant that takes the offset.
const FIELDS: [(&str, &str, &str); 4] = [
    ("SHORTCUT_COPIED_SEQ", "tcp_sock", "copied_seq"),
    ("SHORTCUT_WRITE_SEQ", "tcp_sock", "write_seq"),
    ("SHORTCUT_USER_DATA", "sock", "sk_user_data"),
    ("SHORTCUT_INGRESS", "sk_psock", "ingress_msg"),
];

/// The attached programs.
pub(crate) struct Shortcut {
    outcomes: PerCpuArray<MapData, u64>,
    // Held: dropping it detaches.
    _programs: Ebpf,
}

impl std::fmt::Debug for Shortcut {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shortcut").finish_non_exhaustive()
    }
}

impl Shortcut {
    /// Loads the programs and attaches them to a lab in which nothing listens yet: a socket inherits its cgroup from its listener.
    pub(crate) fn attach(lab: &Lab) -> Result<Self, ArmError> {
        let mut ebpf = object()?;
        let cgroup = File::open(lab.cgroup()).map_err(|source| ArmError::Process {
            program: "the sockmap programs".to_owned(),
            call: "opening the lab's cgroup",
            source,
        })?;
        let sockets: SockHash<_, u64> = map(&ebpf, "SOCKETS")?;
        let sockets = sockets
            .fd()
            .try_clone()
            .map_err(|source| refused("SOCKETS", source))?;
        let message: &mut SkMsg = program(&mut ebpf, "msg_shortcut")?;
        let failed = |source| refused("msg_shortcut", source);
        message.load().map_err(failed)?;
        message.attach(&sockets).map_err(failed)?;
        let meet: &mut SockOps = program(&mut ebpf, "sockops_meet")?;
        let failed = |source| refused("sockops_meet", source);
        meet.load().map_err(failed)?;
        meet.attach(&cgroup, CgroupAttachMode::Single)
            .map_err(failed)?;
        let outcomes = ebpf.take_map("OUTCOMES").ok_or(missing("OUTCOMES"))?;
        Ok(Self {
            outcomes: outcomes
                .try_into()
                .map_err(|source| refused("OUTCOMES", source))?,
            _programs: ebpf,
        })
    }

    /// Messages so far, by what became of them.
    pub(crate) fn counters(&self) -> Result<MessageCounters, ArmError> {
        let mut by_tcp = BTreeMap::new();
        let mut shortcut = 0;
        for (outcome, name) in Sent::ALL {
            let counts = self
                .outcomes
                .get(&(outcome as u32), 0)
                .map_err(|source| refused("OUTCOMES", source))?;
            let count = counts.iter().sum();
            if outcome == Sent::Shortcut {
                shortcut = count;
            } else {
                by_tcp.insert(name.to_owned(), count);
            }
        }
        Ok(MessageCounters { shortcut, by_tcp })
    }
}

/// The object, with the offsets of this kernel's fields in it.
fn object() -> Result<Ebpf, ArmError> {
    if kmesh_object::SOCKMAP.is_empty() {
        return Err(ArmError::Ebpf {
            what: "the sockmap object",
            source: "this program was built with AYA_BUILD_SKIP=1; build it again without".into(),
        });
    }
    let btf = fs::read("/sys/kernel/btf/vmlinux")
        .map_err(|source| refused("the kernel's types", source))?;
    let mut loader = EbpfLoader::new();
    let mut offsets = [0; FIELDS.len()];
    for (offset, (_, structure, member)) in offsets.iter_mut().zip(FIELDS) {
        *offset = btf::member_offset(&btf, structure, member)
            .map_err(|source| refused("the kernel's types", source))?;
    }
    for (offset, (constant, ..)) in offsets.iter().zip(FIELDS) {
        loader.override_global(constant, offset, true);
    }
    loader
        .load(kmesh_object::SOCKMAP)
        .map_err(|source| refused("the sockmap object", source))
}

fn map<'e, M>(ebpf: &'e Ebpf, name: &'static str) -> Result<M, ArmError>
where
    M: TryFrom<&'e aya::maps::Map, Error = aya::maps::MapError>,
{
    ebpf.map(name)
        .ok_or(missing(name))?
        .try_into()
        .map_err(|source| refused(name, source))
}

fn program<'e, P>(ebpf: &'e mut Ebpf, name: &'static str) -> Result<&'e mut P, ArmError>
where
    &'e mut P: TryFrom<&'e mut aya::programs::Program>,
{
    ebpf.program_mut(name)
        .and_then(|program| program.try_into().ok())
        .ok_or(missing(name))
}

fn refused<E>(what: &'static str, source: E) -> ArmError
where
    E: std::error::Error + Send + Sync + 'static,
{
    ArmError::Ebpf {
        what,
        source: Box::new(source),
    }
}

fn missing(what: &'static str) -> ArmError {
    ArmError::Ebpf {
        what,
        source: "it is not in the object: this program and its object do not belong together"
            .into(),
    }
}

//! What can keep the datapath from loading.

use std::io;

use aya::EbpfError;
use aya::maps::MapError;
use aya::programs::ProgramError;

/// Why the datapath did not load or a map operation failed.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The binary carries no programs.
    #[error("this kmeshd was built without eBPF (AYA_BUILD_SKIP=1); build it again without")]
    NoObject,
    /// The kernel does not publish its types.
    #[error(
        "cannot read /sys/kernel/btf/vmlinux: the kernel was built without CONFIG_DEBUG_INFO_BTF"
    )]
    NoBtf(#[source] io::Error),
    /// The BTF is not BTF.
    #[error("the {bytes} bytes in /sys/kernel/btf/vmlinux are not BTF of this byte order")]
    NotBtf {
        /// Its size.
        bytes: usize,
    },
    /// A struct changed.
    #[error("this kernel's struct {structure} has no member {member}")]
    NoMember {
        /// The struct.
        structure: &'static str,
        /// The member.
        member: &'static str,
    },
    /// The object as a whole was refused.
    #[error("the kernel refuses the maps of the datapath (root and CAP_BPF needed)")]
    Object(#[source] EbpfError),
    /// The verifier refused a program.
    #[error("the kernel refuses program {program}: {refusal}")]
    Refused {
        /// Its name.
        program: &'static str,
        /// The error, the verifier's last words and a hint, in lines.
        refusal: String,
    },
    /// One program was refused.
    #[error("the kernel refuses program {program}")]
    Program {
        /// Its name.
        program: &'static str,
        /// Why.
        #[source]
        source: ProgramError,
    },
    /// A map or program is not in the object.
    #[error("the object has no {what} named {name}: kmeshd and its object do not belong together")]
    Missing {
        /// `map` or `program`.
        what: &'static str,
        /// Its name.
        name: &'static str,
    },
    /// A map operation failed.
    #[error("map {map}")]
    Map {
        /// Its name.
        map: &'static str,
        /// Why.
        #[source]
        source: MapError,
    },
    /// A map could not be mapped into memory.
    #[error("cannot map {map} into memory")]
    Mmap {
        /// Its name.
        map: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A pod's namespace could not be entered to attach to its device.
    #[error("cannot enter the network namespace of device {device}")]
    Device {
        /// The device.
        device: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A cgroup could not be opened.
    #[error("pod {pod}: cannot open cgroup {path}")]
    Cgroup {
        /// The pod.
        pod: String,
        /// The cgroup's path.
        path: String,
        /// Why.
        #[source]
        source: io::Error,
    },
}

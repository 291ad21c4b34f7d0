//! What the eBPF programs cost the verifier and the stack.
//!
//! The verifier's count of instructions is what its limit of a million is about; it grows with branches and loops, not with
//! size. The frames are read off the bytecode: the lowest address below the frame pointer that a function uses. All of a call
//! chain's frames together must fit into 512 bytes.

use aya::programs::{Program, ProgramError};
use aya::{Ebpf, EbpfError};
use aya_obj::Object;
use aya_obj::obj::{Function, ParseError};

/// Why there are no costs.
#[derive(Debug, thiserror::Error)]
pub enum CostError {
    /// An object is not there or is not one.
    #[error("object {object} cannot be read; was it built?")]
    Object {
        /// Which.
        object: &'static str,
        /// Why.
        #[source]
        source: ParseError,
    },
    /// The kernel refuses an object's maps.
    #[error("the kernel refuses the maps of object {object} (root and CAP_BPF needed)")]
    Maps {
        /// Which.
        object: &'static str,
        /// Why.
        #[source]
        source: EbpfError,
    },
    /// The kernel refuses a program.
    #[error("the kernel refuses {program}")]
    Program {
        /// Which.
        program: String,
        /// Why.
        #[source]
        source: ProgramError,
    },
    /// A program is of a kind that this does not know.
    #[error("{0} is a program of an unexpected kind")]
    Kind(String),
}

/// One program's cost.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cost {
    /// Its object and its name.
    pub program: String,
    /// Instructions that the verifier looked at; 0 if the kernel does not say.
    pub verified: u32,
    /// Bytes of stack in the frame of its own function.
    pub frame: u32,
    /// Bytes of stack in the largest frame of the object's other functions: bodies of `bpf_loop`, mostly.
    pub deepest: u32,
}

/// The costs of all programs of all objects, in order of name.
///
/// # Errors
/// [`CostError`].
pub fn costs() -> Result<Vec<Cost>, CostError> {
    let objects = [
        ("kmesh", kmesh_object::OBJECT),
        ("sockmap", kmesh_object::SOCKMAP),
        ("testrun", kmesh_object::TESTRUN),
    ];
    let mut costs = Vec::new();
    for (object, bytes) in objects {
        object_costs(object, bytes, &mut costs)?;
    }
    costs.sort();
    Ok(costs)
}

fn object_costs(
    object: &'static str,
    bytes: &[u8],
    costs: &mut Vec<Cost>,
) -> Result<(), CostError> {
    let parsed = Object::parse(bytes).map_err(|source| CostError::Object { object, source })?;
    let entries: Vec<_> = parsed
        .programs
        .values()
        .map(aya_obj::Program::function_key)
        .collect();
    let others = parsed
        .functions
        .iter()
        .filter(|(key, _)| !entries.contains(key));
    let deepest = others.map(|(_, function)| frame(function)).max();
    let mut ebpf = Ebpf::load(bytes).map_err(|source| CostError::Maps { object, source })?;
    for (name, program) in ebpf.programs_mut() {
        let refused = |source| CostError::Program {
            program: name.to_owned(),
            source,
        };
        match program {
            Program::CgroupSockAddr(program) => program.load(),
            Program::SockOps(program) => program.load(),
            Program::SkMsg(program) => program.load(),
            Program::SkSkb(program) => program.load(),
            Program::SchedClassifier(program) => program.load(),
            _ => return Err(CostError::Kind(name.to_owned())),
        }
        .map_err(refused)?;
        let info = program.info().map_err(refused)?;
        let own = parsed.programs.get(name).and_then(|program| {
            let key = program.function_key();
            parsed.functions.get(&key)
        });
        costs.push(Cost {
            program: format!("{object}/{name}"),
            verified: info.verified_instruction_count().unwrap_or_default(),
            frame: own.map_or(0, frame),
            deepest: deepest.unwrap_or_default(),
        });
    }
    Ok(())
}

/// Bytes below the frame pointer that a function touches or takes the address of.
fn frame(function: &Function) -> u32 {
    /// The frame pointer's number.
    const R10: u8 = 10;
    /// `dst = src`, 64 bits.
    const MOVE: u8 = 0xbf;
    /// `dst += imm`, 64 bits.
    const ADD: u8 = 0x07;
    let mut deepest = 0;
    let mut copies = [false; 16];
    for instruction in &function.instructions {
        let (to, from) = (instruction.dst_reg(), instruction.src_reg());
        let loads = instruction.code & 7 == 1;
        let stores = matches!(instruction.code & 7, 2 | 3);
        let below = if loads && from == R10 || stores && to == R10 {
            -i32::from(instruction.off)
        } else if instruction.code == ADD && copies[to as usize] {
            -instruction.imm
        } else {
            0
        };
        deepest = deepest.max(below);
        copies[to as usize] = instruction.code == MOVE && from == R10;
    }
    deepest.unsigned_abs()
}

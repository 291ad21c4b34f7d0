//! The kernel as a judge: the decision code as verified bytecode, run by `BPF_PROG_TEST_RUN`.

use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd};
use std::ptr::{self, NonNull};
use std::time::Duration;

use aya::maps::Map;
use aya::programs::{ProgramError, SchedClassifier, TestRun as _, TestRunOptions};
use aya::{Ebpf, EbpfError};
use kmesh_api::Image;
use kmesh_api::limits::HEAD_MAX;
use kmesh_api::testrun::{Answer, Question, outcome};
use kmesh_orchestration::Choice;

use crate::native::Verdict;

/// Why the kernel does not judge.
#[derive(Debug, thiserror::Error)]
pub enum KernelError {
    /// The object was not built or the kernel refuses its maps.
    #[error("the kernel refuses the test-run object (root and CAP_BPF needed)")]
    Object(#[from] EbpfError),
    /// The program was refused or did not run.
    #[error("the kernel refuses decide_head")]
    Program(#[from] ProgramError),
    /// Something is missing from the object.
    #[error("the test-run object has no {0}")]
    Missing(&'static str),
    /// A map could not be mapped into memory.
    #[error("cannot map {map} into memory")]
    Mmap {
        /// Its name.
        map: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The program ran but could not read its question.
    #[error("decide_head could not read a head of {bytes} bytes")]
    Unreadable {
        /// Length of the head.
        bytes: usize,
    },
}

/// A loaded `decide_head` with one configuration.
pub struct Kernel {
    ebpf: Ebpf,
    answer: Mapping<Answer>,
    images: Mapping<Image>,
    packet: Vec<u8>,
}

const ETHERNET: usize = 14;

impl Kernel {
    /// Loads the program.
    ///
    /// # Errors
    /// [`KernelError`].
    pub fn load() -> Result<Self, KernelError> {
        let mut ebpf = Ebpf::load(kmesh_object::TESTRUN)?;
        program(&mut ebpf)?.load()?;
        let images = map(&ebpf, "IMAGES", size_of::<Image>().next_multiple_of(8) * 2)?;
        let answer = map(&ebpf, "ANSWER", size_of::<Answer>())?;
        Ok(Self {
            ebpf,
            answer,
            images,
            packet: Vec::new(),
        })
    }

    /// Makes `image` the configuration that is judged by.
    pub fn configure(&mut self, image: &Image) {
        // SAFETY: the mapping holds two images, the first of which is the active one; no test-run is under way, and the
        // source is a different allocation.
        unsafe {
            let target = self.images.base.as_ptr();
            ptr::copy_nonoverlapping(image, target, 1);
            (*target).generation = 1;
        }
    }

    /// Decides on the head that `bytes` are, with dice that say `numbers`.
    ///
    /// # Errors
    /// [`KernelError`].
    pub fn judge(
        &mut self,
        route_config: u32,
        bytes: &[u8],
        numbers: [u32; 2],
    ) -> Result<Verdict, KernelError> {
        self.run(route_config, bytes, numbers, 1)?;
        // SAFETY: the mapping holds one answer, and no test-run is under way.
        let answer = unsafe { self.answer.base.as_ptr().read_volatile() };
        Ok(match answer.outcome {
            outcome::CHOSEN => Verdict::Chosen(Choice {
                route: answer.route,
                cluster: answer.cluster,
                endpoint: answer.endpoint,
            }),
            outcome::PARTIAL => Verdict::Partial,
            outcome::UNREADABLE => return Err(KernelError::Unreadable { bytes: bytes.len() }),
            reason => Verdict::undecided(reason, answer.route),
        })
    }

    /// The mean time of one decision over `repeat` runs, copying the head included.
    ///
    /// # Errors
    /// [`KernelError`].
    pub fn time(
        &mut self,
        route_config: u32,
        bytes: &[u8],
        repeat: u32,
    ) -> Result<Duration, KernelError> {
        self.run(route_config, bytes, [0; 2], repeat)
    }

    /// Instructions that the verifier had to look at.
    ///
    /// # Errors
    /// [`KernelError`].
    pub fn verified_instructions(&mut self) -> Result<Option<u32>, KernelError> {
        Ok(program(&mut self.ebpf)?
            .info()?
            .verified_instruction_count())
    }

    fn run(
        &mut self,
        route_config: u32,
        bytes: &[u8],
        numbers: [u32; 2],
        repeat: u32,
    ) -> Result<Duration, KernelError> {
        let last = (bytes.len() as u32).wrapping_sub(1);
        if last as usize >= HEAD_MAX {
            return Err(KernelError::Unreadable { bytes: bytes.len() });
        }
        let question = Question {
            route_config,
            numbers,
            last,
        };
        self.packet.clear();
        self.packet.resize(ETHERNET, 0);
        for word in [question.route_config, numbers[0], numbers[1], question.last] {
            self.packet.extend_from_slice(&word.to_ne_bytes());
        }
        self.packet.extend_from_slice(bytes);
        let options = TestRunOptions {
            data_in: Some(&self.packet),
            repeat,
            ..TestRunOptions::new()
        };
        Ok(program(&mut self.ebpf)?.test_run(options)?.duration)
    }
}

fn program(ebpf: &mut Ebpf) -> Result<&mut SchedClassifier, KernelError> {
    let program = ebpf
        .program_mut("decide_head")
        .ok_or(KernelError::Missing("decide_head"))?;
    Ok(program.try_into()?)
}

fn map<T>(ebpf: &Ebpf, name: &'static str, length: usize) -> Result<Mapping<T>, KernelError> {
    let Some(Map::Array(map)) = ebpf.map(name) else {
        return Err(KernelError::Missing(name));
    };
    Mapping::new(map.fd().as_fd(), length).map_err(|source| KernelError::Mmap { map: name, source })
}

/// An array map in memory.
struct Mapping<T> {
    base: NonNull<T>,
    length: usize,
}

impl<T> Mapping<T> {
    fn new(map: BorrowedFd<'_>, length: usize) -> io::Result<Self> {
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a fresh shared mapping of a file; the result is checked.
        let base = unsafe {
            let fd = map.as_raw_fd();
            libc::mmap(ptr::null_mut(), length, protection, libc::MAP_SHARED, fd, 0)
        };
        if base == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let base = NonNull::new(base.cast()).ok_or(io::ErrorKind::AddrNotAvailable)?;
        Ok(Self { base, length })
    }
}

impl<T> Drop for Mapping<T> {
    fn drop(&mut self) {
        // SAFETY: the mapping made by `new`, which nothing points into any more.
        unsafe { libc::munmap(self.base.as_ptr().cast(), self.length) };
    }
}

//! Configuration generations: the tables of one configuration, and the atomic step from one to the next.

use std::ptr;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};

use kmesh_api::Image;
use kmesh_config::{Compiled, Names, Policies};

use crate::fallback::Rewrite;
use crate::load::Datapath;

/// One compiled configuration, as user space decides with it.
pub struct Generation {
    /// Its number, from 1.
    pub number: u64,
    /// The tables, equal to what the kernel has.
    pub image: Box<Image>,
    /// What the indices in the tables mean.
    pub names: Names,
    /// What is done besides routing.
    pub policies: Policies,
    /// Path rewrites by route index.
    pub rewrites: Vec<Option<Rewrite>>,
}

impl Generation {
    /// A compiled configuration with its number.
    ///
    /// # Errors
    /// If a rewrite's expression is not one.
    pub fn new(number: u64, compiled: Compiled) -> Result<Self, regex::Error> {
        let policies = compiled.policies;
        let rewrites = policies.routes.iter().map(Rewrite::of);
        Ok(Self {
            number,
            image: compiled.image,
            names: compiled.names,
            rewrites: rewrites.collect::<Result<_, _>>()?,
            policies,
        })
    }
}

/// Makes `image` the active configuration of the kernel.
///
/// The inactive image is rewritten while its `generation` is 0, then numbered, then made active by one store. A program that
/// still reads the image being rewritten notices the changed number and discards its decision
/// (`kmesh_runtime::generation`).
///
/// # Panics
/// Never: the kernel holds two images.
pub fn swap(datapath: &Datapath, number: u64, image: &Image) {
    let Some(active) = datapath.active.at(0) else {
        return;
    };
    // SAFETY: a live, aligned u32 in shared memory that is only accessed atomically.
    let active = unsafe { AtomicU32::from_ptr(active.as_ptr()) };
    let inactive = active.load(Ordering::Acquire) & 1 ^ 1;
    let Some(target) = datapath.images.at(inactive as usize) else {
        return;
    };
    // SAFETY: a live, aligned u64 in shared memory that is only accessed atomically.
    let generation = unsafe { AtomicU64::from_ptr(&raw mut (*target.as_ptr()).generation) };
    generation.store(0, Ordering::SeqCst);
    fence(Ordering::SeqCst);
    let header = size_of::<u64>();
    // SAFETY: both are images; the copy leaves out the generation, their first field. Kernel readers may read while this
    // writes: they are BPF programs that bound every index and re-check the generation.
    unsafe {
        ptr::copy_nonoverlapping(
            ptr::from_ref(image).cast::<u8>().add(header),
            target.as_ptr().cast::<u8>().add(header),
            size_of::<Image>() - header,
        );
    }
    fence(Ordering::SeqCst);
    generation.store(number, Ordering::SeqCst);
    active.store(inactive, Ordering::SeqCst);
}

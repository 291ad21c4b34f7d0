//! Chance and turns from the kernel.

use aya_ebpf::helpers::bpf_get_prandom_u32;
use kmesh_orchestration::Dice;

use crate::maps::TURNS;

/// Random numbers from `bpf_get_prandom_u32`, turns from per-CPU counters.
pub struct KernelDice;

impl Dice for KernelDice {
    #[inline(always)]
    fn random(&mut self) -> u32 {
        // SAFETY: the helper has no preconditions.
        unsafe { bpf_get_prandom_u32() }
    }

    #[inline(always)]
    fn turn(&mut self, counter: u32) -> u32 {
        let Some(slot) = TURNS.get_ptr_mut(counter) else {
            return self.random();
        };
        // SAFETY: a per-CPU slot of a map that lives as long as the program.
        unsafe {
            let turn = *slot;
            *slot = turn.wrapping_add(1);
            turn
        }
    }
}

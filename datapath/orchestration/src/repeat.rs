//! Bounded repetition that the verifier accepts.
//!
//! In the kernel a loop is a call to `bpf_loop` (`kernel/bpf/bpf_iter.c`): the verifier checks the body once instead of once per
//! iteration. Natively it is a `for`. Bodies keep their state in memory that they borrow, never in captured scalars
//! whose every value the verifier would have to follow.

/// A loop body.
pub trait Body {
    /// Runs iteration `index`; `false` ends the loop.
    fn run(&mut self, index: u32) -> bool;
}

/// Runs `body` for 0, 1, ... until it says `false` or `count` iterations are done.
#[cfg(not(target_arch = "bpf"))]
#[inline]
pub fn repeat<B: Body>(count: u32, body: &mut B) {
    for index in 0..count {
        if !body.run(index) {
            return;
        }
    }
}

/// Runs `body` for 0, 1, ... until it says `false` or `count` iterations are done.
#[cfg(target_arch = "bpf")]
#[inline(always)]
pub fn repeat<B: Body>(count: u32, body: &mut B) {
    use core::ffi::c_void;

    type Callback = unsafe extern "C" fn(u32, *mut c_void) -> i64;
    type Helper = unsafe extern "C" fn(u32, *mut c_void, *mut c_void, u64) -> i64;
    /// Helper number, `include/uapi/linux/bpf.h`.
    const BPF_LOOP: usize = 181;

    unsafe extern "C" fn callback<B: Body>(index: u32, body: *mut c_void) -> i64 {
        // SAFETY: `repeat` passes the exclusive reference it holds, and nothing else uses it meanwhile.
        let body = unsafe { &mut *body.cast::<B>() };
        i64::from(!body.run(index))
    }

    // SAFETY: a BPF helper is called by jumping to its number; the loader relocates nothing here.
    let helper: Helper = unsafe { core::mem::transmute(BPF_LOOP) };
    let callback: Callback = callback::<B>;
    // SAFETY: the callback matches the helper's contract, and `body` outlives the call.
    unsafe {
        helper(
            count,
            callback as *mut c_void,
            core::ptr::from_mut(body).cast(),
            0,
        )
    };
}

//! What the root tests share.

/// Whether this test can run; under `CI=true` it must.
pub(crate) fn root(test: &str) -> bool {
    // SAFETY: the call has no preconditions.
    let root = unsafe { libc::geteuid() } == 0;
    if !root {
        assert!(std::env::var("CI").is_err(), "{test}: needs root");
        eprintln!("SKIP {test}: needs root");
    }
    root
}

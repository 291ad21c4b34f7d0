//! Large bodies: whoever reads late still gets all of it. What late readers cost in memory is measured by
//! `kmesh-bench verify bulk`.

mod support;

use kmesh_streams::memory::footprint;
use support::{is_root, options};

/// Bytes of each response.
const LENGTH: u64 = 16 << 20;

#[test]
fn stalled_bodies_are_whole() {
    if !is_root("stalled_bodies_are_whole") {
        return;
    }
    let options = options(0.0, env!("CARGO_BIN_EXE_kmesh-streams-server"));
    for arm in ["direct", "kmesh", "kmesh-remote"] {
        let ours = footprint(arm, 4, LENGTH, &options).unwrap();
        assert!(
            ours.found.wrong.is_empty() && ours.found.compared == 4,
            "{ours:?}"
        );
    }
}

//! Requests on which parsers disagree: through the kernel datapath they must come to what they come to through real Envoy.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::collections::BTreeMap;

use kmesh_streams::desync::{Observed, observe};
use support::{is_root, options};

/// Cases whose outcome differs from Envoy's, by reason. A case may leave the list at any time, none may join it silently.
const KNOWN: &[(&str, &[&str])] = &[(
    "refused where Envoy skips what stands between a chunk's data and its line's end: others count it, and a client \
         that relays a stranger's chunks would be in step with only one of the two",
    &["chunk-too-long"],
)];

/// Without requests that broke off: whether a server sees the beginning of one that it will not get is a matter of time.
fn complete(case: &Observed) -> Observed {
    let mut complete = case.clone();
    complete.reached.retain(|line| !line.ends_with(" broken"));
    complete
}

fn observed(arm: &str) -> BTreeMap<&'static str, Observed> {
    observe(
        arm,
        &options(0.0, env!("CARGO_BIN_EXE_kmesh-streams-recorder")),
    )
    .unwrap()
}

#[test]
fn no_body_is_taken_for_a_request_and_outcomes_are_as_envoys() {
    if !is_root("no_body_is_taken_for_a_request_and_outcomes_are_as_envoys") {
        return;
    }
    let envoy = observed("envoy-both");
    for arm in ["kmesh", "kmesh-remote"] {
        let ours = observed(arm);
        for case in ours.values() {
            let smuggled = case
                .reached
                .iter()
                .find(|line| line.contains(" /smuggled/"));
            assert_eq!(smuggled, None, "{arm}");
        }
        let known = |name: &str| KNOWN.iter().any(|(_, cases)| cases.contains(&name));
        let differing: Vec<String> = ours
            .iter()
            .filter(|(name, case)| complete(&envoy[**name]) != complete(case) && !known(name))
            .map(|(name, case)| format!("{name}:\n  envoy {:?}\n  {arm} {case:?}", envoy[*name]))
            .collect();
        assert!(
            differing.is_empty(),
            "{} of {} cases:\n{}",
            differing.len(),
            ours.len(),
            differing.join("\n")
        );
    }
}

//! Requests on which parsers disagree: through the kernel datapath they must come to what they come to through real Envoy.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::collections::BTreeMap;

use kmesh_streams::desync::{Observed, observe};
use support::{is_root, options};

/// Cases whose outcome differs from Envoy's, by reason. A case may leave the list at any time, none may join it silently.
const KNOWN: &[(&str, &[&str])] = &[
    (
        "refused before anything reaches the server, where Envoy's parser is lenient",
        &[
            "bare-cr-in-value",
            "folded",
            "te-folded",
            "te-in-name",
            "tab-between",
            "two-blanks",
        ],
    ),
    (
        "a broken chunked body ends in 503 or silence instead of 400, or Envoy lets it pass; open",
        &[
            "chunk-0x",
            "chunk-bare-cr",
            "chunk-bare-lf-data",
            "chunk-bare-lf-end",
            "chunk-bare-lf-extension",
            "chunk-bare-lf-size",
            "chunk-blank-before",
            "chunk-letters",
            "chunk-minus",
            "chunk-no-size",
            "chunk-overflow",
            "chunk-too-long",
            "trailer-no-colon",
        ],
    ),
    (
        "refused by both, with another number (400 for Envoy's 404, 426 and 501)",
        &[
            "star",
            "te-chunked-gzip",
            "te-empty",
            "te-gzip-chunked",
            "te-list-twice",
            "te-other",
            "te-quoted",
            "te-twice",
            "te-twice-other",
            "two-hosts",
            "version-1.2",
            "version-2.0",
            "version-none",
        ],
    ),
    (
        "refused by both, but the connection stays open where Envoy closes it: both ends agree where the next request begins",
        &[
            "method-lower-case",
            "method-unknown",
            "no-host",
            "proxy-connection",
            "too-long-value",
            "upgrade",
        ],
    ),
    (
        "taken where Envoy refuses; framed as RFC 9112 says, so nothing is smuggled; open",
        &[
            "cl-0-te",
            "cl-te",
            "cl-twice-same",
            "fragment",
            "hop-by-hop-host",
            "te-cl",
        ],
    ),
    (
        "the answer to a good request is lost when garbage follows in the same send; open",
        &["good-then-garbage", "body-then-garbage"],
    ),
    (
        "an upgrade to h2c is refused with 403 where Envoy ignores it; open",
        &["h2c-upgrade"],
    ),
];

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
            .filter(|(name, case)| envoy[**name] != **case && !known(name))
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

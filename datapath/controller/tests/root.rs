//! Every root test of the datapath in one binary: one link instead of one a file. A test's name begins with its file's:
//! `cargo test -p kmesh-controller --test root root_places`.

mod lab;

mod root_answers;
mod root_chains;
mod root_chunked;
mod root_clients;
mod root_config;
mod root_daemon;
mod root_enrolment;
mod root_faults;
mod root_framing;
mod root_full;
mod root_guard;
mod root_http2;
mod root_isolation;
mod root_large;
mod root_lifecycle;
mod root_memory;
mod root_overlap;
mod root_places;
mod root_policies;
mod root_pressure;
mod root_replace;
mod root_restart;
mod root_routing;
mod root_splice;
mod root_vanish;
mod root_xds;

/// `autotests` is off in the manifest, so a file that is not listed above would never be compiled.
#[test]
fn every_root_test_file_is_listed() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests");
    let listed = include_str!("root.rs");
    let missing: Vec<String> = std::fs::read_dir(folder)
        .expect("the tests' own folder")
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter_map(|name| name.strip_suffix(".rs").map(str::to_owned))
        .filter(|stem| stem != "root" && !listed.contains(&format!("\nmod {stem};")))
        .collect();
    assert!(
        missing.is_empty(),
        "not listed in tests/root.rs: {missing:?}"
    );
}

//! Prunes a protobuf descriptor set to what an Envoy configuration can contain: `descriptors IN OUT`.
//!
//! `ci/descriptors.sh` runs it on the set that the registry's crate `envoy-types` was generated from.

use std::collections::{BTreeMap, BTreeSet};

use prost::Message as _;
use prost_types::{FileDescriptorProto, FileDescriptorSet};

/// Files whose messages may be resources, or extensions of resources; what they import comes along.
const ROOTS: [&str; 4] = [
    "envoy/config/",
    "envoy/extensions/",
    "envoy/service/discovery/v3/",
    "xds/type/",
];

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [input, output] = &arguments[..] else {
        eprintln!("usage: descriptors IN OUT");
        std::process::exit(4);
    };
    let bytes = std::fs::read(input).expect("the input can be read");
    let set =
        FileDescriptorSet::decode(bytes.as_slice()).expect("the input is a FileDescriptorSet");
    let pruned = prune(set);
    std::fs::write(output, pruned.encode_to_vec()).expect("the output can be written");
    println!("{} files", pruned.file.len());
}

/// The roots and what they import, in the order of the input (imports first), without comments.
/// Options that prost-types doesn't know (validation rules, annotations) were dropped by decoding.
fn prune(set: FileDescriptorSet) -> FileDescriptorSet {
    let files: BTreeMap<String, &FileDescriptorProto> = set
        .file
        .iter()
        .map(|file| (file.name().to_owned(), file))
        .collect();
    let mut wanted = BTreeSet::new();
    let mut open: Vec<String> = files
        .keys()
        .filter(|name| ROOTS.iter().any(|root| name.starts_with(root)))
        .cloned()
        .collect();
    while let Some(name) = open.pop() {
        let file = files
            .get(&name)
            .unwrap_or_else(|| panic!("{name} is imported but absent"));
        if wanted.insert(name) {
            open.extend(file.dependency.iter().cloned());
        }
    }
    let file = set
        .file
        .into_iter()
        .filter(|file| wanted.contains(file.name()))
        .map(|mut file| {
            file.source_code_info = None;
            file.options = None;
            file
        })
        .collect();
    FileDescriptorSet { file }
}

//! `kmeshctl explain` on a file.

use std::path::Path;
use std::process::Command;

#[test]
fn a_request_is_explained_by_a_file() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../explain/tests/mesh.yaml");
    let run = |arguments: &[&str]| {
        Command::new(env!("CARGO_BIN_EXE_kmeshctl"))
            .arg("explain")
            .args(arguments)
            .arg("--config")
            .arg(&file)
            .output()
            .expect("kmeshctl starts")
    };
    let said = run(&["GET shop.test/cart", "--listener", "web", "--dice", "90"]);
    let text = String::from_utf8_lossy(&said.stdout);
    assert!(said.status.success(), "{said:?}");
    assert!(text.contains("chosen        canary 10.0.2.1:80"), "{text}");
    // Two HTTP listeners: which one is not guessed.
    let said = run(&["GET shop.test/cart"]);
    let talk = String::from_utf8_lossy(&said.stderr);
    assert_eq!(said.status.code(), Some(4), "{talk}");
    assert!(talk.contains("web, certain, stream"), "{talk}");
}

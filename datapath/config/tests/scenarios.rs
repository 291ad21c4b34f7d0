//! The scenarios' own resources are accepted.

use std::path::Path;

use kmesh_config::{Classes, Identities, compile, read};

#[test]
fn every_scenario_compiles() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scenarios/resources");
    let mut seen = 0;
    for entry in folder.read_dir().unwrap() {
        let path = entry.unwrap().path();
        let config = read(&path).unwrap();
        let compiled = compile(&config, &mut Identities::default(), Classes::default()).unwrap();
        assert_eq!(
            compiled.names.listeners.len(),
            config.listeners.len(),
            "{}",
            path.display()
        );
        seen += 1;
    }
    assert!(seen >= 4, "{seen} files in {}", folder.display());
}

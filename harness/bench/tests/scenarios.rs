//! Every scenario of the repository is sound, and a broken one is refused at the right place.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use kmesh_bench::binaries::{Programs, scenario_directory};
use kmesh_bench::scenario::{Catalogue, Scenario, load, load_all};
use kmesh_dataplanes::Resources;
use std::collections::BTreeSet;
use std::fs;
use std::net::SocketAddr;
use std::process::Command;

fn all() -> Vec<Scenario> {
    let catalogue = Catalogue::new(scenario_directory());
    catalogue
        .names()
        .unwrap()
        .iter()
        .flat_map(|name| catalogue.load_all(name).unwrap())
        .collect()
}

#[test]
fn every_scenario_loads_and_is_listed_in_the_readme() {
    let readme = fs::read_to_string(scenario_directory().join("README.md")).unwrap();
    let all = all();
    assert!(all.len() >= 100, "{} with all points of sweeps", all.len());
    for scenario in all {
        assert!(
            readme.contains(&format!("`{}`", scenario.family())),
            "{} is missing in scenarios/README.md",
            scenario.family()
        );
    }
}

#[test]
fn resources_speak_of_the_scenarios_own_addresses() {
    for scenario in all() {
        let vip = scenario.vip.unwrap();
        let services = Resources::read(&scenario.resources)
            .unwrap()
            .services()
            .unwrap();
        // Those that servers call are called as well.
        let called = scenario.vips();
        assert_eq!(called[0], vip);
        let find = |vip: &SocketAddr| services.iter().find(|service| service.vip == *vip);
        let servers: BTreeSet<SocketAddr> = scenario
            .server
            .iter()
            .map(|server| {
                let pod = scenario
                    .topology
                    .pods
                    .iter()
                    .find(|pod| pod.name == server.pod)
                    .unwrap();
                (pod.ipv4.unwrap(), server.port).into()
            })
            .collect();
        let endpoints: BTreeSet<SocketAddr> = called
            .iter()
            .flat_map(|vip| find(vip).unwrap().endpoints.clone())
            .collect();
        if scenario.generate.is_some() || scenario.swap.is_some() {
            // A generated or a passing configuration may leave servers out, but not invent any.
            assert!(endpoints.is_subset(&servers), "{}", scenario.name);
        } else {
            assert_eq!(endpoints, servers, "{}", scenario.name);
        }
    }
}

#[test]
fn real_envoy_accepts_the_resources() {
    let envoy = Programs::locate().arms.envoy;
    if !envoy.is_file() {
        assert!(
            std::env::var("CI").as_deref() != Ok("true"),
            "{} is missing",
            envoy.display()
        );
        println!(
            "SKIP real_envoy_accepts_the_resources: no {}",
            envoy.display()
        );
        return;
    }
    let files: BTreeSet<_> = all()
        .into_iter()
        .map(|scenario| scenario.resources)
        .collect();
    for file in files {
        let output = Command::new(&envoy)
            .args(["--mode", "validate", "-c"])
            .arg(&file)
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "{}: {}",
            file.display(),
            String::from_utf8_lossy(&output.stderr)
        );
    }
}

/// Writes a complete scenario in which `from` is replaced, and answers what loading says.
fn refusal(from: &str, to: &str) -> String {
    const BASE: &str = r#"name = "s"
title = "t"
reproduces = "r"
resources = "r.yaml"
client = "a"
vip = "10.96.0.80:80"

[topology]
pods = [{ name = "a" }, { name = "b" }]

[[server]]
pod = "b"
port = 80
group = "v1"

[arms]
run = ["direct", "kmesh"]

[load]
loop = "closed"
connections = 1
timeout_ms = 10

[[traffic]]
weight = 1
host = "h"
path = "/"
expect = ["v1"]

[split]
v1 = 100.0

[design]
blocks = 1
cell_ms = 100
level = 0.95
resamples = 100

[quick]
blocks = 1
cell_ms = 100

[expect]
"ratio(kmesh,direct).p50" = "<= 1.05"
"#;
    assert!(BASE.contains(from), "{from}");
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("r.yaml"), "").unwrap();
    let path = dir.path().join("s.toml");
    fs::write(&path, BASE.replacen(from, to, 1)).unwrap();
    match load_all(&path) {
        Ok(_) => String::new(),
        Err(error) => error
            .to_string()
            .replace(&format!("{}/", dir.path().display()), ""),
    }
}

#[test]
fn mistakes_are_refused_with_their_place() {
    assert_eq!(refusal("title", "title"), "");
    for (from, to, expected) in [
        (
            "connections = 1",
            "connection_count = 1",
            "s.toml:21:1: unknown field `connection_count`",
        ),
        (
            "connections = 1",
            "connections = \"x\"",
            "s.toml:21:15: invalid type: string",
        ),
        ("blocks = 1", "blocks = ", "s.toml:34:10: "),
        (
            "connections = 1",
            "connections = 0",
            "s.toml:21:1: load.connections: must be at least 1",
        ),
        (
            "\"kmesh\"]",
            "\"qmesh\"]",
            "s.toml:17:1: arms.run: no arm \"qmesh\": did you mean kmesh?",
        ),
        (
            "pod = \"b\"",
            "pod = \"c\"",
            "s.toml:12:1: server.0.pod: no pod \"c\"",
        ),
        (
            "expect = [\"v1\"]",
            "expect = [\"v9\"]",
            "s.toml:28:1: traffic.0.expect: \"v9\" is neither",
        ),
        (
            "group = \"v1\"",
            "group = \"v1\"\nnext = { vip = \"10.96.0.80:80\", host = \"h\", servers = [\"v1\"] }",
            "server.0.next: leads into a circle",
        ),
        (
            "group = \"v1\"",
            "group = \"v1\"\nnext = { vip = \"10.96.0.80:80\", host = \"h\", servers = [\"v9\"] }",
            "server.0.next.servers: \"v9\" is neither",
        ),
        (
            "[design]",
            "[restart]\nhow = \"plain\"\nafter_ms = 100\n[design]",
            "restart.after_ms: must be within a cell",
        ),
        (
            "[design]",
            "[restart]\nhow = \"softly\"\nafter_ms = 10\n[design]",
            "unknown variant `softly`",
        ),
        (
            "v1 = 100.0",
            "v1 = 90.0",
            "s.toml:30:2: split: shares add up to 90",
        ),
        (
            "<= 1.05",
            "1.05",
            "s.toml:44:1: expect.ratio(kmesh,direct).p50: predicate \"1.05\"",
        ),
        (").p50", ").p51", "\"p51\" is none of"),
        ("ratio(kmesh", "ratio(dnat", "\"dnat\" is not in arms.run"),
        (
            "name = \"s\"",
            "name = \"t\"",
            "s.toml:1:1: name: \"t\" must be the file's name",
        ),
        ("loop = \"closed\"", "loop = \"open\"", "load.rate: missing"),
        (
            "loop = \"closed\"",
            "loop = \"open\"\nrate = \"150%\"",
            "load.rate: must be above 0%",
        ),
        (
            "loop = \"closed\"",
            "loop = \"open\"\nrate = \"fast\"",
            "s.toml:21:8: rate \"fast\" is not a share",
        ),
        (
            "cell_ms = 100",
            "cell_ms = 1",
            "design.cell_ms: must be at least 50 ms",
        ),
        (
            "\"r.yaml\"",
            "\"none.yaml\"",
            "s.toml:4:1: resources: none.yaml is not a file",
        ),
        (
            "{ name = \"b\" }",
            "{ name = \"a\" }",
            "topology.pods.1.name: name \"a\" is already taken",
        ),
        (
            "{ name = \"b\" }",
            "{ named = \"b\" }",
            "s.toml:9:27: unknown field `named`",
        ),
    ] {
        let refusal = refusal(from, to);
        assert!(
            refusal.contains(expected),
            "{to}: {refusal:?} lacks {expected:?}"
        );
    }
}

#[test]
fn extending_merges_tables_and_finds_cycles() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| fs::write(dir.path().join(name), text).unwrap();
    write("a.toml", "extends = \"b.toml\"\nname = \"a\"\n");
    write("b.toml", "extends = \"a.toml\"\n");
    let error = load(&dir.path().join("a.toml")).unwrap_err().to_string();
    assert!(
        error.contains("b.toml:1:1: extends") && error.contains("never end"),
        "{error}"
    );

    write("b.toml", "[load]\nconnections = 7\nbogus = 1\n");
    let error = load(&dir.path().join("a.toml")).unwrap_err().to_string();
    assert!(
        error.contains("b.toml:3:1: unknown field `bogus`"),
        "{error}"
    );

    let long60 = Catalogue::new(scenario_directory())
        .load("http-lb-long60")
        .unwrap();
    assert_eq!(long60.load.connections, 60, "from defaults.toml");
    assert_eq!(long60.design.blocks, 28, "its own");
}

#[test]
fn a_sweep_is_a_list_of_scenarios() {
    let catalogue = Catalogue::new(scenario_directory());
    let points = catalogue.load_all("sweep-conns").unwrap();
    let connections: Vec<u32> = points.iter().map(|point| point.load.connections).collect();
    assert_eq!(connections.first(), Some(&1));
    assert_eq!(connections.last(), Some(&4096));
    let one = catalogue.load_all("sweep-conns.64").unwrap();
    assert_eq!((one.len(), one[0].load.connections), (1, 64));
    assert_eq!(one[0].point.as_ref().unwrap().name, "sweep-conns");
    let error = catalogue
        .load_all("sweep-conns.65")
        .unwrap_err()
        .to_string();
    assert!(error.contains("\"sweep-conns.65\""), "{error}");
    // A generated route table: the hit leads to v2 among a thousand.
    let routes = catalogue
        .load_all("sweep-routes.exact-1000-middle")
        .unwrap();
    let text = fs::read_to_string(&routes[0].resources).unwrap();
    assert_eq!(
        text.matches("\"v2\"").count(),
        3,
        "the route, the cluster and its load assignment"
    );
    assert_eq!(routes[0].traffic[0].path, "/route/500");
}

#[test]
fn a_mistake_in_a_sweep_is_refused_at_its_list() {
    let sweep = |text: &str| refusal("[split]", &format!("[sweep]\n{text}\n\n[split]"));
    assert_eq!(sweep("key = \"load.connections\"\nvalues = [1, 2]"), "");
    for (text, expected) in [
        (
            "key = \"load.connections\"\nvalues = [1, 0]",
            "s.toml:32:1: sweep point 0: load.connections: must be at least 1",
        ),
        (
            "key = \"nowhere.connections\"\nvalues = [1]",
            "s.toml:31:1: sweep.key: \"nowhere.connections\" leads to no table",
        ),
        (
            "key = \"load.connections\"\nvalues = []",
            "s.toml:30:2: sweep: needs either values or points",
        ),
        (
            "key = \"x\"\n[[sweep.points]]\nlabel = \"a b\"",
            "is not a name of its own",
        ),
        ("keys = \"x\"", "s.toml:31:1: unknown field `keys`"),
    ] {
        let refusal = sweep(text);
        assert!(
            refusal.contains(expected),
            "{text}: {refusal:?} lacks {expected:?}"
        );
    }
}

#[test]
fn an_unknown_name_brings_the_nearest_one() {
    let error = Catalogue::new(scenario_directory())
        .load("http-lb-long61")
        .unwrap_err()
        .to_string();
    assert!(error.contains("did you mean http-lb-long60?"), "{error}");
}

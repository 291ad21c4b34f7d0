//! Programs that others wrote, through the datapath and through Envoy, with nginx as the server; `KMESH_PEERS=python,node`
//! tries others, and `kmesh-bench verify peers` tries all.

mod support;

use kmesh_streams::peers::{meet, table};
use support::{is_root, options};

#[test]
fn what_clients_come_to_has_a_reason_where_it_differs() {
    if !is_root("what_clients_come_to_has_a_reason_where_it_differs") {
        return;
    }
    let options = options(0.0, env!("CARGO_BIN_EXE_kmesh-streams-server"));
    let arms = ["direct", "envoy-both", "kmesh"].map(str::to_owned);
    let servers: Vec<String> = match std::env::var("KMESH_PEERS") {
        Ok(list) => list.split(',').map(str::to_owned).collect(),
        Err(_) => vec!["nginx".to_owned()],
    };
    let servers: Vec<&str> = servers.iter().map(String::as_str).collect();
    let rows = meet(&servers, &arms, &options).unwrap();
    println!("{}", table(&rows));
    assert!(
        rows.iter().all(|row| row.verdict != "UNEXPLAINED"),
        "{}",
        table(&rows)
    );
    assert!(
        rows.iter().any(|row| row.verdict == "equal"),
        "{}",
        table(&rows)
    );
}

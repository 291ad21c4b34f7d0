//! The decision core alone, for counting its instructions: `decide_cost CASE` decides one fixed head a
//! thousand times and prints nothing. The gate runs it under callgrind for base and head, and collects
//! inside of `decide_many` only, so that building the tables does not count.

#![expect(clippy::expect_used, reason = "a measuring program may panic")]

use kmesh_config::{Classes, Compiled, Identities, compile, parse};
use kmesh_oracle::native::Verdict;
use kmesh_oracle::{Native, Request, ScriptedDice};
use std::fmt::Write as _;
use std::hint::black_box;

/// Decisions per run: so many that one more or less does not show.
const DECISIONS: usize = 1_000;

/// Must keep its name: callgrind is told to collect inside of it.
#[inline(never)]
fn decide_many(judge: &mut Native<'_>, head: &[u8]) -> usize {
    (0..DECISIONS)
        .filter(|_| {
            let verdict = judge.judge(0, black_box(head), &mut ScriptedDice::default());
            matches!(verdict, Verdict::Chosen(_))
        })
        .count()
}

fn main() {
    let case = std::env::args().nth(1).unwrap_or_default();
    let get = |path: &str| {
        Request::get("svc.test", path)
            .with("user-agent", "curl/7.88.1")
            .with("accept", "*/*")
    };
    let (routes, request) = match case.as_str() {
        "routes-1" => (1, get("/service-0/item")),
        "routes-100" => (100, get("/service-99/item")),
        "canary" => (10, get("/service-9/item").with("end-user", "jason")),
        "long-head" => (
            10,
            get("/service-9/item").with("x-fill", &"f".repeat(2_000)),
        ),
        other => {
            eprintln!("decide_cost: no case {other:?}: routes-1, routes-100, canary, long-head");
            std::process::exit(4);
        }
    };
    let tables = tables(routes);
    let head = request.to_bytes();
    let chosen = decide_many(&mut Native::new(&tables.image), &head);
    assert_eq!(chosen, DECISIONS, "every head has a route");
}

/// `count` prefix routes, each with a canary by header before it.
fn tables(count: usize) -> Compiled {
    let mut text = String::from(
        r#"
listeners:
- name: web
  address: { socket_address: { address: 10.0.0.1, port_value: 80 } }
  filter_chains:
  - filters:
    - name: envoy.filters.network.http_connection_manager
      typed_config:
        "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
        stat_prefix: web
        http_filters:
        - name: envoy.filters.http.router
          typed_config: { "@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router }
        route_config:
          name: web
          virtual_hosts:
          - name: svc
            domains: [svc.test]
            routes:
"#,
    );
    for i in 0..count {
        let _ = writeln!(
            text,
            "            - {{ match: {{ prefix: /service-{i}/, headers: [{{ name: end-user, string_match: {{ exact: jason }} }}] }}, route: {{ cluster: c, timeout: 0s }} }}\n            - {{ match: {{ prefix: /service-{i}/ }}, route: {{ cluster: c, timeout: 0s }} }}"
        );
    }
    text.push_str(
        "clusters:
- name: c
  type: STATIC
  load_assignment:
    cluster_name: c
    endpoints:
    - lb_endpoints:
      - endpoint: { address: { socket_address: { address: 10.0.1.1, port_value: 80 } } }
      - endpoint: { address: { socket_address: { address: 10.0.1.2, port_value: 80 } } }
",
    );
    let config = parse(&text, "decide_cost").expect("the generated resources are supported");
    compile(&config, &mut Identities::default(), Classes::default()).expect("they fit the tables")
}

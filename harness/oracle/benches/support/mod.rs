//! The heads and tables that both decision benches run.

use std::fmt::Write as _;

use kmesh_config::{Classes, Compiled, Identities, compile, parse};
use kmesh_oracle::Request;

/// A listener whose one virtual host has `count` prefix routes to a cluster of two endpoints.
fn many_routes(count: usize) -> Compiled {
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
            "            - {{ match: {{ prefix: /service-{i}/ }}, route: {{ cluster: c, timeout: 0s }} }}"
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
    let config = parse(&text, "bench").expect("the generated resources are supported");
    compile(&config, &mut Identities::default(), Classes::default()).expect("they fit the tables")
}

/// A head of exactly `bytes` bytes for the last of `routes` routes.
fn head(bytes: usize, routes: usize) -> Vec<u8> {
    let request = Request::get("svc.test", &format!("/service-{}/item", routes - 1))
        .with("user-agent", "curl/7.88.1")
        .with("accept", "*/*");
    let fill = bytes - request.to_bytes().len() - "x-fill: \r\n".len();
    request.with("x-fill", &"f".repeat(fill)).to_bytes()
}

/// The cases: name, parameter, tables, head.
pub(crate) fn cases() -> Vec<(&'static str, usize, Compiled, Vec<u8>)> {
    let sizes = [128, 250, 512, 1024, 3072].map(|size| {
        let routes = 10;
        ("head_bytes", size, many_routes(routes), head(size, routes))
    });
    let routes = [10, 100, 1_000, 10_000]
        .map(|routes| ("routes", routes, many_routes(routes), head(250, routes)));
    sizes.into_iter().chain(routes).collect()
}

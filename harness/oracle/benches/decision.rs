//! What a decision costs, natively and (with feature `kernel`, as root) as verified bytecode: by the size of the head and by
//! the number of routes.

use std::fmt::Write as _;
use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use kmesh_config::{Classes, Compiled, Identities, compile, parse};
use kmesh_oracle::{Native, Request, ScriptedDice};

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
fn cases() -> Vec<(&'static str, usize, Compiled, Vec<u8>)> {
    let sizes = [128, 250, 512, 1024, 3072].map(|size| {
        let routes = 10;
        ("head_bytes", size, many_routes(routes), head(size, routes))
    });
    let routes = [10, 100, 1_000, 10_000]
        .map(|routes| ("routes", routes, many_routes(routes), head(250, routes)));
    sizes.into_iter().chain(routes).collect()
}

fn native(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("decision_native");
    for (what, parameter, tables, head) in cases() {
        let mut judge = Native::new(&tables.image);
        group.throughput(Throughput::Bytes(head.len() as u64));
        group.bench_function(BenchmarkId::new(what, parameter), |bencher| {
            bencher.iter(|| judge.judge(0, black_box(&head), &mut ScriptedDice::default()));
        });
    }
    group.finish();
}

#[cfg(feature = "kernel")]
fn kernel(criterion: &mut Criterion) {
    use kmesh_oracle::kernel::Kernel;

    let mut judge = match Kernel::load() {
        Ok(judge) => judge,
        Err(error) => {
            eprintln!("decision_kernel left out: {error}");
            return;
        }
    };
    let mut group = criterion.benchmark_group("decision_kernel");
    for (what, parameter, tables, head) in cases() {
        judge.configure(&tables.image);
        group.throughput(Throughput::Bytes(head.len() as u64));
        group.bench_function(BenchmarkId::new(what, parameter), |bencher| {
            bencher.iter_custom(|count| {
                // The kernel reports a mean over `repeat` runs, in whole nanoseconds.
                let repeat = u32::try_from(count).unwrap_or(u32::MAX);
                let mean = judge.time(0, &head, repeat).expect("decide_head runs");
                mean * repeat
            });
        });
    }
    group.finish();
}

#[cfg(not(feature = "kernel"))]
fn kernel(_: &mut Criterion) {}

criterion_group!(benches, native, kernel);
criterion_main!(benches);

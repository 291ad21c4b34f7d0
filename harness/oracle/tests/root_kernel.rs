//! The verified bytecode decides like the native code: the same heads, the same dice, the same answer.
#![cfg(feature = "kernel")]

use std::fmt::Write as _;

use kmesh_config::{Classes, Identities, compile, parse};
use kmesh_oracle::kernel::Kernel;
use kmesh_oracle::{Native, Request, ScriptedDice, generate};
use proptest::strategy::{Strategy as _, ValueTree as _};
use proptest::test_runner::TestRunner;

const CONFIGS: u32 = 200;
const REQUESTS: u32 = 50;
/// Runs per measurement.
const REPEAT: u32 = 1_000;
/// Measurements, of which the fastest counts: other work on this machine only ever adds.
const MEASUREMENTS: u32 = 100;

/// Whether this test can run; under `CI=true` it must.
fn root(test: &str) -> bool {
    // SAFETY: the call has no preconditions.
    let root = unsafe { libc::geteuid() } == 0;
    if !root {
        assert!(std::env::var("CI").is_err(), "{test}: needs root");
        eprintln!("SKIP {test}: needs root");
    }
    root
}

#[test]
fn kernel_decisions_equal_native_ones() {
    if !root("kernel_decisions_equal_native_ones") {
        return;
    }
    let mut kernel = Kernel::load().unwrap();
    let mut runner = TestRunner::deterministic();
    let (configs, requests) = (generate::config(), generate::request());
    let mut compared = 0;
    for _ in 0..CONFIGS {
        let config = configs.new_tree(&mut runner).unwrap().current();
        let compiled = compile(&config, &mut Identities::default(), Classes::default()).unwrap();
        kernel.configure(&compiled.image);
        let mut native = Native::new(&compiled.image);
        for number in 0..REQUESTS {
            let request = requests.new_tree(&mut runner).unwrap().current();
            let mut bytes = request.to_bytes();
            if number % 10 == 9 {
                // A head cut short or with a foreign byte in it is judged alike, too.
                let at = number as usize * 7 % bytes.len();
                if number % 20 == 9 {
                    bytes.truncate(at.max(1));
                } else {
                    bytes[at] = b'\x01';
                }
            }
            let numbers = [number.wrapping_mul(0x9e37_79b1), number];
            let listener = number % compiled.image.route_configs.len().min(2) as u32;
            let expected = native.judge(listener, &bytes, &mut ScriptedDice::new(numbers));
            let got = kernel.judge(listener, &bytes, numbers).unwrap();
            assert_eq!(got, expected, "{request} on {config:#?}");
            compared += 1;
        }
    }
    assert_eq!(compared, CONFIGS * REQUESTS);
}

/// `count` routes on one virtual host, the last of which is asked for.
fn many_routes(count: usize) -> String {
    let mut text = String::from(
        "static_resources:\n  listeners:\n  - name: web\n    address: { socket_address: { address: 10.0.0.1, port_value: 80 } }\n    filter_chains:\n    - filters:\n      - name: envoy.filters.network.http_connection_manager\n        typed_config:\n          \"@type\": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager\n          stat_prefix: web\n          route_config:\n            name: web\n            virtual_hosts:\n            - name: svc\n              domains: [svc.test]\n              routes:\n",
    );
    for i in 0..count {
        let _ = writeln!(
            text,
            "              - {{ match: {{ prefix: /service-{i}/ }}, route: {{ cluster: c, timeout: 0s }} }}"
        );
    }
    text.push_str("          http_filters:\n          - { name: envoy.filters.http.router, typed_config: { \"@type\": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router } }\n  clusters:\n  - name: c\n    type: STATIC\n    load_assignment: { cluster_name: c, endpoints: [ { lb_endpoints: [ { endpoint: { address: { socket_address: { address: 10.0.1.1, port_value: 80 } } } }, { endpoint: { address: { socket_address: { address: 10.0.1.2, port_value: 80 } } } } ] } ] }\n");
    text
}

#[test]
fn the_cost_does_not_grow_with_the_routes() {
    if !root("the_cost_does_not_grow_with_the_routes") {
        return;
    }
    let mut kernel = Kernel::load().unwrap();
    let mut fastest = Vec::new();
    for routes in [10, 5_000] {
        let config = parse(&many_routes(routes), "many").unwrap();
        let compiled = compile(&config, &mut Identities::default(), Classes::default()).unwrap();
        kernel.configure(&compiled.image);
        let mut request = Request::get("svc.test", &format!("/service-{}/item", routes - 1));
        request = request
            .with("user-agent", "curl/7.88.1")
            .with("accept", "*/*");
        let fill = 250_usize.saturating_sub(request.to_bytes().len() + "x-fill: \r\n".len());
        let bytes = request.with("x-fill", &"f".repeat(fill)).to_bytes();
        assert_eq!(bytes.len(), 250);
        let times = (0..MEASUREMENTS).map(|_| kernel.time(0, &bytes, REPEAT).unwrap().as_nanos());
        fastest.push(times.min().unwrap_or_default());
    }
    println!(
        "decision on a 250-byte head: {} ns with 10 routes, {} ns with 5,000; verified {:?}",
        fastest[0],
        fastest[1],
        kernel.verified_instructions().unwrap()
    );
    assert!(
        fastest[1] * 2 < fastest[0] * 3,
        "{fastest:?} ns: the cost grows with the routes"
    );
}

//! What routes ask for beyond routing: done in user space, counted by reason, in Envoy's words.
//!
//! Statuses and reply texts are what real Envoy 1.40 answered to such configurations by hand; headers, rewrites, mirrors and upgrades
//! follow its documentation and source.
#![expect(
    clippy::unwrap_used,
    reason = "a test fails by panicking, in its own functions too"
)]

use crate::lab;

use std::io::Write as _;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use lab::agent::Agent;
use lab::config::{cluster, http, resources};
use lab::http::get;
use lab::raw::{self, Request};
use lab::{HTTP_PORT, Mesh, RAW_PORT, WEB, eventually, root};
use serde_json::{Value, json};

/// A mesh whose listener has these routes, besides one of all other requests to s1. Clusters: `one` (s1), `raw` (by hand, in
/// s3), `mixed` (a closed port of s2, then s1), `dead` (a closed port).
fn mesh(test: &str, routes: &[Value]) -> Mesh {
    mesh_with(test, routes, |_| {})
}

fn mesh_with(test: &str, routes: &[Value], change: impl FnOnce(&mut Value)) -> Mesh {
    let mut mesh = Mesh::bare(test);
    let mut routes = routes.to_vec();
    routes.push(
        json!({ "match": { "prefix": "/" }, "route": { "cluster": "one", "timeout": "0s" } }),
    );
    let hosts = json!([{ "name": "all", "domains": ["*"], "routes": routes }]);
    let closed = mesh.endpoint("s2", 9);
    let one = mesh.endpoint("s1", HTTP_PORT);
    let mut document = resources(
        &[http(mesh.vip(WEB), &hosts)],
        &[
            cluster("one", &[one]),
            cluster("raw", &[mesh.endpoint("s3", RAW_PORT)]),
            cluster("mixed", &[closed, one]),
            cluster("dead", &[closed]),
        ],
    );
    change(&mut document);
    mesh.configure(&document);
    mesh.enrol(&lab::LOCAL);
    mesh.start();
    mesh.serve("s1");
    mesh
}

fn to(prefix: &str, cluster: &str, more: Value) -> Value {
    let mut action = json!({ "cluster": cluster });
    merge(&mut action, more);
    json!({ "match": { "prefix": prefix }, "route": action })
}

fn merge(into: &mut Value, from: Value) {
    let Value::Object(from) = from else {
        panic!("{from} is not an object");
    };
    into.as_object_mut().unwrap().extend(from);
}

/// Serves by hand: every request is reported, and answered with the next of these responses, the last one for ever.
fn answer(mesh: &Mesh, responses: &'static [&'static str]) -> (Agent, Receiver<Request>) {
    let (sender, requests) = channel();
    let (sender, at) = (Mutex::new(sender), AtomicU32::new(0));
    let agent = raw::serve(mesh, move |mut connection| {
        while let Some(request) = connection.request() {
            let number = at.fetch_add(1, Ordering::SeqCst) as usize;
            let _ = sender.lock().unwrap().send(request);
            let response = responses[number.min(responses.len() - 1)];
            if response.is_empty() || connection.stream.write_all(response.as_bytes()).is_err() {
                return;
            }
        }
    });
    (agent, requests)
}

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\nx-old: 1\r\n\r\nok";
const BUSY: &str = "HTTP/1.1 503 Service Unavailable\r\ncontent-length: 4\r\n\r\nbusy";
const FAULT: &str = "type.googleapis.com/envoy.extensions.filters.http.fault.v3.HTTPFault";
const NEVER: Duration = Duration::from_secs(10);

fn next(requests: &Receiver<Request>) -> Request {
    requests.recv_timeout(NEVER).unwrap()
}

#[test]
fn paths_hosts_and_headers_change_on_the_way() {
    if !root("paths_hosts_and_headers_change_on_the_way") {
        return;
    }
    let mut headers = to(
        "/h",
        "raw",
        json!({ "prefix_rewrite": "/new", "host_rewrite_literal": "inner.test" }),
    );
    merge(
        &mut headers,
        json!({
            "request_headers_to_add": [
                { "header": { "key": "x-added", "value": "100%%" } },
                { "header": { "key": "x-over", "value": "new" }, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD" },
            ],
            "request_headers_to_remove": ["x-secret"],
            "response_headers_to_add": [{ "header": { "key": "x-new", "value": "2" } }],
            "response_headers_to_remove": ["x-old"],
        }),
    );
    let regex = to(
        "/service",
        "raw",
        json!({ "regex_rewrite": { "pattern": { "regex": "^/service/([^/]+)(/.*)$" }, "substitution": "\\2/instance/\\1" } }),
    );
    let mesh = mesh("change", &[headers, regex]);
    let (_agent, requests) = answer(&mesh, &[OK]);
    let mut client = mesh.connect();
    let response = client.get(
        "/h/x?q=/h",
        "x-secret: s\r\nx-over: old\r\nx-over: older\r\n",
    );
    assert_eq!(
        (response.status, response.body.as_slice()),
        (200, &b"ok"[..])
    );
    assert_eq!(
        (response.header("x-new"), response.header("x-old")),
        ("2", "")
    );
    let seen = next(&requests);
    assert_eq!(seen.line, "GET /new/x?q=/h");
    let head = seen.head.to_lowercase();
    for line in ["host: inner.test", "x-added: 100%", "x-over: new"] {
        assert_eq!(
            head.matches(&format!("\r\n{line}\r\n")).count(),
            1,
            "{line}: {head}"
        );
    }
    assert!(
        !head.contains("x-secret") && !head.contains("old"),
        "{head}"
    );
    client.get("/service/foo/v1/api", "");
    assert_eq!(next(&requests).line, "GET /v1/api/instance/foo");
    let reasons = mesh.requests().by_reason;
    assert_eq!(
        (reasons["rewrite"], reasons["header_mutation"]),
        (2, 0),
        "{reasons:?}"
    );
}

#[test]
fn time_limits_end_in_504() {
    if !root("time_limits_end_in_504") {
        return;
    }
    let late = to("/late", "one", json!({ "timeout": "0.3s" }));
    let tries = json!({ "timeout": "0s", "retry_policy": { "retry_on": "5xx", "num_retries": 1, "per_try_timeout": "0.2s" } });
    let mesh = mesh("late", &[late, to("/try", "raw", tries)]);
    let (_agent, requests) = answer(&mesh, &[""]);
    let mut client = mesh.connect();
    let begun = Instant::now();
    let response = client.get("/late?delay=5s", "");
    assert_eq!(response.status, 504);
    assert_eq!(response.body, b"upstream request timeout");
    let took = begun.elapsed().as_secs_f64();
    assert!((0.3..4.0).contains(&took), "{took} s");
    assert_eq!(client.get("/late", "").status, 200);
    drop(requests);
    let reset = client.get("/try", "");
    let words = "upstream connect error or disconnect/reset before headers. retried and the latest reset reason: connection termination";
    assert_eq!(
        (reset.status, String::from_utf8(reset.body).unwrap()),
        (503, words.to_owned())
    );
    assert_eq!(mesh.requests().by_reason["timeout"], 2);
}

#[test]
fn a_try_has_its_own_limit() {
    if !root("a_try_has_its_own_limit") {
        return;
    }
    let tries = json!({ "retry_policy": { "retry_on": "5xx", "num_retries": 2, "per_try_timeout": "0.2s" } });
    let mesh = mesh("try", &[to("/try", "raw", tries)]);
    let count = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&count);
    let _agent = raw::serve(&mesh, move |mut connection| {
        while connection.request().is_some() {
            // The third one is answered; the others wait until they are given up.
            if counted.fetch_add(1, Ordering::SeqCst) == 2 {
                connection.stream.write_all(OK.as_bytes()).unwrap();
            }
        }
    });
    let mut client = mesh.connect();
    assert_eq!(client.get("/try", "").status, 200);
    assert_eq!(count.load(Ordering::SeqCst), 3);
    let response = {
        count.store(10, Ordering::SeqCst);
        client.get("/try", "")
    };
    assert_eq!(
        (response.status, response.body.as_slice()),
        (504, &b"upstream request timeout"[..])
    );
}

#[test]
fn retries_take_another_endpoint_and_send_the_body_again() {
    if !root("retries_take_another_endpoint_and_send_the_body_again") {
        return;
    }
    let connect = json!({ "retry_policy": { "retry_on": "connect-failure", "num_retries": 1 } });
    let status = json!({ "retry_policy": { "retry_on": "retriable-status-codes", "retriable_status_codes": [503], "num_retries": 3 } });
    let dead = json!({ "retry_policy": { "retry_on": "5xx", "num_retries": 2 } });
    let mesh = mesh(
        "retry",
        &[
            to("/mixed", "mixed", connect),
            to("/status", "raw", status),
            to("/dead", "dead", dead),
        ],
    );
    let mut client = mesh.connect();
    for turn in 0..6 {
        let response = client.get("/mixed", "");
        assert_eq!(
            (response.status, response.server()),
            (200, "s1"),
            "turn {turn}"
        );
    }
    let (_agent, requests) = answer(&mesh, &[BUSY, BUSY, OK, BUSY]);
    client.send("POST /status HTTP/1.1\r\nHost: svc.test\r\nContent-Length: 5\r\n\r\nhello");
    assert_eq!(client.receive(false).status, 200);
    for _ in 0..3 {
        assert_eq!(next(&requests).body, b"hello");
    }
    let last = client.get("/status", "");
    assert_eq!(
        (last.status, last.body.as_slice()),
        (503, &b"busy"[..]),
        "the last response is kept"
    );
    for _ in 0..4 {
        next(&requests);
    }
    let dead = client.get("/dead", "");
    let words = "upstream connect error or disconnect/reset before headers. retried and the latest reset reason: remote connection failure";
    assert_eq!(
        (dead.status, String::from_utf8(dead.body).unwrap()),
        (503, words.to_owned())
    );
}

#[test]
fn faults_are_made_on_purpose() {
    if !root("faults_are_made_on_purpose") {
        return;
    }
    let all = json!({ "numerator": 100 });
    let with = |prefix: &str, fault: Value| {
        let mut route = to(prefix, "one", json!({}));
        let mut config = json!({ "@type": FAULT });
        merge(&mut config, fault);
        merge(
            &mut route,
            json!({ "typed_per_filter_config": { "fault": config } }),
        );
        route
    };
    let routes = [
        with(
            "/abort",
            json!({ "abort": { "http_status": 418, "percentage": all } }),
        ),
        with(
            "/half",
            json!({ "abort": { "http_status": 418, "percentage": { "numerator": 50 } } }),
        ),
        with(
            "/delay",
            json!({ "delay": { "fixed_delay": "0.3s", "percentage": all } }),
        ),
    ];
    let mesh = mesh_with("fault", &routes, |document| {
        let filters = &mut document["static_resources"]["listeners"][0]["filter_chains"][0]["filters"]
            [0]["typed_config"]["http_filters"];
        let filter = json!({ "name": "fault", "typed_config": { "@type": FAULT } });
        filters.as_array_mut().unwrap().insert(0, filter);
    });
    let mut client = mesh.connect();
    let abort = client.get("/abort", "");
    assert_eq!(
        (abort.status, abort.body.as_slice()),
        (418, &b"fault filter abort"[..])
    );
    let begun = Instant::now();
    assert_eq!(client.get("/delay", "").status, 200);
    assert!(begun.elapsed() >= Duration::from_millis(300));
    let aborted = (0..100)
        .filter(|_| client.get("/half", "").status == 418)
        .count();
    assert!((20..=80).contains(&aborted), "{aborted} of 100");
    assert_eq!(client.get("/other", "").status, 200);
    assert_eq!(mesh.requests().by_reason["fault"], 102);
}

#[test]
fn mirrors_get_a_copy() {
    if !root("mirrors_get_a_copy") {
        return;
    }
    let mirrored = json!({ "request_mirror_policies": [{ "cluster": "raw" }] });
    let mesh = mesh("mirror", &[to("/mirrored", "one", mirrored)]);
    let (_agent, requests) = answer(&mesh, &[BUSY]);
    let mut client = mesh.connect();
    client.send("POST /mirrored HTTP/1.1\r\nHost: svc.test:80\r\nContent-Length: 5\r\n\r\nhello");
    let response = client.receive(false);
    assert_eq!(
        (response.status, response.server()),
        (200, "s1"),
        "the copy's answer is nobody's"
    );
    let copy = next(&requests);
    assert_eq!(
        (copy.line.as_str(), copy.body.as_slice()),
        ("POST /mirrored", &b"hello"[..])
    );
    assert!(
        copy.head
            .to_lowercase()
            .contains("host: svc.test-shadow:80\r\n"),
        "{}",
        copy.head
    );
}

#[test]
fn an_upgrade_is_pinned_to_its_upstream() {
    if !root("an_upgrade_is_pinned_to_its_upstream") {
        return;
    }
    let websocket = json!({ "upgrade_configs": [{ "upgrade_type": "websocket" }] });
    let mesh = mesh(
        "upgrade",
        &[
            to("/chat", "raw", websocket),
            to("/plain", "raw", json!({})),
        ],
    );
    let _agent = raw::serve(&mesh, |mut connection| {
        let Some(request) = connection.head() else {
            return;
        };
        let head = request.head.to_lowercase();
        assert!(
            head.contains("upgrade: websocket\r\n") && head.contains("connection: upgrade\r\n"),
            "{head}"
        );
        let switch = "HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\r\nhello";
        connection.stream.write_all(switch.as_bytes()).unwrap();
        // Whatever comes now is echoed, until the end.
        while let Ok(bytes) = connection.some() {
            connection.stream.write_all(&bytes).unwrap();
        }
    });
    let upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\n";
    let mut refused = mesh.connect();
    assert_eq!(refused.get("/plain", upgrade).status, 403);
    let mut client = mesh.connect();
    client.send(get("/chat", upgrade));
    let switched = client.one(false).unwrap();
    assert_eq!(
        (switched.status, switched.header("upgrade")),
        (101, "websocket")
    );
    assert_eq!(client.bytes(5), b"hello");
    // What looks like a request is not one any more.
    let tunnelled = get("/one", "");
    for _ in 0..5 {
        client.send(&tunnelled);
        assert_eq!(client.bytes(tunnelled.len()), tunnelled.as_bytes());
    }
    assert_eq!(mesh.requests().kernel, 0);
}

#[test]
fn circuit_breakers_open_in_envoys_words() {
    if !root("circuit_breakers_open_in_envoys_words") {
        return;
    }
    let mesh = mesh_with(
        "breaker",
        &[to("/raw", "raw", json!({ "timeout": "0s" }))],
        |document| {
            let limits =
                json!({ "thresholds": [{ "max_connections": 1, "max_pending_requests": 1 }] });
            document["static_resources"]["clusters"][1]["circuit_breakers"] = limits;
        },
    );
    let (release, held) = channel::<()>();
    let held = Mutex::new(held);
    let busy = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&busy);
    let _agent = raw::serve(&mesh, move |mut connection| {
        while connection.request().is_some() {
            assert_eq!(counted.fetch_add(1, Ordering::SeqCst), 0, "one at a time");
            held.lock().unwrap().recv().unwrap();
            counted.fetch_sub(1, Ordering::SeqCst);
            connection.stream.write_all(OK.as_bytes()).unwrap();
        }
    });
    let mut first = mesh.connect();
    first.send(get("/raw", ""));
    eventually("the first request has the connection", || {
        let count = busy.load(Ordering::SeqCst);
        if count == 1 {
            Ok(())
        } else {
            Err(format!("{count} requests"))
        }
    });
    let mut second = mesh.connect();
    second.send(get("/raw", ""));
    eventually("the second request waits", || {
        let user = mesh.requests().user;
        if user == 2 {
            Ok(())
        } else {
            Err(format!("{user} in user space"))
        }
    });
    let mut third = mesh.connect();
    // The second may not have got its place yet: then the third has it, and the second is refused instead.
    let refused = third.get("/raw", "");
    let words = "upstream connect error or disconnect/reset before headers. reset reason: overflow";
    assert_eq!(
        (refused.status, String::from_utf8(refused.body).unwrap()),
        (503, words.to_owned())
    );
    release.send(()).unwrap();
    assert_eq!(first.receive(false).status, 200);
    release.send(()).unwrap();
    assert_eq!(second.receive(false).status, 200);
    // The kernel keeps to it as well.
    for _ in 0..20 {
        release.send(()).unwrap();
        assert_eq!(first.get("/raw", "").status, 200);
    }
    let leases = mesh.status().leases;
    assert!(leases.violations.is_empty(), "{leases:?}");
}

#[test]
fn unused_upstreams_are_closed() {
    if !root("unused_upstreams_are_closed") {
        return;
    }
    let mesh = mesh_with("idle", &[to("/raw", "raw", json!({}))], |document| {
        let options = json!({
            "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
            "common_http_protocol_options": { "idle_timeout": "1s" },
            "explicit_http_config": { "http_protocol_options": {} },
        });
        document["static_resources"]["clusters"][0]["typed_extension_protocol_options"] =
            json!({ "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": options });
    });
    let mut client = mesh.connect();
    mesh.warm(&mut client, &[("/", "")]);
    eventually("the upstream is closed", || {
        let status = mesh.status();
        if status.upstreams == 0 && status.leases.user == 0 {
            Ok(())
        } else {
            Err(format!("{:?}", status.leases))
        }
    });
    assert_eq!(client.get("/", "").status, 200);
}

#[test]
fn pools_grow_ahead_of_demand() {
    if !root("pools_grow_ahead_of_demand") {
        return;
    }
    let mesh = mesh("grow", &[to("/raw", "raw", json!({}))]);
    let mut clients: Vec<_> = (0..12).map(|_| mesh.connect()).collect();
    for client in &mut clients {
        client.send(get("/?delay=200ms", ""));
    }
    for client in &mut clients {
        assert_eq!(client.receive(false).status, 200);
    }
    eventually("there are more than were needed", || {
        let leases = mesh.status().leases;
        if leases.free > 12 && leases.violations.is_empty() {
            Ok(())
        } else {
            Err(format!("{leases:?}"))
        }
    });
}

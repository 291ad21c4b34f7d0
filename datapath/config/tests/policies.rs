//! What is read of the policies: from which level, in which order, and which of them are no-ops.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::time::Duration;

use kmesh_api::Reason;
use kmesh_config::policy::{AppendAction, PathRewrite, RetryOn, Share};
use kmesh_config::{Classes, Compiled, Identities, compile, parse};

const BASE: &str = include_str!("base.yaml");

fn changed(changes: &[(&str, &str)]) -> Compiled {
    let mut text = BASE.to_owned();
    for (from, to) in changes {
        assert!(text.contains(from), "the base has no {from:?}");
        text = text.replacen(from, to, 1);
    }
    let config = parse(&text, "base.yaml").unwrap();
    compile(&config, &mut Identities::default(), Classes::default()).unwrap()
}

/// The first route's action with `fields` in it.
fn action(fields: &str) -> Compiled {
    changed(&[("{ cluster: a }", &format!("{{ cluster: a, {fields} }}"))])
}

fn passed(compiled: &Compiled) -> Option<Reason> {
    Reason::from_number(compiled.image.routes[0].passed).filter(|reason| *reason != Reason::Local)
}

#[test]
fn each_policy_has_its_reason() {
    for (fields, reason) in [
        ("timeout: 1s", Reason::Timeout),
        ("retry_policy: { retry_on: 5xx }", Reason::Retry),
        ("retry_policy: { per_try_timeout: 1s }", Reason::Retry),
        ("prefix_rewrite: /other", Reason::Rewrite),
        ("host_rewrite_literal: other", Reason::Rewrite),
        ("request_mirror_policies: [{ cluster: b }]", Reason::Mirror),
    ] {
        assert_eq!(passed(&action(fields)), Some(reason), "{fields}");
    }
}

#[test]
fn what_changes_nothing_stays_in_the_kernel() {
    for fields in [
        "timeout: 0s",
        "retry_policy: { num_retries: 3 }",
        "retry_policy: { retry_on: 5xx, num_retries: 0 }",
        "prefix_rewrite: /exact",
        "prefix_rewrite: ''",
        "host_rewrite_literal: ''",
        "request_mirror_policies: [{ cluster: b, runtime_fraction: { default_value: { numerator: 0 } } }]",
        "upgrade_configs: [{ upgrade_type: websocket }]",
    ] {
        assert_eq!(passed(&action(fields)), None, "{fields}");
    }
}

#[test]
fn an_http2_cluster_keeps_its_routes_in_user_space() {
    let compiled = changed(&[(
        "    lb_policy: RANDOM\n",
        "    lb_policy: RANDOM\n    typed_extension_protocol_options:\n      \
         envoy.extensions.upstreams.http.v3.HttpProtocolOptions:\n        \
         \"@type\": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions\n        \
         common_http_protocol_options: { idle_timeout: 7s }\n        \
         explicit_http_config: { http2_protocol_options: {} }\n",
    )]);
    let reasons: Vec<u32> = compiled.image.routes[..3]
        .iter()
        .map(|route| route.passed)
        .collect();
    assert_eq!(reasons, [0, Reason::Http2 as u32, Reason::Http2 as u32]);
    let cluster = &compiled.policies.clusters[1].policy;
    assert!(cluster.http2);
    assert_eq!(cluster.idle_timeout, Some(Duration::from_secs(7)));
}

#[test]
fn headers_change_from_the_inside_out() {
    let compiled = changed(&[
        (
            "name: web\n            virtual",
            "name: web\n            request_headers_to_add: [{ header: { key: X-A, value: config } }]\n            virtual",
        ),
        (
            "- name: one\n",
            "- name: one\n              response_headers_to_remove: [x-gone]\n",
        ),
        (
            "{ name: a, weight: 9 }",
            "{ name: a, weight: 9, request_headers_to_add: [{ header: { key: x-a, value: '100%%' }, append_action: ADD_IF_ABSENT }] }",
        ),
    ]);
    let policy = &compiled.policies.routes[2];
    assert_eq!(policy.reason(), Some(Reason::HeaderMutation));
    let (cluster, first) = &policy.cluster_headers[0];
    assert_eq!(cluster, "a");
    assert_eq!(first.request.add[0].value, "100%");
    assert_eq!(first.request.add[0].action, AppendAction::AddIfAbsent);
    let [host, config] = policy.headers.as_slice() else {
        panic!("{:?}", policy.headers);
    };
    assert_eq!(host.response.remove, ["x-gone"]);
    assert_eq!(config.request.add[0].name, "x-a");
    assert_eq!(config.request.add[0].action, AppendAction::Append);
}

#[test]
fn retries_are_read() {
    let compiled = action(
        "retry_policy: { retry_on: 'connect-failure, retriable-status-codes', num_retries: 2, \
         retriable_status_codes: [503], per_try_timeout: 0.5s, retry_back_off: { base_interval: 0.01s } }",
    );
    let retry = compiled.policies.routes[0].retry.clone().unwrap();
    assert_eq!(retry.on, [RetryOn::ConnectFailure]);
    assert_eq!((retry.retries, retry.statuses), (2, vec![503]));
    assert_eq!(retry.per_try_timeout, Some(Duration::from_millis(500)));
    assert_eq!(retry.max_interval, Duration::from_millis(100));
}

#[test]
fn rewrites_know_what_matched() {
    let rewrite = |fields| action(fields).policies.routes[0].path_rewrite.clone();
    assert_eq!(
        rewrite("prefix_rewrite: /b"),
        Some(PathRewrite::Prefix("/exact".len(), "/b".to_owned()))
    );
    assert_eq!(
        rewrite("regex_rewrite: { pattern: { regex: 'e' }, substitution: '\\0\\0' }"),
        Some(PathRewrite::Regex {
            pattern: "e".to_owned(),
            substitution: "\\0\\0".to_owned()
        })
    );
}

const FILTER: &str = "- name: faults\n            typed_config:\n              \
    \"@type\": type.googleapis.com/envoy.extensions.filters.http.fault.v3.HTTPFault\n          \
    - name: envoy.filters.http.router";

#[test]
fn a_route_overrides_the_fault_filter() {
    let of_route = "name: n\n                typed_per_filter_config: { faults: { \"@type\": \
        type.googleapis.com/envoy.extensions.filters.http.fault.v3.HTTPFault, \
        abort: { http_status: 418, percentage: { numerator: 5, denominator: TEN_THOUSAND } } } }\n                \
        route: { cluster: a }";
    let compiled = changed(&[
        ("- name: envoy.filters.http.router", FILTER),
        ("route: { cluster: a }", of_route),
    ]);
    let fault = compiled.policies.routes[0].fault.clone().unwrap();
    assert_eq!(fault.abort, Some((418, Share(500))));
    assert_eq!(passed(&compiled), Some(Reason::Fault));
    assert_eq!(
        compiled.image.routes[2].passed, 0,
        "the filter itself does nothing"
    );
}

//! What this datapath cannot do is refused by file, resource, field and value, and nothing is left unread.
//!
//! Each case changes one place of `base.yaml`, which is accepted.

use kmesh_config::{Classes, Identities, compile, parse};
use serde_yaml_ng::Value;

const BASE: &str = include_str!("base.yaml");

/// The message for the base with `from` replaced by `to`, without the file name; `Ok` if it is accepted.
fn changed(from: &str, to: &str) -> Result<(), String> {
    assert!(BASE.contains(from), "the base has no {from:?}");
    let text = BASE.replacen(from, to, 1);
    let message = |error: kmesh_config::ConfigError| {
        let text = error.to_string();
        text.strip_prefix("base.yaml: ")
            .map_or(text.clone(), str::to_owned)
    };
    let config = parse(&text, "base.yaml").map_err(message)?;
    compile(&config, &mut Identities::default(), Classes::default())
        .map(|_| ())
        .map_err(message)
}

const WEB: &str = "listener \"web\": filter_chains[0].filters[0].typed_config";

#[track_caller]
fn refused(cases: &[(&str, &str, &str)]) {
    for (from, to, expected) in cases {
        let expected = expected.replace("WEB", WEB);
        assert_eq!(
            changed(from, to),
            Err(expected),
            "{from:?} replaced by {to:?}"
        );
    }
}

#[track_caller]
fn accepted(cases: &[(&str, &str)]) {
    for (from, to) in cases {
        assert_eq!(changed(from, to), Ok(()), "{from:?} replaced by {to:?}");
    }
}

#[test]
fn the_base_is_accepted() {
    accepted(&[("", "")]);
}

#[test]
fn routes() {
    let at = "WEB.route_config.virtual_hosts[0].routes";
    let case = |from: &'static str, to: &'static str, expected: &str| {
        refused(&[(from, to, &format!("{at}{expected}"))]);
    };
    case(
        "{ path: /exact }",
        "{ safe_regex: { regex: '/a\\b' } }",
        "[0].match.safe_regex: \"/a\\\\b\": \\b in a regular expression: not supported by this datapath",
    );
    case(
        "{ path: /exact }",
        "{ safe_regex: { regex: '/a{9999999}' } }",
        "[0].match.safe_regex: \"/a{9999999}\": is not a regular expression: heap usage during NFA compilation exceeded limit of 33554432",
    );
    case(
        "{ path: /exact }",
        "{ connect_matcher: {} }",
        "[0].match.connect_matcher: not supported by this datapath, which knows prefix, path, path_separated_prefix and safe_regex",
    );
    case(
        "{ path: /exact }",
        "{ path_separated_prefix: /a/ }",
        "[0].match.path_separated_prefix: \"/a/\": must begin with / and not end with it, and have no ? or #",
    );
    case(
        "{ path: /exact }",
        "{}",
        "[0].match: has neither prefix nor path nor path_separated_prefix nor safe_regex",
    );
    case(
        "{ path: /exact }",
        "{ path: /exact, prefix: / }",
        "[0].match.prefix: \"/\": stands beside another path: use one",
    );
    case(
        "{ path: /exact }",
        "{ path: /exact, case_sensitive: 1 }",
        "[0].match.case_sensitive: 1: expected true or false",
    );
    case(
        "{ path: /exact }",
        "{ path: /exact, query_parameters: [{ name: a, string_match: { custom: {} } }] }",
        "[0].match.query_parameters[0].string_match.custom: not supported by this datapath",
    );
    case(
        "{ path: /exact }",
        "{ path: /exact, query_parameters: [{ name: a, string_match: { exact: b }, present_match: true }] }",
        "[0].match.query_parameters[0].present_match: stands beside another match: use one",
    );
    case(
        "{ path: /exact }",
        "{ path: /exact, runtime_fraction: { default_value: { numerator: 1, denominator: TEN } } }",
        "[0].match.runtime_fraction.default_value.denominator: \"TEN\": not supported by this datapath, which knows HUNDRED and TEN_THOUSAND and MILLION",
    );
    case(
        "{ path: /exact }",
        "{ path: /exact, dynamic_metadata: [{}] }",
        "[0].match.dynamic_metadata: not supported by this datapath",
    );
    case(
        "{ path: /exact }",
        "{ path: 5 }",
        "[0].match.path: 5: expected a string",
    );
    case(
        "route: { cluster: a }",
        "redirect: { regex_rewrite: {} }",
        "[0].redirect.regex_rewrite: not supported by this datapath",
    );
    case(
        "route: { cluster: a }",
        "redirect: { https_redirect: true, scheme_redirect: ws }",
        "[0].redirect.https_redirect: true: stands beside scheme_redirect: use one",
    );
    case(
        "route: { cluster: a }",
        "redirect: { response_code: GONE }",
        "[0].redirect.response_code: \"GONE\": not supported by this datapath, which knows MOVED_PERMANENTLY and FOUND and \
         SEE_OTHER and TEMPORARY_REDIRECT and PERMANENT_REDIRECT",
    );
    case(
        "route: { cluster: a }",
        "route: { cluster: a }\n                redirect: {}",
        "[0].redirect: stands beside another action: use one",
    );
    case(
        "route: { cluster: a }",
        "filter_action: {}",
        "[0].filter_action: not supported by this datapath, which knows route, redirect and direct_response",
    );
    case(
        "route: { cluster: a }",
        "direct_response: { status: 600 }",
        "[0].direct_response.status: 600: must be from 200 to 599",
    );
    case(
        "route: { cluster: a }",
        "direct_response: { status: 200, body: { filename: /x } }",
        "[0].direct_response.body.inline_string: is missing",
    );
    case("route: { cluster: a }", "name: n", "[0].route: is missing");
    case(
        "{ cluster: a }",
        "{ cluster: c }",
        "[0].route.cluster: \"c\": no such cluster",
    );
    case(
        "{ cluster: a }",
        "{}",
        "[0].route: has neither cluster nor weighted_clusters nor cluster_header",
    );
    case(
        "{ cluster: a }",
        "{ cluster_header: x, cluster: a }",
        "[0].route.cluster_header: \"x\": stands beside another target: use one",
    );
    case(
        "{ cluster: a }",
        "{ cluster_header: Host }",
        "[0].route.cluster_header: \"host\": cannot be matched on: the virtual host's domains match it",
    );
    case(
        "{ cluster: a }",
        "{ cluster: a, timeout: soon }",
        "[0].route.timeout: \"soon\": expected a duration such as 0.25s",
    );
    case(
        "{ cluster: a }",
        "{ cluster: a, retry_policy: { retry_on: '5xx,envoy-ratelimited' } }",
        "[0].route.retry_policy.retry_on: \"5xx,envoy-ratelimited\": this datapath has no condition envoy-ratelimited",
    );
    case(
        "{ cluster: a }",
        "{ cluster: a, regex_rewrite: { pattern: { regex: '(' } } }",
        "[0].route.regex_rewrite.pattern.regex: \"(\": is not a regular expression: error: unclosed group",
    );
    case(
        "{ cluster: a }",
        "{ cluster: a, request_mirror_policies: [{ cluster: c }] }",
        "[0].route.request_mirror_policies[0].cluster: \"c\": no such cluster",
    );
    case(
        "{ cluster: a }",
        "{ cluster: a, upgrade_configs: [{ upgrade_type: CONNECT }] }",
        "[0].route.upgrade_configs[0].upgrade_type: \"CONNECT\": tunnels are not supported by this datapath",
    );
    case(
        "{ cluster: a }",
        "{ cluster: a, clutser: b }",
        "[0].route.clutser: \"b\": not supported by this datapath",
    );
    case(
        "route: { cluster: a }",
        "route: { cluster: a }\n                request_headers_to_add: [{ header: { key: a, value: '%PROTOCOL%' } }]",
        "[0].request_headers_to_add[0].header.value: \"%PROTOCOL%\": this datapath has no substitutions such as %PROTOCOL%",
    );
    case(
        "route: { cluster: a }",
        "route: { cluster: a }\n                response_headers_to_remove: [content-length]",
        "[0].response_headers_to_remove[0]: \"content-length\": cannot be changed: message boundaries or routing depend on it",
    );
    accepted(&[
        (
            "{ cluster: a }",
            "{ cluster: a, timeout: 0s, priority: DEFAULT }",
        ),
        (
            "{ path: /exact }",
            "{ path: /exact, case_sensitive: true, headers: [] }",
        ),
        ("{ path: /exact }", "{ prefix: '' }"),
    ]);
}

#[test]
fn weights() {
    let at = "WEB.route_config.virtual_hosts[0].routes[2].route.weighted_clusters";
    let case = |from: &'static str, to: &'static str, expected: &str| {
        refused(&[(from, to, &format!("{at}{expected}"))]);
    };
    case(
        "{ name: b, weight: 1 }",
        "{ name: c, weight: 1 }",
        ".clusters[1].name: \"c\": no such cluster",
    );
    case(
        "{ name: b, weight: 1 }",
        "{ name: b }",
        ".clusters[1].weight: is missing",
    );
    case(
        "{ name: b, weight: 1 }",
        "{ name: b, weight: -1 }",
        ".clusters[1].weight: -1: expected a number from 0 to 4294967295",
    );
    case(
        "{ name: b, weight: 1 }",
        "{ name: b, weight: 4294967295 }",
        ".clusters: the weights' sum 4294967304 is more than 4294967295",
    );
    case(
        "[{ name: a, weight: 9 }, { name: b, weight: 1 }]",
        "[{ name: a, weight: 0 }]",
        ".clusters: the weights must not all be 0",
    );
    case(
        "[{ name: a, weight: 9 }, { name: b, weight: 1 }]",
        "[]",
        ".clusters: the weights must not all be 0",
    );
    case(
        "{ name: b, weight: 1 }] }",
        "{ name: b, weight: 1 }], header_name: TE }",
        ".header_name: \"te\": cannot be matched on: Envoy removes it before it routes, this datapath does not",
    );
}

#[test]
fn headers() {
    let at = "WEB.route_config.virtual_hosts[0].routes[1].match.headers[0]";
    let case = |from: &'static str, to: &'static str, expected: &str| {
        refused(&[(from, to, &format!("{at}{expected}"))]);
    };
    case(
        "{ exact: jason }",
        "{ custom: {} }",
        ".string_match.custom: not supported by this datapath",
    );
    case(
        "{ exact: jason }",
        "{ exact: jason, prefix: j }",
        ".string_match.prefix: \"j\": stands beside another match: use one",
    );
    case(
        "{ exact: jason }",
        "{ exact: 5 }",
        ".string_match.exact: 5: expected a string",
    );
    case(
        ", string_match: { exact: jason }",
        "",
        ": has neither string_match nor range_match nor present_match",
    );
    case(
        "string_match: { exact: jason }",
        "string_match: { exact: jason }, present_match: true",
        ".present_match: stands beside another match: use one",
    );
    case(
        "string_match: { exact: jason }",
        "range_match: { start: 1, end: x }",
        ".range_match.end: \"x\": expected a whole number of 64 bits",
    );
    case(
        "{ exact: jason }",
        "{ safe_regex: { regex: 'a\\b' } }",
        ": \\b in a regular expression: not supported by this datapath",
    );
    case(
        "{ exact: jason }",
        "{ safe_regex: { regex: j }, ignore_case: true }",
        ".string_match.safe_regex: stands beside another match or ignore_case",
    );
    case(
        "string_match: { exact: jason }",
        "exact_match: ''",
        ".exact_match: must not be empty",
    );
    case(
        "string_match: { exact: jason }",
        "exact_match: j, prefix_match: j",
        ".prefix_match: stands beside another match: use one",
    );
    let names = [
        ("Host", "host", "the virtual host's domains match it"),
        (
            "connection",
            "connection",
            "the datapath needs it to find message boundaries",
        ),
        (
            "':status'",
            ":status",
            "only :method, :path, :authority and :scheme of the pseudo headers are supported by this datapath",
        ),
        (
            "te",
            "te",
            "Envoy removes it before it routes, this datapath does not",
        ),
        (
            "X-Envoy-Internal",
            "x-envoy-internal",
            "Envoy writes it before it routes, this datapath does not",
        ),
        (
            "x-request-id",
            "x-request-id",
            "Envoy writes it before it routes, this datapath does not",
        ),
    ];
    for (written, name, why) in names {
        let expected = format!("{at}.name: {name:?}: cannot be matched on: {why}");
        refused(&[("end-user", written, &expected)]);
    }
    accepted(&[
        ("string_match: { exact: jason }", "exact_match: jason"),
        ("{ exact: jason }", "{ exact: '' }"),
        ("end-user", "User-Agent"),
        (
            "string_match: { exact: jason }",
            "string_match: { exact: jason, ignore_case: false }, invert_match: false",
        ),
    ]);
}

#[test]
fn virtual_hosts() {
    let at = "WEB.route_config.virtual_hosts";
    let case = |from: &'static str, to: &'static str, expected: &str| {
        refused(&[(from, to, &format!("{at}{expected}"))]);
    };
    case("name: one\n", "name: ''\n", "[0].name: must not be empty");
    case(
        "name: two",
        "name: one",
        "[1].name: \"one\" is the name of an earlier virtual host too",
    );
    case(
        "domains: [\"two.*\"]",
        "domains: [ONE.test]",
        "[1].domains[0]: \"ONE.test\" is a domain of virtual host \"one\" too",
    );
    case(
        "domains: [\"two.*\"]",
        "domains: []",
        "[1].domains: must not be empty",
    );
    case(
        "domains: [\"two.*\"]",
        "domains: two",
        "[1].domains: \"two\": expected a list",
    );
    case("domains: [\"two.*\"]\n", "\n", "[1].domains: is missing");
    case(
        "name: two",
        "name: two\n              require_tls: ALL",
        "[1].require_tls: \"ALL\": not supported by this datapath, which knows NONE",
    );
    case(
        "name: two",
        "name: two\n              retry_policy: { retry_priority: {} }",
        "[1].retry_policy.retry_priority: not supported by this datapath",
    );
}

#[test]
fn listeners() {
    refused(&[
        (
            "name: echo\n",
            "name: web\n",
            "listener \"web\": name: is the name of an earlier listener too",
        ),
        (
            "\"fd00::1\", port_value: 9000",
            "\"::ffff:10.96.0.1\", port_value: 80",
            "listener \"echo\": address: 10.96.0.1:80: is the address of listener \"web\" too",
        ),
        (
            "address: 10.96.0.1",
            "address: web.test",
            "listener \"web\": address.socket_address.address: \"web.test\": expected an IP address",
        ),
        (
            "address: 10.96.0.1",
            "address: 224.0.0.1",
            "listener \"web\": address: 224.0.0.1:80: must be an address and port of services",
        ),
        (
            "port_value: 80 }",
            "port_value: 65536 }",
            "listener \"web\": address.socket_address.port_value: 65536: expected a port from 1 to 65535",
        ),
        (
            "port_value: 80 }",
            "port_value: 80, protocol: UDP }",
            "listener \"web\": address.socket_address.protocol: \"UDP\": not supported by this datapath, which knows TCP",
        ),
        (
            "{ socket_address: { address: 10.96.0.1, port_value: 80 } }",
            "{ pipe: { path: /x } }",
            "listener \"web\": address.socket_address: is missing",
        ),
        (
            "- filters:\n      - name: envoy.filters.network.tcp_proxy",
            "- transport_socket: { name: tls, typed_config: { '@type': a/b } }\n      filters:\n      - name: envoy.filters.network.tcp_proxy",
            "listener \"echo\": filter_chains[0].transport_socket.typed_config.@type: \"a/b\": not supported by this datapath, \
             which has no TLS and sends nothing in plain text instead",
        ),
        (
            "- filters:\n      - name: envoy.filters.network.tcp_proxy",
            "- filter_chain_match: { source_ports: [1] }\n      filters:\n      - name: envoy.filters.network.tcp_proxy",
            "listener \"echo\": filter_chains[0].filter_chain_match.source_ports: not supported by this datapath",
        ),
        (
            "    filter_chains:\n    - filters:\n      - name: envoy.filters.network.tcp",
            "    filter_chains:\n    - {}\n    - filters:\n      - name: envoy.filters.network.tcp",
            "listener \"echo\": filter_chains[0].filters: is missing",
        ),
        (
            "tcp_proxy.v3.TcpProxy",
            "redis_proxy.v3.RedisProxy",
            "listener \"echo\": filter_chains[0].filters[0].typed_config.@type: \
             \"type.googleapis.com/envoy.extensions.filters.network.redis_proxy.v3.RedisProxy\": not supported by \
             this datapath, which knows HttpConnectionManager and TcpProxy",
        ),
        (
            "name: echo\n",
            "name: echo\n    listener_filters: [{ name: proxy_protocol }]\n",
            "listener \"echo\": listener_filters[0]: not supported by this datapath",
        ),
    ]);
    accepted(&[
        ("name: web\n    address", "address"),
        ("cluster: b\n", "cluster: c\n"),
        (
            "name: echo\n",
            "name: echo\n    bind_to_port: false\n    traffic_direction: OUTBOUND\n",
        ),
        (
            "cluster: b\n",
            "idle_timeout: 0s\n          weighted_clusters: { clusters: [{ name: b, weight: 3 }] }\n",
        ),
    ]);
}

#[test]
fn http_connection_managers() {
    refused(&[
        (
            "route_config:",
            "rds: {}\n          route_config:",
            "WEB.rds: stands beside route_config: use one",
        ),
        (
            "stat_prefix: web",
            "stat_prefix: web\n          codec_type: HTTP3",
            "WEB.codec_type: \"HTTP3\": not supported by this datapath, which knows AUTO and HTTP1 and HTTP2",
        ),
        ("stat_prefix: web\n", "\n", "WEB.stat_prefix: is missing"),
        (
            "stat_prefix: web",
            "stat_prefix: web\n          add_user_agent: true",
            "WEB.add_user_agent: true: not supported by this datapath, only where it is off",
        ),
        (
            "stat_prefix: web",
            "stat_prefix: web\n          stream_idle_timeout: 5s",
            "WEB.stream_idle_timeout: \"5s\": not supported by this datapath, only where it is off",
        ),
        (
            "- name: envoy.filters.http.router",
            "- name: envoy.filters.http.fault\n          - name: envoy.filters.http.router",
            "WEB.http_filters[0].typed_config: is missing",
        ),
        (
            "router.v3.Router",
            "fault.v3.HTTPFault",
            "WEB.http_filters[0].typed_config.@type: \
             \"type.googleapis.com/envoy.extensions.filters.http.fault.v3.HTTPFault\": not supported by this \
             datapath, which knows Router, and before it HTTPFault and filters that only watch",
        ),
    ]);
    accepted(&[
        (
            "stat_prefix: web",
            "stat_prefix: web\n          generate_request_id: false",
        ),
        (
            "stat_prefix: web",
            "stat_prefix: web\n          codec_type: HTTP1\n          access_log: []",
        ),
        (
            "stat_prefix: web",
            "stat_prefix: web\n          stream_idle_timeout: 0s\n          codec_type: null",
        ),
    ]);
}

#[test]
fn clusters() {
    refused(&[
        (
            "- name: b\n",
            "- name: a\n",
            "cluster \"a\": name: is the name of an earlier cluster too",
        ),
        (
            "type: STATIC",
            "type: LOGICAL_DNS",
            "cluster \"a\": type: \"LOGICAL_DNS\": not supported by this datapath, which knows STATIC and EDS and ORIGINAL_DST",
        ),
        (
            "lb_policy: RANDOM",
            "lb_policy: MAGLEV",
            "cluster \"b\": lb_policy: \"MAGLEV\": not supported by this datapath, which knows ROUND_ROBIN and RANDOM",
        ),
        (
            "connect_timeout: 0.25s",
            "connect_timeout: 0s",
            "cluster \"a\": connect_timeout: \"0s\": must be more than 0s",
        ),
        (
            "connect_timeout: 0.25s",
            "connect_timeout: 250ms",
            "cluster \"a\": connect_timeout: \"250ms\": expected a duration such as 0.25s",
        ),
        (
            "connect_timeout: 0.25s",
            "health_checks: [{}]",
            "cluster \"a\": health_checks: not supported by this datapath",
        ),
        (
            "connect_timeout: 0.25s",
            "transport_socket: { name: tls, typed_config: { '@type': a/b } }",
            "cluster \"a\": transport_socket.typed_config.@type: \"a/b\": not supported by this datapath, which has no TLS and \
             sends nothing in plain text instead",
        ),
        (
            "max_requests: 7",
            "max_requests: 6",
            "cluster \"b\": circuit_breakers.thresholds[0].max_requests: 6: this datapath bounds requests by \
             max_connections only, which is larger",
        ),
        (
            "address: \"fd00::2\"",
            "address: 10.244.0.2",
            "cluster \"a\": load_assignment: 10.244.0.2:8080 is there twice",
        ),
        (
            "- endpoint: { address: { socket_address: { address: 10.244.0.2",
            "- load_balancing_weight: 2\n          endpoint: { address: { socket_address: { address: 10.244.0.2",
            "cluster \"a\": load_assignment.endpoints[0].lb_endpoints[0].load_balancing_weight: 2: this datapath gives \
             every endpoint the same weight, 1",
        ),
        (
            "- lb_endpoints:",
            "- priority: 1\n        lb_endpoints:",
            "cluster \"a\": load_assignment.endpoints[0].priority: 1: not supported by this datapath, only where it is off",
        ),
    ]);
}

#[test]
fn documents() {
    let message = |text: &str| parse(text, "f.yaml").unwrap_err().to_string();
    assert_eq!(
        message("{}"),
        "f.yaml: has neither static_resources nor listeners"
    );
    assert_eq!(message("[]"), "f.yaml: expected an object");
    assert_eq!(message("a: ["), "f.yaml: is not YAML");
    assert_eq!(
        message("static_resources: {}\ndynamic_resources: {}"),
        "f.yaml: dynamic_resources: not supported by this datapath"
    );
    assert!(parse("static_resources: {}\nadmin: {}", "").is_ok());
    assert_eq!(
        message("static_resources: {}\nlisteners: []"),
        "f.yaml: static_resources: stands beside listeners or clusters: use one form"
    );
    assert_eq!(
        message("listeners: []\n1: 2"),
        "f.yaml: has a field whose name is not a string"
    );
    let bare = BASE.replace("static_resources:", "");
    assert_eq!(parse(&bare, "").unwrap(), parse(BASE, "").unwrap());
}

/// Calls `visit` with a copy of `document` for each object in it, a field `zzz` put there, and the field's path.
fn with_unknown_fields(document: &Value, visit: &mut dyn FnMut(&Value, &str)) {
    fn walk(root: &Value, path: &[Value], name: &str, visit: &mut dyn FnMut(&Value, &str)) {
        let mut copy = root.clone();
        let mut here = &mut copy;
        for key in path {
            here = match key {
                Value::Number(index) => &mut here[index.as_u64().unwrap_or_default() as usize],
                key => &mut here[key],
            };
        }
        let steps: Vec<(Value, String)> = match here {
            Value::Mapping(fields) => {
                let keys = fields.keys().cloned();
                let steps = keys.map(|key| {
                    (
                        key.clone(),
                        format!("{name}.{}", key.as_str().unwrap_or_default()),
                    )
                });
                let steps = steps.collect();
                fields.insert("zzz".into(), 1.into());
                visit(&copy, &format!("{name}.zzz"));
                steps
            }
            Value::Sequence(items) => (0..items.len())
                .map(|i| (i.into(), format!("{name}[{i}]")))
                .collect(),
            _ => Vec::new(),
        };
        for (key, name) in steps {
            walk(root, &[path, &[key]].concat(), &name, visit);
        }
    }
    walk(document, &[], "", visit);
}

#[test]
fn a_field_that_nobody_knows_is_refused_wherever_it_stands() {
    let document: Value = serde_yaml_ng::from_str(BASE).unwrap();
    let mut objects = 0;
    with_unknown_fields(&document, &mut |changed, field| {
        objects += 1;
        let text = serde_yaml_ng::to_string(changed).unwrap();
        let message = parse(&text, "f.yaml").unwrap_err().to_string();
        // The path within the resource: what follows `static_resources.listeners[0]`.
        let field = field.splitn(4, ['.', ']']).last().unwrap_or_default();
        let expected = format!(
            "{}: 1: not supported by this datapath",
            field.trim_start_matches('.')
        );
        assert!(
            message.ends_with(&expected),
            "{message:?} lacks {expected:?}"
        );
    });
    assert!(objects > 40, "only {objects} objects");
}

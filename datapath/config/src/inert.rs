//! The one table of fields that are accepted and change nothing here, each with the reason.
//!
//! A field belongs here if what the datapath does with traffic is the same with it and without it ([`Effect::Same`]), or if
//! what it asks for is visible but decides nothing about traffic and is not done ([`Effect::NotDone`]): telemetry, headers for
//! telemetry. Every field that a reader does not take and that has no row here is refused; so is a value that its row does not
//! allow.

use serde::Serialize;
use serde_json::Value;

use crate::reader::{UNKNOWN, names};

/// A field that was accepted and changes nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Inert {
    /// The path of the field within its resource.
    pub field: String,
    /// Why it may be left aside.
    #[serde(flatten)]
    pub why: Why,
}

/// Why a field may be left aside.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Why {
    /// Whether somebody could miss it.
    pub effect: Effect,
    /// The reason, as a sentence's end: `because ...`.
    pub because: &'static str,
}

/// Whether somebody could miss what an inert field asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Effect {
    /// All is as if it were done.
    Same,
    /// It is not done: something beside the traffic is missing.
    NotDone,
}

/// Which values of a field are inert.
enum When {
    /// All.
    Any,
    /// Those that are the same as none: `false`, 0, `0s`, nothing, or consisting of such.
    Default,
    /// These, as text.
    OneOf(&'static [&'static str]),
}
use When::{Any, Default, OneOf};

/// Message, field, values, and why.
type Row = (&'static str, &'static str, When, Why);

const fn same(because: &'static str) -> Why {
    let effect = Effect::Same;
    Why { effect, because }
}

const fn not_done(because: &'static str) -> Why {
    let effect = Effect::NotDone;
    Why { effect, because }
}

const BOUND: Why =
    same("connections are redirected: nothing is bound, no socket of Envoy's is made");
const STATISTICS: Why = same("it names or counts statistics");
const LOG: Why = not_done("no access log is written");
const TRACING: Why = not_done("nothing is traced");
const BUFFERS: Why = same("it bounds how much Envoy buffers");
pub(crate) const NOBODY: Why = same("nothing that is accepted reads it");
const DAEMON: Why = same("it is about Envoy's process, not about traffic");
pub(crate) const OFF: Why = same("it is off");
const SHUTDOWN: Why = same("it is about how Envoy closes");
const SNIFFED: Why =
    same("whoever looks at the client's first bytes here waits for them without a limit");
const RESOLVER: Why = same("names are looked up by this machine's resolver");
pub(crate) const FILTER_STATISTICS: Why = not_done("the filter is telemetry");

/// For TLS towards pods that take plain text, too.
pub(crate) const NO_CERTIFICATE: Why =
    not_done("nothing is decrypted: TLS reaches the pod as it is");
/// For listener filters: what they find is what filter chains match on, and that is looked at here, too.
pub(crate) const OUTCOME: Why = same("what it finds is what filter chains match on");

/// The table.
#[rustfmt::skip]
const TABLE: &[Row] = &[
    ("Bootstrap", "admin", Any, DAEMON),
    ("Bootstrap", "node", Any, DAEMON),
    ("Bootstrap", "cluster_manager", Any, DAEMON),
    ("Bootstrap", "default_socket_interface", Any, DAEMON),
    ("Bootstrap", "flags_path", Any, DAEMON),
    ("Bootstrap", "watchdog", Any, DAEMON),
    ("Bootstrap", "watchdogs", Any, DAEMON),
    ("Bootstrap", "layered_runtime", Default, DAEMON),
    ("Bootstrap", "overload_manager", Any, not_done("Envoy's overload is not this datapath's: it sheds nothing")),
    ("Bootstrap", "stats_config", Any, STATISTICS),
    ("Bootstrap", "stats_flush_interval", Any, STATISTICS),
    ("Bootstrap", "stats_sinks", Any, not_done("statistics go to kmeshctl, to no sink")),
    ("Bootstrap", "enable_dispatcher_stats", Any, STATISTICS),
    ("Bootstrap", "typed_dns_resolver_config", Any, RESOLVER),
    ("Bootstrap", "tracing", Any, TRACING),
    ("StaticResources", "secrets", Any, same("only TLS reads secrets, and that is refused where it is asked for")),
    ("Listener", "access_log", Any, LOG),
    ("Listener", "bind_to_port", Any, BOUND),
    ("Listener", "connection_balance_config", Any, same("it is about Envoy's own threads")),
    ("Listener", "continue_on_listener_filters_timeout", Any, SNIFFED),
    ("Listener", "deprecated_v1", Any, BOUND),
    ("Listener", "drain_type", Any, SHUTDOWN),
    ("Listener", "enable_reuse_port", Any, BOUND),
    ("Listener", "reuse_port", Any, BOUND),
    ("Listener", "freebind", Any, BOUND),
    ("Listener", "ignore_global_conn_limit", Any, DAEMON),
    ("Listener", "listener_filters_timeout", Any, SNIFFED),
    ("Listener", "metadata", Any, NOBODY),
    ("Listener", "per_connection_buffer_limit_bytes", Any, BUFFERS),
    ("Listener", "socket_options", Any, BOUND),
    ("Listener", "stat_prefix", Any, STATISTICS),
    ("Listener", "tcp_backlog_size", Any, BOUND),
    ("Listener", "tcp_fast_open_queue_length", Any, BOUND),
    ("Listener", "traffic_direction", Any, STATISTICS),
    ("FilterChain", "metadata", Any, NOBODY),
    ("FilterChain", "name", Any, STATISTICS),
    ("FilterChain", "transport_socket_connect_timeout", Any, same("plain text has no handshake to wait for")),
    ("FilterChain", "use_proxy_proto", Default, OFF),
    ("TcpProxy", "access_log", Any, LOG),
    ("TcpProxy", "access_log_options", Any, LOG),
    ("TcpProxy", "idle_timeout", Default, OFF),
    ("TcpProxy", "max_connect_attempts", Any, not_done("the application sees that a connection failed, and connects again")),
    ("MongoProxy", "access_log", Any, LOG),
    ("MongoProxy", "emit_dynamic_metadata", Any, NOBODY),
    ("MongoProxy", "stat_prefix", Any, STATISTICS),
    ("MongoProxy", "commands", Any, STATISTICS),
    ("HttpConnectionManager", "access_log", Any, LOG),
    ("HttpConnectionManager", "access_log_options", Any, LOG),
    ("HttpConnectionManager", "add_user_agent", Default, OFF),
    ("HttpConnectionManager", "always_set_request_id_in_response", Default, OFF),
    ("HttpConnectionManager", "append_x_forwarded_port", Default, OFF),
    ("HttpConnectionManager", "delayed_close_timeout", Any, SHUTDOWN),
    ("HttpConnectionManager", "drain_timeout", Any, SHUTDOWN),
    ("HttpConnectionManager", "forward_client_cert_details", Any, same("without a client certificate nothing is added")),
    ("HttpConnectionManager", "http_protocol_options", Default, OFF),
    ("HttpConnectionManager", "internal_address_config", Any, not_done("no x-envoy-internal is written")),
    ("HttpConnectionManager", "preserve_external_request_id", Any, same("request ids pass as they come")),
    ("HttpConnectionManager", "proxy_100_continue", Any, not_done("user space answers Expect with 100 Continue itself")),
    ("HttpConnectionManager", "request_headers_timeout", Default, OFF),
    ("HttpConnectionManager", "request_id_extension", Any, TRACING),
    ("HttpConnectionManager", "request_timeout", Default, OFF),
    ("HttpConnectionManager", "server_header_transformation", OneOf(&["PASS_THROUGH"]), same("the server's own header passes")),
    ("HttpConnectionManager", "server_name", Any, not_done("no server header is written")),
    ("HttpConnectionManager", "set_current_client_cert_details", Any, same("without a client certificate nothing is added")),
    ("HttpConnectionManager", "stream_idle_timeout", Default, OFF),
    ("HttpConnectionManager", "strip_any_host_port", Default, OFF),
    ("HttpConnectionManager", "strip_matching_host_port", Default, OFF),
    ("HttpConnectionManager", "strip_trailing_host_dot", Default, OFF),
    ("HttpConnectionManager", "tracing", Any, TRACING),
    ("HttpConnectionManager", "early_header_mutation_extensions", Default, OFF),
    ("HttpConnectionManager", "original_ip_detection_extensions", Default, OFF),
    ("HttpConnectionManager", "stream_error_on_invalid_http_message", Default, OFF),
    ("HttpProtocolOptions", "idle_timeout", Any, not_done("connections of clients that say nothing stay open")),
    ("HttpProtocolOptions", "headers_with_underscores_action", OneOf(&["ALLOW"]), OFF),
    ("Http2ProtocolOptions", "initial_connection_window_size", Any, BUFFERS),
    ("Http2ProtocolOptions", "initial_stream_window_size", Any, BUFFERS),
    ("HttpFilter", "is_optional", Any, same("the filter is known")),
    ("Router", "dynamic_stats", Any, STATISTICS),
    ("Router", "start_child_span", Any, TRACING),
    ("Router", "suppress_envoy_headers", Any, same("no headers are added")),
    ("Router", "suppress_grpc_request_failure_code_stats", Any, STATISTICS),
    ("Router", "upstream_log", Any, LOG),
    ("HTTPFault", "disable_downstream_cluster_stats", Any, STATISTICS),
    ("HTTPFault", "filter_metadata", Any, NOBODY),
    ("RouteConfiguration", "ignore_path_parameters_in_path_matching", Default, OFF),
    ("RouteConfiguration", "internal_only_headers", Default, OFF),
    ("RouteConfiguration", "metadata", Any, NOBODY),
    ("RouteConfiguration", "most_specific_header_mutations_wins", Default, OFF),
    ("VirtualHost", "include_attempt_count_in_response", Default, OFF),
    ("VirtualHost", "include_is_timeout_retry_header", Default, OFF),
    ("VirtualHost", "include_request_attempt_count", Any, not_done("no x-envoy-attempt-count is added")),
    ("VirtualHost", "metadata", Any, NOBODY),
    ("VirtualHost", "rate_limits", Default, OFF),
    ("VirtualHost", "require_tls", OneOf(&["NONE"]), OFF),
    ("Route", "decorator", Any, TRACING),
    ("Route", "metadata", Any, NOBODY),
    ("Route", "stat_prefix", Any, STATISTICS),
    ("Route", "tracing", Any, TRACING),
    ("RouteAction", "append_x_forwarded_host", Default, OFF),
    ("RouteAction", "cluster_not_found_response_code", OneOf(&["SERVICE_UNAVAILABLE"]), same("a cluster that is not there is answered 503")),
    ("RouteAction", "early_data_policy", Any, same("there is no early data without TLS")),
    ("RouteAction", "grpc_timeout_offset", Default, OFF),
    ("RouteAction", "hash_policy", Default, OFF),
    ("RouteAction", "include_vh_rate_limits", Any, same("virtual hosts' rate limits are refused")),
    ("CorsPolicy", "allow_private_network_access", Default, OFF),
    ("CorsPolicy", "shadow_enabled", Any, STATISTICS),
    ("MaxStreamDuration", "grpc_timeout_header_max", Default, not_done("the grpc-timeout of a request sets no time limit")),
    ("MaxStreamDuration", "grpc_timeout_header_offset", Default, OFF),
    ("RouteAction", "priority", OneOf(&["DEFAULT"]), OFF),
    ("RouteAction", "rate_limits", Default, OFF),
    ("RetryPolicy", "per_try_idle_timeout", Default, OFF),
    ("RequestMirrorPolicy", "trace_sampled", Any, TRACING),
    ("RuntimeFractionalPercent", "runtime_key", Any, same("there is no runtime that could say otherwise")),
    ("WeightedCluster", "runtime_key_prefix", Default, OFF),
    ("WeightedCluster", "total_weight", Any, same("the weights' sum counts")),
    ("UpgradeConfig", "filters", Default, OFF),
    ("RegexMatcher", "google_re2", Any, same("there is no other engine")),
    ("Cluster", "alt_stat_name", Any, STATISTICS),
    ("Cluster", "cleanup_interval", Any, same("it is about Envoy's own table of original destinations")),
    ("Cluster", "common_lb_config", Default, OFF),
    ("Cluster", "dns_jitter", Any, RESOLVER),
    ("Cluster", "ignore_health_on_host_removal", Any, same("nothing checks health")),
    ("Cluster", "metadata", Any, NOBODY),
    ("Cluster", "original_dst_lb_config", Default, same("it is about Envoy's own table of original destinations")),
    ("Cluster", "per_connection_buffer_limit_bytes", Any, BUFFERS),
    ("Cluster", "preconnect_policy", Any, same("pools grow by a rule of their own")),
    ("Cluster", "track_cluster_stats", Any, STATISTICS),
    ("Cluster", "track_timeout_budgets", Any, STATISTICS),
    ("Cluster", "typed_dns_resolver_config", Any, RESOLVER),
    ("Cluster", "dns_resolution_config", Any, RESOLVER),
    ("Cluster", "dns_resolvers", Any, RESOLVER),
    ("Cluster", "use_tcp_for_dns", Any, RESOLVER),
    ("Cluster", "upstream_bind_config", Any, same("a connection comes from the pod's own address: nothing has to be told apart")),
    ("Cluster", "upstream_connection_options", Any, not_done("upstream sockets have this machine's keep-alive")),
    ("Cluster", "wait_for_warm_on_init", Any, DAEMON),
    ("Thresholds", "track_remaining", Any, STATISTICS),
    ("ClusterLoadAssignment", "policy", Default, OFF),
    ("LocalityLbEndpoints", "load_balancing_weight", Any, same("without locality_weighted_lb_config, which is refused, localities are balanced as one")),
    ("LocalityLbEndpoints", "locality", Any, same("localities of one priority are balanced as one")),
    ("LocalityLbEndpoints", "priority", Default, OFF),
    ("LbEndpoint", "metadata", Any, same("only subsets and transport socket matches read it, and they are refused")),
    ("ConfigSource", "initial_fetch_timeout", Any, same("a listener or cluster waits for what it needs")),
    ("ConfigSource", "resource_api_version", Any, same("there is only the third")),
    ("EdsClusterConfig", "eds_config", Any, same("endpoints come from where the cluster came from")),
    ("Cluster", "dns_refresh_rate", Any, RESOLVER),
    ("Cluster", "dns_failure_refresh_rate", Any, RESOLVER),
    ("Cluster", "respect_dns_ttl", Any, RESOLVER),
    ("Cluster", "close_connections_on_host_health_failure", Any, same("nothing checks health")),
    ("Endpoint", "health_check_config", Any, same("nothing checks health")),
];

/// Why the field of this message may be left aside with this value, or why it is refused.
pub(crate) fn judge(message: &str, field: &str, value: &Value) -> Result<Why, String> {
    let row = TABLE
        .iter()
        .find(|(of, name, _, _)| *of == message && names(field, name));
    let Some((_, _, when, why)) = row else {
        return Err(UNKNOWN.to_owned());
    };
    let allowed = match when {
        Any => true,
        Default => is_default(value),
        OneOf(known) => value.as_str().is_some_and(|value| known.contains(&value)),
    };
    match when {
        _ if allowed => Ok(*why),
        OneOf(known) => Err(format!("{UNKNOWN}, which knows {}", known.join(" and "))),
        Any | Default => Err(format!("{UNKNOWN}, only where it is off")),
    }
}

/// Whether the value says no more than its absence.
fn is_default(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::Bool(true) => false,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => matches!(text.as_str(), "" | "0" | "0s"),
        Value::Array(values) => values.is_empty(),
        Value::Object(fields) => fields.values().all(is_default),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use serde_json::json;

    use super::*;

    #[test]
    fn a_field_has_one_row_and_a_reason() {
        let mut seen = HashSet::new();
        for (message, field, _, why) in TABLE {
            assert!(
                seen.insert((message, field)),
                "{message}.{field} has two rows"
            );
            assert!(!why.because.is_empty());
        }
    }

    #[test]
    fn only_the_values_of_the_row_are_inert() {
        let zero = json!({ "a": "0s", "b": 0 });
        assert!(judge("MaxStreamDuration", "grpc_timeout_header_max", &zero).is_ok());
        assert!(judge("MaxStreamDuration", "grpcTimeoutHeaderMax", &zero).is_ok());
        let some = json!({ "a": "1s" });
        assert!(judge("MaxStreamDuration", "grpc_timeout_header_max", &some).is_err());
        assert!(judge("VirtualHost", "require_tls", &json!("NONE")).is_ok());
        assert!(judge("VirtualHost", "require_tls", &json!("ALL")).is_err());
        assert!(judge("Route", "metadatum", &json!(1)).is_err());
    }
}

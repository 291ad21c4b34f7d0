//! Two ways to run Envoy: as lean as an expert can make it without changing what it decides, and shaped like Istio's.
//!
//! A profile touches a scenario's resources only where a field is absent, and every touch is written down for the
//! artefact: a comparison with Envoy is only worth as much as the reader's trust in its configuration.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

/// How Envoy is set up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EnvoyProfile {
    /// One worker per sidecar, no access log, no request ids: Envoy at its fastest for this job.
    #[default]
    Min,
    /// Two workers, an access log, request ids and tracing headers, Istio's HTTP filters (those that real Envoy has) and
    /// its statistics configuration.
    Istio,
}

/// Which way a sidecar's traffic goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    /// From the pod's application.
    Outbound,
    /// To it.
    Inbound,
}

/// Istio's default access log line.
const ISTIO_LOG_FORMAT: &str = "[%START_TIME%] \"%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%\" \
    %RESPONSE_CODE% %RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS% %CONNECTION_TERMINATION_DETAILS% \
    \"%UPSTREAM_TRANSPORT_FAILURE_REASON%\" %BYTES_RECEIVED% %BYTES_SENT% %DURATION% %RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% \
    \"%REQ(X-FORWARDED-FOR)%\" \"%REQ(USER-AGENT)%\" \"%REQ(X-REQUEST-ID)%\" \"%REQ(:AUTHORITY)%\" \"%UPSTREAM_HOST%\" \
    %UPSTREAM_CLUSTER% %UPSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_REMOTE_ADDRESS% \
    %REQUESTED_SERVER_NAME% %ROUTE_NAME%\n";

impl EnvoyProfile {
    /// Worker threads per sidecar. A busy sidecar of Istio's has two; on a machine where all sidecars share one CPU more
    /// than one only adds context switches.
    pub fn concurrency(self) -> u32 {
        match self {
            Self::Min => 1,
            Self::Istio => 2,
        }
    }

    /// Name in results.
    pub fn name(self) -> &'static str {
        match self {
            Self::Min => "min",
            Self::Istio => "istio",
        }
    }

    /// Adds to one HTTP connection manager what the profile wants and the scenario left open; returns the fields added.
    pub(crate) fn shape_http(
        self,
        manager: &mut Map<String, Value>,
        direction: Direction,
    ) -> Vec<String> {
        let mut added = Vec::new();
        let mut fields = Vec::new();
        match self {
            Self::Min => fields.push(("generate_request_id", json!(false))),
            Self::Istio => {
                fields.extend(istio_http_fields());
                if direction == Direction::Inbound {
                    fields.push(("server_name", json!("istio-envoy")));
                    fields.push(("server_header_transformation", json!("OVERWRITE")));
                }
                if let Some(Value::Array(filters)) = manager.get_mut("http_filters") {
                    for filter in istio_http_filters().into_iter().rev() {
                        if !filters
                            .iter()
                            .any(|present| present.get("name") == filter.get("name"))
                        {
                            added.push(format!(
                                "http_filters[{}]",
                                filter["name"].as_str().unwrap_or_default()
                            ));
                            filters.insert(0, filter);
                        }
                    }
                }
            }
        }
        for (name, value) in fields {
            if !manager.contains_key(name) {
                manager.insert(name.to_owned(), value);
                added.push(name.to_owned());
            }
        }
        added
    }

    /// Adds to the bootstrap what the profile wants beside listeners and clusters.
    pub(crate) fn shape_bootstrap(self, bootstrap: &mut Map<String, Value>) {
        if self == Self::Istio {
            bootstrap.insert("stats_config".to_owned(), istio_stats());
        }
    }
}

fn istio_http_fields() -> Vec<(&'static str, Value)> {
    vec![
        ("generate_request_id", json!(true)),
        (
            "request_id_extension",
            json!({"typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.request_id.uuid.v3.UuidRequestIdConfig",
                "use_request_id_for_trace_sampling": true
            }}),
        ),
        (
            "tracing",
            json!({
                "client_sampling": {"value": 100.0},
                "random_sampling": {"value": 1.0},
                "overall_sampling": {"value": 100.0}
            }),
        ),
        (
            "access_log",
            json!([{
                "name": "envoy.access_loggers.file",
                "typed_config": {
                    "@type": "type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog",
                    "path": "/dev/stdout",
                    "log_format": {"text_format_source": {"inline_string": ISTIO_LOG_FORMAT}}
                }
            }]),
        ),
        ("use_remote_address", json!(false)),
        ("normalize_path", json!(true)),
        ("path_with_escaped_slashes_action", json!("KEEP_UNCHANGED")),
        ("stream_idle_timeout", json!("0s")),
        ("upgrade_configs", json!([{"upgrade_type": "websocket"}])),
    ]
}

/// Those of Istio's default filters that are part of Envoy itself; its own (metadata exchange, stats) are not.
fn istio_http_filters() -> Vec<Value> {
    vec![
        json!({
            "name": "envoy.filters.http.grpc_stats",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.filters.http.grpc_stats.v3.FilterConfig",
                "emit_filter_state": true,
                "stats_for_all_methods": false
            }
        }),
        json!({
            "name": "envoy.filters.http.fault",
            "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.http.fault.v3.HTTPFault"}
        }),
        json!({
            "name": "envoy.filters.http.cors",
            "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.http.cors.v3.Cors"}
        }),
    ]
}

/// Istio's statistics: a few tags cut out of the names by regex, and only a handful of statistics kept.
fn istio_stats() -> Value {
    json!({
        "use_all_default_tags": false,
        "stats_tags": [
            {"tag_name": "cluster_name", "regex": "^cluster\\.((.+?(\\..+?\\.svc\\.cluster\\.local)?)\\.)"},
            {"tag_name": "tcp_prefix", "regex": "^tcp\\.((.*?)\\.)\\w+?$"},
            {"tag_name": "response_code", "regex": "(_rq(_(\\d{3}))$)"},
            {"tag_name": "response_code_class", "regex": "_rq(_(\\dxx))$"},
            {"tag_name": "http_conn_manager_listener_prefix",
             "regex": "^listener(?=\\.).*?\\.http\\.(((?:[_.[:digit:]]*|[_\\[\\]aAbBcCdDeEfF[:digit:]]*))\\.)"},
            {"tag_name": "http_conn_manager_prefix", "regex": "^http\\.(((?:[_.[:digit:]]*|[_\\[\\]aAbBcCdDeEfF[:digit:]]*))\\.)"},
            {"tag_name": "listener_address", "regex": "^listener\\.(((?:[_.[:digit:]]*|[_\\[\\]aAbBcCdDeEfF[:digit:]]*))\\.)"}
        ],
        "stats_matcher": {"inclusion_list": {"patterns": [
            {"prefix": "reporter="},
            {"prefix": "cluster_manager"},
            {"prefix": "listener_manager"},
            {"prefix": "server"},
            {"suffix": "downstream_cx_active"}
        ]}}
    })
}

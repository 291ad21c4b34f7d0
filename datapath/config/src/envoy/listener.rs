//! `envoy.config.listener.v3.Listener` with one HTTP connection manager or one TCP proxy.

use crate::envoy::route::{Context, FaultFilter};
use crate::envoy::{policy, route, weighted_clusters};
use crate::error::ConfigError;
use crate::model::{ListenerConfig, ListenerKind, RouteConfiguration, WeightedCluster};
use crate::policy::Codec;
use crate::reader::{Item, Object};

const HTTP: &str =
    "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager";
const TCP: &str = "envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy";
const ROUTER: &str = "envoy.extensions.filters.http.router.v3.Router";

/// Reads a listener.
pub(crate) fn read(item: &Item<'_>) -> Result<ListenerConfig, ConfigError> {
    item.object(|fields| {
        let name = fields.need("name")?.text()?.to_owned();
        let address = fields.need("address")?.address()?;
        let kind = filter_chain(&fields.need("filter_chains")?.only()?)?;
        fields.empty("listener_filters")?;
        fields.empty("access_log")?;
        fields.fixed("use_original_dst", false)?;
        fields.ignore(
            "bind_to_port",
            "connections are redirected, nothing is bound",
        );
        fields.ignore("connection_balance_config", "Envoy's own threads");
        fields.ignore("enable_reuse_port", "nothing is bound");
        fields.ignore("metadata", "nothing reads it");
        fields.ignore("per_connection_buffer_limit_bytes", "bounds Envoy's memory");
        fields.ignore("stat_prefix", "statistics only");
        fields.ignore("tcp_backlog_size", "nothing is bound");
        fields.ignore("traffic_direction", "statistics and tracing only");
        Ok(ListenerConfig {
            name,
            address,
            kind,
        })
    })
}

fn filter_chain(item: &Item<'_>) -> Result<ListenerKind, ConfigError> {
    item.object(|chain| {
        chain.ignore("name", "one chain needs no name");
        if let Some(matches) = chain.take("filter_chain_match") {
            matches.object(|_| Ok(()))?;
        }
        chain.need("filters")?.only()?.object(|filter| {
            filter.need("name")?.text()?;
            filter.need("typed_config")?.object(|config| match config.kind()? {
                (_, HTTP) => http_connection_manager(config).map(ListenerKind::Http),
                (_, TCP) => tcp_proxy(config).map(ListenerKind::Tcp),
                (kind, _) => Err(kind.refuse(
                    "not supported by this datapath, which knows HttpConnectionManager and TcpProxy",
                )),
            })
        })
    })
}

fn http_connection_manager(fields: &mut Object<'_>) -> Result<RouteConfiguration, ConfigError> {
    fields.need("stat_prefix")?.text()?;
    let codec = match fields.choice("codec_type", &["AUTO", "HTTP1", "HTTP2"])? {
        "HTTP1" => Codec::Http1,
        "HTTP2" => Codec::Http2,
        _ => Codec::Auto,
    };
    if let Some(options) = fields.take("http2_protocol_options") {
        options.object(|options| {
            options.ignore("initial_stream_window_size", "how Envoy buffers");
            options.ignore("initial_connection_window_size", "how Envoy buffers");
            Ok(())
        })?;
    }
    let fault = http_filters(&fields.need("http_filters")?)?;
    // Headers that Envoy adds or rewrites: see the head of `envoy`.
    fields.fixed("generate_request_id", false)?;
    fields.fixed("always_set_request_id_in_response", false)?;
    fields.fixed("add_user_agent", false)?;
    fields.fixed("use_remote_address", false)?;
    fields.fixed("append_x_forwarded_port", false)?;
    fields.fixed("skip_xff_append", true)?;
    fields.ignore(
        "preserve_external_request_id",
        "request ids pass as they come",
    );
    if let Some(server) = fields.take("server_header_transformation")
        && server.string()? != "PASS_THROUGH"
    {
        return Err(server.refuse("this datapath passes the server's own header: PASS_THROUGH"));
    }
    // Rewrites of the path and host.
    fields.fixed("normalize_path", false)?;
    fields.fixed("merge_slashes", false)?;
    fields.allow("path_with_escaped_slashes_action", &["KEEP_UNCHANGED"])?;
    fields.fixed("strip_matching_host_port", false)?;
    fields.fixed("strip_any_host_port", false)?;
    fields.fixed("strip_trailing_host_dot", false)?;
    // Timeouts.
    fields.no_timeout("stream_idle_timeout")?;
    fields.no_timeout("request_timeout")?;
    fields.no_timeout("request_headers_timeout")?;
    if let Some(common) = fields.take("common_http_protocol_options") {
        common.object(|common| {
            common.no_timeout("idle_timeout")?;
            common.allow("headers_with_underscores_action", &["ALLOW"])
        })?;
    }
    fields.ignore("drain_timeout", "Envoy's own shutdown");
    fields.empty("access_log")?;
    let context = Context {
        fault,
        upgrades: policy::upgrades(fields, &[])?,
        codec,
    };
    route::configuration(&fields.need("route_config")?, &context)
}

/// The filters: a router, and before it perhaps a fault filter.
fn http_filters(item: &Item<'_>) -> Result<Option<FaultFilter>, ConfigError> {
    const KNOWN: &str =
        "not supported by this datapath, which knows Router and HTTPFault before it";
    let filters = item.list()?;
    let mut fault = None;
    for (i, filter) in filters.iter().enumerate() {
        let last = i + 1 == filters.len();
        let fault_before = fault.is_some();
        let read = filter.object(|filter| {
            let name = filter.need("name")?.text()?.to_owned();
            filter.fixed("is_optional", false)?;
            filter.fixed("disabled", false)?;
            let config = filter.need("typed_config")?;
            if !last && !fault_before && policy::is_fault(&config) {
                let fault = policy::fault(&config)?;
                return Ok(Some(FaultFilter { name, fault }));
            }
            config.object(|config| match config.kind()? {
                (_, ROUTER) if last => {
                    config.ignore("dynamic_stats", "statistics only");
                    config.ignore("suppress_envoy_headers", "no headers are added");
                    Ok(None)
                }
                (kind, _) => Err(kind.refuse(KNOWN)),
            })
        })?;
        fault = read.or(fault);
    }
    if filters.is_empty() {
        return Err(item.refuse("has no router"));
    }
    Ok(fault)
}

fn tcp_proxy(fields: &mut Object<'_>) -> Result<Vec<WeightedCluster>, ConfigError> {
    fields.need("stat_prefix")?.text()?;
    fields.no_timeout("idle_timeout")?;
    fields.empty("access_log")?;
    match (fields.take("cluster"), fields.take("weighted_clusters")) {
        (Some(cluster), None) => Ok(vec![WeightedCluster {
            name: cluster.text()?.to_owned(),
            weight: 1,
        }]),
        (None, Some(weighted)) => {
            weighted.object(|weighted| weighted_clusters(weighted, |_, _| Ok(())))
        }
        (None, None) => Err(fields.place.field("cluster").refuse("is missing")),
        (Some(cluster), Some(_)) => Err(cluster.refuse("stands beside weighted_clusters: use one")),
    }
}

//! `envoy.config.listener.v3.Listener` with one HTTP connection manager or one TCP proxy.

use crate::envoy::route::{Context, FaultFilter};
use crate::envoy::{policy, route, weighted_clusters};
use crate::inert::{self, FILTER_STATISTICS, OUTCOME};
use crate::model::{ListenerConfig, ListenerKind, RouteConfiguration, WeightedCluster};
use crate::policy::{Codec, HttpOptions};
use crate::reader::{Item, Object, UNKNOWN};

const HTTP: &str =
    "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager";
const TCP: &str = "envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy";
const ROUTER: &str = "envoy.extensions.filters.http.router.v3.Router";

/// Network filters that watch and do nothing to the bytes.
const WATCHERS: [&str; 4] = [
    "envoy.tcp.metadataexchange.config.MetadataExchange",
    "envoy.extensions.filters.network.istio_stats.v3.PluginConfig",
    "stats.PluginConfig",
    "envoy.extensions.filters.network.mongo_proxy.v3.MongoProxy",
];
/// HTTP filters that watch, or that do nothing in plain text or without a route that asks for it.
const HTTP_WATCHERS: [&str; 6] = [
    "envoy.extensions.filters.http.cors.v3.Cors",
    "envoy.extensions.filters.http.grpc_stats.v3.FilterConfig",
    "envoy.extensions.filters.http.grpc_web.v3.GrpcWeb",
    "io.istio.http.peer_metadata.Config",
    "istio.envoy.config.filter.http.alpn.v2alpha1.FilterConfig",
    "stats.PluginConfig",
];
/// Listener filters whose outcome is what filter chains match on.
const INSPECTORS: [&str; 3] = [
    "envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector",
    "envoy.extensions.filters.listener.http_inspector.v3.HttpInspector",
    "envoy.extensions.filters.listener.original_dst.v3.OriginalDst",
];

/// Reads a listener; `name` is what it goes by.
pub(crate) fn read(item: &Item<'_>, name: &str) -> ListenerConfig {
    item.message("Listener", |fields| {
        fields.take("name");
        for filter in fields.items("listener_filters") {
            listener_filter(&filter);
        }
        let address = fields.need("address").ip_address();
        let chains = fields.need("filter_chains");
        let kind = chains.only().map(|chain| filter_chain(&chain));
        ListenerConfig {
            name: name.to_owned(),
            address,
            kind: kind.unwrap_or(ListenerKind::Closed),
        }
    })
}

fn listener_filter(item: &Item<'_>) {
    item.message("ListenerFilter", |filter| {
        filter.take("name");
        let inspector = filter.take("typed_config");
        let known = inspector.is_some_and(|config| INSPECTORS.contains(&config.kind()));
        if !known {
            filter.refuse(UNKNOWN);
        }
        filter.inert("filter_disabled", OUTCOME);
    });
}

fn filter_chain(item: &Item<'_>) -> ListenerKind {
    item.message("FilterChain", |chain| {
        if let Some(matches) = chain.take("filter_chain_match") {
            matches.message("FilterChainMatch", |_| ());
        }
        let filters = chain.need("filters").list();
        let Some((last, watchers)) = filters.split_last() else {
            chain.refuse("has no filter that takes connections");
            return ListenerKind::Closed;
        };
        for filter in watchers {
            network_watcher(filter);
        }
        terminal(last)
    })
}

/// A filter before the last: one that watches.
fn network_watcher(item: &Item<'_>) {
    item.message("Filter", |filter| {
        filter.take("name");
        let config = filter.need("typed_config");
        if !WATCHERS.contains(&config.kind()) {
            config.typed("NetworkFilter", |kind, fields| {
                fields.refuse(format!("{kind}: not supported by this datapath before the last filter"));
                fields.skip();
            });
        } else if config.kind().ends_with(".MongoProxy") {
            config.typed("MongoProxy", |_, _| ());
        } else {
            filter.note("typed_config", FILTER_STATISTICS);
        }
    });
}

/// The last filter of a chain: the one that takes the connection.
fn terminal(item: &Item<'_>) -> ListenerKind {
    item.message("Filter", |filter| {
        filter.need("name").text();
        let config = filter.need("typed_config");
        match config.kind() {
            HTTP => config.typed("HttpConnectionManager", |_, fields| {
                http_connection_manager(fields).map_or(ListenerKind::Closed, ListenerKind::Http)
            }),
            TCP => config.typed("TcpProxy", |_, fields| ListenerKind::Tcp(tcp_proxy(fields))),
            _ => {
                config.refuse_type("which knows HttpConnectionManager and TcpProxy");
                ListenerKind::Closed
            }
        }
    })
}

fn http_connection_manager(fields: &mut Object<'_>) -> Option<RouteConfiguration> {
    fields.need("stat_prefix").text();
    let codec = match fields.choice("codec_type", &["AUTO", "HTTP1", "HTTP2"]) {
        "HTTP1" => Codec::Http1,
        "HTTP2" => Codec::Http2,
        _ => Codec::Auto,
    };
    if let Some(options) = fields.take("http2_protocol_options") {
        options.message("Http2ProtocolOptions", |_| ());
    }
    let fault = http_filters(&fields.need("http_filters"));
    // Headers that Envoy adds or rewrites: see the head of `envoy`.
    for name in ["generate_request_id", "use_remote_address"] {
        if let Some(item) = fields.take(name)
            && item.boolean()
        {
            item.refuse(UNKNOWN);
        }
    }
    if let Some(item) = fields.take("skip_xff_append")
        && !item.boolean()
    {
        item.refuse(UNKNOWN);
    }
    // Rewrites of the path.
    for name in ["normalize_path", "merge_slashes"] {
        if let Some(item) = fields.take(name)
            && item.boolean()
        {
            item.refuse(UNKNOWN);
        }
    }
    fields.choice("path_with_escaped_slashes_action", &["KEEP_UNCHANGED"]);
    if let Some(common) = fields.take("common_http_protocol_options") {
        common.message("HttpProtocolOptions", |_| ());
    }
    let context = Context {
        fault,
        upgrades: policy::upgrades(fields, &[]),
        options: HttpOptions {
            codec,
            ..HttpOptions::default()
        },
    };
    let config = fields.need("route_config");
    Some(route::configuration(&config, &context, false))
}

/// The filters: a router at the end, before it perhaps a fault filter, and filters that watch.
fn http_filters(item: &Item<'_>) -> Option<FaultFilter> {
    let filters = item.list();
    let mut fault = None;
    for (i, filter) in filters.iter().enumerate() {
        let last = i + 1 == filters.len();
        filter.message("HttpFilter", |filter| {
            let name = filter.need("name").text().to_owned();
            if filter.flag("disabled") {
                filter.note("disabled", inert::OFF);
                filter.skip();
                return;
            }
            let config = filter.need("typed_config");
            match config.kind() {
                ROUTER if last => config.typed("Router", |_, _| ()),
                policy::FAULT if !last && fault.is_none() => {
                    let found = config.typed("HTTPFault", |_, fields| policy::fault(fields));
                    fault = Some(FaultFilter { name, fault: found });
                }
                kind if !last && HTTP_WATCHERS.contains(&kind) => {
                    filter.note("typed_config", FILTER_STATISTICS);
                }
                _ => config.refuse_type(
                    "which knows Router, and before it HTTPFault and filters that only watch",
                ),
            }
        });
    }
    if filters.is_empty() {
        item.refuse_place("has no router");
    }
    fault
}

fn tcp_proxy(fields: &mut Object<'_>) -> Vec<WeightedCluster> {
    fields.need("stat_prefix").text();
    match (fields.take("cluster"), fields.take("weighted_clusters")) {
        (Some(cluster), None) => vec![WeightedCluster {
            name: cluster.text().to_owned(),
            weight: 1,
        }],
        (None, Some(weighted)) => weighted.message("TcpWeightedCluster", |weighted| {
            weighted_clusters(weighted, |_, _| ())
        }),
        (None, None) => {
            fields.need("cluster");
            Vec::new()
        }
        (Some(cluster), Some(_)) => {
            cluster.refuse("stands beside weighted_clusters: use one");
            Vec::new()
        }
    }
}

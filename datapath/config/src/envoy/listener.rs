//! `envoy.config.listener.v3.Listener` with HTTP connection managers and TCP proxies.

use crate::envoy::library::Library;
use crate::envoy::route::{Context, FaultFilter};
use crate::envoy::{cluster, policy, route, weighted_clusters};
use crate::inert::{self, FILTER_STATISTICS, NO_CERTIFICATE, NOBODY, OUTCOME};
use crate::model::{
    ChainMatch, ListenerConfig, ListenerKind, RouteAction, RouteConfiguration, Sniffed,
    WeightedCluster,
};
use crate::policy::{Codec, EscapedSlashes, HttpOptions, PathOptions};
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
/// It does what routes ask for, and nothing of its own.
const CORS: &str = "envoy.extensions.filters.http.cors.v3.Cors";
/// HTTP filters that watch, or that do nothing in plain text or without a route that asks for it.
const HTTP_WATCHERS: [&str; 5] = [
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
pub(crate) fn read(item: &Item<'_>, name: &str, library: &Library<'_>) -> ListenerConfig {
    item.message("Listener", |fields| {
        fields.take("name");
        for filter in fields.items("listener_filters") {
            listener_filter(&filter);
        }
        let address = fields.need("address").ip_address();
        let everywhere = address.ip().is_unspecified();
        let strangers = fields.flag("use_original_dst") && everywhere;
        let inbound = everywhere
            && fields.choice("traffic_direction", &["UNSPECIFIED", "INBOUND", "OUTBOUND"])
                == "INBOUND";
        let otherwise = fields
            .take("default_filter_chain")
            .map(|chain| filter_chain(&chain, library, inbound).kind);
        let chains = fields
            .take("filter_chains")
            .map_or(Vec::new(), |chains| chains.list());
        let mut chains: Vec<Chain> = chains
            .iter()
            .map(|chain| filter_chain(chain, library, inbound))
            .collect();
        if chains.is_empty() && otherwise.is_none() {
            fields.need("filter_chains");
        }
        let kind = if inbound {
            nothing_to_do(fields, &chains, otherwise.as_ref());
            ListenerKind::Inbound
        } else {
            // With `use_original_dst` the port of the listener itself is nobody's destination: a guard against loops.
            let own = |chain: &Chain| chain.port == Some(u32::from(address.port()));
            if !strangers && chains.iter().any(own) {
                chains.retain(own);
            } else {
                chains.retain(|chain| chain.port.is_none());
            }
            outbound(fields, chains, otherwise, strangers)
        };
        ListenerConfig {
            name: name.to_owned(),
            address,
            kind,
        }
    })
}

/// What connections from pods get.
fn outbound(
    fields: &Object<'_>,
    mut chains: Vec<Chain>,
    otherwise: Option<ListenerKind>,
    strangers: bool,
) -> ListenerKind {
    let alike = |chain: &Chain| chain.matches == ChainMatch::default();
    let kind = match (chains.as_slice(), otherwise) {
        ([only], None) if alike(only) => chains.remove(0).kind,
        ([], Some(otherwise)) => otherwise,
        (_, otherwise) => {
            for (i, chain) in chains.iter().enumerate() {
                if chains[..i]
                    .iter()
                    .any(|other| other.matches == chain.matches)
                {
                    fields.refuse("has two filter chains that match the same");
                }
            }
            ListenerKind::Sniffed(Sniffed {
                chains: chains
                    .into_iter()
                    .map(|chain| (chain.matches, chain.kind))
                    .collect(),
                otherwise: otherwise.map(Box::new),
            })
        }
    };
    match kind {
        ListenerKind::Tcp(choices) if strangers => ListenerKind::Strangers(choices),
        kind => {
            if strangers {
                fields.refuse("with use_original_dst this datapath takes one TCP proxy only");
            }
            kind
        }
    }
}

/// Makes sure that nothing has to be done to what comes to the pods: whatever has, would have to be done there.
fn nothing_to_do(fields: &Object<'_>, chains: &[Chain], otherwise: Option<&ListenerKind>) {
    for chain in chains {
        let plain = |other: &Chain| {
            other.port == chain.port && !other.secured && other.matches.transport != "tls"
        };
        if chain.secured && !chains.iter().any(plain) {
            fields.refuse(format!(
                "takes TLS only (destination_port {:?}): this datapath has none, and would let plain text through",
                chain.port
            ));
        }
    }
    for kind in chains.iter().map(|chain| &chain.kind).chain(otherwise) {
        let ListenerKind::Http(routes) = kind else {
            continue;
        };
        let hosts = routes.virtual_hosts.iter();
        for route in hosts.flat_map(|host| &host.routes) {
            let forwards = matches!(
                route.action,
                RouteAction::Cluster(_) | RouteAction::Weighted(_)
            );
            if !forwards || route.policy.reason().is_some() {
                fields.refuse(format!(
                    "route {:?} does more to incoming requests than let them through: not supported by this datapath",
                    route.name
                ));
            }
        }
    }
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

/// A filter chain.
struct Chain {
    /// Its `destination_port`.
    port: Option<u32>,
    matches: ChainMatch,
    /// It speaks TLS.
    secured: bool,
    kind: ListenerKind,
}

fn filter_chain(item: &Item<'_>, library: &Library<'_>, inbound: bool) -> Chain {
    item.message("FilterChain", |chain| {
        let matching = chain.take("filter_chain_match");
        let (port, matches) = matching.map_or((None, ChainMatch::default()), |matching| {
            matching.message("FilterChainMatch", chain_match)
        });
        let mut secured = false;
        if let Some(socket) = chain.take("transport_socket") {
            // Without a certificate no client gets that far, and whoever speaks TLS is let through as it is.
            if inbound && matches.transport == "tls" {
                secured = true;
                chain.note("transport_socket", NO_CERTIFICATE);
            } else {
                cluster::transport(&socket);
            }
        }
        let filters = chain.need("filters").list();
        let kind = if let Some((last, watchers)) = filters.split_last() {
            watchers.iter().for_each(network_watcher);
            terminal(last, library)
        } else {
            chain.refuse("has no filter that takes connections");
            ListenerKind::Closed
        };
        Chain {
            port,
            matches,
            secured,
            kind,
        }
    })
}

fn chain_match(fields: &mut Object<'_>) -> (Option<u32>, ChainMatch) {
    let port = fields.take("destination_port").map(|port| port.number());
    let texts = |fields: &mut Object<'_>, name: &str| -> Vec<String> {
        let items = fields.items(name);
        items.iter().map(|item| item.text().to_owned()).collect()
    };
    let transport = fields.choice("transport_protocol", &["", "raw_buffer", "tls"]);
    let matches = ChainMatch {
        transport: transport.to_owned(),
        server_names: texts(fields, "server_names"),
        protocols: texts(fields, "application_protocols"),
    };
    (port, matches)
}

/// A filter before the last: one that watches.
fn network_watcher(item: &Item<'_>) {
    item.message("Filter", |filter| {
        filter.take("name");
        let config = filter.need("typed_config");
        if !WATCHERS.contains(&config.kind()) {
            config.typed("NetworkFilter", |kind, fields| {
                fields.refuse(format!(
                    "{kind}: not supported by this datapath before the last filter"
                ));
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
fn terminal(item: &Item<'_>, library: &Library<'_>) -> ListenerKind {
    item.message("Filter", |filter| {
        filter.need("name").text();
        let config = filter.need("typed_config");
        match config.kind() {
            HTTP => config.typed("HttpConnectionManager", |_, fields| {
                http_connection_manager(fields, library)
                    .map_or(ListenerKind::Closed, ListenerKind::Http)
            }),
            TCP => config.typed("TcpProxy", |_, fields| ListenerKind::Tcp(tcp_proxy(fields))),
            _ => {
                config.refuse_type("which knows HttpConnectionManager and TcpProxy");
                ListenerKind::Closed
            }
        }
    })
}

/// The routes; `None` as long as they are not there.
fn http_connection_manager(
    fields: &mut Object<'_>,
    library: &Library<'_>,
) -> Option<RouteConfiguration> {
    fields.need("stat_prefix").text();
    let codec = match fields.choice("codec_type", &["AUTO", "HTTP1", "HTTP2"]) {
        "HTTP1" => Codec::Http1,
        "HTTP2" => Codec::Http2,
        _ => Codec::Auto,
    };
    let streams = fields.take("http2_protocol_options").and_then(|options| {
        options.message("Http2ProtocolOptions", |options| {
            let most = options.take("max_concurrent_streams")?;
            let number = most.number();
            if number == 0 {
                most.refuse("must be at least 1");
            }
            Some(number)
        })
    });
    let (fault, cors) = http_filters(&fields.need("http_filters"));
    if let Some(common) = fields.take("common_http_protocol_options") {
        common.message("HttpProtocolOptions", |_| ());
    }
    let forwarded_for = fields.flag("use_remote_address");
    let skip = fields.flag("skip_xff_append");
    if fields.number_or("xff_num_trusted_hops", 0) > 0 {
        fields.note("xff_num_trusted_hops", NOBODY);
    }
    let context = Context {
        fault,
        cors,
        upgrades: policy::upgrades(fields, &[]),
        options: HttpOptions {
            codec,
            max_concurrent_streams: streams,
            request_id: fields.flag("generate_request_id"),
            forwarded_for: forwarded_for && !skip,
            paths: paths(fields),
            ..HttpOptions::default()
        },
    };
    match (fields.take("route_config"), fields.take("rds")) {
        (Some(own), None) => Some(route::configuration(&own, &context, false)),
        (None, Some(rds)) => rds.message("Rds", |rds| {
            rds.need("config_source").message("ConfigSource", |source| {
                let stream = source
                    .take("ads")
                    .or_else(|| source.take("api_config_source"));
                if stream.is_none() {
                    source.refuse("is no source that this datapath knows, which is ads");
                }
            });
            library.routes(rds.need("route_config_name").text(), &context)
        }),
        (Some(_), Some(rds)) => {
            rds.refuse_place("stands beside route_config: use one");
            None
        }
        (None, None) => {
            fields.need("route_config");
            None
        }
    }
}

/// What becomes of paths before routes are looked at.
fn paths(fields: &mut Object<'_>) -> PathOptions {
    let action = fields.choice(
        "path_with_escaped_slashes_action",
        &[
            "IMPLEMENTATION_SPECIFIC_DEFAULT",
            "KEEP_UNCHANGED",
            "REJECT_REQUEST",
            "UNESCAPE_AND_REDIRECT",
            "UNESCAPE_AND_FORWARD",
        ],
    );
    PathOptions {
        normalize: fields.flag("normalize_path"),
        merge_slashes: fields.flag("merge_slashes"),
        escaped_slashes: match action {
            "REJECT_REQUEST" => EscapedSlashes::Reject,
            "UNESCAPE_AND_REDIRECT" => EscapedSlashes::Redirect,
            "UNESCAPE_AND_FORWARD" => EscapedSlashes::Unescape,
            _ => EscapedSlashes::Keep,
        },
    }
}

/// The filters: a router at the end, before it perhaps a fault filter, and filters that watch.
fn http_filters(item: &Item<'_>) -> (Option<FaultFilter>, Option<String>) {
    let filters = item.list();
    let (mut fault, mut cors) = (None, None);
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
                CORS if !last && cors.is_none() => {
                    config.typed("Cors", |_, _| ());
                    cors = Some(name);
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
    (fault, cors)
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

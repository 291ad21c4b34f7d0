//! What routes and HTTP listeners ask for beyond routing: retries, rewrites, header changes, mirrors, faults, upgrades.

use std::time::Duration;

use crate::dfa::{Alphabet, check};
use crate::envoy::matching::string_matcher;
use crate::model::ValueMatch;
use crate::policy::{
    AppendAction, Cors, Fault, HeaderAddition, HeaderMutations, Mirror, Mutations, Origin,
    PathRewrite, RetryOn, RetryPolicy, Share,
};
use crate::reader::{Item, Object};

pub(crate) const CORS: &str = "envoy.extensions.filters.http.cors.v3.CorsPolicy";
pub(crate) const FAULT: &str = "envoy.extensions.filters.http.fault.v3.HTTPFault";
const PREVIOUS_HOSTS: &str = "envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate";
/// Names that Envoy does not let configurations change, besides those that begin with a colon.
const FRAMING: [&str; 4] = ["host", "content-length", "transfer-encoding", "connection"];
/// Envoy's first back-off interval.
const BASE_INTERVAL: Duration = Duration::from_millis(25);
/// Largest back-off interval, as a multiple of the first, unless told.
const MAX_INTERVAL: u32 = 10;

/// `envoy.config.route.v3.RetryPolicy`; `None` if it never retries.
pub(crate) fn retry(item: &Item<'_>) -> Option<RetryPolicy> {
    item.message("RetryPolicy", |fields| {
        let mut policy = RetryPolicy {
            on: Vec::new(),
            statuses: Vec::new(),
            grpc_statuses: Vec::new(),
            retries: fields.number_or("num_retries", 1),
            per_try_timeout: fields.timeout("per_try_timeout"),
            base_interval: BASE_INTERVAL,
            max_interval: BASE_INTERVAL * MAX_INTERVAL,
            picks: picks(fields),
        };
        let codes = fields.items("retriable_status_codes");
        let mut any = false;
        if let Some(on) = fields.take("retry_on") {
            for name in on.string().split(',').map(str::trim) {
                any |= !name.is_empty();
                match name {
                    "" => {}
                    "connect-failure" => policy.on.push(RetryOn::ConnectFailure),
                    "refused-stream" => policy.on.push(RetryOn::RefusedStream),
                    "reset" => policy.on.push(RetryOn::Reset),
                    "reset-before-request" => policy.on.push(RetryOn::ResetBeforeRequest),
                    "5xx" => policy.on.push(RetryOn::ServerError),
                    "gateway-error" => policy.on.push(RetryOn::GatewayError),
                    "retriable-4xx" => policy.on.push(RetryOn::Conflict),
                    "retriable-status-codes" => {
                        policy.statuses = codes.iter().map(|code| code.number() as u16).collect();
                    }
                    "cancelled" => policy.grpc_statuses.push(1),
                    "deadline-exceeded" => policy.grpc_statuses.push(4),
                    "resource-exhausted" => policy.grpc_statuses.push(8),
                    "internal" => policy.grpc_statuses.push(13),
                    "unavailable" => policy.grpc_statuses.push(14),
                    _ => on.refuse(format!("this datapath has no condition {name}")),
                }
            }
        }
        if let Some(back_off) = fields.take("retry_back_off") {
            back_off.message("RetryBackOff", |fields| {
                let base = fields.need("base_interval");
                policy.base_interval = base.duration();
                if policy.base_interval.is_zero() {
                    base.refuse("must be more than 0s");
                }
                policy.max_interval = policy.base_interval * MAX_INTERVAL;
                if let Some(most) = fields.take("max_interval") {
                    policy.max_interval = most.duration();
                    if policy.max_interval < policy.base_interval {
                        most.refuse("must not be less than base_interval");
                    }
                }
            });
        }
        // Without a condition only the per-try timeout is left of it, and that is a part of retrying.
        (any && policy.retries > 0 || policy.per_try_timeout.is_some()).then_some(policy)
    })
}

/// How often an endpoint is drawn for a try until it is one that was not tried: `host_selection_retry_max_attempts` with the
/// predicate of previous hosts; once without it.
fn picks(fields: &mut Object<'_>) -> u32 {
    let most = fields.number_or("host_selection_retry_max_attempts", 1);
    let mut previous = false;
    for predicate in fields.items("retry_host_predicate") {
        predicate.message("RetryHostPredicate", |fields| {
            let name = fields.need("name");
            match fields.take("typed_config") {
                // The name alone was enough before there were types.
                None if name.text() == "envoy.retry_host_predicates.previous_hosts" => {}
                None => name.refuse("not supported by this datapath, which knows previous_hosts"),
                Some(config) => config.typed("PreviousHostsPredicate", |kind, _| {
                    if kind != PREVIOUS_HOSTS {
                        name.refuse("not supported by this datapath, which knows previous_hosts");
                    }
                }),
            }
            previous = true;
        });
    }
    if previous { most.max(1) } else { 1 }
}

/// `prefix_rewrite` or `regex_rewrite` of a route whose match replaces `matched`; all of the path if that is `None`.
pub(crate) fn path_rewrite(fields: &mut Object<'_>, matched: &str) -> Option<PathRewrite> {
    let prefix = fields.take("prefix_rewrite");
    let Some(regex) = fields.take("regex_rewrite") else {
        let text = prefix?.string();
        // An empty one is the same as none in protobuf.
        let changes = !text.is_empty() && text != matched;
        return changes.then(|| PathRewrite::Prefix(matched.len(), text.to_owned()));
    };
    if let Some(prefix) = prefix {
        prefix.refuse("stands beside regex_rewrite: use one");
    }
    regex.message("RegexMatchAndSubstitute", |fields| {
        let pattern = fields.need("pattern");
        let pattern = pattern.message("RegexMatcher", |fields| {
            let item = fields.need("regex");
            let text = item.text();
            if let Err(why) = check(text, Alphabet::Value) {
                item.refuse(why);
            }
            text.to_owned()
        });
        Some(PathRewrite::Regex {
            pattern,
            substitution: fields.string("substitution").to_owned(),
        })
    })
}

/// `request_headers_to_add` and the like, at any level.
pub(crate) fn header_mutations(fields: &mut Object<'_>) -> HeaderMutations {
    HeaderMutations {
        request: Mutations {
            remove: removals(fields, "request_headers_to_remove"),
            add: additions(fields, "request_headers_to_add"),
        },
        response: Mutations {
            remove: removals(fields, "response_headers_to_remove"),
            add: additions(fields, "response_headers_to_add"),
        },
    }
}

fn removals(fields: &mut Object<'_>, list: &str) -> Vec<String> {
    fields.items(list).iter().map(changeable).collect()
}

fn additions(fields: &mut Object<'_>, list: &str) -> Vec<HeaderAddition> {
    let items = fields.items(list);
    let additions = items
        .iter()
        .map(|item| item.message("HeaderValueOption", addition));
    additions.flatten().collect()
}

fn addition(fields: &mut Object<'_>) -> Option<HeaderAddition> {
    let (name, value) = fields.need("header").message("HeaderValue", |header| {
        let name = changeable(&header.need("key"));
        let value = header
            .take("value")
            .map_or(String::new(), |item| literal(&item));
        (name, value)
    });
    let mut action = match fields.choice(
        "append_action",
        &[
            "APPEND_IF_EXISTS_OR_ADD",
            "ADD_IF_ABSENT",
            "OVERWRITE_IF_EXISTS_OR_ADD",
            "OVERWRITE_IF_EXISTS",
        ],
    ) {
        "ADD_IF_ABSENT" => AppendAction::AddIfAbsent,
        "OVERWRITE_IF_EXISTS_OR_ADD" => AppendAction::Overwrite,
        "OVERWRITE_IF_EXISTS" => AppendAction::OverwriteIfExists,
        _ => AppendAction::Append,
    };
    if let Some(append) = fields.take("append") {
        // Deprecated, and wins where it is said.
        action = if append.boolean() {
            AppendAction::Append
        } else {
            AppendAction::Overwrite
        };
    }
    let kept = fields.flag("keep_empty_value") || !value.is_empty();
    kept.then_some(HeaderAddition {
        name,
        value,
        action,
    })
}

/// A header's name in lower case, if configurations may change it.
fn changeable(item: &Item<'_>) -> String {
    let name = item.text().to_ascii_lowercase();
    let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if name.starts_with(':') || FRAMING.contains(&name.as_str()) {
        item.refuse("cannot be changed: message boundaries or routing depend on it");
    } else if !name.bytes().all(token) {
        item.refuse("is not a header name");
    }
    name
}

/// A header's value; `%` introduces a substitution to Envoy, and `%%` stands for itself.
fn literal(item: &Item<'_>) -> String {
    let text = item.string();
    let control = |byte: u8| byte < b' ' && byte != b'\t' || byte == 0x7f;
    if text.replace("%%", "").contains('%') {
        item.refuse("this datapath has no substitutions such as %PROTOCOL%");
    } else if text.bytes().any(control) {
        item.refuse("is not a header value");
    }
    text.replace("%%", "%")
}

/// `request_mirror_policies`.
pub(crate) fn mirrors(fields: &mut Object<'_>) -> Vec<Mirror> {
    let items = fields.items("request_mirror_policies");
    let mirrors = items.iter().map(|item| {
        item.message("RequestMirrorPolicy", |fields| {
            let cluster = fields.need("cluster").text().to_owned();
            let share = fields.take("runtime_fraction").map(|fraction| {
                fraction.message("RuntimeFractionalPercent", |fraction| {
                    share(&fraction.need("default_value"))
                })
            });
            Mirror {
                cluster,
                share: share.unwrap_or(Share::ALL),
                host_suffix: !fields.flag("disable_shadow_host_suffix_append"),
            }
        })
    });
    mirrors.filter(|mirror| mirror.share.0 > 0).collect()
}

/// A `FractionalPercent`.
fn share(item: &Item<'_>) -> Share {
    item.message("FractionalPercent", |fields| {
        let numerator = fields.number_or("numerator", 0);
        let scale = match fields.choice("denominator", &["HUNDRED", "TEN_THOUSAND", "MILLION"]) {
            "MILLION" => 1,
            "TEN_THOUSAND" => 100,
            _ => 10_000,
        };
        Share(numerator.saturating_mul(scale).min(Share::ALL.0))
    })
}

/// An `HTTPFault`; `None` if it does nothing.
pub(crate) fn fault(fields: &mut Object<'_>) -> Option<Fault> {
    let delay = fields.take("delay").map(|delay| {
        delay.message("FaultDelay", |delay| {
            (delay.need("fixed_delay").duration(), percentage(delay))
        })
    });
    let abort = fields.take("abort").map(|abort| {
        abort.message("FaultAbort", |abort| {
            let item = abort.need("http_status");
            let status = item.number();
            if !(200..600).contains(&status) {
                item.refuse("expected a status from 200 to 599");
            }
            (status as u16, percentage(abort))
        })
    });
    let delay = delay.filter(|(time, share)| share.0 > 0 && !time.is_zero());
    let abort = abort.filter(|(_, share)| share.0 > 0);
    (delay.is_some() || abort.is_some()).then_some(Fault { delay, abort })
}

/// A `CorsPolicy`; `None` if it is switched off.
pub(crate) fn cors(fields: &mut Object<'_>) -> Option<Cors> {
    let origins = fields.items("allow_origin_string_match");
    let origins = origins.iter().map(|item| {
        let mut ignore_case = false;
        let value = string_matcher(item, &mut ignore_case);
        if let ValueMatch::Regex(text) = &value
            && let Err(why) = check(text, Alphabet::Value)
        {
            item.refuse(why);
        }
        Origin { value, ignore_case }
    });
    let cors = Cors {
        origins: origins.collect(),
        methods: fields.string("allow_methods").to_owned(),
        headers: fields.string("allow_headers").to_owned(),
        expose_headers: fields.string("expose_headers").to_owned(),
        max_age: fields.string("max_age").to_owned(),
        credentials: fields.flag("allow_credentials"),
        strangers_answered: !fields.flag_or("forward_not_matching_preflights", true),
    };
    let share = fields.take("filter_enabled").map(|item| {
        let share = item.message("RuntimeFractionalPercent", |fraction| {
            share(&fraction.need("default_value"))
        });
        if share.0 != 0 && share != Share::ALL {
            item.refuse_place("must be for all requests or for none");
        }
        share
    });
    share.is_none_or(|share| share.0 > 0).then_some(cors)
}

fn percentage(fields: &mut Object<'_>) -> Share {
    fields
        .take("percentage")
        .map_or(Share(0), |item| share(&item))
}

/// `upgrade_configs` over those of the level above.
pub(crate) fn upgrades(fields: &mut Object<'_>, above: &[String]) -> Vec<String> {
    let mut upgrades = above.to_vec();
    for item in fields.items("upgrade_configs") {
        item.message("UpgradeConfig", |fields| {
            let name = fields.need("upgrade_type");
            let kind = name.text().to_ascii_lowercase();
            if kind == "connect" || kind == "connect-udp" {
                name.refuse("tunnels are not supported by this datapath");
            }
            let enabled = fields.flag_or("enabled", true);
            upgrades.retain(|have| *have != kind);
            upgrades.extend(enabled.then_some(kind));
        });
    }
    upgrades
}

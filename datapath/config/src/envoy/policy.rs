//! What routes and HTTP listeners ask for beyond routing: retries, rewrites, header changes, mirrors, faults, upgrades.

use std::time::Duration;

use crate::dfa::{Alphabet, check};
use crate::error::ConfigError;
use crate::policy::{
    AppendAction, Fault, HeaderAddition, HeaderMutations, Mirror, Mutations, PathRewrite, RetryOn,
    RetryPolicy, Share,
};
use crate::reader::{Item, Object};

const FAULT: &str = "envoy.extensions.filters.http.fault.v3.HTTPFault";
/// Names that Envoy does not let configurations change, besides those that begin with a colon.
const FRAMING: [&str; 4] = ["host", "content-length", "transfer-encoding", "connection"];
/// Envoy's first back-off interval.
const BASE_INTERVAL: Duration = Duration::from_millis(25);
/// Largest back-off interval, as a multiple of the first, unless told.
const MAX_INTERVAL: u32 = 10;

/// `envoy.config.route.v3.RetryPolicy`; `None` if it never retries.
pub(crate) fn retry(item: &Item<'_>) -> Result<Option<RetryPolicy>, ConfigError> {
    item.object(|fields| {
        let mut policy = RetryPolicy {
            on: Vec::new(),
            statuses: Vec::new(),
            grpc_statuses: Vec::new(),
            retries: fields.number_or("num_retries", 1)?,
            per_try_timeout: fields.timeout("per_try_timeout")?,
            base_interval: BASE_INTERVAL,
            max_interval: BASE_INTERVAL * MAX_INTERVAL,
        };
        fields.no_timeout("per_try_idle_timeout")?;
        let codes = fields.items("retriable_status_codes")?;
        let mut any = false;
        if let Some(on) = fields.take("retry_on") {
            for name in on.string()?.split(',').map(str::trim) {
                any |= !name.is_empty();
                match name {
                    "" => {}
                    "connect-failure" => policy.on.push(RetryOn::ConnectFailure),
                    "refused-stream" => policy.on.push(RetryOn::RefusedStream),
                    "reset" => policy.on.push(RetryOn::Reset),
                    "5xx" => policy.on.push(RetryOn::ServerError),
                    "gateway-error" => policy.on.push(RetryOn::GatewayError),
                    "retriable-4xx" => policy.on.push(RetryOn::Conflict),
                    "retriable-status-codes" => {
                        let code = |item: &Item<'_>| Ok(item.number()? as u16);
                        policy.statuses = codes.iter().map(code).collect::<Result<_, _>>()?;
                    }
                    "cancelled" => policy.grpc_statuses.push(1),
                    "deadline-exceeded" => policy.grpc_statuses.push(4),
                    "resource-exhausted" => policy.grpc_statuses.push(8),
                    "internal" => policy.grpc_statuses.push(13),
                    "unavailable" => policy.grpc_statuses.push(14),
                    _ => return Err(on.refuse(&format!("this datapath has no condition {name}"))),
                }
            }
        }
        if let Some(back_off) = fields.take("retry_back_off") {
            back_off.object(|fields| {
                let base = fields.need("base_interval")?;
                policy.base_interval = base.duration()?;
                if policy.base_interval.is_zero() {
                    return Err(base.refuse("must be more than 0s"));
                }
                policy.max_interval = match fields.take("max_interval") {
                    None => policy.base_interval * MAX_INTERVAL,
                    Some(most) if most.duration()? < policy.base_interval => {
                        return Err(most.refuse("must not be less than base_interval"));
                    }
                    Some(most) => most.duration()?,
                };
                Ok(())
            })?;
        }
        // Without a condition only the per-try timeout is left of it, and that is a part of retrying.
        Ok((any && policy.retries > 0 || policy.per_try_timeout.is_some()).then_some(policy))
    })
}

/// `prefix_rewrite` or `regex_rewrite` of a route whose match replaces `matched`; all of the path if that is `None`.
pub(crate) fn path_rewrite(
    fields: &mut Object<'_>,
    matched: &str,
) -> Result<Option<PathRewrite>, ConfigError> {
    let prefix = fields.take("prefix_rewrite");
    let Some(regex) = fields.take("regex_rewrite") else {
        let Some(prefix) = prefix else {
            return Ok(None);
        };
        let text = prefix.string()?;
        // An empty one is the same as none in protobuf.
        let changes = !text.is_empty() && text != matched;
        return Ok(changes.then(|| PathRewrite::Prefix(matched.len(), text.to_owned())));
    };
    if let Some(prefix) = prefix {
        return Err(prefix.refuse("stands beside regex_rewrite: use one"));
    }
    regex.object(|fields| {
        let pattern = fields.need("pattern")?.object(|fields| {
            if let Some(engine) = fields.take("google_re2") {
                engine.object(|_| Ok(()))?;
            }
            let item = fields.need("regex")?;
            check(item.text()?, Alphabet::Value).map_err(|why| item.refuse(&why))?;
            Ok(item.text()?.to_owned())
        })?;
        let substitution = fields.string("substitution")?.to_owned();
        Ok(Some(PathRewrite::Regex {
            pattern,
            substitution,
        }))
    })
}

/// `request_headers_to_add` and the like, at any level.
pub(crate) fn header_mutations(fields: &mut Object<'_>) -> Result<HeaderMutations, ConfigError> {
    Ok(HeaderMutations {
        request: Mutations {
            remove: removals(fields, "request_headers_to_remove")?,
            add: additions(fields, "request_headers_to_add")?,
        },
        response: Mutations {
            remove: removals(fields, "response_headers_to_remove")?,
            add: additions(fields, "response_headers_to_add")?,
        },
    })
}

fn removals(fields: &mut Object<'_>, list: &str) -> Result<Vec<String>, ConfigError> {
    let items = fields.items(list)?;
    items.iter().map(changeable).collect()
}

fn additions(fields: &mut Object<'_>, list: &str) -> Result<Vec<HeaderAddition>, ConfigError> {
    let mut additions = Vec::new();
    for item in fields.items(list)? {
        additions.extend(item.object(addition)?);
    }
    Ok(additions)
}

fn addition(fields: &mut Object<'_>) -> Result<Option<HeaderAddition>, ConfigError> {
    let (name, value) = fields.need("header")?.object(|header| {
        let name = changeable(&header.need("key")?)?;
        let value = match header.take("value") {
            None => String::new(),
            Some(item) => literal(&item)?,
        };
        Ok((name, value))
    })?;
    let mut action = match fields.choice(
        "append_action",
        &[
            "APPEND_IF_EXISTS_OR_ADD",
            "ADD_IF_ABSENT",
            "OVERWRITE_IF_EXISTS_OR_ADD",
            "OVERWRITE_IF_EXISTS",
        ],
    )? {
        "ADD_IF_ABSENT" => AppendAction::AddIfAbsent,
        "OVERWRITE_IF_EXISTS_OR_ADD" => AppendAction::Overwrite,
        "OVERWRITE_IF_EXISTS" => AppendAction::OverwriteIfExists,
        _ => AppendAction::Append,
    };
    if let Some(append) = fields.take("append") {
        // Deprecated, and wins where it is said.
        action = if append.boolean()? {
            AppendAction::Append
        } else {
            AppendAction::Overwrite
        };
    }
    let kept = fields.flag("keep_empty_value")? || !value.is_empty();
    Ok(kept.then_some(HeaderAddition {
        name,
        value,
        action,
    }))
}

/// A header's name in lower case, if configurations may change it.
fn changeable(item: &Item<'_>) -> Result<String, ConfigError> {
    let name = item.text()?.to_ascii_lowercase();
    let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if name.starts_with(':') || FRAMING.contains(&name.as_str()) {
        return Err(item.refuse("cannot be changed: message boundaries or routing depend on it"));
    }
    if !name.bytes().all(token) {
        return Err(item.refuse("is not a header name"));
    }
    Ok(name)
}

/// A header's value; `%` introduces a substitution to Envoy, and `%%` stands for itself.
fn literal(item: &Item<'_>) -> Result<String, ConfigError> {
    let text = item.string()?;
    let plain = text.replace("%%", "");
    if plain.contains('%') {
        return Err(item.refuse("this datapath has no substitutions such as %PROTOCOL%"));
    }
    if text
        .bytes()
        .any(|byte| byte < b' ' && byte != b'\t' || byte == 0x7f)
    {
        return Err(item.refuse("is not a header value"));
    }
    Ok(text.replace("%%", "%"))
}

/// `request_mirror_policies`.
pub(crate) fn mirrors(fields: &mut Object<'_>) -> Result<Vec<Mirror>, ConfigError> {
    let mut mirrors = Vec::new();
    for item in fields.items("request_mirror_policies")? {
        let mirror = item.object(|fields| {
            let cluster = fields.need("cluster")?.text()?.to_owned();
            fields.ignore("trace_sampled", "nothing is traced");
            let share = match fields.take("runtime_fraction") {
                None => Share::ALL,
                Some(fraction) => fraction.object(|fraction| {
                    fraction.ignore("runtime_key", "there is no runtime");
                    share(&fraction.need("default_value")?)
                })?,
            };
            Ok(Mirror {
                cluster,
                share,
                host_suffix: !fields.flag("disable_shadow_host_suffix_append")?,
            })
        })?;
        mirrors.extend((mirror.share.0 > 0).then_some(mirror));
    }
    Ok(mirrors)
}

/// A `FractionalPercent`.
fn share(item: &Item<'_>) -> Result<Share, ConfigError> {
    item.object(|fields| {
        let numerator = fields.number_or("numerator", 0)?;
        let scale = match fields.choice("denominator", &["HUNDRED", "TEN_THOUSAND", "MILLION"])? {
            "MILLION" => 1,
            "TEN_THOUSAND" => 100,
            _ => 10_000,
        };
        Ok(Share(numerator.saturating_mul(scale).min(Share::ALL.0)))
    })
}

/// Whether a filter's configuration is an `HTTPFault`.
pub(crate) fn is_fault(item: &Item<'_>) -> bool {
    item.kind().is_some_and(|kind| kind.ends_with(FAULT))
}

/// An `HTTPFault`, with its `@type`; `None` if it does nothing.
pub(crate) fn fault(item: &Item<'_>) -> Result<Option<Fault>, ConfigError> {
    item.object(|fields| {
        match fields.kind()? {
            (_, FAULT) => {}
            (kind, _) => return Err(kind.refuse("must be HTTPFault")),
        }
        let delay = fields.take("delay").map_or(Ok(None), |delay| {
            delay.object(|delay| {
                let time = delay.need("fixed_delay")?.duration()?;
                let share = percentage(delay)?;
                Ok(Some((time, share)))
            })
        })?;
        let abort = fields.take("abort").map_or(Ok(None), |abort| {
            abort.object(|abort| {
                let item = abort.need("http_status")?;
                let status = item.number()?;
                if !(200..600).contains(&status) {
                    return Err(item.refuse("expected a status from 200 to 599"));
                }
                Ok(Some((status as u16, percentage(abort)?)))
            })
        })?;
        fields.empty("headers")?;
        fields.empty("downstream_nodes")?;
        fields.ignore("disable_downstream_cluster_stats", "statistics only");
        let delay = delay.filter(|(time, share)| share.0 > 0 && !time.is_zero());
        let abort = abort.filter(|(_, share)| share.0 > 0);
        Ok((delay.is_some() || abort.is_some()).then_some(Fault { delay, abort }))
    })
}

fn percentage(fields: &mut Object<'_>) -> Result<Share, ConfigError> {
    fields
        .take("percentage")
        .map_or(Ok(Share(0)), |item| share(&item))
}

/// `upgrade_configs` over those of the level above.
pub(crate) fn upgrades(
    fields: &mut Object<'_>,
    above: &[String],
) -> Result<Vec<String>, ConfigError> {
    let mut upgrades = above.to_vec();
    for item in fields.items("upgrade_configs")? {
        item.object(|fields| {
            let name = fields.need("upgrade_type")?;
            let kind = name.text()?.to_ascii_lowercase();
            if kind == "connect" || kind == "connect-udp" {
                return Err(name.refuse("tunnels are not supported by this datapath"));
            }
            fields.empty("filters")?;
            let enabled = fields
                .take("enabled")
                .map_or(Ok(true), |item| item.boolean())?;
            upgrades.retain(|have| *have != kind);
            upgrades.extend(enabled.then_some(kind));
            Ok(())
        })?;
    }
    Ok(upgrades)
}

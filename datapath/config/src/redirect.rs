//! Where a redirect points: the value of `location`.
//!
//! Envoy, `Http::Utility::newUri` (`source/common/http/utility.cc`) and `RouteEntryImplBase::rewritePathHeader`.

use crate::model::{PathMatch, PathRedirect, Redirect};

/// What a redirect needs to know about a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asked<'r> {
    /// `http` or `https`: what the client says it used, `x-forwarded-proto`, else the connection's own.
    pub scheme: &'r str,
    /// The host with its port as sent.
    pub authority: &'r str,
    /// Path and query.
    pub target: &'r str,
}

/// The value of `location` for a request on a route with this path pattern.
pub fn location(redirect: &Redirect, matched: &PathMatch, asked: Asked<'_>) -> String {
    let scheme = redirect.scheme.as_deref().unwrap_or(asked.scheme);
    let port = redirect
        .port
        .map(|port| format!(":{port}"))
        .unwrap_or_default();
    let host = match &redirect.host {
        Some(host) => host,
        None => host_to_keep(asked, scheme, !port.is_empty()),
    };
    let (path, query) = match asked.target.find('?') {
        Some(at) => asked.target.split_at(at),
        None => (asked.target, ""),
    };
    let (path, query) = match &redirect.path {
        PathRedirect::Keep => (path.to_owned(), query),
        // A query of its own replaces the request's, and stays.
        PathRedirect::Whole(whole) if whole.contains('?') => {
            return format!("{scheme}://{host}{port}{}{whole}", slash(whole));
        }
        PathRedirect::Whole(whole) => (whole.clone(), query),
        PathRedirect::Prefix(prefix) => {
            let length = match matched {
                PathMatch::Prefix(text) | PathMatch::Separated(text) => text.len(),
                PathMatch::Exact(_) | PathMatch::Regex(_) => path.len(),
            };
            (
                format!("{prefix}{}", path.get(length..).unwrap_or("")),
                query,
            )
        }
    };
    // A replaced prefix may have brought a query as well.
    let target = path + query;
    let target = match target.split_once('?') {
        Some((path, _)) if redirect.strip_query => path,
        _ => &target,
    };
    format!("{scheme}://{host}{port}{}{target}", slash(target))
}

/// The slash that a path should begin with, if it does not.
fn slash(path: &str) -> &'static str {
    if path.starts_with('/') { "" } else { "/" }
}

/// The request's host, without its port if another one is given or if it was the default of a scheme that changes.
fn host_to_keep<'r>(asked: Asked<'r>, scheme: &str, other_port: bool) -> &'r str {
    let authority = asked.authority;
    let at = if authority.starts_with('[') {
        authority.rfind("]:").map(|at| at + 1)
    } else {
        authority.rfind(':')
    };
    let Some(at) = at else {
        return authority;
    };
    let default = match asked.scheme {
        "http" => ":80",
        "https" => ":443",
        _ => "",
    };
    if other_port || scheme != asked.scheme && authority[at..] == *default {
        &authority[..at]
    } else {
        authority
    }
}

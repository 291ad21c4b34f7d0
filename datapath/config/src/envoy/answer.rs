//! `envoy.config.route.v3.RedirectAction` and `DirectResponseAction`.

use crate::model::{DirectResponse, PathRedirect, Redirect};
use crate::reader::Object;

/// Reads a redirect.
pub(crate) fn redirect(fields: &mut Object<'_>) -> Redirect {
    let scheme = fields.take("scheme_redirect");
    let https = fields.take("https_redirect");
    if let (Some(_), Some(https)) = (&scheme, &https) {
        https.refuse("stands beside scheme_redirect: use one");
    }
    let scheme = match (scheme, https) {
        (Some(scheme), _) => set(scheme.string()),
        (None, Some(https)) if https.boolean() => Some("https".to_owned()),
        _ => None,
    };
    let host = set(fields.string("host_redirect"));
    let port = fields.take("port_redirect").map(|port| port.number());
    let status = fields.choice("response_code", &STATUSES.map(|(name, _)| name));
    let status = STATUSES.iter().find(|(name, _)| *name == status);
    let mut paths = Vec::new();
    if let Some(item) = fields.take("path_redirect") {
        paths.push((PathRedirect::Whole(item.string().to_owned()), item));
    }
    if let Some(item) = fields.take("prefix_rewrite") {
        paths.push((PathRedirect::Prefix(item.string().to_owned()), item));
    }
    if let [_, (_, second), ..] = paths.as_slice() {
        second.refuse("stands beside path_redirect: use one");
    }
    // Envoy treats an empty one as none.
    let path = match paths.pop() {
        Some((PathRedirect::Whole(path) | PathRedirect::Prefix(path), _)) if path.is_empty() => {
            PathRedirect::Keep
        }
        Some((path, _)) => path,
        None => PathRedirect::Keep,
    };
    Redirect {
        scheme,
        host,
        // 0 is protobuf's "not set".
        port: port.filter(|port| *port != 0),
        path,
        strip_query: fields.flag("strip_query"),
        status: status.map_or(301, |(_, status)| *status),
    }
}

/// `RedirectResponseCode`; the first is the default.
const STATUSES: [(&str, u16); 5] = [
    ("MOVED_PERMANENTLY", 301),
    ("FOUND", 302),
    ("SEE_OTHER", 303),
    ("TEMPORARY_REDIRECT", 307),
    ("PERMANENT_REDIRECT", 308),
];

fn set(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}

/// Reads a direct response; `most` is the longest body that there may be, bytes.
pub(crate) fn direct_response(fields: &mut Object<'_>, most: u32) -> DirectResponse {
    let status = fields.need("status");
    let number = u16::try_from(status.number()).unwrap_or(u16::MAX);
    if !(200..600).contains(&number) {
        status.refuse("must be from 200 to 599");
    }
    let body = fields.take("body").map_or("", |body| {
        let text = body.message("DataSource", |body| body.need("inline_string").string());
        if text.len() > most as usize {
            body.refuse_place(format!(
                "has {} bytes: max_direct_response_body_size_bytes is {most}",
                text.len()
            ));
        }
        text
    });
    DirectResponse {
        status: number,
        body: body.to_owned(),
    }
}

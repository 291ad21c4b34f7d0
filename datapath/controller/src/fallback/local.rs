//! Answers that routes give by themselves: redirects and direct responses.

use http::header::HOST;
use hyper::{Request, StatusCode};
use kmesh_config::LocalAnswer;
use kmesh_config::redirect::{Asked, location};

use super::reply::Reply;

/// What the route says to this request.
pub(super) fn local<B>(answer: &LocalAnswer, request: &Request<B>) -> Reply {
    let status = |number| StatusCode::from_u16(number).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    match answer {
        LocalAnswer::Redirect(redirect, matched) => Reply {
            location: Some(location(redirect, matched, asked(request))),
            ..Reply::new(status(redirect.status), "")
        },
        LocalAnswer::Direct(direct) => Reply::new(status(direct.status), &direct.body),
    }
}

/// Envoy's `:scheme` is what `x-forwarded-proto` says, if it says something that it knows; two of them say nothing.
fn asked<B>(request: &Request<B>) -> Asked<'_> {
    let header = |name: &str| {
        let value = request.headers().get(name)?;
        value.to_str().ok()
    };
    let mut forwarded = request.headers().get_all("x-forwarded-proto").iter();
    let forwarded = (forwarded.next())
        .filter(|_| forwarded.next().is_none())
        .and_then(|value| value.to_str().ok());
    let authority = request.uri().authority().map(http::uri::Authority::as_str);
    let target = request.uri().path_and_query();
    Asked {
        scheme: forwarded
            .filter(|scheme| matches!(*scheme, "http" | "https"))
            .unwrap_or("http"),
        authority: authority.or_else(|| header(HOST.as_str())).unwrap_or(""),
        target: target.map_or("/", |target| target.as_str()),
    }
}

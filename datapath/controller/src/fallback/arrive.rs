//! What a listener does to requests before it looks at routes: the path in its normal form, who the client is, an id.

use std::net::IpAddr;

use http::header::HeaderValue;
use hyper::body::Incoming;
use hyper::{Request, StatusCode, Uri};
use kmesh_config::policy::{HttpOptions, PathOptions};

use super::normal::{Normal, normal};
use super::reply::Reply;

/// Does to an arriving request what its listener asks for before routes are looked at.
///
/// # Errors
/// The reply, if it gets no further.
pub(super) fn arrive(
    request: &mut Request<Incoming>,
    options: &HttpOptions,
    client: IpAddr,
) -> Result<(), Reply> {
    let bad = || Reply::new(StatusCode::BAD_REQUEST, "");
    if options.paths != PathOptions::default() {
        let target = request
            .uri()
            .path_and_query()
            .map_or("/", |target| target.as_str());
        match normal(target, options.paths) {
            Normal::Refused => return Err(bad()),
            Normal::Redirect(target) => {
                let mut reply = Reply::new(StatusCode::TEMPORARY_REDIRECT, "");
                reply.location = Some(target);
                return Err(reply);
            }
            Normal::Target(new) if new != target => {
                let mut parts = request.uri().clone().into_parts();
                parts.path_and_query = Some(new.parse().map_err(|_| bad())?);
                *request.uri_mut() = Uri::from_parts(parts).map_err(|_| bad())?;
            }
            Normal::Target(_) => {}
        }
    }
    let headers = request.headers_mut();
    if options.forwarded_for {
        let earlier = headers
            .get_all(FORWARDED_FOR)
            .iter()
            .map(HeaderValue::as_bytes);
        let own = client.to_string();
        let all: Vec<&[u8]> = earlier.chain([own.as_bytes()]).collect();
        let all = HeaderValue::from_bytes(&all.join(&b","[..])).map_err(|_| bad())?;
        headers.insert(FORWARDED_FOR, all);
        headers.insert(FORWARDED_PROTO, HeaderValue::from_static("http"));
    }
    if options.request_id && !headers.contains_key(REQUEST_ID) {
        let id = HeaderValue::from_str(&random_id()).map_err(|_| bad())?;
        headers.insert(REQUEST_ID, id);
    }
    Ok(())
}

const FORWARDED_FOR: &str = "x-forwarded-for";
const FORWARDED_PROTO: &str = "x-forwarded-proto";
const REQUEST_ID: &str = "x-request-id";

/// A random UUID (RFC 9562 section 5.4).
fn random_id() -> String {
    let [a, b, c, d] = rand::random::<[u32; 4]>();
    let (b, c) = (b & 0xffff_0fff | 0x4000, c & 0x3fff_ffff | 0x8000_0000);
    format!(
        "{a:08x}-{:04x}-{:04x}-{:04x}-{:04x}{d:08x}",
        b >> 16,
        b & 0xffff,
        c >> 16,
        c & 0xffff
    )
}

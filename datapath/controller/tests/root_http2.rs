//! HTTP/2 with prior knowledge on both sides, and gRPC with its trailers.
#![expect(
    clippy::unwrap_used,
    reason = "a test fails by panicking, in its own functions too"
)]

use crate::lab;

use std::convert::Infallible;
use std::net::TcpListener;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::client::conn::http2::SendRequest;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper::{HeaderMap, Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use lab::agent::{Agent, agent};
use lab::config::{cluster, http, resources};
use lab::{HTTP_PORT, Mesh, RAW_PORT, WEB, root};
use serde_json::json;
use tokio::net::TcpStream;
use tokio::runtime::Runtime;

/// `/grpc` goes to a cluster that speaks HTTP/2, in s3; `/dead` to one of those where nobody listens; the rest to s1.
fn mesh(test: &str) -> Mesh {
    let mut mesh = Mesh::bare(test);
    let to = |prefix: &str, cluster: &str| json!({ "match": { "prefix": prefix }, "route": { "cluster": cluster, "timeout": "0s" } });
    let routes = json!([to("/grpc", "grpc"), to("/dead", "dead"), to("/", "one")]);
    let hosts = json!([{ "name": "all", "domains": ["*"], "routes": routes }]);
    let speaking = |mut cluster: serde_json::Value| {
        let options = json!({
            "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
            "explicit_http_config": { "http2_protocol_options": {} },
        });
        cluster["typed_extension_protocol_options"] =
            json!({ "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": options });
        cluster
    };
    mesh.configure(&resources(
        &[http(mesh.vip(WEB), &hosts)],
        &[
            cluster("one", &[mesh.endpoint("s1", HTTP_PORT)]),
            speaking(cluster("grpc", &[mesh.endpoint("s3", RAW_PORT)])),
            speaking(cluster("dead", &[mesh.endpoint("s3", 9)])),
        ],
    ));
    mesh.enrol(&lab::LOCAL);
    mesh.start();
    mesh.serve("s1");
    mesh
}

/// A server in s3 that echoes bodies with a gRPC status behind them.
fn echo(mesh: &Mesh, runtime: &Runtime) -> Agent {
    let agent = agent(&mesh.lab, "s3");
    let listener: TcpListener = agent.listen(mesh.endpoint("s3", RAW_PORT)).unwrap();
    listener.set_nonblocking(true).unwrap();
    runtime.spawn(async move {
        let listener = tokio::net::TcpListener::from_std(listener).unwrap();
        while let Ok((stream, _)) = listener.accept().await {
            let io = TokioIo::new(stream);
            let builder = http2::Builder::new(TokioExecutor::new());
            tokio::spawn(builder.serve_connection(io, service_fn(answer)));
        }
    });
    agent
}

async fn answer(
    request: Request<Incoming>,
) -> Result<Response<impl hyper::body::Body<Data = Bytes, Error = Infallible>>, Infallible> {
    let authority = request.uri().authority().unwrap().to_string();
    let te = request.headers().get("te").cloned();
    let body = request.into_body().collect().await.unwrap().to_bytes();
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", "0".parse().unwrap());
    let frames = [Ok(Frame::data(body)), Ok(Frame::trailers(trailers))];
    let body = StreamBody::new(Frames(frames.into_iter().collect()));
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert("content-type", "application/grpc".parse().unwrap());
    headers.insert("x-authority", authority.parse().unwrap());
    if let Some(te) = te {
        headers.insert("x-te", te);
    }
    Ok(response)
}

type Item = Result<Frame<Bytes>, Infallible>;

/// A body's frames, all there.
struct Frames(std::collections::VecDeque<Item>);

impl futures_core::Stream for Frames {
    type Item = Item;

    fn poll_next(
        mut self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Item>> {
        std::task::Poll::Ready(self.0.pop_front())
    }
}

async fn client(mesh: &Mesh) -> SendRequest<Full<Bytes>> {
    let stream = mesh.client.connect(mesh.vip(WEB)).unwrap();
    stream.set_nonblocking(true).unwrap();
    let io = TokioIo::new(TcpStream::from_std(stream).unwrap());
    let (sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), io)
        .await
        .unwrap();
    tokio::spawn(connection);
    sender
}

fn call(path: &str, body: &'static [u8]) -> Request<Full<Bytes>> {
    Request::post(format!("http://svc.test{path}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(Full::new(Bytes::from_static(body)))
        .unwrap()
}

#[test]
fn http2_clients_reach_every_kind_of_server() {
    if !root("http2_clients_reach_every_kind_of_server") {
        return;
    }
    let runtime = Runtime::new().unwrap();
    let mesh = mesh("http2");
    let _agent = echo(&mesh, &runtime);
    runtime.block_on(async {
        let mut client = client(&mesh).await;
        // Several at once, on one connection.
        let calls = (0..20).map(|_| client.send_request(call("/grpc/echo", b"hello")));
        let calls: Vec<_> = calls.map(tokio::spawn).collect();
        for call in calls {
            let response = call.await.unwrap().unwrap();
            assert_eq!(response.headers()["x-authority"], "svc.test");
            assert_eq!(response.headers()["x-te"], "trailers");
            let body = response.into_body().collect().await.unwrap();
            assert_eq!(body.trailers().unwrap()["grpc-status"], "0");
            assert_eq!(body.to_bytes(), "hello");
        }
        let plain = client.send_request(call("/plain", b"hello")).await.unwrap();
        assert_eq!(
            (plain.status().as_u16(), &plain.headers()["x-served-by"]),
            (200, &"s1".parse().unwrap())
        );
        let dead = client.send_request(call("/dead", b"")).await.unwrap();
        assert_eq!(
            (dead.status().as_u16(), &dead.headers()["grpc-status"]),
            (200, &"14".parse().unwrap())
        );
    });
    assert_eq!(mesh.status().leases.violations, [""; 0]);
}

#[test]
fn http1_clients_reach_http2_servers() {
    if !root("http1_clients_reach_http2_servers") {
        return;
    }
    let runtime = Runtime::new().unwrap();
    let mesh = mesh("http1-2");
    let _agent = echo(&mesh, &runtime);
    let mut client = mesh.connect();
    for _ in 0..5 {
        client.send("POST /grpc/echo HTTP/1.1\r\nHost: svc.test\r\nContent-Length: 5\r\n\r\nhello");
        let response = client.receive(false);
        assert_eq!(
            (response.status, response.body.as_slice()),
            (200, &b"hello"[..])
        );
        assert_eq!(response.header("x-authority"), "svc.test");
    }
    assert_eq!(mesh.requests().by_reason["http2"], 5);
    // Its other routes stay in the kernel.
    mesh.warm(&mut client, &[("/plain", "")]);
}

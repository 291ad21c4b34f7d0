//! A gRPC client and a gRPC server: tonic's, with messages that are bytes, so that no code is generated from a schema.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::net::SocketAddr;

use bytes::{Buf as _, BufMut as _};
use http::uri::PathAndQuery;
use http::{Request, Response};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tonic::body::Body;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::server::UnaryService;
use tonic::transport::Endpoint;
use tonic::{Code, Status};

/// The method that sends back what it gets.
const ECHO: &str = "/first/Echo";
/// A method that nobody serves.
const MISSING: &str = "/first/Missing";

/// Messages as they are.
#[derive(Clone, Copy, Debug, Default)]
struct Bytes;

impl Codec for Bytes {
    type Encode = Vec<u8>;
    type Decode = Vec<u8>;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Bytes {
    type Item = Vec<u8>;
    type Error = Status;

    fn encode(&mut self, message: Vec<u8>, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put_slice(&message);
        Ok(())
    }
}

impl Decoder for Bytes {
    type Item = Vec<u8>;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Vec<u8>>, Status> {
        let mut message = vec![0; buffer.remaining()];
        buffer.copy_to_slice(&mut message);
        Ok(Some(message))
    }
}

/// Calls methods of the server at `url`, one after the other on one connection; what came of each.
///
/// # Errors
/// If there is no connection, or an answer is not what was sent.
pub async fn call(url: String) -> anyhow::Result<Vec<String>> {
    let channel = Endpoint::from_shared(url)?.connect().await?;
    let mut client = tonic::client::Grpc::new(channel);
    let mut heard = Vec::new();
    for (method, size) in [(ECHO, 5), (ECHO, 200_000), (MISSING, 0), (ECHO, 0)] {
        client.ready().await?;
        let message = vec![b'm'; size];
        let request = tonic::Request::new(message.clone());
        let path = PathAndQuery::from_static(method);
        heard.push(match client.unary(request, path, Bytes).await {
            Ok(answer) => {
                let echo = answer.into_inner();
                anyhow::ensure!(echo == message, "{} bytes came back", echo.len());
                format!("{:?}:{size}", Code::Ok)
            }
            Err(status) => format!("{:?}", status.code()),
        });
    }
    Ok(heard)
}

/// Sends back what it gets.
#[derive(Clone, Copy, Debug)]
struct Echo;

impl UnaryService<Vec<u8>> for Echo {
    type Response = Vec<u8>;
    type Future = Ready<Result<tonic::Response<Vec<u8>>, Status>>;

    fn call(&mut self, request: tonic::Request<Vec<u8>>) -> Self::Future {
        ready(Ok(tonic::Response::new(request.into_inner())))
    }
}

async fn answer(request: Request<Incoming>) -> Result<Response<Body>, Infallible> {
    let answer = match request.uri().path() {
        ECHO => tonic::server::Grpc::new(Bytes).unary(Echo, request).await,
        // The lab asks whether the server is ready.
        "/" => Response::new(Body::new(
            "ready".to_owned().map_err(|never| match never {}),
        )),
        _ => Status::unimplemented("there is no such method").into_http(),
    };
    Ok(answer)
}

/// Serves at these addresses, HTTP/2 or HTTP/1.1 as the client likes; says `ready` by calling it.
///
/// # Errors
/// If an address can't be listened on, or a listener fails.
pub async fn serve(
    addresses: &[SocketAddr],
    ready: impl FnOnce() -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let mut serving = JoinSet::new();
    for at in addresses {
        let listener = TcpListener::bind(at).await?;
        serving.spawn(accept(listener));
    }
    ready()?;
    while let Some(ended) = serving.join_next().await {
        ended??;
    }
    Ok(())
}

async fn accept(listener: TcpListener) -> std::io::Result<()> {
    loop {
        let (socket, _) = listener.accept().await?;
        tokio::spawn(async move {
            let server = auto::Builder::new(TokioExecutor::new());
            // Its client sees how it ends.
            let _ = server
                .serve_connection(TokioIo::new(socket), service_fn(answer))
                .await;
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_sent_comes_back() {
        let at = std::net::TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap();
        let (told, listening) = tokio::sync::oneshot::channel();
        let server = tokio::spawn(async move {
            let tell = || {
                told.send(())
                    .map_err(|()| anyhow::anyhow!("nobody listens"))
            };
            serve(&[at], tell).await
        });
        listening.await.unwrap();
        let heard = call(format!("http://{at}")).await.unwrap();
        assert_eq!(heard, ["Ok:5", "Ok:200000", "Unimplemented", "Ok:0"]);
        server.abort();
    }
}

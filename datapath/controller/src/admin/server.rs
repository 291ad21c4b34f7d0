//! HTTP/1.1 over a control socket.

use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tokio::sync::Semaphore;
use tracing::debug;

use super::Socket;

/// Connections at once; more wait.
const CONNECTIONS_MAX: usize = 32;
/// Longest request body, bytes.
const BODY_MAX: usize = 1 << 20;

/// What is asked for.
pub struct Call {
    /// The method.
    pub method: Method,
    /// The path.
    pub path: String,
    /// The body.
    pub body: Bytes,
}

/// An answer.
pub struct Answer {
    status: StatusCode,
    body: Vec<u8>,
}

impl Answer {
    /// 200 with this body.
    pub fn ok(body: impl Into<Vec<u8>>) -> Self {
        Self {
            status: StatusCode::OK,
            body: body.into(),
        }
    }

    /// There is no such thing.
    pub fn unknown() -> Self {
        Self {
            status: StatusCode::NOT_FOUND,
            body: b"no such resource".to_vec(),
        }
    }

    /// It cannot be done now.
    pub fn refused(why: impl Into<Vec<u8>>) -> Self {
        Self {
            status: StatusCode::CONFLICT,
            body: why.into(),
        }
    }

    /// It makes no sense.
    pub fn senseless(why: impl Into<Vec<u8>>) -> Self {
        Self {
            status: StatusCode::BAD_REQUEST,
            body: why.into(),
        }
    }
}

/// Answers calls; one value for each connection, which goes with it.
pub trait Service: Send + Sync + 'static {
    /// Answers a call.
    fn answer(&self, call: Call) -> impl Future<Output = Answer> + Send;
}

/// Accepts connections until the task is aborted; those that are there go on.
pub async fn serve<S: Service>(mut socket: Socket, service: impl Fn() -> S) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        // Never closed.
        let Ok(place) = Arc::clone(&places).acquire_owned().await else {
            return;
        };
        let stream = socket.accept().await;
        let service = Arc::new(service());
        tokio::spawn(async move {
            converse(stream, service).await;
            drop(place);
        });
    }
}

async fn converse<S: Service>(stream: UnixStream, service: Arc<S>) {
    let answer = |request: Request<Incoming>| {
        let service = Arc::clone(&service);
        async move {
            let answer = answer(&*service, request).await;
            let mut response = Response::new(Full::new(Bytes::from(answer.body)));
            *response.status_mut() = answer.status;
            Ok::<_, Infallible>(response)
        }
    };
    // A connection stays as long as who made it: its end says that they are gone.
    let served = http1::Builder::new()
        .serve_connection(TokioIo::new(stream), service_fn(answer))
        .await;
    if let Err(error) = served {
        debug!(%error, "a control connection ended early");
    }
}

async fn answer<S: Service>(service: &S, request: Request<Incoming>) -> Answer {
    let (head, body) = request.into_parts();
    match Limited::new(body, BODY_MAX).collect().await {
        Ok(body) => {
            let call = Call {
                method: head.method,
                path: head.uri.path().to_owned(),
                body: body.to_bytes(),
            };
            service.answer(call).await
        }
        Err(error) => Answer::senseless(error.to_string()),
    }
}

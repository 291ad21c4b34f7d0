//! gRPC: one connection, over which each session has a stream of its own.

use std::error::Error as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use http::uri::PathAndQuery;
use tokio::sync::{Mutex, mpsc};
use tokio_stream::wrappers::UnboundedReceiverStream;
use tokio_stream::{Stream, StreamExt as _};
use tonic::client::Grpc;
use tonic::codec::Streaming;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};
use tonic_prost::ProstCodec;

use crate::session::{Request, Response};
use crate::{Protocol, wire};

const SOTW: &str =
    "/envoy.service.discovery.v3.AggregatedDiscoveryService/StreamAggregatedResources";
const DELTA: &str =
    "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources";

/// Bytes that one stream, and all of them together, may be sent before the client has read them: a full push to every pod
/// must not wait for the pod that is served first.
const STREAM_WINDOW: u32 = 4 << 20;
const CONNECTION_WINDOW: u32 = 64 << 20;
/// Sessions that find the connection broken at the same time share the outcome of one try.
const SHARED_FAILURE: Duration = Duration::from_millis(20);

/// Where the control plane is and how to speak to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// `http://HOST:PORT`, or `https://HOST:PORT` for TLS.
    pub uri: String,
    /// The form of the protocol.
    pub protocol: Protocol,
    /// File with the certificates (PEM) that the control plane's may be signed by; read for each connection.
    pub ca: Option<PathBuf>,
    /// The name in the control plane's certificate, if it is not the URI's host.
    pub server_name: Option<String>,
    /// File with the token that says who we are; read for each stream, since it is replaced before it expires.
    pub token: Option<PathBuf>,
    /// How long the control plane may be silent before it is asked whether it is there, and then before it is given up.
    pub keepalive: Duration,
    /// Bytes of a response at most. (gRPC's own limit is 4 MiB, which a thousand services exceed.)
    pub message_max: usize,
}

impl Settings {
    /// Plain settings for this URI.
    pub fn new(uri: &str, protocol: Protocol) -> Self {
        Self {
            uri: uri.to_owned(),
            protocol,
            ca: None,
            server_name: None,
            token: None,
            keepalive: Duration::from_secs(10),
            message_max: 256 << 20,
        }
    }

    fn secure(&self) -> bool {
        self.uri.starts_with("https://")
    }

    /// Whether these settings make sense, without trying them.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn check(&self) -> Result<(), TransportError> {
        let wrong = |what: &str| Err(TransportError::Settings(format!("{}: {what}", self.uri)));
        if !self.secure() && !self.uri.starts_with("http://") {
            return wrong("must begin with http:// or https://");
        }
        if !self.secure() && (self.ca.is_some() || self.server_name.is_some()) {
            return wrong("a CA file and a server name need https://");
        }
        if !self.secure() && self.token.is_some() {
            return wrong("the token would travel in clear text: use https://");
        }
        Endpoint::from_shared(self.uri.clone())
            .map(drop)
            .map_err(|error| TransportError::Settings(format!("{}: {error}", self.uri)))
    }
}

/// Why there is no stream.
#[derive(Clone, Debug, thiserror::Error)]
pub enum TransportError {
    /// The settings can't be used.
    #[error("{0}")]
    Settings(String),
    /// A file can't be read.
    #[error("cannot read {}: {cause}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        cause: String,
    },
    /// There is no connection.
    #[error("cannot connect to {uri}: {cause}")]
    Connect {
        /// Where.
        uri: String,
        /// What the system said, down to the last cause.
        cause: String,
    },
    /// The connection broke.
    #[error("the connection to the control plane broke: {0}")]
    Broken(String),
    /// There is a control plane, but it is not ready.
    #[error("the control plane is not ready: {0}")]
    NotReady(String),
    /// The control plane ended the stream with an error.
    #[error("the control plane ended the stream: {0}")]
    Refused(String),
    /// The control plane ended the stream without an error.
    #[error("the control plane ended the stream, without an error")]
    Ended,
}

impl TransportError {
    /// Whether there is a control plane that says no, instead of none.
    pub fn refused(&self) -> bool {
        matches!(
            self,
            Self::Settings(_) | Self::File { .. } | Self::Refused(_)
        )
    }
}

/// The connection that all streams share; made when needed.
pub struct Connection {
    settings: Settings,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    channel: Option<(u64, Channel)>,
    made: u64,
    failed: Option<(Instant, TransportError)>,
}

/// A stream's two directions.
pub struct Duplex {
    /// Which connection it uses.
    pub connection: u64,
    /// What the control plane sends.
    pub responses: Responses,
}

/// Responses of either protocol.
pub enum Responses {
    /// States of the world.
    Sotw(Box<Streaming<wire::DiscoveryResponse>>),
    /// Changes.
    Delta(Box<Streaming<wire::DeltaDiscoveryResponse>>),
}

impl Responses {
    /// The next response.
    ///
    /// # Errors
    /// [`TransportError`] when the stream is over, in whatever way.
    pub async fn next(&mut self) -> Result<Response, TransportError> {
        let next = match self {
            Self::Sotw(responses) => responses.message().await.map(|it| it.map(Response::Sotw)),
            Self::Delta(responses) => responses.message().await.map(|it| it.map(Response::Delta)),
        };
        next.map_err(|status| over(&status))?
            .ok_or(TransportError::Ended)
    }
}

impl Connection {
    /// A connection that is not made yet.
    pub fn new(settings: Settings) -> Self {
        Self {
            settings,
            state: Mutex::default(),
        }
    }

    /// How many connections were made so far.
    pub async fn made(&self) -> u64 {
        self.state.lock().await.made
    }

    /// Opens a stream that sends these requests. The first ones must be there already: control planes answer nothing, not
    /// even the call, before they know who calls.
    ///
    /// # Errors
    /// [`TransportError`] if there is no connection, or if the control plane refuses the stream.
    pub async fn open(
        &self,
        requests: mpsc::UnboundedReceiver<Request>,
    ) -> Result<Duplex, TransportError> {
        let token = self.token().await?;
        let (connection, channel) = self.channel().await?;
        let mut grpc = Grpc::new(channel).max_decoding_message_size(self.settings.message_max);
        grpc.ready()
            .await
            .map_err(|error| TransportError::Broken(chain(&error)))?;
        let responses = match self.settings.protocol {
            Protocol::Sotw => {
                let requests = stream(requests, |request| match request {
                    Request::Sotw(request) => Some(request),
                    Request::Delta(_) => None,
                });
                let codec =
                    ProstCodec::<wire::DiscoveryRequest, wire::DiscoveryResponse>::default();
                let call = grpc.streaming(
                    with(requests, token),
                    PathAndQuery::from_static(SOTW),
                    codec,
                );
                call.await
                    .map(|response| Responses::Sotw(Box::new(response.into_inner())))
            }
            Protocol::Delta => {
                let requests = stream(requests, |request| match request {
                    Request::Delta(request) => Some(request),
                    Request::Sotw(_) => None,
                });
                let codec = ProstCodec::<wire::DeltaDiscoveryRequest, wire::DeltaDiscoveryResponse>::default();
                let call = grpc.streaming(
                    with(requests, token),
                    PathAndQuery::from_static(DELTA),
                    codec,
                );
                call.await
                    .map(|response| Responses::Delta(Box::new(response.into_inner())))
            }
        };
        match responses {
            Ok(responses) => Ok(Duplex {
                connection,
                responses,
            }),
            Err(status) => {
                let error = over(&status);
                self.lost(connection, &error).await;
                Err(error)
            }
        }
    }

    /// A stream over this connection ended so; if the connection broke, the next stream makes another one.
    pub async fn lost(&self, connection: u64, error: &TransportError) {
        let mut state = self.state.lock().await;
        let ours = state
            .channel
            .as_ref()
            .is_some_and(|(made, _)| *made == connection);
        if ours && matches!(error, TransportError::Broken(_)) {
            state.channel = None;
        }
    }

    async fn channel(&self) -> Result<(u64, Channel), TransportError> {
        let mut state = self.state.lock().await;
        if let Some((made, channel)) = &state.channel {
            return Ok((*made, channel.clone()));
        }
        if let Some((at, error)) = &state.failed
            && at.elapsed() < SHARED_FAILURE
        {
            return Err(error.clone());
        }
        match self.connect().await {
            Ok(channel) => {
                state.made += 1;
                state.failed = None;
                state.channel = Some((state.made, channel.clone()));
                Ok((state.made, channel))
            }
            Err(error) => {
                state.failed = Some((Instant::now(), error.clone()));
                Err(error)
            }
        }
    }

    async fn connect(&self) -> Result<Channel, TransportError> {
        let settings = &self.settings;
        settings.check()?;
        let failed = |error: tonic::transport::Error| TransportError::Connect {
            uri: settings.uri.clone(),
            cause: chain(&error),
        };
        let mut endpoint = Endpoint::from_shared(settings.uri.clone())
            .map_err(failed)?
            .connect_timeout(Duration::from_secs(5))
            .tcp_nodelay(true)
            .http2_keep_alive_interval(settings.keepalive)
            .keep_alive_timeout(settings.keepalive)
            .keep_alive_while_idle(true)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW);
        if settings.secure() {
            let mut tls = ClientTlsConfig::new();
            if let Some(ca) = &settings.ca {
                tls = tls.ca_certificate(Certificate::from_pem(file(ca).await?));
            }
            if let Some(name) = &settings.server_name {
                tls = tls.domain_name(name);
            }
            endpoint = endpoint.tls_config(tls).map_err(failed)?;
        }
        endpoint.connect().await.map_err(failed)
    }

    async fn token(&self) -> Result<Option<MetadataValue<Ascii>>, TransportError> {
        let Some(path) = &self.settings.token else {
            return Ok(None);
        };
        let token = String::from_utf8_lossy(&file(path).await?)
            .trim()
            .to_owned();
        let value = format!("Bearer {token}").parse();
        value.map(Some).map_err(|_| TransportError::File {
            path: path.clone(),
            cause: "is no token: has characters that a header can't have".to_owned(),
        })
    }
}

async fn file(path: &Path) -> Result<Vec<u8>, TransportError> {
    let read = tokio::fs::read(path).await;
    read.map_err(|error| TransportError::File {
        path: path.to_owned(),
        cause: error.to_string(),
    })
}

fn stream<M>(
    requests: mpsc::UnboundedReceiver<Request>,
    of: impl Fn(Request) -> Option<M>,
) -> impl Stream<Item = M> {
    UnboundedReceiverStream::new(requests).filter_map(of)
}

fn with<S>(requests: S, token: Option<MetadataValue<Ascii>>) -> tonic::Request<S> {
    let mut request = tonic::Request::new(requests);
    if let Some(token) = token {
        request.metadata_mut().insert("authorization", token);
    }
    request
}

/// A status that the control plane sent has no cause; those that were made here have.
fn over(status: &tonic::Status) -> TransportError {
    match status.source() {
        Some(source) => TransportError::Broken(chain(source)),
        None if status.code() == tonic::Code::Unavailable => {
            TransportError::NotReady(status.message().to_owned())
        }
        None => TransportError::Refused(format!("{:?}: {}", status.code(), status.message())),
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

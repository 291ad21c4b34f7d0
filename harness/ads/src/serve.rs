//! The control plane over gRPC, on a thread of its own, with the faults that need a network.

use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use kmesh_xds::session::{Request, Response};
use kmesh_xds::{Protocol, wire};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{broadcast, mpsc, oneshot, watch};
use tokio_stream::wrappers::UnboundedReceiverStream;
use tokio_stream::{Stream as _, StreamExt as _};
use tonic::codec::Streaming;
use tonic::server::{Grpc, StreamingService};
use tonic::{Code, Status};
use tonic_prost::ProstCodec;

use crate::{Conversation, Quirks, World};

/// TLS, and the token that streams must bring.
#[derive(Clone)]
pub struct Guard {
    /// What the server shows.
    pub tls: Arc<tokio_rustls::rustls::ServerConfig>,
    /// The token that is valid at present.
    pub token: Arc<Mutex<String>>,
}

/// What streams are told to do.
#[derive(Clone, Copy, Debug)]
enum Order {
    Push,
    /// End, with this code; without an error if it is `Ok`.
    End(Code),
}

struct Shared {
    world: Mutex<Arc<World>>,
    quirks: Mutex<Quirks>,
    orders: broadcast::Sender<Order>,
    frozen: watch::Sender<bool>,
    refusing: AtomicBool,
    connections: AtomicU64,
    streams: AtomicU64,
    open: AtomicU64,
    requests: Mutex<Vec<Request>>,
}

/// A control plane at an address of this machine. Gone when dropped, connections and all.
pub struct Server {
    address: SocketAddr,
    shared: Arc<Shared>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Server {
    /// Starts it at a free port.
    ///
    /// # Errors
    /// If the address can't be had.
    pub fn start(world: World) -> Result<Self> {
        Self::start_at(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), world, None)
    }

    /// Starts it at this address.
    ///
    /// # Errors
    /// If the address can't be had.
    pub fn start_at(address: SocketAddr, world: World, guard: Option<Guard>) -> Result<Self> {
        let socket = tokio::net::TcpSocket::new_v4()?;
        socket.set_reuseaddr(true)?;
        socket
            .bind(address)
            .with_context(|| format!("cannot bind {address}"))?;
        let address = socket.local_addr()?;
        let shared = Arc::new(Shared {
            world: Mutex::new(Arc::new(world)),
            quirks: Mutex::default(),
            orders: broadcast::Sender::new(64),
            frozen: watch::Sender::new(false),
            refusing: AtomicBool::new(false),
            connections: AtomicU64::new(0),
            streams: AtomicU64::new(0),
            open: AtomicU64::new(0),
            requests: Mutex::default(),
        });
        let (stop, stopped) = oneshot::channel();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let listener = {
            let _inside = runtime.enter();
            socket.listen(1024)?
        };
        let inner = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name("ads".to_owned())
            .spawn(move || {
                runtime.block_on(async {
                    tokio::select! {
                        () = accept(listener, inner, guard) => {}
                        _ = stopped => {}
                    }
                });
            })?;
        Ok(Self {
            address,
            shared,
            stop: Some(stop),
            thread: Some(thread),
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Has these resources from now on, and pushes them.
    pub fn set_world(&self, world: World) {
        *locked(&self.shared.world) = Arc::new(world);
        self.order(Order::Push);
    }

    /// What it has.
    pub fn world(&self) -> World {
        World::clone(&*locked(&self.shared.world))
    }

    /// Does these things wrong from the next message on.
    pub fn set_quirks(&self, quirks: Quirks) {
        *locked(&self.shared.quirks) = quirks;
    }

    /// Ends every stream; without an error if the code is `Ok`.
    pub fn end_streams(&self, code: Code) {
        self.order(Order::End(code));
    }

    /// Neither reads nor writes while frozen, like a process that is stopped; the kernel still accepts connections.
    pub fn freeze(&self, frozen: bool) {
        self.shared.frozen.send_replace(frozen);
    }

    /// Refuses each new stream.
    pub fn refuse(&self, refusing: bool) {
        self.shared.refusing.store(refusing, Ordering::SeqCst);
    }

    /// Connections accepted so far.
    pub fn connections(&self) -> u64 {
        self.shared.connections.load(Ordering::SeqCst)
    }

    /// Streams open now.
    pub fn open_streams(&self) -> u64 {
        self.shared.open.load(Ordering::SeqCst)
    }

    /// Every request so far.
    pub fn requests(&self) -> Vec<Request> {
        locked(&self.shared.requests).clone()
    }

    fn order(&self, order: Order) {
        // Nobody listens: no stream is open.
        let _ = self.shared.orders.send(order);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.shared.frozen.send_replace(false);
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A panic there was printed there.
            let _ = thread.join();
        }
    }
}

/// Waits until `is` holds.
///
/// # Errors
/// If it does not within `most`.
pub fn until(most: Duration, what: &str, mut is: impl FnMut() -> bool) -> Result<Duration> {
    let since = Instant::now();
    while !is() {
        anyhow::ensure!(since.elapsed() < most, "not within {most:?}: {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(since.elapsed())
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn accept(listener: TcpListener, shared: Arc<Shared>, guard: Option<Guard>) {
    // Dropped with this function: connections end with the server.
    let mut connections = tokio::task::JoinSet::new();
    loop {
        let Ok((tcp, _)) = listener.accept().await else {
            continue;
        };
        shared.connections.fetch_add(1, Ordering::SeqCst);
        let _ = tcp.set_nodelay(true);
        let io = Freezable::new(tcp, shared.frozen.subscribe());
        let (shared, guard) = (Arc::clone(&shared), guard.clone());
        connections.spawn(async move {
            match guard {
                None => connection(io, shared, None).await,
                Some(guard) => {
                    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::clone(&guard.tls));
                    if let Ok(io) = acceptor.accept(io).await {
                        connection(io, shared, Some(guard)).await;
                    }
                }
            }
        });
        while connections.try_join_next().is_some() {}
    }
}

async fn connection(
    io: impl AsyncRead + AsyncWrite + Unpin,
    shared: Arc<Shared>,
    guard: Option<Guard>,
) {
    let service = service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
        let stream = Stream {
            shared: Arc::clone(&shared),
            guard: guard.clone(),
        };
        async move {
            let response = if request.uri().path().ends_with("/DeltaAggregatedResources") {
                let codec = ProstCodec::<wire::DeltaDiscoveryResponse, wire::DeltaDiscoveryRequest>::default();
                Grpc::new(codec).streaming(stream, request).await
            } else {
                let codec =
                    ProstCodec::<wire::DiscoveryResponse, wire::DiscoveryRequest>::default();
                Grpc::new(codec).streaming(stream, request).await
            };
            Ok::<_, std::convert::Infallible>(response)
        }
    });
    // A connection that breaks is what the tests are about.
    let _ = http2::Builder::new(TokioExecutor::new())
        .serve_connection(TokioIo::new(io), service)
        .await;
}

/// One call of the service.
struct Stream {
    shared: Arc<Shared>,
    guard: Option<Guard>,
}

type Answers<M> = Pin<Box<dyn tokio_stream::Stream<Item = Result<M, Status>> + Send>>;
type Call<M> = Pin<Box<dyn Future<Output = Result<tonic::Response<Answers<M>>, Status>> + Send>>;

impl StreamingService<wire::DiscoveryRequest> for Stream {
    type Response = wire::DiscoveryResponse;
    type ResponseStream = Answers<Self::Response>;
    type Future = Call<Self::Response>;

    fn call(&mut self, request: tonic::Request<Streaming<wire::DiscoveryRequest>>) -> Self::Future {
        let answers = self
            .begin(Protocol::Sotw, request, Request::Sotw)
            .map(|answers| {
                let answers = answers.filter_map(|answer| match answer {
                    Ok(Response::Sotw(response)) => Some(Ok(response)),
                    Ok(Response::Delta(_)) => None,
                    Err(status) => Some(Err(status)),
                });
                tonic::Response::new(Box::pin(answers) as Answers<_>)
            });
        Box::pin(std::future::ready(answers))
    }
}

impl StreamingService<wire::DeltaDiscoveryRequest> for Stream {
    type Response = wire::DeltaDiscoveryResponse;
    type ResponseStream = Answers<Self::Response>;
    type Future = Call<Self::Response>;

    fn call(
        &mut self,
        request: tonic::Request<Streaming<wire::DeltaDiscoveryRequest>>,
    ) -> Self::Future {
        let answers = self
            .begin(Protocol::Delta, request, Request::Delta)
            .map(|answers| {
                let answers = answers.filter_map(|answer| match answer {
                    Ok(Response::Delta(response)) => Some(Ok(response)),
                    Ok(Response::Sotw(_)) => None,
                    Err(status) => Some(Err(status)),
                });
                tonic::Response::new(Box::pin(answers) as Answers<_>)
            });
        Box::pin(std::future::ready(answers))
    }
}

impl Stream {
    fn begin<M: Send + 'static>(
        &self,
        protocol: Protocol,
        request: tonic::Request<Streaming<M>>,
        of: fn(M) -> Request,
    ) -> Result<UnboundedReceiverStream<Result<Response, Status>>, Status> {
        if self.shared.refusing.load(Ordering::SeqCst) {
            return Err(Status::unavailable("not ready"));
        }
        if let Some(guard) = &self.guard {
            let wanted = format!("Bearer {}", locked(&guard.token));
            let token = request
                .metadata()
                .get("authorization")
                .and_then(|value| value.to_str().ok());
            if token != Some(wanted.as_str()) {
                return Err(Status::unauthenticated("this token is not valid"));
            }
        }
        let (answers, outgoing) = mpsc::unbounded_channel();
        let orders = self.shared.orders.subscribe();
        let shared = Arc::clone(&self.shared);
        let number = shared.streams.fetch_add(1, Ordering::SeqCst);
        let conversation = Conversation::new(protocol, locked(&shared.quirks).clone(), number);
        let requests = request.into_inner();
        tokio::spawn(async move {
            shared.open.fetch_add(1, Ordering::SeqCst);
            converse(&shared, conversation, requests, of, orders, &answers).await;
            shared.open.fetch_sub(1, Ordering::SeqCst);
        });
        Ok(UnboundedReceiverStream::new(outgoing))
    }
}

async fn converse<M>(
    shared: &Shared,
    mut conversation: Conversation,
    mut requests: Streaming<M>,
    of: fn(M) -> Request,
    mut orders: broadcast::Receiver<Order>,
    answers: &mpsc::UnboundedSender<Result<Response, Status>>,
) {
    loop {
        let responses = tokio::select! {
            request = requests.message() => {
                let Ok(Some(request)) = request else { return };
                let request = of(request);
                locked(&shared.requests).push(request.clone());
                let world = Arc::clone(&locked(&shared.world));
                conversation.set_quirks(locked(&shared.quirks).clone());
                conversation.request(request, &world)
            }
            order = orders.recv() => match order {
                Ok(Order::End(Code::Ok)) | Err(broadcast::error::RecvError::Closed) => return,
                Ok(Order::End(code)) => {
                    let _ = answers.send(Err(Status::new(code, "ended on purpose")));
                    return;
                }
                // Some were missed: the last state is what counts.
                Ok(Order::Push) | Err(broadcast::error::RecvError::Lagged(_)) => {
                    let world = Arc::clone(&locked(&shared.world));
                    conversation.set_quirks(locked(&shared.quirks).clone());
                    conversation.push(&world)
                }
            },
        };
        for response in responses {
            if answers.send(Ok(response)).is_err() {
                return;
            }
        }
    }
}

/// A socket that stands still while it is frozen.
struct Freezable {
    tcp: TcpStream,
    frozen: tokio_stream::wrappers::WatchStream<bool>,
    now: bool,
}

impl Freezable {
    fn new(tcp: TcpStream, frozen: watch::Receiver<bool>) -> Self {
        let now = *frozen.borrow();
        Self {
            tcp,
            frozen: tokio_stream::wrappers::WatchStream::new(frozen),
            now,
        }
    }

    /// Pending while frozen; wakes when that ends.
    fn poll_thawed(&mut self, context: &mut Context<'_>) -> Poll<()> {
        while let Poll::Ready(Some(frozen)) = Pin::new(&mut self.frozen).poll_next(context) {
            self.now = frozen;
        }
        if self.now {
            Poll::Pending
        } else {
            Poll::Ready(())
        }
    }
}

impl AsyncRead for Freezable {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        std::task::ready!(self.poll_thawed(context));
        Pin::new(&mut self.tcp).poll_read(context, buffer)
    }
}

impl AsyncWrite for Freezable {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        std::task::ready!(self.poll_thawed(context));
        Pin::new(&mut self.tcp).poll_write(context, bytes)
    }

    fn poll_flush(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.tcp).poll_flush(context)
    }

    fn poll_shutdown(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.tcp).poll_shutdown(context)
    }
}

//! Faults that need a network: control planes that are killed, restarted, frozen, or refuse, under a client that must not
//! lose what it has.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use kmesh_xds::{Answer, Client, Kind, Protocol, Resource, Settings, Subscription};
use serde::Serialize;
use tonic::Code;

use crate::serve::until;
use crate::{Server, World, link, synthetic};

/// How long a client may take that is starved of CPU.
pub const LONG: Duration = Duration::from_secs(30);

/// A client of this server that takes everything.
///
/// # Errors
/// If it can't be started.
pub fn client(server: &Server, protocol: Protocol) -> Result<Client> {
    let mut settings = Settings::new(&format!("http://{}", server.address()), protocol);
    settings.keepalive = Duration::from_millis(300);
    start(settings)
}

/// A client with these settings that takes everything.
///
/// # Errors
/// If it can't be started.
pub fn start(settings: Settings) -> Result<Client> {
    let takes = |_: &Resource| Answer::Taken { inert: Vec::new() };
    Ok(Client::start(settings, Arc::new(takes))?)
}

/// How many clusters are in force.
pub fn clusters(subscription: &Subscription) -> usize {
    let snapshots = subscription.snapshots();
    let snapshot = snapshots.borrow();
    snapshot
        .as_ref()
        .map_or(0, |snapshot| snapshot.resources(Kind::Cluster).len())
}

/// Waits until what is in force is this world.
///
/// # Errors
/// If that takes too long.
pub fn converged(subscription: &Subscription, world: &World) -> Result<Duration> {
    until(LONG, "converged", || {
        let snapshots = subscription.snapshots();
        let snapshot = snapshots.borrow();
        let Some(snapshot) = snapshot.as_ref() else {
            return false;
        };
        Kind::ALL.into_iter().all(|kind| {
            let held = snapshot.resources(kind);
            held.len() == world.resources(kind).count()
                && world.resources(kind).all(|(name, served)| {
                    held.get(name)
                        .is_some_and(|held| held.resource.bytes() == served.bytes)
                })
        })
    })
    .with_context(|| format!("{:#?}", subscription.status()))
}

/// What came of many outages.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Outages {
    /// Outages, a quarter of each kind: killed and restarted, streams ended, frozen, refusing.
    pub outages: u32,
    /// States in which something was missing that the control plane had, before, during, or after.
    pub lost: u32,
    /// From the control plane's return to the state that it had by then, milliseconds, at most.
    pub converged_ms_max: u64,
    /// Connections that the client made.
    pub connections: u64,
}

/// Ends the control plane in every way, `rounds` times each; the mesh changes meanwhile.
///
/// # Errors
/// If the client does not come back.
pub fn outages(protocol: Protocol, rounds: u32) -> Result<Outages> {
    let mut world = synthetic::mesh(5, 2);
    let mut server = Server::start(world.clone())?;
    let client = client(&server, protocol)?;
    let subscription = client.subscribe(&link::identity());
    converged(&subscription, &world)?;
    let mut watch = Watch::new(&subscription);
    let mut outcome = Outages::default();
    for round in 0..rounds {
        for way in 0..4 {
            let shift = round * 4 + way + 1;
            let alone = || subscription.status().alone.is_some();
            match way {
                0 => {
                    let address = server.address();
                    drop(server);
                    until(LONG, "noticed that it is gone", alone)?;
                    synthetic::put_endpoints(&mut world, shift % 5, 2, shift);
                    server = Server::start_at(address, world.clone(), None)?;
                }
                1 => {
                    server.end_streams(if round % 2 == 0 {
                        Code::Ok
                    } else {
                        Code::Unavailable
                    });
                    synthetic::put_endpoints(&mut world, shift % 5, 2, shift);
                    server.set_world(world.clone());
                }
                2 => {
                    server.freeze(true);
                    synthetic::put_endpoints(&mut world, shift % 5, 2, shift);
                    server.set_world(world.clone());
                    until(LONG, "noticed that it is frozen", alone)?;
                    server.freeze(false);
                }
                _ => {
                    server.refuse(true);
                    server.end_streams(Code::Unavailable);
                    until(LONG, "noticed that it is refused", alone)?;
                    synthetic::put_endpoints(&mut world, shift % 5, 2, shift);
                    server.set_world(world.clone());
                    server.refuse(false);
                }
            }
            let took = converged(&subscription, &world)
                .with_context(|| format!("round {round}, way {way}"))?;
            outcome.outages += 1;
            outcome.converged_ms_max = outcome.converged_ms_max.max(took.as_millis() as u64);
        }
        outcome.lost += watch.lost();
    }
    outcome.connections = client.connections();
    Ok(outcome)
}

/// Sees every state that a subscription gives, on a thread of its own.
struct Watch {
    lost: std::sync::mpsc::Receiver<()>,
}

impl Watch {
    fn new(subscription: &Subscription) -> Self {
        let mut snapshots = subscription.snapshots();
        let (tell, lost) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().build();
            let Ok(runtime) = runtime else { return };
            runtime.block_on(async {
                while snapshots.changed().await.is_ok() {
                    let whole = snapshots
                        .borrow_and_update()
                        .as_ref()
                        .is_some_and(|snapshot| {
                            Kind::ALL
                                .into_iter()
                                .all(|kind| snapshot.resources(kind).len() == 5)
                        });
                    if !whole && tell.send(()).is_err() {
                        return;
                    }
                }
            });
        });
        Self { lost }
    }

    /// How many states had something missing since the last time.
    fn lost(&mut self) -> u32 {
        self.lost.try_iter().count() as u32
    }
}

/// What many pods cost.
#[derive(Clone, Debug, Serialize)]
pub struct Pods {
    /// Streams.
    pub pods: usize,
    /// Connections that they share.
    pub connections: u64,
    /// Different resources that all of them hold.
    pub resources: usize,
    /// Of a single pod.
    pub resources_of_one: usize,
    /// From the control plane's return until all have everything again, milliseconds.
    pub resync_ms: u64,
}

/// Many pods with the same configuration on one connection, which breaks and comes back: all are pushed everything at once.
///
/// # Errors
/// If one of them does not get everything.
pub fn pods(protocol: Protocol, count: usize, services: u32) -> Result<Pods> {
    let world = synthetic::mesh(services, 2);
    let server = Server::start(world.clone())?;
    server.set_quirks(crate::Quirks {
        ignores_versions: true,
        ..crate::Quirks::default()
    });
    let client = client(&server, protocol)?;
    let subscriptions: Vec<Subscription> = (0..count)
        .map(|number| {
            let mut identity = link::identity();
            identity.pod = format!("pod-{number}");
            client.subscribe(&identity)
        })
        .collect();
    for subscription in &subscriptions {
        converged(subscription, &world)?;
    }
    let connections = client.connections();
    let resources = client.resources();
    let address = server.address();
    drop(server);
    for subscription in &subscriptions {
        until(LONG, "noticed that it is gone", || {
            subscription.status().alone.is_some()
        })?;
        ensure!(
            clusters(subscription) == services as usize,
            "clusters were lost"
        );
    }
    let _server = Server::start_at(address, world.clone(), None)?;
    let since = Instant::now();
    for subscription in &subscriptions {
        until(LONG, "back", || {
            let status = subscription.status();
            status.connected
                && status.alone.is_none()
                && status.kinds.iter().all(|kind| kind.warming == 0)
        })?;
        converged(subscription, &world)?;
    }
    Ok(Pods {
        pods: count,
        connections,
        resources,
        resources_of_one: 4 * services as usize,
        resync_ms: since.elapsed().as_millis() as u64,
    })
}

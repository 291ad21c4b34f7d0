//! All of it in one run: the acceptance list, outages, many pods, and how long large meshes take.

use std::time::{Duration, Instant};

use kmesh_xds::Protocol;
use serde::Serialize;

use crate::cases::{self, CASES};
use crate::network::{self, Outages, Pods};
use crate::serve::until;
use crate::{Server, link, synthetic};

/// Most milliseconds from a control plane's return to its state.
const RETURN_MS_MAX: u64 = 1_000;

/// What came of it; the object on stdout.
#[derive(Clone, Debug, Serialize)]
pub struct Outcome {
    /// Reports that were checked, each with both protocols, and once more spoiled.
    pub compared: u64,
    /// Those of them that don't hold.
    pub mismatches: u64,
    /// What was said of these.
    pub findings: Vec<String>,
    /// The reports.
    pub held: Vec<&'static str>,
    /// Outages with states of the world.
    pub outages_sotw: Outages,
    /// Outages with changes.
    pub outages_delta: Outages,
    /// Many pods on one connection.
    pub pods: Pods,
    /// Meshes from connect to complete.
    pub meshes: Vec<Mesh>,
    /// How long all of it took.
    pub seconds: f64,
}

/// One mesh from connect to complete.
#[derive(Clone, Debug, Serialize)]
pub struct Mesh {
    /// Its services.
    pub services: u32,
    /// Their endpoints.
    pub endpoints: u32,
    /// From connect to complete, milliseconds, the test server's own time included; it runs on the same CPUs.
    pub complete_ms: u64,
    /// From the response in which one endpoint moves to the state in which it has moved, milliseconds.
    pub move_ms: u64,
}

impl Outcome {
    /// Whether every report holds and no state was lost.
    pub fn right(&self) -> bool {
        let outages = [&self.outages_sotw, &self.outages_delta];
        self.mismatches == 0 && outages.iter().all(|outages| outages.lost == 0)
    }

    /// Whether each control plane's return was noticed in time, and all pods shared one connection.
    pub fn in_time(&self) -> bool {
        let outages = [&self.outages_sotw, &self.outages_delta];
        let in_time = outages
            .iter()
            .all(|outages| outages.converged_ms_max <= RETURN_MS_MAX);
        in_time && self.pods.connections == 1
    }
}

/// Verifies; `outages` of each kind and protocol, and meshes of these many services with their endpoints each.
///
/// # Errors
/// If a client never gets what it is served.
pub fn verify(outages: u32, pods: usize, meshes: &[(u32, u32)]) -> anyhow::Result<Outcome> {
    let begun = Instant::now();
    let mut findings = Vec::new();
    let mut held = Vec::new();
    for case in &CASES {
        match cases::check(case) {
            Ok(()) => held.push(case.id),
            Err(error) => {
                eprintln!("{}: {error:#}", case.id);
                findings.push(format!("{error:#}"));
            }
        }
    }
    eprintln!("acceptance list: {} of {} hold", held.len(), CASES.len());
    let outages_sotw = network::outages(Protocol::Sotw, outages)?;
    let outages_delta = network::outages(Protocol::Delta, outages)?;
    eprintln!("outages: {outages_sotw:?}, {outages_delta:?}");
    let pods = network::pods(Protocol::Delta, pods, 100)?;
    eprintln!("pods: {pods:?}");
    let mut measured = Vec::new();
    for (services, each) in meshes {
        let mesh = mesh(*services, *each)?;
        eprintln!("mesh: {mesh:?}");
        measured.push(mesh);
    }
    Ok(Outcome {
        compared: CASES.len() as u64,
        mismatches: findings.len() as u64,
        findings,
        held,
        outages_sotw,
        outages_delta,
        pods,
        meshes: measured,
        seconds: begun.elapsed().as_secs_f64(),
    })
}

fn mesh(services: u32, each: u32) -> anyhow::Result<Mesh> {
    let mut world = synthetic::mesh(services, each);
    let server = Server::start(world.clone())?;
    let client = network::client(&server, Protocol::Delta)?;
    let since = Instant::now();
    let subscription = client.subscribe(&link::identity());
    until(Duration::from_mins(5), "complete", || {
        network::clusters(&subscription) == services as usize
    })?;
    let complete_ms = since.elapsed().as_millis() as u64;
    synthetic::put_endpoints(&mut world, services / 2, each, 1);
    let before = subscription.snapshots().borrow().clone();
    let since = Instant::now();
    server.set_world(world);
    until(Duration::from_mins(5), "moved", || {
        let snapshots = subscription.snapshots();
        let now = snapshots.borrow();
        let name = format!("s{}", services / 2);
        let bytes = |snapshot: &kmesh_xds::Snapshot| {
            let assignment = snapshot.resources(kmesh_xds::Kind::Endpoints).get(&name);
            assignment.map(|held| held.resource.bytes().to_vec())
        };
        now.as_ref().map(bytes) != before.as_ref().map(bytes)
    })?;
    let move_ms = since.elapsed().as_millis() as u64;
    Ok(Mesh {
        services,
        endpoints: services * each,
        complete_ms,
        move_ms,
    })
}

//! Keeps services closed while no daemon runs, for `kmeshd run --when-gone closed`.
//!
//! Programs go with the process that holds their links. So a process of its own holds the connect programs' links too ([`run`]). When the
//! daemon vanishes without a farewell, it takes the pods' anchors out of the kernel's table: from then on `connect` to an
//! anchored service is refused (`EPERM`), and opaque services go on as they are. It leaves when the next daemon of that name
//! has enrolled the pods, or when `kmeshd release` tells it to; a daemon that ends in order takes it along.
//!
//! The daemon says which links are to be held ([`Guard`]); a task of its own sees to it that there is a guard and that it does.

mod process;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use hyper::Method;
use kmesh_probe::client;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tracing::error;

pub use self::process::run;
use crate::admin::{Client, GUARD, PATIENCE};
use crate::enrolment::Backoff;

/// Ids of the connect programs' links by namespace cookie of the pod.
type Links = BTreeMap<u64, Vec<u32>>;

/// What a guard is started with.
#[derive(Clone, Debug)]
pub struct Launch {
    /// The folder of sockets.
    pub run_dir: PathBuf,
    /// The daemon's name.
    pub name: String,
    /// Id of the map of pods.
    pub pods: u32,
}

/// The daemon's end.
pub struct Guard {
    /// `None` once it is to leave.
    wanted: watch::Sender<Option<Links>>,
    held: watch::Receiver<Links>,
    task: JoinHandle<()>,
}

impl Guard {
    /// Has a guard started and kept.
    pub fn keep(launch: Launch) -> Self {
        let (wanted, orders) = watch::channel(Some(Links::new()));
        let (holds, held) = watch::channel(Links::new());
        Self {
            wanted,
            held,
            task: tokio::spawn(keep(launch, orders, holds)),
        }
    }

    /// Has it hold the links with these ids for the pod with that namespace cookie.
    pub fn hold(&self, cookie: u64, links: Vec<u32>) {
        self.wanted.send_modify(|wanted| {
            if let Some(wanted) = wanted {
                wanted.insert(cookie, links);
            }
        });
    }

    /// Has it forget the pod.
    pub fn release(&self, cookie: u64) {
        self.wanted.send_modify(|wanted| {
            if let Some(wanted) = wanted {
                wanted.remove(&cookie);
            }
        });
    }

    /// Waits until it holds what it is to hold.
    pub fn settled(&self) -> impl Future<Output = ()> + use<> {
        let (wanted, mut held) = (self.wanted.borrow().clone(), self.held.clone());
        async move {
            // The task that ended has nothing to wait for.
            let _ = held
                .wait_for(|held| wanted.as_ref().is_none_or(|wanted| wanted == held))
                .await;
        }
    }

    /// Has it leave in order and waits until it is gone.
    pub async fn dismiss(self) {
        self.wanted.send_replace(None);
        let _ = self.task.await;
    }
}

async fn keep(
    launch: Launch,
    mut orders: watch::Receiver<Option<Links>>,
    holds: watch::Sender<Links>,
) {
    let mut pauses = Backoff::new(Duration::from_millis(10), Duration::from_secs(1));
    while let Err(error) = tend(&launch, &mut orders, &holds).await {
        holds.send_replace(Links::new());
        error!(
            "the guard is lost, another one is started, services are open if this daemon is killed meanwhile: {error:#}"
        );
        sleep(pauses.pause()).await;
    }
}

/// Starts a guard and has it do as ordered, until it is ordered to leave.
async fn tend(
    launch: &Launch,
    orders: &mut watch::Receiver<Option<Links>>,
    holds: &watch::Sender<Links>,
) -> Result<()> {
    let mut child = spawn(launch)?;
    // Its end is this daemon's end. `Child::wait` closes a pipe that the child still has.
    let _lifeline = child.stdin.take();
    let obeyed = command(launch, &mut child, orders, holds).await;
    if obeyed.is_err() {
        // Its name is needed for the next one.
        child.kill().await?;
    }
    obeyed
}

async fn command(
    launch: &Launch,
    child: &mut Child,
    orders: &mut watch::Receiver<Option<Links>>,
    holds: &watch::Sender<Links>,
) -> Result<()> {
    let mut guard = greet(launch, child).await?;
    let mut held = Links::new();
    loop {
        let Some(wanted) = orders.borrow_and_update().clone() else {
            return leave(child, guard).await;
        };
        for cookie in held.keys().filter(|cookie| !wanted.contains_key(cookie)) {
            let pod = format!("/pods/{cookie}");
            guard.call(Method::DELETE, &pod, "").await?;
        }
        for (cookie, links) in &wanted {
            if held.get(cookie) != Some(links) {
                let pod = format!("/pods/{cookie}");
                let links = serde_json::to_vec(links)?;
                guard.call(Method::PUT, &pod, links).await?;
            }
        }
        held.clone_from(&wanted);
        holds.send_replace(wanted);
        tokio::select! {
            changed = orders.changed() => if changed.is_err() {
                return leave(child, guard).await;
            },
            status = child.wait() => bail!("it ended: {}", status?),
        }
    }
}

fn spawn(launch: &Launch) -> io::Result<Child> {
    Command::new("/proc/self/exe")
        .arg("guard")
        .arg("--run-dir")
        .arg(&launch.run_dir)
        .args(["--name", &launch.name])
        .args(["--pods-map", &launch.pods.to_string()])
        // It notices this daemon's end by the end of the pipe.
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        // What the terminal sends to the daemon is not for the guard.
        .process_group(0)
        .spawn()
}

async fn greet(launch: &Launch, child: &mut Child) -> Result<Client> {
    let said = child.stdout.take().context("the guard has no pipe")?;
    let mut line = String::new();
    let said = timeout(PATIENCE, BufReader::new(said).read_line(&mut line)).await;
    said.context("the guard says nothing")??;
    if line.is_empty() {
        bail!("the guard did not start: {}", child.wait().await?);
    }
    let path = client::socket(&launch.run_dir, &launch.name, GUARD)?;
    let guard = Client::connect(&path).await?;
    guard.context("the guard does not listen")
}

async fn leave(child: &mut Child, mut guard: Client) -> Result<()> {
    /// One that takes longer is killed: nobody is waiting to be released.
    const FAREWELL: Duration = Duration::from_secs(5);
    let farewell = async {
        // It may be gone before its answer has left.
        let _ = guard.call(Method::DELETE, "/", "").await;
        child.wait().await
    };
    if timeout(FAREWELL, farewell).await.is_err() {
        child.kill().await?;
    }
    Ok(())
}

/// Sends a guard that was left behind away and waits until it is gone; `false` if there is none.
///
/// # Errors
/// If it does not obey.
pub async fn dismiss(run_dir: &Path, name: &str) -> Result<bool> {
    let path = client::socket(run_dir, name, GUARD)?;
    let Some(mut guard) = Client::connect(&path).await? else {
        return Ok(false);
    };
    let answer = guard.call(Method::DELETE, "/", "").await;
    // It may be gone before its answer has left.
    let gone = timeout(PATIENCE, guard.closed()).await;
    if gone.is_err() {
        answer?;
        bail!("the guard of {name} does not leave");
    }
    Ok(true)
}

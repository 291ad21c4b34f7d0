//! What the root tests share: a lab with pods, servers and a daemon, and waiting for conditions.
#![expect(
    clippy::unwrap_used,
    reason = "a test fails by panicking, in its own functions too"
)]

pub(crate) mod agent;
pub(crate) mod config;
pub(crate) mod http;
pub(crate) mod load;
pub(crate) mod objects;
pub(crate) mod raw;

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use kmesh_api::limits::LARGE_PLACES;
use kmesh_probe::Status;
use kmesh_probe::status::Requests;
use netns_lab::{Lab, PodSpec, ServiceSpec, Topology};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use self::agent::{Agent, agent};
use self::config::{cluster, http, resources, route, tcp};
use self::http::{Client, get};

/// True if the test can run. A skip looks like a pass, so with CI=true it is a failure.
pub(crate) fn root(test: &str) -> bool {
    if nix::unistd::geteuid().is_root() {
        return true;
    }
    assert_ne!(
        std::env::var("CI").as_deref(),
        Ok("true"),
        "{test} needs root"
    );
    println!("SKIP {test}: needs root");
    false
}

/// Waits until a condition holds; on failure the message is what it last said.
pub(crate) fn eventually(what: &str, mut holds: impl FnMut() -> Result<(), String>) {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        match holds() {
            Ok(()) => return,
            Err(why) => assert!(Instant::now() < deadline, "{what}: {why}"),
        }
        std::thread::park_timeout(Duration::from_millis(5));
    }
}

/// Port of the HTTP listener.
pub(crate) const WEB: u16 = 80;
/// Port of the TCP listener.
pub(crate) const TCP: u16 = 9000;
/// Port where the servers serve HTTP.
pub(crate) const HTTP_PORT: u16 = 8080;
/// Port where tests serve by hand.
pub(crate) const RAW_PORT: u16 = 8090;
/// A port where nobody listens.
const DEAD_PORT: u16 = 9;

/// A lab with two client pods and three servers, nobody enrolled yet.
pub(crate) struct Mesh {
    pub(crate) lab: Lab,
    pub(crate) daemon: Option<Daemon>,
    pub(crate) client: Agent,
    pub(crate) servers: Vec<(String, Child)>,
    pub(crate) dir: tempfile::TempDir,
    pub(crate) name: String,
    pods_name: &'static str,
}

/// Pods that send.
pub(crate) const CLIENTS: [&str; 2] = ["client", "other"];
/// Pods that serve.
pub(crate) const SERVERS: [&str; 3] = ["s1", "s2", "s3"];
/// Every pod: servers are on this node.
pub(crate) const LOCAL: [&str; 5] = ["client", "other", "s1", "s2", "s3"];

impl Mesh {
    /// A lab with servers but no daemon.
    pub(crate) fn bare(test: &str) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("{test}-{}-{count}", std::process::id());
        let pod = |name: &&str| PodSpec {
            name: (*name).to_owned(),
            ..PodSpec::default()
        };
        let lab = Lab::up(&Topology {
            name: test.to_owned(),
            pods: LOCAL.iter().map(pod).collect(),
            services: vec![ServiceSpec {
                name: "web".to_owned(),
                ports: vec![WEB, TCP],
                pods: SERVERS.map(str::to_owned).to_vec(),
                ..ServiceSpec::default()
            }],
        })
        .unwrap();
        let client = agent(&lab, "client");
        let dir = tempfile::tempdir().unwrap();
        Self {
            lab,
            daemon: None,
            client,
            servers: Vec::new(),
            dir,
            name,
            pods_name: "pods.json",
        }
    }

    /// The usual: servers run, everything is enrolled.
    pub(crate) fn local(test: &str) -> Self {
        Self::up(test, &LOCAL)
    }

    /// Only the client pods are enrolled: the servers might as well be on another node.
    pub(crate) fn remote(test: &str) -> Self {
        Self::up(test, &CLIENTS)
    }

    fn up(test: &str, enrolled: &[&str]) -> Self {
        let mut mesh = Self::bare(test);
        mesh.configure(&mesh.standard());
        mesh.enrol(enrolled);
        mesh.start();
        // After the daemon: listeners from before enrolment are not covered.
        for server in SERVERS {
            mesh.serve(server);
        }
        mesh
    }

    /// The service's address.
    pub(crate) fn vip(&self, port: u16) -> SocketAddr {
        SocketAddr::new(self.lab.services()[0].vip4.into(), port)
    }

    /// The service's IPv6 address.
    pub(crate) fn vip6(&self, port: u16) -> SocketAddr {
        SocketAddr::new(self.lab.services()[0].vip6.into(), port)
    }

    /// Where a pod serves.
    pub(crate) fn endpoint(&self, pod: &str, port: u16) -> SocketAddr {
        SocketAddr::new(self.lab.pod(pod).unwrap().ipv4().into(), port)
    }

    fn endpoint6(&self, pod: &str, port: u16) -> SocketAddr {
        SocketAddr::new(self.lab.pod(pod).unwrap().ipv6().into(), port)
    }

    /// The configuration of most tests. By path: `/one` only s1; `/weighted` s1 or s3, even; `/six` s1 by IPv6;
    /// `/dead` a closed port; `/raw` what [`raw::serve`] does in s3; `/empty` no endpoints; else s1 and s2 by turns. `end-user: jason` goes to s3.
    pub(crate) fn standard(&self) -> Value {
        self.resources_with("stable")
    }

    /// The same with another cluster for the default route.
    pub(crate) fn resources_with(&self, default: &str) -> Value {
        let prefix = |prefix: &str| json!({ "prefix": prefix });
        let canary = json!({
            "prefix": "/",
            "headers": [{ "name": "end-user", "string_match": { "exact": "jason" } }],
        });
        let hosts = json!([
            { "name": "svc", "domains": ["svc.test", "*.svc.test"], "routes": [
                route(&canary, &[("canary", 1)]),
                route(&prefix("/one"), &[("one", 1)]),
                route(&prefix("/weighted"), &[("one", 50), ("canary", 50)]),
                route(&prefix("/six"), &[("six", 1)]),
                route(&prefix("/dead"), &[("dead", 1)]),
                route(&prefix("/empty"), &[("empty", 1)]),
                route(&prefix("/raw"), &[("raw", 1)]),
                route(&prefix("/"), &[(default, 1)]),
            ] },
            { "name": "strict", "domains": ["strict.test"], "routes": [
                route(&json!({ "path": "/known" }), &[("one", 1)]),
            ] },
        ]);
        let at = |pod: &str| self.endpoint(pod, HTTP_PORT);
        resources(
            &[
                http(self.vip(WEB), &hosts),
                http(self.vip6(WEB), &hosts),
                tcp(self.vip(TCP), "echo"),
            ],
            &[
                cluster("stable", &[at("s1"), at("s2")]),
                cluster("canary", &[at("s3")]),
                cluster("one", &[at("s1")]),
                cluster("six", &[self.endpoint6("s1", HTTP_PORT)]),
                cluster("dead", &[self.endpoint("s1", DEAD_PORT)]),
                cluster("empty", &[]),
                cluster("raw", &[self.endpoint("s3", RAW_PORT)]),
                cluster("echo", &[self.endpoint("s2", TCP)]),
            ],
        )
    }

    pub(crate) fn config_path(&self) -> PathBuf {
        self.dir.path().join("resources.yaml")
    }

    pub(crate) fn pods_path(&self) -> PathBuf {
        self.dir.path().join(self.pods_name)
    }

    /// Writes the configuration, at once as an editor or a deployment tool would.
    pub(crate) fn configure(&self, resources: &Value) {
        replace(&self.config_path(), resources.to_string());
    }

    /// Writes the pods file.
    pub(crate) fn enrol(&self, pods: &[&str]) {
        replace(&self.pods_path(), self.pods(pods).to_string());
    }

    /// Writes another daemon's pods file: this one's daemon reads its own no more.
    pub(crate) fn enrol_later(&mut self, pods: &[&str]) {
        self.pods_name = "more.json";
        self.enrol(pods);
    }

    fn pods(&self, names: &[&str]) -> Value {
        names.iter().map(|name| self.entry(name)).collect()
    }

    /// A pod's entry in a pods file.
    pub(crate) fn entry(&self, name: &str) -> Value {
        let pod = self.lab.pod(name).unwrap();
        json!({ "name": name, "netns": pod.netns_path(), "cgroup": pod.cgroup() })
    }

    /// Writes a pods file of these entries.
    pub(crate) fn enrol_entries(&self, entries: &[Value]) {
        replace(&self.pods_path(), Value::from(entries).to_string());
    }

    /// Waits until these pods are enrolled.
    pub(crate) fn enrolled(&self, wanted: &[&str]) {
        eventually("the pods are followed", || {
            let pods = self.status().pods;
            (pods == wanted).then_some(()).ok_or(format!("{pods:?}"))
        });
    }

    /// Waits until a refusal that says `wanted` is reported.
    pub(crate) fn refused(&self, wanted: &str) {
        eventually("the refusal is reported", || {
            let refused = self.status().refused.unwrap_or_default();
            refused.contains(wanted).then_some(()).ok_or(refused)
        });
    }

    /// Waits until nothing is refused and the configuration is of that generation.
    pub(crate) fn generation(&self, wanted: u64) {
        eventually("the configuration is active", || {
            let status = self.status();
            let good = status.generation == wanted && status.refused.is_none();
            good.then_some(()).ok_or(format!("{status}"))
        });
    }

    /// The daemon's command line.
    pub(crate) fn command(&self, name: &str) -> Command {
        let mut command = self
            .lab
            .daemon_command(env!("CARGO_BIN_EXE_kmeshd"), name, &[])
            .unwrap();
        command
            .args(["run", "--name", name, "--config"])
            .arg(self.config_path())
            .arg("--pods")
            .arg(self.pods_path())
            .stderr(
                fs::OpenOptions::new()
                    .create(true)
                    .append(true)
                    .open(self.log_path())
                    .unwrap(),
            );
        command
    }

    /// What the daemon says.
    pub(crate) fn log_path(&self) -> PathBuf {
        self.dir.path().join("kmeshd.log")
    }

    /// Starts the daemon and waits until it is ready.
    pub(crate) fn start(&mut self) {
        self.start_with(&[]);
    }

    /// Starts the daemon with more arguments and waits until it is ready.
    pub(crate) fn start_with(&mut self, more: &[&str]) {
        self.daemon = Some(self.launch(more));
    }

    /// Starts a daemon that takes over from the one that runs, and waits until it is ready.
    pub(crate) fn successor(&self) -> Daemon {
        self.launch(&["--replace"])
    }

    /// Starts a daemon that the caller keeps, and waits until it is ready.
    pub(crate) fn launch(&self, more: &[&str]) -> Daemon {
        self.launch_as(&self.name, more)
    }

    /// The same under another name.
    pub(crate) fn launch_as(&self, name: &str, more: &[&str]) -> Daemon {
        let mut command = self.command(name);
        command.args(more);
        self.launch_command(command)
    }

    /// Starts a daemon by a command that the caller has changed, and waits until it is ready.
    pub(crate) fn launch_command(&self, command: Command) -> Daemon {
        let child = self.lab.spawn(quiet(command)).unwrap();
        Daemon::ready(child).unwrap_or_else(|| {
            panic!(
                "kmeshd did not start: {}",
                fs::read_to_string(self.log_path()).unwrap()
            )
        })
    }

    /// Starts the server of a pod and waits until it is ready.
    pub(crate) fn serve(&mut self, name: &str) {
        self.serve_with(name, &[]);
    }

    /// The same with more arguments.
    pub(crate) fn serve_with(&mut self, name: &str, more: &[&str]) {
        let pod = self.lab.pod(name).unwrap();
        let mut command = pod.command(tool("kmesh-origin"));
        command
            .args(["--listen", &self.endpoint(name, HTTP_PORT).to_string()])
            .args(["--listen", &self.endpoint6(name, HTTP_PORT).to_string()])
            .args([
                "--tcp-echo",
                &self.endpoint(name, TCP).to_string(),
                "--tcp-echo-banner",
            ])
            .args(["--name", name])
            .args(more);
        let child = pod.spawn(quiet(command)).unwrap();
        let Some(child) = wait_for_line(child, "ready") else {
            panic!("kmesh-origin in {name} did not start");
        };
        self.servers.push((name.to_owned(), child));
    }

    /// Sends a signal to a pod's server.
    pub(crate) fn signal(&self, name: &str, signal: Signal) {
        let (_, child) = self.servers.iter().find(|(have, _)| have == name).unwrap();
        kill(Pid::from_raw(child.id() as i32), signal).unwrap();
    }

    /// Kills a pod's server at once and waits for its end.
    pub(crate) fn kill(&mut self, name: &str) {
        let at = self
            .servers
            .iter()
            .position(|(have, _)| have == name)
            .unwrap();
        let (_, mut child) = self.servers.remove(at);
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// A connection from the client pod to the service.
    pub(crate) fn connect(&self) -> Client {
        Client::new(self.client.connect(self.vip(WEB)).unwrap())
    }

    pub(crate) fn status(&self) -> Status {
        kmesh_probe::client::status(&self.name).unwrap()
    }

    pub(crate) fn requests(&self) -> Requests {
        self.status().requests
    }

    /// How many requests the kernel finished during `work`, and how many went to user space.
    pub(crate) fn counted(&self, work: impl FnOnce()) -> (u64, u64) {
        let before = self.requests();
        work();
        let after = self.requests();
        (after.kernel - before.kernel, after.user - before.user)
    }

    /// A kernel upstream to each server, so that the requests that follow stay in the kernel.
    pub(crate) fn warm(&self, client: &mut Client, paths: &[(&str, &str)]) {
        for (path, headers) in paths {
            eventually("requests are served in the kernel", || {
                let (kernel, _) = self.counted(|| {
                    client.get(path, headers);
                });
                if kernel == 1 {
                    Ok(())
                } else {
                    Err(format!("{:?}", self.requests()))
                }
            });
        }
    }

    /// Readers that were sent a large answer of that many bytes each and have read none of it: one for each place that the kernel has.
    pub(crate) fn occupy(&self, size: usize) -> Vec<Client> {
        (0..LARGE_PLACES).map(|_| self.occupy_one(size)).collect()
    }

    /// One such reader.
    pub(crate) fn occupy_one(&self, size: usize) -> Client {
        let mut reader = self.connect();
        self.warm(&mut reader, &[("/one", "")]);
        let counted = self.counted(|| {
            reader.send(get(&format!("/one?size={size}"), ""));
            eventually("the answer lies in the reader's queue", || {
                let leases = self.status().leases;
                (leases.leased + leases.relayed == 0)
                    .then_some(())
                    .ok_or(format!("{leases:?}"))
            });
        });
        assert_eq!(counted, (1, 0), "there is no place");
        reader
    }

    /// Ends the daemon with a signal and waits for its end.
    pub(crate) fn stop(&mut self, signal: Signal) {
        self.daemon.take().unwrap().end(signal);
    }

    /// Processes of the daemon, its guard included.
    pub(crate) fn daemon_processes(&self) -> Vec<u32> {
        let procs = self.lab.cgroup().join(&self.name).join("cgroup.procs");
        let pids = fs::read_to_string(procs).unwrap();
        pids.lines().map(|pid| pid.parse().unwrap()).collect()
    }

    /// TCP sockets that somebody has in a pod's namespace, as lines of `/proc/net/tcp`. What only waits for the end of its
    /// connection is nobody's.
    pub(crate) fn sockets(&self, pod: &str) -> Vec<String> {
        let read = || {
            let files = ["tcp", "tcp6"].map(|name| format!("/proc/thread-self/net/{name}"));
            files.map(|path| fs::read_to_string(path).unwrap()).concat()
        };
        let text = self.lab.pod(pod).unwrap().run(read).unwrap();
        let inode = |line: &&str| line.split_whitespace().nth(9)?.parse().ok();
        let owned = |line: &&str| inode(line).is_some_and(|inode: u64| inode != 0);
        text.lines().filter(owned).map(str::to_owned).collect()
    }
}

/// A running daemon.
pub(crate) struct Daemon {
    pub(crate) child: Child,
}

impl Daemon {
    /// Waits until the daemon is ready; `None` if it ended instead.
    pub(crate) fn ready(child: Child) -> Option<Self> {
        let child = wait_for_line(child, "kmeshd ready")?;
        Some(Self { child })
    }
}

impl Daemon {
    /// Ends it with a signal and waits for its end.
    pub(crate) fn end(&mut self, signal: Signal) {
        kill(Pid::from_raw(self.child.id() as i32), signal).unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Mesh {
    fn drop(&mut self) {
        for (_, server) in &mut self.servers {
            let _ = server.kill();
            let _ = server.wait();
        }
        if std::thread::panicking() {
            let log = fs::read_to_string(self.log_path()).unwrap_or_default();
            eprintln!("kmeshd said:\n{log}");
            if let Ok(status) = kmesh_probe::client::status(&self.name) {
                eprintln!("{status}");
            }
        }
    }
}

fn quiet(mut command: Command) -> Command {
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    command
}

/// Waits until the program printed that line; `None` if it ended instead.
fn wait_for_line(mut child: Child, line: &str) -> Option<Child> {
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    if lines.any(|read| read.is_ok_and(|read| read == line)) {
        return Some(child);
    }
    child.wait().unwrap();
    None
}

fn replace(path: &std::path::Path, text: String) {
    let new = path.with_extension("new");
    fs::write(&new, text).unwrap();
    fs::rename(new, path).unwrap();
}

/// A program of this workspace that belongs to another package.
pub(crate) fn tool(name: &str) -> PathBuf {
    let release = concat!(env!("CARGO_MANIFEST_DIR"), "/../../target/release");
    let dir = std::env::var_os("KMESH_BIN_DIR").map_or_else(|| release.into(), PathBuf::from);
    let path = dir.join(name);
    assert!(
        path.exists(),
        "{} is missing: cargo build --release -p {name}, or set KMESH_BIN_DIR",
        path.display()
    );
    path
}

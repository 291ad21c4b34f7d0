//! One pod against another: reproductions of attacks that once succeeded, each with the defences that it meets switched off as well
//! (`--without`), so that it is seen to be an attack.
#![expect(
    clippy::unwrap_used,
    reason = "a test fails by panicking, in its own functions too"
)]

use crate::lab;

use std::io::{BufRead as _, BufReader};
use std::net::TcpListener;
use std::os::fd::AsRawFd as _;
use std::process::{Child, Stdio};
use std::thread;
use std::time::Instant;

use kmesh_probe::status::Share;
use lab::agent::{Agent, agent};
use lab::http::{Client, get};
use lab::{HTTP_PORT, LOCAL, Mesh, RAW_PORT, SERVERS, WEB, eventually, root, tool};
use serde_json::{Value, json};

/// The defences of an upstream's identity.
const IDENTITY: [&str; 2] = ["namespace", "sequences"];
/// Connections that the node has room for where they are scarce.
const ROOM: usize = 64;

/// The usual mesh, with these arguments for the daemon.
fn mesh(test: &str, arguments: &[&str]) -> Mesh {
    let mut mesh = Mesh::bare(test);
    let mut standard = mesh.standard();
    let clusters = &mut standard["static_resources"]["clusters"];
    for cluster in clusters.as_array_mut().unwrap() {
        // A connection to a server whose queue is full comes about with its third packet, or with its fourth.
        cluster["connect_timeout"] = json!("30s");
    }
    mesh.configure(&standard);
    mesh.enrol(&LOCAL);
    mesh.start_with(arguments);
    for server in SERVERS {
        mesh.serve(server);
    }
    mesh
}

fn without(defences: &[&str]) -> Vec<String> {
    let options = defences.iter().map(|name| format!("--without={name}"));
    options.collect()
}

/// An attack, or a victim, that goes on in a pod.
struct Begun(Child);

impl Begun {
    /// Starts `kmesh-attacker` and waits until it says that it has begun.
    fn in_pod(mesh: &Mesh, pod: &str, words: &[&str]) -> Self {
        let pod = mesh.lab.pod(pod).unwrap();
        let mut command = pod.command(tool("kmesh-attacker"));
        command
            .args(words)
            .stdin(Stdio::null())
            .stdout(Stdio::piped());
        let mut begun = Self(pod.spawn(command).unwrap());
        assert_eq!(begun.line(), "ready", "{words:?}");
        begun
    }

    /// The next line that it prints; nothing at its end. It prints few: each is read by itself.
    fn line(&mut self) -> String {
        let mut line = String::new();
        let out = self.0.stdout.as_mut().unwrap();
        BufReader::with_capacity(1, out)
            .read_line(&mut line)
            .unwrap();
        line.trim_end().to_owned()
    }

    /// What it says in the end.
    fn outcome(mut self) -> Value {
        let line = self.line();
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{line:?}: {error}"))
    }
}

impl Drop for Begun {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A server whose queue of connections is full: whoever connects to it waits.
struct Full {
    listener: TcpListener,
    filler: Agent,
    _agent: Agent,
    _held: Vec<std::net::TcpStream>,
}

impl Full {
    fn new(mesh: &Mesh) -> Self {
        let server = agent(&mesh.lab, "s3");
        let listener = server.listen(mesh.endpoint("s3", RAW_PORT)).unwrap();
        // SAFETY: a listening socket of the test's own; listening again changes its queue.
        assert_eq!(unsafe { libc::listen(listener.as_raw_fd(), 0) }, 0);
        let filler = agent(&mesh.lab, "s2");
        let held = vec![filler.connect(mesh.endpoint("s3", RAW_PORT)).unwrap()];
        Self {
            listener,
            filler,
            _agent: server,
            _held: held,
        }
    }

    /// Makes room, and answers whoever comes.
    fn serve(self) -> Agent {
        thread::spawn(move || {
            while let Ok((stream, _)) = self.listener.accept() {
                thread::spawn(move || answer(stream));
            }
        });
        self.filler
    }
}

/// Answers every request as `s3`.
fn answer(mut stream: std::net::TcpStream) {
    use std::io::{Read as _, Write as _};
    let mut bytes = [0; 4096];
    while stream.read(&mut bytes).is_ok_and(|count| count > 0) {
        let whole = b"HTTP/1.1 200 OK\r\nx-served-by: s3\r\ncontent-length: 0\r\n\r\n";
        if stream.write_all(whole).is_err() {
            return;
        }
    }
}

/// The port of the connection that the daemon is opening to the full server.
fn opening(mesh: &Mesh) -> u16 {
    let mut found = None;
    eventually("an upstream is being opened", || {
        let remote = format!(":{RAW_PORT:04X}");
        let sockets = mesh.sockets("client");
        found = sockets.iter().find_map(|line| {
            let mut words = line.split_whitespace().skip(1);
            let (local, to, state) = (words.next()?, words.next()?, words.next()?);
            let port = local.rsplit(':').next()?;
            (to.ends_with(&remote) && state == "02").then(|| u16::from_str_radix(port, 16).ok())?
        });
        found.map(drop).ok_or(format!("{sockets:?}"))
    });
    found.unwrap()
}

/// Has somebody rebuild an upstream of the client's while it is being opened; how many of the client's requests he answers.
fn stolen(test: &str, who: &str, path: &str, off: &[&str]) -> usize {
    let mut arguments = without(off);
    arguments.push(format!("--path={path}"));
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let mesh = mesh(test, &arguments);
    let full = Full::new(&mesh);
    let mut client = mesh.connect();
    client.send(get("/raw", ""));
    let port = opening(&mesh).to_string();
    let addresses = [
        mesh.lab.pod("client").unwrap().ipv4().to_string(),
        mesh.endpoint("s3", RAW_PORT).to_string(),
    ];
    let words = [
        who,
        "thief",
        &addresses[0],
        &addresses[1],
        &port,
        &port,
        "60",
    ];
    let _thief = Begun::in_pod(&mesh, "other", &words);
    let _filler = full.serve();
    let answers =
        std::iter::once(client.receive(false)).chain((0..50).map(|_| client.get("/raw", "")));
    let stolen = answers.filter(|answer| match answer.server() {
        "thief" => true,
        "s3" => false,
        _ => panic!(
            "{who} {path} without {off:?}: neither answered: {answer:?}, {}",
            mesh.status()
        ),
    });
    let stolen = stolen.count();
    let status = mesh.status();
    assert!(status.leases.violations.is_empty(), "{status}");
    stolen
}

#[test]
fn an_upstream_belongs_to_nobody_who_only_has_its_addresses() {
    if !root("an_upstream_belongs_to_nobody_who_only_has_its_addresses") {
        return;
    }
    for who in ["nobody", "userns"] {
        assert_eq!(stolen("thief", who, "shortcut", &[]), 0, "{who}");
        assert_eq!(stolen("thief", who, "splice", &[]), 0, "{who}");
    }
    for off in IDENTITY {
        assert_eq!(
            stolen("thief", "nobody", "shortcut", &[off]),
            0,
            "without {off}"
        );
    }
    // The victim's own connection comes about as well, and who of the two is asked from then on is a race.
    let succeeds = (0..5).any(|_| stolen("thief", "nobody", "shortcut", &IDENTITY) > 0);
    assert!(succeeds, "without its defences the attack succeeds");
}

fn share(mesh: &Mesh, pod: &str) -> Share {
    let shares = mesh.status().shares;
    let found = shares.into_iter().find(|share| share.pod == pod);
    found.unwrap_or_else(|| panic!("{pod} has no share"))
}

/// Has another pod keep all the connections that it gets, and says how many of the client's new ones are served.
fn served(mesh: &Mesh) -> usize {
    let target = mesh.vip(WEB).to_string();
    let many = (ROOM * 2).to_string();
    let flood = Begun::in_pod(mesh, "other", &["nobody", "idle", &target, &many, "60"]);
    eventually("the other pod is refused connections", || {
        let status = mesh.status();
        let refused = status.connections["over_share"] + status.connections["anchor_full"];
        (refused > 0).then_some(()).ok_or(status.to_string())
    });
    let new = (0..10).filter(|_| {
        let stream = mesh.client.connect(mesh.vip(WEB));
        stream.is_ok_and(|stream| {
            let answer = Client::new(stream).try_get("/one", "");
            answer.is_ok_and(|answer| answer.server() == "s1")
        })
    });
    let new = new.count();
    drop(flood);
    new
}

#[test]
fn a_pod_that_keeps_all_that_it_gets_leaves_others_room() {
    if !root("a_pod_that_keeps_all_that_it_gets_leaves_others_room") {
        return;
    }
    let size = format!("--map-size=ANCHORED={ROOM}");
    for path in ["shortcut", "splice"] {
        let mesh = mesh("shares", &[&size, &format!("--path={path}")]);
        assert_eq!(served(&mesh), 10, "{path}: {}", mesh.status());
        let other = share(&mesh, "other");
        assert!(other.connections_refused > 0, "{path}: {other:?}");
        let client = share(&mesh, "client");
        assert_eq!(client.connections_refused, 0, "{path}: {client:?}");
        let text = mesh.status().to_string();
        assert!(text.contains("over its share other"), "{path}: {text}");
        eventually("what the pod had is free again", || {
            let other = share(&mesh, "other");
            (other.connections == 0)
                .then_some(())
                .ok_or(format!("{other:?}"))
        });
    }
    let mesh = mesh("no-shares", &[&size, "--without=shares"]);
    let new = served(&mesh);
    assert!(new < 10, "without shares the attack succeeds: {new}");
}

#[test]
fn connections_that_a_pod_over_its_share_does_not_use_are_closed() {
    if !root("connections_that_a_pod_over_its_share_does_not_use_are_closed") {
        return;
    }
    let mesh = mesh("aging", &[&format!("--map-size=ANCHORED={ROOM}")]);
    let mut used = mesh.connect();
    let mut idle: Vec<Client> = (0..ROOM / 2).map(|_| mesh.connect()).collect();
    eventually("unused connections make room", || {
        assert_eq!(
            used.get("/one", "").server(),
            "s1",
            "one that is used stays"
        );
        let fresh = mesh.connect().try_get("/one", "");
        match fresh {
            Ok(answer) if answer.server() == "s1" => Ok(()),
            other => Err(format!("{other:?}, {}", mesh.status())),
        }
    });
    assert!(share(&mesh, "client").connections_refused > 0);
    assert!(idle[0].ended(), "the longest unused is closed first");
    assert_eq!(used.get("/one", "").server(), "s1");
}

/// `connect` to `AF_UNSPEC` in mid-exchange once left a vacated slot in a pool. The order of every step of that is tried by
/// `kmesh-orchestration`'s `slot_model`, with a word that is overwritten as its negative control; here the kernel does it.
#[test]
fn exchanges_that_are_left_at_every_moment_harm_nobody() {
    if !root("exchanges_that_are_left_at_every_moment_harm_nobody") {
        return;
    }
    for path in ["shortcut", "splice"] {
        let mesh = mesh("leaving", &[&format!("--path={path}")]);
        let one = mesh.vip(WEB).to_string();
        let leaving = [
            vec!["nobody", "unspec", &one, "1", "4"],
            vec!["nobody", "reset", &one, "2", "4"],
            vec!["nobody", "again", &one, &one, "3", "4"],
        ];
        let leaving: Vec<Begun> = (leaving.iter())
            .map(|words| Begun::in_pod(&mesh, "other", words))
            .collect();
        let mut client = mesh.connect();
        for number in 0..2000 {
            let sequence = number.to_string();
            let answer = client.get("/one", &format!("x-request-seq: {sequence}\r\n"));
            let found = (answer.server(), answer.header("x-request-seq"));
            assert_eq!(found, ("s1", sequence.as_str()), "{path}");
        }
        for begun in leaving {
            let deeds = begun.outcome();
            assert!(
                deeds["made"].as_u64().is_some_and(|made| made > 10),
                "{path}: {deeds}"
            );
        }
        eventually("nothing is left of it", || {
            let status = mesh.status();
            let leases = &status.leases;
            assert!(
                leases.violations.is_empty() && leases.wrong == 0,
                "{path}: {status}"
            );
            let other = share(&mesh, "other");
            let over = leases.leased == 0 && other.connections == 0;
            over.then_some(()).ok_or(format!("{other:?} {status}"))
        });
    }
}

/// Has another pod forge segments of the client's upstreams, and says how many of the client's requests fail.
fn failed(test: &str, off: &[&str]) -> u64 {
    let mut arguments = without(off);
    arguments.push("--path=splice".to_owned());
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let mesh = mesh(test, &arguments);
    // Few, so that whoever tries them all comes by often.
    let [first, last] = ["20000", "22999"];
    let ports = format!("{first} {last}");
    let limited = (mesh.lab.pod("client").unwrap())
        .run(move || std::fs::write("/proc/sys/net/ipv4/ip_local_port_range", ports));
    limited.unwrap().unwrap();
    let victim = mesh.lab.pod("client").unwrap().ipv4().to_string();
    let server = mesh.endpoint("s1", HTTP_PORT).to_string();
    let target = mesh.vip(WEB).to_string();
    let words = [
        "container",
        "forge",
        &victim,
        &server,
        first,
        last,
        "1",
        "5",
    ];
    let forging = Begun::in_pod(&mesh, "other", &words);
    let words = ["nobody", "victim", &target, "s1,s2", "5"];
    let seen = Begun::in_pod(&mesh, "client", &words).outcome();
    let deeds = forging.outcome();
    // Each port ten times.
    assert!(deeds["made"].as_u64().unwrap() > 30_000, "{deeds}");
    assert_eq!(seen["stolen"], 0, "{seen}");
    assert!(seen["answered"].as_u64().unwrap() > 100, "{seen}");
    let failed = seen["failed"].as_u64().unwrap();
    assert!(failed == 0 || !off.is_empty(), "{seen}");
    failed
}

#[test]
fn segments_that_another_pod_forges_change_nothing() {
    if !root("segments_that_another_pod_forges_change_nothing") {
        return;
    }
    assert_eq!(failed("forged", &[]), 0);
    let harm = failed("forged", &["numbers"]);
    assert!(harm > 0, "without looking at numbers the attack succeeds");
}

#[test]
fn a_pod_that_ends_its_anchor_harms_itself_and_gets_another() {
    if !root("a_pod_that_ends_its_anchor_harms_itself_and_gets_another") {
        return;
    }
    for path in ["shortcut", "splice"] {
        let mesh = mesh("anchors", &[&format!("--path={path}")]);
        let other = agent(&mesh.lab, "other");
        let mut kept = mesh.connect();
        assert_eq!(kept.get("/one", "").server(), "s1");
        for _ in 0..20 {
            let pod = mesh.lab.pod("client").unwrap();
            let mut end = pod.command("ss");
            end.args(["--kill", "--tcp", "state", "listening"])
                .stdout(Stdio::null());
            assert!(pod.spawn(end).unwrap().wait().unwrap().success());
            let mut neighbour = Client::new(other.connect(mesh.vip(WEB)).unwrap());
            assert_eq!(neighbour.get("/one", "").server(), "s1", "{path}");
            eventually("the pod has an anchor again", || {
                let stream = mesh.client.connect(mesh.vip(WEB));
                let stream = stream.map_err(|error| error.to_string())?;
                match Client::new(stream).try_get("/one", "") {
                    Ok(answer) if answer.server() == "s1" => Ok(()),
                    other => Err(format!("{other:?}")),
                }
            });
        }
        let answer = kept.get("/one", "");
        assert_eq!(answer.server(), "s1", "{path}: one from before goes on");
        let log = std::fs::read_to_string(mesh.log_path()).unwrap();
        let lines = log.lines().filter(|line| line.contains("anchor")).count();
        assert!(lines < 20, "{path}: {log}");
    }
}

/// Runs `ip` in a pod and returns what it says.
fn ip(mesh: &Mesh, pod: &str, words: &str) -> String {
    let pod = mesh.lab.pod(pod).unwrap();
    let mut ip = pod.command("ip");
    ip.args(words.split_whitespace()).stdout(Stdio::piped());
    let said = pod.spawn(ip).unwrap().wait_with_output().unwrap();
    assert!(said.status.success(), "ip {words}");
    String::from_utf8(said.stdout).unwrap()
}

/// What a pod with rights over its own namespace does there, and how it takes that back.
fn misdeed(mesh: &Mesh, what: &str) -> Box<dyn FnOnce(&Mesh)> {
    const RESERVED: &str = "/proc/sys/net/ipv4/ip_local_reserved_ports";
    let pod = mesh.lab.pod("client").unwrap();
    if what == "reserves its ports" {
        let reserve = |ports: &str| std::fs::write(RESERVED, ports).unwrap();
        pod.run(|| reserve("1-65535")).unwrap();
        return Box::new(move |mesh| {
            let pod = mesh.lab.pod("client").unwrap();
            pod.run(|| reserve("\n")).unwrap();
        });
    }
    let at = ip(mesh, "client", "-o -4 address show scope global");
    let words: Vec<&str> = at.split_whitespace().collect();
    let (device, address) = (words[1].to_owned(), words[3].to_owned());
    let routes = ip(mesh, "client", "-4 route show");
    ip(mesh, "client", &format!("-4 address flush dev {device}"));
    Box::new(move |mesh| {
        let back = format!("address add {address} dev {device}");
        ip(mesh, "client", &back);
        for route in routes.lines() {
            ip(mesh, "client", &format!("route replace {route}"));
        }
    })
}

#[test]
fn what_a_pod_does_to_its_namespace_harms_it_alone() {
    if !root("what_a_pod_does_to_its_namespace_harms_it_alone") {
        return;
    }
    for path in ["shortcut", "splice"] {
        for what in ["reserves its ports", "flushes its addresses"] {
            let mesh = mesh("misdeeds", &[&format!("--path={path}")]);
            let other = agent(&mesh.lab, "other");
            let attempt = |from: &Agent| {
                let stream = from.connect(mesh.vip(WEB));
                let stream = stream.map_err(|error| error.to_string())?;
                match Client::new(stream).try_get("/one", "") {
                    Ok(answer) if answer.server() == "s1" => Ok(()),
                    other => Err(format!("{other:?}")),
                }
            };
            attempt(&mesh.client).unwrap();
            let lines = || {
                let log = std::fs::read_to_string(mesh.log_path()).unwrap();
                (log.lines().count(), log)
            };
            let (before, _) = lines();
            let undo = misdeed(&mesh, what);
            let begun = Instant::now();
            let mut failed = 0;
            for _ in 0..20 {
                attempt(&other).unwrap_or_else(|why| panic!("{path}, {what}: {why}"));
                failed += u32::from(attempt(&mesh.client).is_err());
            }
            assert!(failed > 0, "{path}: a pod that {what} harms itself");
            let (after, log) = lines();
            let most = begun.elapsed().as_secs() as usize + 2;
            assert!(after - before <= most, "{path}, {what}: {most} {log}");
            undo(&mesh);
            eventually("the pod has its mesh again", || attempt(&mesh.client));
        }
    }
}

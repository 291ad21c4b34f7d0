//! Beginning and end of the daemon: it leaves nothing behind, however it ends, and two of them do not mix.
#![expect(
    clippy::unwrap_used,
    reason = "a test fails by panicking, in its own functions too"
)]

use crate::lab;

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::fd::{AsFd as _, AsRawFd as _};

use lab::agent::agent;
use lab::http::Client;
use lab::objects::{held, left};
use lab::{CLIENTS, HTTP_PORT, LOCAL, Mesh, TCP, WEB, eventually, root};
use nix::sys::signal::Signal;

#[test]
fn a_daemon_that_ends_leaves_nothing_behind() {
    if !root("a_daemon_that_ends_leaves_nothing_behind") {
        return;
    }
    for signal in [Signal::SIGTERM, Signal::SIGKILL] {
        let mut mesh = Mesh::local("end");
        let mut client = mesh.connect();
        mesh.warm(&mut client, &[("/one", ""), ("/", "end-user: jason\r\n")]);
        let mut echo = banner(&mesh);
        let objects = held(mesh.daemon.as_ref().unwrap().child.id());
        assert!(
            objects.iter().all(|ids| ids.len() >= 5),
            "programs, maps and links: {objects:?}"
        );
        mesh.stop(signal);
        assert!(
            client.ended(),
            "an anchored connection ends with its anchor"
        );
        drop(client);
        eventually("the kernel objects are gone", || {
            let left = left(&objects);
            left.is_empty().then_some(()).ok_or(format!("{left:?}"))
        });
        exchange(&mut echo, "an opaque connection does not need the daemon");
        let direct = mesh.client.connect(mesh.endpoint("s1", HTTP_PORT)).unwrap();
        assert_eq!(
            Client::new(direct).get("/", "").server(),
            "s1",
            "{signal}: plain traffic"
        );
        assert!(
            mesh.client.connect(mesh.vip(WEB)).is_err(),
            "nobody answers for the VIP"
        );
        // And a new one starts.
        mesh.start();
        let mut client = mesh.connect();
        assert_eq!(client.get("/one", "").server(), "s1", "after {signal}");
    }
}

struct Echo {
    reader: BufReader<std::net::TcpStream>,
}

/// A connection to the TCP service, which speaks first.
fn banner(mesh: &Mesh) -> Echo {
    let stream = mesh.client.connect(mesh.vip(TCP)).unwrap();
    stream
        .set_read_timeout(Some(std::time::Duration::from_secs(10)))
        .unwrap();
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).unwrap();
    assert_eq!(line, "s2\n");
    Echo { reader }
}

fn exchange(echo: &mut Echo, what: &str) {
    let bytes: Vec<u8> = (0..50_000).map(|i| (i % 251) as u8).collect();
    let mut writer = echo.reader.get_ref().try_clone().unwrap();
    let mut back = vec![0; bytes.len()];
    std::thread::scope(|scope| {
        scope.spawn(|| writer.write_all(&bytes).unwrap());
        echo.reader.read_exact(&mut back).unwrap();
    });
    assert!(back == bytes, "{what}");
}

#[test]
fn opaque_listeners_carry_any_bytes() {
    if !root("opaque_listeners_carry_any_bytes") {
        return;
    }
    let mesh = Mesh::local("tcp");
    for _ in 0..3 {
        exchange(&mut banner(&mesh), "echo");
    }
    let status = mesh.status();
    assert_eq!(
        (status.connections["opaque"], status.anchors),
        (3, 0),
        "{status}"
    );
}

#[test]
fn a_pod_belongs_to_one_daemon() {
    if !root("a_pod_belongs_to_one_daemon") {
        return;
    }
    let mut mesh = Mesh::bare("two");
    mesh.configure(&mesh.standard());
    mesh.enrol(&LOCAL[..1]);
    mesh.start();
    eventually("the log says who is enrolled", || {
        let log = fs::read_to_string(mesh.log_path()).unwrap();
        log.contains("enrolled").then_some(()).ok_or(log)
    });
    mesh.serve("s1");
    let name = format!("second-{}", std::process::id());
    // The same pod: it waits, and says for whom.
    let second = mesh.launch_as(&name, &[]);
    let said = kmesh_probe::client::status(&name).unwrap();
    assert!(said.pods.is_empty(), "{said}");
    let refused = said.refused.unwrap_or_default();
    assert!(
        refused.contains("client") && refused.contains("another kmeshd"),
        "{refused}"
    );
    drop(second);
    // Another pod: both work.
    mesh.enrol_later(&CLIENTS[1..]);
    let second = mesh.launch_as(&name, &[]);
    let other = agent(&mesh.lab, "other");
    let mut there = Client::new(other.connect(mesh.vip(WEB)).unwrap());
    let mut here = mesh.connect();
    for _ in 0..5 {
        assert_eq!(there.get("/one", "").server(), "s1");
        assert_eq!(here.get("/one", "").server(), "s1");
    }
    drop(second);
    assert_eq!(here.get("/one", "").server(), "s1");
    // Whoever waits for a pod gets it when it is free.
    mesh.enrol_later(&CLIENTS[..1]);
    let _third = mesh.launch_as(&name, &[]);
    mesh.stop(Signal::SIGKILL);
    eventually("the pod that was waited for is enrolled", || {
        let pods = kmesh_probe::client::status(&name).unwrap().pods;
        (pods == CLIENTS[..1])
            .then_some(())
            .ok_or(format!("{pods:?}"))
    });
    assert_eq!(mesh.connect().get("/one", "").server(), "s1");
}

/// A socket that was connected to a service may be disconnected and used for another destination: that is not governed.
#[test]
fn a_socket_forgets_its_last_connection() {
    if !root("a_socket_forgets_its_last_connection") {
        return;
    }
    let mesh = Mesh::local("forget");
    let stream = mesh.connect().stream;
    // SAFETY: disconnects the test's own socket, as `connect` with AF_UNSPEC (0) does.
    let failed = unsafe {
        let address: libc::sockaddr = std::mem::zeroed();
        libc::connect(stream.as_fd().as_raw_fd(), &raw const address, 16)
    };
    assert_eq!(failed, 0, "{}", std::io::Error::last_os_error());
    let endpoint = mesh.endpoint("s1", HTTP_PORT);
    socket2::SockRef::from(&stream)
        .connect(&endpoint.into())
        .unwrap();
    assert_eq!(stream.peer_addr().unwrap(), endpoint);
    let (kernel, user) = mesh.counted(|| {
        let response = Client::new(stream).get("/", "end-user: jason\r\n");
        assert_eq!(response.server(), "s1", "straight there, not by the route");
    });
    assert_eq!((kernel, user), (0, 0));
}

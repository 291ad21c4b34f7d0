//! Things that die, freeze or come back: whose request was in it is told, nobody else notices, nothing hangs.
#![expect(
    clippy::unwrap_used,
    reason = "a test fails by panicking, in its own functions too"
)]

use crate::lab;

use std::net::Shutdown;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use lab::http::{Client, get};
use lab::{HTTP_PORT, Mesh, eventually, root};
use nix::sys::signal::Signal;

const JASON: &str = "end-user: jason\r\n";

/// Clients that send without a pause while `work` goes on. Returns how many requests they made; each must succeed.
fn under_load(mesh: &Mesh, headers: &str, work: impl FnOnce()) -> u64 {
    let stop = AtomicBool::new(false);
    let count = AtomicU64::new(0);
    let clients: Vec<Client> = (0..4).map(|_| mesh.connect()).collect();
    thread::scope(|scope| {
        for (number, mut client) in clients.into_iter().enumerate() {
            let (stop, count) = (&stop, &count);
            scope.spawn(move || {
                for turn in 0.. {
                    if stop.load(Ordering::Relaxed) {
                        return;
                    }
                    let seq = format!("{number}-{turn}");
                    let response = client.get("/", &format!("{headers}x-request-seq: {seq}\r\n"));
                    assert_eq!(response.status, 200, "{seq}: {:?}", response.headers);
                    assert_eq!(response.header("x-request-seq"), seq);
                    count.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let done = scope.spawn(|| {
            eventually("load", || {
                (count.load(Ordering::Relaxed) > 100)
                    .then_some(())
                    .ok_or("slow".to_owned())
            });
        });
        done.join().unwrap();
        work();
        let before = count.load(Ordering::Relaxed);
        eventually("load goes on", || {
            let now = count.load(Ordering::Relaxed);
            (now > before + 100)
                .then_some(())
                .ok_or(format!("{now} requests"))
        });
        stop.store(true, Ordering::Relaxed);
    });
    count.into_inner()
}

#[test]
fn a_server_killed_mid_request_hurts_its_clients_only() {
    if !root("a_server_killed_mid_request_hurts_its_clients_only") {
        return;
    }
    for mut mesh in [Mesh::local("kill"), Mesh::remote("kill-remote")] {
        let mut victim = mesh.connect();
        mesh.warm(&mut victim, &[("/one", "")]);
        victim.send(get("/one?delay=60s", ""));
        eventually("the request is on its way", || {
            let requests = mesh.requests();
            let kernel = requests.local + requests.remote;
            (kernel >= 2).then_some(()).ok_or(format!("{requests:?}"))
        });
        let mut other = mesh.connect();
        mesh.warm(&mut other, &[("/", JASON)]);
        mesh.kill("s1");
        match victim.try_receive(false) {
            Ok(response) => assert_eq!(response.status, 503),
            Err(error) => assert_ne!(error.kind(), std::io::ErrorKind::WouldBlock, "hangs"),
        }
        for _ in 0..20 {
            assert_eq!(other.get("/", JASON).server(), "s3");
        }
        // Nobody is there now: an answer, not a hang.
        assert_eq!(mesh.connect().get("/one", "").status, 503);
        mesh.serve("s1");
        assert_eq!(other.get("/one", "").server(), "s1", "back again");
        mesh.warm(&mut other, &[("/one", "")]);
    }
}

#[test]
fn a_client_that_leaves_mid_request_leaves_no_answer_behind() {
    if !root("a_client_that_leaves_mid_request_leaves_no_answer_behind") {
        return;
    }
    for mesh in [Mesh::local("leave"), Mesh::remote("leave-remote")] {
        let mut other = mesh.connect();
        mesh.warm(&mut other, &[("/one", "")]);
        for turn in 0..20 {
            let mut client = mesh.connect();
            client.send(get(
                "/one?delay=20ms",
                &format!("x-request-seq: gone-{turn}\r\n"),
            ));
            if turn % 2 == 0 {
                socket2::SockRef::from(&client.stream)
                    .set_linger(Some(std::time::Duration::ZERO))
                    .unwrap();
            }
            drop(client);
            for next in 0..5 {
                let seq = format!("{turn}-{next}");
                let response = other.get("/one", &format!("x-request-seq: {seq}\r\n"));
                assert_eq!(response.header("x-request-seq"), seq);
            }
        }
    }
}

#[test]
fn a_half_closed_client_still_gets_its_answer_or_an_end() {
    if !root("a_half_closed_client_still_gets_its_answer_or_an_end") {
        return;
    }
    let mesh = Mesh::local("half");
    let mut client = mesh.connect();
    mesh.warm(&mut client, &[("/one", "")]);
    client.send(get("/one?delay=5ms", ""));
    client.stream.shutdown(Shutdown::Write).unwrap();
    match client.try_receive(false) {
        Ok(response) => assert!([200, 503].contains(&response.status)),
        Err(error) => assert_ne!(error.kind(), std::io::ErrorKind::WouldBlock, "hangs"),
    }
}

#[test]
fn a_frozen_server_holds_up_its_own_clients_only() {
    if !root("a_frozen_server_holds_up_its_own_clients_only") {
        return;
    }
    let mesh = Mesh::local("freeze");
    let mut stuck = mesh.connect();
    let mut other = mesh.connect();
    mesh.warm(&mut stuck, &[("/one", "")]);
    mesh.warm(&mut other, &[("/", JASON)]);
    mesh.signal("s1", Signal::SIGSTOP);
    stuck.send(get("/one", "x-request-seq: stuck\r\n"));
    let mut fresh = mesh.connect();
    fresh.send(get("/one", "x-request-seq: fresh\r\n"));
    for _ in 0..50 {
        assert_eq!(other.get("/", JASON).server(), "s3");
    }
    mesh.signal("s1", Signal::SIGCONT);
    assert_eq!(stuck.receive(false).header("x-request-seq"), "stuck");
    assert_eq!(fresh.receive(false).header("x-request-seq"), "fresh");
}

/// nginx announces the end of a connection with its last response, and closes it.
#[test]
fn servers_that_end_connections_fail_no_request() {
    if !root("servers_that_end_connections_fail_no_request") {
        return;
    }
    for mut mesh in [Mesh::local("nginx"), Mesh::remote("nginx-remote")] {
        mesh.kill("s3");
        let dir = mesh.dir.path().join("nginx");
        std::fs::create_dir(&dir).unwrap();
        let at = mesh.endpoint("s3", HTTP_PORT);
        let conf = format!(
            "daemon off; master_process off; pid {d}/pid; error_log {d}/error.log;
             events {{ worker_connections 1024; }}
             http {{ access_log off; client_body_temp_path {d}; proxy_temp_path {d};
               fastcgi_temp_path {d}; uwsgi_temp_path {d}; scgi_temp_path {d};
               keepalive_requests 20;
               server {{ listen {at};
                 location / {{ add_header x-request-seq $http_x_request_seq; return 200 hello; }} }} }}",
            d = dir.display()
        );
        std::fs::write(dir.join("conf"), conf).unwrap();
        let pod = mesh.lab.pod("s3").unwrap();
        let mut command = pod.command("nginx");
        command
            .arg("-e")
            .arg(dir.join("error.log"))
            .arg("-c")
            .arg(dir.join("conf"));
        let mut nginx = pod.spawn(command).unwrap();
        eventually("nginx answers", || {
            let response = mesh.connect().get("/", JASON);
            (response.status == 200)
                .then_some(())
                .ok_or(format!("{response:?}"))
        });
        let (kernel, user) = mesh.counted(|| {
            under_load(&mesh, JASON, || {});
        });
        nginx.kill().unwrap();
        nginx.wait().unwrap();
        assert!(
            kernel > user,
            "{kernel} in the kernel, {user} in user space"
        );
    }
}

#[test]
fn servers_that_come_and_go_leave_no_dead_upstreams() {
    if !root("servers_that_come_and_go_leave_no_dead_upstreams") {
        return;
    }
    let mut mesh = Mesh::local("again");
    for _ in 0..5 {
        let mut clients: Vec<Client> = (0..10).map(|_| mesh.connect()).collect();
        for client in &mut clients {
            client.send(get("/one?delay=5ms", ""));
        }
        for client in &mut clients {
            assert_eq!(client.receive(false).status, 200);
        }
        mesh.kill("s1");
        eventually("upstreams to the dead server are closed", || {
            let upstreams = mesh.status().upstreams;
            (upstreams == 0)
                .then_some(())
                .ok_or(format!("{upstreams} are left"))
        });
        mesh.serve("s1");
    }
}

//! A lab as its users see it, through the library.

mod fixture;

use std::{
    io::{ErrorKind, Read, Write},
    net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    process::Stdio,
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use fixture::{
    eventually, holders, lab_links_here, namespaces, open_namespaces, root, topology, traces,
};
use netns_lab::{Lab, LabError, Pod};

/// Where the pods of the mesh test listen.
const PORT: u16 = 8000;

fn addresses(pod: &Pod) -> [IpAddr; 2] {
    [pod.ipv4().into(), pod.ipv6().into()]
}

#[test]
fn ten_pods_are_up_within_500_ms() {
    if !root("ten_pods_are_up_within_500_ms") {
        return;
    }
    let started = Instant::now();
    let lab = Lab::up(&topology("ten", 10)).unwrap();
    let took = started.elapsed();
    println!("ten pods up after {took:?}");
    assert_eq!(lab.pods().len(), 10);
    assert!(took < Duration::from_millis(500), "{took:?}");
    lab.down().unwrap();
}

#[test]
fn every_pod_reaches_every_pod_at_once_over_ipv4_and_ipv6() {
    if !root("every_pod_reaches_every_pod_at_once_over_ipv4_and_ipv6") {
        return;
    }
    let mut topology = topology("mesh", 10);
    // One pod far from the others' networks.
    topology.pods[9].ipv4 = "192.168.77.5".parse().ok();
    topology.pods[9].ipv6 = "fd77::5".parse().ok();
    let lab = Lab::up(&topology).unwrap();
    for pod in lab.pods() {
        for address in addresses(pod) {
            let listener = pod
                .run(|| TcpListener::bind((address, PORT)))
                .unwrap()
                .unwrap();
            let name = pod.name().to_owned();
            thread::spawn(move || {
                for stream in listener.incoming() {
                    let (mut stream, peer) = stream
                        .and_then(|s| Ok((s.try_clone()?, s.peer_addr()?)))
                        .unwrap();
                    stream
                        .write_all(format!("{name} saw {}", peer.ip()).as_bytes())
                        .unwrap();
                }
            });
        }
    }
    for from in lab.pods() {
        for to in lab.pods() {
            for (target, source) in addresses(to).into_iter().zip(addresses(from)) {
                let greeting = from.run(|| {
                    let mut text = String::new();
                    TcpStream::connect_timeout(&(target, PORT).into(), Duration::from_secs(1))?
                        .read_to_string(&mut text)?;
                    Ok::<_, std::io::Error>(text)
                });
                let greeting = greeting
                    .unwrap()
                    .unwrap_or_else(|e| panic!("{} to {target}: {e}", from.name()));
                // A pod reaches itself through lo, from the address it asks for.
                assert_eq!(
                    greeting,
                    format!("{} saw {source}", to.name()),
                    "{} to {target}",
                    from.name()
                );
            }
        }
    }
    lab.down().unwrap();
}

#[test]
fn a_virtual_address_has_a_route_and_a_source_but_leads_nowhere() {
    if !root("a_virtual_address_has_a_route_and_a_source_but_leads_nowhere") {
        return;
    }
    let lab = Lab::up(&topology("vip", 2)).unwrap();
    let (client, service) = (lab.pod("p1").unwrap(), &lab.services()[0]);
    let vips: [IpAddr; 2] = [service.vip4.into(), service.vip6.into()];
    for (vip, own) in vips.into_iter().zip(addresses(client)) {
        client
            .run(|| {
                let any: SocketAddr = if vip.is_ipv4() {
                    ([0; 4], 0).into()
                } else {
                    ([0_u16; 8], 0).into()
                };
                let socket = UdpSocket::bind(any).unwrap();
                socket.connect((vip, 80)).unwrap();
                assert_eq!(
                    socket.local_addr().unwrap().ip(),
                    own,
                    "source address for {vip}"
                );
                let started = Instant::now();
                let error = TcpStream::connect((vip, 80)).unwrap_err();
                println!("connect to {vip}: {error} after {:?}", started.elapsed());
                let kinds = [ErrorKind::HostUnreachable, ErrorKind::NetworkUnreachable];
                assert!(kinds.contains(&error.kind()), "{vip}: {error}");
                assert!(started.elapsed() < Duration::from_secs(3));
            })
            .unwrap();
    }
    // Nor does anything else: no route leads out of the lab.
    let error = client
        .run(|| TcpStream::connect(("192.0.2.1", 80)))
        .unwrap()
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::HostUnreachable);
    lab.down().unwrap();
}

#[test]
fn two_labs_with_the_same_addresses_do_not_meet() {
    if !root("two_labs_with_the_same_addresses_do_not_meet") {
        return;
    }
    let (a, b) = (
        Lab::up(&topology("twin", 2)).unwrap(),
        Lab::up(&topology("twin", 2)).unwrap(),
    );
    assert_ne!(a.id(), b.id());
    let address = (a.pods()[0].ipv4(), 8000);
    assert_eq!(address.0, b.pods()[0].ipv4());
    let listener = a.pods()[0]
        .run(|| TcpListener::bind(address))
        .unwrap()
        .unwrap();
    a.pods()[1]
        .run(|| TcpStream::connect(address))
        .unwrap()
        .unwrap();
    let error = b.pods()[1]
        .run(|| TcpStream::connect(address))
        .unwrap()
        .unwrap_err();
    assert_eq!(
        error.kind(),
        ErrorKind::ConnectionRefused,
        "the other lab has no such listener"
    );
    drop(listener);
    a.down().unwrap();
    b.pods()[1]
        .run(|| TcpListener::bind((b.pods()[1].ipv6(), 1)))
        .unwrap()
        .unwrap();
    b.down().unwrap();
}

#[test]
fn a_panic_leaves_nothing() {
    if !root("a_panic_leaves_nothing") {
        return;
    }
    let (send, receive) = mpsc::channel();
    let panicking = thread::spawn(move || {
        let lab = Lab::up(&topology("panic", 3)).unwrap();
        let pod = &lab.pods()[0];
        let mut sleep = pod.command("sleep");
        let child = pod.spawn({
            sleep.arg("1000");
            sleep
        });
        send.send((
            lab.id().to_owned(),
            namespaces(&lab),
            lab.guardian_pid(),
            child.unwrap(),
        ))
        .unwrap();
        panic!("on purpose");
    });
    let (id, namespaces, guardian, mut child) = receive.recv().unwrap();
    assert_eq!(namespaces.len(), 3);
    panicking.join().unwrap_err();
    // The unwinding has done it all: nothing to wait for but the kernel's own bookkeeping.
    traces(&id).unwrap();
    let guardian = format!("/proc/{}", guardian.unwrap());
    assert!(
        !std::path::Path::new(&guardian).exists(),
        "guardian is gone and reaped"
    );
    assert!(!child.wait().unwrap().success());
    eventually("namespaces", || match holders(&namespaces).as_slice() {
        [] => Ok(()),
        some => Err(format!("{some:?}")),
    });
    assert!(lab_links_here().is_empty());
}

#[test]
fn a_failed_start_leaves_nothing() {
    if !root("a_failed_start_leaves_nothing") {
        return;
    }
    // As nobody: only this thread gives up its rights, and the threads it starts.
    let message = thread::spawn(|| {
        // SAFETY: the raw system call changes the ids of the calling thread only, which ends with this closure.
        let changed = unsafe { libc::syscall(libc::SYS_setresuid, 65534, 65534, 65534) };
        assert_eq!(changed, 0);
        Lab::up(&topology("nobody", 1)).unwrap_err().to_string()
    });
    let message = message.join().unwrap();
    assert!(
        message.contains("mkdir failed, likely cause: not root"),
        "{message}"
    );
    traces("nobody-").unwrap();
}

#[test]
fn programs_run_on_the_cpus_and_in_the_cgroup_of_their_pod() {
    if !root("programs_run_on_the_cpus_and_in_the_cgroup_of_their_pod") {
        return;
    }
    let mut topology = topology("cpus", 2);
    topology.pods[0].cpus = vec![0];
    let lab = Lab::up(&topology).unwrap();
    let status = |pod: &Pod| {
        let output = pod
            .command("cat")
            .args(["/proc/self/status", "/proc/self/cgroup"])
            .output()
            .unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    let bound = status(&lab.pods()[0]);
    assert!(bound.contains("Cpus_allowed_list:\t0\n"), "{bound}");
    let cgroup = lab.pods()[0]
        .cgroup()
        .file_name()
        .unwrap()
        .to_str()
        .unwrap();
    assert!(bound.trim_end().ends_with(&format!("/{cgroup}")), "{bound}");
    // The caller's own binding is not inherited.
    let one = nix::sched::CpuSet::new();
    let free = thread::scope(|scope| {
        let bound = scope.spawn(|| {
            let mut one = one;
            one.set(0).unwrap();
            nix::sched::sched_setaffinity(nix::unistd::Pid::from_raw(0), &one).unwrap();
            status(&lab.pods()[1])
        });
        bound.join().unwrap()
    });
    let online = std::fs::read_to_string("/sys/devices/system/cpu/online").unwrap();
    assert!(
        free.contains(&format!("Cpus_allowed_list:\t{online}")),
        "{free}"
    );
    lab.down().unwrap();
}

#[test]
fn cpu_time_is_booked_to_the_pod_that_used_it() {
    if !root("cpu_time_is_booked_to_the_pod_that_used_it") {
        return;
    }
    let lab = Lab::up(&topology("usage", 2)).unwrap();
    let before = lab.pods()[0].cpu_usage().unwrap();
    let script = "i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done";
    assert!(
        lab.pods()[0]
            .command("sh")
            .args(["-c", script])
            .status()
            .unwrap()
            .success()
    );
    let used = lab.pods()[0].cpu_usage().unwrap().since(before);
    assert!(used.user_us > 5_000, "{used:?}");
    assert!(lab.pods()[1].cpu_usage().unwrap().total_us() < used.total_us() / 10);
    assert!(lab.cpu_usage().unwrap().total_us() >= used.total_us());
    lab.down().unwrap();
}

#[test]
fn a_child_outlives_the_thread_that_ordered_it_but_not_the_lab() {
    if !root("a_child_outlives_the_thread_that_ordered_it_but_not_the_lab") {
        return;
    }
    let lab = Lab::up(&topology("child", 1)).unwrap();
    let pod = lab.pod("p0").unwrap();
    let start = || {
        let mut cat = pod.command("cat");
        cat.stdin(Stdio::piped()).stdout(Stdio::piped());
        (
            pod.spawn(cat).unwrap(),
            pod.command("cat")
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()
                .unwrap(),
        )
    };
    let (spawned, plain) = thread::scope(|scope| scope.spawn(start).join().unwrap());
    for mut child in [spawned, plain] {
        // It answers, so it lives, after its starter has ended.
        let (mut input, mut output) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        input.write_all(b"alive").unwrap();
        let mut answer = [0; 5];
        output.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"alive");
        assert_eq!(child.try_wait().unwrap(), None);
        // Left to run; the lab's end must find it.
        thread::spawn(move || (input, child.wait()));
    }
    let id = lab.id().to_owned();
    lab.down().unwrap();
    traces(&id).unwrap();
}

#[test]
fn a_daemon_runs_outside_the_pods_but_ends_with_the_lab() {
    if !root("a_daemon_runs_outside_the_pods_but_ends_with_the_lab") {
        return;
    }
    let lab = Lab::up(&topology("daemon", 1)).unwrap();
    let own = std::fs::read_link("/proc/self/ns/net").unwrap();
    // Even if ordered from inside a pod.
    let output = lab.pods()[0].run(|| {
        lab.daemon_command("readlink", "kmeshd", &[0])
            .unwrap()
            .arg("/proc/self/ns/net")
            .output()
    });
    let output = String::from_utf8(output.unwrap().unwrap().stdout).unwrap();
    assert_eq!(output.trim(), own.to_str().unwrap());
    lab.daemon_cpu_usage("kmeshd").unwrap();
    let refusal = lab
        .daemon_command("true", "p0", &[])
        .unwrap_err()
        .to_string();
    assert_eq!(refusal, "daemon cgroup \"p0\": the name is a pod's");
    let mut sleep = lab.daemon_command("sleep", "kmeshd", &[]).unwrap();
    sleep.arg("1000");
    let mut sleep = lab.spawn(sleep).unwrap();
    lab.down().unwrap();
    assert!(!sleep.wait().unwrap().success());
}

#[test]
fn mistakes_are_named() {
    if !root("mistakes_are_named") {
        return;
    }
    let lab = Lab::up(&topology("mistake", 2)).unwrap();
    let unknown = lab.pod("p7").unwrap_err().to_string();
    assert_eq!(
        unknown,
        format!("lab {} has no pod \"p7\"; pods are: p0, p1", lab.id())
    );
    let missing = lab.pods()[0].command("no-such-program");
    let missing = lab.pods()[0].spawn(missing).unwrap_err();
    assert!(matches!(missing, LabError::Spawn { .. }));
    assert_eq!(
        missing.to_string(),
        "can't start \"no-such-program\" in \"p0\", likely cause: no such program in PATH"
    );
    let mut late = lab.pods()[0].command("true");
    lab.down().unwrap();
    assert_eq!(
        late.spawn().unwrap_err().raw_os_error(),
        Some(libc::ENODEV),
        "the lab is down"
    );
}

#[test]
fn the_guardian_keeps_nothing_alive() {
    if !root("the_guardian_keeps_nothing_alive") {
        return;
    }
    let lab = Lab::up(&topology("guardian", 2)).unwrap();
    let pid = lab.guardian_pid().unwrap();
    let process = std::path::Path::new("/proc").join(pid.to_string());
    // Its last step before it waits is to close what it inherited.
    eventually("descriptors", || {
        let fds = std::fs::read_dir(process.join("fd")).unwrap().flatten();
        let fds: Vec<_> = fds
            .map(|fd| std::fs::read_link(fd.path()).unwrap_or_default())
            .collect();
        let pipes = fds
            .iter()
            .filter(|fd| fd.to_string_lossy().starts_with("pipe:["));
        match (fds.len(), pipes.count()) {
            (2, 1) => Ok(()),
            _ => Err(format!("{fds:?}")),
        }
    });
    assert!(open_namespaces(pid).is_empty());
    let cgroup = std::fs::read_to_string(process.join("cgroup")).unwrap();
    assert!(!cgroup.contains("netns-lab."), "{cgroup}");
    // It isn't reached by a Ctrl-C: field 6 of stat is the session.
    let stat = std::fs::read_to_string(process.join("stat")).unwrap();
    assert_eq!(
        stat.rsplit_once(')')
            .unwrap()
            .1
            .split_ascii_whitespace()
            .nth(3),
        Some(pid.to_string().as_str())
    );
    lab.down().unwrap();
    assert!(!process.exists());
}

//! A lab as its users see it.
use netns_lab::{Lab, PodSpec, Topology};
use std::time::Instant;
#[test]
fn smoke() {
    let pods = (0..10)
        .map(|i| PodSpec {
            name: format!("p{i}"),
            ..PodSpec::default()
        })
        .collect();
    let t = Topology {
        name: "smoke".into(),
        pods,
        services: vec![],
    };
    let s = Instant::now();
    let lab = Lab::up(&t).unwrap();
    println!("up {:?}", s.elapsed());
    let out = lab.pod("p3").unwrap().command("sh").args(["-c", "ip a; ip r; ip -6 r; ip n | head -4; cat /proc/self/cgroup; curl -sS -m 5 http://10.96.0.1; curl -sS -m 5 'http://[fd00:10:96::1]'; curl -sS -m 5 http://10.244.1.1; curl -sS -m 5 'http://[fd00:10:244::1:1]'"]).output().unwrap();
    println!(
        "{}{}",
        String::from_utf8_lossy(&out.stdout),
        String::from_utf8_lossy(&out.stderr)
    );
    let s = Instant::now();
    lab.down().unwrap();
    println!("down {:?}", s.elapsed());
}

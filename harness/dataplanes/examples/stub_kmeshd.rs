//! The smallest program that keeps the contract between the `kmesh` arms and `kmeshd`. It has no datapath: it translates
//! the addresses of `tests/canary.yaml` by nftables in the first enrolled pod. The root tests use it, so that the arms can
//! be tested where no BPF object can be built.

use std::{
    collections::HashMap,
    env,
    error::Error,
    fs::{self, DirBuilder},
    io::{Read, Write},
    os::unix::{fs::DirBuilderExt, net::UnixListener},
    path::Path,
    process::{Command, Stdio},
};

use kmesh_probe::client;

const RULES: &str = "table ip stub { chain output { type nat hook output priority -100; \
    ip daddr 10.96.0.1 tcp dport 80 dnat to 10.244.0.2:8080; ip daddr 10.96.0.2 tcp dport 7 dnat to 10.244.0.4:7; }; }";

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = env::args().collect();
    let option = |name: &str| {
        let at = arguments.iter().position(|argument| argument == name);
        at.and_then(|at| arguments.get(at + 1))
            .ok_or_else(|| format!("no {name}"))
    };
    if arguments.get(1).map(String::as_str) != Some("run") || !fs::exists(option("--config")?)? {
        return Err("expected: run --config FILE that exists".into());
    }
    let pods: Vec<HashMap<String, String>> = serde_json::from_slice(&fs::read(option("--pods")?)?)?;
    for pod in &pods {
        // Enrolment comes before the servers: their sockets would not be covered.
        let running = fs::read_to_string(format!("{}/cgroup.procs", pod["cgroup"]))?;
        if !running.is_empty() {
            return Err(format!("pod {} already runs {running}", pod["name"]).into());
        }
    }
    let first = pods
        .iter()
        .find(|pod| pod["name"] == "client")
        .ok_or("no pod client")?;
    let mut nft = Command::new("nsenter")
        .args([&format!("--net={}", first["netns"]), "nft", "-f", "-"])
        .stdin(Stdio::piped())
        .spawn()?;
    nft.stdin
        .take()
        .ok_or("no pipe")?
        .write_all(RULES.as_bytes())?;
    if !nft.wait()?.success() {
        return Err("nft failed".into());
    }
    let socket = client::socket(Path::new(client::RUN_DIR), option("--name")?, "admin")?;
    let folder = socket.parent().ok_or("no folder")?;
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)?;
    let listener = UnixListener::bind(&socket)?;
    println!("kmeshd ready");
    let l4 = arguments.iter().any(|argument| argument == "--l4");
    let mut byte = [0];
    for stream in listener.incoming() {
        let mut stream = stream?;
        // The call, which is a head without a body.
        let mut call = Vec::new();
        while !call.ends_with(b"\r\n\r\n") && stream.read_exact(&mut byte).is_ok() {
            call.extend(byte);
        }
        let document = format!(
            "{{\"pods\": {}, \"l4\": {l4}, \"requests\": {{\"kernel\": 5, \"user\": 2, \"by_reason\": {{\"no_upstream\": 2}}}}}}",
            pods.len()
        );
        let length = document.len();
        write!(
            stream,
            "HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n{document}"
        )?;
    }
    Ok(())
}

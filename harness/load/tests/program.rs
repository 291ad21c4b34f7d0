//! The program itself: the serve conversation, exit codes, and what fortio makes of the export.

#![expect(
    clippy::unwrap_used,
    reason = "a helper that fails is a test that fails"
)]

use std::io::{BufReader, Write};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::UnixStream;
use std::process::{Command as Program, Output, Stdio};

use kmesh_load::plan::{Plan, RequestClass};
use kmesh_load::protocol::{Command, Reply, ask};
use kmesh_load::result::BlockResult;
use kmesh_origin::server::{Config, Server};

const LOAD: &str = env!("CARGO_BIN_EXE_kmesh-load");

/// Runs `test` with the address of an origin called `o`.
fn with_origin(test: impl FnOnce(SocketAddr)) {
    let http = vec!["127.0.0.1:0".parse().unwrap()];
    let server = Server::bind(&Config {
        http,
        name: "o".to_owned(),
        body_size: 10,
        ..Config::default()
    })
    .unwrap();
    let (_, address) = server.addresses().next().unwrap();
    let (stop, stopped) = UnixStream::pair().unwrap();
    std::thread::scope(|scope| {
        // The end is dropped when the test panics too, so the scope always ends.
        let _stop = stop;
        scope.spawn(move || server.run(&stopped).unwrap());
        test(address);
    });
}

fn load(arguments: &[&str]) -> Output {
    Program::new(LOAD)
        .arg("run")
        .arg("--quiet")
        .args(arguments)
        .output()
        .unwrap()
}

#[test]
fn a_conversation_interleaves_two_plans_on_open_connections() {
    with_origin(|address| {
        let mut child = Program::new(LOAD)
            .arg("serve")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut input = child.stdin.take().unwrap();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        let mut say = |command: &Command| ask(&mut input, &mut output, command).unwrap();
        for name in ["a", "b"] {
            let plan = Plan::closed(vec![address], 3, vec![RequestClass::get("all", "h", "/")]);
            match say(&Command::Prepare {
                name: name.to_owned(),
                plan,
            }) {
                Reply::Prepared {
                    connections: 3,
                    opening,
                    ..
                } => assert_eq!(opening.ok, 3),
                other => panic!("{other:?}"),
            }
        }
        for (name, rate) in [("a", None), ("b", Some(500.0)), ("a", Some(500.0))] {
            let run = Command::Run {
                name: name.to_owned(),
                duration_ms: 100,
                warmup_ms: 10,
                rate,
            };
            let Reply::Result { result, .. } = say(&run) else {
                panic!("a result is expected")
            };
            assert_eq!(
                (result.connects, result.ok),
                (0, result.sent),
                "{:?}",
                result.examples
            );
            assert!(result.sent > 0);
        }
        assert_eq!(
            say(&Command::Close {
                name: "b".to_owned()
            }),
            Reply::Closed {
                name: "b".to_owned()
            }
        );
        let gone = say(&Command::Run {
            name: "b".to_owned(),
            duration_ms: 1,
            warmup_ms: 0,
            rate: None,
        });
        assert!(matches!(gone, Reply::Error { .. }));
        assert_eq!(say(&Command::Quit), Reply::Bye);
        assert!(child.wait().unwrap().success());
    });
}

#[test]
fn the_generator_ends_with_its_input() {
    let mut child = Program::new(LOAD)
        .arg("serve")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().flush().unwrap();
    assert!(child.wait().unwrap().success());
}

#[test]
fn exit_codes_tell_right_from_wrong_from_impossible() {
    with_origin(|address| {
        let url = format!("http://{address}/");
        let code = |extra: &[&str]| {
            load(&[&["--url", &url, "-n", "10", "--qps", "0"], extra].concat())
                .status
                .code()
        };
        assert_eq!(code(&["--expect", "o"]), Some(0));
        assert_eq!(code(&["--expect", "other"]), Some(1));
        assert_eq!(code(&["-c", "0"]), Some(2));
    });
    let free = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let refused = load(&["--url", &format!("http://{free}/"), "-n", "1"]);
    assert_eq!(refused.status.code(), Some(2));
    let message = String::from_utf8(refused.stderr).unwrap();
    assert!(
        message.contains("connect_refused") && message.trim_end().lines().count() == 1,
        "{message}"
    );
}

#[test]
fn both_json_files_are_written_and_agree() {
    with_origin(|address| {
        let dir = tempfile::tempdir().unwrap();
        let (ours, fortios) = (dir.path().join("ours.json"), dir.path().join("fortio.json"));
        let url = format!("http://{address}/");
        let paths = [&ours, &fortios].map(|path| path.to_str().unwrap());
        let done = load(&[
            "--url",
            &url,
            "-c",
            "2",
            "-n",
            "50",
            "-qps",
            "0",
            "--json",
            paths[0],
            "--fortio-json",
            paths[1],
        ]);
        assert!(done.status.success() && String::from_utf8(done.stdout).unwrap().contains("ok 50"));
        let result: BlockResult = serde_json::from_slice(&std::fs::read(&ours).unwrap()).unwrap();
        let fortio: serde_json::Value =
            serde_json::from_slice(&std::fs::read(&fortios).unwrap()).unwrap();
        assert_eq!((result.ok, &fortio["RetCodes"]["200"]), (50, &50.into()));
        assert_eq!(fortio["DurationHistogram"]["Count"], 50);
        assert_eq!(fortio["RequestedDuration"], "exactly 50 calls");
    });
}

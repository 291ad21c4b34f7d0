//! The edge corpus of `harness/oracle` for servers through the judge and hyper: what Envoy was recorded to tell the client, this tells.

use bytes::Bytes;
use http_body_util::Empty;
use hyper::client::conn::http1;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use kmesh_oracle::edge::read_table;
use kmesh_oracle::responses::{TABLE, responses};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};

use super::{Back, READ_AHEAD};
use crate::fallback::exchange::Failure;
use crate::fallback::reply::Reply;

/// Cases in which this says something else than Envoy, by reason.
const OTHERWISE: &[(&str, &[&str])] = &[
    (
        "http::StatusCode has three digits",
        &["status-1000", "status-2000"],
    ),
    ("hyper counts to 2^64 - 3", &["cl-max64"]),
    (
        "a first line is judged with its head, which does not end here: the client waits",
        &["st-abc-nl", "http-x-nl"],
    ),
];

/// The status that the client is told; no word if it waits.
async fn told(bytes: &[u8], closes: bool, size: usize) -> Vec<String> {
    let (mut server, upstream) = duplex(1 << 20);
    let (mut sender, connection) = http1::Builder::new()
        .max_buf_size(READ_AHEAD)
        .handshake(TokioIo::new(Back::new(upstream)))
        .await
        .unwrap();
    let connection = tokio::spawn(connection);
    let request = Request::get("/").body(Empty::<Bytes>::new()).unwrap();
    let send = async {
        // A server answers what it was asked: hyper refuses what comes before.
        let mut asked = [0; 1024];
        assert_ne!(server.read(&mut asked).await.unwrap(), 0);
        for piece in bytes.chunks(size.max(1)) {
            server.write_all(piece).await.ok();
            tokio::task::yield_now().await;
        }
        if closes {
            server.shutdown().await.ok();
        }
    };
    let exchange = async {
        let ((), answer) = tokio::join!(send, sender.send_request(request));
        let status = |response: Response<_>| response.status();
        answer.map(status).map_err(Failure::broken)
    };
    // Nobody here waits for anything but the other side.
    let turns = async {
        for _ in 0..bytes.len() / size.max(1) + 64 {
            tokio::task::yield_now().await;
        }
    };
    let status = tokio::select! {
        biased;
        answer = exchange => Some(match answer {
            Ok(status) => status,
            Err(failure) => Reply::to_failure(&failure, 0).status,
        }),
        () = turns => None,
    };
    connection.abort();
    status
        .map(|status| status.as_u16().to_string())
        .into_iter()
        .collect()
}

#[tokio::test]
async fn odd_responses_come_to_envoys_answers_however_they_come() {
    let otherwise = |id: &str| OTHERWISE.iter().any(|(_, ids)| ids.contains(&id));
    let mut differing = Vec::new();
    for (case, (id, envoy)) in responses().iter().zip(read_table(TABLE).unwrap()) {
        assert_eq!(case.id, id);
        let sizes = [case.bytes.len(), 1, 7];
        let few = if case.bytes.len() < 2000 { 3 } else { 1 };
        for size in &sizes[..few] {
            let said = told(&case.bytes, case.closes, *size).await;
            if (said != envoy) != otherwise(&id) {
                differing.push(format!("{id} by {size}: envoy {envoy:?}, here {said:?}"));
            }
        }
    }
    assert!(differing.is_empty(), "{}", differing.join("\n"));
}

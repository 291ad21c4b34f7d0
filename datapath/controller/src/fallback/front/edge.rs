//! The edge corpus of `harness/oracle` through the gate, hyper and the decision: what Envoy was recorded to answer, this
//! answers, whatever the kernel leaves to user space.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::Empty;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use kmesh_oracle::edge::{cases, compiled, read_table};
use kmesh_oracle::native::ScriptedDice;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};
use tokio::task::yield_now;

use super::{Gate, Orders};
use crate::fallback::plan::decide;
use crate::generation::Generation;

/// Cases in which this is stricter than Envoy, by reason.
const STRICTER: &[(&str, &[&str])] = &[(
    "a quote in a query stands in no URI, and hyper's type holds none",
    &["llhttp-sample-escaped-quotes"],
)];
/// What says which cluster a request would go to.
const CLUSTER: &str = "x-cluster";

/// The word of the edge tables for a request: its cluster or its status.
fn serve(
    generation: &Arc<Generation>,
    orders: &Orders,
    request: &Request<Incoming>,
) -> Response<Empty<Bytes>> {
    let order = orders.next();
    let mut response = Response::new(Empty::new());
    if let Some(rejection) = order.answer {
        *response.status_mut() = rejection.status;
    } else {
        let original = "10.0.0.1:80".parse().unwrap();
        let dice = &mut ScriptedDice::default();
        match decide(Arc::clone(generation), original, request, dice) {
            Ok(plan) => {
                *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
                let cluster = plan.target.cluster().name.parse().unwrap();
                response.headers_mut().insert(CLUSTER, cluster);
            }
            Err(refusal) => *response.status_mut() = refusal.reply.status,
        }
    }
    if order.last {
        let close = "close".parse().unwrap();
        response.headers_mut().insert("connection", close);
    }
    response
}

async fn answers(generation: &Arc<Generation>, bytes: &[u8], size: usize) -> Vec<String> {
    let (client, server) = duplex(1 << 20);
    let orders: Arc<Orders> = Arc::default();
    let gate = Gate::new(server, Arc::clone(&orders));
    let service = service_fn(|request| {
        let response = serve(generation, &orders, &request);
        async { Ok::<_, Infallible>(response) }
    });
    let connection = http1::Builder::new()
        .max_buf_size(64 * 1024)
        .serve_connection(TokioIo::new(gate), service);
    let talk = talk(client, bytes, size);
    let serving = async {
        let _ = connection.await;
        std::future::pending().await
    };
    tokio::select! {
        received = talk => words(&received),
        never = serving => never,
    }
}

/// Sends the bytes and hears the answers. Nobody here waits for anything but the other side, so nothing comes any more when
/// nothing came for some turns.
async fn talk(mut client: DuplexStream, bytes: &[u8], size: usize) -> Vec<u8> {
    for piece in bytes.chunks(size.max(1)) {
        // The server may have closed already.
        if client.write_all(piece).await.is_err() {
            break;
        }
        yield_now().await;
    }
    let mut received = Vec::new();
    loop {
        let turns = async {
            for _ in 0..32 {
                yield_now().await;
            }
        };
        tokio::select! {
            biased;
            read = client.read_buf(&mut received) => if read.unwrap() == 0 { return received },
            () = turns => return received,
        }
    }
}

fn words(received: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(received).into_owned();
    let word = |response: &str| {
        let line = |name: &str| {
            let begun = response.find(&format!("{name}: "))? + name.len() + 2;
            response[begun..].split("\r\n").next().map(str::to_owned)
        };
        let status = response.split(' ').nth(1).unwrap_or_default().to_owned();
        line(CLUSTER).unwrap_or(status)
    };
    text.split("HTTP/1.").skip(1).map(word).collect()
}

fn tables() -> (Arc<Generation>, BTreeMap<String, Vec<String>>) {
    let generation = Arc::new(Generation::new(1, compiled()).unwrap());
    let table = read_table("envoy-default").unwrap();
    (generation, table.into_iter().collect())
}

/// The first answer of every case, and every further one that both gave: Envoy closes behind a body that it did not read.
#[tokio::test]
async fn odd_inputs_come_to_envoys_answers() {
    let (generation, envoy) = tables();
    let stricter = |id: &str| STRICTER.iter().any(|(_, ids)| ids.contains(&id));
    let mut differing = Vec::new();
    for case in cases() {
        let expected: Vec<&String> = envoy[&case.id].iter().filter(|w| *w != "100").collect();
        let said = answers(&generation, &case.bytes, case.bytes.len()).await;
        let equal = expected.is_empty() == said.is_empty()
            && expected
                .iter()
                .zip(&said)
                .all(|(theirs, ours)| *theirs == ours);
        if !equal && !stricter(&case.id) {
            differing.push(format!("{}: envoy {expected:?}, here {said:?}", case.id));
        }
    }
    assert!(differing.is_empty(), "{}", differing.join("\n"));
}

/// The answers do not depend on how the bytes come.
#[tokio::test]
async fn pieces_change_nothing() {
    let (generation, _) = tables();
    for case in cases().iter().filter(|case| case.bytes.len() < 2000) {
        let whole = answers(&generation, &case.bytes, case.bytes.len()).await;
        for size in [1, 2, 5, 16] {
            let said = answers(&generation, &case.bytes, size).await;
            assert_eq!(said.first(), whole.first(), "{} by {size}", case.id);
        }
    }
}

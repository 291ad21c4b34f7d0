//! The client over a network, as the control plane goes, comes, and asks who is there.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use kmesh_ads::network::{LONG, clusters, converged, outages, pods, start};
use kmesh_ads::serve::{Guard, until};
use kmesh_ads::{Quirks, Server, link, network, synthetic};
use kmesh_xds::{Kind, Protocol, Settings};
use tonic::Code;

/// ztunnel PR 1368: a stream that ends without an error is opened again, on the same connection.
#[test]
fn ztunnel_pr_1368_over_the_network() {
    let world = synthetic::mesh(3, 1);
    let server = Server::start(world.clone()).expect("a server");
    let client = network::client(&server, Protocol::Delta).expect("a client");
    let subscription = client.subscribe(&link::identity());
    converged(&subscription, &world).expect("the first state");
    for code in [Code::Ok, Code::Ok, Code::Unavailable, Code::Ok] {
        let before = server.requests().len();
        server.end_streams(code);
        until(LONG, "asked again", || {
            server.requests().len() >= before + 4
        })
        .expect("a new stream");
        until(LONG, "connected", || subscription.status().connected).expect("connected");
        assert_eq!(clusters(&subscription), 3);
    }
    assert_eq!(
        server.connections(),
        1,
        "a stream's end is no reason for another connection"
    );
}

/// ztunnel#752: the control plane comes up after the client.
#[test]
fn ztunnel_752_over_the_network() {
    let world = synthetic::mesh(3, 1);
    let address = {
        let first = Server::start(world.clone()).expect("a free port");
        first.address()
    };
    let client =
        start(Settings::new(&format!("http://{address}"), Protocol::Sotw)).expect("a client");
    let subscription = client.subscribe(&link::identity());
    until(LONG, "noticed", || subscription.status().alone.is_some())
        .expect("noticed that nobody is there");
    let (_, why) = subscription.status().alone.expect("it is alone");
    assert!(
        why.contains("refused") && why.contains(&address.to_string()),
        "{why}"
    );
    let _server = Server::start_at(address, world.clone(), None).expect("a server");
    converged(&subscription, &world).expect("found");
}

#[test]
fn outages_lose_nothing() {
    for protocol in [Protocol::Sotw, Protocol::Delta] {
        let outcome = outages(protocol, 3).expect("the client comes back");
        assert_eq!((outcome.outages, outcome.lost), (12, 0), "{outcome:?}");
    }
}

/// ztunnel#1966, and kmesh#553's many identities: one connection, equal resources once.
#[test]
fn ztunnel_1966_over_the_network() {
    let outcome = pods(Protocol::Delta, 20, 20).expect("all get everything");
    assert_eq!(outcome.connections, 1, "{outcome:?}");
    assert_eq!(outcome.resources, outcome.resources_of_one, "{outcome:?}");
}

#[test]
fn a_response_over_four_mebibytes_is_taken() {
    let mut world = synthetic::mesh(1, 1);
    for number in 0..100 {
        let name = format!("{number:02}{}", "x".repeat(64 << 10));
        let listener = synthetic::listener(&name, "10.96.1.1", 80, "r0");
        world.put(Kind::Listener, &name, listener);
    }
    let size: usize = world
        .resources(Kind::Listener)
        .map(|(_, served)| served.bytes.len())
        .sum();
    assert!(size > 6 << 20);
    let server = Server::start(world.clone()).expect("a server");
    for protocol in [Protocol::Sotw, Protocol::Delta] {
        let client = network::client(&server, protocol).expect("a client");
        converged(&client.subscribe(&link::identity()), &world).expect("all of it");
    }
    // The limit is there, and says what it is.
    let mut settings = Settings::new(&format!("http://{}", server.address()), Protocol::Sotw);
    settings.message_max = 4 << 20;
    let narrow = start(settings).expect("a client");
    says(&narrow.subscribe(&link::identity()), "OutOfRange");
}

struct Authority {
    ca: String,
    tls: Arc<tokio_rustls::rustls::ServerConfig>,
}

fn authority() -> Authority {
    let key = rcgen::KeyPair::generate().expect("a key");
    let mut of = rcgen::CertificateParams::new(Vec::new()).expect("parameters");
    of.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let ca = of.self_signed(&key).expect("a CA");
    let issuer = rcgen::Issuer::new(of, key);
    let server_key = rcgen::KeyPair::generate().expect("a key");
    let params = rcgen::CertificateParams::new(vec!["istiod.istio-system.svc".to_owned()])
        .expect("parameters");
    let certificate = params
        .signed_by(&server_key, &issuer)
        .expect("a certificate");
    let provider = Arc::new(tokio_rustls::rustls::crypto::ring::default_provider());
    let mut tls = tokio_rustls::rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(
            vec![certificate.der().clone()],
            tokio_rustls::rustls::pki_types::PrivateKeyDer::Pkcs8(
                server_key.serialize_der().into(),
            ),
        )
        .expect("a certificate that fits its key");
    tls.alpn_protocols = vec![b"h2".to_vec()];
    Authority {
        ca: ca.pem(),
        tls: Arc::new(tls),
    }
}

#[test]
fn tls_with_a_ca_file_and_a_token_file_that_is_replaced() {
    let folder = tempfile::tempdir().expect("a folder");
    let (ca, token) = (
        folder.path().join("root-cert.pem"),
        folder.path().join("istio-token"),
    );
    let world = synthetic::mesh(2, 1);
    let authority = authority();
    std::fs::write(&ca, &authority.ca).expect("the CA file");
    std::fs::write(&token, "first\n").expect("the token file");
    let valid = Arc::new(Mutex::new("first".to_owned()));
    let guard = Guard {
        tls: authority.tls,
        token: Arc::clone(&valid),
    };
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let server = Server::start_at(any, world.clone(), Some(guard)).expect("a server");
    let mut settings = Settings::new(&format!("https://{}", server.address()), Protocol::Delta);
    settings.ca = Some(ca.clone());
    settings.token = Some(token.clone());
    settings.server_name = Some("istiod.istio-system.svc".to_owned());
    let client = start(settings.clone()).expect("a client");
    let subscription = client.subscribe(&link::identity());
    converged(&subscription, &world).expect("the first token is valid");

    // The token expires; the file already has the next one.
    "second".clone_into(&mut valid.lock().expect("no panic"));
    std::fs::write(&token, "second\n").expect("the token file");
    let before = server.requests().len();
    server.end_streams(Code::Unauthenticated);
    until(LONG, "asked again", || server.requests().len() > before)
        .expect("the second token is valid");
    until(LONG, "connected", || subscription.status().connected).expect("connected");

    // A token that is not valid, a CA that did not sign, a file that is not there: each is said.
    std::fs::write(&token, "wrong").expect("the token file");
    server.end_streams(Code::Unauthenticated);
    says(&subscription, "this token is not valid");
    assert_eq!(clusters(&subscription), 2, "what was served stays");
    std::fs::write(&token, "second").expect("the token file");
    std::fs::write(&ca, self::authority().ca).expect("the CA file");
    let other = start(settings.clone()).expect("a client");
    says(&other.subscribe(&link::identity()), "certificate");
    settings.token = Some(folder.path().join("none"));
    let other = start(settings).expect("a client");
    says(&other.subscribe(&link::identity()), "cannot read");
}

fn says(subscription: &kmesh_xds::Subscription, what: &str) {
    let said = || {
        subscription
            .status()
            .alone
            .map(|(_, why)| why)
            .unwrap_or_default()
    };
    until(LONG, what, || said().contains(what))
        .unwrap_or_else(|error| panic!("{error}: it says {:?}", said()));
}

#[test]
fn settings_that_make_no_sense_are_refused_at_once() {
    let mut settings = Settings::new("istiod:15012", Protocol::Delta);
    assert!(start(settings.clone()).is_err());
    settings.uri = "http://istiod:15010".to_owned();
    assert!(start(settings.clone()).is_ok());
    settings.token = Some("/var/run/token".into());
    let error = start(settings)
        .err()
        .expect("a token in clear text is refused")
        .to_string();
    assert!(error.contains("clear text"), "{error}");
}

/// A NACK and what became of it, as an operator sees them.
#[test]
fn the_status_says_what_is_refused_and_what_is_held() {
    let world = synthetic::mesh(2, 1);
    let server = Server::start(world.clone()).expect("a server");
    let client = network::client(&server, Protocol::Delta).expect("a client");
    let subscription = client.subscribe(&link::identity());
    converged(&subscription, &world).expect("the first state");
    server.set_quirks(Quirks {
        unversioned: true,
        ..Quirks::default()
    });
    server.set_world(synthetic::mesh(0, 0));
    until(LONG, "a NACK", || subscription.status().kinds[0].nacks == 1).expect("refused");
    let status = subscription.status();
    assert!(
        status.kinds[0]
            .last_nack
            .as_ref()
            .is_some_and(|said| said.contains("no version")),
        "{status:?}"
    );
    assert_eq!(clusters(&subscription), 2);
    assert!(
        status.kinds[0]
            .silent_seconds
            .is_some_and(|seconds| Duration::from_secs(seconds) < LONG)
    );
}

/// The whole run that `kmesh-bench verify xds` makes, small.
#[test]
fn verification_holds_and_says_so_as_one_object() {
    let outcome = kmesh_ads::verify::verify(1, 3, &[(20, 2)]).expect("it ends");
    assert!(outcome.right(), "{:?}", outcome.findings);
    let object = serde_json::to_value(&outcome).expect("JSON");
    assert_eq!(object["compared"], 20);
    assert_eq!(object["meshes"][0]["endpoints"], 40);
}

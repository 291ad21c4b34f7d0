//! Redirects and direct responses, end to end, with curl: what `harness/oracle/golden` holds every judge to, in the client's
//! hand. (`x-forwarded-proto`, which no judge models, is as real Envoy 1.40 answered when asked.)
#![expect(
    clippy::unwrap_used,
    reason = "a test fails by panicking, in its own functions too"
)]

use crate::lab;

use std::net::SocketAddr;

use lab::config::{cluster, http, resources};
use lab::{HTTP_PORT, Mesh, WEB, root};
use serde_json::{Value, json};

/// Routes that answer by themselves, before one that does not.
fn routes() -> Value {
    let redirect = |path: Value, to: Value| json!({ "match": path, "redirect": to });
    json!([
        redirect(
            json!({ "path": "/old" }),
            json!({ "path_redirect": "/new" })
        ),
        redirect(
            json!({ "prefix": "/moved/" }),
            json!({ "host_redirect": "new.test", "strip_query": true, "response_code": "FOUND" }),
        ),
        redirect(
            json!({ "prefix": "/from" }),
            json!({ "prefix_rewrite": "/to", "response_code": "PERMANENT_REDIRECT" }),
        ),
        redirect(
            json!({ "path": "/secure" }),
            json!({ "https_redirect": true, "port_redirect": 8443, "response_code": "SEE_OTHER" }),
        ),
        json!({
            "match": { "path": "/teapot" },
            "direct_response": { "status": 418, "body": { "inline_string": "short and stout" } },
        }),
        json!({ "match": { "path": "/gone" }, "direct_response": { "status": 410 } }),
        json!({ "match": { "prefix": "/" }, "route": { "cluster": "one", "timeout": "0s" } }),
    ])
}

/// Path, what more is said, and status, `location` and body that come of it.
const CASES: [(&str, &[&str], &str); 8] = [
    ("/old?a=b", &[], "301 http://svc.test/new?a=b "),
    (
        "/old",
        &["-H", "x-forwarded-proto: https"],
        "301 https://svc.test/new ",
    ),
    ("/moved/x?y=z", &[], "302 http://new.test/moved/x "),
    ("/from/x?y", &["-d", "body"], "308 http://svc.test/to/x?y "),
    ("/secure", &[], "303 https://svc.test:8443/secure "),
    ("/teapot", &[], "418  short and stout"),
    ("/teapot", &["-d", "body"], "418  short and stout"),
    ("/gone", &[], "410  "),
];

/// What curl hears of all cases, on one connection.
fn heard(mesh: &Mesh, at: SocketAddr) -> Vec<String> {
    let mut curl = mesh.lab.pod("client").unwrap().command("curl");
    for (i, (path, more, _)) in CASES.iter().enumerate() {
        if i > 0 {
            curl.arg("--next");
        }
        curl.args(["-sS", "--max-time", "10", "-H", "host: svc.test"]);
        curl.args(["-w", "\\n%{http_code} %header{location} %{num_connects}\\n"]);
        curl.args(*more).arg(format!("http://{at}{path}"));
    }
    let output = curl.output().unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let text = String::from_utf8(output.stdout).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    let connects: u32 = (lines.chunks(2))
        .map(|pair| pair[1].rsplit(' ').next().unwrap().parse::<u32>().unwrap())
        .sum();
    assert_eq!(connects, 1, "{text}");
    let case = |pair: &[&str]| {
        let (answer, _) = pair[1].rsplit_once(' ').unwrap();
        format!("{answer} {}", pair[0])
    };
    lines.chunks(2).map(case).collect()
}

#[test]
fn routes_answer_by_themselves() {
    if !root("routes_answer_by_themselves") {
        return;
    }
    let mut mesh = Mesh::bare("answers");
    let hosts = json!([{ "name": "all", "domains": ["*"], "routes": routes() }]);
    let one = mesh.endpoint("s1", HTTP_PORT);
    mesh.configure(&resources(
        &[http(mesh.vip(WEB), &hosts)],
        &[cluster("one", &[one])],
    ));
    mesh.enrol(&lab::LOCAL);
    mesh.start();
    mesh.serve("s1");
    let wanted: Vec<&str> = CASES.iter().map(|(_, _, wanted)| *wanted).collect();
    assert_eq!(heard(&mesh, mesh.vip(WEB)), wanted);
    assert_eq!(mesh.connect().get("/other", "").server(), "s1");
}

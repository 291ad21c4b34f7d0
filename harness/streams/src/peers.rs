//! Programs that others wrote, as clients and as servers: what they come to through a data plane must be what they come to
//! without, or with Envoy, or there is a reason.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde::Serialize;

use crate::lab::{Bench, CheckError, Options, io};

/// Bytes of the file `small` that every server serves.
const SMALL: usize = 100;
/// Bytes of the file `large`.
const LARGE: usize = 200_000;
/// Longest run of one client, seconds.
const PATIENCE: &str = "10";

/// The servers.
pub const SERVERS: [&str; 5] = ["origin", "nginx", "python", "node", GRPC];
/// The server that only gRPC clients understand, and it only them.
const GRPC: &str = "tonic";

/// A client: its name, the program it needs, and the shell command that prints its outcome in one line. The command finds
/// the service's URL in `$URL`, our scripts in `$PEERS`, and the Rust peers in `$PEER`.
#[derive(Clone, Copy, Debug)]
pub struct Client {
    /// Name in the table.
    pub name: &'static str,
    /// How to find out whether it is installed.
    present: &'static str,
    command: &'static str,
    /// Whether it speaks gRPC.
    grpc: bool,
}

/// The clients.
pub const CLIENTS: [Client; 16] = [
    Client {
        name: "curl",
        present: "command -v curl",
        command: "curl -s --http1.1 -m 10 -o /dev/null -w '%{http_code}:%{size_download} ' \
            $URL/first/small -o /dev/null $URL/first/large -o /dev/null $URL/first/none",
        grpc: false,
    },
    Client {
        name: "curl HEAD",
        present: "command -v curl",
        command: "curl -s --http1.1 -m 10 -I -o /dev/null -w '%{http_code}:%{size_download} ' $URL/first/small",
        grpc: false,
    },
    Client {
        name: "curl upload",
        present: "command -v curl",
        command: "curl -s --http1.1 -m 10 -o /dev/null -w '%{http_code} ' --data-binary @$PEERS/www/first/large $URL/first/small",
        grpc: false,
    },
    Client {
        name: "wrk",
        present: "command -v wrk",
        command: "wrk -t1 -c8 -d1s $URL/first/small | awk '/Non-2xx|Socket errors/ {bad=1} /requests in/ {n=$1} \
            END {print (bad ? \"failures\" : n > 0 ? \"all 2xx\" : \"nothing\")}'",
        grpc: false,
    },
    Client {
        name: "wrk, 8 pipelined",
        present: "command -v wrk",
        command: "wrk -t1 -c4 -d1s -s $PEERS/pipeline.lua $URL/first/small | awk '/Non-2xx|Socket errors/ {bad=1} \
            /requests in/ {n=$1} END {print (bad ? \"failures\" : n > 0 ? \"all 2xx\" : \"nothing\")}'",
        grpc: false,
    },
    Client {
        name: "hey",
        present: "command -v hey",
        command: "hey -n 200 -c 8 $URL/first/small | awk '/responses$/ {print $1, $2} /^  \\[[0-9]+\\].*(error|EOF|refused)/ {print}' | tr '\\n' ' '",
        grpc: false,
    },
    Client {
        name: "ab (HTTP/1.0)",
        present: "command -v ab",
        command: "ab -q -n 8 -c 4 $URL/first/small 2>&1 | awk -F: '/^Complete|^Failed|^Non-2xx/ {gsub(/ /, \"\", $2); printf \"%s:%s \", $1, $2}'",
        grpc: false,
    },
    Client {
        name: "h2load (h1)",
        present: "command -v h2load",
        command: "h2load --h1 -n 100 -c 4 $URL/first/small 2>&1 | sed -n 's/^status codes: //p'",
        grpc: false,
    },
    Client {
        name: "h2load (h2c)",
        present: "command -v h2load",
        command: "h2load -n 100 -c 4 -m 4 $URL/first/small 2>&1 | sed -n 's/^status codes: //p'",
        grpc: false,
    },
    Client {
        name: "Python http.client",
        present: "command -v python3",
        command: "python3 $PEERS/client.py plain $URL",
        grpc: false,
    },
    Client {
        name: "Python requests",
        present: "python3 -c 'import requests'",
        command: "python3 $PEERS/client.py session $URL",
        grpc: false,
    },
    Client {
        name: "Node fetch",
        present: "command -v node",
        command: "node $PEERS/client.js $URL",
        grpc: false,
    },
    Client {
        name: "Python http.client, idle",
        present: "command -v python3",
        command: "python3 $PEERS/client.py idle $URL",
        grpc: false,
    },
    Client {
        name: "WebSocket",
        present: "command -v python3",
        command: "python3 $PEERS/client.py websocket $URL",
        grpc: false,
    },
    Client {
        name: "reqwest",
        present: "true",
        command: "$PEER reqwest $URL",
        grpc: false,
    },
    Client {
        name: "gRPC (tonic)",
        present: "true",
        command: "$PEER grpc-client $URL",
        grpc: true,
    },
];

/// What one client came to with one server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Outcome {
    /// The client.
    pub client: String,
    /// The server.
    pub server: String,
    /// The outcome per arm, in the order of the arms asked for. `missing` if the client or the server is not installed.
    pub arms: Vec<(String, String)>,
    /// `equal`, `missing`, the reason of a known difference, or `UNEXPLAINED`.
    pub verdict: String,
}

/// Why an arm may come to something else than the others.
fn reason(client: &str, server: &str, outcomes: &[(String, String)]) -> Option<&'static str> {
    let of = |arm: &str| {
        let found = outcomes.iter().find(|(name, _)| name == arm);
        found.map(|(_, outcome)| outcome.as_str())
    };
    let meshed_equal = of("kmesh") == of("envoy-both");
    match (client, server) {
        ("ab (HTTP/1.0)", _) if meshed_equal => {
            Some("Envoy answers HTTP/1.0 with 426 unless told otherwise, so does kmesh")
        }
        ("wrk" | "wrk, 8 pipelined" | "h2load (h1)", "python") if meshed_equal => Some(
            "the server closes after each answer, which this client counts as failures; Envoy keeps the client's connection, so does kmesh",
        ),
        ("Python http.client, idle", "node") if meshed_equal => Some(
            "the server ends a connection that is idle for 5 s, which this client takes for a failure; Envoy keeps the client's, so does kmesh",
        ),
        ("gRPC (tonic)", _) if of("kmesh") == of("direct") => Some(
            "the server sidecars of envoy-both speak HTTP/1.1 to their application, where gRPC's status in trailers is lost",
        ),
        ("WebSocket", _) if meshed_equal => {
            Some("Envoy refuses upgrades that no upgrade_configs allow with 403, so does kmesh")
        }
        ("h2load (h2c)", _) if meshed_equal => Some(
            "Envoy takes HTTP/2 and speaks HTTP/1.1 to the server, so does kmesh; without them the server refuses it",
        ),
        _ => None,
    }
}

/// Runs every client against these servers through these arms.
///
/// # Errors
/// [`CheckError`] if an arm does not come up.
pub fn meet(
    servers: &[&str],
    arms: &[String],
    options: &Options,
) -> Result<Vec<Outcome>, CheckError> {
    let mut rows = Vec::new();
    for &server in servers {
        let program = if server == "python" {
            "python3"
        } else {
            server
        };
        let ours = [SERVERS[0], GRPC].contains(&server);
        let there = ours || is_present(&format!("command -v {program}"));
        let mut of_arms: Vec<(String, Vec<String>)> = Vec::new();
        for arm in arms.iter().filter(|_| there) {
            of_arms.push((arm.clone(), through(arm, server, options)?));
        }
        for (index, client) in clients(server).enumerate() {
            let outcomes: Vec<(String, String)> = of_arms
                .iter()
                .map(|(arm, outcomes)| (arm.clone(), outcomes[index].clone()))
                .collect();
            let verdict = verdict(client.name, server, &outcomes);
            rows.push(Outcome {
                client: client.name.to_owned(),
                server: server.to_owned(),
                arms: outcomes,
                verdict,
            });
        }
    }
    Ok(rows)
}

/// The clients that a server understands.
fn clients(server: &str) -> impl Iterator<Item = &'static Client> {
    let grpc = server == GRPC;
    CLIENTS.iter().filter(move |client| client.grpc == grpc)
}

fn verdict(client: &str, server: &str, outcomes: &[(String, String)]) -> String {
    let Some(((_, first), others)) = outcomes.split_first() else {
        return "missing".to_owned();
    };
    if outcomes.iter().any(|(_, outcome)| outcome == "missing") {
        "missing".to_owned()
    } else if others.iter().all(|(_, outcome)| outcome == first) {
        "equal".to_owned()
    } else {
        let reason = reason(client, server, outcomes);
        reason.unwrap_or("UNEXPLAINED").to_owned()
    }
}

/// Every client against one server through one arm.
fn through(arm: &str, server: &str, options: &Options) -> Result<Vec<String>, CheckError> {
    let folder = tempfile::tempdir().map_err(io("a folder for the peers"))?;
    lay_out(folder.path(), server, options).map_err(io("laying out the peers"))?;
    let bench = Bench::up(
        arm,
        &Options {
            server: folder.path().join("server.sh"),
            http2: server == GRPC,
            ..options.clone()
        },
    )?;
    let target = bench.target();
    let url = match target.port() {
        80 => format!("http://{}", target.ip()),
        _ => format!("http://{target}"),
    };
    let run = |client: &Client| {
        if !is_present(client.present) {
            return Ok("missing".to_owned());
        }
        let mut command = bench.running.client().command("timeout");
        command.args([PATIENCE, "sh", "-c", client.command]);
        command.env("URL", &url).env("PEERS", folder.path());
        command.env("PEER", peer(options));
        let output = command
            .stdin(Stdio::null())
            .output()
            .map_err(io("starting a client"))?;
        let text = String::from_utf8_lossy(&output.stdout);
        let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
        Ok(match (text.is_empty(), output.status.success()) {
            (false, _) => text,
            (true, true) => "nothing".to_owned(),
            (true, false) => output.status.to_string(),
        })
    };
    clients(server).map(run).collect()
}

/// `kmesh-streams-peer`, which is built with `kmesh-streams-client`.
fn peer(options: &Options) -> PathBuf {
    options.client.with_file_name("kmesh-streams-peer")
}

/// The scripts and the files to serve, in a folder that goes with the arm.
fn lay_out(folder: &Path, server: &str, options: &Options) -> std::io::Result<()> {
    let www = folder.join("www");
    fs::create_dir_all(www.join("first"))?;
    fs::write(www.join("index.html"), "ready\n")?;
    fs::write(www.join("first/small"), "s".repeat(SMALL))?;
    fs::write(www.join("first/large"), "l".repeat(LARGE))?;
    for (name, text) in [
        ("server.sh", include_str!("../peers/server.sh")),
        ("server.py", include_str!("../peers/server.py")),
        ("server.js", include_str!("../peers/server.js")),
        ("client.py", include_str!("../peers/client.py")),
        ("client.js", include_str!("../peers/client.js")),
        ("pipeline.lua", include_str!("../peers/pipeline.lua")),
        ("kind", server),
        ("origin", &options.arms.origin.display().to_string()),
        ("peer", &peer(options).display().to_string()),
    ] {
        fs::write(folder.join(name), text)?;
    }
    fs::set_permissions(folder.join("server.sh"), Permissions::from_mode(0o755))?;
    // nginx opens its files as a user of its own.
    fs::set_permissions(folder, Permissions::from_mode(0o755))
}

fn is_present(test: &str) -> bool {
    let mut command = Command::new("sh");
    command.args(["-c", test]).stdin(Stdio::null());
    command.stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

/// The outcomes as a Markdown table.
pub fn table(rows: &[Outcome]) -> String {
    let arms: Vec<&str> = rows
        .first()
        .map(|row| row.arms.iter().map(|(arm, _)| arm.as_str()).collect())
        .unwrap_or_default();
    let mut text = format!("| client | server | {} | verdict |\n", arms.join(" | "));
    text.push_str(&"|---".repeat(arms.len() + 3));
    text.push_str("|\n");
    for row in rows {
        let mut cells = vec![row.client.clone(), row.server.clone()];
        for arm in &arms {
            let outcome = row.arms.iter().find(|(name, _)| name == arm);
            cells.push(outcome.map_or_else(|| "-".to_owned(), |(_, outcome)| outcome.clone()));
        }
        cells.push(row.verdict.clone());
        text.extend(["| ", &cells.join(" | "), " |\n"]);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcomes(of: [&str; 3]) -> Vec<(String, String)> {
        let arms = ["direct", "envoy-both", "kmesh"].map(str::to_owned);
        arms.into_iter().zip(of.map(str::to_owned)).collect()
    }

    #[test]
    fn a_difference_needs_a_reason() {
        for (client, of, expected) in [
            ("curl", ["200:1", "200:1", "200:1"], "equal"),
            ("curl", ["200:1", "200:1", "503:1"], "UNEXPLAINED"),
            ("WebSocket", ["101", "403", "101"], "UNEXPLAINED"),
            ("curl", ["missing", "missing", "missing"], "missing"),
        ] {
            assert_eq!(verdict(client, "node", &outcomes(of)), expected);
        }
        let explained = verdict("WebSocket", "node", &outcomes(["101 hello", "403", "403"]));
        assert!(explained.contains("upgrade_configs"), "{explained}");
    }
}

//! Raw bytes to Envoy, and whatever it answers in words.

use std::io::{self, Read as _, Write as _};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixStream};
use std::path::Path;
use std::time::{Duration, Instant};
use std::{str, thread};

use kmesh_config::Config;
use serde_json::{Value, json};

use super::bootstrap::{self, CLUSTER};
use super::process::{Process, unused_name};
use super::{Envoy, EnvoyError};

/// How Envoy is set up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Profile {
    /// Envoy's own defaults.
    Default,
    /// What Istio's sidecars set that changes decisions: path normalisation (`pathNormalization: DEFAULT`, which is BASE),
    /// WebSocket upgrades, HTTP/1.0 (`PILOT_HTTP10`, on by default since 1.24).
    Istio,
}

impl Profile {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Default, Self::Istio];

    /// The name of its table.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Default => "envoy-default",
            Self::Istio => "istio",
        }
    }

    fn fields(self) -> Value {
        match self {
            Self::Default => json!({}),
            Self::Istio => json!({
                "normalize_path": true,
                "path_with_escaped_slashes_action": "KEEP_UNCHANGED",
                "use_remote_address": false,
                "upgrade_configs": [{ "upgrade_type": "websocket" }],
                "http_protocol_options": { "accept_http_10": true },
            }),
        }
    }
}

/// How long an answer that is expected may take.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long is listened for an answer that nothing promises.
const SILENCE: Duration = Duration::from_millis(1500);

impl Envoy {
    /// Starts `program` with one configuration in a profile.
    ///
    /// # Errors
    /// As [`Envoy::start`].
    pub fn start_in(program: &Path, config: &Config, profile: Profile) -> Result<Self, EnvoyError> {
        let sockets = unused_name();
        let mut bootstrap = bootstrap::bootstrap(std::slice::from_ref(config), &sockets);
        shape(&mut bootstrap, &profile.fields());
        let mut process = Process::start(program, &bootstrap.to_string(), sockets)?;
        process.wait_for(&bootstrap::socket(process.sockets(), 0, 0))?;
        Ok(Self { process })
    }

    /// Starts `program` with one route, to a server that `serve` begins on the abstract socket of the name it gets.
    ///
    /// # Errors
    /// As [`Envoy::start`].
    pub fn start_before(
        program: &Path,
        serve: impl FnOnce(&str) -> io::Result<()>,
    ) -> Result<Self, EnvoyError> {
        let sockets = unused_name();
        let server = format!("{sockets}-server");
        serve(&server).map_err(|source| EnvoyError::Start {
            program: program.to_owned(),
            source,
        })?;
        let bootstrap = bootstrap::before_server(&sockets, &server).to_string();
        let mut process = Process::start(program, &bootstrap, sockets)?;
        process.wait_for(&bootstrap::socket(process.sockets(), 0, 0))?;
        Ok(Self { process })
    }

    /// What Envoy answers to each of these byte streams, each on a connection of its own. `expected` is how many answers are
    /// waited for; more than that are noticed if they come soon.
    ///
    /// # Errors
    /// [`EnvoyError::Connection`].
    pub fn answers(&self, streams: &[(&[u8], usize)]) -> Result<Vec<Vec<String>>, EnvoyError> {
        let socket = bootstrap::socket(self.process.sockets(), 0, 0);
        let ask = |(bytes, expected): &(&[u8], usize)| ask(&socket, bytes, *expected);
        thread::scope(|scope| {
            let under_way: Vec<_> = streams
                .iter()
                .map(|stream| scope.spawn(move || ask(stream)))
                .collect();
            let answers = under_way.into_iter().map(|asked| {
                let broken = || io::Error::other("the thread that asked broke");
                asked.join().unwrap_or_else(|_| Err(broken()))
            });
            answers
                .map(|answer| {
                    answer.map_err(|source| EnvoyError::Connection {
                        request: "an edge case".to_owned(),
                        source,
                    })
                })
                .collect()
        })
    }
}

/// Adds the profile's fields to every HTTP connection manager.
fn shape(value: &mut Value, fields: &Value) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(|item| shape(item, fields)),
        Value::Object(object) => {
            if object.get("@type").and_then(Value::as_str) == Some(bootstrap::MANAGER) {
                for (name, value) in fields.as_object().into_iter().flatten() {
                    object.insert(name.clone(), value.clone());
                }
            }
            object.values_mut().for_each(|item| shape(item, fields));
        }
        _ => {}
    }
}

fn ask(socket: &str, bytes: &[u8], expected: usize) -> io::Result<Vec<String>> {
    let stream = UnixStream::connect_addr(&SocketAddr::from_abstract_name(socket)?)?;
    stream.set_read_timeout(Some(Duration::from_millis(100)))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    // Envoy may have answered and closed before it has read everything.
    let mut sender = stream.try_clone()?;
    let sent = sender.write_all(bytes);
    if let Err(error) = sent
        && !matches!(
            error.kind(),
            io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset
        )
    {
        return Err(error);
    }
    let begun = Instant::now();
    let mut received = Vec::new();
    let mut silent_since = Instant::now();
    loop {
        let enough = words(&received).len() >= expected;
        if begun.elapsed() > PATIENCE || enough && silent_since.elapsed() > SILENCE {
            return Ok(words(&received));
        }
        let mut buffer = [0; 16 * 1024];
        match (&stream).read(&mut buffer) {
            Ok(0) => return Ok(words(&received)),
            Ok(count) => {
                received.extend_from_slice(&buffer[..count]);
                silent_since = Instant::now();
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {
                return Ok(words(&received));
            }
            Err(error) => return Err(error),
        }
    }
}

/// One word per complete response head: the cluster, or the status. No body of Envoy's own looks like a status line.
fn words(received: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(received);
    let mut words = Vec::new();
    for response in text.split("HTTP/1.").skip(1) {
        let Some((head, _)) = response.split_once("\r\n\r\n") else {
            continue;
        };
        let status = head.split(' ').nth(1).unwrap_or_default();
        let cluster = head.split("\r\n").find_map(|line| {
            let (name, value) = line.split_once(": ")?;
            (name == CLUSTER).then_some(value)
        });
        let word = match (status, cluster) {
            ("503", Some(cluster)) => cluster,
            _ => status,
        };
        words.push(
            word.split_whitespace()
                .next()
                .unwrap_or_default()
                .to_owned(),
        );
    }
    words
}

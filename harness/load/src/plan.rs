//! What to send, to whom and when: the input of a run.
//!
//! A [`Plan`] is plain data that travels as JSON from the harness to a generator in another network
//! namespace, so every field has a unit and a range, unknown fields are refused, and
//! [`Plan::validate`] names the field that is wrong before a socket is opened.

use std::collections::HashSet;
use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

/// Most connections one plan may ask for; the generator holds one socket for each.
pub const MAX_CONNECTIONS: u32 = 65_536;
/// Largest request body or echo message in bytes.
pub const MAX_BODY_BYTES: u32 = 64 << 20;
/// Largest sum of weights (after division by their common divisor): the length of one mix cycle.
pub const MAX_CYCLE: u64 = 100_000;
/// Highest arrival rate in requests per second.
pub const MAX_RATE: f64 = 10_000_000.0;

/// One workload: targets, connections, pacing and the mix of requests.
///
/// ```json
/// {"targets":["10.0.0.1:80"],"connections":60,
///  "loop":{"open":{"rate":1000.0,"arrivals":"uniform"}},
///  "mix":[{"name":"v1","weight":9,"host":"echo","expect":["v1-0"]},
///         {"name":"v2","weight":1,"host":"echo","headers":[["end-user","jason"]],"expect":["v2-0"]}]}
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// Addresses to connect to; connection `i` goes to target `i % len`. One VIP, or the endpoint list
    /// for an arm without a balancer.
    pub targets: Vec<SocketAddr>,
    /// Concurrent connections, 1..=[`MAX_CONNECTIONS`].
    pub connections: u32,
    /// When requests start.
    #[serde(default, rename = "loop")]
    pub pace: Pace,
    /// How long a connection lives.
    #[serde(default)]
    pub reuse: Reuse,
    /// What is spoken on the connection.
    #[serde(default)]
    pub protocol: Protocol,
    /// Request classes; at least one for HTTP, none for TCP echo.
    #[serde(default)]
    pub mix: Vec<RequestClass>,
    /// Send the classes in this order instead of at random by weight. HTTP only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replay: Option<Replay>,
    /// A request without a complete answer after this many milliseconds is an error (`timeout`) and
    /// its connection is closed. 1..=600000.
    #[serde(default = "default_timeout_ms")]
    pub timeout_ms: u32,
    /// Seed of everything random: order of the mix, Poisson gaps, reuse limits.
    #[serde(default)]
    pub seed: u64,
    /// What the generator's thread does while nothing is due.
    #[serde(default)]
    pub idle: Idle,
    /// What to demand of the `x-request-seq` response header.
    #[serde(default)]
    pub seq: SeqCheck,
}

/// A sequence of requests, begun anew when it ends.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Replay {
    /// Places in `mix`.
    pub order: Vec<u32>,
    /// When each was due, microseconds from the first, never going back; empty for even gaps. In an open loop the gaps
    /// are scaled so that their mean meets the offered rate.
    #[serde(default)]
    pub due_us: Vec<u64>,
}

/// When requests start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Pace {
    /// Each connection sends its next request as soon as the last answer is complete.
    #[default]
    Closed,
    /// Requests fall due by a schedule that does not look at the answers.
    Open {
        /// Offered rate over all connections, requests per second, above 0.
        rate: f64,
        /// Distribution of the gaps.
        #[serde(default)]
        arrivals: Arrivals,
    },
}

/// Distribution of the gaps between due times in an open loop.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Arrivals {
    /// Equal gaps of `1 / rate`.
    #[default]
    Uniform,
    /// Exponential gaps of mean `1 / rate`: what many independent users look like.
    Poisson,
}

/// How long a connection lives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Reuse {
    /// Until an error, or until the server ends it.
    #[default]
    Keepalive,
    /// One request, then closed; the next request pays for the connect.
    Short {
        /// Send `Connection: close`, so that the server closes first and keeps the TIME_WAIT.
        #[serde(default)]
        close_header: bool,
        /// Close with a reset instead of a FIN: no TIME_WAIT on either side.
        #[serde(default)]
        reset: bool,
    },
    /// Each connection draws its number of requests from this range, ends included (fortio's
    /// `-connection-reuse min:max`).
    Range {
        /// Fewest requests per connection, at least 1.
        min: u32,
        /// Most requests per connection, at least `min`.
        max: u32,
    },
}

/// What is spoken on the connection.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Protocol {
    /// HTTP/1.1, one request in flight per connection.
    #[default]
    Http,
    /// Raw bytes that must come back unchanged; each message carries its own sequence number.
    TcpEcho {
        /// Message size in bytes, 1..=[`MAX_BODY_BYTES`].
        message_bytes: u32,
        /// The server first sends one line with its name (`kmesh-origin --tcp-echo-banner`), which is
        /// counted as "who answered" and checked against `expect`.
        #[serde(default)]
        banner: bool,
        /// Server names allowed by `banner`; empty allows any.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        expect: Vec<String>,
    },
}

/// One kind of request and what its answer must look like.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RequestClass {
    /// Name in the results; unique within the mix.
    pub name: String,
    /// Share of this class: exactly `weight` of every `sum of weights` requests. At least 1.
    #[serde(default = "one")]
    pub weight: u32,
    /// Request method.
    #[serde(default = "get")]
    pub method: String,
    /// `Host` header.
    pub host: String,
    /// Request target, starting with `/`, query included.
    #[serde(default = "root")]
    pub path: String,
    /// More headers, in this order; a name may appear more than once.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub headers: Vec<(String, String)>,
    /// Request body in bytes, sent with `Content-Length`; 0 sends no body.
    #[serde(default)]
    pub body_bytes: u32,
    /// Values of `x-served-by` that are right; empty accepts any or none. Anything else is a wrong decision.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub expect: Vec<String>,
    /// Status that is right.
    #[serde(default = "ok_status")]
    pub status: u16,
    /// What to demand of the response body.
    #[serde(default)]
    pub body: BodyCheck,
}

impl RequestClass {
    /// A `GET` of `path` at `host` that expects 200 from anybody.
    pub fn get(name: impl Into<String>, host: impl Into<String>, path: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            weight: one(),
            method: get(),
            host: host.into(),
            path: path.into(),
            headers: Vec::new(),
            body_bytes: 0,
            expect: Vec::new(),
            status: ok_status(),
            body: BodyCheck::Any,
        }
    }
}

/// What to demand of a response body.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum BodyCheck {
    /// Framing only.
    #[default]
    Any,
    /// Byte for byte the request's body (`kmesh-origin` without `size=`).
    Echo,
    /// The first `bytes` bytes of the pattern (see [`crate::pattern`]) that `kmesh-origin` sends.
    Pattern {
        /// Length of the body.
        bytes: u32,
    },
}

/// What to demand of the `x-request-seq` response header, which proves which request was answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SeqCheck {
    /// Neither send nor check it (for servers that are compared by raw speed).
    Off,
    /// Send it; an answer that carries it must carry the right one.
    #[default]
    IfPresent,
    /// Send it; every answer must carry it.
    Required,
}

/// What the generator's thread does while nothing is due.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Idle {
    /// Sleep until shortly before the next due time, then spin. Closed loop: sleep until an answer.
    #[default]
    Hybrid,
    /// Never sleep: steadiest timing, one CPU always busy.
    Spin,
    /// Sleep until the due time: least CPU, late by the kernel's wake-up latency.
    Sleep,
}

impl Plan {
    /// A closed loop of `connections` connections to `targets` with this mix.
    pub fn closed(targets: Vec<SocketAddr>, connections: u32, mix: Vec<RequestClass>) -> Self {
        Self {
            targets,
            connections,
            pace: Pace::Closed,
            reuse: Reuse::Keepalive,
            protocol: Protocol::Http,
            mix,
            replay: None,
            timeout_ms: default_timeout_ms(),
            seed: 0,
            idle: Idle::Hybrid,
            seq: SeqCheck::IfPresent,
        }
    }

    /// Checks every range that the types do not express.
    ///
    /// # Errors
    /// The first field out of range, by name.
    pub fn validate(&self) -> Result<(), PlanError> {
        let refuse = |field: &str, why: String| {
            Err(PlanError::Field {
                field: field.to_owned(),
                why,
            })
        };
        if self.targets.is_empty() {
            return refuse("targets", "is empty".to_owned());
        }
        if !(1..=MAX_CONNECTIONS).contains(&self.connections) {
            return refuse(
                "connections",
                format!("{} is not in 1..={MAX_CONNECTIONS}", self.connections),
            );
        }
        if !(1..=600_000).contains(&self.timeout_ms) {
            return refuse(
                "timeout_ms",
                format!("{} is not in 1..=600000", self.timeout_ms),
            );
        }
        if let Pace::Open { rate, .. } = self.pace {
            check_rate(rate)?;
        }
        if let Reuse::Range { min, max } = self.reuse
            && (min == 0 || max < min)
        {
            return refuse(
                "reuse.range",
                format!("{min}..={max} is empty or starts at 0"),
            );
        }
        match &self.protocol {
            Protocol::TcpEcho { message_bytes, .. } => {
                if !(1..=MAX_BODY_BYTES).contains(message_bytes) {
                    return refuse(
                        "protocol.tcp_echo.message_bytes",
                        format!("{message_bytes} is not in 1..={MAX_BODY_BYTES}"),
                    );
                }
                if !self.mix.is_empty() {
                    return refuse(
                        "mix",
                        "has no meaning for tcp_echo; leave it out".to_owned(),
                    );
                }
                Ok(())
            }
            Protocol::Http => self.validate_mix(),
        }
    }

    fn validate_mix(&self) -> Result<(), PlanError> {
        let refuse = |field: String, why: String| Err(PlanError::Field { field, why });
        if self.mix.is_empty() {
            return refuse("mix".to_owned(), "is empty".to_owned());
        }
        let mut names = HashSet::new();
        for (index, class) in self.mix.iter().enumerate() {
            let field = |name: &str| format!("mix[{index}].{name}");
            if !names.insert(class.name.as_str()) {
                return refuse(field("name"), format!("\"{}\" appears twice", class.name));
            }
            if class.weight == 0 {
                return refuse(
                    field("weight"),
                    "is 0; leave the class out instead".to_owned(),
                );
            }
            if class.method.is_empty() || !class.method.bytes().all(is_token) {
                return refuse(
                    field("method"),
                    format!("\"{}\" is not a token", class.method),
                );
            }
            if !class.path.starts_with('/') || !class.path.bytes().all(|b| b.is_ascii_graphic()) {
                return refuse(
                    field("path"),
                    format!("\"{}\" is not an absolute path", class.path),
                );
            }
            if !is_field_value(&class.host) {
                return refuse(field("host"), "contains a control character".to_owned());
            }
            for (name, value) in &class.headers {
                if name.is_empty() || !name.bytes().all(is_token) {
                    return refuse(field("headers"), format!("\"{name}\" is not a header name"));
                }
                let framing = [
                    "content-length",
                    "transfer-encoding",
                    "connection",
                    "host",
                    "x-request-seq",
                ];
                if framing.iter().any(|f| name.eq_ignore_ascii_case(f)) {
                    return refuse(
                        field("headers"),
                        format!("\"{name}\" is written by the generator"),
                    );
                }
                if !is_field_value(value) {
                    return refuse(
                        field("headers"),
                        format!("value of \"{name}\" contains a control character"),
                    );
                }
            }
            if class.body_bytes > MAX_BODY_BYTES {
                return refuse(
                    field("body_bytes"),
                    format!("{} is above {MAX_BODY_BYTES}", class.body_bytes),
                );
            }
            if !(200..=599).contains(&class.status) {
                return refuse(
                    field("status"),
                    format!("{} is not in 200..=599", class.status),
                );
            }
        }
        if let Some(replay) = &self.replay {
            let beyond = |class: &&u32| **class as usize >= self.mix.len();
            if let Some(class) = replay.order.iter().find(beyond) {
                return refuse(
                    "replay.order".to_owned(),
                    format!("names class {class} of {}", self.mix.len()),
                );
            }
            let timed = replay.due_us.is_empty() || replay.due_us.len() == replay.order.len();
            if replay.order.is_empty() || !timed || !replay.due_us.is_sorted() {
                return refuse(
                    "replay".to_owned(),
                    "needs requests, and one due time for each, never going back, or none"
                        .to_owned(),
                );
            }
            return Ok(());
        }
        let weights: Vec<u32> = self.mix.iter().map(|class| class.weight).collect();
        let cycle = crate::mix::cycle_len(&weights);
        if cycle > MAX_CYCLE {
            return refuse(
                "mix".to_owned(),
                format!("weights need a cycle of {cycle} requests, above {MAX_CYCLE}"),
            );
        }
        Ok(())
    }
}

/// Checks an offered rate in requests per second.
///
/// # Errors
/// When it is not a number in (0, [`MAX_RATE`]].
pub fn check_rate(rate: f64) -> Result<(), PlanError> {
    if rate > 0.0 && rate <= MAX_RATE {
        return Ok(());
    }
    Err(PlanError::Field {
        field: "rate".to_owned(),
        why: format!("{rate} is not in (0, {MAX_RATE}] requests/s"),
    })
}

/// Why a plan was refused.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// A field's value is out of range.
    #[error("plan field {field}: {why}")]
    Field {
        /// Path of the field in the plan's JSON.
        field: String,
        /// What is wrong with it.
        why: String,
    },
}

fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

fn is_field_value(value: &str) -> bool {
    value
        .bytes()
        .all(|b| b == b'\t' || (b >= b' ' && b != 0x7f))
}

fn default_timeout_ms() -> u32 {
    3000
}

fn one() -> u32 {
    1
}

fn get() -> String {
    "GET".to_owned()
}

fn root() -> String {
    "/".to_owned()
}

fn ok_status() -> u16 {
    200
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan() -> Plan {
        Plan::closed(
            vec!["127.0.0.1:80".parse().unwrap()],
            4,
            vec![RequestClass::get("a", "h", "/")],
        )
    }

    #[test]
    fn the_example_in_the_docs_is_a_valid_plan() {
        let text = r#"{"targets":["10.0.0.1:80"],"connections":60,
            "loop":{"open":{"rate":1000.0,"arrivals":"uniform"}},
            "mix":[{"name":"v1","weight":9,"host":"echo","expect":["v1-0"]},
                   {"name":"v2","weight":1,"host":"echo","headers":[["end-user","jason"]],"expect":["v2-0"]}]}"#;
        let plan: Plan = serde_json::from_str(text).unwrap();
        plan.validate().unwrap();
        let again: Plan = serde_json::from_str(&serde_json::to_string(&plan).unwrap()).unwrap();
        assert_eq!(plan, again);
    }

    #[test]
    fn every_shape_of_reuse_and_protocol_survives_json() {
        for reuse in [
            Reuse::Keepalive,
            Reuse::Short {
                close_header: true,
                reset: false,
            },
            Reuse::Range { min: 10, max: 30 },
        ] {
            for protocol in [
                Protocol::Http,
                Protocol::TcpEcho {
                    message_bytes: 64,
                    banner: true,
                    expect: vec!["a".to_owned()],
                },
            ] {
                let one = Plan {
                    reuse,
                    protocol,
                    ..plan()
                };
                assert_eq!(
                    one,
                    serde_json::from_str(&serde_json::to_string(&one).unwrap()).unwrap()
                );
            }
        }
    }

    #[test]
    fn unknown_fields_are_refused() {
        let text = r#"{"targets":["10.0.0.1:80"],"connections":1,"conections":2}"#;
        assert!(
            serde_json::from_str::<Plan>(text)
                .unwrap_err()
                .to_string()
                .contains("conections")
        );
    }

    #[test]
    fn a_wrong_field_is_named() {
        let class = || RequestClass::get("a", "h", "/");
        let mix = |class: RequestClass| Plan {
            mix: vec![class],
            ..plan()
        };
        let cases = [
            (
                Plan {
                    targets: vec![],
                    ..plan()
                },
                "targets",
            ),
            (
                Plan {
                    connections: 0,
                    ..plan()
                },
                "connections",
            ),
            (
                Plan {
                    timeout_ms: 0,
                    ..plan()
                },
                "timeout_ms",
            ),
            (
                Plan {
                    mix: vec![],
                    ..plan()
                },
                "mix",
            ),
            (
                Plan {
                    mix: vec![class(), class()],
                    ..plan()
                },
                "mix[1].name",
            ),
            (
                Plan {
                    pace: Pace::Open {
                        rate: 0.0,
                        arrivals: Arrivals::Uniform,
                    },
                    ..plan()
                },
                "rate",
            ),
            (
                Plan {
                    pace: Pace::Open {
                        rate: f64::NAN,
                        arrivals: Arrivals::Uniform,
                    },
                    ..plan()
                },
                "rate",
            ),
            (
                Plan {
                    reuse: Reuse::Range { min: 3, max: 2 },
                    ..plan()
                },
                "reuse.range",
            ),
            (
                mix(RequestClass {
                    weight: 0,
                    ..class()
                }),
                "mix[0].weight",
            ),
            (
                mix(RequestClass {
                    path: "x".to_owned(),
                    ..class()
                }),
                "mix[0].path",
            ),
            (
                mix(RequestClass {
                    method: "G T".to_owned(),
                    ..class()
                }),
                "mix[0].method",
            ),
            (
                mix(RequestClass {
                    host: "a\r\nb".to_owned(),
                    ..class()
                }),
                "mix[0].host",
            ),
            (
                mix(RequestClass {
                    headers: vec![("Host".to_owned(), "b".to_owned())],
                    ..class()
                }),
                "mix[0].headers",
            ),
            (
                mix(RequestClass {
                    status: 100,
                    ..class()
                }),
                "mix[0].status",
            ),
            (
                Plan {
                    protocol: Protocol::TcpEcho {
                        message_bytes: 0,
                        banner: false,
                        expect: vec![],
                    },
                    ..plan()
                },
                "message_bytes",
            ),
        ];
        for (plan, field) in cases {
            let error = plan.validate().unwrap_err().to_string();
            assert!(error.contains(field), "{error} should name {field}");
        }
    }
}

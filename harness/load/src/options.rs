//! The command line: fortio's names where fortio has the option.

use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use clap::{Args, Parser, Subcommand, ValueEnum};
use kmesh_load::engine::Block;
use kmesh_load::fortio::Labels;
use kmesh_load::plan::{Arrivals, Idle, Pace, Plan, Protocol, RequestClass, Reuse, SeqCheck};
use kmesh_load::replay;

/// Open- and closed-loop HTTP/1.1 load generator that checks every answer.
///
/// Exit codes: 0 every answer was right, 1 some were not, 2 the run could not be done.
#[derive(Debug, Parser)]
#[command(version)]
pub(crate) struct Options {
    #[command(subcommand)]
    pub(crate) action: Action,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Action {
    /// Run once and print the result (fortio's single-dash names are understood too)
    Run(Box<Run>),
    /// Take commands as JSON lines on stdin and answer on stdout until `quit` or the end of input
    Serve(Process),
}

#[derive(Debug, Args)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a flag of the command line"
)]
pub(crate) struct Run {
    /// Where to send: http://HOST[:PORT]/PATH or tcp://HOST:PORT
    #[arg(long, value_name = "URL", required_unless_present = "plan")]
    pub(crate) url: Option<String>,
    /// Take the whole plan from this JSON file instead of the flags
    #[arg(long, value_name = "FILE", conflicts_with = "url")]
    pub(crate) plan: Option<String>,
    /// Send the requests of this log in its order, and with --qps its gaps (JSON lines or vegeta's targets)
    #[arg(long, value_name = "FILE", conflicts_with_all = ["plan", "number"])]
    pub(crate) replay: Option<PathBuf>,
    /// Connections
    #[arg(short, long, value_name = "N", default_value_t = 4)]
    pub(crate) connections: u32,
    /// Measured time, as in 5s, 1m30s or 250ms
    #[arg(short, long, value_name = "DURATION", default_value = "5s", value_parser = duration)]
    pub(crate) time: Duration,
    /// Stop after exactly so many requests instead of a time
    #[arg(short, long, value_name = "N")]
    pub(crate) number: Option<u64>,
    /// Offered rate over all connections, requests per second; 0 is a closed loop at full speed
    #[arg(long, value_name = "RATE", default_value_t = 8.0)]
    pub(crate) qps: f64,
    /// Spread due times evenly (the default in an open loop; here because fortio has it)
    #[arg(long, conflicts_with = "poisson")]
    pub(crate) uniform: bool,
    /// Draw exponential gaps between due times
    #[arg(long)]
    pub(crate) poisson: bool,
    /// Load before the measured part
    #[arg(long, value_name = "DURATION", default_value = "0s", value_parser = duration)]
    pub(crate) warmup: Duration,
    /// Request header (repeatable); `Host:` sets the host
    #[arg(short = 'H', long = "header", value_name = "NAME:VALUE")]
    pub(crate) headers: Vec<String>,
    /// Method [default: GET, POST with a body]
    #[arg(short = 'X', long, value_name = "METHOD")]
    pub(crate) method: Option<String>,
    /// Request body, or echo message, of so many bytes
    #[arg(long, value_name = "BYTES", default_value_t = 0)]
    pub(crate) payload_size: u32,
    /// Keep connections open (`--keepalive=false`: one request per connection)
    #[arg(long, value_name = "BOOL", default_value_t = true, num_args = 0..=1, default_missing_value = "true", action = clap::ArgAction::Set)]
    pub(crate) keepalive: bool,
    /// With --keepalive=false: send `Connection: close`
    #[arg(long)]
    pub(crate) close_header: bool,
    /// Requests per connection, drawn from MIN..=MAX for each
    #[arg(long, value_name = "MIN:MAX", value_parser = range)]
    pub(crate) connection_reuse: Option<(u32, u32)>,
    /// Time for one answer
    #[arg(long, value_name = "DURATION", default_value = "3s", value_parser = duration)]
    pub(crate) timeout: Duration,
    /// Right values of `x-served-by` (repeatable)
    #[arg(long, value_name = "NAME")]
    pub(crate) expect: Vec<String>,
    /// Right status
    #[arg(long, value_name = "CODE", default_value_t = 200)]
    pub(crate) status: u16,
    /// Do not send `x-request-seq`
    #[arg(long)]
    pub(crate) no_seq: bool,
    /// Do not send one request per connection before the run
    #[arg(long)]
    pub(crate) no_open: bool,
    /// What to do while nothing is due
    #[arg(long, value_enum, default_value = "hybrid")]
    pub(crate) idle: IdleName,
    /// Seed of everything random
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) seed: u64,
    /// Write the result as JSON to a file, or to stdout for -
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<String>,
    /// Write the result as fortio does, to a file or to stdout for -
    #[arg(long, value_name = "FILE")]
    pub(crate) fortio_json: Option<String>,
    /// Text for the fortio file [default: the URL]
    #[arg(long, value_name = "TEXT")]
    pub(crate) labels: Option<String>,
    /// No live progress
    #[arg(short, long)]
    pub(crate) quiet: bool,
    #[command(flatten)]
    pub(crate) process: Process,
}

#[derive(Debug, Args)]
pub(crate) struct Process {
    /// Run on this CPU only
    #[arg(long, value_name = "CPU")]
    pub(crate) cpu: Option<usize>,
    /// Be killed when the parent thread ends
    #[arg(long)]
    pub(crate) die_with_parent: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum IdleName {
    /// Sleep until shortly before the due time, then spin
    Hybrid,
    /// Never sleep
    Spin,
    /// Sleep until the due time
    Sleep,
}

impl Run {
    /// The plan these flags describe.
    pub(crate) fn plan(&self) -> anyhow::Result<Plan> {
        let mut plan = match (&self.plan, &self.url) {
            (Some(path), _) => {
                let text = std::fs::read_to_string(path)
                    .with_context(|| format!("cannot read the plan {path}"))?;
                serde_json::from_str(&text).with_context(|| format!("{path} is not a plan"))?
            }
            (None, Some(url)) => self.plan_for(url)?,
            (None, None) => bail!("give --url or --plan"),
        };
        if let Some(path) = &self.replay {
            let text = std::fs::read_to_string(path)
                .with_context(|| format!("cannot read the log {}", path.display()))?;
            let entries =
                replay::parse(&text).with_context(|| format!("log {}", path.display()))?;
            let (mut kinds, order) = replay::classes(&entries);
            for kind in &mut kinds {
                kind.expect.clone_from(&self.expect);
                kind.status = self.status;
            }
            plan.mix = kinds;
            plan.replay = Some(order);
        }
        plan.validate()?;
        Ok(plan)
    }

    /// What the run asks of the engine.
    pub(crate) fn block(&self) -> Block {
        let duration = self.number.is_none().then_some(self.time);
        Block {
            duration,
            warmup: self.warmup,
            requests: self.number,
            rate: None,
        }
    }

    /// What the fortio file says about the run.
    pub(crate) fn labels(&self) -> Labels {
        let url = self.url.clone().unwrap_or_default();
        Labels {
            labels: self.labels.clone().unwrap_or_else(|| url.clone()),
            url,
            exactly: self.number.unwrap_or(0),
            requested: self.time,
        }
    }

    fn plan_for(&self, url: &str) -> anyhow::Result<Plan> {
        let target = Target::parse(url)?;
        let mut class = RequestClass::get("all", &target.host, &target.path);
        class.body_bytes = self.payload_size;
        class.status = self.status;
        class.expect.clone_from(&self.expect);
        class.method = match &self.method {
            Some(method) => method.clone(),
            None if self.payload_size > 0 => "POST".to_owned(),
            None => class.method,
        };
        for header in &self.headers {
            let (name, value) = header
                .split_once(':')
                .with_context(|| format!("-H {header:?} has no colon"))?;
            let value = value.trim();
            if name.eq_ignore_ascii_case("host") {
                value.clone_into(&mut class.host);
            } else {
                class.headers.push((name.to_owned(), value.to_owned()));
            }
        }
        let tcp = target.tcp;
        let protocol = if tcp {
            Protocol::TcpEcho {
                message_bytes: self.payload_size.max(1),
                banner: !self.expect.is_empty(),
                expect: self.expect.clone(),
            }
        } else {
            Protocol::Http
        };
        let arrivals = if self.poisson {
            Arrivals::Poisson
        } else {
            Arrivals::Uniform
        };
        let plan = Plan::closed(
            target.addresses,
            self.connections,
            if tcp { vec![] } else { vec![class] },
        );
        Ok(Plan {
            pace: if self.qps == 0.0 {
                Pace::Closed
            } else {
                Pace::Open {
                    rate: self.qps,
                    arrivals,
                }
            },
            reuse: match (self.keepalive, self.connection_reuse) {
                (false, _) => Reuse::Short {
                    close_header: self.close_header,
                    reset: false,
                },
                (true, Some((min, max))) => Reuse::Range { min, max },
                (true, None) => Reuse::Keepalive,
            },
            protocol,
            timeout_ms: u32::try_from(self.timeout.as_millis()).unwrap_or(u32::MAX),
            seed: self.seed,
            idle: match self.idle {
                IdleName::Hybrid => Idle::Hybrid,
                IdleName::Spin => Idle::Spin,
                IdleName::Sleep => Idle::Sleep,
            },
            seq: if self.no_seq {
                SeqCheck::Off
            } else {
                SeqCheck::IfPresent
            },
            ..plan
        })
    }
}

/// The parts of a URL.
#[derive(Debug)]
struct Target {
    tcp: bool,
    host: String,
    path: String,
    addresses: Vec<SocketAddr>,
}

impl Target {
    fn parse(url: &str) -> anyhow::Result<Self> {
        let (tcp, rest) = match url.split_once("://") {
            Some(("http", rest)) => (false, rest),
            Some(("tcp", rest)) => (true, rest),
            Some((scheme, _)) => bail!("{url}: scheme {scheme} is not supported, use http or tcp"),
            None => (false, url),
        };
        let at = rest.find(['/', '?']).unwrap_or(rest.len());
        let (host, path) = rest.split_at(at);
        ensure!(!host.is_empty(), "{url}: has no host");
        let has_port = host
            .rsplit_once(':')
            .is_some_and(|(_, port)| port.bytes().all(|b| b.is_ascii_digit()) && !port.is_empty());
        let address = if has_port {
            host.to_owned()
        } else {
            format!("{host}:80")
        };
        let addresses: Vec<SocketAddr> = address
            .to_socket_addrs()
            .with_context(|| format!("{url}: cannot resolve {host}"))?
            // One family: a name with a v6 and a v4 address is one server, not two.
            .take(1)
            .collect();
        let path = if path.starts_with('/') {
            path.to_owned()
        } else {
            format!("/{path}")
        };
        Ok(Self {
            tcp,
            host: host.to_owned(),
            path,
            addresses,
        })
    }
}

/// fortio writes long names with one dash; clap wants two.
pub(crate) fn with_fortio_flags(
    arguments: impl Iterator<Item = String>,
) -> impl Iterator<Item = String> {
    const LONG: [&str; 13] = [
        "qps",
        "uniform",
        "payload-size",
        "keepalive",
        "connection-reuse",
        "timeout",
        "json",
        "seed",
        "quiet",
        "labels",
        "url",
        "warmup",
        "poisson",
    ];
    arguments.map(|argument| {
        let name = argument
            .strip_prefix('-')
            .map(|rest| rest.split('=').next().unwrap_or(rest));
        if name.is_some_and(|name| LONG.contains(&name)) {
            format!("-{argument}")
        } else {
            argument
        }
    })
}

/// Decimal numbers with units, as in `1m30s`.
fn duration(text: &str) -> Result<Duration, String> {
    let mut rest = text;
    let mut seconds = 0.0;
    while !rest.is_empty() {
        let digits = rest
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .ok_or("has no unit (s, ms, us, m, h)")?;
        let number: f64 = rest[..digits]
            .parse()
            .map_err(|_| "is not a number with a unit")?;
        rest = &rest[digits..];
        let unit = rest
            .find(|c: char| c.is_ascii_digit())
            .unwrap_or(rest.len());
        seconds += number
            * match &rest[..unit] {
                "us" => 1e-6,
                "ms" => 1e-3,
                "s" => 1.0,
                "m" => 60.0,
                "h" => 3600.0,
                other => return Err(format!("has the unknown unit {other}")),
            };
        rest = &rest[unit..];
    }
    Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())
}

fn range(text: &str) -> Result<(u32, u32), String> {
    let (min, max) = text.split_once(':').unwrap_or((text, text));
    let number = |text: &str| {
        text.parse::<u32>()
            .map_err(|_| format!("{text:?} is not a number of requests"))
    };
    Ok((number(min)?, number(max)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(line: &str) -> Run {
        let words = format!("kmesh-load run {line}");
        let options = Options::parse_from(with_fortio_flags(
            words.split_whitespace().map(str::to_owned),
        ));
        match options.action {
            Action::Run(run) => *run,
            Action::Serve(_) => panic!("run expected"),
        }
    }

    #[test]
    fn fortio_flags_make_the_plan_they_would_there() {
        let run = run(
            "-url http://127.0.0.1:8080/echo?size=5 -c 8 -qps 1000 -t 1m30s -H Host:web -H a:b \
                       -payload-size 20 -connection-reuse 10:30 -seed 3 -quiet",
        );
        let plan = run.plan().unwrap();
        assert_eq!((plan.connections, plan.seed, plan.timeout_ms), (8, 3, 3000));
        assert_eq!(
            plan.pace,
            Pace::Open {
                rate: 1000.0,
                arrivals: Arrivals::Uniform
            }
        );
        assert_eq!(plan.reuse, Reuse::Range { min: 10, max: 30 });
        let class = &plan.mix[0];
        assert_eq!(
            (
                class.host.as_str(),
                class.path.as_str(),
                class.method.as_str()
            ),
            ("web", "/echo?size=5", "POST")
        );
        assert_eq!(class.headers, [("a".to_owned(), "b".to_owned())]);
        assert_eq!(run.time, Duration::from_secs(90));
    }

    #[test]
    fn closed_short_and_tcp_runs_are_understood() {
        let plan = run("--url http://127.0.0.1 --qps 0 -keepalive=false")
            .plan()
            .unwrap();
        assert_eq!((plan.pace, plan.targets[0].port()), (Pace::Closed, 80));
        assert_eq!(
            plan.reuse,
            Reuse::Short {
                close_header: false,
                reset: false
            }
        );
        let plan = run("--url tcp://[::1]:7 --payload-size 64").plan().unwrap();
        assert!(matches!(
            plan.protocol,
            Protocol::TcpEcho {
                message_bytes: 64,
                banner: false,
                ..
            }
        ));
        assert!(plan.targets[0].is_ipv6() && plan.mix.is_empty());
    }

    #[test]
    fn a_wrong_flag_says_what_is_wrong() {
        for (line, says) in [
            ("--url https://h/", "https"),
            ("--url http:///x", "no host"),
            ("--url http://127.0.0.1 -H nocolon", "colon"),
            ("--url http://127.0.0.1 --qps -1", "rate"),
            ("--url http://127.0.0.1 -c 0", "connections"),
        ] {
            let line = line.replace("--qps -1", "--qps=-1");
            let error = format!("{:#}", run(&line).plan().unwrap_err());
            assert!(error.contains(says), "{error} should say {says}");
        }
        assert!(duration("5").is_err() && duration("5x").is_err() && range("a:b").is_err());
    }
}

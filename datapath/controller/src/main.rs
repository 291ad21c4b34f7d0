//! `kmeshd`: the node daemon.

use std::fs;
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use clap::{Parser, Subcommand, ValueEnum};
use kmesh_cli::exit::{self, Failure};
use kmesh_cli::{need_root, say};
use kmesh_controller::daemon::{self, Options};
use kmesh_controller::guard;
use kmesh_controller::load::MapSize;
use kmesh_controller::load::check::{Requirement, VERIFIED_MAX, check};
use kmesh_controller::load::tested::verdict;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tracing_subscriber::EnvFilter;

/// Routes the HTTP requests of this node's pods in the kernel.
#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Runs in the foreground until SIGTERM; says `kmeshd ready` when all pods are enrolled.
    Run {
        /// Envoy v3 resources (YAML): listeners, route configurations, clusters. Followed when it changes.
        #[arg(long)]
        config: PathBuf,
        /// JSON list of pods: name, netns (path), cgroup (path). Followed when it changes.
        #[arg(long)]
        pods: PathBuf,
        /// Name under which kmeshctl finds this daemon.
        #[arg(long, default_value = "default")]
        name: String,
        /// Treat HTTP listeners as TCP: the endpoint is chosen once per connection.
        #[arg(long)]
        l4: bool,
        /// What carries the requests of anchored connections: `splice` rewrites packets at the pod's device, `shortcut` puts sockets into
        /// socket maps.
        #[arg(long, value_enum, default_value = "shortcut")]
        path: kmesh_controller::pods::Path,
        /// Take over from the daemon of that name, if one runs: it keeps its connections until they end.
        #[arg(long)]
        replace: bool,
        /// What becomes of connections to HTTP services when this daemon is killed: they go to the original address, or they
        /// are refused until a daemon of this name runs again.
        #[arg(long, value_enum, default_value_t = WhenGone::Open)]
        when_gone: WhenGone,
        /// How long this daemon stays with its connections once another one has replaced it, seconds.
        #[arg(long, default_value_t = 900)]
        drain: u64,
        /// Gives a kernel map fewer entries than it has, to try what happens when it is full: MAP=ENTRIES.
        #[arg(long, value_name = "MAP=ENTRIES", hide = true)]
        map_size: Vec<MapSize>,
    },
    /// Opens the services that a killed daemon left closed.
    Release {
        /// The daemon's name.
        #[arg(long, default_value = "default")]
        name: String,
    },
    /// Stays when the daemon is killed; started by `run`.
    #[command(hide = true)]
    Guard {
        #[arg(long)]
        name: String,
        #[arg(long)]
        pods_map: u32,
    },
    /// Says what this kernel allows, and why not. Exit code 3 if something is missing.
    Check {
        /// Also compile these resources, as `run` would.
        #[arg(long)]
        config: Option<PathBuf>,
    },
}

/// See `--when-gone`.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum WhenGone {
    /// They go to the original address.
    Open,
    /// They are refused.
    Closed,
}

fn main() -> ExitCode {
    kmesh_cli::main("kmeshd", code_of, act)
}

/// What was read is wrong; everything else is what this machine does not do.
fn code_of(error: &anyhow::Error) -> Option<u8> {
    error
        .chain()
        .any(|cause| cause.is::<kmesh_config::ConfigError>())
        .then_some(exit::USAGE)
}

fn act(arguments: Arguments) -> Result<u8> {
    tracing_subscriber::fmt()
        .with_writer(io::stderr)
        .with_env_filter(
            EnvFilter::try_from_env("KMESH_LOG").unwrap_or_else(|_| EnvFilter::new("info")),
        )
        .init();
    match arguments.command {
        Command::Run {
            config,
            pods,
            name,
            l4,
            path,
            replace,
            when_gone,
            drain,
            map_size,
        } => run(Options {
            config,
            pods,
            name,
            l4,
            path,
            replace,
            closed: when_gone == WhenGone::Closed,
            drain: Duration::from_secs(drain),
            map_sizes: map_size,
        }),
        Command::Release { name } => release(&name),
        Command::Guard { name, pods_map } => guard::run(&name, pods_map).map(|()| exit::HELD),
        Command::Check { config } => report(config),
    }
}

fn run(options: Options) -> Result<u8> {
    need_root("kmeshd run")?;
    // Every anchored connection is a descriptor here, and so is every upstream.
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, most, most)?;
    // One thread: the kernel carries the traffic, and this daemon should not compete for the pods' CPUs.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(daemon::run(options, || {
        // Nobody may be listening; the daemon runs all the same.
        let _ = writeln!(io::stdout(), "kmeshd ready").and_then(|()| io::stdout().flush());
    }))?;
    Ok(exit::HELD)
}

fn release(name: &str) -> Result<u8> {
    if guard::dismiss(name)? {
        return Ok(exit::HELD);
    }
    Err(Failure::usage(format!(
        "no guard of a daemon named {name} is there, so nothing is closed; see --name"
    ))
    .into())
}

fn report(config: Option<PathBuf>) -> Result<u8> {
    // What was typed first: the programs take a while.
    let compiled = config.map(|path| {
        let config = kmesh_config::read(&path)?;
        let mut identities = kmesh_config::Identities::default();
        kmesh_config::compile(&config, &mut identities, kmesh_config::Classes::default())?;
        Ok::<_, kmesh_config::ConfigError>(path)
    });
    let compiled = compiled.transpose()?;
    let mut met = true;
    let release = fs::read_to_string("/proc/sys/kernel/osrelease")?;
    let mut text = format!("{}\n", verdict(release.trim()));
    for requirement in check() {
        let Requirement {
            name,
            purpose,
            verified,
            failure,
        } = requirement;
        met &= failure.is_none();
        let outcome = match (failure, verified) {
            (Some(failure), _) => failure,
            (None, Some(verified)) => {
                format!("ok, {verified} of at most {VERIFIED_MAX} instructions verified")
            }
            (None, None) => "ok".to_owned(),
        };
        text += &format!("{name:24} {purpose:50} {outcome}\n");
    }
    if let Some(path) = compiled {
        text += &format!("{:24} {:50} ok\n", "configuration", path.display());
    }
    say(&text)?;
    Ok(if met { exit::HELD } else { exit::UNFIT })
}

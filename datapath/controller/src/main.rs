//! `kmeshd`: the node daemon.

use std::fmt::Write as _;
use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use clap::{Args, Parser, Subcommand, ValueEnum};
use kmesh_cli::exit::{self, Failure};
use kmesh_cli::{need_root, say, within};
use kmesh_controller::daemon::{self, Options};
use kmesh_controller::defence::{Defence, Without};
use kmesh_controller::follow::FileError;
use kmesh_controller::load::MapSize;
use kmesh_controller::load::check::{Requirement, check};
use kmesh_controller::load::tested::verdict;
use kmesh_controller::rundir::FolderError;
use kmesh_controller::source::Origin;
use kmesh_controller::{guard, log, privilege, supervise, told};
use kmesh_probe::client::RUN_DIR;
use kmesh_xds::{Protocol, Settings};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::runtime::{Builder, Runtime};

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
        #[arg(long, required_unless_present = "xds", conflicts_with = "xds")]
        config: Option<PathBuf>,
        #[command(flatten)]
        control_plane: Box<ControlPlane>,
        /// JSON list of pods: name, netns (path), cgroup (path), and identity, if a control plane is to be asked on their behalf. Followed
        /// when it changes.
        #[arg(long)]
        pods: PathBuf,
        /// Name under which kmeshctl finds this daemon.
        #[arg(long, default_value = "default")]
        name: String,
        /// Folder of the sockets and locks of all daemons of this node; only their user may enter it.
        #[arg(long, default_value = RUN_DIR)]
        run_dir: PathBuf,
        /// Treat HTTP listeners as TCP: the endpoint is chosen once per connection.
        #[arg(long)]
        l4: bool,
        /// What carries the requests of anchored connections: `splice` rewrites packets at the pod's device, `shortcut` puts sockets into
        /// socket maps.
        #[arg(long, value_enum, default_value = "shortcut")]
        path: kmesh_controller::path::Path,
        /// Take over from the daemon of that name, if one runs: it keeps its connections until they end.
        #[arg(long)]
        replace: bool,
        /// What becomes of connections to HTTP services when this daemon is killed: they go to the original address, or they
        /// are refused until a daemon of this name runs again.
        #[arg(long, value_enum, default_value_t = WhenGone::Open)]
        when_gone: WhenGone,
        /// How long this daemon stays with its connections once another one has replaced it, seconds.
        #[arg(long, default_value_t = 900, value_parser = within(0_u64..=86_400))]
        drain: u64,
        /// Gives a kernel map fewer entries than it has, to try what happens when it is full: MAP=ENTRIES.
        #[arg(long, value_name = "MAP=ENTRIES", hide = true)]
        map_size: Vec<MapSize>,
        /// Switches a defence off, to try what it is good for.
        #[arg(long, value_enum, hide = true)]
        without: Vec<Defence>,
    },
    /// Opens the services that a killed daemon left closed.
    Release {
        /// The daemon's name.
        #[arg(long, default_value = "default")]
        name: String,
        /// Its folder of sockets.
        #[arg(long, default_value = RUN_DIR)]
        run_dir: PathBuf,
    },
    /// Stays when the daemon is killed; started by `run`.
    #[command(hide = true)]
    Guard {
        #[arg(long)]
        name: String,
        #[arg(long)]
        run_dir: PathBuf,
        #[arg(long)]
        pods_map: u32,
    },
    /// Says what this kernel allows, and why not. Exit code 3 if something is missing.
    Check {
        /// Also compile these resources, as `run` would, and say what becomes of each (as `kmeshctl config check`).
        #[arg(long)]
        config: Option<PathBuf>,
        /// How to print it.
        #[arg(long, value_enum, default_value_t = Format::Text)]
        format: Format,
    },
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// For people.
    Text,
    /// One JSON object.
    Json,
}

/// A source of the configuration that is spoken to.
#[derive(Args)]
struct ControlPlane {
    /// Control plane that serves the resources over ADS instead: http://HOST:PORT, or https://HOST:PORT for TLS.
    #[arg(long, value_name = "URI")]
    xds: Option<String>,
    /// Form of the protocol.
    #[arg(long, value_enum, default_value_t = Form::Delta, requires = "xds")]
    xds_protocol: Form,
    /// Certificates (PEM) that the control plane's may be signed by; read for each connection.
    #[arg(long, value_name = "FILE", requires = "xds")]
    xds_ca: Option<PathBuf>,
    /// Name in the control plane's certificate, if it is not the URI's host.
    #[arg(long, value_name = "NAME", requires = "xds")]
    xds_server_name: Option<String>,
    /// Token that says who we are; read for each stream, since it is replaced before it expires.
    #[arg(long, value_name = "FILE", requires = "xds")]
    xds_token: Option<PathBuf>,
}

/// See `--xds-protocol`.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Form {
    /// Changes.
    Delta,
    /// States of the world.
    Sotw,
}

impl ControlPlane {
    fn origin(self, config: Option<PathBuf>) -> Origin {
        let (None, Some(uri)) = (&config, self.xds) else {
            // clap asks for one of the two.
            return Origin::File(config.unwrap_or_default());
        };
        let protocol = match self.xds_protocol {
            Form::Delta => Protocol::Delta,
            Form::Sotw => Protocol::Sotw,
        };
        Origin::ControlPlane(Settings {
            ca: self.xds_ca,
            server_name: self.xds_server_name,
            token: self.xds_token,
            ..Settings::new(&uri, protocol)
        })
    }
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

/// What was read is wrong, or a folder can't be made; everything else is what this machine does not do.
fn code_of(error: &anyhow::Error) -> Option<u8> {
    error.chain().find_map(|cause| {
        if cause.is::<kmesh_config::ConfigError>() || cause.is::<FileError>() {
            return Some(exit::USAGE);
        }
        match cause.downcast_ref::<FolderError>()? {
            FolderError::Make { .. } => Some(exit::OUTPUT),
            FolderError::Open { .. } => Some(exit::UNFIT),
        }
    })
}

fn act(arguments: Arguments) -> Result<u8> {
    let command = arguments.command;
    begin(&command)?;
    let outcome = match command {
        Command::Run {
            config,
            control_plane,
            pods,
            name,
            run_dir,
            l4,
            path,
            replace,
            when_gone,
            drain,
            map_size,
            without,
        } => run(Options {
            config: control_plane.origin(config),
            pods,
            name,
            run_dir,
            l4,
            path,
            replace,
            closed: when_gone == WhenGone::Closed,
            drain: Duration::from_secs(drain),
            map_sizes: map_size,
            without: Without::new(without),
        }),
        Command::Release { name, run_dir } => release(&run_dir, &name),
        Command::Guard {
            name,
            run_dir,
            pods_map,
        } => stay(&run_dir, &name, pods_map),
        Command::Check { config, format } => report(config, format),
    };
    log::end();
    outcome
}

/// Gives up what the command does not need, while this is the only thread, and begins the log.
fn begin(command: &Command) -> Result<()> {
    let privileges = match command {
        Command::Run { .. } => {
            need_root("kmeshd run")?;
            privilege::keep_only(&privilege::DAEMON)
        }
        Command::Guard { .. } => privilege::keep_only(&privilege::GUARD),
        Command::Release { .. } => need_root("kmeshd release").map_err(Into::into),
        Command::Check { .. } => need_root("kmeshd check").map_err(Into::into),
    };
    log::begin()?;
    supervise::log_panics();
    privileges
}

fn run(options: Options) -> Result<u8> {
    told::check(&options)?;
    // Every anchored connection is a descriptor here, and so is every upstream.
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, most, most)?;
    let runtime = runtime()?;
    let outcome = runtime.block_on(daemon::run(options, || {
        // Nobody may be listening; the daemon runs all the same.
        let _ = writeln!(io::stdout(), "kmeshd ready").and_then(|()| io::stdout().flush());
    }));
    // Whoever still reads a file that does not answer is not waited for.
    runtime.shutdown_background();
    outcome?;
    Ok(exit::HELD)
}

/// One thread: the kernel carries the traffic, and a daemon should not compete for the pods' CPUs.
fn runtime() -> io::Result<Runtime> {
    Builder::new_current_thread().enable_all().build()
}

fn stay(run_dir: &Path, name: &str, pods: u32) -> Result<u8> {
    runtime()?.block_on(guard::run(run_dir, name, pods))?;
    Ok(exit::HELD)
}

fn release(run_dir: &Path, name: &str) -> Result<u8> {
    told::name(run_dir, name).map_err(Failure::usage)?;
    if runtime()?.block_on(guard::dismiss(run_dir, name))? {
        return Ok(exit::HELD);
    }
    Err(Failure::usage(format!(
        "no guard of a daemon named {name} is there, so nothing is closed; see --name"
    ))
    .into())
}

fn report(config: Option<PathBuf>, format: Format) -> Result<u8> {
    // What was typed first: the programs take a while.
    let resources = config
        .map(|path| kmesh_config::Report::of_files(&[path]))
        .transpose()?;
    let release = fs::read_to_string("/proc/sys/kernel/osrelease")?;
    let kernel = verdict(release.trim());
    let requirements = check();
    let met = requirements.iter().all(Requirement::met);
    say(&match format {
        Format::Json => {
            let all = serde_json::json!({
                "met": met,
                "kernel": kernel,
                "requirements": requirements,
                "config": resources,
            });
            format!("{all}\n")
        }
        Format::Text => {
            let mut text = format!("{kernel}\n");
            for requirement in &requirements {
                writeln!(text, "{requirement}")?;
            }
            if let Some(report) = &resources {
                write!(text, "{report}")?;
            }
            text
        }
    })?;
    Ok(if !met {
        exit::UNFIT
    } else if resources.is_some_and(|report| report.refused() > 0) {
        exit::USAGE
    } else {
        exit::HELD
    })
}

//! The command line.

use crate::gate::verdict::Stage;
use crate::run::Foreign;
use clap::{Args, Parser, Subcommand, ValueEnum};
use kmesh_cli::within;
use std::path::PathBuf;

/// Compares ways for a pod's traffic to travel: no mesh, nftables, real Envoy, the kernel datapath.
#[derive(Debug, Parser)]
#[command(name = "kmesh-bench")]
pub struct Cli {
    /// Folder of the scenario files.
    #[arg(
        long = "scenarios",
        global = true,
        value_name = "DIR",
        env = "KMESH_SCENARIOS"
    )]
    pub directory: Option<PathBuf>,
    /// Fold no table, however narrow the terminal.
    #[arg(long, global = true)]
    pub wide: bool,
    /// No progress and no talk on stderr, only data and errors.
    #[arg(short, long, global = true)]
    pub quiet: bool,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// List scenarios and arms.
    List {
        /// Only scenarios with this in their names; `*` stands for any letters, `?` for one.
        pattern: Option<String>,
        /// How to write the list.
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
    /// Write a commented scenario to begin with, NAME.toml in the folder of scenarios.
    New {
        /// Its name: lower-case letters, digits and -.
        name: String,
    },
    /// Run scenarios with all their arms interleaved, and judge them.
    Run(Run),
    /// Measure where the time goes: connections, stack traversals, context switches, system calls, copies and CPU time by
    /// part, per request and arm.
    Breakdown(BreakdownOf),
    /// Bring one arm up and run a command in the client pod, with KMESH_URL set; end with the command's code.
    Up(Up),
    /// Print the article's claims beside the figures of a results folder; with --write, make its report.html,
    /// README.md and drawings again from the stored figures.
    Report {
        /// Folder written by `run --out`.
        dir: PathBuf,
        /// How to write it.
        #[arg(long, value_enum, default_value_t)]
        format: Format,
        /// Also print every scenario's arms, ratios and expectations.
        #[arg(long)]
        details: bool,
        /// Write DIR/report.html, DIR/README.md and DIR/SCENARIO/*.svg.
        #[arg(long)]
        write: bool,
        /// Only print the run in one line, for results/history.jsonl; writes nothing.
        #[arg(long)]
        line: bool,
    },
    /// Compare two results folders ratio by ratio.
    Compare {
        /// The earlier folder.
        a: PathBuf,
        /// The later folder.
        b: PathBuf,
        /// Only ratios whose intervals are apart.
        #[arg(long)]
        changed: bool,
        /// How to write it.
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
    /// Say whether head is as right and as fast as base: decisions, counts, clock, claims, trend.
    Gate(Gate),
    /// Put random questions to all judges of routing decisions and compare their answers.
    #[command(subcommand)]
    Verify(Verify),
    /// Say which virtual host, route, cluster and endpoint a request gets, and why not each earlier route.
    Explain(Explain),
    /// Ask real Envoy about every edge case again and write the tables in harness/oracle/edge/verdicts.
    Record,
    /// Check our load generator against wrk, hey and fortio: same arm, same load, in turns.
    Crosscheck(Crosscheck),
    /// Show coordinated omission: stop the servers under a steady load, and look at the same requests in two ways.
    Stall(Stall),
    /// Say what makes this machine unfit for a run, and what to do.
    Doctor {
        /// How to write it.
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
}

/// What to verify.
#[derive(Debug, Subcommand)]
pub enum Verify {
    /// Routing decisions: reference, native code, kernel bytecode (needs root) and real Envoy.
    ///
    /// The last line on stdout is one JSON object; a disagreement is shrunk to one line on stderr that `explain` replays,
    /// exit code 2.
    Decisions {
        /// How many decisions to compare.
        #[arg(value_parser = within(1_u64..=1_000_000_000), long, default_value_t = 20_000)]
        cases: u64,
        /// Where the random numbers begin; the same seed asks the same questions.
        #[arg(long, default_value_t = 1)]
        seed: u64,
        /// Plant a judge that errs and no Envoy or kernel: must end with exit code 2 and a reproducer.
        #[arg(long)]
        self_test: bool,
    },
    /// Streams: numbered messages under random sizes, framings, segmentation, pipelining and route changes (needs root).
    ///
    /// The last line on stdout is one JSON object. A wrong byte or a wrong backend is exit code 2, a request without its
    /// answer 1; each is written to stderr with the seed and the step that reproduce it.
    Streams {
        /// How long, seconds, shared out among the arms.
        #[arg(value_parser = within(0.1_f64..=86_400.0), long, default_value_t = 60.0)]
        seconds: f64,
        /// Only these arms; by default all but `direct-aa`.
        #[arg(
            long = "arms",
            alias = "arm",
            value_delimiter = ',',
            value_name = "ARM,..."
        )]
        arms: Vec<String>,
        /// What is sent follows from it.
        #[arg(long, default_value_t = 1)]
        seed: u64,
        /// Connections at a time.
        #[arg(value_parser = within(1_usize..=4_096), long, default_value_t = 24)]
        connections: usize,
        /// Only this connection of the plan, as a finding names it.
        #[arg(long)]
        only: Option<u64>,
    },
    /// One pod against another: thefts of identity, floods, resets, pods that come and go, against a victim that works (needs root).
    ///
    /// The last line on stdout is one JSON object. A request or an answer that reaches another pod than the one meant is exit code 2, a request
    /// of the victim without its answer 1.
    Isolation {
        /// How long, seconds, shared out among the paths and the attacks.
        #[arg(value_parser = within(1.0_f64..=86_400.0), long, default_value_t = 60.0)]
        seconds: f64,
        /// The order of the attacks and what they draw follow from it.
        #[arg(long, default_value_t = 1)]
        seed: u64,
        /// What carries the requests.
        #[arg(long = "paths", alias = "path", value_delimiter = ',', value_name = "PATH,...", default_values = PATHS, value_parser = PATHS)]
        paths: Vec<String>,
        /// Most that the victim's p99 may be of that without an attack; by default it is reported and not judged.
        #[arg(value_parser = within(1.0_f64..=1_000.0), long)]
        p99: Option<f64>,
        /// Switches a defence of kmeshd off, to see its attack succeed: namespace, sequences, numbers, shares.
        #[arg(long, hide = true, value_parser = DEFENCES)]
        without: Vec<String>,
    },
    /// Large bodies: memory of readers that do not read, against plain TCP, and throughput against `direct` (needs root).
    ///
    /// The last line on stdout is one JSON object. Exit code 1 if readers cost more than 1.5 times plain TCP or throughput is
    /// below 0.9, 2 if a body is not whole.
    Bulk {
        /// Readers that ask for 16 MiB each and do not read.
        #[arg(value_parser = within(1_usize..=100_000), long, default_value_t = 1_000)]
        readers: usize,
        /// Rounds of 16 MiB transfers in both directions, eight transfers per arm and round.
        #[arg(value_parser = within(1_usize..=1_000), long, default_value_t = 14)]
        rounds: usize,
        /// The arms to compare with `direct`.
        #[arg(long = "arms", alias = "arm", value_delimiter = ',', value_name = "ARM,...", default_values = ["kmesh", "kmesh-remote"])]
        arms: Vec<String>,
    },
    /// Real peers: programs that others wrote, as clients and servers, through each arm (needs root).
    ///
    /// Prints a Markdown table and, last, one JSON object. Exit code 1 if outcomes differ without a known reason.
    Peers {
        /// The arms.
        #[arg(long = "arms", alias = "arm", value_delimiter = ',', value_name = "ARM,...", default_values = ["direct", "envoy-both", "kmesh"])]
        arms: Vec<String>,
    },
    /// The ADS client: every report of the acceptance list, control planes that are killed, frozen and refuse, many pods on one
    /// connection, large meshes.
    ///
    /// The last line on stdout is one JSON object. Exit code 2 if a report does not hold or a state was lost, 1 if the client is
    /// slow to notice a control plane's return.
    Xds {
        /// Outages of each of the four kinds, with each protocol.
        #[arg(long, default_value_t = 25, value_parser = within(1_u32..=10_000))]
        outages: u32,
        /// Pods on one connection.
        #[arg(long, default_value_t = 50, value_parser = within(1_usize..=1_000))]
        pods: usize,
        /// Meshes to load, SERVICESxENDPOINTS each.
        #[arg(long = "mesh", value_delimiter = ',', value_name = "SxE,...", default_values = ["1000x20", "10000x10"], value_parser = mesh_size)]
        meshes: Vec<(u32, u32)>,
    },
}

/// What carries the requests of `verify isolation`, as `kmeshd --path` names it.
const PATHS: [&str; 2] = ["shortcut", "splice"];

/// What `verify isolation` can switch off, as `kmeshd --without` names it.
const DEFENCES: [&str; 4] = ["namespace", "sequences", "numbers", "shares"];

/// `SERVICESxENDPOINTS`, at least one of each.
fn mesh_size(text: &str) -> Result<(u32, u32), String> {
    let refused = || "not SERVICESxENDPOINTS, at least 1 of each, such as 1000x20".to_owned();
    let (services, endpoints) = text.split_once('x').ok_or_else(refused)?;
    match (services.parse(), endpoints.parse()) {
        (Ok(services), Ok(endpoints)) if services > 0 && endpoints > 0 => Ok((services, endpoints)),
        _ => Err(refused()),
    }
}

/// Options of `explain`.
#[derive(Debug, Args)]
pub struct Explain {
    /// `GET svc.test/path name: value; name: value`, or a whole head with `\r\n`, or what `verify decisions` printed.
    pub request: String,
    /// Envoy v3 resources; a reproducer brings its own.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// The listener that the request is sent to; by default the only HTTP one.
    #[arg(long, value_name = "NAME", requires = "config")]
    pub listener: Option<String>,
    /// What chance draws: for the weighted choice if there is one, then for the endpoint.
    #[arg(long, value_delimiter = ',', value_name = "N,...")]
    pub dice: Vec<u32>,
    /// How to write it.
    #[arg(long, value_enum, default_value_t)]
    pub format: Format,
}

/// Options of `run`.
#[derive(Debug, Args)]
pub struct Run {
    /// Scenarios by name or by path; see `list`.
    #[arg(required = true, value_name = "SCENARIO")]
    pub scenarios: Vec<String>,
    /// Fewer and shorter cells: a look, not a verdict.
    #[arg(long)]
    pub quick: bool,
    /// Write DIR/SCENARIO/{summary.json, raw.csv, env.json, plots, ...}.
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// How to write the result on stdout; json is one summary per line.
    #[arg(long, value_enum, default_value_t)]
    pub format: Format,
    /// Run only these arms; those that scenarios/arms describes are added to the scenario's own.
    #[arg(long, value_delimiter = ',', value_name = "ARM,...")]
    pub arms: Vec<String>,
    /// Afterwards check our generator against this one on every arm; see `crosscheck`.
    #[arg(long, value_enum, value_name = "GENERATOR")]
    pub generator: Option<Foreign>,
}

/// Options of `crosscheck`.
#[derive(Debug, Args)]
pub struct Crosscheck {
    /// Scenario by name or by path: HTTP, keep-alive, one kind of request.
    #[arg(default_value = "http-lb-long60-max")]
    pub scenario: String,
    /// The arms to check on.
    #[arg(
        long = "arms",
        alias = "arm",
        value_delimiter = ',',
        value_name = "ARM,...",
        default_value = "direct"
    )]
    pub arms: Vec<String>,
    /// The generators; by default those that are installed.
    #[arg(
        long = "with",
        value_enum,
        value_delimiter = ',',
        value_name = "GENERATOR,..."
    )]
    pub generators: Vec<Foreign>,
    /// Turns of each generator.
    #[arg(value_parser = within(1_usize..=1_000), long, default_value_t = 8)]
    pub rounds: usize,
    /// Length of a turn, seconds.
    #[arg(value_parser = within(1_u32..=600), long, default_value_t = 2)]
    pub seconds: u32,
    /// How to write it.
    #[arg(long, value_enum, default_value_t)]
    pub format: Format,
}

/// Options of `stall`.
#[derive(Debug, Args)]
pub struct Stall {
    /// Scenario by name or by path; its load is replaced by a steady one.
    #[arg(default_value = "http-lb-long60")]
    pub scenario: String,
    /// The arm.
    #[arg(long, default_value = "direct")]
    pub arm: String,
    /// Requests per second.
    #[arg(value_parser = within(1.0_f64..=10_000_000.0), long, default_value_t = 1000.0)]
    pub rate: f64,
    /// How long the servers stand still, milliseconds.
    #[arg(value_parser = within(1_u32..=60_000), long, default_value_t = 500)]
    pub stall_ms: u32,
    /// Length of the load, milliseconds; the stall begins in its middle.
    #[arg(value_parser = within(100_u32..=600_000), long, default_value_t = 4000)]
    pub cell_ms: u32,
    /// Connections that share the load.
    #[arg(value_parser = within(1_u32..=65_535), long, default_value_t = 8)]
    pub connections: u32,
    /// How to write it.
    #[arg(long, value_enum, default_value_t)]
    pub format: Format,
}

/// Options of `gate`.
#[derive(Debug, Args)]
pub struct Gate {
    /// What to compare with: a revision, a checkout, or a folder with kmeshd in it.
    #[arg(long, value_name = "DIR|REV", required_unless_present_any = ["self_test", "record_noise"])]
    pub base: Option<String>,
    /// What to judge instead of the checkout of this program, in the same forms.
    #[arg(long, value_name = "DIR|REV")]
    pub head: Option<String>,
    /// Only these stages.
    #[arg(long, value_enum, value_delimiter = ',', value_name = "STAGE,...")]
    pub only: Vec<Stage>,
    /// Accept that counts of this kind grew.
    #[arg(long, value_delimiter = ',', value_name = "KIND,...", value_parser = crate::gate::counts::KINDS)]
    pub accept: Vec<String>,
    /// Test the gate itself: simulated runs with recorded noise; with --mutant and --live-aa in labs too.
    #[arg(long)]
    pub self_test: bool,
    /// With --self-test: the recorded noise; by default gate/noise.csv in the folder of scenarios.
    #[arg(long, requires = "self_test", value_name = "FILE")]
    pub noise: Option<PathBuf>,
    /// Print the noise of these results folders, for such a file, and do nothing else.
    #[arg(long, value_name = "DIR", num_args = 1.., conflicts_with = "self_test")]
    pub record_noise: Vec<PathBuf>,
    /// With --self-test: a live head whose servers answer later (60 us by default), which must be found.
    #[arg(
        long,
        requires = "self_test",
        value_name = "delay=TIME",
        num_args = 0..=1,
        default_missing_value = crate::gate::MUTANT,
        value_parser = crate::gate::mutant
    )]
    pub mutant: Option<String>,
    /// With --self-test: no simulations, only what is asked for in labs.
    #[arg(long, requires = "self_test")]
    pub only_live: bool,
    /// With --self-test: this many live runs of one program against itself, none of which may alarm.
    #[arg(long, value_name = "RUNS", default_value_t = 0, requires = "self_test", value_parser = within(0_u32..=1_000))]
    pub live_aa: u32,
    /// Few blocks and short cells: to try the gate, not to judge by it.
    #[arg(long)]
    pub quick: bool,
    /// Decisions to compare in G0.
    #[arg(value_parser = within(1_u64..=1_000_000_000), long, default_value_t = 20_000)]
    pub cases: u64,
    /// Write DIR/gate.json, DIR/gate.md and every measurement.
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// How to write the result on stdout.
    #[arg(long, value_enum, default_value_t)]
    pub format: Format,
}

/// Options of `breakdown`.
#[derive(Debug, Args)]
pub struct BreakdownOf {
    /// Scenario by name or by path.
    pub scenario: String,
    /// Length of each of the two passes over each arm, seconds.
    #[arg(long, default_value_t = 2.0, value_parser = within(0.1_f64..=60.0))]
    pub seconds: f64,
    /// Measure only these arms.
    #[arg(long, value_delimiter = ',', value_name = "ARM,...")]
    pub arms: Vec<String>,
    /// Write DIR/SCENARIO/breakdown.json, and the page of DIR again if it holds results.
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// How to write it on stdout.
    #[arg(long, value_enum, default_value_t)]
    pub format: Format,
}

/// Options of `up`.
#[derive(Debug, Args)]
pub struct Up {
    /// Scenario by name or by path.
    pub scenario: String,
    /// The arm to bring up.
    #[arg(long)]
    pub arm: String,
    /// Command to run in the client pod; a shell by default.
    #[arg(last = true)]
    pub cmd: Vec<String>,
}

/// How output is written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Tables for a terminal.
    #[default]
    Text,
    /// Tables for a README.
    Markdown,
    /// One JSON object per line.
    Json,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
        let line = "kmesh-bench --scenarios /x run a b --arms direct,dnat --quick";
        let cli = Cli::try_parse_from(line.split(' ')).unwrap();
        let Command::Run(run) = cli.command else {
            panic!("not run");
        };
        assert_eq!(cli.directory, Some("/x".into()));
        assert_eq!((run.scenarios.len(), run.arms.len()), (2, 2));
    }
}

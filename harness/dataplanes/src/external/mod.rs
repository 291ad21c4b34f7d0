//! Any other data plane as an arm: a TOML file says which program runs beside the client and beside the servers, how traffic gets to it, and
//! when it is ready. See `scenarios/arms/README.md`.
//!
//! Such an arm is measured, verified and taken down like a built-in one.

mod description;
mod environment;

pub use description::DescriptionError;

use std::{
    collections::BTreeSet,
    fs::File,
    io::{Read as _, Seek as _, SeekFrom, Write as _},
    net::{Ipv4Addr, SocketAddr},
    os::fd::AsRawFd as _,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use self::{
    description::{Description, Proxy, Ready},
    environment::{Environment, Role},
};
use crate::{
    Arm, ArmError, ArmPlan, RunningArm,
    beside::{Beside, User},
    http, nft,
    program::nameless_file,
    running::Running,
    stage::Stage,
};

/// How long one look at a proxy's readiness may take.
const ATTEMPT: Duration = Duration::from_secs(2);

/// An arm described by a file.
#[derive(Debug)]
pub struct External {
    name: String,
    description: Description,
    /// The file's folder: programs with a relative path are found from here, and run here.
    folder: PathBuf,
}

impl External {
    /// Reads a description; the arm's name is the file's, without `.toml`.
    ///
    /// # Errors
    /// [`DescriptionError`] with file, line, column and key.
    pub fn read(path: &Path) -> Result<Self, DescriptionError> {
        let description = Description::read(path)?;
        let name = path.file_stem().unwrap_or_default();
        let folder = path.parent().unwrap_or(Path::new("."));
        Ok(Self {
            name: name.to_string_lossy().into_owned(),
            description,
            folder: std::path::absolute(folder).unwrap_or_else(|_| folder.to_owned()),
        })
    }

    /// What it is, in one sentence.
    pub fn title(&self) -> &str {
        &self.description.title
    }

    /// Why it cannot run here, in a sentence that says what to do; none if all its programs are here.
    pub fn missing(&self) -> Option<String> {
        let absent: Vec<_> = self
            .description
            .programs
            .iter()
            .filter(|program| self.find(program).is_none())
            .map(String::as_str)
            .collect();
        (!absent.is_empty()).then(|| {
            format!(
                "{} not found on this machine: {}",
                absent.join(" and "),
                self.description.remedy
            )
        })
    }

    fn find(&self, program: &str) -> Option<PathBuf> {
        if program.contains('/') {
            return Some(self.folder.join(program)).filter(|path| path.is_file());
        }
        let path = std::env::var_os("PATH").unwrap_or_default();
        let folders = std::env::split_paths(&path).chain(["/usr/sbin", "/sbin"].map(PathBuf::from));
        folders
            .map(|folder| folder.join(program))
            .find(|path| path.is_file())
    }

    /// The first word of a command as a path, the rest as it is.
    fn command<'c>(&self, command: &'c [String]) -> Result<(PathBuf, &'c [String]), ArmError> {
        let (program, arguments) = command.split_first().ok_or_else(|| self.failed("empty"))?;
        let path = self
            .find(program)
            .ok_or_else(|| self.failed(&format!("{program} is not on this machine")))?;
        Ok((path, arguments))
    }

    fn failed(&self, problem: &str) -> ArmError {
        ArmError::External {
            arm: self.name.clone(),
            problem: problem.to_owned(),
        }
    }

    /// Runs the command that turns the routes into the proxy's own configuration, in the pod's namespace.
    fn configure(
        &self,
        command: &[String],
        stage: &Stage,
        environment: &Environment<'_>,
    ) -> Result<File, ArmError> {
        let broken = |error: std::io::Error| self.failed(&format!("its configuration: {error}"));
        let (program, arguments) = self.command(command)?;
        let mut written = nameless_file().map_err(broken)?;
        let mut said = nameless_file().map_err(broken)?;
        let pod = stage.lab.pod(environment.pod)?;
        let mut command = pod.command(&program);
        command
            .args(arguments)
            .current_dir(&self.folder)
            .envs(environment.variables(stage))
            .stdin(reopened(environment.routes).map_err(broken)?)
            .stdout(written.try_clone().map_err(broken)?)
            .stderr(said.try_clone().map_err(broken)?);
        let status = pod.spawn(command)?.wait().map_err(broken)?;
        if !status.success() {
            let mut words = String::new();
            said.seek(SeekFrom::Start(0)).map_err(broken)?;
            said.read_to_string(&mut words).map_err(broken)?;
            let words = words.trim().replace('\n', " | ");
            return Err(self.failed(&format!("{} ({status}): {words}", program.display())));
        }
        written.seek(SeekFrom::Start(0)).map_err(broken)?;
        Ok(written)
    }

    /// Starts the proxy in one pod; it is ready after [`Self::await_ready`].
    fn start(
        &self,
        proxy: &Proxy,
        stage: &Stage,
        plan: &ArmPlan<'_>,
        environment: &Environment<'_>,
    ) -> Result<Beside, ArmError> {
        let (program, arguments) = self.command(&proxy.run)?;
        let config = proxy
            .configure
            .as_ref()
            .map(|command| self.configure(command, stage, environment))
            .transpose()?;
        let user = if proxy.as_root {
            User::Root
        } else {
            User::Proxy
        };
        let what = format!("{} in pod {}", self.name, environment.pod);
        let cpus = &plan.placement.servers;
        Beside::start(
            &stage.lab,
            environment.pod,
            what,
            &program,
            user,
            cpus,
            |command| {
                command
                    .args(arguments)
                    .current_dir(&self.folder)
                    .envs(environment.variables(stage))
                    .stdout(Stdio::null());
                match config {
                    Some(config) => command.stdin(config),
                    None => command.stdin(Stdio::null()),
                };
            },
        )
    }

    fn await_ready(proxy: &Proxy, running: &mut Beside, stage: &Stage) -> Result<(), ArmError> {
        let pod = stage.lab.pod(&running.pod)?;
        running.program.await_success(|| {
            let outcome = pod.run(|| match &proxy.ready {
                Ready::Tcp(address) => {
                    std::net::TcpStream::connect_timeout(address, ATTEMPT).map(|_| ())
                }
                Ready::Http(address, path) => {
                    let status = http::fetch(*address, "localhost", path, ATTEMPT)?.status;
                    if status == 200 {
                        Ok(())
                    } else {
                        Err(std::io::Error::other(format!("{path} answers {status}")))
                    }
                }
            });
            outcome
                .map_err(|error| error.to_string())?
                .map_err(|error| error.to_string())
        })
    }
}

impl Arm for External {
    fn name(&self) -> &str {
        &self.name
    }

    fn up(&self, plan: &ArmPlan<'_>) -> Result<Box<dyn RunningArm>, ArmError> {
        if let Some(missing) = self.missing() {
            return Err(self.failed(&missing));
        }
        if plan.is_chain() {
            return Err(ArmError::NoChain {
                arm: self.name.clone(),
                why: "a description says what runs beside a client or a server, not beside one that is both",
            });
        }
        let mut stage = Stage::build(plan, &self.name)?;
        stage.start_servers(plan)?;
        let routes = routes(plan).map_err(|problem| self.failed(&problem))?;
        let routes_path = format!("/proc/{}/fd/{}", std::process::id(), routes.as_raw_fd());
        let mut proxies = Vec::new();
        let mut started = Vec::new();
        for (pod, role, proxy) in self.places(plan) {
            let environment = Environment {
                arm: &self.name,
                role,
                pod,
                plan,
                proxy,
                routes: &routes,
                routes_path: &routes_path,
            };
            proxies.push(self.start(proxy, &stage, plan, &environment)?);
            started.push((proxy, environment));
        }
        for (running, (proxy, _)) in proxies.iter_mut().zip(&started) {
            Self::await_ready(proxy, running, &stage)?;
        }
        for (_, environment) in &started {
            let rules = environment.redirection(&stage);
            if !rules.is_empty() {
                nft::load(&plan.binaries.nft, stage.lab.pod(environment.pod)?, &rules)?;
            }
        }
        // Servers whose inbound traffic is redirected are reached through their proxy, so its readiness is proven as well.
        stage.await_traffic(plan, true)?;
        Ok(Box::new(Running {
            name: self.name.clone(),
            decides: self.description.decides,
            sidecars: Vec::new(),
            proxies,
            kmeshd: None,
            shortcut: None,
            stage,
        }))
    }
}

impl External {
    /// Where which proxy runs: in the client's pod, and once in each server's.
    fn places<'p>(&'p self, plan: &'p ArmPlan<'_>) -> Vec<(&'p str, Role, &'p Proxy)> {
        let mut places = Vec::new();
        if let Some(proxy) = &self.description.client {
            places.push((plan.client, Role::Client, proxy));
        }
        let servers: BTreeSet<&str> = plan
            .servers
            .iter()
            .map(|server| server.pod.as_str())
            .collect();
        if let Some(proxy) = &self.description.server {
            places.extend(servers.into_iter().map(|pod| (pod, Role::Server, proxy)));
        }
        places
    }
}

/// The scenario's configuration as the datapath's reader understands it, as JSON in a nameless file.
fn routes(plan: &ArmPlan<'_>) -> Result<File, String> {
    let config = kmesh_config::read(plan.resources_yaml).map_err(|error| error.to_string())?;
    let json = serde_json::to_vec_pretty(&config).map_err(|error| error.to_string())?;
    let mut file = nameless_file().map_err(|error| error.to_string())?;
    file.write_all(&json).map_err(|error| error.to_string())?;
    Ok(file)
}

/// The same file, to be read from its beginning whoever else reads it.
fn reopened(file: &File) -> std::io::Result<File> {
    File::open(format!("/proc/self/fd/{}", file.as_raw_fd()))
}

/// The loopback address, where proxies say that they are ready.
fn is_loopback(address: &SocketAddr) -> bool {
    address.ip() == Ipv4Addr::LOCALHOST
}

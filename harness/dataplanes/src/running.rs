//! An arm that is up: a stage, and whatever data plane the arm put into it.

use std::net::SocketAddr;

use netns_lab::{Lab, Pod};

use crate::{
    arm::{ArmCounters, Restart, RunningArm},
    beside::Beside,
    envoy::Sidecar,
    error::ArmError,
    kmeshd::Kmeshd,
    shortcut::Shortcut,
    stage::Stage,
};

/// What all arms become.
#[derive(Debug)]
pub(crate) struct Running {
    pub(crate) name: String,
    /// Whether the scenario's configuration decides where a request goes.
    pub(crate) decides: bool,
    // Dropped first: the data plane, then the servers, then the lab.
    pub(crate) sidecars: Vec<Sidecar>,
    pub(crate) proxies: Vec<Beside>,
    pub(crate) kmeshd: Option<Kmeshd>,
    pub(crate) shortcut: Option<Shortcut>,
    pub(crate) stage: Stage,
}

impl RunningArm for Running {
    fn name(&self) -> &str {
        &self.name
    }

    fn lab(&self) -> &Lab {
        &self.stage.lab
    }

    fn client(&self) -> &Pod {
        self.stage
            .client()
            .expect("the stage was built with this pod in its topology")
    }

    fn targets(&self, vip: SocketAddr) -> Vec<SocketAddr> {
        self.stage.targets(vip)
    }

    fn decides(&self) -> bool {
        self.decides
    }

    fn counters(&self) -> Result<ArmCounters, ArmError> {
        let mut counters = ArmCounters::default();
        for pod in self.lab().pods() {
            counters
                .cpu
                .insert(pod.name().to_owned(), pod.cpu_usage()?.into());
        }
        for sidecar in &self.sidecars {
            counters.cpu.insert(
                sidecar.group().to_owned(),
                sidecar.cpu_usage(self.lab())?.into(),
            );
        }
        for proxy in &self.proxies {
            let time = proxy.cpu_usage(self.lab())?;
            counters.cpu.insert(proxy.group.clone(), time.into());
        }
        if let Some(kmeshd) = &self.kmeshd {
            let requests = kmeshd.status()?.requests;
            counters.kernel_requests = requests.kernel;
            counters.user_requests = requests.user;
            counters.fallback = requests.by_reason;
            counters
                .cpu
                .insert("kmeshd".to_owned(), Kmeshd::cpu_usage(self.lab())?.into());
        }
        counters.messages = self.shortcut.as_ref().map(Shortcut::counters).transpose()?;
        Ok(counters)
    }

    fn response_floods(&self) -> Result<u64, ArmError> {
        let floods = |sidecar: &Sidecar| sidecar.response_floods(self.lab());
        self.sidecars.iter().map(floods).sum()
    }

    fn artefacts(&self) -> Result<Vec<(String, Vec<u8>)>, ArmError> {
        let mut files = Vec::new();
        for sidecar in &self.sidecars {
            files.extend(sidecar.artefacts(self.lab())?);
        }
        for proxy in &self.proxies {
            let name = format!("{}-{}-log.txt", self.name, proxy.pod);
            files.push((name, proxy.program.log()));
        }
        if let Some(kmeshd) = &self.kmeshd {
            files.extend(kmeshd.artefacts()?);
        }
        if let Some(shortcut) = &self.shortcut {
            let counters = shortcut.counters()?;
            files.push(("sockmap-messages.json".to_owned(), counters.document()));
        }
        Ok(files)
    }

    fn restart(&mut self, how: Restart) -> Result<bool, ArmError> {
        let lab = &self.stage.lab;
        if !self.proxies.is_empty() {
            return Err(ArmError::NoRestart {
                arm: self.name.clone(),
                how: "the harness",
                why: "its programs are described by a file, which knows no restart",
            });
        }
        if how == Restart::Replace && !self.sidecars.is_empty() {
            return Err(ArmError::NoRestart {
                arm: self.name.clone(),
                how: "replace",
                why: "Envoy's hot restart leaves shared memory behind when it is killed",
            });
        }
        // All of them at once, as a node's daemon is one for all its pods.
        for sidecar in &mut self.sidecars {
            sidecar.stop();
        }
        for sidecar in &mut self.sidecars {
            sidecar.start_again(lab)?;
        }
        for sidecar in &mut self.sidecars {
            sidecar.await_ready(lab)?;
        }
        if let Some(kmeshd) = &mut self.kmeshd {
            kmeshd.restart(lab, how)?;
        }
        Ok(self.kmeshd.is_some() || !self.sidecars.is_empty())
    }

    fn check_alive(&mut self) -> Result<(), ArmError> {
        self.sidecars
            .iter_mut()
            .try_for_each(Sidecar::check_alive)?;
        self.proxies
            .iter_mut()
            .try_for_each(|proxy| proxy.program.check_alive())?;
        self.kmeshd.iter_mut().try_for_each(Kmeshd::check_alive)?;
        self.stage
            .servers
            .iter_mut()
            .try_for_each(crate::program::Program::check_alive)
    }
}

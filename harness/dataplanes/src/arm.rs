//! What every arm can do, however the traffic travels in it.

use std::{collections::BTreeMap, net::SocketAddr};

use netns_lab::{CpuUsage, Lab, Pod};
use serde::{Deserialize, Serialize};

use crate::{error::ArmError, plan::ArmPlan};

/// A way for a pod's traffic to travel.
pub trait Arm: Send + Sync {
    /// Its name in results and on the command line.
    fn name(&self) -> &str;

    /// Builds a lab of its own, starts servers and data plane in it, and returns when a request has gone through.
    ///
    /// # Errors
    /// [`ArmError`]; whatever had been brought up is gone then.
    fn up(&self, plan: &ArmPlan<'_>) -> Result<Box<dyn RunningArm>, ArmError>;
}

/// An arm that is up. Dropping it takes everything down; so does the death of this process.
pub trait RunningArm: Send {
    /// Its name, as [`Arm::name`].
    fn name(&self) -> &str;

    /// The lab it runs in.
    fn lab(&self) -> &Lab;

    /// The pod that requests are to come from.
    fn client(&self) -> &Pod;

    /// Where a client has to connect to reach the service at `vip`: there, or the endpoints one after the other in an arm
    /// that balances nothing (`direct`).
    fn targets(&self, vip: SocketAddr) -> Vec<SocketAddr>;

    /// Whether this arm routes by the scenario's configuration. If not, any endpoint of the service may answer.
    fn decides(&self) -> bool;

    /// Counters since the arm came up.
    ///
    /// # Errors
    /// [`ArmError`] if the lab or the data plane can't be asked.
    fn counters(&self) -> Result<ArmCounters, ArmError>;

    /// How many clients the arm's Envoys have cut off for pipelining, `http1.response_flood`: a further request is read while
    /// two answers wait to be written (`ServerConnectionImpl::doFloodProtectionChecks`, `kMaxOutboundResponses`; no setting
    /// changes it). 0 in other arms.
    ///
    /// # Errors
    /// [`ArmError::Exchange`].
    fn response_floods(&self) -> Result<u64, ArmError>;

    /// Files worth keeping beside a result, by name: configuration as it was in force, logs.
    ///
    /// # Errors
    /// [`ArmError`] if the data plane can't be asked.
    fn artefacts(&self) -> Result<Vec<(String, Vec<u8>)>, ArmError>;

    /// Restarts the data plane, under whatever goes on; returns when the new one is ready. An arm without programs of its own
    /// (`direct`, `dnat`) has nothing to restart, and says so with `false`.
    ///
    /// # Errors
    /// [`ArmError`]: the new one does not become ready, or the arm cannot be restarted this way.
    fn restart(&mut self, how: Restart) -> Result<bool, ArmError>;

    /// Fails if a server, sidecar or daemon has ended.
    ///
    /// # Errors
    /// [`ArmError::Ended`] with its last words.
    fn check_alive(&mut self) -> Result<(), ArmError>;
}

/// How a data plane is restarted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Restart {
    /// The old one is killed, then the new one is started: what a crash looks like.
    Plain,
    /// The new one takes over from the old one, which stays until its connections have ended (`kmeshd run --replace`).
    Replace,
}

/// What an arm has counted so far.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ArmCounters {
    /// Requests that were routed and carried inside the kernel; 0 in arms without a kernel datapath.
    pub kernel_requests: u64,
    /// Requests that the user-space fallback of `kmeshd` served; 0 in other arms.
    pub user_requests: u64,
    /// The fallback's requests by reason.
    pub fallback: BTreeMap<String, u64>,
    /// Messages of the arm's connections by the way they went; none but in `envoy-both-sockmap`.
    pub messages: Option<MessageCounters>,
    /// CPU time by place: `POD` is what runs in a pod but its sidecar (the generator too, if it runs there),
    /// `sidecar-POD` its Envoy, `kmeshd` the daemon.
    pub cpu: BTreeMap<String, CpuTime>,
}

/// Messages that sockets sent, by the way they went. One send of an application or sidecar is one message; a long one is several.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct MessageCounters {
    /// Straight into the receiver's queue.
    pub shortcut: u64,
    /// By TCP, by the reason why.
    pub by_tcp: BTreeMap<String, u64>,
}

impl MessageCounters {
    /// All messages.
    pub fn total(&self) -> u64 {
        self.shortcut + self.by_tcp.values().sum::<u64>()
    }

    /// Share that skipped TCP, 0 to 1; none if nothing was sent.
    pub fn share(&self) -> Option<f64> {
        let total = self.total();
        (total > 0).then(|| self.shortcut as f64 / total as f64)
    }

    /// As JSON, with the share.
    pub(crate) fn document(&self) -> Vec<u8> {
        let document = serde_json::json!({
            "shortcut": self.shortcut, "by_tcp": self.by_tcp, "shortcut_share": self.share(),
        });
        format!("{document:#}\n").into_bytes()
    }
}

/// CPU time in microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct CpuTime {
    /// In user mode.
    pub user_us: u64,
    /// In the kernel.
    pub system_us: u64,
}

impl From<CpuUsage> for CpuTime {
    fn from(usage: CpuUsage) -> Self {
        Self {
            user_us: usage.user_us,
            system_us: usage.system_us,
        }
    }
}

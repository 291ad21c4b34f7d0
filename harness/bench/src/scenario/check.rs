//! Checks that need the whole scenario: names that must exist, numbers that must make sense.

use super::source::{Source, locate};
use kmesh_load::replay::{self, Entry};
use kmesh_stats::Predicate;
use netns_lab::TopologyError;

use super::{
    Connection, Design, Expectation, Loop, Protocol, Rate, Scenario, ScenarioError, Server,
    Subject, chain,
};

/// Shortest padding header: `a-pad-000: x` and the line end.
pub(crate) const PADDING_LEAST: u32 = 14;

/// Checks `scenario` and fills in its parsed expectations. Mistakes in several of its parts are reported together, unless it has no
/// identity or no topology, without which the rest means nothing.
pub(super) fn check(scenario: &mut Scenario, chain: &[Source]) -> Result<(), ScenarioError> {
    let checker = Checker { chain };
    checker.identity(scenario)?;
    checker.topology(scenario)?;
    let log = checker.log(scenario);
    let expectations = checker.expectations(scenario);
    let mut parts = vec![
        checker.servers(scenario),
        checker.arms(scenario),
        checker.load(scenario),
        checker.traffic(scenario),
        checker.company(scenario),
        checker.split(scenario),
        checker.design("design", &scenario.design),
    ];
    if parts.last().is_some_and(Result::is_ok) {
        parts.push(checker.design("quick", &scenario.design(true)));
    }
    parts.push(log.map(|log| scenario.log = log));
    parts.push(expectations.map(|parsed| scenario.expectations = parsed));
    let errors = parts.into_iter().filter_map(Result::err).collect();
    ScenarioError::of_all(errors).map_or(Ok(()), Err)
}

struct Checker<'a> {
    chain: &'a [Source],
}

impl Checker<'_> {
    fn refuse<T>(&self, keys: &[&str], message: impl Into<String>) -> Result<T, ScenarioError> {
        Err(ScenarioError::Value {
            place: locate(self.chain, keys),
            key: keys.join("."),
            message: message.into(),
        })
    }

    fn require(&self, holds: bool, keys: &[&str], message: &str) -> Result<(), ScenarioError> {
        if holds {
            Ok(())
        } else {
            self.refuse(keys, message)
        }
    }

    fn identity(&self, s: &Scenario) -> Result<(), ScenarioError> {
        let stem = self
            .chain
            .first()
            .and_then(|source| source.path.file_stem());
        if stem.is_none_or(|stem| stem != s.name.as_str()) {
            return self.refuse(
                &["name"],
                format!(
                    "{:?} must be the file's name without .toml, so that results can be found",
                    s.name
                ),
            );
        }
        self.require(
            !s.title.is_empty(),
            &["title"],
            "missing: say in one sentence what it is",
        )?;
        self.require(
            !s.client.is_empty(),
            &["client"],
            "missing: the pod the load comes from",
        )?;
        self.require(
            s.vip.is_some(),
            &["vip"],
            "missing: the address the load is aimed at, as ip:port",
        )?;
        if s.generated.is_none() && !s.resources.is_file() {
            return self.refuse(
                &["resources"],
                format!("{} is not a file", s.resources.display()),
            );
        }
        Ok(())
    }

    fn topology(&self, s: &Scenario) -> Result<(), ScenarioError> {
        if let Err(error) = s.topology.validate() {
            let TopologyError::Invalid { field, problem, .. } = error else {
                return self.refuse(&["topology"], error.to_string());
            };
            // `pods[2].ipv4` in netns-lab's words.
            let path = format!("topology.{}", field.replace('[', ".").replace(']', ""));
            return self.refuse(&path.split('.').collect::<Vec<_>>(), problem.to_string());
        }
        let known = |pod: &str| s.topology.pods.iter().any(|spec| spec.name == pod);
        if !known(&s.client) {
            return self.refuse(
                &["client"],
                format!("no pod {:?} in the topology", s.client),
            );
        }
        match s.server.iter().position(|server| !known(&server.pod)) {
            Some(i) => self.refuse(
                &["server", &i.to_string(), "pod"],
                format!("no pod {:?} in the topology", s.server[i].pod),
            ),
            None => Ok(()),
        }
    }

    fn servers(&self, s: &Scenario) -> Result<(), ScenarioError> {
        self.require(
            !s.server.is_empty(),
            &["server"],
            "missing: at least one application",
        )?;
        for (i, server) in s.server.iter().enumerate() {
            let index = i.to_string();
            self.require(
                server.port != 0,
                &["server", &index, "port"],
                "missing: the port it listens on",
            )?;
            if s.server[..i].iter().any(|other| other.pod == server.pod) {
                return self.refuse(
                    &["server", &index, "pod"],
                    format!("{:?} runs a server already", server.pod),
                );
            }
            if let Some(next) = &server.next {
                let known = |name: &String| {
                    let is = |other: &Server| other.pod == *name || other.group == *name;
                    s.server.iter().any(is)
                };
                if let Some(name) = next.servers.iter().find(|name| !known(name)) {
                    return self.refuse(
                        &["server", &index, "next", "servers"],
                        format!("{name:?} is neither a server's pod nor a group"),
                    );
                }
                self.require(
                    !next.servers.is_empty() && !server.tcp_echo,
                    &["server", &index, "next"],
                    "needs the servers that may answer, and a server that speaks HTTP",
                )?;
                self.require(
                    chain::ends(&s.server, server),
                    &["server", &index, "next"],
                    "leads into a circle, or through more than 8 servers",
                )?;
            }
        }
        Ok(())
    }

    fn arms(&self, s: &Scenario) -> Result<(), ScenarioError> {
        self.require(
            !s.arms.run.is_empty(),
            &["arms", "run"],
            "missing: at least one arm",
        )?;
        let unknown: Vec<String> = s
            .arms
            .run
            .iter()
            .filter(|arm| !crate::arms::is_known(arm))
            .map(|arm| crate::arms::unknown(arm))
            .collect();
        if !unknown.is_empty() {
            return self.refuse(&["arms", "run"], unknown.join("; "));
        }
        for (key, arm) in [
            ("reference", &s.arms.reference),
            ("aa", &s.arms.aa),
            ("baseline", &s.arms.baseline),
        ] {
            if !arm.is_empty() && !crate::arms::is_known(arm) {
                return self.refuse(&["arms", key], crate::arms::unknown(arm));
            }
        }
        Ok(())
    }

    fn load(&self, s: &Scenario) -> Result<(), ScenarioError> {
        let load = &s.load;
        self.require(
            load.connections > 0,
            &["load", "connections"],
            "must be at least 1",
        )?;
        self.require(
            load.timeout_ms > 0,
            &["load", "timeout_ms"],
            "must be at least 1 ms",
        )?;
        if load.protocol == Protocol::TcpEcho {
            self.require(
                load.message_bytes > 0,
                &["load", "message_bytes"],
                "must be at least 1 byte for tcp-echo",
            )?;
        }
        if (load.connection == Connection::Reuse) != load.reuse.is_some() {
            return self.refuse(
                &["load", "reuse"],
                "goes with connection = \"reuse\": the fewest and most requests of a connection",
            );
        }
        match (load.pace, load.rate) {
            (Loop::Closed, _) => Ok(()),
            (Loop::Open, Rate::Unset) => self.refuse(&["load", "rate"], "missing: an open loop needs a rate"),
            (Loop::Open, Rate::Fixed(rate)) => {
                self.require(rate > 0.0 && rate.is_finite(), &["load", "rate"], "must be above 0 requests per second")
            }
            (Loop::Open, Rate::OfSlowest(share)) => self.require(
                share > 0.0 && share < 1.0,
                &["load", "rate"],
                "must be above 0% and below 100%: at capacity an open loop only measures its own queue",
            ),
        }
    }

    fn traffic(&self, s: &Scenario) -> Result<(), ScenarioError> {
        if s.load.protocol == Protocol::TcpEcho {
            return self.require(
                s.traffic.is_empty(),
                &["traffic"],
                "is for HTTP; tcp-echo has no requests to tell apart",
            );
        }
        self.require(
            !s.traffic.is_empty(),
            &["traffic"],
            "missing: at least one kind of request",
        )?;
        for (i, traffic) in s.traffic.iter().enumerate() {
            let index = i.to_string();
            self.require(
                traffic.weight > 0,
                &["traffic", &index, "weight"],
                "must be at least 1",
            )?;
            self.require(
                !(traffic.echo && traffic.response_bytes.is_some()),
                &["traffic", &index, "echo"],
                "stands beside response_bytes: the answer is one or the other",
            )?;
            self.require(
                traffic.padding.bytes >= traffic.padding.headers * PADDING_LEAST,
                &["traffic", &index, "padding"],
                "needs at least 14 bytes for each header",
            )?;
            self.require(
                !traffic.host.is_empty(),
                &["traffic", &index, "host"],
                "missing",
            )?;
            self.require(
                traffic.path.starts_with('/'),
                &["traffic", &index, "path"],
                "must start with /",
            )?;
            for name in &traffic.expect {
                if s.servers_of(std::slice::from_ref(name)).is_empty() {
                    return self.refuse(
                        &["traffic", &index, "expect"],
                        format!("{name:?} is neither a server's pod, nor a group, nor a chain of servers"),
                    );
                }
            }
        }
        Ok(())
    }

    fn log(&self, s: &Scenario) -> Result<Vec<Entry>, ScenarioError> {
        let Some(path) = &s.load.replay else {
            return Ok(Vec::new());
        };
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) => {
                return self.refuse(
                    &["load", "replay"],
                    format!("{} cannot be read: {error}", path.display()),
                );
            }
        };
        match replay::parse(&text) {
            Ok(entries) => Ok(entries),
            Err(error) => self.refuse(&["load", "replay"], format!("{}: {error}", path.display())),
        }
    }

    fn company(&self, s: &Scenario) -> Result<(), ScenarioError> {
        for (i, background) in s.background.iter().enumerate() {
            let index = i.to_string();
            let known = |pod: &String| s.topology.pods.iter().any(|spec| spec.name == *pod);
            if let Some(pod) = background.pods.iter().find(|pod| !known(pod)) {
                return self.refuse(
                    &["background", &index, "pods"],
                    format!("no pod {pod:?} in the topology"),
                );
            }
            self.require(
                background.connections > 0,
                &["background", &index, "connections"],
                "must be at least 1",
            )?;
        }
        if let Some(swap) = &s.swap {
            if let Some(path) = swap.resources.iter().find(|path| !path.is_file()) {
                return self.refuse(
                    &["swap", "resources"],
                    format!("{} is not a file", path.display()),
                );
            }
            self.require(
                swap.resources.len() > 1 && swap.every_ms >= 50,
                &["swap"],
                "needs at least two resources, and every_ms of at least 50",
            )?;
            let deaf = |arm: &&String| arm.starts_with("envoy");
            if let Some(arm) = s.arms.run.iter().find(deaf) {
                return self.refuse(
                    &["arms", "run"],
                    format!("{arm:?} does not follow its file, so swap would not reach it"),
                );
            }
        }
        if let Some(restart) = &s.restart {
            let within = |design: &Design| restart.after_ms < design.cell_ms;
            self.require(
                within(&s.design(false)) && within(&s.design(true)),
                &["restart", "after_ms"],
                "must be within a cell, of a quick run too",
            )?;
            self.require(
                s.swap.is_none(),
                &["restart"],
                "stands beside swap: what fails must have one cause",
            )?;
            let cannot = |arm: &&String| arm.starts_with("envoy");
            if let Some(arm) = s.arms.run.iter().find(cannot)
                && restart.how == kmesh_dataplanes::Restart::Replace
            {
                return self.refuse(
                    &["arms", "run"],
                    format!("{arm:?} cannot be replaced: its hot restart leaves shared memory behind when it is killed"),
                );
            }
        }
        match &s.mutant {
            Some(mutant) if !s.arms.run.contains(&mutant.arm) => self.refuse(
                &["mutant", "arm"],
                format!("{:?} is not in arms.run", mutant.arm),
            ),
            _ => Ok(()),
        }
    }

    fn split(&self, s: &Scenario) -> Result<(), ScenarioError> {
        if s.split.is_empty() {
            return Ok(());
        }
        for group in s.split.keys() {
            if !s.server.iter().any(|server| server.group == *group) {
                return self.refuse(&["split", group], "no server is in this group");
            }
        }
        let sum: f64 = s.split.values().sum();
        if (sum - 100.0).abs() > 1e-9 {
            return self.refuse(&["split"], format!("shares add up to {sum}, not 100"));
        }
        Ok(())
    }

    fn design(&self, table: &str, d: &Design) -> Result<(), ScenarioError> {
        self.require(d.blocks > 0, &[table, "blocks"], "must be at least 1")?;
        let looks = d.all_looks();
        self.require(
            looks[0] > 0 && looks.windows(2).all(|pair| pair[0] < pair[1]),
            &["design", "looks"],
            "must rise and stay below design.blocks",
        )?;
        self.require(
            d.cell_ms >= 50,
            &[table, "cell_ms"],
            "must be at least 50 ms: shorter cells measure the scheduler",
        )?;
        self.require(
            d.level > 0.5 && d.level < 1.0,
            &["design", "level"],
            "must be between 0.5 and 1",
        )?;
        self.require(
            d.resamples >= 100,
            &["design", "resamples"],
            "must be at least 100",
        )
    }

    fn expectations(&self, s: &Scenario) -> Result<Vec<Expectation>, ScenarioError> {
        let mut parsed = Vec::new();
        for (subject_text, predicate_text) in &s.expect {
            let keys = ["expect", subject_text.as_str()];
            let subject: Subject = match subject_text.parse() {
                Ok(subject) => subject,
                Err(message) => return self.refuse(&keys, message),
            };
            let predicate = match predicate_text.parse::<Predicate>() {
                Ok(predicate) => predicate,
                Err(error) => return self.refuse(&keys, error.to_string()),
            };
            if let Some(arm) = subject
                .arms()
                .into_iter()
                .find(|arm| !s.arms.run.contains(arm))
            {
                return self.refuse(
                    &keys,
                    format!("{arm:?} is not in arms.run, so this could never be judged"),
                );
            }
            parsed.push(Expectation { subject, predicate });
        }
        Ok(parsed)
    }
}

//! All judges on the same questions, and what is left of a disagreement when everything unneeded is taken away.

mod shrink;

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

use kmesh_api::listener::CLASS_ANCHORED;
use kmesh_config::redirect::{Asked, location};
use kmesh_config::{Classes, Compiled, Config, ConfigError, Identities, LocalAnswer, compile};
use proptest::strategy::{Strategy as _, ValueTree as _};
use proptest::test_runner::TestRunner;

use crate::envoy::{Answer, Envoy, EnvoyError};
use crate::generate;
#[cfg(feature = "kernel")]
use crate::kernel::{Kernel, KernelError};
use crate::native::{Native, ScriptedDice, Verdict};
use crate::reference::{self, Prediction, predict};
use crate::reproducer::Reproducer;
use crate::request::Request;

/// A configuration and requests to it.
#[derive(Clone, Debug)]
pub struct Case {
    /// The configuration.
    pub config: Config,
    /// What is asked.
    pub questions: Vec<Question>,
}

/// A request to a listener.
#[derive(Clone, Debug)]
pub struct Question {
    /// Position of the listener in the configuration; an HTTP one.
    pub listener: usize,
    /// The request.
    pub request: Request,
    /// What a weighted choice draws, taken modulo the sum of the weights.
    pub drawn: u32,
}

/// What a judge says, in words that all judges share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// 404.
    NoRoute,
    /// A route takes it: positions of the virtual host and the route, the cluster's name.
    Routed(usize, usize, String),
    /// A route takes it, and the cluster has no endpoint; the datapath does not say which.
    NoEndpoint,
    /// A route takes it, and the header that should name the cluster does not: 503.
    NoCluster(usize, usize),
    /// A route answers it by itself: positions of the virtual host and the route, status, `location` or body.
    Answered(usize, usize, u16, String),
    /// Refused, with a status or the number of a reason.
    Refused(u32),
    /// The request is not complete, which none of ours is.
    Partial,
}

impl fmt::Display for Decision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoRoute => f.write_str("404"),
            Self::Routed(host, route, cluster) => write!(f, "host {host} route {route} {cluster}"),
            Self::NoEndpoint => f.write_str("503"),
            Self::NoCluster(host, route) => write!(f, "host {host} route {route} no cluster"),
            Self::Answered(host, route, status, text) => {
                write!(f, "host {host} route {route} {status} {text}")
            }
            Self::Refused(number) => write!(f, "refused {number}"),
            Self::Partial => f.write_str("incomplete"),
        }
    }
}

/// A question on which the judges disagree.
#[derive(Clone, Debug)]
pub struct Mismatch {
    /// The configuration with the one question.
    pub case: Case,
    /// What each judge says, by its name.
    pub said: BTreeMap<&'static str, Decision>,
}

/// On one line: what was said, and the reproducer that `kmesh-bench explain` replays.
impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (judge, said) in &self.said {
            write!(f, "{judge} says {said}; ")?;
        }
        write!(f, "kmesh-bench explain '{}'", Reproducer::of(&self.case))
    }
}

/// Why the judges do not judge.
#[derive(Debug, thiserror::Error)]
pub enum DifferentialError {
    /// Envoy fails.
    #[error(transparent)]
    Envoy(#[from] EnvoyError),
    /// The kernel fails.
    #[cfg(feature = "kernel")]
    #[error(transparent)]
    Kernel(#[from] KernelError),
    /// A configuration that the generator holds for valid is refused.
    #[error("the compiler refuses a generated configuration")]
    Config(#[from] ConfigError),
}

/// A judge that errs on purpose, to show that an error is found: says what the native code would say of another request.
pub type Mutant = fn(&Request) -> Request;

/// A mutant that overlooks the port in the host.
pub fn portless(request: &Request) -> Request {
    let mut request = request.clone();
    if let Some(host) = request.host.strip_suffix(":80") {
        request.host = host.to_owned();
    }
    request
}

/// The judges that take part; the reference and the native code always do.
#[derive(Default)]
pub struct Judges {
    /// The program, if real Envoy takes part.
    pub envoy: Option<PathBuf>,
    /// The kernel, if it takes part.
    #[cfg(feature = "kernel")]
    pub kernel: Option<Kernel>,
    /// A judge that errs, if one is planted.
    pub mutant: Option<Mutant>,
}

/// Draws a case with that many questions.
///
/// # Errors
/// The generator's reason if it has rejected too many values.
pub fn draw(runner: &mut TestRunner, questions: usize) -> Result<Case, String> {
    let reason = |reason: proptest::test_runner::Reason| reason.to_string();
    let mut config = generate::config()
        .new_tree(runner)
        .map_err(reason)?
        .current();
    // A cluster of one endpoint can make a listener opaque: nothing would be decided there.
    for endpoints in config.clusters.iter_mut().map(|c| &mut c.endpoints) {
        if let [only] = endpoints[..] {
            endpoints.push(SocketAddr::new(only.ip(), only.port() + 1));
        }
    }
    let requests = generate::request();
    let drawn = proptest::num::u32::ANY;
    let questions = (0..questions).map(|i| {
        let (request, drawn) = (&requests, drawn)
            .new_tree(runner)
            .map_err(reason)?
            .current();
        Ok(Question {
            listener: i % config.listeners.len(),
            request,
            drawn: drawn >> 1,
        })
    });
    let questions = questions.collect::<Result<_, String>>()?;
    Ok(Case { config, questions })
}

/// What each judge says, by its name.
pub type Said = BTreeMap<&'static str, Decision>;

impl Judges {
    /// Their names.
    pub fn names(&self) -> Vec<&'static str> {
        let mut names = vec!["reference", "native"];
        #[cfg(feature = "kernel")]
        names.extend(self.kernel.as_ref().map(|_| "kernel"));
        names.extend(self.envoy.as_ref().map(|_| "envoy"));
        names.extend(self.mutant.map(|_| "mutant"));
        names
    }

    /// Puts all questions to all judges; returns where they disagree.
    ///
    /// # Errors
    /// [`DifferentialError`].
    pub fn compare(&mut self, cases: &[Case]) -> Result<Vec<Mismatch>, DifferentialError> {
        let mut mismatches = Vec::new();
        for (case, all) in cases.iter().zip(self.ask(cases)?) {
            for (question, said) in case.questions.iter().zip(all) {
                if !agree(case, question, &said) {
                    let config = case.config.clone();
                    let questions = vec![question.clone()];
                    let case = Case { config, questions };
                    mismatches.push(Mismatch { case, said });
                }
            }
        }
        Ok(mismatches)
    }

    /// Puts all questions to all judges; returns what they say, by case and question.
    ///
    /// # Errors
    /// [`DifferentialError`].
    pub fn ask(&mut self, cases: &[Case]) -> Result<Vec<Vec<Said>>, DifferentialError> {
        let envoy = match &self.envoy {
            Some(program) => {
                let configs: Vec<Config> = cases.iter().map(|case| case.config.clone()).collect();
                Some(Envoy::start(program, &configs)?)
            }
            None => None,
        };
        let mut all = Vec::with_capacity(cases.len());
        for (position, case) in cases.iter().enumerate() {
            let mut said = self.own(case)?;
            if let Some(envoy) = &envoy {
                ask_envoy(envoy, position, case, &mut said)?;
            }
            all.push(said);
        }
        Ok(all)
    }

    /// What everyone but Envoy says, by question.
    fn own(&mut self, case: &Case) -> Result<Vec<Said>, DifferentialError> {
        let compiled = compile(&case.config, &mut Identities::default(), Classes::default())?;
        #[cfg(feature = "kernel")]
        if let Some(kernel) = &mut self.kernel {
            kernel.configure(&compiled.image);
        }
        let mut native = Native::new(&compiled.image);
        let mut all = Vec::with_capacity(case.questions.len());
        for question in &case.questions {
            let bytes = question.request.to_bytes();
            let listener = &compiled.image.listeners[question.listener];
            let table = listener.target;
            if listener.class != CLASS_ANCHORED {
                // Its requests are not looked at. `draw` makes none.
                let said = by_reference(&case.config, question);
                all.push(Said::from([("reference", said)]));
                continue;
            }
            let mut dice = ScriptedDice::new([question.drawn]);
            let verdict = native.judge(table, &bytes, &mut dice);
            let mut said = Said::new();
            said.insert("reference", by_reference(&case.config, question));
            said.insert("native", in_words(case, question, &compiled, verdict));
            #[cfg(feature = "kernel")]
            if let Some(kernel) = &mut self.kernel {
                let verdict = kernel.judge(table, &bytes, [question.drawn, 0])?;
                said.insert("kernel", in_words(case, question, &compiled, verdict));
            }
            if let Some(mutant) = self.mutant {
                let bytes = mutant(&question.request).to_bytes();
                let verdict = native.judge(table, &bytes, &mut ScriptedDice::new([question.drawn]));
                said.insert("mutant", in_words(case, question, &compiled, verdict));
            }
            all.push(said);
        }
        Ok(all)
    }
}

fn by_reference(config: &Config, question: &Question) -> Decision {
    let listener = &config.listeners[question.listener];
    let host = |name| host_position(config, question.listener, name);
    match predict(config, listener, &question.request, question.drawn) {
        Prediction::NoRoute => Decision::NoRoute,
        Prediction::Answered(answered) => Decision::Answered(
            host(answered.virtual_host),
            answered.route,
            answered.status,
            answered.text,
        ),
        Prediction::Routed(routed) => match routed.drawn(question.drawn) {
            Some(candidate) => Decision::Routed(
                host(routed.virtual_host),
                routed.route,
                candidate.cluster.to_owned(),
            ),
            None => Decision::NoCluster(host(routed.virtual_host), routed.route),
        },
    }
}

fn host_position(config: &Config, listener: usize, name: &str) -> usize {
    let hosts = config.listeners[listener].virtual_hosts();
    hosts
        .iter()
        .position(|host| host.name == name)
        .unwrap_or(usize::MAX)
}

fn in_words(case: &Case, question: &Question, compiled: &Compiled, verdict: Verdict) -> Decision {
    let place = |route: u32| {
        let name = &compiled.names.routes[route as usize];
        let host = host_position(&case.config, question.listener, &name.virtual_host);
        (host, name.position as usize, name)
    };
    match verdict {
        Verdict::NoRoute => Decision::NoRoute,
        Verdict::NoEndpoint => Decision::NoEndpoint,
        Verdict::NoCluster(route) => {
            let (host, position, _) = place(route);
            Decision::NoCluster(host, position)
        }
        Verdict::Answered(route) => {
            let (host, position, name) = place(route);
            let (status, text) = match &name.answer {
                Some(LocalAnswer::Redirect(redirect, matched)) => {
                    let asked = Asked {
                        scheme: reference::scheme(&question.request),
                        authority: &question.request.host,
                        target: &question.request.target,
                    };
                    (redirect.status, location(redirect, matched, asked))
                }
                Some(LocalAnswer::Direct(direct)) => {
                    (direct.status, question.request.seen_of(&direct.body))
                }
                None => (0, "no answer".to_owned()),
            };
            Decision::Answered(host, position, status, text)
        }
        Verdict::Partial => Decision::Partial,
        Verdict::Refused(reason) => Decision::Refused(reason),
        Verdict::Chosen(choice) => {
            let (host, position, _) = place(choice.route);
            let cluster = &case.config.clusters[choice.cluster as usize].name;
            Decision::Routed(host, position, cluster.clone())
        }
    }
}

fn ask_envoy(
    envoy: &Envoy,
    position: usize,
    case: &Case,
    said: &mut [Said],
) -> Result<(), EnvoyError> {
    for listener in 0..case.config.listeners.len() {
        let asked = || {
            let all = case.questions.iter().enumerate();
            all.filter(|(_, question)| question.listener == listener)
        };
        let requests: Vec<_> = asked().map(|(_, q)| (&q.request, q.drawn)).collect();
        let answers = envoy.ask(position, listener, &requests)?;
        for ((number, _), answer) in asked().zip(answers) {
            let decision = match answer {
                Answer::NoRoute => Decision::NoRoute,
                Answer::Routed {
                    virtual_host,
                    route,
                    cluster,
                } => Decision::Routed(virtual_host, route, cluster),
                Answer::NoCluster {
                    virtual_host,
                    route,
                } => Decision::NoCluster(virtual_host, route),
                Answer::Local {
                    virtual_host,
                    route,
                    status,
                    text,
                } => Decision::Answered(virtual_host, route, status, text),
                Answer::Refused(status) => Decision::Refused(u32::from(status)),
            };
            said[number].insert("envoy", decision);
        }
    }
    Ok(())
}

/// Whether all say the same as the reference. The datapath says 503 where the chosen cluster has no endpoint; Envoy's
/// clusters have none at all here, so it names them.
pub fn agree(case: &Case, question: &Question, said: &Said) -> bool {
    let reference = by_reference(&case.config, question);
    let vacant = match &reference {
        Decision::Routed(_, _, name) => {
            let cluster = case.config.clusters.iter().find(|c| c.name == *name);
            cluster.is_none_or(|cluster| cluster.endpoints.is_empty())
        }
        _ => false,
    };
    said.iter().all(|(judge, decision)| match *judge {
        "native" | "kernel" | "mutant" if vacant => *decision == Decision::NoEndpoint,
        "envoy" => *decision == reference || excused(case, question, decision, &reference),
        _ => *decision == reference,
    })
}

/// Whether Envoy says something else than the reference because it cannot be asked the same: it draws by itself where a route's
/// own header should say what to draw and does not, and it answers gRPC requests in gRPC's words.
fn excused(case: &Case, question: &Question, envoy: &Decision, reference: &Decision) -> bool {
    let place = |decision: &Decision| match decision {
        Decision::Routed(host, route, _)
        | Decision::NoCluster(host, route)
        | Decision::Answered(host, route, ..) => Some((*host, *route)),
        _ => None,
    };
    if place(envoy) != place(reference) {
        return false;
    }
    if let Decision::Routed(_, _, drawn) = envoy {
        let listener = &case.config.listeners[question.listener];
        let prediction = predict(&case.config, listener, &question.request, question.drawn);
        let Prediction::Routed(routed) = prediction else {
            return false;
        };
        return routed.by_header && routed.candidates.iter().any(|c| c.cluster == drawn);
    }
    let mut headers = question.request.headers.iter();
    headers.any(|(name, _)| name.eq_ignore_ascii_case("content-type"))
}

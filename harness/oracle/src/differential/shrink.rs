//! A disagreement made small: parts are left out one at a time, for as long as the judges still disagree.

use kmesh_config::Config;
use kmesh_config::model::{ListenerKind, RouteAction, VirtualHostConfig};

use super::{Case, DifferentialError, Judges, Mismatch};

impl Judges {
    /// A smaller case on which the judges disagree, or `mismatch` itself.
    ///
    /// # Errors
    /// [`DifferentialError`].
    pub fn shrink(&mut self, mut mismatch: Mismatch) -> Result<Mismatch, DifferentialError> {
        loop {
            // All ways to leave one thing out, judged together: Envoy is started once for them.
            let smaller = smaller(&mismatch.case);
            match self.compare(&smaller)?.into_iter().next() {
                Some(found) => mismatch = found,
                None => return Ok(mismatch),
            }
        }
    }
}

/// The case with one thing left out, in all ways.
fn smaller(case: &Case) -> Vec<Case> {
    let mut cases = Vec::new();
    let Some(question) = case.questions.first() else {
        return cases;
    };
    if case.config.listeners.len() > 1 {
        let mut smaller = case.clone();
        smaller.config.listeners = vec![case.config.listeners[question.listener].clone()];
        smaller.questions[0].listener = 0;
        cases.push(smaller);
    }
    let at = question.listener;
    let hosts = case.config.listeners[at].virtual_hosts();
    let mut without = |change: &mut dyn FnMut(&mut Vec<VirtualHostConfig>)| {
        let mut smaller = case.clone();
        if let Some(hosts) = hosts_of(&mut smaller.config, at) {
            change(hosts);
            cases.push(smaller);
        }
    };
    for (h, host) in hosts.iter().enumerate() {
        if hosts.len() > 1 {
            without(&mut |hosts| drop(hosts.remove(h)));
        }
        for d in 0..host.domains.len() {
            if host.domains.len() > 1 {
                without(&mut |hosts| drop(hosts[h].domains.remove(d)));
            }
        }
        for (r, route) in host.routes.iter().enumerate() {
            without(&mut |hosts| drop(hosts[h].routes.remove(r)));
            for c in 0..route.headers.len() {
                without(&mut |hosts| drop(hosts[h].routes[r].headers.remove(c)));
            }
            for c in 0..route.query.len() {
                without(&mut |hosts| drop(hosts[h].routes[r].query.remove(c)));
            }
            if route.fraction.is_some() {
                without(&mut |hosts| hosts[h].routes[r].fraction = None);
            }
            if route.grpc {
                without(&mut |hosts| hosts[h].routes[r].grpc = false);
            }
            if route.ignore_case {
                without(&mut |hosts| hosts[h].routes[r].ignore_case = false);
            }
            if let RouteAction::Weighted(choices) = &route.action {
                let first = choices[0].name.clone();
                without(&mut |hosts| {
                    hosts[h].routes[r].action = RouteAction::Cluster(first.clone());
                });
            }
        }
    }
    if let Some((path, _)) = question.request.target.split_once('?') {
        let mut smaller = case.clone();
        path.clone_into(&mut smaller.questions[0].request.target);
        cases.push(smaller);
    }
    for i in 0..question.request.headers.len() {
        let mut smaller = case.clone();
        smaller.questions[0].request.headers.remove(i);
        cases.push(smaller);
    }
    cases
}

fn hosts_of(config: &mut Config, listener: usize) -> Option<&mut Vec<VirtualHostConfig>> {
    match &mut config.listeners[listener].kind {
        ListenerKind::Http(routes) => Some(&mut routes.virtual_hosts),
        _ => None,
    }
}

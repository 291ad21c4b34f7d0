//! One decision of the datapath's own code, and who would serve it.

use std::collections::VecDeque;

use kmesh_api::head::Head;
use kmesh_api::limits::{HEAD_MAX, ROUTES_MAX};
use kmesh_api::{Image, Reason};
use kmesh_orchestration::http1::{Length, Outcome, admit, begin_request, request_length, scan};
use kmesh_orchestration::{Choice, Dice, choose};

use crate::explanation::Server;

/// What the decision code says about a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The head is not complete.
    Partial,
    /// The kernel does not decide; the number of a [`Reason`].
    Refused(u32),
    /// 404.
    NoRoute,
    /// This route, whose cluster has no endpoint.
    Route(u32),
    /// This route, which answers by itself, or whose header names no cluster.
    Answered(u32, Reason),
    /// It goes there.
    Chosen(Choice),
}

/// A verdict and who serves the request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Trial {
    pub(crate) verdict: Verdict,
    pub(crate) server: Option<Server>,
}

impl Trial {
    /// Puts the head before a route configuration of the image.
    pub(crate) fn run(image: &Image, route_config: u32, bytes: &[u8], dice: &mut Numbers) -> Self {
        let undecided = |verdict| Self {
            verdict,
            server: None,
        };
        let mut head = Box::new(Head::<HEAD_MAX>::new());
        begin_request(&mut *head);
        let bytes = &bytes[..bytes.len().min(HEAD_MAX)];
        head.bytes[..bytes.len()].copy_from_slice(bytes);
        head.length = bytes.len() as u32;
        match scan(image, &mut *head) {
            Outcome::Complete => {}
            Outcome::Partial if bytes.len() == HEAD_MAX => {
                return undecided(Verdict::Refused(Reason::HeadTooLong as u32));
            }
            Outcome::Partial => return undecided(Verdict::Partial),
            Outcome::Refused(reason) => return undecided(Verdict::Refused(reason)),
        }
        // Of a chunked request the size is not known yet.
        let total = match request_length(&head) {
            Length::Known(total) => total,
            Length::Chunked => 0,
            Length::Unknown(reason) => return undecided(Verdict::Refused(reason as u32)),
        };
        let verdict = match choose(image, route_config, &mut *head, dice) {
            Ok(choice) => Verdict::Chosen(choice),
            Err(undecided) => match undecided.reason {
                Reason::NoRoute => Verdict::NoRoute,
                Reason::NoEndpoint => Verdict::Route(undecided.route & (ROUTES_MAX as u32 - 1)),
                Reason::Redirect | Reason::DirectResponse | Reason::NoCluster => {
                    let route = undecided.route & (ROUTES_MAX as u32 - 1);
                    Verdict::Answered(route, undecided.reason)
                }
                reason => Verdict::Refused(reason as u32),
            },
        };
        let server = match (verdict, admit(&head, total)) {
            (Verdict::Chosen(_), Ok(())) => Server::Kernel,
            (Verdict::Chosen(_), Err(reason)) | (Verdict::Answered(_, reason), _) => {
                Server::User(reason.name().to_owned())
            }
            (Verdict::NoRoute, _) => Server::User(Reason::NoRoute.name().to_owned()),
            _ => Server::User(Reason::NoEndpoint.name().to_owned()),
        };
        Self {
            verdict,
            server: Some(server),
        }
    }
}

/// Chance as written down: the numbers in order, then zeros.
#[derive(Debug, Default)]
pub(crate) struct Numbers(VecDeque<u32>);

impl Numbers {
    pub(crate) fn new(numbers: &[u32]) -> Self {
        Self(numbers.iter().copied().collect())
    }
}

impl Dice for Numbers {
    fn random(&mut self) -> u32 {
        self.0.pop_front().unwrap_or_default()
    }

    fn turn(&mut self, _: u32) -> u32 {
        self.random()
    }
}

//! The datapath's own decision code on compiled tables, run natively.

use std::collections::VecDeque;

use kmesh_api::head::Head;
use kmesh_api::limits::HEAD_MAX;
use kmesh_api::{Image, Reason};
use kmesh_orchestration::http1::{Length, Outcome, begin_request, request_length, scan};
use kmesh_orchestration::{Choice, Dice, decide};

/// What the decision code made of a head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It goes there.
    Chosen(Choice),
    /// 404.
    NoRoute,
    /// 503.
    NoEndpoint,
    /// This route answers by itself.
    Answered(u32),
    /// 503: the header that should name this route's cluster does not.
    NoCluster(u32),
    /// The head is not complete.
    Partial,
    /// The kernel leaves it to user space; the number of a [`Reason`].
    Refused(u32),
}

/// The decision code with a buffer for heads.
pub struct Native<'i> {
    image: &'i Image,
    head: Box<Head<HEAD_MAX>>,
}

impl<'i> Native<'i> {
    /// A judge that decides by `image`.
    pub fn new(image: &'i Image) -> Self {
        Self {
            image,
            head: Box::new(Head::new()),
        }
    }

    /// Decides on the head that `bytes` begin with, for a route configuration of the image.
    pub fn judge(&mut self, route_config: u32, bytes: &[u8], dice: &mut impl Dice) -> Verdict {
        let bytes = &bytes[..bytes.len().min(HEAD_MAX)];
        begin_request(&mut *self.head);
        self.head.bytes[..bytes.len()].copy_from_slice(bytes);
        self.head.length = bytes.len() as u32;
        match scan(self.image, &mut *self.head) {
            Outcome::Complete => {}
            Outcome::Partial => return Verdict::Partial,
            Outcome::Refused(reason) => return Verdict::Refused(reason),
        }
        if let Length::Unknown(reason) = request_length(&self.head) {
            return Verdict::Refused(reason as u32);
        }
        match decide(self.image, route_config, &mut *self.head, dice) {
            Ok(choice) => Verdict::Chosen(choice),
            Err(undecided) => Verdict::undecided(undecided.reason as u32, undecided.route),
        }
    }
}

impl Verdict {
    /// For a request that goes nowhere: the number of the [`Reason`] and the route.
    pub(crate) fn undecided(reason: u32, route: u32) -> Self {
        let is = |one: Reason| one as u32 == reason;
        if is(Reason::NoRoute) {
            Self::NoRoute
        } else if is(Reason::NoEndpoint) {
            Self::NoEndpoint
        } else if is(Reason::Redirect) || is(Reason::DirectResponse) {
            Self::Answered(route)
        } else if is(Reason::NoCluster) {
            Self::NoCluster(route)
        } else {
            Self::Refused(reason)
        }
    }
}

/// Chance that goes as written: random numbers and turns from a list, zeros when it is used up.
#[derive(Clone, Debug, Default)]
pub struct ScriptedDice {
    /// The numbers to come.
    pub numbers: VecDeque<u32>,
    /// The counters whose turn was taken, in order.
    pub turns: Vec<u32>,
}

impl ScriptedDice {
    /// Dice that give these numbers.
    pub fn new(numbers: impl IntoIterator<Item = u32>) -> Self {
        Self {
            numbers: numbers.into_iter().collect(),
            turns: Vec::new(),
        }
    }
}

impl Dice for ScriptedDice {
    fn random(&mut self) -> u32 {
        self.numbers.pop_front().unwrap_or_default()
    }

    fn turn(&mut self, counter: u32) -> u32 {
        self.turns.push(counter);
        self.random()
    }
}

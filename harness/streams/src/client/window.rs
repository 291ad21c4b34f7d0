//! The messages on their way on one connection, between the thread that sends and the one that receives.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use crate::plan::Message;

/// A message on its way.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sent {
    pub(super) message: Message,
    /// The configuration that was surely in force when its first byte was sent.
    pub(super) generation: u64,
}

/// What both threads know.
#[derive(Debug, Default)]
struct State {
    sent: VecDeque<Sent>,
    /// A `100 Continue` came for the last of them.
    go_on: bool,
    /// No more messages: either side has seen the end.
    over: bool,
}

/// The window of one connection.
#[derive(Debug)]
pub(super) struct Window {
    state: Mutex<State>,
    changed: Condvar,
    depth: usize,
}

impl Window {
    pub(super) fn new(depth: usize) -> Self {
        Self {
            state: Mutex::default(),
            changed: Condvar::new(),
            depth,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait_while(&self, blocked: impl Fn(&State) -> bool) -> MutexGuard<'_, State> {
        let waited = self
            .changed
            .wait_while(self.state(), |state| blocked(state));
        waited.unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for room. False if the connection is over.
    pub(super) fn await_room(&self) -> bool {
        !self
            .wait_while(|state| !state.over && state.sent.len() >= self.depth)
            .over
    }

    /// Whether one more message would fit behind the one that is about to be sent.
    pub(super) fn has_room_for_another(&self) -> bool {
        self.state().sent.len() < self.depth
    }

    /// Notes a message that is about to be sent; true if others are on their way.
    pub(super) fn push(&self, sent: Sent) -> bool {
        let mut state = self.state();
        state.sent.push_back(sent);
        state.go_on = false;
        self.changed.notify_all();
        state.sent.len() > 1
    }

    /// The oldest message on its way; `None` if the connection is over and nothing is.
    pub(super) fn oldest(&self) -> Option<Sent> {
        let state = self.wait_while(|state| !state.over && state.sent.is_empty());
        state.sent.front().copied()
    }

    /// The oldest message has been answered.
    pub(super) fn pop(&self) {
        self.state().sent.pop_front();
        self.changed.notify_all();
    }

    /// A `100 Continue` came.
    pub(super) fn go_on(&self) {
        self.state().go_on = true;
        self.changed.notify_all();
    }

    /// Waits for a `100 Continue` to the message just sent, or its answer. False if the connection is over.
    pub(super) fn await_go_on(&self) -> bool {
        !self
            .wait_while(|state| !state.over && !state.go_on && !state.sent.is_empty())
            .over
    }

    /// No more messages.
    pub(super) fn end(&self) {
        self.state().over = true;
        self.changed.notify_all();
    }

    /// How many messages are left without an answer.
    pub(super) fn left(&self) -> usize {
        self.state().sent.len()
    }
}

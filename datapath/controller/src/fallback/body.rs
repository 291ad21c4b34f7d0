//! Request and response bodies on their way through user space.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt as _, Full};
use hyper::HeaderMap;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::sync::watch;
use tokio::time::{Instant, Sleep, sleep_until};

use super::anchor::Anchor;
use super::exchange::After;

/// Whatever ends a body early.
pub(super) type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Most request bytes kept for a retry or a mirror; Envoy's default `per_connection_buffer_limit_bytes`.
const KEPT_MAX: usize = 1024 * 1024;

/// A request's body, recorded while it is read, so that it can be read again.
pub(super) struct Tape {
    state: Mutex<State>,
    /// When all of it was read.
    end: watch::Sender<Option<Instant>>,
}

struct State {
    source: Option<Incoming>,
    /// What was read, from the first byte on, unless it is `lost`.
    kept: Vec<Bytes>,
    trailers: Option<HeaderMap>,
    size: usize,
    /// Bytes that were read are not kept: the body cannot be read again.
    lost: bool,
    keep: bool,
    /// When something was read last.
    moved: Instant,
}

impl Tape {
    /// A tape of `source`; kept for reading again if `keep`.
    pub(super) fn new(source: Incoming, keep: bool) -> Arc<Self> {
        let ended = source.is_end_stream();
        Arc::new(Self {
            state: Mutex::new(State {
                source: Some(source),
                kept: Vec::new(),
                trailers: None,
                size: 0,
                lost: false,
                keep,
                moved: Instant::now(),
            }),
            end: watch::Sender::new(ended.then(Instant::now)),
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a new reader would get all of it.
    pub(super) fn can_replay(&self) -> bool {
        !self.state().lost
    }

    /// Waits until all of the request was read, and says when that was.
    pub(super) async fn ended(&self) -> Instant {
        let mut end = self.end.subscribe();
        let ended = end.wait_for(Option::is_some).await;
        ended.ok().and_then(|at| *at).unwrap_or_else(Instant::now)
    }

    /// When all of the request was read, if it was.
    pub(super) fn ended_at(&self) -> Option<Instant> {
        *self.end.borrow()
    }

    /// Waits until nothing of the request was read for so long.
    pub(super) async fn is_still(&self, patience: Duration) {
        let mut moved = self.state().moved;
        loop {
            sleep_until(moved + patience).await;
            let last = self.state().moved;
            if last == moved {
                return;
            }
            moved = last;
        }
    }

    /// All of the body at once, if it was read to its end and kept.
    pub(super) fn copy(&self) -> Option<Bytes> {
        let state = self.state();
        let whole = self.ended_at().is_some() && !state.lost;
        whole.then(|| state.kept.concat().into())
    }

    /// Nobody will read the rest: whoever waits for a copy gets none.
    pub(super) fn abandon(&self) {
        if self.ended_at().is_none() {
            self.state().lost = true;
            self.finish();
        }
    }

    fn finish(&self) {
        self.end.send_if_modified(|at| {
            let first = at.is_none();
            *at = at.or_else(|| Some(Instant::now()));
            first
        });
    }
}

/// Reads a tape from its beginning.
pub(super) struct Reader {
    tape: Arc<Tape>,
    at: usize,
    trailed: bool,
}

impl Reader {
    /// A reader at the beginning.
    pub(super) fn new(tape: &Arc<Tape>) -> Self {
        Self {
            tape: Arc::clone(tape),
            at: 0,
            trailed: false,
        }
    }
}

impl Body for Reader {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = &mut *self;
        let mut state = this.tape.state();
        if let Some(bytes) = state.kept.get(this.at) {
            this.at += 1;
            return Poll::Ready(Some(Ok(Frame::data(bytes.clone()))));
        }
        if let Some(source) = state
            .source
            .as_mut()
            .filter(|source| !source.is_end_stream())
        {
            let frame = ready!(Pin::new(source).poll_frame(context));
            state.moved = Instant::now();
            match frame {
                Some(Err(error)) => {
                    // What was kept of it is not all of it: nobody may read it to an end that looks like one.
                    state.lost = true;
                    state.kept.clear();
                    return Poll::Ready(Some(Err(error.into())));
                }
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => {
                        state.size += data.len();
                        if state.keep && state.size <= KEPT_MAX && !state.lost {
                            state.kept.push(data.clone());
                            this.at += 1;
                        } else {
                            state.lost = true;
                            this.at = 0;
                            state.kept.clear();
                        }
                        if state.source.as_ref().is_some_and(Body::is_end_stream) {
                            this.tape.finish();
                        }
                        return Poll::Ready(Some(Ok(Frame::data(data))));
                    }
                    Err(frame) => state.trailers = frame.into_trailers().ok(),
                },
                None => {}
            }
        }
        state.source = None;
        this.tape.finish();
        if let Some(trailers) = state.trailers.as_ref().filter(|_| !this.trailed) {
            this.trailed = true;
            return Poll::Ready(Some(Ok(Frame::trailers(trailers.clone()))));
        }
        Poll::Ready(None)
    }

    fn is_end_stream(&self) -> bool {
        let state = self.tape.state();
        let over = state.source.as_ref().is_none_or(Body::is_end_stream);
        over && self.at >= state.kept.len() && (state.trailers.is_none() || self.trailed)
    }

    fn size_hint(&self) -> SizeHint {
        let state = self.tape.state();
        let unread: usize = state.kept.iter().skip(self.at).map(Bytes::len).sum();
        let rest = (state.source.as_ref()).map_or(SizeHint::with_exact(0), Body::size_hint);
        let mut hint = SizeHint::new();
        hint.set_lower(rest.lower() + unread as u64);
        if let Some(upper) = rest.upper() {
            hint.set_upper(upper + unread as u64);
        }
        hint
    }
}

/// A response body on its way to the client. Its end counts as the answer to one request.
pub(super) struct Answer {
    inner: BoxBody<Bytes, BoxError>,
    anchor: Arc<Anchor>,
    after: Option<After>,
    finished: bool,
    /// The response must be complete by then.
    limit: Option<Pin<Box<Sleep>>>,
    /// Longest time between two pieces, and when the next one must be there.
    patience: Option<(Duration, Pin<Box<Sleep>>)>,
    /// It ends an HTTP exchange; a switch of protocols does not.
    counts: bool,
}

impl Answer {
    /// A body made here.
    pub(super) fn made(anchor: &Arc<Anchor>, bytes: Bytes) -> Self {
        let body = Full::new(bytes).map_err(|never| match never {});
        Self {
            inner: body.boxed(),
            anchor: Arc::clone(anchor),
            after: None,
            finished: true,
            limit: None,
            patience: None,
            counts: true,
        }
    }

    /// No body, and no HTTP after it: `101 Switching Protocols`.
    pub(super) fn switch(anchor: &Arc<Anchor>) -> Self {
        let mut switch = Self::made(anchor, Bytes::new());
        switch.counts = false;
        switch
    }

    /// An upstream's body; `after` it the connection may be used again.
    pub(super) fn stream(anchor: &Arc<Anchor>, body: Incoming, after: After) -> Self {
        let finished = body.is_end_stream();
        Self {
            inner: body.map_err(Into::into).boxed(),
            anchor: Arc::clone(anchor),
            after: Some(after),
            finished,
            limit: None,
            patience: None,
            counts: true,
        }
    }

    /// Breaks off if nothing comes for so long.
    pub(super) fn be_patient(&mut self, patience: Duration) {
        self.patience = Some((patience, Box::pin(sleep_until(Instant::now() + patience))));
    }

    /// Breaks off at `deadline`.
    pub(super) fn limit(&mut self, deadline: Instant) {
        self.limit = Some(Box::pin(sleep_until(deadline)));
    }
}

impl Body for Answer {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if let Some(limit) = &mut self.limit
            && limit.as_mut().poll(context).is_ready()
        {
            return Poll::Ready(Some(Err("the route's time limit".into())));
        }
        if let Some((_, idle)) = &mut self.patience
            && idle.as_mut().poll(context).is_ready()
        {
            return Poll::Ready(Some(Err("the route's idle timeout".into())));
        }
        let frame = ready!(Pin::new(&mut self.inner).poll_frame(context));
        if let Some((patience, idle)) = &mut self.patience {
            idle.as_mut().reset(Instant::now() + *patience);
        }
        self.finished = frame.is_none() || self.inner.is_end_stream();
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

impl Drop for Answer {
    /// The connection drops a body when it has taken all of it, or when the client is gone.
    fn drop(&mut self) {
        if self.counts {
            self.anchor.answer_complete();
        }
        if let Some(after) = self.after.take()
            && self.finished
        {
            after.complete();
        }
    }
}

//! The event loop: starts what is due, reads what arrives, keeps the books.
//!
//! ```text
//!          due                writable             answer complete
//! Idle ──────────▶ Connecting ────────▶ (Greeting) ──▶ Busy ──────────────▶ Idle
//!   └────────────────── socket is open ────────────────▲       error, timeout ▶ Idle (socket closed)
//! ```
//!
//! Free connections wait in a queue and are taken from its front, so load spreads evenly over all
//! connections and targets, and in an open loop a request that finds the queue empty waits with its
//! due time unchanged.

use std::collections::VecDeque;
use std::io;
use std::os::fd::AsFd;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use kmesh_origin::poller::{Poller, Ready};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use crate::block::Run;
use crate::ledger::{Frame, Ledger, Request};
use crate::mix::Mix;
use crate::plan::{Arrivals, Idle, Pace, Plan, PlanError, Protocol, Reuse};
use crate::request::{Template, first_seq, seq_digits};
use crate::response::{Progress, ResponseReader};
use crate::result::{BlockResult, ErrorKind};
use crate::slot::{EchoReader, Phase, Reader, Slot};
use crate::spin::SpinMeter;

pub use crate::block::{Block, Snapshot};

/// Bytes taken from a socket in one read.
const READ_BYTES: usize = 64 << 10;
/// Token of the descriptor that stops a block.
const STOP: u64 = u64::MAX;
/// How long before a due time the generator stops sleeping: above the wake-up latency of an idle CPU.
const SPIN_NS: u64 = 150_000;
/// How often deadlines are looked at.
const TICK_NS: u64 = 10_000_000;
/// How much longer the first request of each connection may take for every connection that is opened with it.
const OPEN_NS: u64 = 10 * NS_PER_MS;
/// Nanoseconds.
const NS_PER_MS: u64 = 1_000_000;
/// Pause of a connection after an error in a closed loop, which would otherwise spin on a dead target.
const COOL_NS: u64 = 10_000_000;

/// A plan with its connections.
#[derive(Debug)]
pub struct Engine {
    plan: Plan,
    templates: Vec<Template>,
    mix: Mix,
    poller: Poller,
    slots: Vec<Slot>,
    /// Slots with nothing under way, longest idle first.
    idle: VecDeque<usize>,
    /// Slots that pause after an error, with the time they may go on.
    cooling: VecDeque<(u64, usize)>,
    epoch: Instant,
    seq: u64,
    blocks: u64,
    rng: SmallRng,
    buffer: Vec<u8>,
    stop_requested: bool,
    /// How long a request may take.
    patience_ns: u64,
}

impl Engine {
    /// Checks the plan and prepares its requests; opens no connection yet.
    ///
    /// # Errors
    /// When the plan is not valid or the kernel refuses an epoll instance.
    pub fn new(plan: Plan) -> Result<Self, EngineError> {
        plan.validate()?;
        let templates = Template::all(&plan);
        let weights: Vec<u32> = match plan.protocol {
            Protocol::Http => plan.mix.iter().map(|class| class.weight).collect(),
            Protocol::TcpEcho { .. } => vec![1],
        };
        let reader = || match plan.protocol {
            Protocol::Http => Reader::Http(ResponseReader::default()),
            Protocol::TcpEcho { .. } => Reader::Echo(EchoReader::default()),
        };
        let count = plan.connections as usize;
        let targets = plan.targets.iter().cycle().take(count);
        Ok(Self {
            mix: match &plan.replay {
                Some(replay) => Mix::in_order(replay.order.clone()),
                None => Mix::new(&weights, plan.seed),
            },
            templates,
            poller: Poller::new(count.min(1024)).map_err(EngineError::Poll)?,
            slots: targets.map(|target| Slot::new(*target, reader())).collect(),
            idle: (0..count).collect(),
            cooling: VecDeque::new(),
            epoch: Instant::now(),
            seq: first_seq(),
            blocks: 0,
            rng: SmallRng::seed_from_u64(plan.seed ^ 0x5eed),
            buffer: vec![0; READ_BYTES],
            stop_requested: false,
            patience_ns: u64::from(plan.timeout_ms) * NS_PER_MS,
            plan,
        })
    }

    /// Ends the block under way, and every later one at once, when `fd` becomes readable.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn stop_on(&mut self, fd: &impl AsFd) -> Result<(), EngineError> {
        self.poller.add_level(fd, STOP).map_err(EngineError::Poll)
    }

    /// Sends one request on every connection, opening it. Wrong answers are in the result.
    ///
    /// # Errors
    /// When any request has no complete answer.
    pub fn open(&mut self) -> Result<BlockResult, EngineError> {
        let requests = u64::from(self.plan.connections);
        let block = Block {
            requests: Some(requests),
            rate: Some(0.0),
            ..Block::default()
        };
        // All at once: the last to be served waits for all others, and none of it is measured.
        let usual = self.patience_ns;
        self.patience_ns += requests * OPEN_NS;
        let outcome = self.run(block, &mut |_| {});
        self.patience_ns = usual;
        let result = outcome?;
        if result.errors() == 0 {
            return Ok(result);
        }
        let first = result.examples.first().cloned().unwrap_or_default();
        Err(EngineError::Open {
            failed: result.errors(),
            requests,
            first,
        })
    }

    /// Connections that are open now.
    pub fn open_connections(&self) -> u32 {
        self.slots
            .iter()
            .filter(|slot| slot.stream.is_some())
            .count() as u32
    }

    /// Runs one block; `observe` is called about once a second.
    ///
    /// # Errors
    /// When the rate is out of range or the kernel refuses to wait for events. Failed requests are no
    /// error here: they are in the result.
    pub fn run(
        &mut self,
        block: Block,
        observe: &mut dyn FnMut(&Snapshot),
    ) -> Result<BlockResult, EngineError> {
        let pace = self.pace(&block)?;
        let mut run = self.begin(&block, pace);
        let started_unix = SystemTime::now() + block.warmup;
        let mut next_tick = run.start_ns + TICK_NS;
        let mut next_report = run.measure_ns + 1_000_000_000;
        let mut spin = SpinMeter::default();
        loop {
            let mut now = self.now();
            let begun_ns = now;
            let in_flight = run.in_flight;
            if !run.stopping && (run.is_over(now) || self.stop_requested) {
                run.stop(now);
                self.idle
                    .extend(self.cooling.drain(..).map(|(_, slot)| slot));
            }
            if !run.stopping {
                now = self.start_due(&mut run, now);
            }
            if run.stopping && run.in_flight == 0 {
                break;
            }
            if now >= next_tick {
                self.check_deadlines(&mut run, now);
                next_tick = now + TICK_NS;
            }
            if now >= next_report {
                observe(&run.snapshot(now));
                next_report += 1_000_000_000;
            }
            let timeout = self.timeout(&run, now, next_tick.min(next_report));
            let ready = self.poller.wait(Some(timeout)).map_err(EngineError::Poll)?;
            if ready == 0 && timeout.is_zero() && run.in_flight == in_flight {
                spin.empty_round(begun_ns, self.now());
            } else {
                spin.busy_round();
            }
            for index in 0..ready {
                let event = self.poller.ready(index);
                if event.token == STOP {
                    self.stop_requested = true;
                } else {
                    self.on_ready(&mut run, event);
                }
            }
        }
        run.end_ns = run.end_ns.min(self.now());
        let frame = Frame {
            started_unix_ns: started_unix
                .duration_since(UNIX_EPOCH)
                .map_or(0, |since| since.as_nanos() as u64),
            duration_s: run.end_ns.saturating_sub(run.measure_ns) as f64 / 1e9,
            offered_rps: match pace {
                Pace::Closed => None,
                Pace::Open { rate, .. } => Some(rate),
            },
            spun_us: spin.spun_us(),
        };
        Ok(run.ledger.close(&self.templates, frame))
    }

    fn pace(&self, block: &Block) -> Result<Pace, EngineError> {
        match block.rate {
            None => Ok(self.plan.pace),
            Some(0.0) => Ok(Pace::Closed),
            Some(rate) => {
                crate::plan::check_rate(rate)?;
                let arrivals = match self.plan.pace {
                    Pace::Open { arrivals, .. } => arrivals,
                    Pace::Closed => Arrivals::Uniform,
                };
                Ok(Pace::Open { rate, arrivals })
            }
        }
    }

    fn begin(&mut self, block: &Block, pace: Pace) -> Run {
        self.blocks += 1;
        let start_ns = self.now();
        // Ready since now: an idle connection is no reason for lag.
        for slot in &mut self.slots {
            slot.free_since_ns = start_ns;
        }
        let seed = self.plan.seed.wrapping_add(self.blocks);
        let ledger = Ledger::new(self.templates.len(), pace != Pace::Closed, self.plan.seq);
        let due_us = match &self.plan.replay {
            Some(replay) => replay.due_us.as_slice(),
            None => &[],
        };
        Run::new(block, pace, ledger, (seed, due_us), start_ns)
    }

    /// Starts every request that is due and has a free connection; returns the time afterwards.
    fn start_due(&mut self, run: &mut Run, mut now: u64) -> u64 {
        while self.cooling.front().is_some_and(|(until, _)| *until <= now) {
            self.idle
                .extend(self.cooling.pop_front().map(|(_, slot)| slot));
        }
        while let Some(due) = run.due(now) {
            let Some(index) = self.idle.pop_front() else {
                break;
            };
            run.take();
            self.start(run, index, due, now);
            now = self.now();
        }
        now
    }

    /// Starts one request on a free slot.
    fn start(&mut self, run: &mut Run, index: usize, due_ns: u64, now: u64) {
        let class = self.mix.deal();
        self.seq = self.seq.wrapping_add(1);
        let slot = &mut self.slots[index];
        slot.request = Request {
            class,
            seq: seq_digits(self.seq),
            due_ns,
            start_ns: now,
            sent_ns: now,
            first_byte_ns: 0,
            counted: due_ns >= run.measure_ns,
        };
        slot.deadline_ns = now + self.patience_ns;
        run.ledger.start(&slot.request, slot.free_since_ns);
        run.in_flight += 1;
        if slot.stream.is_some() {
            self.send(run, index);
            return;
        }
        slot.limit = match self.plan.reuse {
            Reuse::Keepalive => u32::MAX,
            Reuse::Short { .. } => 1,
            Reuse::Range { min, max } => self.rng.random_range(min..=max),
        };
        slot.phase = Phase::Connecting;
        let token = token(index, slot.generation);
        let outcome = slot
            .connect()
            .and_then(|stream| self.poller.add(stream, token));
        if let Err(error) = outcome {
            self.fail(run, index, connect_error(&error), &error.to_string());
        }
    }

    /// Writes the request of a slot whose socket is connected.
    fn send(&mut self, run: &mut Run, index: usize) {
        let slot = &mut self.slots[index];
        slot.phase = Phase::Busy;
        match slot.send(&mut self.templates[slot.request.class]) {
            Ok(bytes) => {
                run.ledger.bytes_out += if slot.request.counted {
                    bytes as u64
                } else {
                    0
                }
            }
            Err(error) => self.fail(run, index, io_error(&error), &format!("write: {error}")),
        }
    }

    fn on_ready(&mut self, run: &mut Run, event: Ready) {
        let (index, generation) = (event.token as u32 as usize, (event.token >> 32) as u32);
        let Some(slot) = self
            .slots
            .get(index)
            .filter(|slot| slot.generation == generation)
        else {
            return;
        };
        if slot.stream.is_none() {
            return;
        }
        if slot.phase == Phase::Connecting && event.writable {
            self.on_connected(run, index);
        } else if event.writable
            && let Err(error) = self.slots[index].flush()
        {
            self.fail(run, index, io_error(&error), &format!("write: {error}"));
        }
        if event.readable {
            self.on_readable(run, index, generation, event.hangup);
        }
    }

    fn on_connected(&mut self, run: &mut Run, index: usize) {
        let now = self.now();
        let slot = &mut self.slots[index];
        let outcome = match &slot.stream {
            Some(stream) => stream
                .take_error()
                .and_then(|error| error.map_or(Ok(()), Err)),
            None => return,
        };
        if let Err(error) = outcome {
            self.fail(run, index, connect_error(&error), &error.to_string());
            return;
        }
        if slot.request.counted {
            run.ledger.connected(now - slot.request.start_ns);
        }
        if matches!(self.plan.protocol, Protocol::TcpEcho { banner: true, .. }) {
            slot.phase = Phase::Greeting;
            return;
        }
        slot.request.sent_ns = now;
        self.send(run, index);
    }

    /// Reads until the socket is empty; `generation` tells when it was replaced meanwhile.
    fn on_readable(&mut self, run: &mut Run, index: usize, generation: u32, hangup: bool) {
        let mut buffer = std::mem::take(&mut self.buffer);
        while self.slots[index].generation == generation && self.slots[index].stream.is_some() {
            match self.slots[index].read(&mut buffer) {
                Ok(None) => break,
                Ok(Some(0)) => {
                    self.on_end_of_input(run, index);
                    break;
                }
                Ok(Some(read)) => {
                    // A short read empties a TCP socket (epoll(7)), but in a socket map maybe only the queue of redirected
                    // bytes, with TCP bytes behind them whose edge is past: an answer may come both ways.
                    let begun = self.on_bytes(run, index, &buffer[..read], hangup);
                    if read < buffer.len() && !hangup && !begun {
                        break;
                    }
                }
                Err(error) => {
                    self.fail(run, index, io_error(&error), &format!("read: {error}"));
                    break;
                }
            }
        }
        self.buffer = buffer;
    }

    /// Takes what was read; whether it is part of an answer the rest of which is to come.
    fn on_bytes(&mut self, run: &mut Run, index: usize, mut bytes: &[u8], hangup: bool) -> bool {
        let now = self.now();
        let slot = &mut self.slots[index];
        if slot.phase == Phase::Greeting {
            let Some(used) = slot.reader.greet(bytes) else {
                return true;
            };
            bytes = &bytes[used..];
            slot.request.sent_ns = now;
            self.send(run, index);
            if bytes.is_empty() {
                return false;
            }
        }
        let slot = &mut self.slots[index];
        if slot.phase != Phase::Busy {
            run.ledger.stray_bytes += bytes.len() as u64;
            slot.disconnect(false);
            return false;
        }
        if slot.request.first_byte_ns == 0 {
            slot.request.first_byte_ns = now;
        }
        if slot.request.counted {
            run.ledger.bytes_in += bytes.len() as u64;
        }
        let template = &self.templates[slot.request.class];
        match slot.reader.feed(bytes, template, &slot.request.seq) {
            Ok(Progress::More) => return true,
            Ok(Progress::Done(used)) => {
                let stray = bytes.len() - used;
                run.ledger.stray_bytes += stray as u64;
                self.complete(run, index, now, stray == 0 && !hangup);
            }
            Err(error) => self.fail(run, index, ErrorKind::Parse, &error.to_string()),
        }
        false
    }

    fn on_end_of_input(&mut self, run: &mut Run, index: usize) {
        let slot = &mut self.slots[index];
        if slot.phase == Phase::Idle {
            // The server ended a connection at rest, which it may; the next request opens another.
            slot.disconnect(false);
            return;
        }
        if slot.phase == Phase::Busy
            && slot
                .reader
                .end_of_input(&self.templates[slot.request.class])
        {
            let now = self.now();
            self.complete(run, index, now, false);
            return;
        }
        self.fail(
            run,
            index,
            ErrorKind::Closed,
            "closed before the answer was complete",
        );
    }

    /// The answer of a slot is complete: books it, and frees the slot or starts its next request.
    fn complete(&mut self, run: &mut Run, index: usize, now: u64, reusable: bool) {
        let slot = &mut self.slots[index];
        let answer = slot.reader.answer();
        run.ledger.complete(
            &slot.request,
            &self.templates[slot.request.class],
            answer,
            now,
            run.is_measured(now),
        );
        let reusable = reusable && answer.keep_alive && slot.unsent.is_empty();
        slot.answered += 1;
        slot.phase = Phase::Idle;
        slot.free_since_ns = now;
        slot.deadline_ns = u64::MAX;
        if !reusable || slot.answered >= slot.limit {
            slot.disconnect(matches!(self.plan.reuse, Reuse::Short { reset: true, .. }));
        }
        run.in_flight -= 1;
        if run.is_closed_loop() && run.due(now).is_some() {
            run.take();
            self.start(run, index, now, now);
        } else {
            self.idle.push_back(index);
        }
    }

    /// The request of a slot failed, or its connection broke while at rest.
    fn fail(&mut self, run: &mut Run, index: usize, kind: ErrorKind, detail: &str) {
        let now = self.now();
        let slot = &mut self.slots[index];
        slot.disconnect(false);
        if slot.phase == Phase::Idle {
            return;
        }
        let detail = format!("{}: {detail}", slot.target);
        run.ledger.fail(
            &slot.request,
            &self.templates[slot.request.class],
            kind,
            &detail,
        );
        slot.phase = Phase::Idle;
        slot.free_since_ns = now;
        slot.deadline_ns = u64::MAX;
        run.in_flight -= 1;
        if run.is_closed_loop() && !run.stopping {
            self.cooling.push_back((now + COOL_NS, index));
        } else {
            self.idle.push_back(index);
        }
    }

    fn check_deadlines(&mut self, run: &mut Run, now: u64) {
        for index in 0..self.slots.len() {
            if self.slots[index].deadline_ns <= now {
                let within_ms = self.patience_ns / NS_PER_MS;
                let detail = format!("no complete answer within {within_ms} ms");
                self.fail(run, index, ErrorKind::Timeout, &detail);
            }
        }
    }

    /// How long to sleep.
    fn timeout(&self, run: &Run, now: u64, tick_ns: u64) -> Duration {
        let mut until = tick_ns;
        let mut spin_ns = 0;
        if !run.stopping {
            until = until.min(run.end_ns);
            if let Some((cool, _)) = self.cooling.front() {
                until = until.min(*cool);
            }
            if let Some(due) = run.next_due().filter(|_| !self.idle.is_empty()) {
                until = until.min(due);
                spin_ns = SPIN_NS;
            }
        }
        let wait = until.saturating_sub(now);
        Duration::from_nanos(match self.plan.idle {
            Idle::Spin => 0,
            Idle::Hybrid => wait.saturating_sub(spin_ns),
            Idle::Sleep => wait,
        })
    }

    fn now(&self) -> u64 {
        self.epoch.elapsed().as_nanos() as u64
    }
}

fn token(index: usize, generation: u32) -> u64 {
    u64::from(generation) << 32 | index as u64
}

fn connect_error(error: &io::Error) -> ErrorKind {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => ErrorKind::ConnectRefused,
        _ => ErrorKind::ConnectFailed,
    }
}

fn io_error(error: &io::Error) -> ErrorKind {
    match error.kind() {
        io::ErrorKind::ConnectionReset
        | io::ErrorKind::BrokenPipe
        | io::ErrorKind::ConnectionAborted => ErrorKind::Reset,
        _ => ErrorKind::Io,
    }
}

/// Why a block could not be run.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The plan or the rate is out of range.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// The kernel refused an epoll call.
    #[error("cannot wait for events")]
    Poll(#[source] io::Error),
    /// The first request on some connections got no complete answer.
    #[error("{failed} of {requests} first requests failed, the first: {first}")]
    Open {
        /// Requests without a complete answer.
        failed: u64,
        /// Requests sent: one per connection.
        requests: u64,
        /// What happened to the first of them.
        first: String,
    },
}

//! One connection: a thread that sends by plan, a thread that compares what comes back.

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use super::Job;
use super::notes::Notes;
use super::window::{Sent, Window};
use crate::body;
use crate::churn;
use crate::finding::{Finding, Kind, Tally};
use crate::head::{Head, HeadError, Receiver};
use crate::plan::{Connection, Framing, Message, Number};
use crate::segments::{Sender, Shape};
use crate::server::{MESSAGE, SERVED_BY, framing_lines, padding};
use crate::world::{self, HOST};

/// How long a connection may take to open.
const CONNECT: Duration = Duration::from_secs(10);

/// What all connections share.
pub(super) struct World<'j> {
    pub(super) job: &'j Job,
    pub(super) generations: Option<churn::Reader<'j>>,
}

/// Runs a connection of the plan; no new message is begun after `end`.
pub(super) fn run(world: &World<'_>, connection: u64, end: Instant) -> (Tally, Notes) {
    let plan = Connection::of(world.job.seed, connection);
    let number = |message| Number {
        seed: world.job.seed,
        connection,
        message,
    };
    let mut tally = Tally {
        connections: 1,
        ..Tally::default()
    };
    let stream = match connect(world.job, &plan, connection) {
        Ok(stream) => stream,
        Err(error) => {
            let what = format!("connect: {error}");
            tally.find(Finding::about(Kind::Broken, "client", number(0), &what));
            return (tally, Notes::default());
        }
    };
    let window = Window::new(plan.depth);
    let (sent, (received, notes)) = thread::scope(|scope| {
        let sending = scope.spawn(|| {
            let sent = send(world, &plan, &number, &stream, &window, end);
            window.end();
            sent
        });
        let received = receive(world, &stream, &window);
        window.end();
        (
            sending
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic)),
            received,
        )
    });
    tally.add(sent);
    tally.add(received);
    (tally, notes)
}

fn connect(job: &Job, plan: &Connection, connection: u64) -> io::Result<TcpStream> {
    let targets = if plan.ipv6 && !job.targets6.is_empty() {
        &job.targets6
    } else {
        &job.targets
    };
    let target: &SocketAddr = &targets[connection as usize % targets.len()];
    let stream = TcpStream::connect_timeout(target, CONNECT)?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Sends the connection's messages. A send that fails is the receiving thread's to report: it knows whether an announced
/// close explains it.
fn send(
    world: &World<'_>,
    plan: &Connection,
    number: &impl Fn(u32) -> Number,
    stream: &TcpStream,
    window: &Window,
    end: Instant,
) -> Tally {
    let mut tally = Tally::default();
    let Ok(mut sender) = Sender::new(stream, plan.nonblocking) else {
        return tally;
    };
    for index in 0..plan.messages {
        if Instant::now() > end || !window.await_room() {
            break;
        }
        let message = Message::of(number(index));
        let generation = world
            .generations
            .as_ref()
            .map_or(0, churn::Reader::in_force);
        tally.pipelined += u64::from(window.push(Sent {
            message,
            generation,
        }));
        let last = index + 1 == plan.messages;
        if send_message(&mut sender, &message, window, last).is_err() {
            break;
        }
    }
    // What a glued message kept back, when time is up.
    let message = Message::of(number(0));
    let _ = sender.flush(&message.request, &mut Shape::of(&message.request));
    tally.bytes_sent = sender.sent;
    tally
}

fn send_message(
    sender: &mut Sender<'_>,
    message: &Message,
    window: &Window,
    last: bool,
) -> io::Result<()> {
    let side = &message.request;
    let mut shape = Shape::of(side);
    sender.keep(request_head(message, last).as_bytes());
    if message.expect {
        sender.flush(side, &mut shape)?;
        if !window.await_go_on() {
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
    }
    body::write(sender, side, &mut shape)?;
    if !last && message.glue && !sender.is_full() && window.has_room_for_another() {
        return Ok(());
    }
    sender.flush(side, &mut shape)
}

fn request_head(message: &Message, last: bool) -> String {
    let side = &message.request;
    let choice = match (message.route, message.second) {
        (crate::plan::Route::Header, true) => "x-choice: second\r\n",
        _ => "",
    };
    let expect = if message.expect {
        "expect: 100-continue\r\n"
    } else {
        ""
    };
    // Some clients say that they are about to leave.
    let close = if last && message.glue {
        "connection: close\r\n"
    } else {
        ""
    };
    format!(
        "{} {} HTTP/1.1\r\nhost: {HOST}\r\n{MESSAGE}: {}\r\nx-padding: {}\r\n{choice}{expect}{close}{}\r\n",
        message.method,
        message.path(),
        message.number.text(),
        padding(side.padding),
        framing_lines(side)
    )
}

/// Compares every answer. Ends at the last one, at an announced close, or at the first thing that is not as planned.
fn receive(world: &World<'_>, stream: &TcpStream, window: &Window) -> (Tally, Notes) {
    let mut tally = Tally::default();
    let mut notes = Notes::default();
    let mut receiver = Receiver::new(stream);
    let mut server = None;
    while let Some(sent) = window.oldest() {
        let number = sent.message.number;
        match answer(world, &mut receiver, &sent, window, &mut server) {
            Ok((name, closes)) => {
                notes.answered(number, name);
                tally.messages += 1;
                let sides = [sent.message.request, sent.message.answer];
                let any = |test: fn(&crate::plan::Side) -> bool| u64::from(sides.iter().any(test));
                tally.chunked += any(|side| side.framing == Framing::Chunked);
                tally.large += any(|side| side.length > 64 << 10);
                window.pop();
                if closes {
                    window.end();
                    tally.withdrawn = window.left() as u64;
                    break;
                }
            }
            Err((kind, what)) => {
                tally.find(Finding::about(kind, "client", number, &what));
                // The sending thread may be blocked in the middle of a message.
                let _ = stream.shutdown(std::net::Shutdown::Both);
                break;
            }
        }
    }
    let surplus = receiver.surplus();
    if surplus > 0 && tally.findings.is_empty() {
        let begin = receiver.buffer[..surplus.min(80)].escape_ascii();
        tally.find(Finding {
            kind: Kind::Wrong,
            by: "client".to_owned(),
            step: "after the last answer of a connection".to_owned(),
            what: format!("{surplus} more bytes came: {begin}"),
        });
    }
    // An announced close may leave the sending thread in the middle of a request that nobody reads.
    if tally.withdrawn > 0 {
        let _ = stream.shutdown(std::net::Shutdown::Both);
    }
    tally.bytes_received = receiver.received;
    (tally, notes)
}

type Answer = Result<(String, bool), (Kind, String)>;

/// Compares one answer with its plan: who gave it, and whether the connection ends with it.
fn answer(
    world: &World<'_>,
    receiver: &mut Receiver<'_>,
    sent: &Sent,
    window: &Window,
    server: &mut Option<String>,
) -> Answer {
    let message = &sent.message;
    let head = loop {
        match receiver.response() {
            Ok(Some(head)) if head.status == 100 => window.go_on(),
            Ok(Some(head)) => break head,
            Ok(None) => return Err((Kind::Broken, "closed without an answer".to_owned())),
            Err(HeadError::Io(error)) if error.kind() == io::ErrorKind::TimedOut => {
                return Err((Kind::Broken, "no answer: it hangs".to_owned()));
            }
            Err(error @ HeadError::Garbage { .. }) => return Err((Kind::Wrong, error.to_string())),
            Err(error) => return Err((Kind::Broken, causes(&error))),
        }
    };
    let latest = world.generations.as_ref().map_or(0, churn::Reader::latest);
    let Some(name) = head.only(SERVED_BY).map(str::to_owned) else {
        let what = format!("status {} that no server of ours gave", head.status);
        return Err((Kind::Broken, what));
    };
    check_head(message, &head).map_err(|what| (Kind::Wrong, format!("{what} ({name})")))?;
    if world.job.routed {
        if !world::may_answer(message, &name, sent.generation, latest) {
            let what = format!(
                "answered by {name}, wrong backend for {} in generations {} to {latest}",
                message.path(),
                sent.generation
            );
            return Err((Kind::Wrong, what));
        }
    } else if *server.get_or_insert_with(|| name.clone()) != name {
        return Err((
            Kind::Wrong,
            format!("answered by {name}, the connection is another's"),
        ));
    }
    if message.answer_has_body() {
        let (framing, told) = head.framing();
        body::check(receiver, &message.answer, framing, told).map_err(|error| {
            let kind = if error.is_broken() {
                Kind::Broken
            } else {
                Kind::Wrong
            };
            (kind, format!("answer of {name}: {}", causes(&error)))
        })?;
    }
    Ok((name, head.closes()))
}

fn check_head(message: &Message, head: &Head) -> Result<(), String> {
    let number = head.only(MESSAGE).unwrap_or("no number");
    if number != message.number.text() {
        return Err(format!("the answer is that of {number}"));
    }
    if head.status != message.status {
        return Err(format!(
            "status {} instead of {}",
            head.status, message.status
        ));
    }
    if head.only("x-padding") != Some(&padding(message.answer.padding)) {
        return Err("the answer's header x-padding is not as sent".to_owned());
    }
    let framing = head.framing().0;
    if message.answer_has_body() && framing != message.answer.framing {
        return Err(format!(
            "the answer's body is framed by {framing:?}, was sent with {:?}",
            message.answer.framing
        ));
    }
    Ok(())
}

/// An error with its causes in one line.
fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

//! What is sent: everything about a connection and about a message follows from numbers, on both sides alike.

use kmesh_stats::Rng;

use crate::pattern::Pattern;

/// Largest body, bytes.
pub const BODY_MAX: u64 = 64 << 20;
/// Deepest pipelining.
pub const DEPTH_MAX: usize = 16;

/// One connection of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Connection {
    /// Most requests on their way at a time, 1 to [`DEPTH_MAX`].
    pub depth: usize,
    /// How many messages it carries before the client closes it.
    pub messages: u32,
    /// Whether it goes to the service's IPv6 address.
    pub ipv6: bool,
    /// Whether the client's sends refuse to block and take up where they stopped.
    pub nonblocking: bool,
}

impl Connection {
    /// The connection of this number.
    pub fn of(seed: u64, connection: u64) -> Self {
        let mut rng = stream(seed, connection, u64::MAX);
        let depth = match rng.below(8) {
            0..4 => 1,
            4..6 => 2 + rng.below(3),
            _ => 5 + rng.below(DEPTH_MAX - 4),
        };
        let messages = match rng.below(8) {
            0 => 1,
            1..4 => 2 + rng.below(20),
            _ => 20 + rng.below(200),
        };
        Self {
            depth,
            messages: messages as u32,
            ipv6: rng.below(5) == 0,
            nonblocking: rng.coin(),
        }
    }
}

/// A message's three numbers. The request carries them in its `x-message` header, the answer brings them back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Number {
    /// Seed of the run.
    pub seed: u64,
    /// The connection.
    pub connection: u64,
    /// The message on it, from 0.
    pub message: u32,
}

impl Number {
    /// As it stands in a header.
    pub fn text(self) -> String {
        format!("{}-{}-{}", self.seed, self.connection, self.message)
    }

    /// From a header's value.
    pub fn parse(text: &str) -> Option<Self> {
        let mut fields = text.split('-');
        let number = Self {
            seed: fields.next()?.parse().ok()?,
            connection: fields.next()?.parse().ok()?,
            message: fields.next()?.parse().ok()?,
        };
        fields.next().is_none().then_some(number)
    }
}

/// Where a request belongs; [`crate::world`] gives it a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    /// Always to the first server.
    First,
    /// To the first server, or to the second if a header says so.
    Header,
    /// To the first or the second server, by weight.
    Weighted,
    /// To the server that the route leads to at that time.
    Flip,
    /// To one of the endpoints that the cluster has at that time.
    Churn,
}

/// How a body's length is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// There is no body, and no header says so.
    None,
    /// By `content-length`.
    Length,
    /// By chunks.
    Chunked,
}

/// How bytes are cut into sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cuts {
    /// Not at all.
    Whole,
    /// Into pieces of at most this many bytes.
    Pieces(usize),
}

/// One direction of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Side {
    /// Bytes of the body.
    pub length: u64,
    /// How the length is told.
    pub framing: Framing,
    /// The body's bytes.
    pub pattern: Pattern,
    /// Size of a header that only fills the head, bytes.
    pub padding: usize,
    /// How the message is cut.
    pub cuts: Cuts,
    /// Longest pause between two sends, microseconds; at most a few pauses are made.
    pub pause_us: u32,
    /// Seed of cuts, pauses and chunk sizes.
    pub shape: u64,
    /// Chunk extensions and a trailer, if chunked.
    pub ornate: bool,
}

/// A request and its answer.
#[expect(
    clippy::struct_excessive_bools,
    reason = "independent choices of a plan, not states"
)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message {
    /// Its numbers.
    pub number: Number,
    /// Where it belongs.
    pub route: Route,
    /// With [`Route::Header`]: whether the header says second.
    pub second: bool,
    /// `GET`, `HEAD`, `POST` or `PUT`.
    pub method: &'static str,
    /// Whether the client waits for `100 Continue` before it sends the body.
    pub expect: bool,
    /// Whether the client sends what follows in the same send, if it may.
    pub glue: bool,
    /// 200, 204 or 304.
    pub status: u16,
    /// Whether the server says `connection: close` and closes.
    pub close: bool,
    /// The request.
    pub request: Side,
    /// The answer.
    pub answer: Side,
}

impl Message {
    /// The message of these numbers.
    pub fn of(number: Number) -> Self {
        let mut rng = stream(number.seed, number.connection, u64::from(number.message));
        let route = match rng.below(5) {
            0 => Route::First,
            1 => Route::Header,
            2 => Route::Weighted,
            3 => Route::Flip,
            _ => Route::Churn,
        };
        let method = match rng.below(20) {
            0..9 => "GET",
            9 => "HEAD",
            10..17 => "POST",
            _ => "PUT",
        };
        let has_body = matches!(method, "POST" | "PUT");
        let status = match rng.below(40) {
            0 => 204,
            1 => 304,
            _ => 200,
        };
        let mut request = side(&mut rng);
        let mut answer = side(&mut rng);
        // Not both huge: a message is to take about a second at most.
        if request.length > 4 << 20 {
            answer.length %= 4 << 20;
        }
        if !has_body {
            request.length = 0;
            request.framing = Framing::None;
        }
        match (method, status) {
            (_, 204) => {
                answer.length = 0;
                answer.framing = Framing::None;
            }
            // RFC 9110 8.6: the length is that of a body that is not sent.
            (_, 304) | ("HEAD", _) => answer.framing = Framing::Length,
            _ => {}
        }
        Self {
            number,
            route,
            second: rng.coin(),
            method,
            expect: request.length > 0 && rng.below(30) == 0,
            glue: rng.coin(),
            status,
            close: rng.below(150) == 0,
            request,
            answer,
        }
    }

    /// Whether the answer's body is sent at all.
    pub fn answer_has_body(&self) -> bool {
        self.status == 200 && self.method != "HEAD"
    }

    /// The request's target.
    pub fn path(&self) -> String {
        let route = match self.route {
            Route::First => "first",
            Route::Header => "header",
            Route::Weighted => "weighted",
            Route::Flip => "flip",
            Route::Churn => "churn",
        };
        format!(
            "/{route}/{}/{}",
            self.number.connection, self.number.message
        )
    }
}

fn side(rng: &mut Rng) -> Side {
    let length = length(rng);
    let framing = if rng.below(3) == 0 {
        Framing::Chunked
    } else {
        Framing::Length
    };
    // Small pieces of a large body would only be slow.
    let cuts = match rng.below(4) {
        0 if length < 4 << 10 => Cuts::Pieces(1 + rng.below(40)),
        1 if length < 1 << 20 => Cuts::Pieces(64 + rng.below(20_000)),
        2 => Cuts::Pieces(16_384 + rng.below(200_000)),
        _ => Cuts::Whole,
    };
    Side {
        length,
        framing,
        pattern: Pattern::new(rng.next_u64()),
        padding: match rng.below(40) {
            0 => rng.below(12_000),
            1..8 => rng.below(1_500),
            _ => rng.below(40),
        },
        cuts,
        pause_us: match rng.below(6) {
            0 => 1 + rng.below(3_000) as u32,
            _ => 0,
        },
        shape: rng.next_u64(),
        ornate: rng.below(4) == 0,
    }
}

/// Mostly small; around the datapath's thresholds (a page, 64 KiB) often; once in a while up to [`BODY_MAX`].
fn length(rng: &mut Rng) -> u64 {
    let length = match rng.below(2_000) {
        0..300 => 0,
        300..1_000 => rng.below(1 << 10),
        1_000..1_500 => rng.below(16 << 10),
        1_500..1_700 => 64 * 1024 - 600 + rng.below(1_200),
        1_700..1_900 => rng.below(256 << 10),
        1_900..1_990 => rng.below(2 << 20),
        // The logarithm is uniform: 1 MiB as likely as 32.
        1_990..1_999 => (1 << (20 + rng.below(6))) + rng.below(1 << 20),
        _ => BODY_MAX as usize - rng.below(2) * rng.below(4096),
    };
    length as u64
}

/// Independent random numbers for every message.
fn stream(seed: u64, connection: u64, message: u64) -> Rng {
    let mut rng = Rng::new(seed);
    let mut rng = Rng::new(rng.next_u64() ^ connection.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    Rng::new(rng.next_u64() ^ message.wrapping_mul(0xd134_2543_de82_ef95))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn a_number_survives_its_header() {
        let number = Number {
            seed: 7,
            connection: 1 << 40,
            message: 3,
        };
        assert_eq!(Number::parse(&number.text()), Some(number));
        for wrong in ["", "1-2", "1-2-3-4", "1-2-x", "1--3"] {
            assert_eq!(Number::parse(wrong), None, "{wrong}");
        }
    }

    /// The point of the plan: nothing that the checker is to cover may be missing from a minute's worth of messages.
    #[test]
    fn every_kind_of_message_is_planned() {
        let mut kinds = BTreeSet::new();
        let mut lengths = Vec::new();
        for connection in 0..300 {
            let plan = Connection::of(1, connection);
            assert!((1..=DEPTH_MAX).contains(&plan.depth) && plan.messages > 0);
            kinds.insert(format!("depth {}", plan.depth));
            for number in 0..100 {
                let message = Message::of(Number {
                    seed: 1,
                    connection,
                    message: number,
                });
                kinds.insert(format!("{:?} {:?}", message.route, message.request.framing));
                kinds.insert(format!("{} {}", message.method, message.status));
                kinds.insert(format!("answer {:?}", message.answer.framing));
                assert!(message.request.length + message.answer.length <= BODY_MAX + (4 << 20));
                lengths.push(message.answer.length);
            }
        }
        assert_eq!(
            kinds.len(),
            DEPTH_MAX + 5 * 3 + 4 * 3 + 3,
            "a kind is missing: {kinds:?}"
        );
        lengths.sort_unstable();
        assert_eq!((lengths[0], lengths[lengths.len() - 1]), (0, BODY_MAX));
        assert!(lengths[lengths.len() / 2] < 4096, "mostly small");
    }
}

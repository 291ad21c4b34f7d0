//! The front: what a client sends is judged here before hyper sees it, as Envoy's HTTP/1.1 codec (Balsa) judges it.
//!
//! Parsers disagree on unusual input, and between two that disagree requests are smuggled. So hyper is handed only requests
//! that are written anew from what was understood: one line end, one blank, one framing header, chunks of one form. What
//! Envoy refuses is answered with Envoy's status, in the turn of the request it stands for.
//!
//! `httparse` is not used: it takes what Envoy refuses and the other way round (folded lines, bare CR, tabs between the parts
//! of the request line, `#`), and leaves all framing to its caller.
//!
//! ```text
//! client -> gate -> judge (line, target, fields, connection) -> hyper
//!             |  \-> chunks                                       |
//!             \---------------- orders ----------------------> service
//! ```

mod chunks;
mod connection;
#[cfg(test)]
mod edge;
pub(super) mod fields;
mod gate;
mod judge;
mod line;
mod orders;
mod rejection;
mod target;

pub(super) use self::gate::Gate;
pub(super) use self::orders::{Order, Orders};
pub(super) use self::rejection::Rejection;

/// Longest head, bytes, its end included; Envoy's default `max_request_headers_kb`.
const HEAD_MAX: usize = 60 * 1024;

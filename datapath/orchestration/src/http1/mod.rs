//! HTTP/1 messages: the head scanner and what follows from a head about the message's length.

pub(crate) mod bytes;
pub mod chunked;
pub mod framing;
pub mod scan;
mod target;

pub use framing::{Length, admit, request_length, response_length};
pub use scan::{Outcome, begin_request, begin_response, scan, slide};

//! One pod against another: what an attacker in a pod can do, and what a victim in another notices of it.
//!
//! [`run`] brings up a node with a victim, an attacker and a server for each, all enrolled; the program `kmesh-attacker` runs inside the pods, as
//! attacker ([`attack`]) or as victim ([`victim`]). Every answer says who sent it and which request it answers, so an answer of somebody else is
//! found whoever took the request.

pub mod attack;
mod error;
mod exchange;
mod node;
mod plan;
mod process;
mod resources;
pub mod rights;
mod rounds;
pub mod victim;

pub use error::IsolationError;
pub use node::Programs;
pub use rounds::{Outcome, Round, run};

//! One pod against another: what an attacker in a pod can do, and what a victim in another notices of it.
//!
//! `lab` brings up a node with a victim, an attacker and two servers, each enrolled; the program `kmesh-attacker` runs inside the pods, as
//! attacker ([`attack`]) or as victim ([`victim`]). Every answer says who sent it and which request it answers, so an answer of somebody else is
//! found whoever took the request.

pub mod attack;
pub mod lab;
pub mod victim;

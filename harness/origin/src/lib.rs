//! The pod application: a fortio-style echo server.

//! Judges of routing decisions.

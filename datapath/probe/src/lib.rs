//! Reads counters and status of the datapath.

//! Loads and drives the datapath.

//! One file per arm: how a pod's traffic travels.

//! Pure routing decisions over HTTP/1 heads.
#![no_std]

//! The command `adit`.
#![forbid(unsafe_code)]

fn main() {}

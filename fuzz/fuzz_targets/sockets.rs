//! libFuzzer leads the target `sockets` of adit-fuzz to new code.
#![no_main]

adit_fuzz_programs::program!("sockets");

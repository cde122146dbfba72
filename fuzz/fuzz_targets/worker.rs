//! libFuzzer leads the target `worker` of adit-fuzz to new code.
#![no_main]

adit_fuzz_programs::program!("worker");

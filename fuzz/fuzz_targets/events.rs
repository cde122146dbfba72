//! libFuzzer leads the target `events` of adit-fuzz to new code.
#![no_main]

adit_fuzz_programs::program!("events");

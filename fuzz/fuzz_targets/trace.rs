//! libFuzzer leads the target `trace` of adit-fuzz to new code.
#![no_main]

adit_fuzz_programs::program!("trace");

//! libFuzzer leads the target `units` of adit-fuzz to new code.
#![no_main]

adit_fuzz_programs::program!("units");

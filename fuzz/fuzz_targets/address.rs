//! libFuzzer leads the target `address` of adit-fuzz to new code.
#![no_main]

adit_fuzz_programs::program!("address");

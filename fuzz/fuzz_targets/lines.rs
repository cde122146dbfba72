//! libFuzzer leads the target `lines` of adit-fuzz to new code.
#![no_main]

adit_fuzz_programs::program!("lines");

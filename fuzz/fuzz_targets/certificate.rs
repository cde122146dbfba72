//! libFuzzer leads the target `certificate` of adit-fuzz to new code.
#![no_main]

adit_fuzz_programs::program!("certificate");

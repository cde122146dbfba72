//! libFuzzer leads the target `whole` of adit-fuzz to new code.
#![no_main]

adit_fuzz_programs::program!("whole");

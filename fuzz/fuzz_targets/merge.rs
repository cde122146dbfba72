//! libFuzzer leads the target `merge` of adit-fuzz to new code.
#![no_main]

adit_fuzz_programs::program!("merge");

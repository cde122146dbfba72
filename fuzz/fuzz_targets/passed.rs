//! libFuzzer leads the target `passed` of adit-fuzz to new code.
#![no_main]

adit_fuzz_programs::program!("passed");

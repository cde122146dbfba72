//! libFuzzer leads the target `der` of adit-fuzz to new code.
#![no_main]

adit_fuzz_programs::program!("der");

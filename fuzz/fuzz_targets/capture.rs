//! libFuzzer leads the target `capture` of adit-fuzz to new code.
#![no_main]

adit_fuzz_programs::program!("capture");

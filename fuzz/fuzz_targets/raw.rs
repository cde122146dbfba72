//! libFuzzer leads the target `raw` of adit-fuzz to new code.
#![no_main]

adit_fuzz_programs::program!("raw");

//! libFuzzer leads the target `pin` of adit-fuzz to new code.
#![no_main]

adit_fuzz_programs::program!("pin");

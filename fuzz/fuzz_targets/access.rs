//! libFuzzer leads the target `access` of adit-fuzz to new code.
#![no_main]

adit_fuzz_programs::program!("access");

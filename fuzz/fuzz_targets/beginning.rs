//! libFuzzer leads the target `beginning` of adit-fuzz to new code.
#![no_main]

adit_fuzz_programs::program!("beginning");

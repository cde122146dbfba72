//! libFuzzer leads the target `fixed` of adit-fuzz to new code.
#![no_main]

adit_fuzz_programs::program!("fixed");

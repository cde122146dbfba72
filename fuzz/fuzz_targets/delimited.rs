//! libFuzzer leads the target `delimited` of adit-fuzz to new code.
#![no_main]

adit_fuzz_programs::program!("delimited");

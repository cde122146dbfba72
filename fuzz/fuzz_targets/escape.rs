//! libFuzzer leads the target `escape` of adit-fuzz to new code.
#![no_main]

adit_fuzz_programs::program!("escape");

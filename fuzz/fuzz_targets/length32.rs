//! libFuzzer leads the target `length32` of adit-fuzz to new code.
#![no_main]

adit_fuzz_programs::program!("length32");

//! libFuzzer leads the target `proxy` of adit-fuzz to new code.
#![no_main]

adit_fuzz_programs::program!("proxy");

//! What must hold for every decoder of adit and any bytes at all.
//!
//! A [`Target`] is a function that takes bytes as a peer, a file or a user may send them, and panics
//! where a promise is broken. One list serves two: the tests of this crate, which run it over the seeds in
//! `fuzz/corpus` and over what comes of changing them; and the programs in `fuzz/`, which libFuzzer leads
//! to new code.
//!
//! A new decoder needs a function here, a line in [`TARGETS`], a program of three lines in
//! `fuzz/fuzz_targets`, and seeds. A test says which of them is missing.
//!
//! ```
//! let lines = adit_fuzz::target("lines").unwrap();
//! (lines.run)(b"\x02one\r\ntwo\n");
//! ```
#![forbid(unsafe_code)]

mod addresses;
mod admission;
mod codecs;
mod escapes;
mod events;
pub mod mutate;
mod passed;
mod pieces;
mod sockets;
mod stories;
mod tls;
mod workers;

/// One decoder, and what must hold for it.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Target {
    /// Its name: that of its program, and of its folder of seeds.
    pub name: &'static str,
    /// Panics where these bytes break a promise.
    pub run: fn(&[u8]),
}

/// Every decoder.
pub const TARGETS: &[Target] = &[
    Target { name: "lines", run: codecs::lines },
    Target { name: "delimited", run: codecs::delimited },
    Target { name: "length32", run: codecs::length32 },
    Target { name: "fixed", run: codecs::fixed },
    Target { name: "whole", run: codecs::whole },
    Target { name: "raw", run: codecs::raw },
    Target { name: "address", run: addresses::address },
    Target { name: "units", run: addresses::units },
    Target { name: "proxy", run: admission::proxy },
    Target { name: "access", run: admission::access },
    Target { name: "worker", run: workers::worker },
    Target { name: "passed", run: passed::passed },
    Target { name: "sockets", run: sockets::sockets },
    Target { name: "der", run: tls::der },
    Target { name: "certificate", run: tls::certificate },
    Target { name: "beginning", run: tls::beginning },
    Target { name: "pin", run: tls::pin },
    Target { name: "escape", run: escapes::escape },
    Target { name: "events", run: events::events },
    Target { name: "trace", run: stories::trace },
    Target { name: "capture", run: stories::capture },
    Target { name: "merge", run: stories::merge },
];

/// The target of this name.
pub fn target(name: &str) -> Option<Target> {
    TARGETS.iter().find(|target| target.name == name).copied()
}

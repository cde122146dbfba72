//! What all programs here have in common: a target of adit-fuzz by its name.

#[doc(hidden)]
pub use adit_fuzz::target;
#[doc(hidden)]
pub use libfuzzer_sys::fuzz_target;

/// A program that runs the target of this name.
#[macro_export]
macro_rules! program {
    ($name:literal) => {
        $crate::fuzz_target!(|data: &[u8]| {
            ($crate::target($name).expect("a target of this name").run)(data);
        });
    };
}

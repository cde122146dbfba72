//! A lab: what happens to streams and networks on bad days, made to happen on purpose.
//!
//! [`cut`] is a relay that splits, joins, delays and breaks what goes through it, at the bytes a seed
//! says. [`net`] makes networks of the test's own, with links that can be cut.
#![forbid(unsafe_code)]

pub mod cut;
pub mod net;
mod random;

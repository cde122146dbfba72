//! Pictures of conversations: events in, text, SVG and HTML out.
//!
//! Everything here is a pure function of the events: a picture from a file equals the live one.
//! Nothing opens a socket, asks for the time or prints.
//!
//! [`read`](read::read) makes a [`Story`] of a trace in JSON Lines, as `--trace FILE` and `--json`
//! write it: who listened, and every conversation with what each side did, in order. The pictures are
//! drawn from the story.
#![forbid(unsafe_code)]
// A foreign trace or capture must not end the program that draws it. The modules that decode are held
// to more: they neither index nor calculate without a check. Tests may panic.
#![cfg_attr(
    not(test),
    deny(
        clippy::as_conversions,
        clippy::expect_used,
        clippy::panic,
        clippy::string_slice,
        clippy::unreachable,
        clippy::unwrap_used
    )
)]

pub mod capture;
pub mod html;
pub mod jsonl;
mod line;
pub mod merge;
pub mod mermaid;
pub mod pcapng;
pub mod read;
pub mod rows;
pub mod rules;
pub mod story;
pub mod svg;
pub mod text;
mod time;

pub use story::Story;

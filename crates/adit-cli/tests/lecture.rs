//! The lecture on client/server sockets, sentence by sentence: what docs/lecture.md claims, on real
//! sockets.
//!
//! `lecture_sNN_...` proves row NN of that page, `lecture_implied_...` what follows from the lecture
//! without being said there. The files stand in the order of the slides.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on has failed")]

mod common;

#[path = "lecture/architecture.rs"]
mod architecture;
#[path = "lecture/come_and_go.rs"]
mod come_and_go;
#[path = "lecture/compared.rs"]
mod compared;
#[path = "lecture/drawn.rs"]
mod drawn;
#[path = "lecture/implied.rs"]
mod implied;
#[path = "lecture/look.rs"]
mod look;
#[path = "lecture/pictures.rs"]
mod pictures;
#[path = "lecture/relay.rs"]
mod relay;
#[path = "lecture/seen.rs"]
mod seen;
#[path = "lecture/tcp.rs"]
mod tcp;
#[path = "lecture/udp.rs"]
mod udp;

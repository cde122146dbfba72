//! Between a connection and a program: two directions, each with an end of its own.

use std::future::poll_fn;
use std::io;
use std::sync::Arc;
use std::task::Poll;

use tokio::net::UnixStream;

use super::{Ended, Process};
use crate::BoxError;
use crate::conn::{Io, Wire};
use crate::observe::Observers;
use crate::pump::{End, Pump};

/// Carries bytes both ways until the program has ended and everything that it and its group have written
/// is sent.
///
/// A program that does not read, or has ended its output, goes on: its end is its own.
pub(super) async fn carry(client: &Arc<Wire>, mut process: Process) -> Result<Ended, BoxError> {
    let Some(io) = process.take_io() else { return Ok(process.ended().await) };
    io.set_nonblocking(true)?;
    let io = Io::unix(UnixStream::from_std(io)?);
    // What goes over it is told of the connection, where it is on its way to or from the peer.
    let ends = (client.remote.clone(), client.local.clone(), client.number);
    let program = Wire::tapped(io, ends, &Observers::default());
    let (mut up, mut down) = (Pump::new(client, &program), Pump::new(&program, client));
    let mut is_silent = false;
    let carried = poll_fn(|cx| {
        if !is_silent && process.poll_silent(cx, || down.take_moved()).is_ready() {
            is_silent = true;
            // A descendant that has got away may hold the other end: it keeps nobody waiting.
            program.shut_in();
        }
        up.poll(cx);
        down.poll(cx);
        match (&mut up.end, &mut down.end) {
            // The peer is gone in both directions.
            (Some(End::Unreadable(error)), _) | (_, Some(End::Unwritable(error))) => {
                Poll::Ready(Err(std::mem::replace(error, io::ErrorKind::Other.into())))
            }
            // Also unreadable: it has ended and left input unread (unix(7)).
            (_, Some(_)) => process.poll_ended(cx).map(Ok),
            _ => Poll::Pending,
        }
    });
    Ok(carried.await?)
}

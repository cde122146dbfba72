//! The lobby: where a newcomer waits for the place of somebody who is shed for it.
//!
//! The loop that accepts does not wait: who is shed may be on a thread that is at work for somebody else,
//! and that must hold up no other newcomer. Places are given in the order in which newcomers came, whoever
//! it was that gave his up.

use std::future::Future as _;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use adit_net::accept::Accepted;
use tokio::time::timeout;

use crate::Endpoint;
use crate::accept::Door;
use crate::admission::{Refusal, Ticket, Unclosed};

/// Newcomers that wait at once, of all threads: more than come while a thread has one turn. Each takes a
/// descriptor, and nothing was read of it.
pub(crate) const LOBBY: usize = 256;
/// Longest time a newcomer waits. Whoever is shed goes within microseconds, if its thread is not at work.
const PATIENCE: Duration = Duration::from_secs(1);

/// Who has been accepted and has no place yet.
pub(crate) struct Newcomer {
    pub(crate) accepted: Accepted,
    pub(crate) remote: Endpoint,
    /// Its place among those of its source, if that is counted.
    pub(crate) ticket: Option<Ticket>,
}

/// Has somebody shed for a newcomer, and lets it in then; turns it away where nobody may be shed, or
/// nobody goes in time.
pub(crate) fn make_room(door: &Rc<Door>, newcomer: Newcomer) {
    let shared = &door.worker.shared;
    let refusal = Refusal::Full(shared.permits_max);
    let waits = Arc::clone(&shared.lobby).try_acquire_owned().ok();
    let Some(waits) = waits.filter(|_| shared.make_room()) else {
        return door.turn_away(newcomer.accepted, &newcomer.remote, refusal);
    };
    let mut permit = Box::pin(Arc::clone(&shared.permits).acquire_owned());
    // It is in the queue from here on: nobody who comes later is served before.
    if let Poll::Ready(permit) = permit.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        return match permit {
            Ok(permit) => door.let_in(newcomer, permit),
            Err(_closed) => door.turn_away(newcomer.accepted, &newcomer.remote, refusal),
        };
    }
    let door = Rc::clone(door);
    // Counted from here on: before its task has its first turn, the last door may close.
    let unclosed = Unclosed::new(&door.worker.shared);
    tokio::task::spawn_local(async move {
        match timeout(PATIENCE, permit).await {
            Ok(Ok(permit)) => door.let_in(newcomer, permit),
            _ => door.turn_away(newcomer.accepted, &newcomer.remote, refusal),
        }
        drop((waits, unclosed));
    });
}

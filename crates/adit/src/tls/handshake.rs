//! Handshakes of a server: off the accept path, bounded in time, each in the place of a conversation.
//!
//! They have no bound of their own in number: whoever shakes hands holds one of the permits that are taken
//! before accept. A smaller number of places was tried; peers that begin and stop held all of them, and
//! everybody else waited for their limit to expire.

use std::pin::pin;
use std::rc::Rc;

use adit_proto::sources::Fault;
use adit_tls::ServerTls;
use tokio::time::{Instant, timeout};

use super::TlsIo;
use super::settings::within;
use crate::admission::{Refusal, Unclosed};
use crate::conn::{Io, Socket};
use crate::introduction::Waiting;
use crate::transport::Transport as _;
use crate::worker::{Guest, Order, Welcome, Worker};
use crate::{Blame, Code, Error};

/// Puts TLS in front of what welcomes connections.
pub(crate) fn secured(inner: Rc<dyn Welcome>, tls: ServerTls) -> Rc<dyn Welcome> {
    Rc::new(Secured { inner, tls })
}

/// Shakes hands with each connection before the conversation begins.
struct Secured {
    inner: Rc<dyn Welcome>,
    tls: ServerTls,
}

impl Welcome for Secured {
    fn welcome(&self, worker: &Rc<Worker>, io: Io, guest: Guest) {
        let Io::Plain(socket) = io else { return self.inner.welcome(worker, io, guest) };
        let (worker, inner, tls) = (Rc::clone(worker), Rc::clone(&self.inner), self.tls.clone());
        let waiting = Waiting::new(&worker);
        tokio::task::spawn_local(async move {
            let unclosed = Unclosed::new(&worker.shared);
            let shaken = {
                let shaking = pin!(shake(&worker, &tls, socket, &guest));
                waiting.unless_shed(&guest.remote, shaking).await
            };
            match shaken {
                Some(io) => {
                    worker.shared.let_in();
                    waiting.end(|| inner.welcome(&worker, io, guest));
                }
                // In this order: nobody is chosen who has given his place back.
                None => drop((waiting, guest)),
            }
            drop(unclosed);
        });
    }

    fn is_secured(&self) -> bool {
        true
    }
}

/// Shakes hands; none if that has failed, which is told and counts against the source.
async fn shake(worker: &Rc<Worker>, tls: &ServerTls, socket: Socket, guest: &Guest) -> Option<Io> {
    let limit = within(worker.context.limits.handshake);
    let until = guest.arrived.checked_add(limit)?;
    let left = || until.saturating_duration_since(Instant::now());
    let late = || {
        let what = format!("no TLS handshake from {} within {limit:?}", guest.remote.place_text());
        Error::new(Code::HandshakeTimeout, Blame::Peer, what)
    };
    match timeout(left(), begins(worker, &socket)).await {
        Ok(true) => {}
        // Somebody who only looks whether the port is open has done nothing wrong.
        Ok(false) => return None,
        Err(_) => {
            refuse(worker, guest, &late());
            worker.turn_away_socket(socket);
            return None;
        }
    }
    let failed = match tls.accept(socket, guest.remote.place_text(), left()).await {
        Ok(stream) => return Some(Io::Tls(Box::new(TlsIo::new(stream)))),
        Err(failed) => failed,
    };
    let is_answered = failed.was_answered();
    let (error, socket) = failed.into_parts();
    let error = if error.code() == Code::HandshakeTimeout { late() } else { error };
    refuse(worker, guest, &error);
    let socket = socket?;
    if error.code() == Code::TlsPlainPeer && !is_answered {
        // Nobody has taken what it said: an end would look as if somebody had.
        let io = Io::Plain(socket);
        drop(io.reset_on_close());
    } else {
        worker.turn_away_socket(socket);
    }
    None
}

/// Waits for the first byte of a peer: before it, nothing is made for it. False if none will come, or the
/// server is to end.
async fn begins(worker: &Worker, socket: &Socket) -> bool {
    let mut orders = worker.orders();
    let mut first = [0];
    loop {
        let is_ending = *orders.borrow_and_update() == Order::Drain;
        if is_ending && socket.unread() == 0 {
            return false;
        }
        tokio::select! {
            biased;
            seen = socket.peek(&mut first) => return matches!(seen, Ok(1..)),
            _ = orders.changed(), if !is_ending => {}
        }
    }
}

/// Tells of a handshake that has failed, and counts it against its source.
fn refuse(worker: &Rc<Worker>, guest: &Guest, error: &Error) {
    let (code, text) = (error.code(), error.to_string());
    if let Some(ticket) = &guest.ticket {
        ticket.fault(Fault::Handshake);
    }
    let text = text.strip_suffix(&format!(" (code={code})")).unwrap_or(&text);
    worker.refuse_saying(Refusal::Handshake(code), &guest.remote, Some((text, "tls")));
}

//! Handshakes of a server: off the accept path, bounded in number and in time.

use std::rc::Rc;
use std::sync::Arc;

use adit_proto::sources::Fault;
use adit_tls::ServerTls;
use tokio::time::{Instant, timeout};

use super::TlsIo;
use super::settings::within;
use crate::admission::{Refusal, Unclosed};
use crate::conn::{Io, Socket};
use crate::introduction::Waiting;
use crate::worker::{Guest, Welcome, Worker};
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
            if let Some(io) = shake(&worker, &tls, socket, &guest).await {
                worker.shared.let_in();
                waiting.end();
                inner.welcome(&worker, io, guest);
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
    let place = Arc::clone(&worker.shared.handshakes).acquire_owned();
    let (error, socket, was_silent) = match timeout(left(), place).await {
        Ok(place) => {
            let shaken = tls.accept(socket, guest.remote.place_text(), left()).await;
            drop(place);
            match shaken {
                Ok(stream) => return Some(Io::Tls(Box::new(TlsIo::new(stream)))),
                Err(failed) => {
                    let was_silent = failed.was_silent();
                    let (error, socket) = failed.into_parts();
                    (error, socket, was_silent)
                }
            }
        }
        Err(_) => {
            let what = format!("no room for a TLS handshake within {limit:?}");
            (Error::new(Code::HandshakeTimeout, Blame::Local, what), Some(socket), false)
        }
    };
    // Somebody who only looks whether the port is open has done nothing wrong.
    if !was_silent {
        let (code, text) = (error.code(), error.to_string());
        if let Some(ticket) = &guest.ticket {
            ticket.fault(Fault::Handshake);
        }
        let text = text.strip_suffix(&format!(" (code={code})")).unwrap_or(&text);
        worker.refuse_saying(Refusal::Handshake(code), &guest.remote, Some((text, "tls")));
    }
    if let Some(socket) = socket {
        worker.turn_away_socket(socket);
    }
    None
}

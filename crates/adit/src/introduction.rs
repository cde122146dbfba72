//! Introduction: the PROXY header in front of a connection, read before the conversation begins.
//!
//! What has come is looked at before it is taken. As long as the header is not whole, every byte belongs
//! to it and is taken; once it is, no more than its own bytes are. So nothing of the conversation is ever
//! read here, and nothing has to be handed back.

use std::io;
use std::rc::Rc;
use std::time::Duration;

use adit_net::accept::Accepted;
use adit_proto::proxy::{HEADER_BYTES_MAX, Header, ProxyError, decode};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;

use crate::Endpoint;
use crate::admission::{Admission, Refusal, Unclosed};
use crate::conn::Io;
use crate::endpoint::Transport;
use crate::event::What;
use crate::listening::remote_of;
use crate::worker::{Arrival, Order, Welcome, Worker};

/// Begins a conversation on this thread, whose load already counts it; after the PROXY header, if there
/// has to be one.
pub(crate) fn greet(worker: &Rc<Worker>, welcome: &Rc<dyn Welcome>, arrival: Arrival) {
    if !worker.shared.admission.wants_header() {
        return welcome.welcome(worker, arrival);
    }
    let (worker, welcome) = (Rc::clone(worker), Rc::clone(welcome));
    let waiting = Waiting { worker: Some(Rc::clone(&worker)) };
    tokio::task::spawn_local(async move {
        let unclosed = Unclosed::new(&worker.shared);
        if let Some(arrival) = introduce(&worker, arrival).await {
            worker.shared.let_in();
            waiting.end();
            welcome.welcome(&worker, arrival);
        }
        drop(unclosed);
    });
}

/// A connection that this thread's load counts and that is no conversation yet.
struct Waiting {
    worker: Option<Rc<Worker>>,
}

impl Waiting {
    /// From now on a conversation counts it.
    fn end(mut self) {
        self.worker = None;
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if let Some(worker) = &self.worker {
            worker.depart();
        }
    }
}

/// Reads the header and lets the client in that it names; none if it is turned away.
async fn introduce(worker: &Rc<Worker>, arrival: Arrival) -> Option<Arrival> {
    let Arrival { listener, accepted, local, permit, .. } = arrival;
    let proxy = remote_of(&accepted);
    let (io, name) = watch(accepted)?;
    let limit = worker.context.limits.handshake.at();
    let read = read_header(worker, &io);
    let read = match limit {
        Some(limit) => timeout(limit, read).await.unwrap_or(Err(Fault::Late(limit))),
        None => read.await,
    };
    let accepted = unwatch(io, name);
    let header = match read {
        Ok(header) => header,
        Err(fault) => {
            if let Some((refusal, text)) = fault.refusal() {
                let (code, text) = (refusal.code(), text.as_str());
                if worker.refuse(refusal, &proxy) {
                    let what = || What::Error { code, text, place: "proxy", fatal: false };
                    worker.context.observers.emit_about(&proxy, what);
                }
                worker.turn_away(accepted?);
            }
            return None;
        }
    };
    let accepted = accepted?;
    // A proxy that speaks for itself is trusted already.
    let Some(client) = header.source().map(|client| Endpoint::ip(Transport::Tcp, client)) else {
        return Some(Arrival { listener, accepted, local, permit, ticket: None, client: None });
    };
    match Admission::admit(&worker.shared, &client) {
        Ok(ticket) => {
            Some(Arrival { listener, accepted, local, permit, ticket, client: Some(client) })
        }
        Err(refusal) => {
            worker.refuse(refusal, &client);
            worker.turn_away(accepted);
            None
        }
    }
}

/// Why there is no header.
enum Fault {
    /// Nothing has come before the end, as when somebody only looks whether the port is open; or the
    /// server is to stop.
    Nothing,
    /// What has come is none.
    Wrong(ProxyError),
    /// It ended, or broke, in the middle.
    Cut,
    Late(Duration),
}

impl Fault {
    /// What it is for the observers, in words too; none if it is nothing to speak of.
    fn refusal(&self) -> Option<(Refusal, String)> {
        match self {
            Self::Nothing => None,
            Self::Wrong(error) => Some((Refusal::Header, format!("refused: {error}"))),
            Self::Cut => {
                Some((Refusal::Header, "refused: it ended inside its PROXY header".to_owned()))
            }
            Self::Late(limit) => {
                let limit_ms = u64::try_from(limit.as_millis()).unwrap_or(u64::MAX);
                let text = format!("refused: no whole PROXY header within {limit:?}");
                Some((Refusal::Late(limit_ms), text))
            }
        }
    }
}

async fn read_header(worker: &Worker, io: &Io) -> Result<Header, Fault> {
    let mut orders = worker.orders();
    let mut have = Vec::new();
    // One more than the longest header, so that there is always room to look into.
    let mut piece = [0; HEADER_BYTES_MAX + 1];
    loop {
        let is_ending = *orders.borrow_and_update() == Order::Drain;
        if is_ending && have.is_empty() && io.unread() == 0 {
            return Err(Fault::Nothing);
        }
        let room = piece.len() - have.len();
        let seen = tokio::select! {
            biased;
            seen = io.peek(&mut piece[..room]) => match seen {
                Ok(seen) if seen > 0 => seen,
                _ if have.is_empty() => return Err(Fault::Nothing),
                _ => return Err(Fault::Cut),
            },
            _ = orders.changed(), if !is_ending => continue,
        };
        let kept = have.len();
        have.extend_from_slice(&piece[..seen]);
        let whole = decode(&have).map_err(Fault::Wrong)?;
        let own = whole.map_or(have.len(), |(_, bytes)| bytes);
        let taken = io.try_read(&mut piece[..own - kept]).map_err(|_broken| Fault::Cut)?;
        have.truncate(kept + taken);
        if let Some((header, bytes)) = whole
            && bytes == have.len()
        {
            return Ok(header);
        }
    }
}

/// Has this thread's runtime watch the connection.
fn watch(accepted: Accepted) -> Option<(Io, Name)> {
    match accepted {
        Accepted::Tcp(socket, address) => {
            Some((Io::Tcp(TcpStream::from_std(socket).ok()?), Name::Tcp(address)))
        }
        Accepted::Unix(socket, name) => {
            Some((Io::Unix(UnixStream::from_std(socket).ok()?), Name::Unix(name)))
        }
    }
}

/// Who is at the other end, kept while the socket is watched.
enum Name {
    Tcp(std::net::SocketAddr),
    Unix(Option<adit_net::unix::UnixName>),
}

/// The connection as it was accepted.
fn unwatch(io: Io, name: Name) -> Option<Accepted> {
    let unwatched: io::Result<Accepted> = match (io, name) {
        (Io::Tcp(io), Name::Tcp(address)) => {
            io.into_std().map(|socket| Accepted::Tcp(socket, address))
        }
        (Io::Unix(io), Name::Unix(name)) => {
            io.into_std().map(|socket| Accepted::Unix(socket, name))
        }
        _ => return None,
    };
    unwatched.ok()
}

//! Introduction: the PROXY header in front of a connection, read before the conversation begins.
//!
//! What has come is looked at before it is taken. As long as the header is not whole, every byte belongs
//! to it and is taken; once it is, no more than its own bytes are. So nothing of the conversation is ever
//! read here, and nothing has to be handed back.

use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::time::Duration;

use crate::Endpoint;
use crate::admission::{Refusal, Ticket, Unclosed};
use crate::conn::{Io, Socket};
use crate::endpoint::Transport;
use crate::event::What;
use crate::idle::{Entry, Stage};
use crate::listening::remote_of;
use crate::transport::Transport as _;
use crate::worker::{Arrival, Guest, Order, Welcome, Worker};
use adit_net::accept::Accepted;
use adit_proto::proxy::{HEADER_BYTES_MAX, Header, ProxyError, decode};
use tokio::time::{Instant, timeout};

/// Begins a conversation on this thread, whose load already counts it; after the PROXY header, if there
/// has to be one.
pub(crate) fn greet(worker: &Rc<Worker>, welcome: &Rc<dyn Welcome>, arrival: Arrival) {
    let arrived = Instant::now();
    worker.lag.note_newcomer();
    if !worker.shared.admission.wants_header() {
        if let Some((socket, guest)) = receive(worker, arrival, arrived) {
            welcome.welcome(worker, Io::Plain(socket), guest);
        }
        return;
    }
    let (worker, welcome) = (Rc::clone(worker), Rc::clone(welcome));
    let waiting = Waiting::new(&worker);
    tokio::task::spawn_local(async move {
        let unclosed = Unclosed::new(&worker.shared);
        let Arrival { listener, accepted, local, permit, .. } = arrival;
        let proxy = remote_of(&accepted);
        let introduced = {
            let introduced = pin!(introduce(&worker, accepted));
            waiting.unless_shed(&proxy, introduced).await
        };
        match introduced {
            Some(Introduced { accepted, ticket, client }) => {
                if !welcome.is_secured() {
                    worker.shared.let_in();
                }
                let arrival = Arrival { listener, accepted, local, permit, ticket, client };
                waiting.end(|| {
                    if let Some((socket, guest)) = receive(&worker, arrival, arrived) {
                        welcome.welcome(&worker, Io::Plain(socket), guest);
                    }
                });
            }
            // In this order: nobody is chosen who has given his place back.
            None => drop((waiting, permit)),
        }
        drop(unclosed);
    });
}

/// Makes a connection this thread's own: it is watched, and has its options.
fn receive(worker: &Rc<Worker>, arrival: Arrival, arrived: Instant) -> Option<(Socket, Guest)> {
    let Arrival { accepted, local, permit, ticket, client, .. } = arrival;
    let other_end = remote_of(&accepted);
    if let Accepted::Tcp(socket, _) = &accepted {
        // A connection that is reset already refuses options; reading it says so.
        drop(adit_net::stream::configure(socket, worker.context.limits.stall.at()));
    }
    let socket = match Socket::watch(accepted) {
        Ok(socket) => socket,
        Err(error) => {
            let (code, text) = (crate::code_of(&error), error.to_string());
            let what = || What::Error { code, text: &text, place: "accept", fatal: false };
            worker.context.observers.emit_about(&other_end, what);
            // With `once` nobody else is let in: whoever waits for an end has to be told of this one.
            let lasted = Duration::ZERO;
            let what = || What::Close { code, bytes_in: Some(0), bytes_out: Some(0), lasted };
            worker.context.observers.emit_about(&other_end, what);
            worker.depart();
            return None;
        }
    };
    let (remote, via) = match client {
        Some(client) => (client, Some(other_end)),
        None => (other_end, None),
    };
    let local = Some(local_end(local, &socket));
    Some((socket, Guest { arrived, remote, via, local, permit: Some(permit), ticket }))
}

/// Our end of a connection: the listener's address, but on a wildcard the one the client used.
fn local_end(listener: Endpoint, socket: &Socket) -> Endpoint {
    let is_wildcard = listener.socket_addr().is_some_and(|at| at.ip().is_unspecified());
    match socket.local_addr().filter(|_| is_wildcard) {
        Some(used) => Endpoint::ip(Transport::Tcp, used),
        None => listener,
    }
}

/// A connection that this thread's load counts and that is no conversation yet. Should somebody have to
/// make room, it is the first.
pub(crate) struct Waiting {
    worker: Rc<Worker>,
    entry: Option<Entry>,
    is_over: bool,
}

impl Waiting {
    pub(crate) fn new(worker: &Rc<Worker>) -> Self {
        let book = worker.shared.idle_book.as_ref();
        let entry = book.map(|book| book.enter(Stage::Newcomer));
        Self { worker: Rc::clone(worker), entry, is_over: false }
    }

    /// From now on the conversation counts it that `begin` begins.
    ///
    /// It may have been chosen in this very moment. Then somebody waits for a place, and another one goes for
    /// him: one that is idle, or the conversation itself if there is none.
    pub(crate) fn end(mut self, begin: impl FnOnce()) {
        self.is_over = true;
        let was_chosen = self.entry.take().is_some_and(Entry::leave);
        begin();
        if was_chosen {
            let _is_one = self.worker.shared.make_room();
        }
    }

    /// What has to be done before a conversation; none if that fails, or somebody needs the place first.
    pub(crate) async fn unless_shed<T>(
        &self,
        remote: &Endpoint,
        begin: Pin<&mut impl Future<Output = Option<T>>>,
    ) -> Option<T> {
        let Some(entry) = &self.entry else { return begin.await };
        tokio::select! {
            biased;
            begun = begin => begun,
            () = entry.chosen() => {
                let most = self.worker.shared.permits_max;
                self.worker.refuse(Refusal::Shed(most), remote);
                None
            }
        }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if !self.is_over {
            self.worker.depart();
        }
    }
}

/// A connection whose header is read.
struct Introduced {
    accepted: Accepted,
    ticket: Option<Ticket>,
    client: Option<Endpoint>,
}

/// Reads the header and lets the client in that it names; none if it is turned away.
async fn introduce(worker: &Rc<Worker>, accepted: Accepted) -> Option<Introduced> {
    let proxy = remote_of(&accepted);
    let name = Name::of(&accepted);
    let io = Socket::watch(accepted).ok()?;
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
                worker.refuse_saying(refusal, &proxy, Some((&text, "proxy")));
                worker.turn_away(accepted?);
            }
            return None;
        }
    };
    let accepted = accepted?;
    let client = header.source().map(|client| Endpoint::ip(Transport::Tcp, client));
    // Whoever is not named comes as the proxy does: no list lets in somebody of whom nothing is known. A
    // proxy that speaks for itself is trusted already.
    let admitted = match header {
        Header::Local => Ok(None),
        _ => worker.admit_through(client.as_ref().unwrap_or(&proxy), &proxy),
    };
    match admitted {
        Ok(ticket) => Some(Introduced { accepted, ticket, client }),
        Err(refusal) => {
            worker.refuse(refusal, client.as_ref().unwrap_or(&proxy));
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

async fn read_header(worker: &Worker, io: &Socket) -> Result<Header, Fault> {
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

/// Who is at the other end, kept while the socket is watched.
enum Name {
    Tcp(std::net::SocketAddr),
    Unix(Option<adit_net::unix::UnixName>),
}

impl Name {
    fn of(accepted: &Accepted) -> Self {
        match accepted {
            Accepted::Tcp(_, address) => Self::Tcp(*address),
            Accepted::Unix(_, name) => Self::Unix(name.clone()),
        }
    }
}

/// The connection as it was accepted.
fn unwatch(io: Socket, name: Name) -> Option<Accepted> {
    let unwatched: io::Result<Accepted> = match (io, name) {
        (Socket::Tcp(io), Name::Tcp(address)) => {
            io.into_std().map(|socket| Accepted::Tcp(socket, address))
        }
        (Socket::Unix(io), Name::Unix(name)) => {
            io.into_std().map(|socket| Accepted::Unix(socket, name))
        }
        _ => return None,
    };
    unwatched.ok()
}

#[cfg(test)]
mod tests {
    use super::Waiting;
    use crate::context::{Context, Totals};
    use crate::endpoint::{Endpoint, Place, Transport};
    use crate::idle::{Entry, Stage};
    use crate::observe::Observers;
    use crate::worker::{Shared, Worker};
    use crate::{Limits, WhenFull};
    use std::future::ready;
    use std::pin::pin;
    use std::rc::Rc;
    use std::sync::Arc;

    fn worker(once: bool) -> Rc<Worker> {
        let limits = Limits { when_full: WhenFull::Shed, ..Limits::default() };
        let (mailbox, _letters) = tokio::sync::mpsc::channel(1);
        let shared = Arc::new(Shared::new(vec![mailbox], &limits, once, false, Default::default()));
        let context = Context::new(limits, Observers::default(), Arc::new(Totals::default()));
        Worker::new(0, shared, Rc::new(context))
    }

    fn conversation(worker: &Worker) -> Entry {
        worker.shared.idle_book.as_ref().unwrap().enter(Stage::Conversation)
    }

    /// A newcomer that is chosen when all it owed has come; gives the conversation that it begins.
    async fn begins_when_chosen(worker: &Rc<Worker>) -> Entry {
        let waiting = Waiting::new(worker);
        assert!(worker.shared.make_room());
        let begun = pin!(ready(Some("begun")));
        let remote = Endpoint::named(Transport::Memory, Place::Unnamed);
        assert_eq!(waiting.unless_shed(&remote, begun).await, Some("begun"));
        let mut begun = None;
        waiting.end(|| begun = Some(conversation(worker)));
        begun.unwrap()
    }

    #[tokio::test]
    async fn who_is_chosen_when_its_conversation_begins_has_another_one_go() {
        let worker = worker(false);
        let idle = conversation(&worker);
        let begun = begins_when_chosen(&worker).await;
        assert!(idle.mark().is_chosen() && !begun.mark().is_chosen());
        drop(begun);
        // Where nobody else is idle, it is the conversation itself.
        let begun = begins_when_chosen(&worker).await;
        assert!(begun.mark().is_chosen());
        // Without a choice nobody goes.
        let idle = conversation(&worker);
        Waiting::new(&worker).end(|| ());
        assert!(!idle.mark().is_chosen());
    }

    #[tokio::test]
    async fn nobody_goes_for_somebody_who_is_not_let_in_any_more() {
        let worker = worker(true);
        let the_one = conversation(&worker);
        worker.shared.let_in();
        assert!(!worker.shared.make_room() && !the_one.mark().is_chosen());
    }
}

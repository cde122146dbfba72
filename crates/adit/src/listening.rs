//! Where a service meets its sockets: one value per `listen` call, erased once per connection.

use std::rc::Rc;

use adit_net::accept::Accepted;
use adit_net::listen::SocketFile;

use crate::accept::accept;
use crate::admission::close_refused;
use crate::conn::{Io, Share, Socket, Wire};
use crate::conversation::Protocol;
use crate::datagrams;
use crate::endpoint::{Place, Transport};
use crate::event::{Call, What};
use crate::handler::{Open, Service};
use crate::listen::{Door, Doors, unix_place};
use crate::observe::Observers;
use crate::stream::{self, StreamService};
use crate::tls::{self, ServerTls};
use crate::worker::{Alive, Guest, Welcome, Worker};
use crate::{Code, Codec, Endpoint, Limits, Result, conversation};

/// What a server can be made of: messages or raw streams. Sealed.
pub trait Kind: Clone + Send + 'static + sealed::Sealed {
    /// What lives on each I/O thread.
    type Thread: 'static;
    /// Called once on each I/O thread.
    fn thread(&self) -> Self::Thread;
    /// Called once, before anything is bound.
    ///
    /// # Errors
    /// It cannot serve anybody.
    fn ready(&self) -> Result<()>;
    /// Most connections it serves at once, if it has a bound of its own.
    fn conversations_max(&self) -> Option<usize>;
}

mod sealed {
    /// Keeps [`Kind`](super::Kind) to this crate.
    #[expect(unnameable_types, reason = "that nobody can name it is its purpose")]
    pub trait Sealed {}
}

/// A service of messages as a [`Kind`].
#[derive(Clone, Debug)]
pub struct Messages<V>(pub(crate) V);

impl<V: Service> sealed::Sealed for Messages<V> {}
impl<V: Service> Kind for Messages<V> {
    type Thread = V::Open;
    fn thread(&self) -> V::Open {
        self.0.thread()
    }
    fn ready(&self) -> Result<()> {
        self.0.ready()
    }
    fn conversations_max(&self) -> Option<usize> {
        None
    }
}

/// A service of raw streams as a [`Kind`].
#[derive(Clone, Debug)]
pub struct Bytestreams<S>(pub(crate) S);

impl<S: StreamService> sealed::Sealed for Bytestreams<S> {}
impl<S: StreamService> Kind for Bytestreams<S> {
    type Thread = S;
    fn thread(&self) -> S {
        self.0.clone()
    }
    fn ready(&self) -> Result<()> {
        self.0.ready()
    }
    fn conversations_max(&self) -> Option<usize> {
        self.0.conversations_max()
    }
}

/// One `listen` call of a server whose threads hold a `T`.
pub(crate) trait Listening<T>: Send {
    /// Settles whether it speaks TLS, and how; `shared` is what the server has.
    fn secure(&mut self, shared: Option<&ServerTls>) -> Result<()>;
    /// Its settings of TLS, if it speaks that.
    fn tls(&self) -> Option<&ServerTls>;
    /// Binds; gives the real addresses.
    fn bind(&mut self, threads: usize) -> Result<Vec<Endpoint>>;
    /// The part for one thread, to be started there.
    fn part(&mut self, thread: usize) -> Part<T>;
    /// The sockets that were bound here: where each listens, and its descriptor.
    fn sockets(&self) -> Vec<(Endpoint, i32)>;
    /// All sockets, as they really are.
    fn describe(&self, limits: &Limits) -> Vec<Door>;
    /// The files of Unix sockets, which are removed when the server is gone.
    fn files(&mut self) -> Vec<SocketFile>;
}

/// Starts on a thread; gives what welcomes connections of this listener there.
pub(crate) type Part<T> =
    Box<dyn FnOnce(usize, &Rc<T>, &Rc<Worker>) -> Option<Rc<dyn Welcome>> + Send>;

/// Connections that carry messages.
pub(crate) struct Conversations<C> {
    pub(crate) doors: Doors,
    pub(crate) codec: C,
}

impl<T: Open, C: Codec + Clone + Send> Listening<T> for Conversations<C> {
    fn secure(&mut self, shared: Option<&ServerTls>) -> Result<()> {
        self.doors.secure(shared)
    }

    fn tls(&self) -> Option<&ServerTls> {
        self.doors.tls.as_ref()
    }

    fn bind(&mut self, threads: usize) -> Result<Vec<Endpoint>> {
        self.doors.open(threads)
    }

    fn sockets(&self) -> Vec<(Endpoint, i32)> {
        if self.doors.is_own() { self.doors.sockets() } else { Vec::new() }
    }

    fn describe(&self, limits: &Limits) -> Vec<Door> {
        self.doors.describe(limits)
    }

    fn files(&mut self) -> Vec<SocketFile> {
        self.doors.take_files()
    }

    fn part(&mut self, thread: usize) -> Part<T> {
        let (listeners, codec) = (self.doors.listeners(thread), self.codec.clone());
        let tls = self.doors.tls.clone();
        let outlives_us = !self.doors.is_own();
        Box::new(move |index, open, worker| {
            let welcome = secured(Rc::new(Greeter { open: Rc::clone(open), codec }), tls);
            for listener in listeners {
                let listener = (listener, outlives_us);
                watch_door(accept(listener, index, Rc::clone(&welcome), Rc::clone(worker)), worker);
            }
            Some(welcome)
        })
    }
}

/// Connections that carry raw bytes.
pub(crate) struct Streams {
    pub(crate) doors: Doors,
}

impl<S: StreamService> Listening<S> for Streams {
    fn secure(&mut self, shared: Option<&ServerTls>) -> Result<()> {
        self.doors.secure(shared)
    }

    fn tls(&self) -> Option<&ServerTls> {
        self.doors.tls.as_ref()
    }

    fn bind(&mut self, threads: usize) -> Result<Vec<Endpoint>> {
        self.doors.open(threads)
    }

    fn sockets(&self) -> Vec<(Endpoint, i32)> {
        if self.doors.is_own() { self.doors.sockets() } else { Vec::new() }
    }

    fn describe(&self, limits: &Limits) -> Vec<Door> {
        self.doors.describe(limits)
    }

    fn files(&mut self) -> Vec<SocketFile> {
        self.doors.take_files()
    }

    fn part(&mut self, thread: usize) -> Part<S> {
        let (listeners, tls) = (self.doors.listeners(thread), self.doors.tls.clone());
        let outlives_us = !self.doors.is_own();
        Box::new(move |index, service, worker| {
            let welcome = secured(Rc::new(Usher { service: Rc::clone(service) }), tls);
            for listener in listeners {
                let listener = (listener, outlives_us);
                watch_door(accept(listener, index, Rc::clone(&welcome), Rc::clone(worker)), worker);
            }
            Some(welcome)
        })
    }
}

/// Datagrams, each a message.
pub(crate) struct Datagrams {
    pub(crate) doors: Doors,
}

impl<T: Open> Listening<T> for Datagrams {
    fn secure(&mut self, shared: Option<&ServerTls>) -> Result<()> {
        self.doors.secure(shared)
    }

    fn tls(&self) -> Option<&ServerTls> {
        self.doors.tls.as_ref()
    }

    fn bind(&mut self, threads: usize) -> Result<Vec<Endpoint>> {
        self.doors.open_datagrams(threads)
    }

    fn sockets(&self) -> Vec<(Endpoint, i32)> {
        if self.doors.is_own() { self.doors.sockets() } else { Vec::new() }
    }

    fn describe(&self, limits: &Limits) -> Vec<Door> {
        self.doors.describe(limits)
    }

    fn files(&mut self) -> Vec<SocketFile> {
        self.doors.take_files()
    }

    fn part(&mut self, thread: usize) -> Part<T> {
        let (sockets, amplify) = (self.doors.datagram_sockets(thread), self.doors.amplify);
        Box::new(move |_index, open, worker| {
            for socket in sockets {
                let (open, on) = (Rc::clone(open), Rc::clone(worker));
                watch_door(datagrams::serve(socket, amplify, open, on), worker);
            }
            None
        })
    }
}

/// With TLS in front of it, if that was settled.
fn secured(welcome: Rc<dyn Welcome>, tls: Option<ServerTls>) -> Rc<dyn Welcome> {
    match tls {
        Some(tls) => tls::secured(welcome, tls),
        None => welcome,
    }
}

/// Runs an accept or datagram loop and counts its door; a loop that breaks ends the server.
fn watch_door(serve: impl Future<Output = std::io::Result<()>> + 'static, worker: &Rc<Worker>) {
    worker.shared.open_door();
    let worker = Rc::clone(worker);
    tokio::task::spawn_local(async move {
        if let Err(error) = serve.await {
            worker.shared.break_down(&error);
        }
        worker.shared.close_door();
    });
}

/// Starts a conversation for each connection.
struct Greeter<T, C> {
    open: Rc<T>,
    codec: C,
}

impl<T: Open, C: Codec + Clone> Welcome for Greeter<T, C> {
    fn welcome(&self, worker: &Rc<Worker>, io: Io, guest: Guest) {
        let alive = enter(worker, &io, guest);
        let handler = match self.open.open(&alive.peer) {
            Ok(handler) => handler,
            Err(refusal) => return turn_away(worker, io, alive, refusal.reason()),
        };
        let (context, peer) = (Rc::clone(&worker.context), alive.peer.clone());
        let protocol = Protocol { codec: self.codec.clone(), handler };
        tokio::task::spawn_local(async move {
            let free = || alive.free_slot();
            let closed = match io {
                io if alive.peer.desk().throttle().is_some() => {
                    // The events are told by the conversation already.
                    let wire = Wire::of_peer(io, &peer, &Observers::default());
                    conversation::run(Share(wire), protocol, peer, context, free).await
                }
                Io::Plain(Socket::Tcp(io)) => {
                    conversation::run(io, protocol, peer, context, free).await
                }
                Io::Plain(Socket::Unix(io)) => {
                    conversation::run(io, protocol, peer, context, free).await
                }
                Io::Tls(io) => conversation::run(*io, protocol, peer, context, free).await,
            };
            alive.judge(closed.code);
        });
    }
}

/// Starts a stream service for each connection.
struct Usher<S> {
    service: Rc<S>,
}

impl<S: StreamService> Welcome for Usher<S> {
    fn welcome(&self, worker: &Rc<Worker>, io: Io, guest: Guest) {
        let alive = enter(worker, &io, guest);
        let peer = alive.peer.clone();
        let (service, context) = (Rc::clone(&self.service), Rc::clone(&worker.context));
        if service.takes_sockets() {
            tokio::task::spawn_local(async move {
                stream::give_away(service, io, peer, context, || alive.free_slot()).await;
            });
            return;
        }
        let wire = Wire::of_peer(io, &peer, &worker.context.observers);
        tokio::task::spawn_local(async move {
            stream::run(service, wire, peer, context, || alive.free_slot()).await;
        });
    }
}

/// Makes a conversation of a connection: a number, a desk, the event.
fn enter(worker: &Rc<Worker>, io: &Io, guest: Guest) -> Alive {
    let tls = io.tls();
    let alive = worker.enter(guest, tls);
    io.count_for(alive.peer.desk().account());
    let (number, remote, local) = (alive.peer.number(), alive.peer.remote(), alive.peer.local());
    let accept = (Call::Accept, Some(io.descriptor()));
    worker.context.observers.call(Some((number, remote)), accept, local);
    let (via, tls) = (alive.peer.via(), tls.map(|tls| tls.version));
    worker.context.observers.emit_of(number, remote, || What::Open { local, via, tls });
    alive
}

/// Who is at the other end of a connection.
pub(crate) fn remote_of(accepted: &Accepted) -> Endpoint {
    match accepted {
        Accepted::Tcp(_, remote) => Endpoint::ip(Transport::Tcp, *remote),
        Accepted::Unix(_, name) => {
            let place = name.as_ref().map_or(Place::Unnamed, unix_place);
            Endpoint::named(Transport::Unix, place)
        }
    }
}

/// Closes a connection that nobody wants, by the same close path, with next to no budget.
fn turn_away(worker: &Rc<Worker>, io: Io, alive: Alive, reason: &str) {
    let context = Rc::clone(&worker.context);
    let (number, remote) = (alive.peer.number(), alive.peer.remote().clone());
    let code = Code::NotAllowed;
    context.observers.emit_of(number, &remote, || What::Error {
        code,
        text: reason,
        place: "open",
        fatal: false,
    });
    context.totals.refuse();
    tokio::task::spawn_local(async move {
        match io {
            Io::Plain(mut io) => close_refused(&mut io).await,
            Io::Tls(mut io) => close_refused(&mut *io).await,
        }
        let lasted = std::time::Duration::ZERO;
        context.observers.emit_of(number, &remote, || What::Close {
            code,
            bytes_in: Some(0),
            bytes_out: Some(0),
            lasted,
        });
        drop(alive);
    });
}

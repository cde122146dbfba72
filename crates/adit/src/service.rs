//! Makers of services: `fast`, `task`, `blocking`, `each` and `per_thread`.
//!
//! Named makers rather than implementations for every closure: the compiler then infers `|_|`, and its
//! errors speak of one thing.

use std::rc::Rc;

use bytes::Bytes;

use crate::handler::{Answer, Handler, Open, Opened, Out, Refuse, Service};
use crate::{BoxError, Peer};

/// A service that answers at once, on the I/O thread: for work of microseconds.
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// use adit::prelude::*;
/// let upper = fast(|msg, out| out.send(msg.to_ascii_uppercase()));
/// let mut peer = adit::testing::memory(upper, Lines::new());
/// assert_eq!(peer.call("hello").await.unwrap(), "HELLO");
/// # });
/// ```
pub fn fast<F>(answer: F) -> impl Service
where
    F: Fn(&[u8], &mut Out<'_>) + Clone + Send + 'static,
{
    each(move |_| Fast(answer.clone()))
}

struct Fast<F>(F);

impl<F: Fn(&[u8], &mut Out<'_>) + 'static> Handler for Fast<F> {
    fn message(&mut self, msg: &[u8], out: &mut Out<'_>) -> Answer {
        (self.0)(msg, out);
        Answer::Done
    }
}

/// A service that may await before it answers; answers keep the order of their messages.
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// use adit::prelude::*;
/// let echo = task(async |msg: Bytes| {
///     tokio::task::yield_now().await;
///     Ok(msg)
/// });
/// let mut peer = adit::testing::memory(echo, Lines::new());
/// assert_eq!(peer.call("hello").await.unwrap(), "hello");
/// # });
/// ```
pub fn task<F>(answer: F) -> impl Service
where
    F: AsyncFn(Bytes) -> Result<Bytes, BoxError> + Clone + Send + 'static,
{
    per_thread(move || Rc::new(answer.clone()), |answer, _| Task(Rc::clone(answer)))
}

struct Task<F>(Rc<F>);

impl<F: AsyncFn(Bytes) -> Result<Bytes, BoxError> + 'static> Handler for Task<F> {
    fn message(&mut self, msg: &[u8], _out: &mut Out<'_>) -> Answer {
        let (answer, msg) = (Rc::clone(&self.0), Bytes::copy_from_slice(msg));
        Answer::later(async move { answer(msg).await })
    }
}

/// A service that blocks its thread: it runs on a bounded pool beside the I/O threads
/// (`limits.blocking_threads`), and answers keep the order of their messages.
///
/// ```no_run
/// use adit::prelude::*;
/// let cat = blocking(|name: Bytes| {
///     let name = std::str::from_utf8(&name)?;
///     Ok(std::fs::read(name)?.into())
/// });
/// let server = Server::new(cat).listen("tcp://127.0.0.1:7000", Lines::new());
/// ```
pub fn blocking<F>(answer: F) -> impl Service
where
    F: Fn(Bytes) -> Result<Bytes, BoxError> + Clone + Send + Sync + 'static,
{
    task(async move |msg: Bytes| {
        let answer = answer.clone();
        // A panic in there arrives here as an error: it ends this conversation only.
        tokio::task::spawn_blocking(move || answer(msg)).await?
    })
}

/// A service with one handler value per peer.
///
/// ```
/// use adit::prelude::*;
/// # struct Greeter(String);
/// # impl Handler for Greeter {
/// #     fn message(&mut self, _: &[u8], out: &mut Out<'_>) -> Answer { out.send(&self.0); Answer::Done }
/// # }
/// let service = each(|peer: &Peer| Greeter(format!("hello {}", peer.remote())));
/// let picky = each(|peer: &Peer| match peer.remote().socket_addr() {
///     Some(addr) if addr.ip().is_loopback() => Ok(Greeter("neighbour".into())),
///     _ => Err(Refuse::because("only from this machine")),
/// });
/// ```
pub fn each<F, O>(open: F) -> Each<F>
where
    F: Fn(&Peer) -> O + Clone + Send + 'static,
    O: Opened,
{
    Each(open)
}

/// A service with state on each I/O thread, which need not be `Send`, and a handler value per peer.
///
/// ```
/// use adit::prelude::*;
/// use std::{cell::RefCell, collections::HashMap, rc::Rc};
///
/// type Cache = Rc<RefCell<HashMap<Vec<u8>, Vec<u8>>>>;
/// struct Lookup(Cache);
/// impl Handler for Lookup {
///     fn message(&mut self, key: &[u8], out: &mut Out<'_>) -> Answer {
///         match self.0.borrow().get(key) {
///             Some(value) => out.send(value),
///             None => out.send("unknown"),
///         }
///         Answer::Done
///     }
/// }
/// let service = per_thread(Cache::default, |cache, _peer| Lookup(cache.clone()));
/// ```
pub fn per_thread<I, S, F, O>(state: I, open: F) -> PerThread<I, F>
where
    I: Fn() -> S + Clone + Send + 'static,
    S: 'static,
    F: Fn(&S, &Peer) -> O + Clone + Send + 'static,
    O: Opened,
{
    PerThread { state, open }
}

/// Made by [`each`].
#[derive(Clone, Debug)]
pub struct Each<F>(F);

impl<F: Fn(&Peer) -> O + 'static, O: Opened> Open for Each<F> {
    type Handler = O::Handler;
    fn open(&self, peer: &Peer) -> Result<O::Handler, Refuse> {
        (self.0)(peer).opened()
    }
}

impl<F: Fn(&Peer) -> O + Clone + Send + 'static, O: Opened> Service for Each<F> {
    type Open = Self;
    fn thread(&self) -> Self {
        self.clone()
    }
}

/// Made by [`per_thread`].
#[derive(Clone, Debug)]
pub struct PerThread<I, F> {
    state: I,
    open: F,
}

/// What [`PerThread`] is on one I/O thread.
#[derive(Debug)]
pub struct OnThread<S, F> {
    state: S,
    open: F,
}

impl<S: 'static, F: Fn(&S, &Peer) -> O + 'static, O: Opened> Open for OnThread<S, F> {
    type Handler = O::Handler;
    fn open(&self, peer: &Peer) -> Result<O::Handler, Refuse> {
        (self.open)(&self.state, peer).opened()
    }
}

impl<I, S, F, O> Service for PerThread<I, F>
where
    I: Fn() -> S + Clone + Send + 'static,
    S: 'static,
    F: Fn(&S, &Peer) -> O + Clone + Send + 'static,
    O: Opened,
{
    type Open = OnThread<S, F>;
    fn thread(&self) -> OnThread<S, F> {
        OnThread { state: (self.state)(), open: self.open.clone() }
    }
}

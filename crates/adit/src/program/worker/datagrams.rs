//! A worker for datagrams: each peer a conversation, each datagram a frame.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::mpsc::{self, error::TrySendError};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::AbortHandle;

use super::{Failed, Order, Talk, Worker};
use crate::handler::{Answer, Handler, Open, Out, Refuse, Service};
use crate::peer::Sender;
use crate::program::variables;
use crate::{Code, Peer, Result};

/// Datagrams of one peer that may wait for the worker.
const WAITING_MAX: usize = 64;
/// KiB of all peers that may wait. Counted in bytes: many peers with little to say have room for each.
pub(super) const WAITING_KIB_MAX: usize = 64 << 10;

/// A datagram that waits, and its room among those of all peers.
type Waiting = (Bytes, OwnedSemaphorePermit);

/// The service.
#[derive(Clone)]
pub(super) struct Answers(pub(super) Worker);

impl Service for Answers {
    type Open = Self;

    fn thread(&self) -> Self {
        self.clone()
    }

    fn ready(&self) -> Result<()> {
        self.0.ready()
    }
}

impl Open for Answers {
    type Handler = OnePeer;

    fn open(&self, peer: &Peer) -> Result<OnePeer, Refuse> {
        let (onward, waiting) = mpsc::channel(WAITING_MAX);
        let failure = Rc::<RefCell<Option<Failed>>>::default();
        let client = Client {
            worker: self.0.clone(),
            variables: variables::of_peer(peer),
            peer: peer.remote().place_text(),
            back: peer.sender(),
            failure: Rc::clone(&failure),
        };
        let task = tokio::task::spawn_local(client.carry(waiting));
        let room = Arc::clone(&self.0.at_work.room);
        Ok(OnePeer { onward, room, failure, task: task.abort_handle() })
    }
}

/// One peer's datagrams.
pub(super) struct OnePeer {
    onward: mpsc::Sender<Waiting>,
    room: Arc<Semaphore>,
    /// Why the worker has left it, which is told with its next datagram.
    failure: Rc<RefCell<Option<Failed>>>,
    task: AbortHandle,
}

impl Handler for OnePeer {
    fn message(&mut self, msg: &[u8], _out: &mut Out<'_>) -> Answer {
        let full = |waiting: &str| {
            let text = format!("{waiting} wait for the worker already: one is dropped");
            Some(Failed { code: Code::Full, text })
        };
        let kib = u32::try_from(msg.len() >> 10).unwrap_or(u32::MAX).saturating_add(1);
        let room = Arc::clone(&self.room).try_acquire_many_owned(kib);
        let sent = room.map(|room| self.onward.try_send((Bytes::copy_from_slice(msg), room)));
        let failure = match sent {
            Err(_none) => full(&format!("{} MiB of datagrams", WAITING_KIB_MAX >> 10)),
            Ok(Ok(())) => self.failure.take(),
            Ok(Err(TrySendError::Full(_))) => full(&format!("{WAITING_MAX} datagrams")),
            // It has said that this was all.
            Ok(Err(TrySendError::Closed(_))) => return Answer::Close,
        };
        match failure {
            Some(failed) => Answer::later(async { Err(failed.into()) }),
            None => Answer::Done,
        }
    }
}

impl Drop for OnePeer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Who carries datagrams between one peer and the worker.
struct Client {
    worker: Worker,
    variables: Vec<u8>,
    peer: String,
    back: Sender,
    failure: Rc<RefCell<Option<Failed>>>,
}

impl Client {
    /// Until the worker has said all; each datagram after a failure begins anew.
    async fn carry(self, mut waiting: mpsc::Receiver<Waiting>) {
        while let Some(first) = waiting.recv().await {
            match self.talk(first, &mut waiting).await {
                Ok(()) => return,
                Err(failed) => *self.failure.borrow_mut() = Some(failed),
            }
        }
    }

    async fn talk(
        &self,
        first: Waiting,
        waiting: &mut mpsc::Receiver<Waiting>,
    ) -> Result<(), Failed> {
        let (worker, peer) = (&self.worker, self.peer.as_str());
        let gone = || worker.gone(peer);
        let (first, room) = first;
        // What the worker says is taken at once: it waits for no peer.
        let Talk { line, mut said } = worker.open(self.variables.clone(), peer, None).await?;
        line.send(Order::Data(line.number, first)).await.ok_or_else(gone)?;
        drop(room);
        loop {
            tokio::select! {
                msg = waiting.recv() => {
                    let Some((msg, _room)) = msg else { return Ok(()) };
                    line.send(Order::Data(line.number, msg)).await.ok_or_else(gone)?;
                }
                answer = worker.next(&mut said, &line, peer) => {
                    let Some(answer) = answer? else { return Ok(()) };
                    let bytes = answer.len();
                    // A peer that takes them more slowly loses them, as datagrams are lost.
                    drop(self.back.try_send(answer));
                    line.taken(bytes).await.ok_or_else(gone)?;
                }
            }
        }
    }
}

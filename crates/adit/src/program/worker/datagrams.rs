//! A worker for datagrams: each peer a conversation, each datagram a frame.

use std::cell::RefCell;
use std::rc::Rc;

use bytes::Bytes;
use tokio::sync::mpsc::{self, error::TrySendError};
use tokio::task::AbortHandle;

use super::{Failed, Order, Talk, Worker};
use crate::handler::{Answer, Handler, Open, Out, Refuse, Service};
use crate::peer::Sender;
use crate::program::variables;
use crate::{Code, Peer, Result};

/// Datagrams of one peer that may wait for the worker.
const WAITING_MAX: usize = 64;

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
        Ok(OnePeer { onward, failure, task: task.abort_handle() })
    }
}

/// One peer's datagrams.
pub(super) struct OnePeer {
    onward: mpsc::Sender<Bytes>,
    /// Why the worker has left it, which is told with its next datagram.
    failure: Rc<RefCell<Option<Failed>>>,
    task: AbortHandle,
}

impl Handler for OnePeer {
    fn message(&mut self, msg: &[u8], _out: &mut Out<'_>) -> Answer {
        let failure = match self.onward.try_send(Bytes::copy_from_slice(msg)) {
            Ok(()) => self.failure.take(),
            Err(TrySendError::Full(_)) => {
                let text =
                    format!("{WAITING_MAX} datagrams wait for the worker already: one is dropped");
                Some(Failed { code: Code::Full, text })
            }
            // It has said that this was all.
            Err(TrySendError::Closed(_)) => return Answer::Close,
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
    async fn carry(self, mut waiting: mpsc::Receiver<Bytes>) {
        while let Some(first) = waiting.recv().await {
            match self.talk(first, &mut waiting).await {
                Ok(()) => return,
                Err(failed) => *self.failure.borrow_mut() = Some(failed),
            }
        }
    }

    async fn talk(&self, first: Bytes, waiting: &mut mpsc::Receiver<Bytes>) -> Result<(), Failed> {
        let (worker, peer) = (&self.worker, self.peer.as_str());
        let gone = || worker.gone(peer);
        let Talk { line, mut said } = worker.open(self.variables.clone(), peer).await?;
        line.send(Order::Data(line.number, first)).await.ok_or_else(gone)?;
        loop {
            tokio::select! {
                msg = waiting.recv() => {
                    let Some(msg) = msg else { return Ok(()) };
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

//! Requests and replies over one stream: the n-th reply belongs to the n-th request.

use std::collections::VecDeque;

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::Instant;

use super::driver::Request;
use crate::codec::CutShort;
use crate::{BoxError, Code, Codec, Conn, ReadHalf, WriteHalf};

/// A connection with what is outstanding on it.
pub(super) struct Exchange<C> {
    read: ReadHalf,
    write: Option<WriteHalf>,
    codec: C,
    unsent: BytesMut,
    received: BytesMut,
    pending: VecDeque<Pending>,
    reply_bytes: usize,
    /// Late replies swallowed so far.
    swallowed: u64,
    /// A call has expired although a reply came meanwhile, which was taken for an earlier one's: the
    /// pairing is off by one and would stay so.
    is_shifted: bool,
}

/// A request whose reply has not come.
enum Pending {
    /// With the count of swallowed replies when it was sent.
    Call(Request, u64),
    /// The call has expired; its reply will be swallowed if it still comes. Since when and how long
    /// the call had waited.
    Tombstone { died: Instant, waited: std::time::Duration },
}

/// Why an exchange cannot go on.
pub(super) struct Broken {
    pub(super) code: Code,
    pub(super) text: String,
    /// Calls that were sent, or begun to be.
    pub(super) calls: Vec<Request>,
}

impl<C: Codec> Exchange<C> {
    pub(super) fn new(conn: Conn, codec: C, reply_bytes: usize) -> Self {
        let (read, write) = conn.split();
        Self {
            read,
            write: Some(write),
            codec,
            unsent: BytesMut::new(),
            received: BytesMut::new(),
            pending: VecDeque::new(),
            reply_bytes,
            swallowed: 0,
            is_shifted: false,
        }
    }

    /// Calls that wait for their reply.
    pub(super) fn calls(&self) -> usize {
        let is_alive = |pending: &&Pending| match pending {
            Pending::Call(request, _) => !request.reply.is_closed(),
            Pending::Tombstone { .. } => false,
        };
        self.pending.iter().filter(is_alive).count()
    }

    /// Nothing is to be sent and nobody waits for a reply.
    pub(super) fn is_idle(&self) -> bool {
        self.calls() == 0 && self.unsent.is_empty()
    }

    /// Puts a request on its way.
    ///
    /// # Errors
    /// The codec cannot frame it; nothing was sent.
    pub(super) fn push(&mut self, request: Request) -> Result<(), (Request, BoxError)> {
        let mut framed = Vec::new();
        match self.codec.encode(&request.body, &mut framed) {
            Ok(()) => {
                self.unsent.extend_from_slice(&framed);
                self.pending.push_back(Pending::Call(request, self.swallowed));
                Ok(())
            }
            Err(error) => Err((request, error)),
        }
    }

    /// When the next call expires, or a tombstone has become too old.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        let at = |pending: &Pending| match pending {
            Pending::Call(request, _) => request.until,
            Pending::Tombstone { died, waited } => *died + *waited,
        };
        self.pending.iter().map(at).min()
    }

    /// Expires calls; each leaves a tombstone for its late reply.
    pub(super) fn expire(&mut self, now: Instant, mut expired: impl FnMut(Request)) {
        for pending in &mut self.pending {
            let Pending::Call(request, swallowed) = pending else {
                continue;
            };
            if request.until > now && !request.reply.is_closed() {
                continue;
            }
            self.is_shifted |= *swallowed < self.swallowed;
            let tombstone = Pending::Tombstone { died: now, waited: request.within };
            if let Pending::Call(request, _) = std::mem::replace(pending, tombstone) {
                expired(request);
            }
        }
    }

    /// Can the pairing of requests and replies not be trusted any more? It is off by one, or there
    /// are too many tombstones, or one has waited as long as its call again.
    pub(super) fn is_hopeless(&self, now: Instant, in_flight: usize) -> bool {
        let tombstone = |pending: &Pending| match pending {
            Pending::Tombstone { died, waited } => Some(*died + *waited <= now),
            Pending::Call(..) => None,
        };
        let tombstones: Vec<bool> = self.pending.iter().filter_map(tombstone).collect();
        self.is_shifted || tombstones.len() > in_flight || tombstones.contains(&true)
    }

    /// Reads and writes until replies have come, then hands them to their calls.
    ///
    /// Cancel safe: what is read or written is noted before the next wait.
    pub(super) async fn run(&mut self) -> Result<(), (Code, String)> {
        let Self { read, write, unsent, received, .. } = self;
        let is_sending = !unsent.is_empty() && write.is_some();
        tokio::select! {
            read = read.read_buf(received) => match read {
                Ok(0) => return Err(self.ended()),
                Ok(_) => {}
                Err(error) => return Err((crate::code_of(&error), error.to_string())),
            },
            sent = send(write, unsent), if is_sending => {
                sent.map_err(|error| (crate::code_of(&error), error.to_string()))?;
                return Ok(());
            }
        }
        self.take_replies()
    }

    fn take_replies(&mut self) -> Result<(), (Code, String)> {
        loop {
            let frame = self.codec.decode(&self.received);
            match frame.map_err(|error| (Code::BadFrame, error.to_string()))? {
                Some(frame) if frame.body.len() > self.reply_bytes => {
                    return Err((Code::TooBig, format!("a reply of {} B", frame.body.len())));
                }
                Some(frame) => {
                    let reply = Bytes::copy_from_slice(&self.received[frame.body]);
                    self.received.advance(frame.used);
                    self.deliver(reply)?;
                }
                None if self.received.len() > self.reply_bytes.saturating_add(1024) => {
                    let text = format!("a reply of more than {} B", self.reply_bytes);
                    return Err((Code::TooBig, text));
                }
                None => return Ok(()),
            }
        }
    }

    fn deliver(&mut self, reply: Bytes) -> Result<(), (Code, String)> {
        match self.pending.pop_front() {
            Some(Pending::Call(request, _)) => {
                // A call that was dropped does not want it: swallowed all the same.
                drop(request.reply.send(Ok(reply)));
                Ok(())
            }
            Some(Pending::Tombstone { .. }) => {
                self.swallowed += 1;
                Ok(())
            }
            None => Err((Code::BadFrame, "a reply without a request".to_owned())),
        }
    }

    /// The peer's direction has ended: what is left may still be a reply.
    fn ended(&mut self) -> (Code, String) {
        match self.codec.decode_end(&self.received) {
            Ok(Some(frame)) if self.calls() > 0 => {
                let reply = Bytes::copy_from_slice(&self.received[frame.body]);
                self.received.clear();
                match self.deliver(reply) {
                    Ok(()) => (Code::Reset, "the peer ended the connection".to_owned()),
                    Err(why) => why,
                }
            }
            Err(error) if error.downcast_ref::<CutShort>().is_some() => {
                (Code::Truncated, error.to_string())
            }
            _ => (Code::Reset, "the peer ended the connection".to_owned()),
        }
    }

    /// Gives up the connection; the calls on it may have been executed.
    pub(super) fn into_broken(self, (code, text): (Code, String)) -> Broken {
        let call = |pending| match pending {
            Pending::Call(request, _) => Some(request),
            Pending::Tombstone { .. } => None,
        };
        Broken { code, text, calls: self.pending.into_iter().filter_map(call).collect() }
    }

    /// Ends our direction and reads to the peer's end.
    pub(super) async fn finish(mut self) -> std::io::Result<()> {
        self.write = None;
        let mut sink = tokio::io::sink();
        tokio::io::copy(&mut self.read, &mut sink).await.map(drop)
    }
}

async fn send(write: &mut Option<WriteHalf>, unsent: &mut BytesMut) -> std::io::Result<()> {
    let Some(write) = write else { return Ok(()) };
    let sent = write.write(unsent).await?;
    unsent.advance(sent);
    Ok(())
}

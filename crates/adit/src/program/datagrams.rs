//! A program for datagrams: one process for each, many at once.

use std::cell::Cell;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use adit_net::datagram::UDP_BYTES_MAX;
use bytes::Bytes;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;

use super::{Ended, Failed, Process, Program, WAITING_MAX, variables};
use crate::handler::{Answer, Handler, Open, Out, Refuse, Service};
use crate::{BoxError, Code, Peer, Result};

/// How long a process may take for a datagram: nobody waits for its answer any longer.
const TIME: Duration = Duration::from_secs(30);

/// The service.
#[derive(Clone)]
pub(super) struct Answers(pub(super) Program);

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
        Ok(OnePeer {
            program: self.0.clone(),
            variables: variables::of_peer(peer).into(),
            peer: peer.remote().place_text().into(),
        })
    }
}

/// One peer's datagrams.
pub(super) struct OnePeer {
    program: Program,
    variables: Bytes,
    peer: Arc<str>,
}

impl Handler for OnePeer {
    fn message(&mut self, msg: &[u8], _out: &mut Out<'_>) -> Answer {
        let Ok(place) = Arc::clone(&self.program.permits().waiting).try_acquire_owned() else {
            let text =
                format!("{WAITING_MAX} datagrams wait for a program already: one is dropped");
            return Answer::later(async { Err(Failed { code: Code::Full, text }.into()) });
        };
        let (program, variables) = (self.program.clone(), self.variables.clone());
        let (peer, msg) = (Arc::clone(&self.peer), Bytes::copy_from_slice(msg));
        Answer::later(async move {
            let process = program.process(&variables, None).await?;
            drop(place);
            answer(&program, process, &msg, &peer).await
        })
    }
}

/// Gives the datagram to the process and takes what it says.
async fn answer(
    program: &Program,
    process: Process,
    msg: &[u8],
    peer: &str,
) -> Result<Bytes, BoxError> {
    let talked = tokio::time::timeout(TIME, talk(process, msg)).await;
    let Ok(talked) = talked else {
        let text = format!("{} took longer than {TIME:?} for peer {peer}", program.shown());
        return Err(Failed { code: Code::MaxTime, text }.into());
    };
    let (said, ended) = talked?;
    program.judge(ended, peer)?;
    let failed = match said.len() {
        0 => Failed { code: Code::Ok, text: "nothing to say".to_owned() },
        bytes if bytes > UDP_BYTES_MAX => {
            let limit = format!("more than {UDP_BYTES_MAX} B, the limit of a datagram");
            let text = format!("{} answered peer {peer} with {limit}", program.shown());
            Failed { code: Code::TooBig, text }
        }
        _ => return Ok(said.into()),
    };
    Err(failed.into())
}

async fn talk(mut process: Process, msg: &[u8]) -> io::Result<(Vec<u8>, Ended)> {
    let Some(io) = process.take_io() else { return Err(io::ErrorKind::NotConnected.into()) };
    io.set_nonblocking(true)?;
    let look = io.try_clone()?;
    let mut io = UnixStream::from_std(io)?;
    let (mut from, mut to) = io.split();
    let write = async {
        // A program need not read.
        drop(to.write_all(msg).await);
        drop(to.shutdown().await);
    };
    let has_said = Cell::new(false);
    let read = async {
        let mut said = Vec::new();
        // One byte more than may be sent tells that there is more. Who says more than that is not held
        // up by a full buffer. One that ends with its input unread resets; what it has said was read
        // before.
        let mut piece = vec![0; 16 << 10];
        while let Ok(bytes @ 1..) = from.read(&mut piece).await {
            has_said.set(true);
            let wanted = bytes.min(UDP_BYTES_MAX + 1 - said.len());
            said.extend_from_slice(&piece[..wanted]);
        }
        said
    };
    let end = async {
        let ended = process.silent(|| has_said.take()).await;
        // A descendant that has got away may hold the other end: it keeps nobody waiting.
        drop(adit_net::stream::shut_in(&look));
        ended
    };
    let ((), said, ended) = tokio::join!(write, read, end);
    Ok((said, ended))
}

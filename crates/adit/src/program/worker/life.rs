//! The life of a worker: its process, and the next one when it has ended.

use std::io;
use std::time::{Duration, Instant};

use adit_net::child::GRACE;
use adit_proto::worker::decode;
use bytes::{Buf as _, BytesMut};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::net::unix::{ReadHalf, WriteHalf};
use tokio::sync::{mpsc, oneshot};

use super::line::Order;
use super::table::Table;
use super::{Program, Tell};
use crate::program::{Ended, Failed, Process};
use crate::{Backoff, Blame, Error, runtime};

/// Between one process and the next.
const BACKOFF: Backoff = Backoff { first: Duration::from_millis(100), max: Duration::from_secs(5) };
/// One that has lived for so long is started again as if it were the first.
const STEADY: Duration = Duration::from_secs(10);
/// Bytes of frames that are written at once, if there are so many.
const BATCH_BYTES: usize = 256 << 10;

/// What a worker's thread has.
pub(super) struct Life {
    program: Program,
    tell: Option<Tell>,
    orders: mpsc::Receiver<Order>,
    stopped: oneshot::Receiver<()>,
}

/// Why a process serves no more.
enum End {
    /// It has run.
    Died(Failed),
    /// There was none.
    NotStarted(Failed),
}

impl Life {
    pub(super) fn new(
        program: Program,
        tell: Option<Tell>,
        orders: mpsc::Receiver<Order>,
        stopped: oneshot::Receiver<()>,
    ) -> Self {
        Self { program, tell, orders, stopped }
    }

    /// Runs on a thread of its own: the process belongs to none of the server's, which all talk to it.
    pub(super) fn run(mut self) {
        match runtime::make(|_| {}) {
            Ok(runtime) => runtime.block_on(self.keep_up()),
            Err(error) => self.tell(&Failed {
                code: crate::code_of(&error),
                text: format!("cannot run {}: {error}", self.program.shown()),
            }),
        }
    }

    /// One process after the other, until the server is gone.
    async fn keep_up(&mut self) {
        let mut tries = 0;
        loop {
            let began = Instant::now();
            let end = tokio::select! {
                _gone = &mut self.stopped => return,
                end = live(&self.program, &mut self.orders) => end,
            };
            let failed = match end {
                End::Died(failed) => failed,
                End::NotStarted(failed) => {
                    // Who waits for it waits in vain: dropping what they sent tells them.
                    while self.orders.try_recv().is_ok() {}
                    failed
                }
            };
            self.tell(&failed);
            tries = if began.elapsed() >= STEADY { 0 } else { tries };
            let wait = BACKOFF.wait(tries, adit_net::jitter_u64());
            tries += 1;
            tokio::select! {
                _gone = &mut self.stopped => return,
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    fn tell(&self, failed: &Failed) {
        if let Some(tell) = &self.tell {
            tell(&Error::new(failed.code, Blame::Local, failed.text.clone()));
        }
    }
}

/// One process, from its start to its end.
async fn live(program: &Program, orders: &mut mpsc::Receiver<Order>) -> End {
    let (mut process, mut io) = match start(program).await {
        Ok(started) => started,
        Err(failed) => return End::NotStarted(failed),
    };
    let table = Table::default();
    let (mut from, mut to) = io.split();
    let ended = {
        let mut reading = std::pin::pin!(read(&mut from, &table));
        tokio::select! {
            ended = process.ended() => {
                // What it has said before is said; a descendant that holds its output says nothing.
                drop(tokio::time::timeout(GRACE, reading).await);
                Ok(ended)
            }
            bad = &mut reading => match bad {
                Some(bad) => Err(format!("it sent {bad}")),
                None => tokio::time::timeout(GRACE, process.ended())
                    .await
                    .map_err(|_lives_on| "it closed its output".to_owned()),
            },
            never = write(&mut to, &table, orders) => match never {},
        }
    };
    let how = match ended {
        Ok(Ended::NotRun(number)) => {
            let error = io::Error::from_raw_os_error(number);
            return End::NotStarted(program.cannot_run(&error));
        }
        Ok(ended) => in_words(ended),
        Err(how) => how,
    };
    table.fail(&how.as_str().into());
    let text = format!("{} ended: {how}", program.shown());
    End::Died(Failed { code: crate::Code::Handler, text })
}

async fn start(program: &Program) -> Result<(Process, UnixStream), Failed> {
    let mut process = program.process(&[], None).await?;
    let io = process.take_io().ok_or_else(|| io::Error::from(io::ErrorKind::NotConnected));
    let io = io.and_then(|io| {
        io.set_nonblocking(true)?;
        UnixStream::from_std(io)
    });
    let io = io.map_err(|error| program.cannot_run(&error))?;
    Ok((process, io))
}

/// Any end is one too early: there was more to serve.
fn in_words(ended: Ended) -> String {
    match ended {
        Ended::Exit(status) => format!("exit {status}"),
        Ended::Signal(signal) => format!("signal {signal}"),
        Ended::NotRun(number) => io::Error::from_raw_os_error(number).to_string(),
        Ended::Unguarded => "its guard was killed".to_owned(),
    }
}

/// Hands on what the worker says, until it says nothing more, or something that is no frame.
async fn read(from: &mut ReadHalf<'_>, table: &Table) -> Option<String> {
    let mut bytes = BytesMut::new();
    loop {
        loop {
            let used = match decode(&bytes) {
                Ok(None) => break,
                Ok(Some((frame, used))) => match table.say(frame) {
                    Ok(()) => used,
                    Err(bad) => return Some(bad),
                },
                Err(bad) => return Some(bad.to_string()),
            };
            bytes.advance(used);
        }
        match from.read_buf(&mut bytes).await {
            Ok(1..) => {}
            // One that ends with its input unread resets.
            Ok(0) | Err(_) => return None,
        }
    }
}

/// Tells the worker what there is to tell, as fast as it reads.
async fn write(
    to: &mut WriteHalf<'_>,
    table: &Table,
    orders: &mut mpsc::Receiver<Order>,
) -> std::convert::Infallible {
    let mut frames = Vec::new();
    loop {
        let Some(order) = orders.recv().await else { return std::future::pending().await };
        table.take(order, &mut frames);
        while frames.len() < BATCH_BYTES
            && let Ok(order) = orders.try_recv()
        {
            table.take(order, &mut frames);
        }
        if to.write_all(&frames).await.is_err() {
            // It has ended; its guard says how.
            return std::future::pending().await;
        }
        frames.clear();
    }
}

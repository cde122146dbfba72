//! A server by hand: what is typed goes to every client, what clients say is printed, each labelled.

use std::collections::HashMap;
use std::future::poll_fn;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll::{Pending, Ready};

use adit::prelude::*;
use adit::system::stdio::{self, Kind, Pieces};
use adit::{BoxError, Code, Endpoint, Running, TrySendError};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::{Notify, mpsc, watch};

use super::Plan;
use crate::args::Serve;
use crate::connect::Crlf;
use crate::frame::{Frame, Splitter};
use crate::house::Told;
use crate::printer::{Printer, Said};
use crate::say::Voice;

/// Pieces that wait for one client, and pieces that wait to be printed.
const WAITING: usize = 16;

/// What the threads of the server and the keyboard share.
#[derive(Clone)]
struct Hub {
    clients: Arc<Mutex<HashMap<u64, Ear>>>,
    arrived: Arc<Notify>,
    said: mpsc::Sender<Said>,
    /// The keyboard has ended.
    ended: watch::Receiver<bool>,
    frame: Frame,
    voice: Voice,
}

/// How to reach a client.
#[derive(Clone)]
enum Ear {
    Stream(mpsc::Sender<Bytes>),
    Datagrams(adit::Sender),
}

/// The keyboard's side of the server.
pub(super) struct Desk {
    hub: Hub,
    keyboard: Pieces,
    is_terminal: bool,
    end: watch::Sender<bool>,
    splitter: Splitter,
    crlf: Option<Crlf>,
    printer: Printer,
    printing: mpsc::Receiver<Said>,
    voice: Voice,
    /// What the only client has no room for yet. Nothing is typed to anybody before it, but what clients
    /// say is printed: this one may take nothing because nobody takes what it says.
    waiting: Option<(mpsc::Sender<Bytes>, Bytes)>,
    dropped: u64,
    is_over: bool,
}

/// Starts servers for connections and for datagrams, as far as there are addresses of both.
pub(super) fn start(
    args: &Serve,
    plan: &Plan,
    limits: Limits,
    told: Told,
    say: &Voice,
) -> adit::Result<(Vec<Running>, Desk)> {
    let frame = args.frame.as_deref().map_or(Ok(Frame::Line), Frame::parse)?;
    let (said, printing) = mpsc::channel(WAITING);
    let (end, ended) = watch::channel(false);
    let hub = Hub {
        clients: Arc::default(),
        arrived: Arc::default(),
        said,
        ended,
        frame: frame.clone(),
        voice: say.clone(),
    };
    let mut servers = Vec::new();
    if !plan.streams.is_empty() {
        let inside = hub.clone();
        let talk = stream(async move |conn| converse(conn, inside.clone()).await);
        let server = Server::streams(talk).limits(limits.clone()).threads(1);
        let mut server = plan.gate.guard(server);
        if plan.once {
            server = server.once();
        }
        servers.push(plan.streams.streams(server).observe(told.clone()).start()?);
    }
    if !plan.datagrams.is_empty() {
        let inside = hub.clone();
        let talk =
            each(move |peer: &Peer| DatagramClient { hub: inside.clone(), peer: peer.clone() });
        let server = plan.gate.guard(Server::new(talk).limits(limits).threads(1));
        servers.push(plan.datagrams.datagrams(server).observe(told).start()?);
    }
    let stdin = std::io::stdin();
    let is_terminal = stdio::kind(&stdin) == Kind::Terminal;
    let desk = Desk {
        hub,
        keyboard: stdio::read_on_thread(stdin),
        is_terminal,
        end,
        splitter: Splitter::new(frame),
        crlf: args.crlf.then(Crlf::default),
        printer: Printer::new(&args.talk, say),
        printing,
        voice: say.clone(),
        waiting: None,
        dropped: 0,
        is_over: false,
    };
    Ok((servers, desk))
}

/// Serves the keyboard and the printer; returns when standard output is gone.
pub(super) async fn attend(desk: Option<&mut Desk>) -> Code {
    match desk {
        Some(desk) => desk.attend().await,
        None => std::future::pending().await,
    }
}

impl Desk {
    async fn attend(&mut self) -> Code {
        loop {
            // Piped input waits for somebody to hear it.
            let is_heard = self.is_terminal || self.hub.count() > 0;
            let may_read = !self.is_over && is_heard && self.waiting.is_none();
            tokio::select! {
                // A reader that is slow slows down who speaks; what is typed goes on all the same.
                printed = self.printer.step(&mut self.printing) => {
                    if let Err(code) = printed {
                        return code;
                    }
                }
                () = hand_over(&mut self.waiting), if self.waiting.is_some() => {}
                () = self.hub.arrived.notified(), if !may_read && !self.is_over => {}
                piece = self.keyboard.recv(), if may_read => self.typed(piece).await,
            }
        }
    }

    async fn typed(&mut self, piece: Option<std::io::Result<Vec<u8>>>) {
        let piece = match piece {
            Some(Ok(piece)) => match &mut self.crlf {
                Some(crlf) => crlf.convert(&piece),
                None => piece,
            },
            Some(Err(error)) => {
                let text = format!("cannot read standard input: {error}");
                self.voice.failure(Code::Internal, &text, "stdin");
                Vec::new()
            }
            None => Vec::new(),
        };
        self.is_over = piece.is_empty();
        self.splitter.push(&piece);
        self.tell_datagram_clients().await;
        if self.is_over {
            // Every client learns that we have finished; receiving goes on.
            self.end.send_replace(true);
            return;
        }
        let piece = Bytes::from(piece);
        let clients = self.hub.ears();
        let alone = clients.len() == 1;
        for ear in clients {
            if let Ear::Stream(sender) = ear {
                self.deliver(sender, piece.clone(), alone);
            }
        }
    }

    /// One client is waited for: nothing is lost. Of several, one that does not keep up must not hold
    /// up the others: it loses the piece, and that is said.
    fn deliver(&mut self, sender: mpsc::Sender<Bytes>, piece: Bytes, alone: bool) {
        // A client that has just left takes nothing more.
        if let Err(mpsc::error::TrySendError::Full(piece)) = sender.try_send(piece) {
            match alone {
                true => self.waiting = Some((sender, piece)),
                false => self.say_dropped(piece.len()),
            }
        }
    }

    async fn tell_datagram_clients(&mut self) {
        loop {
            let msg = match self.splitter.next(self.is_over) {
                Ok(Some(msg)) => msg,
                Ok(None) => return,
                Err(error) => {
                    // A stream client may still take what no datagram can carry.
                    let has_datagrams =
                        self.hub.ears().iter().any(|ear| matches!(ear, Ear::Datagrams(_)));
                    if has_datagrams {
                        self.voice.error(&error);
                    }
                    self.splitter = Splitter::new(self.hub.frame.clone());
                    return;
                }
            };
            for ear in self.hub.ears() {
                if let Ear::Datagrams(sender) = ear
                    && let Err(TrySendError::Full(msg)) = sender.try_send(msg.clone())
                {
                    self.say_dropped(msg.len());
                }
            }
        }
    }

    fn say_dropped(&mut self, bytes: usize) {
        self.dropped += bytes as u64;
        self.voice.warn(&format!(
            "a client does not keep up: {bytes} B not sent to it, {} B so far (code=lost)",
            self.dropped
        ));
    }

    /// Prints what is left.
    pub(super) async fn finish(mut self) -> Result<(), Code> {
        // The servers are gone: what their threads have said is all there is.
        drop(self.hub);
        while let Ok(said) = self.printing.try_recv() {
            self.printer.print(said);
            self.printer.flush().await?;
        }
        self.printer.finish().await
    }
}

/// Waits until a client has room for the piece that waits for it, or has left.
///
/// Cancel safe: a dropped call has handed over nothing.
async fn hand_over(waiting: &mut Option<(mpsc::Sender<Bytes>, Bytes)>) {
    let Some((client, _)) = waiting else { return };
    let client = client.clone();
    let room = client.reserve().await;
    if let (Some((_, piece)), Ok(room)) = (waiting.take(), room) {
        room.send(piece);
    }
}

impl Hub {
    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<u64, Ear>> {
        self.clients.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn count(&self) -> usize {
        self.lock().len()
    }

    fn ears(&self) -> Vec<Ear> {
        self.lock().values().cloned().collect()
    }

    fn arrive(&self, number: u64, ear: Ear) {
        self.lock().insert(number, ear);
        self.arrived.notify_one();
    }

    /// Tells the person at the keyboard, who alone can end the conversation now.
    fn has_finished(&self, number: u64) {
        if !*self.ended.borrow() {
            self.voice.detail(&format!(
                "{number} has finished and listens on; what is typed still reaches it, Ctrl-D ends it"
            ));
        }
    }

    fn leave(&self, number: u64) {
        self.lock().remove(&number);
    }
}

/// Takes a client out of the hub, whatever ends its conversation.
struct Seated {
    hub: Hub,
    number: u64,
}

impl Drop for Seated {
    fn drop(&mut self) {
        self.hub.leave(self.number);
    }
}

/// The conversation with one client over a stream.
async fn converse(conn: Conn, hub: Hub) -> Result<(), BoxError> {
    let (number, remote) = (conn.number(), conn.remote().clone());
    let (typed, mut to_send) = mpsc::channel(WAITING);
    hub.arrive(number, Ear::Stream(typed));
    let seated = Seated { hub: hub.clone(), number };
    let (mut read, mut write) = conn.split();
    let mut ended = hub.ended.clone();
    let speak = async {
        loop {
            tokio::select! {
                biased;
                piece = to_send.recv() => match piece {
                    Some(piece) => write.write_all(&piece).await?,
                    None => break,
                },
                end = ended.wait_for(|ended| *ended) => {
                    drop(end);
                    // The last pieces were there before the end, but perhaps after the look above.
                    while let Ok(piece) = to_send.try_recv() {
                        write.write_all(&piece).await?;
                    }
                    break;
                }
                // The order to end wakes the task; without it a client that has finished would keep
                // the server for as long as the drain may take.
                () = poll_fn(|_| if write.is_ending() { Ready(()) } else { Pending }) => break,
            }
        }
        // The end of the keyboard is a half-close.
        drop(write);
        std::io::Result::Ok(())
    };
    let listen = async {
        loop {
            let mut piece = Vec::with_capacity(64 << 10);
            let bytes = read.read_buf(&mut piece).await?;
            say(&hub, number, &remote, piece).await;
            if bytes == 0 {
                return std::io::Result::Ok(());
            }
        }
    };
    let mut speak = std::pin::pin!(speak);
    let mut listen = std::pin::pin!(listen);
    // A client that has finished may still be answered: the conversation goes on until the keyboard
    // has ended too, or the connection breaks.
    let (mut heard, mut spoken) = (false, false);
    while !(heard && spoken) {
        tokio::select! {
            end = &mut listen, if !heard => {
                end?;
                heard = true;
                hub.has_finished(number);
            }
            end = &mut speak, if !spoken => {
                end?;
                spoken = true;
            }
        }
    }
    drop(seated);
    Ok(())
}

/// Hands a piece to the printer; an empty one says that the client has finished.
async fn say(hub: &Hub, number: u64, remote: &Endpoint, bytes: Vec<u8>) {
    let said = Said { number, remote: remote.clone(), bytes, is_message: false };
    // Nobody prints any more while the server ends.
    drop(hub.said.send(said).await);
}

/// A client over datagrams.
struct DatagramClient {
    hub: Hub,
    peer: Peer,
}

impl Handler for DatagramClient {
    fn opened(&mut self, peer: &Peer, _out: &mut Out<'_>) {
        self.hub.arrive(peer.number(), Ear::Datagrams(peer.sender()));
    }

    fn message(&mut self, msg: &[u8], _out: &mut Out<'_>) -> Answer {
        let bytes = self.hub.frame.output(msg);
        let (number, remote) = (self.peer.number(), self.peer.remote().clone());
        let said = Said { number, remote, bytes, is_message: true };
        // A datagram has nowhere to wait: a printer that does not keep up loses it, as the kernel's
        // queue would.
        drop(self.hub.said.try_send(said));
        Answer::Done
    }

    fn closed(&mut self, _why: Closed) {
        let (number, remote) = (self.peer.number(), self.peer.remote().clone());
        self.hub.leave(number);
        // The printer keeps something of each client until it hears of its end.
        drop(self.hub.said.try_send(Said { number, remote, bytes: Vec::new(), is_message: false }));
    }
}

//! The classical services: RFC 862 (echo), 863 (discard), 864 (chargen), 867 (daytime), 868 (time),
//! and two that show something: upper and chat.

use std::future::poll_fn;
use std::pin::Pin;

use adit::codec::{Lines, Raw};
use adit::prelude::*;
use adit::{Running, Service as Serves};
use tokio::io::AsyncWrite as _;

use super::Plan;
use crate::house::Told;

/// A service by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Service {
    Echo,
    Upper,
    Discard,
    Daytime,
    Time,
    Chargen,
    Chat,
}

const NAMES: [(&str, Service); 7] = [
    ("echo", Service::Echo),
    ("upper", Service::Upper),
    ("discard", Service::Discard),
    ("daytime", Service::Daytime),
    ("time", Service::Time),
    ("chargen", Service::Chargen),
    ("chat", Service::Chat),
];

impl Service {
    pub(super) fn named(word: &str) -> Option<Self> {
        NAMES.iter().find(|(name, _)| *name == word).map(|(_, service)| *service)
    }

    pub(super) fn name(self) -> &'static str {
        NAMES.iter().find(|(_, service)| *service == self).map_or("", |(name, _)| name)
    }

    /// Whoever generates without being asked, or multiplies what it is sent, is a weapon over a
    /// transport on which the sender's address is only claimed.
    pub(super) fn fits_datagrams(self) -> bool {
        !matches!(self, Self::Chargen | Self::Chat)
    }
}

/// Every service by its name.
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    NAMES.iter().map(|(name, _)| *name)
}

/// Starts the server of a service on every address.
pub(super) fn start(
    service: Service,
    plan: &Plan,
    limits: Limits,
    told: Told,
) -> adit::Result<Vec<Running>> {
    let raw = Raw;
    let running = match service {
        Service::Echo => messages(fast(|msg, out| out.send(msg)), raw, plan, limits, told),
        Service::Upper => {
            let upper = fast(|msg, out| out.send(msg.to_ascii_uppercase()));
            messages(upper, raw, plan, limits, told)
        }
        Service::Discard => messages(fast(|_, _| ()), raw, plan, limits, told),
        Service::Daytime => messages(each(|_| Clock { say: daytime }), raw, plan, limits, told),
        Service::Time => messages(each(|_| Clock { say: time }), raw, plan, limits, told),
        Service::Chat => {
            let room = Room::new();
            let chat = each(move |peer| Chat { number: peer.number(), seat: room.join(peer) });
            messages(chat, Lines::new(), plan, limits, told)
        }
        Service::Chargen => {
            let server = Server::streams(stream(chargen)).limits(limits);
            let mut server = plan.gate.guard(server);
            if plan.once {
                server = server.once();
            }
            plan.streams.streams(server).observe(told).start()
        }
    };
    running.map(|running| vec![running])
}

fn messages<C: Codec + Clone + Send>(
    service: impl Serves,
    codec: C,
    plan: &Plan,
    limits: Limits,
    told: Told,
) -> adit::Result<Running> {
    let mut server = plan.gate.guard(Server::new(service).limits(limits));
    if plan.once {
        server = server.once();
    }
    let server = plan.streams.messages(server, &codec);
    plan.datagrams.datagrams(server).observe(told).start()
}

/// Says the time: at once on a connection, which it then closes, and for each datagram.
struct Clock {
    say: fn() -> Vec<u8>,
}

impl Handler for Clock {
    fn opened(&mut self, peer: &Peer, out: &mut Out<'_>) {
        if !peer.transport().is_datagram() {
            out.send((self.say)());
            out.close();
        }
    }

    fn message(&mut self, _msg: &[u8], out: &mut Out<'_>) -> Answer {
        out.send((self.say)());
        Answer::Done
    }
}

/// `Wednesday, November 25, 2026 08:15:00-UTC` (RFC 867 shows this form).
fn daytime() -> Vec<u8> {
    let now = jiff::Timestamp::now().to_zoned(jiff::tz::TimeZone::UTC);
    now.strftime("%A, %B %-d, %Y %H:%M:%S-UTC\r\n").to_string().into_bytes()
}

/// Seconds since 1900 in 32 bits (RFC 868); they begin anew in 2036.
fn time() -> Vec<u8> {
    const FROM_1900_TO_1970: u64 = 2_208_988_800;
    let unix = u64::try_from(jiff::Timestamp::now().as_second()).unwrap_or(0);
    let seconds = (unix + FROM_1900_TO_1970) & u64::from(u32::MAX);
    u32::try_from(seconds).unwrap_or(0).to_be_bytes().to_vec()
}

/// Lines of 72 printable characters, each begun one further, until the client has enough (RFC 864).
async fn chargen(conn: Conn) -> Result<(), BoxError> {
    const FIRST: u8 = b' ';
    const COUNT: usize = 95;
    let printable: Vec<u8> = (FIRST..).take(COUNT).collect();
    let lines: Vec<u8> = (0..COUNT)
        .flat_map(|start| {
            let line = printable.iter().cycle().skip(start).take(72);
            line.copied().chain(*b"\r\n").collect::<Vec<u8>>()
        })
        .collect();
    let (mut read, mut write) = conn.split();
    let send = async {
        let mut at = 0;
        loop {
            // Not write_all: the order to end is looked at between two writes.
            let sent = poll_fn(|cx| Pin::new(&mut write).poll_write(cx, &lines[at..])).await?;
            at = (at + sent) % lines.len();
            if write.is_ending() {
                return std::io::Result::Ok(());
            }
        }
    };
    let mut sink = tokio::io::sink();
    tokio::select! {
        sent = send => sent?,
        // The client has ended its direction: it has enough.
        end = tokio::io::copy(&mut read, &mut sink) => drop(end?),
    }
    Ok(())
}

/// Every line goes to all others, with the number of who said it.
struct Chat {
    number: u64,
    seat: Seat,
}

impl Handler for Chat {
    fn message(&mut self, msg: &[u8], _out: &mut Out<'_>) -> Answer {
        self.seat.publish([format!("{}: ", self.number).as_bytes(), msg].concat());
        Answer::Done
    }

    /// Whoever has nothing more to say may go on listening.
    fn finished(&mut self, _out: &mut Out<'_>) -> Answer {
        Answer::Done
    }
}

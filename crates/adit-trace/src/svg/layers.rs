//! The layers: process above, kernel below, the socket as the door between them.

use crate::rows::size;
use crate::story::{Scheme, Seen, Story, Talk};
use crate::text::Names;

use super::canvas::{Area, Canvas, Look, Stroke, Tone};
use super::facts::{Facts, Tally, door, plural, program};
use super::measure::{Font, Px};
use super::{MARGIN, Picture, WIDTH};

/// Draws the layers on both hosts.
pub(super) fn draw(story: &Story, talk: &Talk, names: Names, is_live: bool) -> Picture {
    let facts = Facts::of(talk);
    let is_datagram = talk.scheme.is_datagram();
    let mut canvas = Canvas::new(is_live);
    let (left, right) = (MARGIN + SIDE, WIDTH - MARGIN - HOST);
    sides(&mut canvas);
    let kernel = transport(talk.scheme);
    let client = Host {
        role: "Client",
        seen: Seen::Client,
        is_traced: facts.sees_client,
        socket: (names.client(), facts.client_fd),
        written: facts.up.written,
        read: facts.down.read,
        addr: &talk.client,
        state: state(&facts, talk, facts.client_is_closed),
    };
    let server = Host {
        role: "Server",
        seen: Seen::Server,
        is_traced: facts.sees_server,
        socket: (names.server(is_datagram), facts.server_fd),
        written: facts.down.written,
        read: facts.up.read,
        addr: &talk.server,
        state: state(&facts, talk, facts.server_is_closed),
    };
    for (x, host) in [(left, &client), (right, &server)] {
        host.draw(&mut canvas, story, (x, kernel));
    }
    if let Some(door) = door(story, talk).filter(|_| talk.relay.is_none() && !is_datagram) {
        let fd = door.fd.map_or_else(String::new, |fd| format!(" fd {fd}"));
        let text = format!("{}{fd} still listens", names.welcome());
        let text = match door.until {
            Some(_) => text.replace(" still listens", " listened"),
            None => text,
        };
        let look = Look::new(Font::SMALL, Tone::Muted).middle();
        canvas.text((right + HOST / 2, 124), look, &Font::SMALL.fit(&text, HOST - 32));
    }
    network(&mut canvas, talk, (left, right));
    let label = format!("Layers of conversation {}", talk.number);
    Picture { body: canvas.into_body(), height: 350, label }
}

struct Host<'a> {
    role: &'a str,
    seen: Seen,
    is_traced: bool,
    socket: (&'a str, Option<i32>),
    written: Tally,
    read: Tally,
    addr: &'a str,
    state: &'static str,
}

impl Host<'_> {
    fn draw(&self, canvas: &mut Canvas, story: &Story, (x, kernel): (Px, &str)) {
        let (middle, room) = (x + HOST / 2, HOST - 32);
        let centred = |font, tone| Look::new(font, tone).middle();
        canvas.area(Area(x, 12, HOST, 238), "card");
        let name = program(story, self.seen).filter(|_| self.is_traced).map_or_else(
            || "process".to_owned(),
            |program| match program.pid {
                0 => program.name.clone(),
                pid => format!("{}  pid {pid}", program.name),
            },
        );
        canvas.text((middle, 38), centred(Font::STRONG, Tone::Ink), self.role);
        canvas.text((middle, 60), centred(Font::CODE, Tone::Ink), &Font::CODE.fit(&name, room));
        let calls = match self.is_traced {
            true => format!(
                "{}, {}",
                plural(self.written.count, "write"),
                plural(self.read.count, "read")
            ),
            false => "its calls are not known".to_owned(),
        };
        canvas.text((middle, 82), centred(Font::BODY, Tone::Muted), &Font::BODY.fit(&calls, room));
        // The wall, and the door in it: half in the program and half in the kernel.
        canvas.line((x, DOOR), (x + HOST, DOOR), Stroke::Dashed, Tone::Muted);
        canvas.area(Area(x + 40, DOOR - 17, HOST - 80, 34), "fill ti");
        let (socket, fd) = self.socket;
        let fd = fd.map_or_else(String::new, |fd| format!("  fd {fd}"));
        let text = Font::CODE.fit(&format!("{socket}{fd}"), room - 60);
        canvas.text((middle, DOOR + 4), centred(Font::CODE, Tone::Ink), &text);
        let state = format!("{kernel}: {}", self.state);
        canvas.text(
            (middle, 188),
            centred(Font::STRONG, Tone::Ink),
            &Font::STRONG.fit(&state, room),
        );
        canvas.text((middle, 208), centred(Font::BODY, Tone::Muted), "buffers, variables");
        let bytes = match self.is_traced {
            true => {
                format!("sent {}   received {}", size(self.written.bytes), size(self.read.bytes))
            }
            false => String::new(),
        };
        canvas.text((middle, 230), centred(Font::CODE, Tone::Muted), &Font::CODE.fit(&bytes, room));
        let look = centred(Font::CODE, Tone::Ink);
        canvas.text((middle, 272), look, &Font::CODE.fit(self.addr, room));
    }
}

/// Who is in charge above and below the door.
fn sides(canvas: &mut Canvas) {
    let (left, right) = (MARGIN + SIDE, WIDTH - MARGIN - HOST);
    canvas.line((MARGIN, DOOR), (left, DOOR), Stroke::Dashed, Tone::Muted);
    canvas.line((left + HOST, DOOR), (right, DOOR), Stroke::Dashed, Tone::Muted);
    let words = [(70, "yours", "the developer's"), (200, "the kernel's", "operating system")];
    for (y, first, second) in words {
        canvas.text((MARGIN, y), Look::new(Font::STRONG, Tone::Ink), first);
        canvas.text((MARGIN, y + 17), Look::new(Font::SMALL, Tone::Muted), second);
    }
}

/// The network below, as a line from host to host with what crossed it.
fn network(canvas: &mut Canvas, talk: &Talk, (left, right): (Px, Px)) {
    let (from, to) = (left + HOST / 2, right + HOST / 2);
    canvas.trail(&[(from, 280), (from, 310), (to, 310), (to, 280)], Stroke::Solid, Tone::Muted);
    let words = match talk.scheme {
        Scheme::Tcp | Scheme::Udp if host(&talk.client) == host(&talk.server) => "this host",
        Scheme::Tcp | Scheme::Udp => "internet",
        Scheme::Unix | Scheme::UnixDatagram => "this host's kernel",
    };
    let words = match &talk.relay {
        Some((to_client, to_server)) => format!("relay {to_client}, {to_server}"),
        None => words.to_owned(),
    };
    let words = Font::BODY.fit(&words, to - from - 40);
    let (middle, half) = (i32::midpoint(from, to), Font::BODY.width(&words) / 2 + 16);
    canvas.area(Area(middle - half, 295, half * 2, 30), "card");
    canvas.text((middle, 315), Look::new(Font::BODY, Tone::Ink).middle(), &words);
}

/// An address without its port.
fn host(addr: &str) -> &str {
    addr.rsplit_once(':').map_or(addr, |(host, _)| host)
}

fn transport(scheme: Scheme) -> &'static str {
    match scheme {
        Scheme::Tcp => "TCP",
        Scheme::Udp => "UDP",
        Scheme::Unix => "Unix stream",
        Scheme::UnixDatagram => "Unix datagrams",
    }
}

fn state(facts: &Facts, talk: &Talk, is_closed: bool) -> &'static str {
    match facts.trouble.as_deref() {
        Some("reset") => "reset",
        Some("refused") => "refused",
        _ if is_closed => "closed",
        _ if talk.scheme.is_datagram() => "no connection",
        _ if facts.is_open => "established",
        _ => "not connected",
    }
}

const HOST: Px = 320;
/// Room for the words on the left.
const SIDE: Px = 128;
/// Where the program ends and the kernel begins.
const DOOR: Px = 150;

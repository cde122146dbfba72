//! The hosts: who listens where, and who talks with whom.

use std::collections::BTreeMap;

use crate::rows::size;
use crate::story::{Seen, Story, Talk};
use crate::text::Names;

use super::canvas::{Area, Canvas, Look, Stroke, Tone};
use super::facts::{Facts, plural, program, to_u64};
use super::measure::{Font, Px, px};
use super::{MARGIN, Picture, WIDTH};

/// Draws the hosts of some talks.
pub(super) fn draw(story: &Story, talks: &[&Talk], names: Names) -> Picture {
    let mut canvas = Canvas::new(false);
    let mut clients: BTreeMap<&str, Vec<&Talk>> = BTreeMap::new();
    for talk in talks {
        clients.entry(host(&talk.client)).or_default().push(talk);
    }
    let mut order: Vec<(&str, Vec<&Talk>)> = clients.into_iter().collect();
    order.sort_by_key(|(_, talks)| talks.iter().map(|talk| talk.number).min());
    let mut lines = 0;
    // The sockets of both sides stand at the same heights.
    let doors = story.doors.len().min(DOORS_MAX);
    let mut y = TOP + 36 + px(doors) * LINE;
    let mut ends = Vec::new();
    let most = order.len();
    let mut drawn = 0;
    for (host, talks) in order {
        if lines >= LINES_MAX {
            break;
        }
        let shown = talks.len().min(LINES_MAX - lines);
        lines += shown;
        drawn += 1;
        let more = talks.len() - shown;
        let height = 48 + px(shown) * LINE + if more > 0 { LINE } else { 0 };
        canvas.area(Area(MARGIN, y, CLIENT, height), "card");
        let name = if host.is_empty() { "client, address unknown" } else { host };
        let head = Font::STRONG.fit(&format!("Host {name}"), CLIENT - 32);
        canvas.text((MARGIN + 16, y + 26), Look::new(Font::STRONG, Tone::Ink), &head);
        for (index, talk) in talks.iter().take(shown).enumerate() {
            let at = y + 40 + px(index) * LINE;
            socket(&mut canvas, (MARGIN + 16, at, CLIENT - 32), &client_label(talk, names));
            ends.push((at + 12, *talk));
        }
        if more > 0 {
            let text = plural(to_u64(more), "more socket");
            let at = (MARGIN + 16, y + 54 + px(shown) * LINE);
            canvas.text(at, Look::new(Font::BODY, Tone::Muted), &text);
        }
        y += height + 16;
    }
    if most > drawn {
        let text = plural(to_u64(most - drawn), "more host");
        canvas.text((MARGIN + 16, y + 14), Look::new(Font::BODY, Tone::Muted), &text);
        y += 30;
    }
    let height = server(&mut canvas, story, (&ends, names), y.max(180));
    let label = format!("Hosts of {}", plural(to_u64(talks.len()), "conversation"));
    Picture { body: canvas.into_body(), height, label }
}

/// The server's host with its doors and a socket for each conversation, and the lines to them.
fn server(
    canvas: &mut Canvas,
    story: &Story,
    (ends, names): (&[(Px, &Talk)], Names),
    bottom: Px,
) -> Px {
    let x = WIDTH - MARGIN - SERVER;
    let talk = ends.first().map(|(_, talk)| *talk);
    let doors = story.doors.len().min(DOORS_MAX);
    let top = TOP;
    canvas.area(Area(x, top, SERVER, bottom - top), "card");
    let address = talk.map_or("", |talk| host(&talk.server));
    let head = Font::STRONG.fit(&format!("Host {address}"), SERVER - 32);
    canvas.text((x + 16, top + 26), Look::new(Font::STRONG, Tone::Ink), &head);
    let name = program(story, Seen::Server)
        .or_else(|| program(story, Seen::RelayToClient))
        .map_or_else(String::new, |program| match program.pid {
            0 => program.name.clone(),
            pid => format!("{}  pid {pid}", program.name),
        });
    let name = Font::CODE.fit(&name, SERVER - 32);
    canvas.text((x + 16, top + 48), Look::new(Font::CODE, Tone::Muted), &name);
    for (index, door) in story.doors.iter().take(doors).enumerate() {
        let fd = door.fd.map_or_else(String::new, |fd| format!(" fd {fd}"));
        let is_datagram = door.scheme.is_datagram();
        let text = format!("{}{fd}  {} {}", names.door(is_datagram), door.scheme.word(), door.addr);
        socket(canvas, (x + 16, top + 60 + px(index) * LINE, SERVER - 32), &text);
    }
    for (y, talk) in ends {
        let facts = Facts::of(talk);
        let fd = facts.server_fd.map_or_else(String::new, |fd| format!(" fd {fd}"));
        let name = names.server(talk.scheme.is_datagram());
        socket(canvas, (x + 16, y - 12, SERVER - 32), &format!("{name}{fd}  {}", facts.state()));
        between(canvas, (MARGIN + CLIENT - 16, *y), (x + 16, *y), (talk, &facts));
    }
    bottom + 16
}

/// The line of one conversation from socket to socket, with what went each way.
fn between(canvas: &mut Canvas, from: (Px, Px), to: (Px, Px), what: (&Talk, &Facts)) {
    let (talk, facts) = what;
    let tone = if facts.is_clean() { Tone::Muted } else { Tone::Lost };
    let stroke = if talk.relay.is_some() { Stroke::Dashed } else { Stroke::Solid };
    let (up, down) = (size(facts.up.most().bytes), size(facts.down.most().bytes));
    canvas.open("link", &[("conv", &talk.number)]);
    canvas.title(&format!("Conversation {}: {up} up, {down} down", talk.number));
    let middle = i32::midpoint(from.0, to.0);
    canvas.line(from, to, stroke, tone);
    canvas.dot(from, tone);
    canvas.dot(to, tone);
    if !facts.is_clean() {
        canvas.cross((middle + (to.0 - middle) / 2, from.1));
    }
    let text = Font::SMALL.fit(&format!("{up} up, {down} down"), (to.0 - from.0) / 2);
    let look = Look::new(Font::SMALL, Tone::Muted).middle();
    canvas.text((middle, from.1 - 8), look, &text);
    canvas.close();
}

fn socket(canvas: &mut Canvas, (x, y, width): (Px, Px, Px), text: &str) {
    canvas.area(Area(x, y, width, 24), "chip");
    let text = Font::CODE.fit(text, width - 20);
    canvas.text((x + 10, y + 16), Look::new(Font::CODE, Tone::Ink), &text);
}

fn client_label(talk: &Talk, names: Names) -> String {
    let facts = Facts::of(talk);
    let fd = facts.client_fd.map_or_else(String::new, |fd| format!(" fd {fd}"));
    let port = talk.client.rsplit_once(':').map_or("", |(_, port)| port);
    format!("{}{fd}  port {port}", names.client())
}

/// The address without its port.
fn host(addr: &str) -> &str {
    addr.rsplit_once(':').map_or(addr, |(host, _)| host)
}

/// Where the server's card begins.
const TOP: Px = 12;
const CLIENT: Px = 300;
const SERVER: Px = 340;
const LINE: Px = 32;
/// Conversations that are drawn at most.
const LINES_MAX: usize = 24;
const DOORS_MAX: usize = 8;

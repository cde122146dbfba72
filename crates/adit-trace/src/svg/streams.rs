//! The streams: from keyboard to program to socket, across, and back, with what went through each.

use crate::rows::size;
use crate::story::{Seen, Story, Talk, Way};
use crate::text::Names;

use super::canvas::{Area, Canvas, Look, Stroke, Tone};
use super::facts::{Facts, Flow, Tally, plural, program};
use super::measure::{Font, Px};
use super::{MARGIN, Picture, WIDTH};

/// Draws the streams of a talk.
pub(super) fn draw(story: &Story, talk: &Talk, names: Names, is_live: bool) -> Picture {
    let facts = Facts::of(talk);
    let is_datagram = talk.scheme.is_datagram();
    let mut canvas = Canvas::new(is_live);
    let host = |canvas: &mut Canvas, x: Px, role: &str, addr: &str| {
        canvas.area(Area(x, 12, HOST, 318), "card");
        canvas.text((x + 16, 36), Look::new(Font::STRONG, Tone::Ink), role);
        let addr = Font::CODE.fit(addr, HOST - 110);
        canvas.text((x + HOST - 16, 36), Look::new(Font::CODE, Tone::Muted).end(), &addr);
    };
    let right = WIDTH - MARGIN - HOST;
    host(&mut canvas, MARGIN, "Client", &talk.client);
    host(&mut canvas, right, "Server", &talk.server);

    let (up, down) = (&facts.up, &facts.down);
    user(&mut canvas, names, [written(up), read(down, facts.sees_client)]);
    // Whoever wrote this trace has no part in the conversations of others.
    let name = |seen, role: &str, is_its_own: bool| {
        let known = program(story, seen).filter(|_| is_its_own);
        known.map_or_else(|| role.to_owned(), |program| program.name.clone())
    };
    process(&mut canvas, MARGIN, &name(Seen::Client, "client process", facts.sees_client));
    process(&mut canvas, right, &name(Seen::Server, "server process", facts.sees_server));
    let (out, back) = match is_datagram {
        true => (names.send_packet(), names.receive_packet()),
        false => (names.out_to_server(), names.in_from_server()),
    };
    door(&mut canvas, MARGIN, (names.client(), facts.client_fd));
    pipes(
        &mut canvas,
        MARGIN,
        Way::Down,
        [(out, written(up)), (back, read(down, facts.sees_client))],
    );
    let (back, out) = match is_datagram {
        true => (names.receive_packet(), names.send_packet()),
        false => (names.in_from_client(), names.out_to_client()),
    };
    door(&mut canvas, right, (names.server(is_datagram), facts.server_fd));
    pipes(&mut canvas, right, Way::Up, [(back, read(up, facts.sees_server)), (out, written(down))]);

    across(&mut canvas, is_datagram, Way::Up, up);
    across(&mut canvas, is_datagram, Way::Down, down);
    if talk.relay.is_some() {
        let middle = WIDTH / 2;
        canvas.area(Area(middle - 34, 270, 68, 30), "chip");
        canvas.text((middle, 289), Look::new(Font::BODY, Tone::Ink).middle(), "relay");
    }
    let label = format!("Streams of conversation {}", talk.number);
    Picture { body: canvas.into_body(), height: 350, label }
}

/// Keyboard and monitor, above the client's process.
fn user(canvas: &mut Canvas, names: Names, [typed, shown]: [Tally; 2]) {
    let (left, right) = (MARGIN + 16, MARGIN + HOST - 16 - 110);
    for (x, word) in [(left, "keyboard"), (right, "monitor")] {
        canvas.area(Area(x, 52, 110, 30), "chip");
        canvas.text((x + 55, 71), Look::new(Font::BODY, Tone::Ink).middle(), word);
    }
    upright(canvas, (left + 24, 84), 138, Tone::Up);
    upright(canvas, (right + 86, 136), 84, Tone::Down);
    let sum = size(typed.bytes);
    canvas.text((left + 36, 105), Look::new(Font::CODE, Tone::Ink), names.in_from_user());
    canvas.text((left + 36, 121), Look::new(Font::CODE, Tone::Up), &sum);
    let look = Look::new(Font::CODE, Tone::Down).end();
    canvas.text((right + 76, 121), look, &size(shown.bytes));
}

fn process(canvas: &mut Canvas, x: Px, name: &str) {
    canvas.area(Area(x + 16, 138, HOST - 32, 46), "chip");
    let name = Font::CODE.fit(name, HOST - 56);
    let look = Look::new(Font::CODE, Tone::Ink).middle();
    canvas.text((x + HOST / 2, 166), look, &name);
}

/// The socket at the foot of a host: a thick line, as a door in a wall.
fn door(canvas: &mut Canvas, x: Px, (name, fd): (&str, Option<i32>)) {
    canvas.area(Area(x + 16, 268, HOST - 32, 34), "fill ti");
    let fd = fd.map_or_else(String::new, |fd| format!("  fd {fd}"));
    let look = Look::new(Font::CODE, Tone::Ink).middle();
    canvas.text((x + HOST / 2, 290), look, &format!("{name}{fd}"));
}

/// The two streams between a process and its socket: the first is of the way up.
fn pipes(canvas: &mut Canvas, x: Px, towards: Way, pipes: [(&str, Tally); 2]) {
    let [(up_name, up), (down_name, down)] = pipes;
    let (left, right) = (x + 40, x + HOST - 40);
    // Bytes of the way up go down into the client's socket and come up from the server's.
    let (up_from, up_to) = if towards == Way::Down { (186, 266) } else { (266, 186) };
    let (down_from, down_to) = (up_to, up_from);
    upright(canvas, (left, up_from), up_to, Tone::Up);
    canvas.text((left + 12, 220), Look::new(Font::CODE, Tone::Ink), up_name);
    canvas.text((left + 12, 238), Look::new(Font::CODE, Tone::Up), &amount(up));
    upright(canvas, (right, down_from), down_to, Tone::Down);
    canvas.text((right - 12, 220), Look::new(Font::CODE, Tone::Ink).end(), down_name);
    canvas.text((right - 12, 238), Look::new(Font::CODE, Tone::Down).end(), &amount(down));
}

/// What crosses between the sockets: a stream without edges, or packets with theirs.
fn across(canvas: &mut Canvas, is_datagram: bool, way: Way, flow: &Flow) {
    let (left, right) = (MARGIN + HOST - 14, WIDTH - MARGIN - HOST + 14);
    let (y, tone) = (if way == Way::Up { 276 } else { 294 }, Tone::of(way));
    let (from, to) = if way == Way::Up { (left, right) } else { (right, left) };
    let most = flow.most();
    if most.count == 0 {
        canvas.line((from, y), (to, y), Stroke::Dashed, Tone::Faint);
        return;
    }
    canvas.arrow((from, y), (to, y), Stroke::Solid, tone);
    if is_datagram {
        let boxes = i32::try_from(most.count.min(5)).unwrap_or(5);
        let middle = i32::midpoint(left, right);
        for index in 0..boxes {
            let x = middle - boxes * 10 + index * 20;
            canvas.area(Area(x, y - 5, 14, 10), &format!("fill t{}", tone.letter()));
        }
    }
    let look = Look::new(Font::CODE, tone).middle();
    let base = if way == Way::Up { 260 } else { 320 };
    let noun = if is_datagram { "packet" } else { "byte" };
    let count = if is_datagram { most.count } else { most.bytes };
    let text = Font::CODE.fit(&plural(count, noun), right - left - 30);
    canvas.text((i32::midpoint(left, right), base), look, &text);
}

/// An upright arrow.
fn upright(canvas: &mut Canvas, (x, from): (Px, Px), to: Px, tone: Tone) {
    let wing = if from < to { -8 } else { 8 };
    canvas.line((x, from), (x, to), Stroke::Solid, tone);
    canvas.trail(&[(x - 5, to + wing), (x, to), (x + 5, to + wing)], Stroke::Solid, tone);
}

fn amount(tally: Tally) -> String {
    match tally.count {
        0 => "0 B".to_owned(),
        1 => size(tally.bytes),
        count => format!("{} in {count}", size(tally.bytes)),
    }
}

/// What was written into this way, or as much as is known of it from those who saw it go by.
fn written(flow: &Flow) -> Tally {
    if flow.written.count > 0 { flow.written } else { flow.most() }
}

/// What was read of this way. Where only the writer tells, nobody knows: then what he wrote.
fn read(flow: &Flow, sees_reader: bool) -> Tally {
    if sees_reader { flow.read } else { flow.most() }
}

/// How wide a host is.
const HOST: Px = 350;

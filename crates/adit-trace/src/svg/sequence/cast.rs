//! Who plays in a sequence: the places of the lifelines, their heads, and how far each one goes.

use crate::rows::{Kind, Observers, Row, Stage};
use crate::story::{Seen, Talk, Way};
use crate::text::View;

use super::super::canvas::{Area, Canvas, Look, Stroke, Tone};
use super::super::facts::{Facts, door, program};
use super::super::measure::{Font, Px};
use super::super::{MARGIN, Scene, WIDTH};

/// The lifelines of a talk.
pub(super) struct Cast<'a> {
    pub(super) scene: &'a Scene<'a>,
    pub(super) talk: &'a Talk,
    /// Moments and durations are shown: they differ from run to run.
    pub(super) has_times: bool,
    pub(super) observers: Observers,
    pub(super) server: Px,
    pub(super) client: Px,
    /// A relay stands between them.
    pub(super) relay: Option<Px>,
    /// The lane for what was captured on the wire: its left and right edge.
    pub(super) wire: Option<(Px, Px)>,
    /// Where the lifelines begin.
    top: Px,
    lives: Vec<Life>,
    /// Pieces of lifelines, in the order in which they end.
    pieces: Vec<(Px, Px, Px, Stroke)>,
}

/// One lifeline while it is drawn downwards.
struct Life {
    x: Px,
    since: Px,
    stroke: Stroke,
    is_traced: bool,
    is_over: bool,
}

impl<'a> Cast<'a> {
    pub(super) fn new(scene: &'a Scene<'a>, talk: &'a Talk, top: Px) -> Self {
        let has_times = scene.view != View::Steps;
        let observers = Observers::of(&talk.acts);
        let has_relay = observers.relay;
        let (server, client) = if has_relay { (262, 712) } else { (310, 690) };
        let middle = i32::midpoint(server, client);
        let relay = has_relay.then_some(middle);
        let wire = (observers.wire && !has_relay).then_some((middle - 62, middle + 62));
        let life = |x, is_traced| Life {
            x,
            since: top,
            stroke: if is_traced { Stroke::Solid } else { Stroke::Dotted },
            is_traced,
            is_over: false,
        };
        let mut lives = vec![life(server, observers.server), life(client, observers.client)];
        lives.extend(relay.map(|x| life(x, true)));
        Self {
            scene,
            talk,
            has_times,
            observers,
            server,
            client,
            relay,
            wire,
            top,
            lives,
            pieces: Vec::new(),
        }
    }

    /// Where somebody's lifeline is.
    pub(super) fn place(&self, seen: Seen) -> Px {
        match seen {
            Seen::Server => self.server,
            Seen::Client => self.client,
            Seen::RelayToClient | Seen::RelayToServer => self.relay.unwrap_or(self.server),
            Seen::Wire => i32::midpoint(self.server, self.client),
        }
    }

    /// Where an arrow of this way begins and ends.
    pub(super) fn ends(&self, way: Way) -> (Px, Px) {
        match way {
            Way::Up => (self.client, self.server),
            Way::Down => (self.server, self.client),
        }
    }

    /// The cards above the lifelines.
    pub(super) fn head(&self, canvas: &mut Canvas, y: Px) {
        let width = if self.relay.is_some() { 212 } else { 340 };
        let (server, client) = (&self.talk.server, &self.talk.client);
        let door = door(self.scene.story, self.talk);
        let socket = self.scene.options.names.door(self.talk.scheme.is_datagram());
        let listens = door.map(|door| match door.fd {
            Some(fd) => format!("{socket} fd {fd}, {}", door.addr),
            None => format!("{socket} {}", door.addr),
        });
        let untraced = || "not traced".to_owned();
        let listens_here = if self.relay.is_some() { None } else { listens.clone() };
        let third = match self.observers.server {
            true => listens_here.unwrap_or_default(),
            false => untraced(),
        };
        self.card(canvas, (self.server, y, width), (Seen::Server, "Server"), [server, &third]);
        let socket = self.scene.options.names.client();
        let third = match (self.observers.client, Facts::of(self.talk).client_fd) {
            (true, Some(fd)) if self.has_times => format!("{socket} fd {fd}"),
            (true, _) => socket.to_owned(),
            (false, _) => untraced(),
        };
        self.card(canvas, (self.client, y, width), (Seen::Client, "Client"), [client, &third]);
        if let (Some(x), Some((to_client, _))) = (self.relay, &self.talk.relay) {
            let third = listens.unwrap_or_default();
            let who = (Seen::RelayToClient, "Relay");
            self.card(canvas, (x, y, width), who, [to_client, &third]);
        }
        if let Some((left, right)) = self.wire {
            let middle = i32::midpoint(left, right);
            let look = Look::new(Font::STRONG, Tone::Muted).middle();
            canvas.text((middle, y + HEAD_CARD + 24), look, "wire");
        }
    }

    fn card(
        &self,
        canvas: &mut Canvas,
        (middle, y, width): (Px, Px, Px),
        (seen, role): (Seen, &str),
        [addr, third]: [&str; 2],
    ) {
        let (left, room) = (middle - width / 2, width - 24);
        let at = |line: Px| (left + 12, y + line);
        canvas.open("head", &[]);
        canvas.area(Area(left, y, width, HEAD_CARD), "card");
        let program = program(self.scene.story, seen);
        let name = program.map_or_else(String::new, |program| {
            let both = format!("{}  pid {}", program.name, program.pid);
            let is_shown = program.pid > 0 && self.has_times && Font::CODE.width(&both) <= room;
            if is_shown { both } else { program.name.clone() }
        });
        canvas.title(&format!("{role} {name} {addr} {third}"));
        canvas.text(at(23), Look::new(Font::STRONG, Tone::Ink), role);
        let addr = Font::CODE.fit(addr, room - Font::STRONG.width(role) - 12);
        let look = Look::new(Font::CODE, Tone::Ink).end();
        canvas.text((left + width - 12, y + 23), look, &addr);
        canvas.text(at(45), Look::new(Font::CODE, Tone::Muted), &Font::CODE.fit(&name, room));
        canvas.text(at(65), Look::new(Font::SMALL, Tone::Muted), &Font::SMALL.fit(third, room));
        canvas.close();
    }

    /// How the lifelines go on beside a row.
    pub(super) fn lifelines(&mut self, row: &Row, y: Px, height: Px) {
        let is_gap = matches!(row.kind, Kind::Gap);
        let closed = match &row.kind {
            Kind::Close(close) => Some(self.place(close.seen)),
            _ => None,
        };
        for life in &mut self.lives {
            let stroke = match (life.is_traced, is_gap) {
                (true, false) => Stroke::Solid,
                (true, true) => Stroke::Dashed,
                (false, _) => Stroke::Dotted,
            };
            if stroke != life.stroke && !life.is_over {
                self.pieces.push((life.x, life.since, y, life.stroke));
                (life.since, life.stroke) = (y, stroke);
            }
            if closed == Some(life.x) && !life.is_over {
                self.pieces.push((life.x, life.since, y + height / 2, life.stroke));
                life.is_over = true;
            }
            // Somebody who tells more than his close: the line goes on.
            if life.is_over && closed.is_none() && tells(row, life.x, self.server, self.client) {
                (life.is_over, life.since, life.stroke) = (false, y, stroke);
            }
        }
    }

    /// Draws all lifelines down to `end`, and the lane of the wire beneath them.
    pub(super) fn draw_lifelines(&mut self, canvas: &mut Canvas, end: Px) {
        let top = self.top;
        if let Some((left, right)) = self.wire {
            canvas.area(Area(left, top + 6, right - left, end - top - 6), "lane");
        }
        for life in &self.lives {
            if !life.is_over {
                self.pieces.push((life.x, life.since, end, life.stroke));
            }
        }
        for (x, from, to, stroke) in self.pieces.drain(..).filter(|(_, from, to, _)| from < to) {
            canvas.line((x, from), (x, to), stroke, Tone::Muted);
        }
    }

    /// A place where rows are left out; gives the height it took.
    pub(super) fn fold(&self, canvas: &mut Canvas, y: Px, rows: usize) -> Px {
        if rows == 0 {
            return 0;
        }
        let words = format!("{rows} rows are not drawn here");
        zigzag(canvas, (MARGIN, WIDTH - MARGIN), y + 26, &words);
        52
    }
}

/// A folded line with words in its middle.
pub(super) fn zigzag(canvas: &mut Canvas, (left, right): (Px, Px), y: Px, words: &str) {
    let (middle, room) = (i32::midpoint(left, right), Font::SMALL.width(words) / 2 + 12);
    for (from, to) in [(left, middle - room), (middle + room, right)] {
        let teeth = (to - from) / 8;
        let tooth = |index: Px| (from + index * 8, y + if index % 2 == 0 { -4 } else { 4 });
        let points: Vec<(Px, Px)> = (0..=teeth).map(tooth).collect();
        if points.len() > 1 {
            canvas.trail(&points, Stroke::Thin, Tone::Muted);
        }
    }
    canvas.text((middle, y + 4), Look::new(Font::SMALL, Tone::Muted).middle(), words);
}

/// Does the program at `x` take part in this row?
fn tells(row: &Row, x: Px, server: Px, client: Px) -> bool {
    let (way, stages): (Way, Vec<Stage>) = match &row.kind {
        Kind::Message(message) => {
            (message.way, message.stages.iter().map(|pieces| pieces.stage).collect())
        }
        Kind::Datagram(datagram) => {
            (datagram.way, datagram.stages.iter().map(|(stage, _)| *stage).collect())
        }
        _ => return false,
    };
    let (from, to) = if way == Way::Up { (client, server) } else { (server, client) };
    (x == from && stages.contains(&Stage::Written)) || (x == to && stages.contains(&Stage::Read))
}

/// The height of a card.
const HEAD_CARD: Px = 78;

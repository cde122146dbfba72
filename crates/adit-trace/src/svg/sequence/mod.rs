//! The sequence: a lifeline for each program, time downwards, one row for each thing that happened.

mod cast;
mod line;

use crate::rows::{Kind, Row, rows};
use crate::story::Talk;

use super::canvas::{Area, Canvas, Look, Stroke, Tone};
use super::measure::{Font, Px};
use super::{MARGIN, Picture, Scene, WIDTH, facts, overview, window};
use cast::Cast;

/// Draws the sequence of one talk.
pub(super) fn draw(scene: &Scene<'_>, talk: &Talk, is_live: bool) -> Picture {
    let options = scene.options;
    let all = rows(talk);
    let drawn = window(all.len(), options);
    let shown: usize = drawn.iter().map(ExactSizeIterator::len).sum();
    let mut canvas = Canvas::new(is_live);
    let mut y = 0;
    if shown < all.len() {
        y += overview::draw(&mut canvas, y, &all, &drawn);
    }
    let mut cast = Cast::new(scene, talk, y + HEAD_HEIGHT);
    cast.head(&mut canvas, y + 12);
    y += HEAD_HEIGHT + 8;
    if cast.has_times {
        let unit = Look::new(Font::SMALL, Tone::Muted).end();
        canvas.text((TIME_END, y - 14), unit, "ms");
    }

    let mut lines = Canvas::new(is_live);
    let mut next = 0;
    for range in drawn {
        y += cast.fold(&mut lines, y, range.start - next);
        for (index, row) in all.iter().enumerate().take(range.end).skip(range.start) {
            let height = line::height(row, &cast);
            cast.lifelines(row, y, height);
            draw_row(&mut lines, &cast, (index, row), y);
            y += height;
        }
        next = range.end;
    }
    y += cast.fold(&mut lines, y, all.len() - next);
    if all.is_empty() {
        lines.text((MARGIN, y + 20), Look::new(Font::BODY, Tone::Muted), "Nothing happened.");
    }
    y += 16;
    // Below the rows, which the lines must not cross.
    cast.draw_lifelines(&mut canvas, y);
    canvas.paste(&lines.into_body(), 0);
    let height = legend(&mut canvas, y + 8);
    let label = format!("Sequence of conversation {}, {} rows", talk.number, all.len());
    Picture { body: canvas.into_body(), height, label }
}

/// The row as a group: its data for a page, its tooltip, its time and what it shows.
fn draw_row(canvas: &mut Canvas, cast: &Cast<'_>, row: (usize, &Row), y: Px) {
    let (index, row) = row;
    match &row.kind {
        Kind::Message(message) => canvas.open(
            "row",
            &[
                ("row", &index),
                ("w", &Tone::of(message.way).letter()),
                ("a", &message.off.start),
                ("z", &message.off.end),
            ],
        ),
        Kind::Datagram(datagram) => canvas.open(
            "row",
            &[("row", &index), ("w", &Tone::of(datagram.way).letter()), ("m", &datagram.msg)],
        ),
        _ => canvas.open("row", &[("row", &index)]),
    }
    canvas.title(&line::tooltip(row));
    if canvas.is_live {
        let height = line::height(row, cast);
        canvas.area(Area(MARGIN - 8, y, WIDTH - 2 * MARGIN + 16, height - 2), "hit");
    }
    if cast.has_times && !matches!(row.kind, Kind::Gap) {
        let time = Font::TINY.fit(&facts::moment(row.at), TIME_END - MARGIN + 4);
        canvas.text(
            (TIME_END, y + line::line_of(cast) + 4),
            Look::new(Font::TINY, Tone::Muted).end(),
            &time,
        );
    }
    line::draw(canvas, cast, row, y);
    canvas.close();
}

fn legend(canvas: &mut Canvas, y: Px) -> Px {
    let look = Look::new(Font::SMALL, Tone::Muted);
    let base = y + 20;
    let mut x = MARGIN;
    let strokes = [
        (Stroke::Solid, "data"),
        (Stroke::Dashed, "waiting, silence is folded"),
        (Stroke::Dotted, "not traced"),
    ];
    for (stroke, words) in strokes {
        canvas.line((x, base - 4), (x + 34, base - 4), stroke, Tone::Ink);
        canvas.text((x + 42, base), look, words);
        x += 42 + Font::SMALL.width(words) + 28;
    }
    canvas.cross((x + 6, base - 4));
    canvas.text((x + 20, base), look, "lost, refused or reset");
    base + 16
}

/// Where the column of times ends.
const TIME_END: Px = MARGIN + 62;
/// From the top of the cards to the first row.
const HEAD_HEIGHT: Px = 122;

//! One lane of a ruler: the pieces into which one caller, or the wire, cut the stream.

use crate::rows::size;
use crate::story::Way;

use super::super::MARGIN;
use super::super::canvas::{Area, Canvas, Look, Tone};
use super::super::facts::{moment, plural, to_u64};
use super::super::measure::{Font, Px};
use super::{LEFT, Ruler};

/// The pieces of one caller.
pub(super) struct Lane {
    who: &'static str,
    what: &'static str,
    way: Way,
    pub(super) blocks: Vec<Block>,
}

/// One piece: a write, a segment, a read.
pub(super) struct Block {
    pub(super) from: u64,
    pub(super) to: u64,
    /// These bytes were here before.
    pub(super) again: bool,
    /// Its place among the acts.
    pub(super) index: usize,
    pub(super) at: u64,
}

impl Lane {
    pub(super) const fn new(who: &'static str, what: &'static str, way: Way) -> Self {
        Self { who, what, way, blocks: Vec::new() }
    }

    /// Draws the lane; gives where the next one begins.
    pub(super) fn draw(&self, canvas: &mut Canvas, ruler: &Ruler, y: Px) -> Px {
        let count = plural(to_u64(self.blocks.len()), self.what);
        let label = format!("{}: {count}", self.who);
        let label = Font::BODY.fit(&label, LEFT - MARGIN - 10);
        canvas.text((MARGIN, y + 20), Look::new(Font::BODY, Tone::Ink), &label);
        // Pieces too narrow to be seen are joined; pieces of what was there before stand below.
        let mut narrow: Option<(Px, Px, usize)> = None;
        let (mut end, mut below) = (LEFT, Vec::new());
        for (number, block) in self.blocks.iter().enumerate() {
            let (left, right) = (ruler.place(block.from), ruler.place(block.to));
            if block.again || left < end - 1 && block.from < self.seen_before(number) {
                below.push((number, block));
                continue;
            }
            if right - left < NARROW {
                narrow = match narrow {
                    Some((from, to, count)) if left <= to + NARROW => {
                        Some((from, right.max(to), count + 1))
                    }
                    other => {
                        self.joined(canvas, other, y);
                        Some((left, right, 1))
                    }
                };
            } else {
                self.joined(canvas, narrow.take(), y);
                self.piece(
                    canvas,
                    (number, block),
                    Area(left, y + 4, right - left, 24),
                    Tone::of(self.way),
                );
            }
            end = end.max(right);
        }
        self.joined(canvas, narrow, y);
        if below.is_empty() {
            return y + 34;
        }
        for (number, block) in below.iter().take(BELOW_MAX) {
            let (left, right) = (ruler.place(block.from), ruler.place(block.to));
            let area = Area(left, y + 34, (right - left).max(NARROW), 20);
            self.piece(canvas, (*number, block), area, Tone::Lost);
        }
        let again = format!("{} again", below.len());
        canvas.text((LEFT - 12, y + 48), Look::new(Font::SMALL, Tone::Lost).end(), &again);
        y + 62
    }

    /// How far the stream had come before a piece.
    fn seen_before(&self, number: usize) -> u64 {
        number.checked_sub(1).and_then(|last| self.blocks.get(last)).map_or(0, |block| block.to)
    }

    fn piece(&self, canvas: &mut Canvas, what: (usize, &Block), area: Area, tone: Tone) {
        let (number, block) = what;
        let Area(x, y, width, height) = area;
        let (way, len) = (Tone::of(self.way).letter(), block.to - block.from);
        let data: [(&str, &dyn std::fmt::Display); 4] =
            [("act", &block.index), ("w", &way), ("a", &block.from), ("z", &block.to)];
        canvas.open("piece", &data);
        canvas.title(&format!(
            "{} {} {} of {}: bytes {} to {}, {}, at {} ms",
            self.who,
            self.what,
            number + 1,
            self.blocks.len(),
            block.from,
            block.to,
            size(len),
            moment(block.at),
        ));
        canvas.area(area, &format!("fill t{}", tone.letter()));
        let texts = [format!("{}..{}", block.from, block.to), size(len), len.to_string()];
        let fitting = texts.iter().find(|text| Font::TINY.width(text) + 8 <= width);
        if let Some(text) = fitting {
            let look = Look::new(Font::TINY, Tone::Ink).middle();
            canvas.text((x + width / 2, y + height / 2 + 4), look, text);
        }
        canvas.close();
    }

    /// Several narrow pieces as one area with their number.
    fn joined(&self, canvas: &mut Canvas, narrow: Option<(Px, Px, usize)>, y: Px) {
        let Some((left, right, count)) = narrow else { return };
        let width = (right - left).max(2);
        canvas.open("joined", &[]);
        canvas.title(&format!("{count} pieces, each too small to be seen on this scale"));
        canvas
            .area(Area(left, y + 4, width, 24), &format!("fill t{}", Tone::of(self.way).letter()));
        let text = format!("× {count}");
        if Font::TINY.width(&text) + 8 <= width {
            let look = Look::new(Font::TINY, Tone::Ink).middle();
            canvas.text((left + width / 2, y + 20), look, &text);
        }
        canvas.close();
    }
}

/// Pieces narrower than this are joined.
const NARROW: Px = 4;
/// Pieces of what was there before, as many as are drawn.
const BELOW_MAX: usize = 200;

//! The whole of a long sequence as a strip: how busy it was, and which part is drawn below.

use std::ops::Range;

use crate::rows::Row;
use crate::story::Way;

use super::canvas::{Area, Canvas, Look, Stroke, Tone};
use super::facts::to_u64;
use super::measure::{Font, Px, scale};
use super::{MARGIN, WIDTH};

/// Draws the strip of all `rows` and marks those that are `drawn`; gives the height it took.
pub(super) fn draw(canvas: &mut Canvas, y: Px, rows: &[Row], drawn: &[Range<usize>]) -> Px {
    let (left, length) = (MARGIN, WIDTH - 2 * MARGIN);
    let (top, middle) = (y + 30, y + 62);
    let whole = to_u64(rows.len());
    let place = |row: usize| left + scale(to_u64(row), whole, length);
    let shown: usize = drawn.iter().map(Range::len).sum();
    let words = format!("Overview: {} rows, {shown} of them are drawn (shaded)", rows.len());
    canvas.open("overview", &[]);
    canvas.text((left, y + 18), Look::new(Font::SMALL, Tone::Muted), &words);
    for range in drawn {
        let (from, to) = (place(range.start), place(range.end));
        canvas.area(Area(from, top, (to - from).max(2), 64), "fill tm");
    }
    let mut bins = [[0_u64; 3]; BINS];
    for (index, row) in rows.iter().enumerate() {
        let lane = match row.way() {
            _ if row.is_trouble() => 2,
            Some(Way::Up) => 0,
            Some(Way::Down) => 1,
            None => continue,
        };
        let bin = index * BINS / rows.len();
        if let Some(count) = bins.get_mut(bin).and_then(|bin| bin.get_mut(lane)) {
            *count += 1;
        }
    }
    let most = bins.iter().flat_map(|[up, down, _]| [*up, *down]).max().unwrap_or(1).max(1);
    for (index, [up, down, trouble]) in bins.into_iter().enumerate() {
        let x = left + scale(to_u64(index), to_u64(BINS), length) + 2;
        let (above, below) = (scale(up, most, 28), scale(down, most, 28));
        if above > 0 {
            canvas.line((x, middle), (x, middle - above), Stroke::Solid, Tone::Up);
        }
        if below > 0 {
            canvas.line((x, middle), (x, middle + below), Stroke::Solid, Tone::Down);
        }
        if trouble > 0 {
            canvas.cross((x, top + 64));
        }
    }
    canvas.line((left, middle), (left + length, middle), Stroke::Thin, Tone::Muted);
    canvas.close();
    HEIGHT
}

/// The height of the strip with its words.
const HEIGHT: Px = 112;
/// Lines in the strip.
const BINS: usize = 226;

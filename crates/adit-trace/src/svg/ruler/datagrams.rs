//! Datagrams as boxes: each keeps its edges; a lost one leaves a gap, a late one is out of order.

use std::collections::BTreeSet;

use crate::rows::{Observers, size};
use crate::story::{Did, Seen, Talk, Way};

use super::super::MARGIN;
use super::super::canvas::{Area, Canvas, Look, Stroke, Tone};
use super::super::facts::{moment, plural, to_u64};
use super::super::measure::{Font, Px, px};
use super::{LEFT, LENGTH, heading};

/// One datagram in one lane.
struct Datagram {
    msg: u64,
    len: u64,
    at: u64,
    index: usize,
}

struct Lane {
    label: &'static str,
    datagrams: Vec<Datagram>,
}

/// Draws one way; gives where it ends.
pub(super) fn draw(canvas: &mut Canvas, talk: &Talk, way: Way, y: Px) -> Px {
    let lanes = lanes(talk, way);
    let known: BTreeSet<u64> = all(&lanes).map(|datagram| datagram.msg).collect();
    let first = lanes.iter().find(|lane| !lane.datagrams.is_empty());
    let bytes = first.map_or(0, |lane| {
        lane.datagrams.iter().fold(0_u64, |sum, one| sum.saturating_add(one.len))
    });
    let sum = format!("{}, {}", plural(to_u64(known.len()), "datagram"), size(bytes));
    heading(canvas, way, y, &sum);
    if known.is_empty() {
        let look = Look::new(Font::BODY, Tone::Muted);
        canvas.text((MARGIN, y + 48), look, "No datagram went this way.");
        return y + 60;
    }
    let columns: Vec<u64> = known.iter().copied().take(COLUMNS_MAX).collect();
    let width = (LENGTH / px(columns.len())).clamp(22, 64);
    let sees_both = Observers::of(&talk.acts).both_ends();
    let mut y = y + 36;
    for lane in lanes.iter().filter(|lane| !lane.datagrams.is_empty() || sees_both) {
        if lane.datagrams.is_empty() && lane.label == "wire" {
            continue;
        }
        draw_lane(canvas, (lane, way, sees_both), (&columns, width), y);
        y += 38;
    }
    let more = known.len().saturating_sub(columns.len());
    if more > 0 {
        let text = format!("{} are not drawn", plural(to_u64(more), "more datagram"));
        canvas.text((LEFT, y + 14), Look::new(Font::SMALL, Tone::Muted), &text);
        y += 22;
    }
    y
}

fn draw_lane(
    canvas: &mut Canvas,
    (lane, way, sees_both): (&Lane, Way, bool),
    (columns, width): (&[u64], Px),
    y: Px,
) {
    let label = format!("{}: {}", lane.label, lane.datagrams.len());
    canvas.text((MARGIN, y + 20), Look::new(Font::BODY, Tone::Ink), &label);
    let here: BTreeSet<u64> = lane.datagrams.iter().map(|datagram| datagram.msg).collect();
    let slots: Vec<usize> = (0..columns.len())
        .filter(|at| columns.get(*at).is_some_and(|msg| here.contains(msg)))
        .collect();
    let mut newest = None;
    let mut seen = BTreeSet::new();
    let firsts = lane.datagrams.iter().filter(|datagram| seen.insert(datagram.msg));
    for (slot, datagram) in slots.iter().zip(firsts) {
        let is_late = newest.is_some_and(|newest| datagram.msg < newest);
        newest = newest.max(Some(datagram.msg));
        one(canvas, (datagram, way, is_late), (*slot, width), (lane.label, y));
    }
    let missing = (0..columns.len()).filter(|slot| sees_both && !slots.contains(slot));
    for slot in missing {
        canvas.cross((LEFT + px(slot) * width + width / 2, y + 16));
    }
}

fn one(
    canvas: &mut Canvas,
    (datagram, way, is_late): (&Datagram, Way, bool),
    (slot, width): (usize, Px),
    (label, y): (&str, Px),
) {
    let (x, letter) = (LEFT + px(slot) * width, Tone::of(way).letter());
    canvas.open("piece", &[("act", &datagram.index), ("w", &letter), ("m", &datagram.msg)]);
    let late = if is_late { ", after a later one" } else { "" };
    let (msg, len, at) = (datagram.msg, size(datagram.len), moment(datagram.at));
    canvas.title(&format!("{label} #{msg}, {len}, at {at} ms{late}"));
    canvas.area(Area(x + 2, y + 3, width - 4, 26), &format!("fill t{letter}"));
    let look = Look::new(Font::TINY, Tone::Ink).middle();
    canvas.text((x + width / 2, y + 20), look, &Font::TINY.fit(&msg.to_string(), width - 4));
    if is_late {
        canvas.line((x + 2, y + 33), (x + width - 2, y + 33), Stroke::Dashed, Tone::Lost);
    }
    canvas.close();
}

fn lanes(talk: &Talk, way: Way) -> [Lane; 3] {
    let label = |label| Lane { label, datagrams: Vec::new() };
    let (sends, receives) = match way {
        _ if talk.relay.is_some() => ("came to relay", "passed on"),
        Way::Up => ("client sendto", "server recvfrom"),
        Way::Down => ("server sendto", "client recvfrom"),
    };
    let mut lanes = [label(sends), label("wire"), label(receives)];
    for (index, act) in talk.acts.iter().enumerate() {
        let is_relay = matches!(act.seen, Seen::RelayToClient | Seen::RelayToServer);
        let (place, one, msg, len) = match &act.did {
            Did::Send { way, msg, len, .. } => (if is_relay { 2 } else { 0 }, way, msg, len),
            Did::Packet { way, msg, len, .. } => (1, way, msg, len),
            Did::Receive { way, msg, len, .. } => (if is_relay { 0 } else { 2 }, way, msg, len),
            _ => continue,
        };
        if let Some(lane) = lanes.get_mut(place).filter(|_| *one == way) {
            lane.datagrams.push(Datagram { msg: *msg, len: *len, at: act.at, index });
        }
    }
    lanes
}

fn all(lanes: &[Lane]) -> impl Iterator<Item = &Datagram> {
    lanes.iter().flat_map(|lane| &lane.datagrams)
}

/// Datagrams of one way in one picture at most.
const COLUMNS_MAX: usize = 33;

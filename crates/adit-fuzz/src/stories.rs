//! Stories: of any trace or capture whatever is drawn is plain, and reads back.

use adit_proto::escape::is_unsafe;
use adit_trace::story::Did;
use adit_trace::text::{COLUMNS_MAX, Live, Options, View};
use adit_trace::{Story, capture as captures, jsonl, mermaid, pcapng, read, rows, rules, text};

/// Ways to tell a story: one is taken for each input. All of them for each took ten times as long, which is
/// ten times fewer inputs, and whatever reads a story finds nothing new the tenth time.
const WAYS: usize = View::ALL.len() + 3;

/// Which one, as the bytes have it: each change of one changes it.
fn way(data: &[u8], ways: usize) -> usize {
    data.iter().fold(0, |sum: usize, byte| sum.wrapping_add(usize::from(*byte))) % ways
}

pub(crate) fn trace(data: &[u8]) {
    match way(data, WAYS + 1) {
        WAYS => live(data),
        way => traced(data, way),
    }
}

fn traced(data: &[u8], way: usize) {
    match read::read(data) {
        Ok(story) => drawn(&story, way),
        Err(error) => drop(error.to_string()),
    }
}

/// Line by line, as they come.
fn live(data: &[u8]) {
    let lines = String::from_utf8_lossy(data);
    let mut live = Live::new(Options::default());
    let mut shown: Vec<String> = lines.lines().flat_map(|line| live.line(line)).collect();
    shown.extend(live.tick(u64::MAX));
    shown.extend(live.finish());
    shown.iter().for_each(|line| plain(line));
}

pub(crate) fn capture(data: &[u8]) {
    captured(data, way(data, WAYS));
}

fn captured(data: &[u8], way: usize) {
    match captures::read(data) {
        Ok(story) => {
            assert!(captures::is_capture(data));
            drawn(&story, way);
        }
        Err(error) => drop(error.to_string()),
    }
}

pub(crate) fn merge(data: &[u8]) {
    merged(data, way(data, WAYS));
}

fn merged(data: &[u8], way: usize) {
    let Some(at) = data.windows(2).position(|window| window == b"\n\n") else { return };
    let (first, second) = data.split_at(at + 1);
    if let (Ok(first), Ok(second)) = (read::read(first), read::read(second)) {
        match adit_trace::merge::merge(first, second) {
            Ok(story) => drawn(&story, way),
            Err(error) => drop(error.to_string()),
        }
    }
}

/// What our own events come to.
pub(crate) fn told(data: &[u8], story: &Story) {
    drawn(story, way(data, WAYS));
}

/// What can be made of a story in one way, and what holds in any.
fn drawn(story: &Story, way: usize) {
    let findings = rules::findings(story);
    assert!(findings.found.iter().all(|finding| finding.count > 0));
    // A trace tells what it likes in the order it likes; only what is in order is drawn in order.
    let in_order = story.talks.iter().filter(|talk| talk.acts.is_sorted_by_key(|act| act.at));
    for talk in in_order {
        let starts: Vec<u64> = rows::rows(talk).iter().map(|row| row.at).collect();
        assert!(starts.is_sorted());
    }
    match View::ALL.get(way) {
        Some(view) => {
            let picture = text::draw(story, *view, &Options::default());
            picture.lines().for_each(plain);
        }
        None if way == View::ALL.len() => drop(mermaid::draw(story)),
        None if way == View::ALL.len() + 1 => reads_back_as_a_capture(story),
        None => reads_back_as_a_trace(story),
    }
}

fn reads_back_as_a_capture(story: &Story) {
    let mut file = Vec::new();
    if bytes_claimed(story) <= CAPTURED_BYTES_MAX && pcapng::write(story, &mut file).is_ok() {
        assert!(captures::read(&file[..]).is_ok(), "our own capture does not read back");
    }
}

fn reads_back_as_a_trace(story: &Story) {
    let mut lines = Vec::new();
    if jsonl::write(story, &mut lines).is_ok() {
        let again = read::read(&lines[..]);
        assert!(again.is_ok(), "our own trace does not read back");
    }
}

/// A line may claim any number of bytes. They are drawn as a million packets at most, which is a bound, but
/// takes the time of a hundred other inputs.
const CAPTURED_BYTES_MAX: u64 = 1 << 20;

fn bytes_claimed(story: &Story) -> u64 {
    let acts = story.talks.iter().flat_map(|talk| &talk.acts);
    let claims = acts.map(|act| match &act.did {
        Did::Read { off, .. } | Did::Write { off, .. } | Did::Segment { off, .. } => off.end,
        Did::Over { bytes_in, bytes_out, .. } => {
            bytes_in.unwrap_or(0).saturating_add(bytes_out.unwrap_or(0))
        }
        _ => 0,
    });
    claims.fold(0, u64::saturating_add)
}

fn plain(line: &str) {
    assert!(!line.chars().any(is_unsafe), "{line:?}");
    assert!(rows::width(line) <= COLUMNS_MAX, "{line}");
}

#[cfg(test)]
mod tests {
    use super::{WAYS, captured, live, merged, traced};
    use std::fs;
    use std::path::Path;

    /// Tells the story in these bytes in a way of this number.
    type Tell = fn(&[u8], usize);

    fn seeds(target: &str) -> Vec<Vec<u8>> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus").join(target);
        let files = fs::read_dir(folder).into_iter().flatten().flatten();
        files.filter_map(|file| fs::read(file.path()).ok()).collect()
    }

    #[test]
    fn every_seed_is_told_in_every_way() {
        let targets: [(&str, Tell); 3] =
            [("trace", traced), ("capture", captured), ("merge", merged)];
        for (target, tell) in targets {
            let seeds = seeds(target);
            assert!(!seeds.is_empty(), "{target}");
            seeds.iter().for_each(|seed| (0..WAYS).for_each(|way| tell(seed, way)));
        }
        seeds("trace").iter().for_each(|seed| live(seed));
    }
}

//! Stories: of any trace or capture whatever is drawn is plain, and reads back.

use adit_proto::escape::is_unsafe;
use adit_trace::story::Did;
use adit_trace::text::{COLUMNS_MAX, Live, Options, View};
use adit_trace::{Story, capture as captures, jsonl, mermaid, pcapng, read, rows, rules, text};

pub(crate) fn trace(data: &[u8]) {
    let lines = String::from_utf8_lossy(data);
    let mut live = Live::new(Options::default());
    let mut shown: Vec<String> = lines.lines().flat_map(|line| live.line(line)).collect();
    shown.extend(live.tick(u64::MAX));
    shown.extend(live.finish());
    shown.iter().for_each(|line| plain(line));
    match read::read(data) {
        Ok(story) => drawn(&story),
        Err(error) => drop(error.to_string()),
    }
}

pub(crate) fn capture(data: &[u8]) {
    match captures::read(data) {
        Ok(story) => {
            assert!(captures::is_capture(data));
            drawn(&story);
        }
        Err(error) => drop(error.to_string()),
    }
}

pub(crate) fn merge(data: &[u8]) {
    let Some(at) = data.windows(2).position(|window| window == b"\n\n") else { return };
    let (first, second) = data.split_at(at + 1);
    if let (Ok(first), Ok(second)) = (read::read(first), read::read(second)) {
        match adit_trace::merge::merge(first, second) {
            Ok(story) => drawn(&story),
            Err(error) => drop(error.to_string()),
        }
    }
}

/// Everything that can be made of a story.
pub(crate) fn drawn(story: &Story) {
    let findings = rules::findings(story);
    assert!(findings.found.iter().all(|finding| finding.count > 0));
    // A trace tells what it likes in the order it likes; only what is in order is drawn in order.
    let in_order = story.talks.iter().filter(|talk| talk.acts.is_sorted_by_key(|act| act.at));
    for talk in in_order {
        let starts: Vec<u64> = rows::rows(talk).iter().map(|row| row.at).collect();
        assert!(starts.is_sorted());
    }
    for view in View::ALL {
        let picture = text::draw(story, view, &Options::default());
        picture.lines().for_each(plain);
    }
    drop(mermaid::draw(story));
    let mut file = Vec::new();
    if bytes_claimed(story) <= CAPTURED_BYTES_MAX && pcapng::write(story, &mut file).is_ok() {
        assert!(captures::read(&file[..]).is_ok(), "our own capture does not read back");
    }
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

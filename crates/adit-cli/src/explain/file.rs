//! Saved traces: one, or those of the two ends of a conversation.

use std::fs::File;
use std::io::{BufReader, Cursor, Read as _};
use std::os::unix::fs::FileTypeExt as _;
use std::path::{Path, PathBuf};

use adit::escape::escape_line;
use adit::{Blame, Code, Error};
use adit_trace::read::{ReadError, read};
use adit_trace::{Story, capture, jsonl, merge};

use super::output::{Output, stdout_gone};
use crate::args::Explain;
use crate::complaint::usage;
use crate::exit::Exit;
use crate::say::Voice;

/// The files that the words name; none if they are addresses.
pub(super) fn named(words: &[String]) -> adit::Result<Option<Vec<PathBuf>>> {
    let Some(first) = words.first() else { return Ok(None) };
    if !is_file(first) {
        // What looks like the path of a file is meant as one.
        let looks = [".jsonl", ".pcapng", ".pcap"].iter().any(|ending| first.ends_with(ending));
        return match words {
            [word] if looks => Err(no_file(word)),
            [word] => Err(super::neither(word)),
            _ if looks => Err(no_file(first)),
            _ => Ok(None),
        };
    }
    if let Some(missing) = words.iter().find(|word| !is_file(word.as_str())) {
        return Err(no_file(missing));
    }
    match words {
        [_] | [_, _] => Ok(Some(words.iter().map(PathBuf::from).collect())),
        _ => Err(usage("more than two traces", "one, or those of the two ends of a conversation")),
    }
}

/// Does a word name a file to be read? A pipe or device has to be written as a path, as in `/dev/stdin`: a
/// plain word may be a host.
fn is_file(word: &str) -> bool {
    let Ok(there) = Path::new(word).metadata() else { return false };
    let kind = there.file_type();
    kind.is_file() || (word.contains('/') && (kind.is_fifo() || kind.is_char_device()))
}

fn no_file(word: &str) -> Error {
    usage(
        format!("there is no file \"{}\"", escape_line(word.as_bytes(), 200)),
        "record one: adit serve .. --trace FILE",
    )
}

/// Draws what the files tell.
pub(super) fn explain(
    args: &Explain,
    paths: &[PathBuf],
    output: &Output,
    voice: &Voice,
) -> adit::Result<Exit> {
    let mut stories = paths.iter().map(|path| story(path)).collect::<adit::Result<Vec<_>>>()?;
    let first = stories.remove(0);
    let mut story = match stories.pop() {
        Some(second) => merge::merge(first, second).map_err(|error| {
            let what = format!("the two traces have no conversation in common: {error}");
            usage(what, "draw each on its own: adit explain FILE")
        })?,
        None => first,
    };
    let count = story.talks.len();
    if !output.choose(&mut story) {
        let what = format!("there is no such conversation among the {count} of this trace");
        return Err(usage(what, "--view hosts names them all"));
    }
    if args.say.json.is_some() {
        let mut lines = Vec::new();
        // Writing into memory does not fail.
        jsonl::write(&story, &mut lines).map_err(|error| stdout_gone(&error))?;
        let text = String::from_utf8_lossy(&lines);
        crate::say::show(&text).map_err(|error| stdout_gone(&error))?;
        if !output.is_file() {
            return Ok(Exit::OK);
        }
    }
    output.write(&story, voice)?;
    Ok(Exit::OK)
}

/// Reads a trace or a capture, whichever it is.
fn story(path: &Path) -> adit::Result<Story> {
    let shown = escape_line(path.as_os_str().as_encoded_bytes(), 200);
    let failed = |error: ReadError| {
        let what = format!("cannot draw {shown}: {error}");
        let error = Error::new(Code::Usage, Blame::Caller, what);
        error.with_hint("adit explain reads what --trace and --json write, and pcapng and pcap")
    };
    let open = || {
        let mut file = File::open(path)?;
        let mut head = Vec::new();
        // A pipe gives what there is, and cannot go back.
        file.by_ref().take(16).read_to_end(&mut head)?;
        let is_capture = capture::is_capture(&head);
        Ok((Cursor::new(head).chain(file), is_capture))
    };
    let (whole, is_capture) = open().map_err(|error| failed(ReadError::Io(error)))?;
    let source = BufReader::with_capacity(256 << 10, whole);
    if is_capture { capture::read(source) } else { read(source) }.map_err(failed)
}

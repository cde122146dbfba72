//! Everything the command says: to people on standard error, to programs as JSON lines.
//!
//! The only file that prints. Standard output is payload and nothing else, except what a command is
//! asked for by name (`--print-addr`, completions, help).

use std::borrow::Cow;
use std::io::{IsTerminal, Write};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use adit::escape::escape_line;
use adit::event::{Payload, header_line};
use adit::{Code, Error, Event, Observer, What};

use crate::args::{Json, Say, Talk};

/// How the command talks; cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Voice(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    json: Option<Json>,
    payload: Payload,
    verbose: bool,
    quiet: bool,
    start: Instant,
    /// Number of the next JSON line.
    lines: Mutex<u64>,
    /// Lines said in the current second, and when it began.
    pace: Mutex<(Instant, u64)>,
    unsaid: AtomicU64,
}

/// Lines per second about what peers do; beyond them only their number is told.
const LINES_PER_SECOND: u64 = 100;

impl Voice {
    pub(crate) fn new(say: &Say, payload: Payload) -> Self {
        let payload = if say.json == Some(Json::Stdout) { Payload::Whole } else { payload };
        let start = Instant::now();
        let voice = Self(Arc::new(Inner {
            json: say.json,
            payload,
            verbose: say.verbose,
            quiet: say.quiet,
            start,
            lines: Mutex::new(0),
            pace: Mutex::new((start, 0)),
            unsaid: AtomicU64::new(0),
        }));
        if say.json.is_some() {
            let now = jiff::Timestamp::now().to_string();
            voice.json_line(|_n| header_line(env!("CARGO_PKG_VERSION"), &now));
        }
        voice
    }

    /// A voice for people, without flags.
    pub(crate) fn plain() -> Self {
        Self::new(&Say { json: None, verbose: false, quiet: false }, Payload::None)
    }

    pub(crate) fn of_talk(talk: &Talk) -> Self {
        Self::new(&talk.say, talk.payload)
    }

    pub(crate) fn is_json(&self) -> bool {
        self.0.json.is_some()
    }

    /// Does payload go to standard output as events instead of bytes?
    pub(crate) fn payload_is_json(&self) -> bool {
        self.0.json == Some(Json::Stdout)
    }

    pub(crate) fn is_verbose(&self) -> bool {
        self.0.verbose
    }

    pub(crate) fn is_quiet(&self) -> bool {
        self.0.quiet
    }

    /// Does a person watch standard error?
    pub(crate) fn is_watched(&self) -> bool {
        std::io::stderr().is_terminal()
    }

    /// Since the command began.
    pub(crate) fn now(&self) -> Duration {
        self.0.start.elapsed()
    }

    /// Says a line to people; nothing to programs, which get events.
    pub(crate) fn note(&self, line: &str) {
        if !self.is_json() && !self.is_quiet() {
            to_stderr(line);
        }
    }

    /// Says a line to people who asked for more, or who watch.
    pub(crate) fn detail(&self, line: &str) {
        if self.is_verbose() || self.is_watched() {
            self.note(line);
        }
    }

    /// Says something that went wrong; `--quiet` does not silence it.
    pub(crate) fn warn(&self, line: &str) {
        if !self.is_json() {
            to_stderr(&format!("adit: {}", without_number(line)));
        }
    }

    /// Says what failed here and not at the peer: standard input or output.
    pub(crate) fn failure(&self, code: Code, text: &str, place: &'static str) {
        if self.is_json() {
            self.emit(None, What::Error { code, text, place, fatal: true });
        } else {
            self.warn(&format!("{text} (code={code})"));
        }
    }

    /// Says why the command fails, and what to do next.
    pub(crate) fn error(&self, error: &Error) {
        let text = error_text(error);
        if self.is_json() {
            let (code, text) = (error.code(), text.as_str());
            self.emit(None, What::Error { code, text, place: "adit", fatal: true });
        } else {
            to_stderr(&format!("adit: {text}"));
        }
    }

    /// Tells an event of the command itself.
    pub(crate) fn emit(&self, peer: Option<&adit::Endpoint>, what: What<'_>) {
        let conversation = peer.map(|_| 1);
        self.tell(&Event { at: self.now(), conversation, peer, what });
    }

    fn tell(&self, event: &Event<'_>) {
        if !self.is_json() {
            return;
        }
        // Data without payload says nothing that `close` does not; with it, it is what was asked for.
        if matches!(event.what, What::Message { .. }) {
            return;
        }
        self.json_line(|n| {
            let mut line = String::new();
            event.json(n, self.0.payload, &mut line);
            line
        });
    }

    fn json_line(&self, line: impl FnOnce(u64) -> String) {
        let mut lines = self.0.lines.lock().unwrap_or_else(PoisonError::into_inner);
        let line = line(*lines);
        *lines += 1;
        match self.0.json {
            Some(Json::Stdout) => to_stdout(&line),
            _ => to_stderr(&line),
        }
    }

    /// May another line about a peer be said? Counts those that may not.
    pub(crate) fn has_breath(&self) -> bool {
        let mut pace = self.0.pace.lock().unwrap_or_else(PoisonError::into_inner);
        if pace.0.elapsed() >= Duration::from_secs(1) {
            *pace = (Instant::now(), 0);
            let unsaid = self.0.unsaid.swap(0, Relaxed);
            if unsaid > 0 {
                self.note(&format!("({unsaid} more lines in the last second)"));
            }
        }
        pace.1 += 1;
        let may = pace.1 <= LINES_PER_SECOND;
        if !may {
            self.0.unsaid.fetch_add(1, Relaxed);
        }
        may
    }
}

impl Observer for Voice {
    fn event(&self, event: &Event<'_>) {
        self.tell(event);
    }
}

/// One line for an error: what, where, why (code=word), then the next step.
pub(crate) fn error_text(error: &Error) -> String {
    use std::error::Error as _;
    let mut text = without_number(&error.to_string()).into_owned();
    if let Some(source) = error.source() {
        // The cause goes in front of the code, which ends the sentence.
        let code = format!(" (code={})", error.code());
        let what = text.strip_suffix(&code).unwrap_or(&text);
        let why = source.to_string();
        text = format!("{what}: {}{code}", escape_line(without_number(&why).as_bytes(), 200));
    }
    match error.hint() {
        Some(hint) => format!("{text}; {hint}"),
        None => text,
    }
}

/// Prints a text that was asked for, to standard output; one newline at its end is implied.
pub(crate) fn print(text: &str) {
    to_stdout(text.strip_suffix('\n').unwrap_or(text));
}

fn to_stderr(line: &str) {
    // One write per line, so that lines of two programs do not mix. Nobody can be told about a
    // standard error that is gone.
    drop(std::io::stderr().lock().write_all(format!("{line}\n").as_bytes()));
}

fn to_stdout(line: &str) {
    let mut stdout = std::io::stdout().lock();
    // The reader of standard output may have left; the exit status says so where it matters.
    drop(stdout.write_all(format!("{line}\n").as_bytes()).and_then(|()| stdout.flush()));
}

/// Says a line before it is known how to talk.
pub(crate) fn note(line: &str) {
    to_stderr(&format!("adit: {line}"));
}

/// Says what there is, to somebody who has asked for nothing.
pub(crate) fn overview(text: &str) {
    to_stderr(text.trim_end());
}

/// Without the number that the standard library adds to what the system says: the code says more.
pub(crate) fn without_number(text: &str) -> Cow<'_, str> {
    const MARK: &str = " (os error ";
    let Some((before, after)) = text.split_once(MARK) else { return Cow::Borrowed(text) };
    match after.split_once(')') {
        Some((number, rest)) if number.bytes().all(|byte| byte.is_ascii_digit()) => {
            Cow::Owned(format!("{before}{rest}"))
        }
        _ => Cow::Borrowed(text),
    }
}

//! Everything the command says: to people on standard error, to programs as JSON lines.
//!
//! The only file that prints. Standard output is payload and nothing else, except what a command is
//! asked for by name (`--print-addr`, completions, help).

use std::borrow::Cow;
use std::fs::File;
use std::io::{IsTerminal, Write};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use adit::escape::escape_line;
use adit::event::{Detail, Direction, Payload, Role, dropped_line, header_line};
use adit::system::lines::{Full, Lines};
use adit::system::stdio::Patient;
use adit::trace::{self, About, Trace};
use adit::{Blame, Code, Error, Event, Observer, What};

use crate::args::{Json, Say, Watch};
use crate::exit::Exit;
use crate::hex;
use crate::steps::Steps;

/// How the command talks; cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Voice(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    json: Option<Json>,
    payload: Payload,
    verbose: bool,
    quiet: bool,
    /// When the command began, on the clock of events.
    start: Duration,
    /// What a server says, on its way: no conversation waits for who reads it.
    lines: Option<Lines>,
    /// Number of the next line, where there are none of those.
    next: Mutex<u64>,
    /// Lines said in the current second, and when it began.
    pace: Mutex<(Instant, u64)>,
    unsaid: AtomicU64,
    part: Part,
    to_stdout: bool,
    steps: Option<Steps>,
    hex: bool,
    trace: OnceLock<Trace>,
    tee: OnceLock<Mutex<Tee>>,
}

/// A copy of what peers send, and why it ended early, if it did.
#[derive(Debug)]
struct Tee {
    file: File,
    failure: Option<std::io::Error>,
}

impl Tee {
    /// Loses nothing: who wants a copy waits for it.
    fn copy(&mut self, bytes: &[u8]) {
        if self.failure.is_none() {
            self.failure = self.file.write_all(bytes).err();
        }
    }
}

/// The part the command plays on its sockets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    Server,
    Client,
    /// Both, on two sockets of each conversation.
    Relay,
    /// None: it only looks.
    Onlooker,
}

impl Part {
    /// Is standard output free of payload, so that events go there?
    const fn leaves_stdout_free(self) -> bool {
        matches!(self, Self::Relay | Self::Onlooker)
    }
}

/// Lines per second about what peers do; beyond them only their number is told.
const LINES_PER_SECOND: u64 = 100;

/// How long a reader that takes nothing is waited for, after a signal and before the word of being ready.
const PATIENCE: Duration = Duration::from_millis(400);

impl Voice {
    /// A voice that says nothing of single calls and bytes.
    pub(crate) fn new(say: &Say, part: Part, payload: Payload) -> Self {
        Self::with(say, part, payload, (None, false))
    }

    fn with(say: &Say, part: Part, payload: Payload, (steps, hex): (Option<Steps>, bool)) -> Self {
        let to_stdout =
            say.json.is_some_and(|json| json == Json::Stdout || part.leaves_stdout_free());
        // A client's one conversation may wait.
        let has_many = matches!(part, Part::Server | Part::Relay);
        let lines = has_many.then(|| match to_stdout {
            true => Lines::to(Patient::new(std::io::stdout()), "adit log"),
            false => Lines::to(Patient::new(std::io::stderr()), "adit log"),
        });
        let voice = Self(Arc::new(Inner {
            json: say.json,
            payload,
            verbose: say.verbose,
            quiet: say.quiet,
            start: trace::now(),
            // Without a thread it speaks itself.
            lines: lines.and_then(std::io::Result::ok),
            next: Mutex::new(0),
            to_stdout,
            pace: Mutex::new((Instant::now(), 0)),
            unsaid: AtomicU64::new(0),
            part,
            steps,
            hex,
            trace: OnceLock::new(),
            tee: OnceLock::new(),
        }));
        if say.json.is_some() {
            let header = header_line(env!("CARGO_PKG_VERSION"), &wall_clock());
            voice.say(Full::Exceed, |_first, line| line.push_str(&header));
        }
        voice
    }

    /// A voice for people, without flags.
    pub(crate) fn plain() -> Self {
        let say = Say { json: None, verbose: false, quiet: false };
        Self::new(&say, Part::Client, Payload::None)
    }

    /// A voice that also says or writes down what happens on the sockets.
    pub(crate) fn of(say: &Say, part: Part, watch: &Watch) -> Self {
        let steps = watch.steps.then(|| Steps::new(watch.payload, part));
        // What comes instead of the payload has to be all of it.
        let is_whole = say.json == Some(Json::Stdout) && !part.leaves_stdout_free();
        let asked = watch.payload.unwrap_or(Payload::None);
        let payload = if is_whole { Payload::Whole } else { asked };
        Self::with(say, part, payload, (steps, watch.hex))
    }

    /// Begins the trace and the copy that the flags ask for.
    pub(crate) fn begin_files(&self, watch: &Watch) -> adit::Result<()> {
        if let Some(path) = &watch.tee {
            let tee = Tee { file: create(path, "copy")?, failure: None };
            // It is begun once.
            drop(self.0.tee.set(Mutex::new(tee)));
        }
        let Some(path) = &watch.trace else { return Ok(()) };
        let file = create(path, "trace")?;
        let part = match self.0.part {
            Part::Server => "server",
            Part::Client | Part::Onlooker => "client",
            Part::Relay => "relay",
        };
        let about = About { program: command_line(), part, start: wall_clock() };
        let trace = Trace::to(file, &about, watch.payload.unwrap_or(Payload::None));
        // It is begun once.
        drop(self.0.trace.set(trace));
        Ok(())
    }

    /// Ends them, says what is missing in them, and ends what is said. After a signal nobody who takes
    /// nothing is waited for.
    pub(crate) fn end(&self, exit: Exit) -> Exit {
        let patience = exit.is_by_signal().then_some(PATIENCE);
        self.end_files(patience);
        if let Some(lines) = &self.0.lines {
            // Nobody can be told about lines that cannot be told.
            drop(lines.finish(patience, |number, count| self.missing(number, count)));
        }
        exit
    }

    fn end_files(&self, patience: Option<Duration>) {
        if let Some(tee) = self.0.tee.get()
            && let Some(failure) = &tee.lock().unwrap_or_else(PoisonError::into_inner).failure
        {
            self.warn(&format!("the copy ends early: {failure}"));
        }
        let Some(trace) = self.0.trace.get() else { return };
        let end = patience.map_or_else(|| trace.finish(), |patience| trace.finish_within(patience));
        if let Some(failure) = end.failure {
            self.warn(&format!("the trace ends early, after {} lines: {failure}", end.lines));
        }
        if end.dropped > 0 {
            self.warn(&format!(
                "{} events are missing in the trace: the disk was too slow",
                end.dropped
            ));
        }
    }

    /// Waits until what was said is out, for whoever is about to be told something elsewhere.
    pub(crate) fn flush(&self) {
        if let Some(lines) = &self.0.lines {
            lines.flush(PATIENCE);
        }
    }

    /// Lines that were dropped because nobody read them in time.
    pub(crate) fn dropped(&self) -> u64 {
        self.0.lines.as_ref().map_or(0, Lines::dropped)
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

    /// Says a line to people; nothing to programs, which get events.
    pub(crate) fn note(&self, line: &str) {
        if !self.is_json() && !self.is_quiet() {
            self.say(Full::Drop, |_number, said| said.push_str(line));
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
            let line = format!("adit: {}", without_number(line));
            self.say(Full::Drop, |_number, said| said.push_str(&line));
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

    /// Says what went wrong and what is done about it: the command goes on.
    pub(crate) fn mishap(&self, error: &Error, next: &str) {
        if self.is_json() {
            let (code, text) = (error.code(), error_text(error));
            self.emit(None, What::Error { code, text: &text, place: "program", fatal: false });
        } else {
            self.warn(&format!("{error}; {next}"));
        }
    }

    /// Says why the command fails, and what to do next; nothing where the reader of standard output has
    /// left, as in `| head -1`.
    pub(crate) fn error(&self, error: &Error) {
        if error.code() == Code::StdoutClosed {
            return;
        }
        let text = error_text(error);
        if self.is_json() {
            let (code, text) = (error.code(), text.as_str());
            self.emit(None, What::Error { code, text, place: "adit", fatal: true });
        } else {
            self.say(Full::Exceed, |_number, said| *said += &format!("adit: {text}"));
        }
    }

    /// Tells an event of the command itself.
    pub(crate) fn emit(&self, of: Option<(u64, &adit::Endpoint)>, what: What<'_>) {
        let (conversation, peer) = of.unzip();
        let role = match self.0.part {
            Part::Client | Part::Onlooker => Role::Client,
            Part::Server | Part::Relay => Role::Server,
        };
        self.tell(&Event { at: trace::now(), conversation, peer, role, what });
    }

    fn tell(&self, event: &Event<'_>) {
        if let Some(trace) = self.0.trace.get() {
            trace.event(event);
        }
        if let Some(steps) = &self.0.steps
            && let Some(line) = steps.line(event)
        {
            self.note(&line);
        }
        if self.0.hex && !self.is_json() {
            hex::lines(event, self.0.part).iter().for_each(|line| self.note(line));
        }
        if let (Some(tee), What::Data { dir: Direction::In, bytes, .. }) =
            (self.0.tee.get(), &event.what)
        {
            tee.lock().unwrap_or_else(PoisonError::into_inner).copy(bytes);
        }
        // Data without payload says nothing that `close` does not; with it, it is what was asked for.
        let is_hidden = match event.what {
            What::Message { .. } => true,
            What::Call { .. } => self.0.steps.is_none(),
            _ => false,
        };
        if self.is_json() && !is_hidden {
            let full = match event.what {
                // Nothing comes after these.
                What::Summary { .. } | What::Error { fatal: true, .. } => Full::Exceed,
                // The payload itself: a peer waits rather than that it is lost.
                _ if self.0.payload == Payload::Whole => Full::Wait,
                _ => Full::Drop,
            };
            let at = event.at.saturating_sub(self.0.start);
            self.say(full, |number, line| {
                let event = Event { at, ..event.clone() };
                event.json(number, Detail::App, self.0.payload, line);
            });
        }
    }

    /// Tells programs of something that is no event of a conversation: a word and its fields, which begin
    /// with a comma each.
    pub(crate) fn record(&self, word: &str, fields: &str) {
        if self.is_json() {
            let at = trace::now().saturating_sub(self.0.start).as_micros();
            let v = adit::event::SCHEMA;
            self.say(Full::Drop, |n, line| {
                let record =
                    format!("{{\"v\":{v},\"n\":{n},\"t\":{at},\"ev\":\"{word}\"{fields}}}");
                line.push_str(&record);
            });
        }
    }

    /// Says one line, or hands it to who says it.
    fn say(&self, full: Full, line: impl FnOnce(u64, &mut String)) {
        if let Some(lines) = &self.0.lines {
            return lines.add(full, |number, count| self.missing(number, count), line);
        }
        let mut next = self.0.next.lock().unwrap_or_else(PoisonError::into_inner);
        let mut text = String::new();
        line(*next, &mut text);
        *next += 1;
        if self.0.to_stdout { to_stdout(&text) } else { to_stderr(&text) }
    }

    /// What stands in the place of lines that nobody read in time.
    fn missing(&self, number: u64, count: u64) -> String {
        if self.is_json() {
            return dropped_line(number, trace::now().saturating_sub(self.0.start), count);
        }
        format!("adit: {count} lines are missing here: they were not read in time")
    }

    /// May another line about a peer be said? Counts those that may not.
    pub(crate) fn has_breath(&self) -> bool {
        let mut pace = self.0.pace.lock().unwrap_or_else(PoisonError::into_inner);
        if pace.0.elapsed() >= Duration::from_secs(1) {
            *pace = (Instant::now(), 0);
            self.tell_unsaid();
        }
        pace.1 += 1;
        let may = pace.1 <= LINES_PER_SECOND;
        if !may {
            self.0.unsaid.fetch_add(1, Relaxed);
        }
        may
    }

    /// Says how many lines about peers there would have been.
    pub(crate) fn tell_unsaid(&self) {
        let unsaid = self.0.unsaid.swap(0, Relaxed);
        if unsaid > 0 {
            self.note(&format!("({unsaid} more lines in the last second)"));
        }
    }
}

impl Observer for Voice {
    fn event(&self, event: &Event<'_>) {
        self.tell(event);
    }
}

fn create(path: &Path, what: &str) -> adit::Result<File> {
    adit::system::files::create_private(path).map_err(|error| {
        let shown = escape_line(path.as_os_str().as_encoded_bytes(), 200);
        let what = format!("cannot write the {what} {shown}");
        Error::new(Code::Usage, Blame::Caller, what).with_source(error)
    })
}

/// The words of the command line, as the first line of a trace has them: without what only says where
/// the trace goes.
pub(crate) fn command_line() -> String {
    let mut words = std::env::args_os().map(|word| word.to_string_lossy().into_owned());
    // The name says more than the path.
    let program = words.next().unwrap_or_default();
    let mut line = program.rsplit('/').next().unwrap_or_default().to_owned();
    while let Some(word) = words.next() {
        let flag = word.split('=').next().unwrap_or_default();
        if matches!(flag, "--trace" | "--payload" | "--out" | "--tee") {
            if flag == word {
                words.next();
            }
            continue;
        }
        line.push(' ');
        line.push_str(&word);
    }
    line
}

pub(crate) fn wall_clock() -> String {
    jiff::Timestamp::now().to_string()
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

/// Shows a picture, or a part of it, that was asked for.
pub(crate) fn show(text: &str) -> std::io::Result<()> {
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    stdout.flush()
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

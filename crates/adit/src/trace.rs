//! Trace: everything that happens, as lines that can be drawn later.

use std::io::{self, Write};
use std::sync::Arc;
use std::time::Duration;

use adit_net::lines::{Full, Lines};

use crate::event::{Detail, Event, Payload, dropped_line, trace_header_line};
use crate::observe::{self, Observer};

/// The time now on the clock of all events of this process, as in [`Event::at`].
pub fn now() -> Duration {
    observe::now()
}

/// Writes events as JSON Lines, for a picture of the conversation: `adit explain FILE`.
///
/// Lines are made on the I/O threads and written by a thread of the trace: no conversation waits for
/// the disk. At most 8 MiB of lines wait; what does not fit is dropped, and a line in its place says how
/// many events are missing.
///
/// ```
/// use adit::event::Payload;
/// use adit::prelude::*;
/// use adit::trace::{About, Trace};
///
/// # let folder = std::env::temp_dir().join(format!("adit-doc-{}", std::process::id()));
/// # std::fs::create_dir_all(&folder).unwrap();
/// # let path = folder.join("run.jsonl");
/// let file = adit::system::files::create_private(&path).unwrap(); // only its owner reads it
/// let about = About { program: "my_server".into(), ..About::default() };
/// let trace = Trace::to(file, &about, Payload::First(64));
/// let echo = fast(|msg, out| out.send(msg));
/// let server = Server::new(echo).observe(trace.clone()).listen("tcp://127.0.0.1:0", Lines::new());
/// drop(server.start()?);
/// let end = trace.finish();
/// assert!(end.failure.is_none() && end.dropped == 0);
/// assert!(std::fs::read_to_string(&path).unwrap().contains("\"ev\":\"listen\""));
/// # std::fs::remove_dir_all(folder).unwrap();
/// # Ok::<(), adit::Error>(())
/// ```
#[derive(Clone)]
pub struct Trace(Arc<Shared>);

/// Who writes a trace.
#[derive(Clone, Debug)]
#[expect(clippy::exhaustive_structs, reason = "plain settings, built with ..About::default()")]
pub struct About {
    /// The command line, or the name, of the program.
    pub program: String,
    /// `server`, `client` or `relay`.
    pub part: &'static str,
    /// Wall clock time of the beginning, as RFC 3339 text with as many digits as are known. Traces of
    /// two ends are brought together by it.
    pub start: String,
}

impl Default for About {
    fn default() -> Self {
        Self { program: String::new(), part: "server", start: String::new() }
    }
}

/// How a trace ended.
#[derive(Debug)]
#[non_exhaustive]
pub struct End {
    /// Lines that were written, the first one included.
    pub lines: u64,
    /// Events that were dropped.
    pub dropped: u64,
    /// Why writing stopped before the end: the disk is full, or the reader of a pipe takes nothing any
    /// more. What was written before is whole lines but for the last one.
    pub failure: Option<io::Error>,
}

struct Shared {
    /// Or why there are none.
    lines: Result<Lines, io::ErrorKind>,
    payload: Payload,
    /// Where the trace begins on the clock of the process.
    start: Duration,
}

impl Trace {
    /// Begins a trace. `payload` is how much of the bytes that go over a socket it holds: be careful
    /// with secrets.
    pub fn to(out: impl Write + Send + 'static, about: &About, payload: Payload) -> Self {
        let header = trace_header_line(
            env!("CARGO_PKG_VERSION"),
            &about.start,
            about.part,
            &about.program,
            std::process::id(),
        );
        let lines = Lines::to(out, "adit trace").map_err(|error| error.kind());
        if let Ok(lines) = &lines {
            // Nothing is missing in front of the first line.
            lines.add(Full::Exceed, |_, _| String::new(), |_first, text| text.push_str(&header));
        }
        Self(Arc::new(Shared { lines, payload, start: now() }))
    }

    /// Writes what waits and ends the trace; later events are passed over. Waits for the disk, or for
    /// the reader of a pipe, as long as it takes.
    pub fn finish(&self) -> End {
        self.end(None)
    }

    /// As [`finish`](Self::finish), but gives up when nothing could be written for the time of
    /// `patience`: the reader of a pipe may have stopped. The failure is then "timed out".
    pub fn finish_within(&self, patience: Duration) -> End {
        self.end(Some(patience))
    }

    fn end(&self, patience: Option<Duration>) -> End {
        match &self.0.lines {
            Ok(lines) => {
                let end = lines.finish(patience, self.missing(now()));
                End { lines: end.lines, dropped: end.dropped, failure: end.failure }
            }
            Err(kind) => End { lines: 0, dropped: 0, failure: Some((*kind).into()) },
        }
    }

    /// What stands in the place of events that are missing.
    fn missing(&self, at: Duration) -> impl FnOnce(u64, u64) -> String {
        let at = at.saturating_sub(self.0.start);
        move |number, count| dropped_line(number, at, count)
    }
}

impl Observer for Trace {
    fn event(&self, event: &Event<'_>) {
        let Ok(lines) = &self.0.lines else { return };
        let at = event.at.saturating_sub(self.0.start);
        lines.add(Full::Drop, self.missing(event.at), |number, text| {
            let event = Event { at, ..event.clone() };
            event.json(number, Detail::Trace, self.0.payload, text);
        });
    }
}

impl std::fmt::Debug for Trace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Trace").field("payload", &self.0.payload).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::{About, Trace};
    use crate::event::{Direction, Event, Payload, Role, What};
    use crate::observe::Observer as _;
    use adit_net::lines::WAITING_MAX;
    use std::io::{self, Write};
    use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
    use std::sync::{Arc, Mutex};
    use std::time::Duration;

    fn data(bytes: &[u8]) -> Event<'_> {
        let what = What::Data { dir: Direction::In, seq: 0, off: 0, bytes };
        Event {
            at: Duration::from_micros(7),
            conversation: Some(1),
            peer: None,
            role: Role::Server,
            what,
        }
    }

    /// Writes into a shared text, once it is allowed to.
    struct Slow(Arc<Mutex<String>>, Receiver<()>);

    impl Write for Slow {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            // The permission ends with its sender: from then on all is written.
            let _gone = self.1.recv();
            *self.0.lock().unwrap() += std::str::from_utf8(bytes).unwrap();
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// Waits until the writer is in the middle of the first line, so that nothing makes room.
    fn is_taken(trace: &Trace) {
        while trace.0.lines.as_ref().unwrap().waiting_bytes() > 0 {
            std::thread::yield_now();
        }
    }

    fn slow() -> (Slow, Arc<Mutex<String>>, SyncSender<()>) {
        let (text, (sender, receiver)) = (Arc::default(), sync_channel(1));
        (Slow(Arc::clone(&text), receiver), text, sender)
    }

    #[test]
    fn every_event_is_a_line_with_the_next_number() {
        let (out, text, permission) = slow();
        drop(permission);
        let about = About { program: "a \"test\"".to_owned(), ..About::default() };
        let trace = Trace::to(out, &about, Payload::First(3));
        for _ in 0..1000 {
            trace.event(&data(b"hello"));
        }
        let end = trace.finish();
        assert_eq!((end.lines, end.dropped), (1001, 0));
        trace.event(&data(b"too late"));
        let text = text.lock().unwrap();
        assert_eq!(text.lines().count(), 1001);
        assert!(text.starts_with(r#"{"v":1,"n":0,"t":0,"ev":"trace""#));
        assert!(text.contains(r#""prog":"a \"test\"""#));
        for (number, line) in text.lines().enumerate().skip(1) {
            assert!(line.contains(&format!("\"n\":{number},")), "{line}");
            assert!(line.ends_with(r#""len":5,"text":"hel"}"#), "{line}");
        }
    }

    #[test]
    fn a_disk_that_is_too_slow_costs_events_which_are_counted_and_nobody_waits() {
        let (out, text, permission) = slow();
        let trace = Trace::to(out, &About::default(), Payload::Whole);
        let piece = vec![b'x'; 1 << 20];
        // More than may wait, while not even the first line is written.
        is_taken(&trace);
        for _ in 0..2 * WAITING_MAX / piece.len() {
            trace.event(&data(&piece));
        }
        drop(permission);
        // The writer has caught up once this one finds room.
        while trace.0.lines.as_ref().unwrap().waiting_bytes() >= WAITING_MAX {
            std::thread::yield_now();
        }
        trace.event(&data(b"the last"));
        let end = trace.finish();
        assert!(end.dropped > 0);
        let text = text.lock().unwrap();
        assert_eq!(text.lines().count() as u64, end.lines);
        let told = format!(r#""ev":"drop","where":"trace","count":{}"#, end.dropped);
        assert!(text.contains(&told));
        assert!(text.ends_with("\"text\":\"the last\"}\n"));
    }

    #[test]
    fn events_that_are_missing_at_the_end_are_told_at_the_end() {
        let (out, text, permission) = slow();
        let trace = Trace::to(out, &About::default(), Payload::Whole);
        let piece = vec![b'x'; 1 << 20];
        is_taken(&trace);
        for _ in 0..2 * WAITING_MAX / piece.len() {
            trace.event(&data(&piece));
        }
        drop(permission);
        let end = trace.finish();
        let text = text.lock().unwrap();
        assert_eq!(text.lines().count() as u64, end.lines);
        let last = text.lines().last().unwrap();
        let told = format!(r#""ev":"drop","where":"trace","count":{}"#, end.dropped);
        assert!(end.dropped > 0 && last.contains(&told), "{last}");
    }

    #[test]
    fn a_full_disk_ends_the_trace_and_nothing_else() {
        struct Full;
        impl Write for Full {
            fn write(&mut self, _bytes: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::StorageFull.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let trace = Trace::to(Full, &About::default(), Payload::None);
        trace.event(&data(b"hello"));
        let end = trace.finish();
        assert_eq!(end.failure.unwrap().kind(), io::ErrorKind::StorageFull);
    }

    #[test]
    fn a_reader_that_has_stopped_is_not_waited_for_beyond_the_patience() {
        let (out, _text, permission) = slow();
        let trace = Trace::to(out, &About::default(), Payload::None);
        trace.event(&data(b"hello"));
        let end = trace.finish_within(Duration::from_millis(10));
        assert_eq!(end.failure.unwrap().kind(), io::ErrorKind::TimedOut);
        drop(permission);
    }
}

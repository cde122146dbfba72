//! Lines on their way to who reads them, written by a thread of their own: nobody else waits for it.

use std::io::{self, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Bytes of lines that may wait for their reader.
pub const WAITING_MAX: usize = 8 << 20;
/// Lines of a moment are written together, or so many bytes of them: to wake the writer for each would
/// cost the conversations more than the lines do.
const MOMENT: Duration = Duration::from_millis(5);
const TOGETHER: usize = 64 << 10;

/// A queue of lines with the thread that writes them, in order; cheap to clone.
///
/// What does not fit is dropped and counted, and a line in its place says how much is missing.
#[derive(Clone)]
pub struct Lines(Arc<Shared>);

/// What happens to a line for which there is no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "there is nothing else to do with a line")]
pub enum Full {
    /// It is dropped and counted.
    Drop,
    /// It waits, and whoever brings it: what is lost would be worse than the delay.
    Wait,
    /// It is let in. For the few lines that end everything.
    Exceed,
}

/// How the lines ended.
#[derive(Debug)]
#[non_exhaustive]
pub struct End {
    /// Lines that were handed over and not dropped.
    pub lines: u64,
    /// Lines that were dropped.
    pub dropped: u64,
    /// Why not all was written: "timed out" if the reader took nothing any more.
    pub failure: Option<io::Error>,
}

struct Shared {
    state: Mutex<State>,
    /// There are lines, or room for them, or it is over.
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// Whole lines for the writer to take.
    text: String,
    /// Number of the next line.
    next: u64,
    /// Dropped and not told yet; dropped in all.
    untold: u64,
    dropped: u64,
    is_over: bool,
    /// The writer has nothing more to do.
    is_done: bool,
    /// Bytes that were handed over, and those of them that are written.
    handed: u64,
    written: u64,
    failure: Option<io::Error>,
}

impl Lines {
    /// Starts the thread, with this name.
    ///
    /// # Errors
    /// There can be no thread more.
    pub fn to(out: impl Write + Send + 'static, name: &str) -> io::Result<Self> {
        let state = State::default();
        let shared = Arc::new(Shared { state: Mutex::new(state), changed: Condvar::new() });
        let for_thread = Arc::clone(&shared);
        let thread = std::thread::Builder::new().name(name.to_owned());
        // It is not joined: a reader that takes nothing would be waited for without an end.
        thread.spawn(move || for_thread.write_all(out))?;
        Ok(Self(shared))
    }

    /// Hands over what `line` writes for its number, without a newline at its end. If lines are missing
    /// in front of it, `missing` is asked first what to say of so many.
    ///
    /// After the end, or when writing has failed, it is passed over.
    pub fn add(
        &self,
        full: Full,
        missing: impl FnOnce(u64, u64) -> String,
        line: impl FnOnce(u64, &mut String),
    ) {
        let mut state = lock(&self.0.state);
        let has_room = |state: &State| state.is_over || state.text.len() < WAITING_MAX;
        if full == Full::Wait {
            let waited = self.0.changed.wait_while(state, |state| !has_room(state));
            state = waited.unwrap_or_else(PoisonError::into_inner);
        }
        if state.is_over {
            return;
        }
        if full == Full::Drop && !has_room(&state) {
            state.untold += 1;
            state.dropped += 1;
            return;
        }
        let before = state.text.len();
        state.tell_missing(missing);
        let number = state.next;
        line(number, &mut state.text);
        state.text.push('\n');
        state.next += 1;
        state.handed += (state.text.len() - before) as u64;
        let is_due = before == 0 || (before < TOGETHER && state.text.len() >= TOGETHER);
        drop(state);
        if is_due {
            self.0.changed.notify_all();
        }
    }

    /// Lines that were dropped so far.
    pub fn dropped(&self) -> u64 {
        lock(&self.0.state).dropped
    }

    /// Bytes that wait to be written.
    pub fn waiting_bytes(&self) -> usize {
        lock(&self.0.state).text.len()
    }

    /// Waits until what was handed over before is written, as long as something of it is written within
    /// each time of `patience`.
    pub fn flush(&self, patience: Duration) {
        let mut state = lock(&self.0.state);
        let all = state.handed;
        let mut is_stuck = false;
        while !state.is_over && state.written < all && !is_stuck {
            (state, is_stuck) = self.0.wait(state, Some(patience));
        }
    }

    /// Ends the lines and waits until they are written; with a `patience`, as long as something of them
    /// is written within each such time.
    pub fn finish(
        &self,
        patience: Option<Duration>,
        missing: impl FnOnce(u64, u64) -> String,
    ) -> End {
        let mut state = lock(&self.0.state);
        if !state.is_over {
            state.tell_missing(missing);
            state.is_over = true;
        }
        self.0.changed.notify_all();
        let mut is_stuck = false;
        while !state.is_done && !is_stuck {
            (state, is_stuck) = self.0.wait(state, patience);
        }
        if is_stuck {
            state.failure.get_or_insert_with(|| io::ErrorKind::TimedOut.into());
        }
        End { lines: state.next, dropped: state.dropped, failure: state.failure.take() }
    }
}

impl State {
    /// A line in the place of those that are missing, if there are any.
    fn tell_missing(&mut self, missing: impl FnOnce(u64, u64) -> String) {
        if self.untold > 0 {
            self.text += &missing(self.next, self.untold);
            self.text.push('\n');
            self.next += 1;
            self.untold = 0;
        }
    }
}

impl Shared {
    /// Waits until something more is written, or nothing was for so long: then it is stuck.
    fn wait<'a>(
        &self,
        state: MutexGuard<'a, State>,
        patience: Option<Duration>,
    ) -> (MutexGuard<'a, State>, bool) {
        let before = state.written;
        let waits = |state: &mut State| !state.is_done && state.written == before;
        match patience {
            Some(patience) => {
                let waited = self.changed.wait_timeout_while(state, patience, waits);
                let (state, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
                (state, timeout.timed_out())
            }
            None => {
                let waited = self.changed.wait_while(state, waits);
                (waited.unwrap_or_else(PoisonError::into_inner), false)
            }
        }
    }

    /// The writer's thread: takes whatever waits and writes it, until the end or a failure.
    fn write_all(&self, mut out: impl Write) {
        let mut failure = None;
        while failure.is_none() {
            let mut state = lock(&self.state);
            while state.text.is_empty() && !state.is_over {
                state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
            let more_fits = |state: &mut State| state.text.len() < TOGETHER && !state.is_over;
            let waited = self.changed.wait_timeout_while(state, MOMENT, more_fits);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
            let text = std::mem::take(&mut state.text);
            drop(state);
            if text.is_empty() {
                break;
            }
            // Who waits for room finds it.
            self.changed.notify_all();
            failure = self.write(&mut out, text.as_bytes()).err();
        }
        let mut state = lock(&self.state);
        state.failure = failure;
        (state.is_over, state.is_done) = (true, true);
        drop(state);
        self.changed.notify_all();
    }

    /// In pieces, so that who waits for the end sees a slow reader take them.
    fn write(&self, out: &mut impl Write, text: &[u8]) -> io::Result<()> {
        for piece in text.chunks(TOGETHER) {
            out.write_all(piece)?;
            out.flush()?;
            lock(&self.state).written += piece.len() as u64;
            self.changed.notify_all();
        }
        Ok(())
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What is held is whole at every moment: a panic elsewhere does not spoil it.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl std::fmt::Debug for Lines {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lines").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::{Full, Lines, WAITING_MAX};
    use std::io::{self, PipeReader, Read as _};
    use std::time::Duration;

    fn missing(number: u64, count: u64) -> String {
        format!("{number}: {count} missing")
    }

    fn pipe() -> (PipeReader, Lines) {
        let (reader, writer) = io::pipe().unwrap();
        (reader, Lines::to(writer, "lines").unwrap())
    }

    /// More than the pipe takes and the queue holds. The writer is in the middle of the first line, which
    /// the pipe does not take: nothing makes room between the others.
    fn flood(lines: &Lines) -> u64 {
        let long = "x".repeat(1 << 18);
        let count = 3 * WAITING_MAX / long.len();
        lines.add(Full::Drop, missing, |_number, text| text.push_str(&long));
        while lines.waiting_bytes() > 0 {
            std::thread::yield_now();
        }
        for _ in 0..count {
            lines.add(Full::Drop, missing, |_number, text| text.push_str(&long));
        }
        count as u64 + 1
    }

    #[test]
    fn a_reader_that_takes_nothing_costs_lines_and_at_the_end_the_patience() {
        let (reader, lines) = pipe();
        flood(&lines);
        assert!(lines.dropped() > 0);
        lines.add(Full::Exceed, missing, |number, text| *text += &format!("{number}: the last"));
        let end = lines.finish(Some(Duration::from_millis(10)), missing);
        assert_eq!(end.failure.unwrap().kind(), io::ErrorKind::TimedOut);
        drop(reader);
    }

    #[test]
    fn a_slow_reader_gets_everything_that_was_not_dropped_in_order_and_the_count() {
        let (mut reader, lines) = pipe();
        let count = flood(&lines);
        let taker = std::thread::spawn(move || {
            let mut text = String::new();
            reader.read_to_string(&mut text).map(|_| text)
        });
        let end = lines.finish(Some(Duration::from_secs(20)), missing);
        assert!(end.failure.is_none(), "{:?}", end.failure);
        drop(lines);
        let text = taker.join().unwrap().unwrap();
        let last = format!("{}: {} missing\n", count - end.dropped, end.dropped);
        assert!(text.ends_with(&last), "{last}");
        assert_eq!(text.lines().count() as u64, end.lines);
    }

    #[test]
    fn what_is_flushed_is_there_and_a_stuck_reader_is_not_waited_for() {
        let (mut reader, lines) = pipe();
        lines.add(Full::Drop, missing, |_number, text| text.push_str("here"));
        lines.flush(Duration::from_secs(20));
        let mut seen = [0; 5];
        assert_eq!(rustix::io::ioctl_fionread(&reader).unwrap(), 5);
        reader.read_exact(&mut seen).unwrap();
        assert_eq!(&seen, b"here\n");
        flood(&lines);
        lines.flush(Duration::from_millis(10));
    }

    #[test]
    fn a_line_that_may_not_be_lost_waits_for_room() {
        let (mut reader, lines) = pipe();
        let long = "x".repeat(1 << 16);
        let count = 3 * WAITING_MAX / long.len();
        let feeder = std::thread::spawn(move || {
            for _ in 0..count {
                lines.add(Full::Wait, missing, |_number, text| text.push_str(&long));
            }
            lines.finish(None, missing)
        });
        let mut text = Vec::new();
        reader.read_to_end(&mut text).unwrap();
        let end = feeder.join().unwrap();
        assert_eq!((end.lines, end.dropped), (count as u64, 0));
        assert_eq!(text.len(), count * ((1 << 16) + 1));
    }

    #[test]
    fn a_reader_that_left_ends_the_lines_and_nobody_waits() {
        let (reader, lines) = pipe();
        drop(reader);
        lines.add(Full::Drop, missing, |_number, text| text.push('x'));
        let end = lines.finish(None, missing);
        assert_eq!(end.failure.unwrap().kind(), io::ErrorKind::BrokenPipe);
        lines.add(Full::Wait, missing, |_number, text| text.push('x'));
    }
}

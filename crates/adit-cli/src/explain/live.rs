//! A relay in front of something that runs: the picture grows while the conversation goes on.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use adit::event::{Detail, Payload, dropped_line, trace_header_line};
use adit::system::stdio::{PIECE, Writer};
use adit::{Event, Observer, Running, What, trace};
use adit_trace::story::Teller;
use adit_trace::text::{Live, View};
use tokio::sync::mpsc;
use tokio::time::interval;

use super::output::{Output, stdout_gone};
use crate::args::Explain;
use crate::exit::Exit;
use crate::forward;
use crate::house::{DRAIN_AT_KEYBOARD, Exposure, Gate, House, Passed, Ready, announce};
use crate::runtime::Patience;
use crate::say::{self, Voice};
use crate::{resolve, runtime, secure};

/// Events that may wait to be drawn, and bytes of their lines; beyond them events are missing in the
/// drawing, which says so: the conversation never waits for it.
const WAITING_MAX: usize = 1 << 16;
const WAITING_BYTES_MAX: usize = 64 << 20;
/// Events that are kept for a picture at the end, and bytes of their lines.
const KEPT_MAX: u64 = 1_000_000;
const KEPT_BYTES_MAX: usize = 512 << 20;
/// How long nothing may be drawn of what is complete.
const PATIENCE: Duration = Duration::from_millis(50);

/// Relays, draws meanwhile, and draws the whole at the end.
pub(super) fn explain(
    args: &Explain,
    (ready, passed): (Ready, Passed),
    output: Output,
    voice: &Voice,
) -> adit::Result<Exit> {
    let (mut places, target) =
        forward::between(&args.words, (&args.net, "explain"), passed, voice)?;
    // What goes to a program goes over no socket that could be drawn.
    let mut target = target.socket()?;
    let passed = places.names();
    let tls = places.secured(args.tls.tls.as_deref() == Some("auto"), |listen| {
        secure::relay(listen, &mut target, &args.tls, voice)
    })?;
    let gate = Gate::of(&args.house, tls)?;
    let limits = forward::limits((&args.limits, &args.tls), &gate);
    let dial = resolve::dial(&args.net, &args.client, &args.tls).stall(limits.stall);
    let relay = forward::relay(dial, &target, limits, args.proxy_out)?;
    let relay = forward::route(gate.guard_relay(relay), &places, &target, &gate)?;
    let relay = if args.house.once { relay.once() } else { relay };
    // With the old limit it relays fewer, that is all.
    drop(adit::system::descriptors::raise_limit());
    runtime::block_on(async {
        // The picture may still have to be read.
        let whole = args.house.drain.max(DRAIN_AT_KEYBOARD);
        let patience = Patience { terminate: whole, otherwise: whole };
        let limits = forward::users_limits((&args.limits, &args.tls));
        let mut house = House::with_patience(&args.house, limits, voice, patience);
        let (recorder, events) = Recorder::new(args.payload);
        let mut picture = Picture::new(args, output, events, Arc::clone(&recorder.count));
        let servers: Vec<Running> =
            vec![relay.observe(house.quiet_observer()).observe(recorder.clone()).start()?];
        picture.output.begin()?;
        let exposure = Exposure { gate: &gate, passed, program: None, is_open: false };
        announce(&servers, ready, voice, &exposure, |_| String::new())?;
        let ended = tokio::select! {
            ended = house.until_told(&servers) => ended,
            error = picture.grow() => return Err(error),
        };
        let exit = tokio::select! {
            exit = house.close(servers, ended) => exit?,
            error = picture.grow() => return Err(error),
        };
        drop(recorder);
        picture.finish(voice).await?;
        Ok(exit)
    })?
}

/// Hands every event to the drawing, as a line.
#[derive(Clone)]
struct Recorder {
    lines: mpsc::Sender<String>,
    payload: Payload,
    start: Duration,
    /// Held until a line is on its way: lines come in the order of their numbers.
    count: Arc<Mutex<Count>>,
}

/// What waits to be drawn.
struct Count {
    /// Number of the next line.
    next: u64,
    dropped: u64,
    /// Bytes of the lines that wait.
    waiting: usize,
}

impl Count {
    fn of(shared: &Mutex<Self>) -> MutexGuard<'_, Self> {
        shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Recorder {
    fn new(payload: Payload) -> (Self, mpsc::Receiver<String>) {
        let (lines, events) = mpsc::channel(WAITING_MAX);
        let (version, start) = (env!("CARGO_PKG_VERSION"), say::wall_clock());
        let program = say::command_line();
        let header = trace_header_line(version, &start, "relay", &program, std::process::id());
        let count = Arc::new(Mutex::new(Count { next: 1, dropped: 0, waiting: header.len() }));
        // There is room for the first one.
        drop(lines.try_send(header));
        (Self { lines, payload, start: trace::now(), count }, events)
    }
}

impl Recorder {
    fn hand_over(&self, count: &mut Count, line: String) {
        count.waiting += line.len();
        count.next += 1;
        // Closed: nobody draws any more.
        drop(self.lines.try_send(line));
    }
}

impl Observer for Recorder {
    fn event(&self, event: &Event<'_>) {
        if let What::Message { .. } = event.what {
            return;
        }
        let at = event.at.saturating_sub(self.start);
        let mut count = Count::of(&self.count);
        // Both lines below find room: nobody else fills it meanwhile.
        if self.lines.capacity() < 2 || count.waiting >= WAITING_BYTES_MAX {
            count.dropped += 1;
            return;
        }
        if count.dropped > 0 {
            let dropped = std::mem::take(&mut count.dropped);
            let line = dropped_line(count.next, at, dropped);
            self.hand_over(&mut count, line);
        }
        let mut line = String::new();
        Event { at, ..event.clone() }.json(count.next, Detail::Trace, self.payload, &mut line);
        self.hand_over(&mut count, line);
    }
}

/// What is shown while it happens, and what is kept for the end.
struct Picture {
    events: mpsc::Receiver<String>,
    waiting: Arc<Mutex<Count>>,
    live: Option<Live>,
    /// Standard output, on a thread of its own: signals are heard while nobody reads the picture.
    writer: Writer,
    outbox: Vec<u8>,
    is_json: bool,
    kept: Option<Teller>,
    /// Events that came; those that are kept, and the bytes of their lines.
    count: u64,
    kept_count: u64,
    kept_bytes: usize,
    output: Output,
    start: Duration,
}

impl Picture {
    fn new(
        args: &Explain,
        output: Output,
        events: mpsc::Receiver<String>,
        waiting: Arc<Mutex<Count>>,
    ) -> Self {
        let is_json = args.say.json.is_some();
        let grows = output.view() == View::Sequence && !is_json;
        let live = grows.then(|| Live::new(output.options().clone()));
        let kept = (output.is_file() || (!grows && !is_json)).then(Teller::default);
        let (count, kept_count, kept_bytes) = (0, 0, 0);
        let start = trace::now();
        let (writer, outbox) = (Writer::new(std::io::stdout()), Vec::new());
        Self {
            events,
            waiting,
            live,
            writer,
            outbox,
            is_json,
            kept,
            count,
            kept_count,
            kept_bytes,
            output,
            start,
        }
    }

    /// Draws what comes, until nobody looks any more.
    async fn grow(&mut self) -> adit::Error {
        let mut clock = interval(PATIENCE);
        loop {
            let (has_room, has_more) = (self.outbox.len() < PIECE, !self.outbox.is_empty());
            tokio::select! {
                Some(line) = self.events.recv(), if has_room => self.take(&line),
                _ = clock.tick(), if has_room => self.tick(),
                shown = self.writer.write_from(&mut self.outbox), if has_more => {
                    if let Err(error) = shown {
                        return stdout_gone(&error);
                    }
                }
                error = self.writer.failed() => return stdout_gone(&error),
            }
        }
    }

    fn take(&mut self, line: &str) {
        {
            let mut count = Count::of(&self.waiting);
            count.waiting = count.waiting.saturating_sub(line.len());
        }
        self.count += 1;
        if let Some(teller) = &mut self.kept
            && self.kept_count < KEPT_MAX
            && self.kept_bytes < KEPT_BYTES_MAX
        {
            self.kept_count += 1;
            self.kept_bytes += line.len();
            // The line was made by the library itself.
            drop(teller.line(line));
        }
        if self.is_json {
            self.outbox.extend_from_slice(line.as_bytes());
            self.outbox.push(b'\n');
        }
        let lines = self.live.as_mut().map(|live| live.line(line));
        self.show(lines.unwrap_or_default());
    }

    fn show(&mut self, lines: Vec<String>) {
        for line in lines {
            self.outbox.extend_from_slice(line.as_bytes());
            self.outbox.push(b'\n');
        }
    }

    fn tick(&mut self) {
        // Events on their way are younger than this.
        let now = trace::now().saturating_sub(self.start + PATIENCE);
        let now = u64::try_from(now.as_nanos()).unwrap_or(u64::MAX);
        let lines = self.live.as_mut().map(|live| live.tick(now));
        self.show(lines.unwrap_or_default());
    }

    /// Draws the rest, and the whole if it goes to a file or could not grow.
    async fn finish(mut self, voice: &Voice) -> adit::Result<()> {
        while let Ok(line) = self.events.try_recv() {
            self.take(&line);
            if self.outbox.len() >= PIECE {
                self.flush().await?;
            }
        }
        let (next, dropped) = {
            let count = Count::of(&self.waiting);
            (count.next, count.dropped)
        };
        if dropped > 0 {
            let at = trace::now().saturating_sub(self.start);
            let last = dropped_line(next, at, dropped);
            self.take(&last);
        }
        if let Some(live) = self.live.take() {
            self.show(live.finish());
        }
        self.flush().await?;
        self.writer.finish().await.map_err(|error| stdout_gone(&error))?;
        if self.count > self.kept_count && self.kept.is_some() {
            let (kept, count) = (self.kept_count, self.count);
            voice.warn(&format!("only the first {kept} of {count} events are drawn"));
        }
        match self.kept.take() {
            Some(teller) => {
                let mut story = teller.finish();
                self.output.choose(&mut story);
                self.output.write(&story, voice)
            }
            None => Ok(()),
        }
    }

    async fn flush(&mut self) -> adit::Result<()> {
        if self.outbox.is_empty() {
            return Ok(());
        }
        let written = self.writer.write_from(&mut self.outbox).await;
        written.map_err(|error| stdout_gone(&error))
    }
}

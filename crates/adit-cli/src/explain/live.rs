//! A relay in front of something that runs: the picture grows while the conversation goes on.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use adit::event::{Detail, Payload, dropped_line, trace_header_line};
use adit::{Event, Observer, Running, What, trace};
use adit_trace::story::Teller;
use adit_trace::text::{Live, View};
use tokio::sync::mpsc;
use tokio::time::interval;

use super::output::{Output, stdout_gone};
use crate::args::Explain;
use crate::exit::Exit;
use crate::forward;
use crate::house::{House, Ready, announce};
use crate::say::{self, Voice};
use crate::{resolve, runtime};

/// Events that may wait to be drawn; beyond them the drawing falls behind, never the conversation.
const WAITING_MAX: usize = 1 << 16;
/// Events that are kept for a picture at the end.
const KEPT_MAX: u64 = 1_000_000;
/// How long nothing may be drawn of what is complete.
const PATIENCE: Duration = Duration::from_millis(50);

/// Relays, draws meanwhile, and draws the whole at the end.
pub(super) fn explain(
    args: &Explain,
    ready: Ready,
    output: Output,
    voice: &Voice,
) -> adit::Result<Exit> {
    let (listen, target) = resolve::pair(&args.words, &args.net, "explain")?;
    let limits = forward::limits(&args.limits, args.house.max_conns);
    let dial = resolve::dial(&args.net, &args.client).stall(limits.stall);
    let route = forward::route(listen, &target, dial, limits, args.house.once)?;
    // With the old limit it relays fewer, that is all.
    drop(adit::system::descriptors::raise_limit());
    runtime::block_on(async {
        let mut house = House::new(&args.house, forward::users_limits(&args.limits), voice);
        let (recorder, events) = Recorder::new(args.payload);
        let mut picture = Picture::new(args, output, events);
        let servers: Vec<Running> =
            vec![route.observe(house.quiet_observer()).observe(recorder.clone()).start()?];
        announce(&servers, ready, voice, forward::next_step)?;
        let ended = tokio::select! {
            ended = house.until_told(&servers) => ended,
            error = picture.grow() => return Err(error),
        };
        let exit = tokio::select! {
            exit = house.close(servers, ended) => exit?,
            error = picture.grow() => return Err(error),
        };
        drop(recorder);
        picture.finish(voice)?;
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

struct Count {
    next: u64,
    dropped: u64,
}

impl Recorder {
    fn new(payload: Payload) -> (Self, mpsc::Receiver<String>) {
        let (lines, events) = mpsc::channel(WAITING_MAX);
        let (version, start) = (env!("CARGO_PKG_VERSION"), say::wall_clock());
        let program = say::command_line();
        let header = trace_header_line(version, &start, "relay", &program, std::process::id());
        // There is room for the first one.
        drop(lines.try_send(header));
        let count = Arc::new(Mutex::new(Count { next: 1, dropped: 0 }));
        (Self { lines, payload, start: trace::now(), count }, events)
    }
}

impl Observer for Recorder {
    fn event(&self, event: &Event<'_>) {
        if let What::Message { .. } = event.what {
            return;
        }
        let at = event.at.saturating_sub(self.start);
        let mut count = self.count.lock().unwrap_or_else(PoisonError::into_inner);
        if count.dropped > 0
            && self.lines.try_send(dropped_line(count.next, at, count.dropped)).is_ok()
        {
            count.next += 1;
            count.dropped = 0;
        }
        let mut line = String::new();
        Event { at, ..event.clone() }.json(count.next, Detail::Trace, self.payload, &mut line);
        match self.lines.try_send(line) {
            Ok(()) => count.next += 1,
            Err(_) => count.dropped += 1,
        }
    }
}

/// What is shown while it happens, and what is kept for the end.
struct Picture {
    events: mpsc::Receiver<String>,
    live: Option<Live>,
    is_json: bool,
    kept: Option<Teller>,
    count: u64,
    output: Output,
    start: Duration,
}

impl Picture {
    fn new(args: &Explain, output: Output, events: mpsc::Receiver<String>) -> Self {
        let is_json = args.say.json.is_some();
        let grows = output.view() == View::Sequence && !is_json;
        let live = grows.then(|| Live::new(output.options().clone()));
        let kept = (output.is_file() || (!grows && !is_json)).then(Teller::default);
        Self { events, live, is_json, kept, count: 0, output, start: trace::now() }
    }

    /// Draws what comes, until nobody looks any more.
    async fn grow(&mut self) -> adit::Error {
        let mut clock = interval(PATIENCE);
        loop {
            let shown = tokio::select! {
                Some(line) = self.events.recv() => self.take(&line),
                _ = clock.tick() => self.tick(),
            };
            if let Err(error) = shown {
                return stdout_gone(&error);
            }
        }
    }

    fn take(&mut self, line: &str) -> std::io::Result<()> {
        self.count += 1;
        if let Some(teller) = &mut self.kept
            && self.count <= KEPT_MAX
        {
            // The line was made by the library itself.
            drop(teller.line(line));
        }
        if self.is_json {
            return say::show(&format!("{line}\n"));
        }
        match &mut self.live {
            Some(live) => show_lines(&live.line(line)),
            None => Ok(()),
        }
    }

    fn tick(&mut self) -> std::io::Result<()> {
        // Events on their way are younger than this.
        let now = trace::now().saturating_sub(self.start + PATIENCE);
        match &mut self.live {
            Some(live) => show_lines(&live.tick(u64::try_from(now.as_nanos()).unwrap_or(u64::MAX))),
            None => Ok(()),
        }
    }

    /// Draws the rest, and the whole if it goes to a file or could not grow.
    fn finish(mut self, voice: &Voice) -> adit::Result<()> {
        while let Ok(line) = self.events.try_recv() {
            self.take(&line).map_err(|error| stdout_gone(&error))?;
        }
        if let Some(live) = self.live.take() {
            show_lines(&live.finish()).map_err(|error| stdout_gone(&error))?;
        }
        if self.count > KEPT_MAX && self.kept.is_some() {
            voice.warn(&format!("only the first {KEPT_MAX} of {} events are drawn", self.count));
        }
        match self.kept.take() {
            Some(teller) => self.output.write(&teller.finish(), voice),
            None => Ok(()),
        }
    }
}

fn show_lines(lines: &[String]) -> std::io::Result<()> {
    if lines.is_empty() {
        return Ok(());
    }
    say::show(&(lines.join("\n") + "\n"))
}

//! The printer of a server by hand: what clients say, exact to a pipe, labelled and safe on a
//! terminal, and never two clients in one line.

use std::collections::BTreeMap;
use std::io;
use std::time::Duration;

use adit::escape::Escaper;
use adit::system::stdio::{self, Kind, Writer};
use adit::{Code, Endpoint};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

use crate::args::{Color, Label, Talk};
use crate::connect::Failure;
use crate::say::Voice;

/// A line that is not complete is shown after this time.
const PATIENCE: Duration = Duration::from_millis(200);

/// A line that is longer is shown in parts.
const LINE_BYTES_MAX: usize = 64 << 10;

/// Something a client said.
pub(crate) struct Said {
    pub(crate) number: u64,
    pub(crate) remote: Endpoint,
    /// Nothing: the client has finished.
    pub(crate) bytes: Vec<u8>,
    /// A whole message, not a piece of a stream.
    pub(crate) is_message: bool,
}

/// Prints what clients say.
pub(crate) struct Printer {
    writer: Writer,
    /// What is written next: here, not in a call, so that a call that is dropped loses nothing.
    outbox: Vec<u8>,
    is_terminal: bool,
    failure: Failure,
    is_json: bool,
    raw: bool,
    color: bool,
    label: Label,
    clients: BTreeMap<u64, Client>,
    /// Clients there have ever been.
    seen: u64,
}

/// A client with the line it has begun.
struct Client {
    remote: Endpoint,
    partial: Vec<u8>,
    since: Option<Instant>,
    /// A part of its line was already shown.
    continues: bool,
    escaper: Escaper,
}

/// How a line of a client is printed.
#[derive(Clone, Copy)]
struct Style {
    number: u64,
    escapes: bool,
    color: bool,
    label: Label,
}

impl Printer {
    pub(crate) fn new(talk: &Talk, voice: &Voice) -> Self {
        let stdout = io::stdout();
        let is_terminal = stdio::kind(&stdout) == Kind::Terminal;
        let unwanted = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty())
            || std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        let color = match talk.color {
            Color::Always => true,
            Color::Never => false,
            Color::Auto => is_terminal && !unwanted,
        };
        Self {
            writer: Writer::new(stdout),
            outbox: Vec::new(),
            is_terminal,
            failure: Failure::new(voice),
            is_json: voice.payload_is_json(),
            raw: talk.raw,
            color,
            label: talk.label,
            clients: BTreeMap::new(),
            seen: 0,
        }
    }

    /// Takes a piece to be printed, or keeps it until its line is complete.
    pub(crate) fn print(&mut self, said: Said) {
        if self.is_json {
            return;
        }
        let seen = &mut self.seen;
        let client = self.clients.entry(said.number).or_insert_with(|| {
            *seen += 1;
            Client {
                remote: said.remote,
                partial: Vec::new(),
                since: None,
                continues: false,
                escaper: Escaper::new(),
            }
        });
        let is_over = said.bytes.is_empty() && !said.is_message;
        client.partial.extend_from_slice(&said.bytes);
        let out =
            if self.labels() { self.lines(said.number, is_over) } else { self.bytes(said.number) };
        if is_over {
            self.clients.remove(&said.number);
        }
        self.outbox.extend(out);
    }

    /// Does one thing that is to be done next: writes, takes what a client says, or shows a line that
    /// was begun and has waited long enough. Fails as soon as nobody reads standard output any more.
    ///
    /// Cancel safe: what a dropped call has not written, the next one does.
    pub(crate) async fn step(&mut self, said: &mut mpsc::Receiver<Said>) -> Result<(), Code> {
        let is_idle = self.outbox.is_empty();
        tokio::select! {
            biased;
            error = self.writer.failed() => return Err(self.failure.code(&error)),
            written = self.writer.write_from(&mut self.outbox), if !is_idle => {
                written.map_err(|error| self.failure.code(&error))?;
            }
            Some(said) = said.recv(), if is_idle => self.print(said),
            () = overdue(&self.clients), if is_idle => self.print_partial(),
        }
        Ok(())
    }

    /// Writes what there is; waits while the reader is slow.
    pub(crate) async fn flush(&mut self) -> Result<(), Code> {
        if self.outbox.is_empty() {
            return Ok(());
        }
        let written = self.writer.write_from(&mut self.outbox).await;
        written.map_err(|error| self.failure.code(&error))
    }

    /// Prints the lines that have waited long enough, with a mark that they go on.
    fn print_partial(&mut self) {
        let is_due =
            |client: &Client| client.since.is_some_and(|since| since.elapsed() >= PATIENCE);
        let due = self.clients.iter().filter(|(_, client)| is_due(client));
        let due: Vec<u64> = due.map(|(number, _)| *number).collect();
        for number in due {
            let out = self.lines(number, true);
            self.outbox.extend(out);
        }
    }

    /// Prints what is left and waits until it is written.
    pub(crate) async fn finish(&mut self) -> Result<(), Code> {
        for number in self.clients.keys().copied().collect::<Vec<_>>() {
            let out = if self.labels() { self.lines(number, true) } else { self.bytes(number) };
            self.outbox.extend(out);
        }
        self.flush().await?;
        self.writer.finish().await.map_err(|error| self.failure.code(&error))
    }

    /// Labels make sense to a person with more than one client; a program gets them if it asks.
    fn labels(&self) -> bool {
        match self.label {
            Label::Auto => self.is_terminal && self.seen > 1,
            Label::None => false,
            Label::Addr | Label::Number => true,
        }
    }

    /// What a client said, as it is, or escaped for a terminal.
    fn bytes(&mut self, number: u64) -> Vec<u8> {
        let escapes = self.is_terminal && !self.raw;
        let Some(client) = self.clients.get_mut(&number) else { return Vec::new() };
        let bytes = std::mem::take(&mut client.partial);
        client.since = None;
        if !escapes {
            return bytes;
        }
        let mut text = String::new();
        client.escaper.push(&bytes, &mut text);
        text.into_bytes()
    }

    /// The whole lines of a client behind its label; with `all` also the one that is not complete.
    fn lines(&mut self, number: u64, all: bool) -> Vec<u8> {
        let style = Style { number, escapes: !self.raw, color: self.color, label: self.label };
        let Some(client) = self.clients.get_mut(&number) else { return Vec::new() };
        let mut out = Vec::new();
        let mut partial = std::mem::take(&mut client.partial);
        let mut start = 0;
        while let Some(bytes) = partial[start..].iter().position(|byte| *byte == b'\n') {
            client.put(&mut out, style, &partial[start..start + bytes], false);
            start += bytes + 1;
        }
        partial.drain(..start);
        if (all || partial.len() > LINE_BYTES_MAX) && !partial.is_empty() {
            client.put(&mut out, style, &partial, true);
            partial.clear();
        }
        client.since = match (partial.is_empty(), client.since) {
            (true, _) => None,
            (false, Some(since)) if !all => Some(since),
            (false, _) => Some(Instant::now()),
        };
        client.partial = partial;
        out
    }
}

/// When a line that was begun has waited long enough; never if there is none.
async fn overdue(clients: &BTreeMap<u64, Client>) {
    match clients.values().filter_map(|client| client.since).min() {
        Some(since) => sleep_until(since + PATIENCE).await,
        None => std::future::pending().await,
    }
}

impl Client {
    /// Appends one line: `[2 127.0.0.1:4711] text`, with `+` where it continues an earlier one.
    fn put(&mut self, out: &mut Vec<u8>, style: Style, line: &[u8], goes_on: bool) {
        let Style { number, escapes, color, label } = style;
        let who = match label {
            Label::Number => format!("{number}"),
            Label::Addr => self.remote.place_text(),
            _ => format!("{number} {}", self.remote.place_text()),
        };
        let mark = if self.continues { "+" } else { "" };
        let head = format!("[{who}]{mark} ");
        let head = if color { format!("\x1b[36m{head}\x1b[0m") } else { head };
        out.extend_from_slice(head.as_bytes());
        if escapes {
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            out.extend_from_slice(adit::escape::escape(line).as_bytes());
        } else {
            out.extend_from_slice(line);
        }
        out.push(b'\n');
        self.continues = goes_on;
    }
}

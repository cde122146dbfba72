//! Standard output: exact bytes to a pipe, safe text to a terminal.

use std::cell::Cell;
use std::io;

use adit::Code;
use adit::escape::Escaper;
use adit::system::stdio::{self, Writer};

use super::cmd::ToProgram;
use crate::say::Voice;

/// Standard output of a command that receives payload.
pub(crate) struct Output {
    writer: Writer,
    /// On a terminal, unless `--raw`.
    escaper: Option<Escaper>,
    failure: Failure,
    is_program: bool,
}

impl Output {
    pub(crate) fn new(voice: &Voice, raw: bool) -> Self {
        let stdout = io::stdout();
        let is_terminal = stdio::kind(&stdout) == stdio::Kind::Terminal;
        let escaper = (is_terminal && !raw).then(Escaper::new);
        let (writer, failure) = (Writer::new(stdout), Failure::new(voice));
        Self { writer, escaper, failure, is_program: false }
    }

    /// What a program reads.
    pub(super) fn of_program(voice: &Voice, program: ToProgram) -> Self {
        let (writer, failure) = (Writer::new(program), Failure::new(voice));
        Self { writer, escaper: None, failure, is_program: true }
    }

    /// The peer has ended: so does the input of a program. A person reads on.
    pub(super) async fn peer_ended(&mut self) {
        if self.is_program {
            // It need not read what it is given.
            drop(self.writer.finish().await);
        }
    }

    /// Hands over bytes of the peer; waits while the reader is slow.
    ///
    /// Cancel safe: a dropped call has handed over nothing or all.
    pub(crate) async fn write(&mut self, bytes: Vec<u8>) -> Result<(), Code> {
        let is_told = self.failure.voice.payload_is_json() && !self.is_program;
        if is_told || bytes.is_empty() {
            return Ok(());
        }
        let bytes = match &mut self.escaper {
            Some(escaper) => {
                let mut text = String::with_capacity(bytes.len());
                escaper.push(&bytes, &mut text);
                text.into_bytes()
            }
            None => bytes,
        };
        self.writer.write(bytes).await.map_err(|error| self.failure.code(&error))
    }

    /// Waits until the reader has left; for ever if it does not.
    pub(crate) async fn failed(&self) -> Code {
        self.failure.code(&self.writer.failed().await)
    }

    /// Waits until everything is written out.
    pub(crate) async fn finish(&mut self) -> Result<(), Code> {
        if let Some(escaper) = &mut self.escaper {
            let mut rest = String::new();
            escaper.finish(&mut rest);
            if !rest.is_empty() {
                // A failure is found by the wait below.
                drop(self.writer.write(rest.into_bytes()).await);
            }
        }
        self.writer.finish().await.map_err(|error| self.failure.code(&error))
    }
}

/// What a failure of standard output means. It is said once; a reader that has left, as in `| head`,
/// is no reason for words.
pub(crate) struct Failure {
    voice: Voice,
    is_said: Cell<bool>,
}

impl Failure {
    pub(crate) fn new(voice: &Voice) -> Self {
        Self { voice: voice.clone(), is_said: Cell::new(false) }
    }

    pub(crate) fn code(&self, error: &io::Error) -> Code {
        if error.kind() == io::ErrorKind::BrokenPipe {
            return Code::StdoutClosed;
        }
        if !self.is_said.replace(true) {
            let text = format!("cannot write to standard output: {error}");
            self.voice.failure(Code::Lost, &text, "stdout");
        }
        Code::Lost
    }
}

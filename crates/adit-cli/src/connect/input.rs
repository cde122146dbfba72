//! Standard input, piece by piece; what one connection did not take is there for the next.

use std::io;

use adit::system::stdio::{self, Pieces};

use super::cmd::FromProgram;

use crate::args::Connect;

/// Standard input of a `connect`.
pub(crate) struct Input {
    pieces: Option<Pieces>,
    /// What was read and not sent, from `sent` on.
    piece: Vec<u8>,
    sent: usize,
    crlf: Option<Crlf>,
    is_terminal: bool,
    is_held: bool,
}

/// Turns LF into CRLF, but for an LF that has its CR already.
#[derive(Default)]
pub(crate) struct Crlf {
    after_cr: bool,
}

impl Crlf {
    pub(crate) fn convert(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(bytes.len() + bytes.len() / 16);
        for byte in bytes {
            if *byte == b'\n' && !self.after_cr {
                out.push(b'\r');
            }
            out.push(*byte);
            self.after_cr = *byte == b'\r';
        }
        out
    }
}

impl Input {
    pub(crate) fn new(args: &Connect) -> Self {
        let stdin = io::stdin();
        let is_terminal = stdio::kind(&stdin) == stdio::Kind::Terminal;
        // With --recv-only our direction stays open and empty.
        let pieces = (!args.recv_only).then(|| stdio::read_on_thread(stdin));
        Self {
            pieces,
            piece: Vec::new(),
            sent: 0,
            crlf: args.crlf.then(Crlf::default),
            is_terminal,
            is_held: args.recv_only,
        }
    }

    /// What a program writes.
    pub(super) fn of_program(program: FromProgram, args: &Connect) -> Self {
        Self {
            pieces: (!args.recv_only).then(|| stdio::read_on_thread(program)),
            piece: Vec::new(),
            sent: 0,
            crlf: args.crlf.then(Crlf::default),
            is_terminal: false,
            is_held: args.recv_only,
        }
    }

    /// Does a person type it?
    pub(crate) fn is_terminal(&self) -> bool {
        self.is_terminal
    }

    /// Has it ended, and everything of it been taken?
    pub(crate) fn is_over(&self) -> bool {
        self.pieces.is_none() && self.sent == self.piece.len()
    }

    /// What is to be sent next; nothing at the end.
    ///
    /// Cancel safe: nothing is lost by dropping the call.
    pub(crate) async fn next(&mut self) -> io::Result<&[u8]> {
        if self.sent == self.piece.len() {
            (self.piece, self.sent) = (Vec::new(), 0);
            if self.is_held {
                return std::future::pending().await;
            }
            if let Some(pieces) = &mut self.pieces {
                match pieces.recv().await {
                    Some(piece) => {
                        let piece = piece?;
                        self.piece = match &mut self.crlf {
                            Some(crlf) => crlf.convert(&piece),
                            None => piece,
                        };
                    }
                    None => self.pieces = None,
                }
            }
        }
        Ok(&self.piece[self.sent..])
    }

    /// So much of it was sent.
    pub(crate) fn took(&mut self, bytes: usize) {
        self.sent += bytes;
    }
}

#[cfg(test)]
mod tests {
    use super::Crlf;

    #[test]
    fn lf_becomes_crlf_once_however_it_is_cut() {
        let text = b"a\nb\r\nc\n\n";
        for cut in 0..=text.len() {
            let mut crlf = Crlf::default();
            let out = [crlf.convert(&text[..cut]), crlf.convert(&text[cut..])].concat();
            assert_eq!(out, b"a\r\nb\r\nc\r\n\r\n", "cut at {cut}");
        }
    }
}

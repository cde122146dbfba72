//! Frames: how a stream of bytes on standard input becomes messages, and messages become output.

use adit::codec::{Codec, Delimited, Fixed, Frame as Found, Length32, Lines, Whole};
use adit::system::UDP_BYTES_MAX;
use adit::{Blame, Code, Error, Result};

use crate::complaint::quoted;

/// How messages stand in standard input and output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Frame {
    /// A message per line; line ends are removed, and added on output where there is none.
    Line,
    /// A message per line; the newline is part of it.
    LineNl,
    /// Messages end with a text.
    Delimiter(Vec<u8>),
    /// Messages follow their 32-bit length.
    Len32,
    /// Messages of one length.
    Fixed(usize),
    /// A line of hexadecimal digits per message.
    Hex,
    /// The input is cut into pieces of this length, the last one shorter.
    Chunk(usize),
    /// The whole input is one message.
    Whole,
}

impl Frame {
    /// Reads the value of `--frame`.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let number = |text: &str| text.parse().ok().filter(|number| *number > 0);
        let frame = match text.split_once(':') {
            None => match text {
                "line" => Some(Self::Line),
                "json" => Some(Self::Line),
                "line-nl" => Some(Self::LineNl),
                "null" => Some(Self::Delimiter(vec![0])),
                "len32" => Some(Self::Len32),
                "hex" => Some(Self::Hex),
                "whole" => Some(Self::Whole),
                _ => None,
            },
            Some(("delim", text)) => (!text.is_empty()).then(|| Self::Delimiter(text.into())),
            Some(("fixed", length)) => number(length).map(Self::Fixed),
            Some(("chunk", length)) => number(length).map(Self::Chunk),
            Some(_) => None,
        };
        frame.ok_or_else(|| {
            let what = match text {
                "raw" => "--frame raw has no messages, and datagrams need them".to_owned(),
                text => format!("unknown frame {}", quoted(text)),
            };
            let hint =
                "line, line-nl, delim:TEXT, null, len32, fixed:N, json, hex, chunk:N or whole";
            Error::new(Code::Usage, Blame::Caller, what).with_hint(format!("one of {hint}"))
        })
    }

    /// The form in which a message goes to standard output.
    pub(crate) fn output(&self, msg: &[u8]) -> Vec<u8> {
        let mut out = msg.to_vec();
        match self {
            Self::Line if !msg.ends_with(b"\n") => out.push(b'\n'),
            Self::Delimiter(text) => out.extend_from_slice(text),
            Self::Len32 => {
                let length = u32::try_from(msg.len()).unwrap_or(u32::MAX);
                out.splice(..0, length.to_be_bytes());
            }
            Self::Hex => {
                out = msg.iter().flat_map(|byte| format!("{byte:02x}").into_bytes()).collect();
                out.push(b'\n');
            }
            _ => {}
        }
        out
    }
}

/// Cuts standard input into messages.
pub(crate) struct Splitter {
    frame: Frame,
    codec: Box<dyn Codec>,
    buffer: Vec<u8>,
    at: usize,
}

impl Splitter {
    pub(crate) fn new(frame: Frame) -> Self {
        let codec: Box<dyn Codec> = match &frame {
            Frame::Line | Frame::Hex => Box::new(Lines::new()),
            Frame::LineNl => Box::new(KeepNewline(Lines::new())),
            Frame::Delimiter(text) => match Delimited::new(text.clone()) {
                Some(codec) => Box::new(codec),
                None => Box::new(Whole::new()),
            },
            Frame::Len32 => Box::new(Length32),
            Frame::Fixed(length) | Frame::Chunk(length) => match Fixed::new(*length) {
                Some(codec) => Box::new(codec),
                None => Box::new(Whole::new()),
            },
            Frame::Whole => Box::new(Whole::new()),
        };
        Self { frame, codec, buffer: Vec::new(), at: 0 }
    }

    /// Adds what was read.
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.buffer.drain(..self.at);
        self.at = 0;
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole message. `is_over` says that no more bytes will come.
    ///
    /// # Errors
    /// `too-big` before anything of the message is sent; `truncated` for a record that is cut short;
    /// `bad-frame` for what is no hexadecimal.
    pub(crate) fn next(&mut self, is_over: bool) -> Result<Option<Vec<u8>>> {
        let left = &self.buffer[self.at..];
        let found = match self.codec.decode(left) {
            Ok(None) if is_over => self.end(),
            found => found.map_err(|error| (Code::BadFrame, error.to_string())),
        };
        let found = found.map_err(|(code, text)| {
            let what = format!("standard input: {text}");
            Error::new(code, Blame::Caller, what)
                .with_hint("what was whole is sent, this is not: adit help udp")
        })?;
        let left = &self.buffer[self.at..];
        match found {
            Some(Found { body, used }) => {
                let msg = left[body].to_vec();
                self.at += used;
                let msg = if self.frame == Frame::Hex { from_hex(&msg)? } else { msg };
                too_big(Some(msg.len()))?;
                Ok(Some(msg))
            }
            None => {
                // A record that announces or already has more than fits need not be waited for.
                let digits = if self.frame == Frame::Hex { 2 } else { 1 };
                let announced = self.codec.announced(left).unwrap_or(0);
                too_big(Some(usize::try_from(announced).unwrap_or(usize::MAX)))?;
                // How long it is going to be is not known.
                let is_over = (left.len() / digits).saturating_sub(2) > UDP_BYTES_MAX;
                too_big(if is_over { None } else { Some(0) })?;
                Ok(None)
            }
        }
    }

    fn end(&mut self) -> std::result::Result<Option<Found>, (Code, String)> {
        let left = &self.buffer[self.at..];
        if let Frame::Chunk(_) = self.frame {
            let whole = Found { body: 0..left.len(), used: left.len() };
            return Ok((!left.is_empty()).then_some(whole));
        }
        self.codec.decode_end(left).map_err(|error| (Code::Truncated, error.to_string()))
    }
}

/// Lines whose newline is part of the message.
struct KeepNewline(Lines);

impl Codec for KeepNewline {
    fn decode(&mut self, buf: &[u8]) -> std::result::Result<Option<Found>, adit::BoxError> {
        Ok(self.0.decode(buf)?.map(|found| Found { body: 0..found.used, used: found.used }))
    }
    fn decode_end(&mut self, rest: &[u8]) -> std::result::Result<Option<Found>, adit::BoxError> {
        self.0.decode_end(rest)
    }
    fn encode(&mut self, msg: &[u8], out: &mut Vec<u8>) -> std::result::Result<(), adit::BoxError> {
        out.extend_from_slice(msg);
        Ok(())
    }
}

/// Refuses a message longer than the transport takes; of one without a length only that is known.
fn too_big(bytes: Option<usize>) -> Result<()> {
    let how_long = match bytes {
        Some(bytes) if bytes <= UDP_BYTES_MAX => return Ok(()),
        Some(bytes) => format!("datagram of {bytes} B"),
        None => "datagram".to_owned(),
    };
    let what = format!("{how_long} exceeds the UDP limit {UDP_BYTES_MAX} B");
    let hint = "split it: --frame chunk:1200";
    Err(Error::new(Code::TooBig, Blame::Caller, what).with_hint(hint))
}

fn from_hex(line: &[u8]) -> Result<Vec<u8>> {
    let digit =
        |byte: &u8| char::from(*byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let digits: Option<Vec<u8>> =
        line.iter().filter(|byte| !byte.is_ascii_whitespace()).map(digit).collect();
    match digits {
        Some(digits) if digits.len().is_multiple_of(2) => {
            Ok(digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect())
        }
        _ => {
            let line = adit::escape::escape_line(line, 40);
            let what = format!("standard input: \"{line}\" is no line of hexadecimal digits");
            Err(Error::new(Code::BadFrame, Blame::Caller, what)
                .with_hint("write two for each byte"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Frame, Splitter};
    use adit::Code;

    fn split(frame: &str, input: &[u8], cut: usize) -> Result<Vec<Vec<u8>>, Code> {
        let mut splitter = Splitter::new(Frame::parse(frame).unwrap());
        let mut messages = Vec::new();
        for (piece, is_over) in [(&input[..cut], false), (&input[cut..], false), (&[][..], true)] {
            splitter.push(piece);
            while let Some(msg) = splitter.next(is_over).map_err(|error| error.code())? {
                messages.push(msg);
            }
        }
        Ok(messages)
    }

    #[test]
    fn every_cut_of_the_input_gives_the_same_messages() {
        type Row = (&'static str, &'static [u8], &'static [&'static [u8]]);
        let rows: &[Row] = &[
            ("line", b"a\r\n\nbc\nd", &[b"a", b"", b"bc", b"d"]),
            ("line-nl", b"a\r\n\nd", &[b"a\r\n", b"\n", b"d"]),
            ("null", b"a\0\0b", &[b"a", b"", b"b"]),
            ("delim:--", b"a--b", &[b"a", b"b"]),
            ("len32", b"\0\0\0\x01a\0\0\0\0", &[b"a", b""]),
            ("fixed:2", b"abcd", &[b"ab", b"cd"]),
            ("chunk:3", b"abcdefgh", &[b"abc", b"def", b"gh"]),
            ("whole", b"a\nb", &[b"a\nb"]),
            ("hex", b"00 ff\n6869\n", &[b"\x00\xff", b"hi"]),
        ];
        for (frame, input, messages) in rows {
            for cut in 0..=input.len() {
                assert_eq!(split(frame, input, cut).unwrap(), *messages, "{frame} cut at {cut}");
            }
        }
    }

    #[test]
    fn what_no_datagram_can_carry_is_refused_before_anything_of_it_is_sent() {
        let long = vec![b'x'; 70_000];
        assert_eq!(split("line", &long, 100), Err(Code::TooBig));
        assert_eq!(split("whole", &long, 100), Err(Code::TooBig));
        assert_eq!(split("len32", b"\xff\xff\xff\xff", 2), Err(Code::TooBig));
        assert_eq!(split("chunk:1200", &long, 100).unwrap().len(), 59);
        assert_eq!(split("len32", b"\0\0\0\x05ab", 1), Err(Code::Truncated));
        assert_eq!(split("hex", b"0g\n", 1), Err(Code::BadFrame));
        assert_eq!(Frame::parse("raw").unwrap_err().code(), Code::Usage);
    }

    #[test]
    fn output_has_the_form_of_the_input() {
        let out = |frame: &str, msg: &[u8]| Frame::parse(frame).unwrap().output(msg);
        assert_eq!(out("line", b"a"), b"a\n");
        assert_eq!(out("line", b"a\n"), b"a\n");
        assert_eq!(out("null", b"a"), b"a\0");
        assert_eq!(out("len32", b"hi"), b"\0\0\0\x02hi");
        assert_eq!(out("hex", b"\x00\xff"), b"00ff\n");
        assert_eq!(out("chunk:3", b"abc"), b"abc");
    }
}

//! Where the picture goes: to standard output, or to a file whose name says what it is.

use std::io::{self, Write as _};
use std::os::unix::fs::FileTypeExt as _;
use std::path::{Path, PathBuf};

use adit::escape::escape_line;
use adit::system::files::Replacement;
use adit::{Blame, Code, Error};
use adit_trace::text::{Options, View};
use adit_trace::{Story, html, jsonl, mermaid, pcapng, rules, svg, text};

use crate::args::Explain;
use crate::complaint::usage;
use crate::say::{self, Voice};

/// A picture in the making.
pub(crate) struct Output {
    view: View,
    options: Options,
    file: Option<(PathBuf, Format)>,
}

/// What a file can be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    Text,
    Svg,
    Html,
    Lines,
    Pcapng,
    Mermaid,
}

impl Output {
    /// What the flags ask for.
    pub(super) fn of(args: &Explain) -> adit::Result<Self> {
        Self::new(super::view(args), super::options(args), args.out.clone())
    }

    pub(crate) fn new(view: View, options: Options, path: Option<PathBuf>) -> adit::Result<Self> {
        let file = match path {
            Some(path) => {
                let format = Format::of(&path)?;
                Some((path, format))
            }
            None => None,
        };
        Ok(Self { view, options, file })
    }

    /// Is the picture kept for a file, and not only shown?
    pub(crate) fn is_file(&self) -> bool {
        self.file.is_some()
    }

    pub(super) fn view(&self) -> View {
        self.view
    }

    pub(super) fn options(&self) -> &Options {
        &self.options
    }

    /// Tries to make the file, so that one that cannot be written is known before the conversation and not
    /// after.
    pub(super) fn begin(&self) -> adit::Result<()> {
        let Some((path, _)) = &self.file else { return Ok(()) };
        // The reader of a pipe would take this for its end.
        if path.metadata().is_ok_and(|there| there.file_type().is_fifo()) {
            return Ok(());
        }
        Replacement::of(path).map(drop).map_err(|error| failed(path, error))
    }

    /// Leaves of a story the conversation that is asked for; says whether there is one to draw.
    pub(super) fn choose(&self, story: &mut Story) -> bool {
        let Some(number) = self.options.talk else { return true };
        story.talks.retain(|talk| talk.number == number);
        !story.talks.is_empty()
    }

    /// Writes the picture into its file, or shows it.
    pub(crate) fn write(&self, story: &Story, voice: &Voice) -> adit::Result<()> {
        let Some((path, format)) = &self.file else {
            let picture = text::draw(story, self.view, &self.options);
            return say::show(&picture).map_err(|error| stdout_gone(&error));
        };
        let shown = escape_line(path.as_os_str().as_encoded_bytes(), 200);
        let failed = |error| failed(path, error);
        let bytes = self.bytes(story, *format).map_err(failed)?;
        let mut file = Replacement::of(path).map_err(failed)?;
        file.write_all(&bytes).and_then(|()| file.finish()).map_err(failed)?;
        voice.note(&format!("written: {shown}, {}", crate::connect::size(bytes.len() as u64)));
        Ok(())
    }

    fn bytes(&self, story: &Story, format: Format) -> io::Result<Vec<u8>> {
        let (talk, names) = (self.options.talk, self.options.names);
        Ok(match format {
            Format::Text => text::draw(story, self.view, &self.options).into_bytes(),
            Format::Svg => {
                let mut options = svg::Options::default();
                (options.talk, options.names) = (talk, names);
                svg::draw(story, self.view, &options).into_bytes()
            }
            Format::Html => {
                let mut options = html::Options::default();
                (options.talk, options.names) = (talk, names);
                html::page(story, &rules::findings(story), &options).into_bytes()
            }
            Format::Mermaid => mermaid::draw(story).into_bytes(),
            Format::Lines => {
                let mut bytes = Vec::new();
                jsonl::write(story, &mut bytes)?;
                bytes
            }
            Format::Pcapng => {
                let mut bytes = Vec::new();
                pcapng::write(story, &mut bytes)?;
                bytes
            }
        })
    }
}

fn failed(path: &Path, error: io::Error) -> Error {
    let what = format!("cannot write {}", escape_line(path.as_os_str().as_encoded_bytes(), 200));
    let code = match error.kind() {
        io::ErrorKind::StorageFull => Code::Internal,
        _ => Code::Usage,
    };
    Error::new(code, Blame::Caller, what).with_source(error)
}

/// Nobody reads the picture any more: no more is drawn, and nothing is said.
pub(super) fn stdout_gone(error: &io::Error) -> Error {
    let code = match error.kind() {
        io::ErrorKind::BrokenPipe => Code::StdoutClosed,
        _ => Code::Internal,
    };
    Error::new(code, Blame::Local, format!("cannot write to standard output: {error}"))
}

impl Format {
    fn of(path: &Path) -> adit::Result<Self> {
        let ending = path.extension().and_then(|ending| ending.to_str()).unwrap_or_default();
        Ok(match ending {
            "txt" => Self::Text,
            "svg" => Self::Svg,
            "html" => Self::Html,
            "jsonl" => Self::Lines,
            "pcapng" => Self::Pcapng,
            "mmd" => Self::Mermaid,
            _ => {
                let shown = escape_line(path.as_os_str().as_encoded_bytes(), 200);
                let what = format!("the name \"{shown}\" does not say what to write");
                return Err(usage(what, "end it with .txt .svg .html .jsonl .pcapng or .mmd"));
            }
        })
    }
}

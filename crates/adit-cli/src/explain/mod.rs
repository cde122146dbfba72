//! `adit explain`: what each side said, drawn: a relay in front of something that runs, or a saved
//! trace.

mod file;
mod live;
mod output;

use adit_trace::text::{Names, Options, View};

use crate::args::{self, Explain, Say};
use crate::complaint::usage;
use crate::exit::Exit;
use crate::house::Taken;
use crate::say::{Part, Voice};

pub(crate) use output::Output;

/// Runs the command.
pub(crate) fn run(args: &Explain) -> Exit {
    // Before anything else is opened, which could get the number.
    let taken = Taken::of(&args.house, &args.words);
    // The events of --json are those of the picture, from where they are drawn.
    let say = Say { json: None, ..args.say };
    let voice = Voice::new(&say, Part::Relay, args.payload);
    let explained = Output::of(args).and_then(|output| match file::named(&args.words)? {
        Some(paths) => file::explain(args, &paths, &output, &voice),
        None => live::explain(args, taken.split(&args.house)?, output, &voice),
    });
    let exit = explained.unwrap_or_else(|error| {
        voice.error(&error);
        Exit::of(error.code())
    });
    voice.end(exit)
}

/// How the flags want it drawn.
fn options(args: &Explain) -> Options {
    let mut options = Options::default();
    options.talk = args.conn;
    options.names = match args.names {
        args::Names::Lecture => Names::Lecture,
        args::Names::Plain => Names::Plain,
    };
    options
}

fn view(args: &Explain) -> View {
    match args.view {
        args::View::Sequence => View::Sequence,
        args::View::Steps => View::Steps,
        args::View::Ruler => View::Ruler,
        args::View::Streams => View::Streams,
        args::View::Layers => View::Layers,
        args::View::Hosts => View::Hosts,
    }
}

/// There is only one address, and no file of that name.
fn neither(word: &str) -> adit::Error {
    let shown = crate::complaint::quoted(word);
    let what = format!("{shown} is no file, and an address to listen on needs a target");
    usage(
        what,
        &format!("adit explain {} HOST:PORT, or adit explain FILE", word.replace('\n', " ")),
    )
}

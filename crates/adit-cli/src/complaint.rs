//! What is wrong with a command line, in one line: the parser's own texts have several, and no code.

use adit::escape::escape_line;
use adit::{Blame, Code, Error};
use clap::CommandFactory as _;
use clap::error::{ContextKind, ContextValue, ErrorKind};

use crate::args::Cli;

/// Why a value of the command line is none, and what to write instead.
#[derive(Debug)]
pub(crate) struct BadValue {
    what: String,
    hint: String,
}

impl BadValue {
    /// `value` is no `thing`.
    pub(crate) fn new(value: &str, thing: &str, hint: &'static str) -> Self {
        Self::said(format!("{} is no {thing}", quoted(value)), hint)
    }

    pub(crate) fn said(what: impl Into<String>, hint: &'static str) -> Self {
        Self { what: what.into(), hint: hint.to_owned() }
    }
}

impl std::fmt::Display for BadValue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.what, self.hint)
    }
}

impl std::error::Error for BadValue {}

impl From<adit::address::UnitError> for BadValue {
    fn from(error: adit::address::UnitError) -> Self {
        Self { what: error.to_string(), hint: error.hint().to_owned() }
    }
}

impl From<adit::access::NetworkError> for BadValue {
    fn from(error: adit::access::NetworkError) -> Self {
        Self { what: error.to_string(), hint: error.hint() }
    }
}

/// A usage error; without a hint if there is nothing to add.
pub(crate) fn usage(what: impl Into<String>, hint: &str) -> Error {
    let error = Error::new(Code::Usage, Blame::Caller, what);
    if hint.is_empty() { error } else { error.with_hint(hint) }
}

/// A word of the user as it is shown in messages.
pub(crate) fn quoted(word: &str) -> String {
    format!("\"{}\"", escape_line(word.as_bytes(), SHOWN_CHARS_MAX))
}

const SHOWN_CHARS_MAX: usize = 200;

/// What the parser says, in adit's words. `verb` is the subcommand.
pub(crate) fn of(error: &clap::Error, verb: &str) -> Error {
    let argument = text(error, ContextKind::InvalidArg);
    let flag = spelled(&argument, verb);
    match error.kind() {
        ErrorKind::UnknownArgument => unknown(error, &argument, verb),
        ErrorKind::InvalidValue => no_such_value(error, &flag, verb),
        ErrorKind::ValueValidation => {
            use std::error::Error as _;
            match error.source().and_then(|source| source.downcast_ref::<BadValue>()) {
                Some(bad) => usage(format!("{flag}: {}", bad.what), &bad.hint),
                None => {
                    let value = quoted(&text(error, ContextKind::InvalidValue));
                    usage(format!("{flag}: {value} does not fit"), &see(verb))
                }
            }
        }
        ErrorKind::MissingRequiredArgument => missing(verb),
        ErrorKind::ArgumentConflict => {
            let other = spelled(&text(error, ContextKind::PriorArg), verb);
            if other == flag {
                return usage(format!("{flag} is given twice"), "write it once");
            }
            usage(format!("{flag} and {other} exclude each other"), "leave one of them out")
        }
        _ => {
            let text = error.to_string();
            let first = text.lines().next().unwrap_or_default().trim_start_matches("error: ");
            usage(escape_line(first.as_bytes(), SHOWN_CHARS_MAX), &see(verb))
        }
    }
}

fn unknown(error: &clap::Error, argument: &str, verb: &str) -> Error {
    let what = quoted(argument);
    if !argument.starts_with('-') {
        let hint = format!("what it takes: adit {verb} --help");
        return usage(format!("{what} is one word too many for adit {verb}"), &hint);
    }
    match text(error, ContextKind::SuggestedArg) {
        near if near.is_empty() => usage(format!("unknown flag {what}"), &see(verb)),
        near => usage(format!("unknown flag {what}; did you mean {near}?"), &see(verb)),
    }
}

/// A value that is none of those there are.
fn no_such_value(error: &clap::Error, flag: &str, verb: &str) -> Error {
    let value = text(error, ContextKind::InvalidValue);
    let valid = text(error, ContextKind::ValidValue);
    if value.is_empty() && verb == "completions" {
        return missing(verb);
    }
    if value.is_empty() {
        let hint = if valid.is_empty() { see(verb) } else { format!("one of {valid}") };
        return usage(format!("{flag} needs a value"), &hint);
    }
    let value = quoted(&value);
    let what = match verb {
        "completions" => format!("unknown shell {value}"),
        "help" => format!("unknown topic {value}"),
        _ => format!("{flag}: unknown value {value}"),
    };
    let near = text(error, ContextKind::SuggestedValue);
    let what = if near.is_empty() { what } else { format!("{what}; did you mean {near}?") };
    usage(what, &format!("one of {valid}"))
}

fn missing(verb: &str) -> Error {
    match verb {
        "connect" => usage("where to connect is missing", "adit connect HOST:PORT"),
        "serve" => usage("where to serve is missing", "adit serve echo 7000"),
        "wait" => usage("what to wait for is missing", "adit wait HOST:PORT"),
        "lab cut" => usage("what to cut is missing", "adit lab cut LISTEN TARGET"),
        "completions" => usage("which shell is missing", "one of bash, zsh, fish"),
        _ => usage("a word is missing", &see(verb)),
    }
}

fn see(verb: &str) -> String {
    format!("all flags: adit {verb} --help")
}

/// A piece of what the parser knows about the error; several values with commas between.
fn text(error: &clap::Error, kind: ContextKind) -> String {
    match error.get(kind) {
        Some(ContextValue::String(text)) => text.clone(),
        Some(ContextValue::Strings(texts)) => texts.join(", "),
        _ => String::new(),
    }
}

/// `--connect-timeout <TIME>` as a user knows it: `-w/--connect-timeout`.
fn spelled(argument: &str, verb: &str) -> String {
    let flag = argument.split([' ', '=', '[']).next().unwrap_or_default();
    let command = Cli::command();
    let within = |outer, word| clap::Command::find_subcommand(outer, word);
    let verb = verb.split(' ').try_fold(&command, within).unwrap_or(&command);
    let long = flag.strip_prefix("--").unwrap_or_default();
    let known = verb.get_arguments().find(|known| known.get_long() == Some(long));
    match known.and_then(clap::Arg::get_short) {
        Some(short) => format!("-{short}/{flag}"),
        None => flag.to_owned(),
    }
}

/// Does a long flag take the next word as its value, if none is written behind `=`?
pub(crate) fn takes_word(flag: &str) -> bool {
    let long = flag.trim_start_matches('-');
    let command = Cli::command();
    let takes = |known: &clap::Arg| {
        known.get_long() == Some(long)
            && known.get_action().takes_values()
            && !known.is_require_equals_set()
    };
    let inner = command.get_subcommands().flat_map(clap::Command::get_subcommands);
    command.get_subcommands().chain(inner).any(|verb| verb.get_arguments().any(takes))
}

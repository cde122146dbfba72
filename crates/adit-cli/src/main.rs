//! The command `adit`: parse, resolve, run, say, exit.
#![forbid(unsafe_code)]

mod args;
mod complaint;
mod connect;
mod demo;
mod exit;
mod explain;
mod forward;
mod frame;
mod habits;
mod hex;
mod house;
mod lab;
#[cfg(test)]
mod man;
mod printer;
mod program;
mod resolve;
mod runtime;
mod say;
mod secure;
mod serve;
mod steps;
mod topics;
mod wait;

use std::ffi::OsString;
use std::process::ExitCode;

use adit::event::Payload;
use clap::{CommandFactory as _, Parser as _};

use args::{Cli, Json, Say, Shell, Verb};
use exit::Exit;
use say::{Part, Voice};

fn main() -> ExitCode {
    run().leave()
}

fn run() -> Exit {
    let words: Vec<_> = std::env::args_os().collect();
    let is_bare = words.len() < 2;
    let json = json(&words);
    let spelled = match habits::spell_out(words) {
        Ok(spelled) => spelled,
        Err(trap) => return usage(&trap, json),
    };
    if is_bare {
        // Nothing was asked for, so nothing was done, and that is no success.
        say::overview(&Cli::command().render_help().to_string());
        return Exit::of(adit::Code::Usage);
    }
    let cli = match Cli::try_parse_from(spelled.words) {
        Ok(cli) => cli,
        Err(error) if !error.use_stderr() => {
            say::print(&error.to_string());
            return Exit::OK;
        }
        Err(error) => return usage(&complaint::of(&error, spelled.verb), json),
    };
    if json.is_none() {
        spelled.notes.into_iter().for_each(say::note);
    }
    match cli.verb {
        Verb::Connect(args) => connect::run(&args),
        Verb::Serve(args) => serve::run(&args),
        Verb::Forward(args) => forward::run(&args),
        Verb::Explain(args) => explain::run(&args),
        Verb::Wait(args) => wait::run(&args),
        Verb::Lab(args) => lab::run(&args),
        Verb::Demo(args) => demo::run(&args),
        Verb::Completions { shell } => completions(shell),
        Verb::Help { topic } => {
            match topic {
                Some(topic) => say::print(topics::text(topic)),
                None => say::print(&Cli::command().render_help().to_string()),
            }
            Exit::OK
        }
    }
}

fn usage(error: &adit::Error, json: Option<(Json, Part)>) -> Exit {
    match json {
        Some((json, part)) => {
            let say = Say { json: Some(json), verbose: false, quiet: false };
            Voice::new(&say, part, Payload::None).error(error);
        }
        None => say::note(&say::error_text(error)),
    }
    Exit::of(error.code())
}

/// Where a program looks for events, if it asks for them, whether or not the rest can be understood.
fn json(words: &[OsString]) -> Option<(Json, Part)> {
    let flags = words.iter().skip(1).take_while(|word| *word != "--");
    let mut asked = flags.filter_map(|word| word.to_str()?.strip_prefix("--json"));
    let json = asked.find_map(|rest| match rest {
        "" | "=stderr" => Some(Json::Stderr),
        "=stdout" => Some(Json::Stdout),
        _ => None,
    })?;
    let verb = words.get(1).and_then(|word| word.to_str()).unwrap_or_default();
    let is_free = matches!(verb, "forward" | "explain" | "wait");
    Some((json, if is_free { Part::Onlooker } else { Part::Client }))
}

/// The completion script, from the same definition as the parser.
fn completions(shell: Shell) -> Exit {
    let shell = match shell {
        Shell::Bash => clap_complete::Shell::Bash,
        Shell::Zsh => clap_complete::Shell::Zsh,
        Shell::Fish => clap_complete::Shell::Fish,
    };
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "adit", &mut script);
    say::print(&String::from_utf8_lossy(&script));
    Exit::OK
}

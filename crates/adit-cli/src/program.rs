//! The program of `-- CMD`: what it is started with, and who may have it run.

use std::ffi::OsString;
use std::net::ToSocketAddrs as _;

use adit::address::Place;
use adit::system::child::{User, is_root};
use adit::{Address, Blame, Code, Error, Program, Result};

use crate::args::{Run, Serve};
use crate::complaint::{quoted, usage};
use crate::say::Voice;

/// Variables of the environment that every program has, if they are set here; and `LC_*`.
const PASSED: [&str; 8] = ["PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "TZ", "TMPDIR"];

/// The program that the flags ask for, if they do.
pub(crate) fn of(run: &Run, voice: &Voice) -> Result<Option<Program>> {
    let Some((program, arguments)) = run.cmd.split_first() else {
        let flag = [(run.sh, "--sh"), (!run.env.is_empty(), "--env")];
        return match flag.into_iter().find(|(is_there, _)| *is_there) {
            Some((_, flag)) => Err(without_program(flag)),
            None => Ok(None),
        };
    };
    let mut wanted = if run.sh {
        voice.warn("a shell reads the command because of --sh: keep words of peers out of it");
        // Further words are $1 and so on, as sh(1) has it.
        Program::new("sh").args(["-c", program, "sh"]).args(arguments)
    } else {
        Program::new(program).args(arguments)
    };
    for (name, value) in std::env::vars_os().filter(|(name, _)| is_passed(name, run)) {
        wanted = wanted.env(name, value);
    }
    Ok(Some(wanted))
}

fn without_program(flag: &str) -> Error {
    usage(format!("{flag} is for a program, and there is none"), "add one: -- CMD")
}

fn is_passed(name: &OsString, run: &Run) -> bool {
    let Some(name) = name.to_str() else { return false };
    PASSED.contains(&name) || name.starts_with("LC_") || run.env.iter().any(|more| more == name)
}

/// The program of a server, if it serves one, and if it may.
pub(crate) fn of_server(args: &Serve, voice: &Voice) -> Result<Option<Program>> {
    let Some(mut program) = of(&args.run, voice)? else {
        let (children, user) = (args.max_children.is_some(), args.user.is_some());
        let flags = [(children, "--max-children"), (args.open, "--open"), (user, "--user")];
        return match flags.into_iter().find(|(is_there, _)| *is_there) {
            Some((_, flag)) => Err(without_program(flag)),
            None => Ok(None),
        };
    };
    if let Some(children) = args.max_children {
        program = program.children_max(children);
    }
    match &args.user {
        Some(name) => as_user(program, name).map(Some),
        None => Ok(Some(program)),
    }
}

fn as_user(program: Program, name: &str) -> Result<Program> {
    if !is_root() {
        let what = "--user: only root can run a program as somebody else";
        return Err(Error::new(Code::Denied, Blame::Caller, what).with_hint("leave it out"));
    }
    let found = User::named(name).map_err(|error| {
        let what = format!("--user: cannot look up {}", quoted(name));
        Error::new(Code::Usage, Blame::Caller, what).with_source(error)
    })?;
    let Some(user) = found else {
        let what = format!("--user: there is no user {}", quoted(name));
        return Err(usage(what, "those there are: getent passwd"));
    };
    // Who it is is also what it is told.
    let told = program.env("USER", name).env("LOGNAME", name).env("HOME", &user.home);
    Ok(told.user(user))
}

/// Whoever can connect has the program run. That everybody can is only meant by who says so; and never
/// as root without a word about it.
///
/// The one place that decides.
pub(crate) fn consent(args: &Serve, addresses: &[Address]) -> Result<()> {
    // Who needs a certificate is known.
    let knows_all = |address: &Address| address.tls && address.keys.has("client-ca");
    let is_open = |address: &&Address| is_open(address) && !knows_all(address);
    let Some(address) = addresses.iter().find(is_open) else { return Ok(()) };
    let spoken = address.spoken();
    if !args.open && !args.house.gate.access.says_who() {
        let what = format!("a program on {spoken} would be open to everyone");
        let hint = "add --allow CIDR, --client-ca FILE over TLS or --open; or serve this machine only: adit serve PORT -- CMD";
        return Err(Error::new(Code::Unsafe, Blame::Caller, what).with_hint(hint));
    }
    if is_root() && args.user.is_none() {
        let what = format!("a program on {spoken} would run as root for everyone");
        let hint = "add --user NAME, one with few rights (--user root if it has to be)";
        return Err(Error::new(Code::Unsafe, Blame::Caller, what).with_hint(hint));
    }
    Ok(())
}

/// Can others than users of this machine connect there? A name that cannot be looked up is taken for
/// one of those.
fn is_open(address: &Address) -> bool {
    match &address.place {
        Place::Loopback(_) | Place::Path(_) | Place::Abstract(_) => false,
        Place::Ip(at) => !at.ip().to_canonical().is_loopback(),
        Place::Name(name, port) => (name.as_str(), *port)
            .to_socket_addrs()
            .map_or(true, |found| found.into_iter().any(|at| !at.ip().is_loopback())),
        // All addresses, and what is not known here.
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::is_open;

    #[test]
    fn whoever_is_not_on_this_machine_is_everyone() {
        for (address, open) in [
            ("tcp://7000", false),
            ("tcp://127.0.0.5:7000", false),
            ("udp://[::1]:7000", false),
            ("tcp://[::ffff:127.0.0.1]:7000", false),
            ("unix:/run/a", false),
            ("tcp://localhost:7000", false),
            ("tcp://:7000", true),
            ("udp://0.0.0.0:7000", true),
            ("tcp://192.168.1.2:7000", true),
            ("tcp://no-such-name.invalid:7000", true),
        ] {
            assert_eq!(is_open(&address.parse().unwrap()), open, "{address}");
        }
    }
}

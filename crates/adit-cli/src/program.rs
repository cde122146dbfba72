//! The program of `-- CMD` or `exec:`: what it is started with, how it serves, and who may have it run.

use std::ffi::OsString;
use std::net::ToSocketAddrs as _;

use adit::address::{Exec, Place};
use adit::endpoint::Transport;
use adit::system::child::{User, is_root, refuse_calls, uid};
use adit::{
    Address, Blame, Code, Error, Limit, Limits, Program, Result, Running, Server, Service,
    StreamService, Worker,
};

use crate::args::{self, Run};
use crate::complaint::{quoted, usage};
use crate::house::{Gate, Places, Told};
use crate::say::Voice;

/// Variables of the environment that every program has, if they are set here; and `LC_*`.
const PASSED: [&str; 8] = ["PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "TZ", "TMPDIR"];

/// The program that the flags ask for, if they do.
pub(crate) fn of(run: &Run, voice: &Voice) -> Result<Option<Program>> {
    let Some((program, arguments)) = run.cmd.split_first() else {
        return if run.sh { Err(without_program("--sh", BEHIND)) } else { Ok(None) };
    };
    let wanted = if run.sh {
        voice.warn("a shell reads the command because of --sh: keep words of peers out of it");
        // Further words are $1 and so on, as sh(1) has it.
        Program::new("sh").args(["-c", program, "sh"]).args(arguments)
    } else {
        Program::new(program).args(arguments)
    };
    Ok(Some(with_environment(wanted, &run.env)))
}

/// The program of an address.
pub(crate) fn of_address(exec: &Exec, env: &[String]) -> Program {
    with_environment(Program::new(&exec.program).args(&exec.arguments), env)
}

fn with_environment(program: Program, env: &[String]) -> Program {
    let passed = std::env::vars_os().filter(|(name, _)| is_passed(name, env));
    passed.fold(program, |program, (name, value)| program.env(name, value))
}

fn is_passed(name: &OsString, env: &[String]) -> bool {
    let Some(name) = name.to_str() else { return false };
    PASSED.contains(&name) || name.starts_with("LC_") || env.iter().any(|more| more == name)
}

/// What is said where a program is missing.
pub(crate) const BEHIND: &str = "add one: -- CMD";
pub(crate) const AS_TARGET: &str = "name one as the target: exec:./CMD";

fn without_program(flag: &str, hint: &str) -> Error {
    usage(format!("{flag} is for a program, and there is none"), hint)
}

/// Flags that have no use without a program.
pub(crate) fn no_flags(env: &[String], behind: Option<&args::Behind>, hint: &str) -> Result<()> {
    let of_behind = behind.map_or_else(Vec::new, |behind| {
        vec![
            (behind.max_children.is_some(), "--max-children"),
            (behind.open, "--open"),
            (behind.user.is_some(), "--user"),
            (behind.sandbox, "--sandbox"),
            (behind.fd, "--fd"),
            (behind.worker, "--worker"),
        ]
    });
    let flags = [(!env.is_empty(), "--env")].into_iter().chain(of_behind);
    match flags.into_iter().find(|(is_there, _)| *is_there) {
        Some((_, flag)) => Err(without_program(flag, hint)),
        None => Ok(()),
    }
}

/// What serves behind that which listens.
pub(crate) enum Behind {
    /// A process for each connection or datagram.
    Each(Program),
    /// The same, with the sockets themselves.
    Given(Program),
    /// One process for all.
    One(Worker),
}

impl Behind {
    /// The program as the flags want it.
    pub(crate) fn of(mut program: Program, flags: &args::Behind, voice: &Voice) -> Result<Self> {
        if let Some(children) = flags.max_children {
            program = program.children_max(children);
        }
        if let Some(name) = &flags.user {
            program = as_user(program, name)?;
        }
        if flags.sandbox {
            program = program.sandbox();
        }
        let doubled = [(flags.fd, "--fd"), (flags.max_children.is_some(), "--max-children")];
        let doubled = doubled.into_iter().find(|(is_there, _)| *is_there);
        match (flags.worker, doubled) {
            (true, Some((_, flag))) => {
                let what =
                    format!("{flag} is for a program of each peer, and --worker is one for all");
                Err(usage(what, "leave one of them out"))
            }
            (true, None) => {
                let voice = voice.clone();
                let tell = move |error: &Error| voice.mishap(error, "starting it again");
                Ok(Self::One(program.worker().on_end(tell)))
            }
            (false, _) if flags.fd => Ok(Self::Given(program.takes_sockets())),
            (false, _) => Ok(Self::Each(program)),
        }
    }

    /// Is there something to be given at these addresses?
    pub(crate) fn fits(&self, places: &Places) -> Result<()> {
        let is_plain = |address: &&Address| {
            matches!(address.transport, Transport::Tcp | Transport::Unix) && !address.tls
        };
        let other = places.addresses.iter().find(|address| !is_plain(address));
        let other = other.map(Address::spoken).or_else(|| places.passed_datagrams());
        match (self, other) {
            (Self::Given(_), Some(spoken)) => {
                let what = format!("--fd gives away plain connections, and {spoken} has none");
                Err(usage(what, "leave it out"))
            }
            _ => Ok(()),
        }
    }

    /// What cannot hold, or would show nothing, for a connection that is given away is refused rather
    /// than passed over.
    pub(crate) fn sees_bytes(
        &self,
        (idle, stall): (bool, bool),
        (watch, gate): (&args::Watch, &args::Gate),
    ) -> Result<()> {
        let flags = [
            (idle, "--idle"),
            (stall, "--stall"),
            (gate.byte_rate != Limit::Off, "--byte-rate"),
            (watch.hex, "--hex"),
            (watch.tee.is_some(), "--tee"),
        ];
        match (self, flags.into_iter().find(|(is_there, _)| *is_there)) {
            (Self::Given(_), Some((_, flag))) => {
                let what =
                    format!("{flag} has no use with --fd: adit sees no byte of the program's");
                Err(usage(what, "leave one of them out"))
            }
            _ => Ok(()),
        }
    }

    /// Looks whether the program is there, and says what it and its server are kept to.
    pub(crate) fn ready(&self, voice: &Voice) -> Result<()> {
        let policy = match self {
            Self::Each(program) | Self::Given(program) => program.policy(),
            Self::One(worker) => worker.policy(),
        };
        let without = |error: Error| error.with_hint("not listening");
        if let Some(policy) = policy.map_err(without)? {
            voice.note(&format!("sandbox: {policy}"));
            confine_server(voice)?;
        }
        match self {
            Self::Each(program) | Self::Given(program) => program.ready(),
            Self::One(worker) => worker.ready(),
        }
        .map_err(without)?;
        if let Self::Given(_) = self {
            voice.note(
                "--fd: limits on silence and stalls, counts, and the close are the program's",
            );
        }
        Ok(())
    }

    /// Starts the servers: one for connections, one for datagrams.
    pub(crate) fn start(
        &self,
        (streams, datagrams): (&Places, &Places),
        (gate, once): (&Gate, bool),
        limits: &Limits,
        told: Told,
    ) -> Result<Vec<Running>> {
        let mut servers = Vec::new();
        if !streams.is_empty() {
            let on = On { places: streams, gate, once, limits };
            servers.push(match self {
                Self::Each(program) | Self::Given(program) => {
                    on.connections(program.clone(), told.clone())?
                }
                Self::One(worker) => on.connections(worker.clone(), told.clone())?,
            });
        }
        if !datagrams.is_empty() {
            let on = On { places: datagrams, gate, once, limits };
            servers.push(match self {
                Self::Each(program) | Self::Given(program) => {
                    on.datagrams(program.datagrams(), told)?
                }
                Self::One(worker) => on.datagrams(worker.datagrams(), told)?,
            });
        }
        Ok(servers)
    }
}

/// The server of a program in a sandbox is refused the same calls as that: whoever breaks into it gains less.
/// To be called before the guard is forked, which inherits it; what is left to be set up needs none of them.
fn confine_server(voice: &Voice) -> Result<()> {
    let is_done = refuse_calls().map_err(|error| {
        let what = "--sandbox: cannot have system calls refused to this server";
        Error::new(Code::CannotRun, Blame::Local, what).with_source(error)
    })?;
    if is_done {
        voice.note("sandbox: the same calls are refused to the server");
    }
    Ok(())
}

/// Where and how to serve.
struct On<'a> {
    places: &'a Places,
    gate: &'a Gate,
    once: bool,
    limits: &'a Limits,
}

impl On<'_> {
    fn connections(&self, service: impl StreamService, told: Told) -> Result<Running> {
        let server = Server::streams(service).limits(self.limits.clone());
        let server = self.places.streams(self.gate.guard(server));
        let server = if self.once { server.once() } else { server };
        server.observe(told).start()
    }

    fn datagrams(&self, service: impl Service, told: Told) -> Result<Running> {
        let server = self.gate.guard(Server::new(service).limits(self.limits.clone()));
        self.places.datagrams(server).observe(told).start()
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
pub(crate) fn consent(flags: &args::Behind, house: &args::House, places: &Places) -> Result<()> {
    // Who needs a certificate is known.
    let knows_all = |address: &Address| address.tls && address.keys.has("client-ca");
    let addresses = places.addresses.iter().filter(|address| is_open(address));
    let addresses = addresses.map(|address| (address.spoken(), knows_all(address)));
    let passed = places.open_to_others().map(|spoken| (spoken, false));
    let open: Vec<_> = addresses.chain(passed).collect();
    let Some((first, _)) = open.first() else { return Ok(()) };
    if let Some((spoken, _)) = open.iter().find(|(_, knows_all)| !knows_all)
        && !flags.open
        && !house.gate.access.says_who()
    {
        let what = format!("a program on {spoken} would be open to everyone");
        let hint = "add --allow CIDR, --client-ca FILE over TLS or --open; or serve this machine only: write PORT without a colon";
        return Err(Error::new(Code::Unsafe, Blame::Caller, what).with_hint(hint));
    }
    if is_root() && flags.user.is_none() {
        let what = format!("a program on {first} would run as root for everyone");
        let hint = "add --user NAME, one with few rights (--user root if it has to be)";
        return Err(Error::new(Code::Unsafe, Blame::Caller, what).with_hint(hint));
    }
    Ok(())
}

/// `./answer as nobody`: what whoever connects has run, and as whom.
pub(crate) fn spoken(program: &str, flags: &args::Behind) -> String {
    let program = adit::escape::escape_line(program.as_bytes(), 100);
    match (&flags.user, is_root()) {
        (Some(user), _) => format!("{program} as {user}"),
        (None, true) => format!("{program} as root"),
        (None, false) => format!("{program} as user {}", uid()),
    }
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

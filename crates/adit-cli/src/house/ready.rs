//! Ready: where it listens and what that lays open, told to people and to whoever waits for it.

use std::io;

use adit::endpoint::{Reach, Transport};
use adit::system::descriptors::Inherited;
use adit::tls::ServerTls;
use adit::{Blame, Code, Door, Endpoint, Error, Running};

use super::Gate;
use super::passed::Passed;
use super::supervisor::Supervisor;
use crate::args::House;
use crate::complaint::usage;
use crate::say::{self, Voice};

/// Descriptors that we were started with, taken before anything else is opened, which could get their
/// numbers: that of `--ready-fd`, and sockets to serve.
pub(crate) struct Taken {
    ready: Option<io::Result<Inherited>>,
    passed: adit::Result<Passed>,
}

impl Taken {
    /// Those that the flags and the words name, and the environment.
    pub(crate) fn of(flags: &House, words: &[String]) -> Self {
        let passed = Passed::take(words, flags.ready_fd);
        // One that is a socket as well is not taken twice.
        let ready = flags.ready_fd.filter(|_| passed.is_ok()).map(Inherited::take);
        Self { ready, passed }
    }

    /// Who waits, if the descriptor can be written to, and what was passed.
    pub(crate) fn split(self, flags: &House) -> adit::Result<(Ready, Passed)> {
        let passed = self.passed?;
        let number = flags.ready_fd.unwrap_or_default();
        let descriptor = self.ready.transpose().map_err(|error| no_descriptor(number, &error))?;
        let descriptor = descriptor.map(|it| (number, it));
        Ok((Ready { descriptor, on_stdout: flags.print_addr }, passed))
    }
}

/// Who waits for the server to be ready.
pub(crate) struct Ready {
    descriptor: Option<(i32, Inherited)>,
    on_stdout: bool,
}

fn no_descriptor(number: i32, error: &io::Error) -> Error {
    let what = format!("cannot write to descriptor {number} of --ready-fd: {error}");
    usage(what, "open it in the shell: adit serve .. --ready-fd 3 3>ready")
}

fn unprintable(error: &io::Error) -> Error {
    let what = format!("cannot print where the server listens: {error}");
    let code = match error.kind() {
        io::ErrorKind::BrokenPipe => Code::StdoutClosed,
        _ => adit::code_of(error),
    };
    Error::new(code, Blame::Local, what)
}

/// Says where the servers listen; people who watch also read what to do next, and `more`.
pub(crate) fn announce(
    servers: &[Running],
    ready: Ready,
    voice: &Voice,
    exposure: &Exposure<'_>,
    more: impl FnOnce(&Endpoint) -> String,
) -> adit::Result<()> {
    let gate = exposure.gate;
    let with_tls = |server: &'_ Running| -> Vec<(Endpoint, Option<ServerTls>)> {
        let of = |endpoint: &Endpoint| (endpoint.clone(), server.tls(endpoint).cloned());
        server.addrs().map(of).collect()
    };
    let endpoints: Vec<_> = servers.iter().flat_map(with_tls).collect();
    for server in servers {
        for door in server.doors() {
            voice.note(&exposure.line(door, server.tls(&door.endpoint)));
        }
        if voice.is_verbose() {
            voice.note(&gate.limits_line(server));
        }
    }
    if let Some((endpoint, tls)) = endpoints.first() {
        let client = client(endpoint, tls.as_ref(), gate);
        voice.detail(&format!("client: {client}    stop: Ctrl-C{}", more(endpoint)));
    }
    // Whoever hears that it is ready finds these lines said.
    voice.flush();
    let lines: String = endpoints.iter().map(|(endpoint, _)| format!("{endpoint}\n")).collect();
    if ready.on_stdout {
        say::show(&lines).map_err(|error| unprintable(&error))?;
    }
    if let Some((number, descriptor)) = ready.descriptor {
        let told = descriptor.tell_and_close(lines.as_bytes());
        told.map_err(|error| no_descriptor(number, &error))?;
    }
    Supervisor::of_environment(voice).ready(&status(servers));
    Ok(())
}

/// How to connect there: `adit 7000`, `adit tls://HOST:7000`.
fn client(endpoint: &Endpoint, tls: Option<&ServerTls>, gate: &Gate) -> String {
    let transport = endpoint.transport();
    let scheme = match (tls, transport) {
        (Some(_), Transport::Unix) => "tls+unix:",
        (Some(_), _) => "tls://",
        (None, Transport::Udp) => "udp://",
        (None, _) => "",
    };
    let place = match (endpoint.reach(), endpoint.socket_addr()) {
        (Reach::All, Some(address)) => format!("HOST:{}", address.port()),
        (Reach::Loopback, Some(address)) if tls.is_some() => {
            format!("localhost:{}", address.port())
        }
        (Reach::Loopback, Some(address)) => address.port().to_string(),
        (_, None) if tls.is_none() => format!("{transport}:{}", endpoint.place_text()),
        _ => endpoint.place_text(),
    };
    // Nobody vouches for a certificate of its own: its clients know it.
    let pin = tls.filter(|tls| gate.is_auto(tls)).map(|tls| format!(",pin={}", tls.pin().word()));
    format!("adit {scheme}{place}{}", pin.unwrap_or_default())
}

/// What systemctl shows.
pub(super) fn status(servers: &[Running]) -> String {
    let places: Vec<_> = servers.iter().flat_map(Running::addrs).map(ToString::to_string).collect();
    format!("listening on {}", places.join(", "))
}

/// What a listening socket lays open, and to whom.
pub(crate) struct Exposure<'a> {
    pub(crate) gate: &'a Gate,
    /// Sockets that were passed, and their names.
    pub(crate) passed: Vec<(Endpoint, String)>,
    /// What whoever connects has run, and as whom.
    pub(crate) program: Option<String>,
    /// Whether `--open` was said of it.
    pub(crate) is_open: bool,
}

impl Exposure<'_> {
    /// `listening  tcp [::]:7000 (IPv4 and IPv6), reachable from every network`
    fn line(&self, door: &Door, tls: Option<&ServerTls>) -> String {
        let endpoint = &door.endpoint;
        let families = match (endpoint.place_text().starts_with("[::]"), door.is_v6_only) {
            (true, false) => " (IPv4 and IPv6)",
            (true, true) => " (IPv6 only)",
            _ => "",
        };
        let reach = match endpoint.reach() {
            Reach::Loopback | Reach::Host => "this machine only",
            Reach::Lan => "reachable from this network",
            _ => "reachable from every network",
        };
        let mut line = format!("listening  {endpoint}{families}, {reach}");
        let is_out = endpoint.reach() > Reach::Host;
        if endpoint.transport() == Transport::Udp && is_out {
            line.push_str(&match door.amplification {
                Some(factor) => format!(", replies capped at {factor}x"),
                None => ", replies not capped".to_owned(),
            });
        }
        line.push_str(&self.gate.words(endpoint, tls));
        if let Some(program) = &self.program {
            line.push_str(&format!(", runs {program}"));
            if self.is_open && is_out {
                line.push_str(" for everyone (--open)");
            }
        }
        if let Some((_, name)) = self.passed.iter().find(|(place, _)| place == endpoint) {
            let name = adit::escape::escape_line(name.as_bytes(), 100);
            line.push_str(&format!(", passed as {name}"));
        }
        line
    }
}

//! Ready: where it listens, told to people and to whoever waits for it.

use std::io;

use adit::endpoint::{Reach, Transport};
use adit::system::descriptors::Inherited;
use adit::tls::ServerTls;
use adit::{Blame, Code, Endpoint, Error, Running};

use super::Gate;
use crate::args::House;
use crate::complaint::usage;
use crate::say::{self, Voice};

/// The descriptor of `--ready-fd`, taken before anything else is opened, which could get its number.
pub(crate) struct Taken(Option<io::Result<Inherited>>);

impl Taken {
    pub(crate) fn of(flags: &House) -> Self {
        Self(flags.ready_fd.map(Inherited::take))
    }

    /// Who waits, if the descriptor can be written to.
    pub(crate) fn ready(self, flags: &House) -> adit::Result<Ready> {
        let number = flags.ready_fd.unwrap_or_default();
        let descriptor = self.0.transpose().map_err(|error| no_descriptor(number, &error))?;
        Ok(Ready { descriptor: descriptor.map(|it| (number, it)), on_stdout: flags.print_addr })
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
    gate: &Gate,
    more: impl FnOnce(&Endpoint) -> String,
) -> adit::Result<()> {
    let with_tls = |server: &'_ Running| -> Vec<(Endpoint, Option<ServerTls>)> {
        let of = |endpoint: &Endpoint| (endpoint.clone(), server.tls(endpoint).cloned());
        server.addrs().map(of).collect()
    };
    let endpoints: Vec<_> = servers.iter().flat_map(with_tls).collect();
    let caps = servers.iter().flat_map(Running::reply_caps);
    for ((endpoint, tls), (_, cap)) in endpoints.iter().zip(caps) {
        voice.note(&(listening_line(endpoint, cap) + &gate.words(endpoint, tls.as_ref())));
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

/// `listening  tcp [::]:7000 (IPv4 and IPv6), reachable from every network`
fn listening_line(endpoint: &Endpoint, cap: Option<u32>) -> String {
    let families = if endpoint.place_text().starts_with("[::]") { " (IPv4 and IPv6)" } else { "" };
    let reach = match endpoint.reach() {
        Reach::Loopback | Reach::Host => "this machine only",
        Reach::Lan => "reachable from this network",
        _ => "reachable from every network",
    };
    let is_udp = endpoint.transport() == Transport::Udp;
    let cap = cap.filter(|_| is_udp && endpoint.reach() > Reach::Host);
    let capped = cap.map_or_else(String::new, |cap| format!(", replies capped at {cap}x"));
    format!("listening  {endpoint}{families}, {reach}{capped}")
}

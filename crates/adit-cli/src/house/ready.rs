//! Ready: where it listens, told to people and to whoever waits for it.

use std::io;

use adit::endpoint::{Reach, Transport};
use adit::system::descriptors::Inherited;
use adit::{Endpoint, Error, Running};

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

/// Says where the servers listen; people who watch also read what to do next.
pub(crate) fn announce(
    servers: &[Running],
    ready: Ready,
    voice: &Voice,
    gate: &Gate,
    next_step: impl FnOnce(&Endpoint) -> String,
) -> adit::Result<()> {
    let endpoints: Vec<&Endpoint> = servers.iter().flat_map(Running::addrs).collect();
    for endpoint in &endpoints {
        voice.note(&(listening_line(endpoint) + &gate.words(endpoint)));
    }
    if let Some(endpoint) = endpoints.first() {
        voice.detail(&next_step(endpoint));
    }
    let lines: String = endpoints.iter().map(|endpoint| format!("{endpoint}\n")).collect();
    if ready.on_stdout {
        say::print(&lines);
    }
    if let Some((number, descriptor)) = ready.descriptor {
        let told = descriptor.tell_and_close(lines.as_bytes());
        told.map_err(|error| no_descriptor(number, &error))?;
    }
    Ok(())
}

/// `listening  tcp [::]:7000 (IPv4 and IPv6), reachable from every network`
fn listening_line(endpoint: &Endpoint) -> String {
    let families = if endpoint.place_text().starts_with("[::]") { " (IPv4 and IPv6)" } else { "" };
    let reach = match endpoint.reach() {
        Reach::Loopback | Reach::Host => "this machine only",
        Reach::Lan => "reachable from this network",
        _ => "reachable from every network",
    };
    let is_udp = endpoint.transport() == Transport::Udp;
    let is_capped = is_udp && endpoint.reach() > Reach::Host;
    let capped = if is_capped { ", replies capped at 3x" } else { "" };
    format!("listening  {endpoint}{families}, {reach}{capped}")
}

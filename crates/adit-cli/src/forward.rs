//! `adit forward LISTEN TARGET`: connections or datagrams go on to a target, a socket or a program, every
//! end as it is.

use std::time::Duration;

use adit::address::Exec;
use adit::{Address, Code, Dial, Limit, Limits, ProxyVersion, Running};

use crate::args::{self, Forward, ForwardLimits, Tls};
use crate::complaint::usage;
use crate::exit::Exit;
use crate::house::{self, Gate, House, Ready, Taken, announce};
use crate::program::Behind;
use crate::resolve::Target;
use crate::say::{Part, Voice};
use crate::{program, resolve, runtime, secure};

/// Runs the command.
pub(crate) fn run(args: &Forward) -> Exit {
    // Before anything else is opened, which could get the number.
    let taken = Taken::of(&args.house);
    let voice = Voice::of(&args.say, Part::Relay, &args.watch);
    let forwarded = taken.ready(&args.house).and_then(|ready| {
        voice.begin_files(&args.watch)?;
        let (listen, target) = resolve::pair(&args.words, &args.net, "forward")?;
        let (onward, gate) = match target {
            Target::Socket(target) => {
                program::no_flags(&args.env, Some(&args.behind), program::AS_TARGET)?;
                to_socket(args, listen, target, &voice)?
            }
            Target::Program(exec) => to_program(args, listen, &exec, &voice)?,
        };
        // With the old limit it forwards fewer, that is all.
        drop(adit::system::descriptors::raise_limit());
        runtime::block_on(forward(args, (onward, gate), ready, &voice))?
    });
    let exit = forwarded.unwrap_or_else(|error| {
        voice.error(&error);
        Exit::of(error.code())
    });
    voice.end(exit)
}

/// What goes on, and to where.
enum Onward {
    Socket(Box<adit::Forward>),
    Program(Behind, Vec<Address>),
}

fn to_socket(
    args: &Forward,
    mut listen: Vec<Address>,
    mut target: Address,
    voice: &Voice,
) -> adit::Result<(Onward, Gate)> {
    let tls = secure::relay(&mut listen, &mut target, &args.tls, voice)?;
    let gate = Gate::of(&args.house, tls)?;
    let limits = limits((&args.limits, &args.tls), &gate);
    let dial = resolve::dial(&args.net, &args.client, &args.tls).stall(limits.stall);
    let relay = relay(dial, &target, limits, args.proxy_out)?;
    let relay = route(gate.guard_relay(relay), listen, &target, &gate)?;
    let relay = if args.house.once { relay.once() } else { relay };
    Ok((Onward::Socket(Box::new(relay)), gate))
}

/// A process for each connection or datagram, under the same rules as that of `serve`.
fn to_program(
    args: &Forward,
    mut listen: Vec<Address>,
    exec: &Exec,
    voice: &Voice,
) -> adit::Result<(Onward, Gate)> {
    no_socket(&args.client, None, exec)?;
    let tls = secure::servers(&mut listen, &args.tls)?;
    let gate = Gate::of(&args.house, tls)?;
    listen.iter().try_for_each(|address| gate.fits(address))?;
    if args.proxy_out.is_some() {
        let what = format!("--proxy-out: {} knows its peer by its environment", exec.spoken());
        return Err(usage(what, "leave it out"));
    }
    let behind = Behind::of(program::of_address(exec, &args.env), &args.behind, voice)?;
    let stalls = (args.limits.idle.is_some(), args.limits.stall.is_some());
    behind.sees_bytes(stalls, &args.watch)?;
    behind.fits(&listen)?;
    program::consent(&args.behind, &args.house, &listen)?;
    behind.ready(voice)?;
    Ok((Onward::Program(behind, listen), gate))
}

/// Flags that choose our end of a socket have no use where there is none.
pub(crate) fn no_socket(client: &args::Client, tls: Option<&Tls>, exec: &Exec) -> adit::Result<()> {
    let has = |of: fn(&Tls) -> bool| tls.is_some_and(of);
    let flags = [
        (has(|tls| tls.tls.is_some()), "--tls"),
        (has(|tls| tls.ca.is_some()), "--ca"),
        (has(|tls| tls.client_ca.is_some()), "--client-ca"),
        (has(|tls| tls.cert.is_some()), "--cert"),
        (has(|tls| tls.key.is_some()), "--key"),
        (has(|tls| tls.sni.is_some()), "--sni"),
        (has(|tls| tls.alpn.is_some()), "--alpn"),
        (has(|tls| tls.handshake_timeout.is_some()), "--handshake-timeout"),
        (client.source.is_some(), "-s"),
        (client.source_port.is_some(), "-p"),
        (client.connect_timeout.is_some(), "-w/--connect-timeout"),
    ];
    match flags.into_iter().find(|(is_there, _)| *is_there) {
        Some((_, flag)) => {
            let what = format!("{flag} is for sockets, and {} is none", exec.spoken());
            Err(usage(what, "leave it out"))
        }
        None => Ok(()),
    }
}

/// To where.
pub(crate) fn relay(
    dial: Dial,
    target: &Address,
    limits: Limits,
    proxy_out: Option<ProxyVersion>,
) -> adit::Result<adit::Forward> {
    let forward = adit::Forward::to(target)?.dial(dial).limits(limits);
    let Some(version) = proxy_out else { return Ok(forward) };
    if target.transport.is_datagram() {
        let what =
            format!("--proxy-out: no PROXY header goes with datagrams to {}", target.spoken());
        return Err(usage(what, "leave it out; connections have one: over tcp"));
    }
    Ok(forward.proxy_header(version))
}

/// From where.
pub(crate) fn route(
    mut forward: adit::Forward,
    listen: Vec<Address>,
    target: &Address,
    gate: &Gate,
) -> adit::Result<adit::Forward> {
    for address in listen {
        gate.fits(&address)?;
        if address.transport.is_datagram() != target.transport.is_datagram() {
            let what = format!("{} cannot go on to {}", address.spoken(), target.spoken());
            return Err(usage(what, "connections go on to connections, datagrams to datagrams"));
        }
        forward = forward.listen(address);
    }
    Ok(forward)
}

pub(crate) fn users_limits((flags, tls): (&ForwardLimits, &Tls)) -> house::UsersLimits {
    house::users_limits(&[
        (tls.handshake_timeout.is_some(), Code::HandshakeTimeout),
        (flags.idle.is_some(), Code::IdleTimeout),
        (flags.stall.is_some(), Code::StallTimeout),
        (flags.max_time.is_some(), Code::MaxTime),
    ])
}

pub(crate) fn limits((flags, tls): (&ForwardLimits, &Tls), gate: &Gate) -> Limits {
    let defaults = gate.limits();
    let usual = Limit::At(Duration::from_secs(300));
    Limits {
        idle: flags.idle.unwrap_or(usual),
        stall: flags.stall.unwrap_or(usual),
        max_time: flags.max_time.unwrap_or(Limit::Off),
        handshake: tls.handshake_timeout.unwrap_or(defaults.handshake),
        ..defaults
    }
}

async fn forward(
    args: &Forward,
    (onward, gate): (Onward, Gate),
    ready: Ready,
    voice: &Voice,
) -> adit::Result<Exit> {
    let mut house = House::new(&args.house, users_limits((&args.limits, &args.tls)), voice);
    let servers: Vec<Running> = match onward {
        Onward::Socket(relay) => vec![relay.observe(house.observer()).start()?],
        Onward::Program(behind, listen) => {
            let limits = limits((&args.limits, &args.tls), &gate);
            behind.start(&listen, (&gate, args.house.once), &limits, house.observer())?
        }
    };
    announce(&servers, ready, voice, &gate, |_| String::new())?;
    let ended = house.until_told(&servers).await;
    house.close(servers, ended).await
}

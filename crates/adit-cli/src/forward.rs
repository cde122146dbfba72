//! `adit forward LISTEN TARGET`: connections or datagrams go on to a target, a socket or a program, every
//! end as it is.

use std::time::Duration;

use adit::address::Exec;
use adit::{Address, Code, Dial, Endpoint, Limit, Limits, ProxyVersion, Running};

use crate::args::{self, Forward, ForwardLimits, Net, Tls};
use crate::complaint::{quoted, usage};
use crate::exit::Exit;
use crate::house::{
    self, Exposure, Gate, House, Passed, Places, Ready, Taken, announce, is_passed,
};
use crate::program::Behind;
use crate::resolve::Target;
use crate::say::{Part, Voice};
use crate::{program, resolve, runtime, secure};

/// Runs the command.
pub(crate) fn run(args: &Forward) -> Exit {
    // Before anything else is opened, which could get the number.
    let taken = Taken::of(&args.house, &args.words);
    let voice = Voice::of(&args.say, Part::Relay, &args.watch);
    let forwarded = taken.split(&args.house).and_then(|(ready, passed)| {
        voice.begin_files(&args.watch)?;
        let (places, target) = between(&args.words, (&args.net, "forward"), passed, &voice)?;
        let onward = match target {
            Target::Socket(target) => {
                program::no_flags(&args.env, Some(&args.behind), program::AS_TARGET)?;
                to_socket(args, places, target, &voice)?
            }
            Target::Program(exec) => to_program(args, places, &exec, &voice)?,
        };
        // With the old limit it forwards fewer, that is all.
        drop(adit::system::descriptors::raise_limit());
        runtime::block_on(forward(args, onward, ready, &voice))?
    });
    let exit = forwarded.unwrap_or_else(|error| {
        voice.error(&error);
        Exit::of(error.code())
    });
    voice.end(exit)
}

/// What goes on, and to where.
struct Onward {
    to: To,
    gate: Gate,
    /// Sockets that were passed, and their names.
    passed: Vec<(Endpoint, String)>,
    /// The program, and as whom it runs.
    runs: Option<String>,
}

enum To {
    Socket(Box<adit::Forward>),
    Program(Box<Behind>, Places),
}

fn to_socket(
    args: &Forward,
    mut places: Places,
    mut target: Address,
    voice: &Voice,
) -> adit::Result<Onward> {
    let passed = places.names();
    let tls = places.secured(args.tls.tls.as_deref() == Some("auto"), |listen| {
        secure::relay(listen, &mut target, &args.tls, voice)
    })?;
    let gate = Gate::of(&args.house, tls)?;
    let limits = limits((&args.limits, &args.tls), &gate);
    let dial = resolve::dial(&args.net, &args.client, &args.tls).stall(limits.stall);
    let relay = relay(dial, &target, limits, args.proxy_out)?;
    let relay = route(gate.guard_relay(relay), &places, &target, &gate)?;
    let relay = if args.house.once { relay.once() } else { relay };
    Ok(Onward { to: To::Socket(Box::new(relay)), gate, passed, runs: None })
}

/// A process for each connection or datagram, under the same rules as that of `serve`.
fn to_program(
    args: &Forward,
    mut places: Places,
    exec: &Exec,
    voice: &Voice,
) -> adit::Result<Onward> {
    no_socket(&args.client, None, exec)?;
    let passed = places.names();
    let tls = places
        .secured(args.tls.tls.is_some(), |addresses| secure::servers(addresses, &args.tls))?;
    let gate = Gate::of(&args.house, tls)?;
    places.addresses.iter().try_for_each(|address| gate.fits(address))?;
    if args.proxy_out.is_some() {
        let what = format!("--proxy-out: {} knows its peer by its environment", exec.spoken());
        return Err(usage(what, "leave it out"));
    }
    let behind = Behind::of(program::of_address(exec, &args.env), &args.behind, voice)?;
    let stalls = (args.limits.idle.is_some(), args.limits.stall.is_some());
    behind.sees_bytes(stalls, (&args.watch, &args.house.gate))?;
    behind.fits(&places)?;
    program::consent(&args.behind, &args.house, &places)?;
    behind.ready(voice)?;
    let runs = Some(program::spoken(&exec.program, &args.behind));
    Ok(Onward { to: To::Program(Box::new(behind), places), gate, passed, runs })
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

/// From where to where. Without an address to listen on, sockets that were passed are what is meant, and
/// the one address is the target.
pub(crate) fn between(
    words: &[String],
    (net, verb): (&Net, &str),
    passed: Passed,
    voice: &Voice,
) -> adit::Result<(Places, Target)> {
    // In the place of the target it would be taken for one to listen on.
    if let Some(late) = words.iter().skip_while(|word| is_passed(word)).find(|word| is_passed(word))
    {
        let what = format!("{} is to listen on, and stands behind another address", quoted(late));
        return Err(usage(what, &format!("adit {verb} {late} HOST:PORT")));
    }
    let (count, why_none) = (passed.count(), passed.why_none());
    let takes_all = count > 0 && resolve::is_one(words, net);
    let (others, chosen) = match takes_all {
        true => {
            let (_, chosen) = passed.choose(&[], true, voice)?;
            (words.to_vec(), chosen)
        }
        false => passed.choose(words, false, voice)?,
    };
    if chosen.is_empty() {
        let (listen, target) = resolve::pair(&others, net, verb).map_err(|error| {
            let hint = format!("{}{why_none}", error.hint().unwrap_or_default());
            if why_none.is_empty() { error } else { error.with_hint(hint) }
        })?;
        return Ok((Places::new(listen, Vec::new()), target));
    }
    Ok((Places::new(Vec::new(), chosen), resolve::one_target(&others, net, verb)?))
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
    forward: adit::Forward,
    places: &Places,
    target: &Address,
    gate: &Gate,
) -> adit::Result<adit::Forward> {
    for address in &places.addresses {
        gate.fits(address)?;
        if address.transport.is_datagram() != target.transport.is_datagram() {
            let what = format!("{} cannot go on to {}", address.spoken(), target.spoken());
            return Err(usage(what, "connections go on to connections, datagrams to datagrams"));
        }
    }
    Ok(places.relay(forward))
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
    onward: Onward,
    ready: Ready,
    voice: &Voice,
) -> adit::Result<Exit> {
    let mut house = House::new(&args.house, users_limits((&args.limits, &args.tls)), voice);
    let Onward { to, gate, passed, runs } = onward;
    let servers: Vec<Running> = match to {
        To::Socket(relay) => vec![relay.observe(house.observer()).start()?],
        To::Program(behind, places) => {
            let limits = limits((&args.limits, &args.tls), &gate);
            let (streams, datagrams) = places.by_kind();
            let places = (&streams, &datagrams);
            behind.start(places, (&gate, args.house.once), &limits, house.observer())?
        }
    };
    let exposure = Exposure { gate: &gate, passed, program: runs, is_open: args.behind.open };
    announce(&servers, ready, voice, &exposure, |_| String::new())?;
    let ended = house.until_told(&servers).await;
    house.close(servers, ended).await
}

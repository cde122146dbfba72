//! `adit forward LISTEN TARGET`: connections or datagrams go on to a target, every end as it is.

use std::time::Duration;

use adit::{Address, Code, Dial, Limit, Limits, ProxyVersion, Running};

use crate::args::{Forward, ForwardLimits, Tls};
use crate::complaint::usage;
use crate::exit::Exit;
use crate::house::{self, Gate, House, Ready, Taken, announce};
use crate::say::{Part, Voice};
use crate::{resolve, runtime, secure};

/// Runs the command.
pub(crate) fn run(args: &Forward) -> Exit {
    // Before anything else is opened, which could get the number.
    let taken = Taken::of(&args.house);
    let voice = Voice::of(&args.say, Part::Relay, &args.watch);
    let forwarded = taken.ready(&args.house).and_then(|ready| {
        voice.begin_files(&args.watch)?;
        let (mut listen, mut target) = resolve::pair(&args.words, &args.net, "forward")?;
        let tls = secure::relay(&mut listen, &mut target, &args.tls, &voice)?;
        let gate = Gate::of(&args.house, tls)?;
        let limits = limits((&args.limits, &args.tls), &gate);
        let dial = resolve::dial(&args.net, &args.client, &args.tls).stall(limits.stall);
        let relay = relay(dial, &target, limits, args.proxy_out)?;
        let relay = route(gate.guard_relay(relay), listen, &target, &gate)?;
        let relay = if args.house.once { relay.once() } else { relay };
        // With the old limit it forwards fewer, that is all.
        drop(adit::system::descriptors::raise_limit());
        runtime::block_on(forward(args, (relay, gate), ready, &voice))?
    });
    let exit = forwarded.unwrap_or_else(|error| {
        voice.error(&error);
        Exit::of(error.code())
    });
    voice.end(exit)
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
    (relay, gate): (adit::Forward, Gate),
    ready: Ready,
    voice: &Voice,
) -> adit::Result<Exit> {
    let mut house = House::new(&args.house, users_limits((&args.limits, &args.tls)), voice);
    let servers: Vec<Running> = vec![relay.observe(house.observer()).start()?];
    announce(&servers, ready, voice, &gate, |_| String::new())?;
    let ended = house.until_told(&servers).await;
    house.close(servers, ended).await
}

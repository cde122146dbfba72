//! `adit forward LISTEN TARGET`: connections or datagrams go on to a target, every end as it is.

use std::time::Duration;

use adit::endpoint::Reach;
use adit::{Address, Code, Dial, Endpoint, Limit, Limits, Running};

use crate::args::{Forward, ForwardLimits};
use crate::complaint::usage;
use crate::exit::Exit;
use crate::house::{self, House, Ready, Taken, announce};
use crate::say::{Part, Voice};
use crate::{resolve, runtime};

/// Runs the command.
pub(crate) fn run(args: &Forward) -> Exit {
    // Before anything else is opened, which could get the number.
    let taken = Taken::of(&args.house);
    let voice = Voice::of(&args.say, Part::Relay, &args.watch);
    let forwarded = taken.ready(&args.house).and_then(|ready| {
        voice.begin_files(&args.watch)?;
        let (listen, target) = resolve::pair(&args.words, &args.net, "forward")?;
        let limits = limits(&args.limits, args.house.max_conns);
        let dial = resolve::dial(&args.net, &args.client).stall(limits.stall);
        let route = route(listen, &target, dial, limits, args.house.once)?;
        // With the old limit it forwards fewer, that is all.
        drop(adit::system::descriptors::raise_limit());
        runtime::block_on(forward(args, route, ready, &voice))?
    });
    voice.end_files();
    forwarded.unwrap_or_else(|error| {
        voice.error(&error);
        Exit::of(error.code())
    })
}

/// From where to where.
pub(crate) fn route(
    listen: Vec<Address>,
    target: &Address,
    dial: Dial,
    limits: Limits,
    once: bool,
) -> adit::Result<adit::Forward> {
    let mut forward = adit::Forward::to(target)?.dial(dial).limits(limits);
    if once {
        forward = forward.once();
    }
    for address in listen {
        if address.transport.is_datagram() != target.transport.is_datagram() {
            let what = format!("{} cannot go on to {}", address.spoken(), target.spoken());
            return Err(usage(what, "connections go on to connections, datagrams to datagrams"));
        }
        forward = forward.listen(address);
    }
    Ok(forward)
}

pub(crate) fn users_limits(flags: &ForwardLimits) -> house::UsersLimits {
    house::users_limits(&[
        (flags.idle.is_some(), Code::IdleTimeout),
        (flags.stall.is_some(), Code::StallTimeout),
        (flags.max_time.is_some(), Code::MaxTime),
    ])
}

pub(crate) fn limits(flags: &ForwardLimits, conversations: Limit<usize>) -> Limits {
    let usual = Limit::At(Duration::from_secs(300));
    Limits {
        conversations,
        idle: flags.idle.unwrap_or(usual),
        stall: flags.stall.unwrap_or(usual),
        max_time: flags.max_time.unwrap_or(Limit::Off),
        ..Limits::default()
    }
}

async fn forward(
    args: &Forward,
    route: adit::Forward,
    ready: Ready,
    voice: &Voice,
) -> adit::Result<Exit> {
    let mut house = House::new(&args.house, users_limits(&args.limits), voice);
    let servers: Vec<Running> = vec![route.observe(house.observer()).start()?];
    announce(&servers, ready, voice, next_step)?;
    let ended = house.until_told(&servers).await;
    house.close(servers, ended).await
}

/// `client: adit 9000    stop: Ctrl-C`
pub(crate) fn next_step(endpoint: &Endpoint) -> String {
    let transport = endpoint.transport();
    let scheme = if transport.is_datagram() { "udp://" } else { "" };
    let client = match (endpoint.reach(), endpoint.socket_addr()) {
        (Reach::All, Some(address)) => format!("adit {scheme}HOST:{}", address.port()),
        (Reach::Loopback, Some(address)) => format!("adit {scheme}{}", address.port()),
        (_, Some(address)) => format!("adit {scheme}{address}"),
        (_, None) => format!("adit {transport}:{}", endpoint.place_text()),
    };
    format!("client: {client}    stop: Ctrl-C")
}

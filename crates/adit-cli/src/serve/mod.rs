//! `adit serve`: a concurrent server of one of the classical services, of a program, or of the person
//! at the keyboard.

mod by_hand;
mod services;

use std::time::Duration;

use adit::address::{Role, nearest};
use adit::endpoint::{Reach, Transport};
use adit::{Blame, Code, Endpoint, Error, Limit, Limits};

use crate::args::Serve;
use crate::complaint::{quoted, usage};
use crate::connect::not_for_streams;
use crate::exit::Exit;
use crate::house::{self, End, Exposure, Gate, House, Passed, Places, Ready, Taken, announce};
use crate::program::Behind;
use crate::say::{Part, Voice};
use crate::{program, resolve, runtime, secure};

use services::Service;

/// Runs the command.
pub(crate) fn run(args: &Serve) -> Exit {
    // Before anything else is opened, which could get the number.
    let taken = Taken::of(&args.house, &args.words);
    let voice = Voice::of(&args.talk.say, Part::Server, &args.watch);
    let taken = stdout_is_free(args).and_then(|()| taken.split(&args.house));
    let served = taken.and_then(|(ready, passed)| {
        voice.begin_files(&args.watch)?;
        let plan = plan(args, passed, &voice)?;
        // With the old limit the server serves fewer, that is all.
        drop(adit::system::descriptors::raise_limit());
        runtime::block_on(serve(args, plan, ready, &voice))?
    });
    let exit = served.unwrap_or_else(|error| {
        voice.error(&error);
        Exit::of(error.code())
    });
    voice.end(exit)
}

/// By hand, standard output is what the clients say.
fn stdout_is_free(args: &Serve) -> adit::Result<()> {
    let is_service = args.words.first().is_some_and(|word| Service::named(word).is_some());
    if args.house.print_addr && !is_service && args.run.cmd.is_empty() {
        let what = "--print-addr writes to standard output, which belongs to the clients here";
        return Err(usage(what, "tell it elsewhere: --ready-fd 3 3>FILE"));
    }
    Ok(())
}

/// What to serve where.
struct Plan {
    service: Option<Service>,
    program: Option<Behind>,
    streams: Places,
    datagrams: Places,
    /// Sockets that were passed, and their names.
    passed: Vec<(Endpoint, String)>,
    once: bool,
    gate: Gate,
}

fn plan(args: &Serve, passed: Passed, voice: &Voice) -> adit::Result<Plan> {
    let service = args.words.first().and_then(|word| Service::named(word));
    let words = if service.is_some() { &args.words[1..] } else { &args.words[..] };
    if words.is_empty() && passed.count() == 0 {
        let example = args.words.first().map_or("echo", String::as_str);
        let hint = format!("adit serve {example} 7000{}", passed.why_none());
        return Err(usage("where to serve is missing", &hint));
    }
    no_such_service(args, service)?;
    one_service(args, service, words)?;
    let program = program(args, voice)?;
    let (words, passed) = passed.choose(words, true, voice)?;
    let mut places = Places::new(resolve::all(&words, &args.net, Role::Listen)?, passed);
    let tls = places
        .secured(args.tls.tls.is_some(), |addresses| secure::servers(addresses, &args.tls))?;
    if let Some(program) = &program {
        program_is_alone(args, service)?;
        let stalls = (args.limits.idle.is_some(), args.limits.stall.is_some());
        program.sees_bytes(stalls, (&args.watch, &args.house.gate))?;
        program.fits(&places)?;
        program::consent(&args.behind, &args.house, &places)?;
    }
    let passed = places.names();
    let (streams, datagrams) = places.by_kind();
    if let (Some(service), Some(spoken)) = (service, datagrams.first())
        && !service.fits_datagrams()
    {
        let name = service.name();
        let what = format!("{name} over {spoken} would flood whoever is named as the sender");
        return Err(Error::new(Code::Unsafe, Blame::Caller, what)
            .with_hint(format!("over TCP: adit serve {name} 7000")));
    }
    if let Some(program) = &program {
        program.ready(voice)?;
    } else {
        frame_has_use(args, service, &datagrams)?;
    }
    let gate = Gate::of(&args.house, tls)?;
    datagrams.addresses.iter().try_for_each(|address| gate.fits(address))?;
    let once = args.house.once;
    Ok(Plan { service, program, streams, datagrams, passed, once, gate })
}

async fn serve(args: &Serve, plan: Plan, ready: Ready, voice: &Voice) -> adit::Result<Exit> {
    let mut house = House::new(&args.house, users_limits(args), voice);
    let limits = limits(args, &plan);
    let mut hand = None;
    let is_plain = plan.streams.addresses.iter().all(|address| !address.tls);
    let told = if is_plain { house.observer().noticing_tls() } else { house.observer() };
    let servers = match (plan.service, &plan.program) {
        (Some(service), _) => services::start(service, &plan, limits, told)?,
        // A program may speak TLS itself.
        (None, Some(program)) => {
            let places = (&plan.streams, &plan.datagrams);
            program.start(places, (&plan.gate, plan.once), &limits, house.observer())?
        }
        (None, None) => {
            let (servers, desk) = by_hand::start(args, &plan, limits, told, voice)?;
            hand = Some(desk);
            servers
        }
    };
    let exposure = Exposure {
        gate: &plan.gate,
        passed: plan.passed.clone(),
        program: plan.program.as_ref().map(|_| program::spoken(what_runs(args), &args.behind)),
        is_open: args.behind.open,
    };
    announce(&servers, ready, voice, &exposure, |endpoint| next_step(endpoint, &plan))?;
    let ended = tokio::select! {
        ended = house.until_told(&servers) => ended,
        code = by_hand::attend(hand.as_mut()) => End::Once(code),
    };
    let exit = tokio::select! {
        exit = house.close(servers, ended) => exit?,
        // What clients still say is printed meanwhile; when nobody reads it, there is nothing to wait for.
        code = by_hand::attend(hand.as_mut()) => return Ok(Exit::of(code)),
    };
    match hand {
        // What clients said and nobody could read is no clean end.
        Some(desk) => Ok(desk.finish().await.map_or_else(Exit::of, |()| exit)),
        None => Ok(exit),
    }
}

/// The program that the flags ask for, if they do.
fn program(args: &Serve, voice: &Voice) -> adit::Result<Option<Behind>> {
    match program::of(&args.run, voice)? {
        Some(program) => Behind::of(program, &args.behind, voice).map(Some),
        None => {
            program::no_flags(&args.run.env, Some(&args.behind), program::BEHIND).map(|()| None)
        }
    }
}

/// What is started for those who come.
fn what_runs(args: &Serve) -> &str {
    if args.run.sh { "sh" } else { args.run.cmd.first().map_or("", String::as_str) }
}

/// A program serves alone, and has no messages but datagrams.
fn program_is_alone(args: &Serve, service: Option<Service>) -> adit::Result<()> {
    if let Some(service) = service {
        let what = format!("a service, {}, and a program", service.name());
        return Err(usage(what, "one of them: adit serve ADDR -- CMD"));
    }
    let is_foreign =
        args.frame.as_ref().is_some_and(|frame| !args.behind.worker || frame != "len32");
    let flags = [(is_foreign, "--frame"), (args.crlf, "-C/--crlf")];
    match flags.into_iter().find(|(is_there, _)| *is_there) {
        Some((_, flag)) => {
            let what = match args.behind.worker {
                true => format!("{flag} is for talking by hand: a worker has frames of its own"),
                false => format!("{flag} is for talking by hand: a program gets bytes as they are"),
            };
            Err(usage(what, "leave it out"))
        }
        None => Ok(()),
    }
}

/// A bare word in front that is no service was perhaps meant as one.
fn no_such_service(args: &Serve, service: Option<Service>) -> adit::Result<()> {
    let Some(first) = args.words.first() else { return Ok(()) };
    let is_word = !first.is_empty() && first.chars().all(|char| char.is_ascii_alphabetic());
    if service.is_some() || args.net.unix || !is_word || first == "localhost" {
        return Ok(());
    }
    let near = nearest(first, services::names());
    let near = near.map_or_else(String::new, |near| format!("; did you mean {near}?"));
    let what = format!("unknown service {}{near}", quoted(first));
    let names = services::names().collect::<Vec<_>>().join(", ");
    Err(usage(what, &format!("there are {names}; a host is written {first}:PORT")))
}

/// A service behind a service would be taken for a host.
fn one_service(args: &Serve, service: Option<Service>, words: &[String]) -> adit::Result<()> {
    let Some(more) = words.iter().find(|word| Service::named(word).is_some()) else {
        return Ok(());
    };
    let what = match service {
        Some(service) => format!("two services, \"{}\" and \"{more}\"", service.name()),
        None => format!("the service \"{more}\" stands behind an address"),
    };
    let hint = match service {
        Some(_) => format!("one command for each; a host is written {more}:PORT"),
        None => format!("adit serve {more} {}; a host is written {more}:PORT", args.words[0]),
    };
    Err(usage(what, &hint))
}

/// A flag that does nothing is refused rather than passed over.
fn frame_has_use(args: &Serve, service: Option<Service>, datagrams: &Places) -> adit::Result<()> {
    match (&args.frame, service) {
        (None, _) => Ok(()),
        (Some(_), Some(service)) => {
            let what =
                format!("--frame is for talking by hand: {} has its own messages", service.name());
            Err(usage(what, "leave it out"))
        }
        (Some(frame), None) if datagrams.is_empty() => Err(not_for_streams(frame)),
        _ => Ok(()),
    }
}

fn users_limits(args: &Serve) -> house::UsersLimits {
    let (flags, tls) = (&args.limits, &args.tls);
    house::users_limits(&[
        (flags.message_timeout.is_some() || flags.first_message.is_some(), Code::MessageTimeout),
        (flags.idle.is_some(), Code::IdleTimeout),
        (flags.stall.is_some(), Code::StallTimeout),
        (flags.max_time.is_some(), Code::MaxTime),
        (tls.handshake_timeout.is_some(), Code::HandshakeTimeout),
    ])
}

/// The limits that the flags ask for.
fn limits(args: &Serve, plan: &Plan) -> Limits {
    let flags = &args.limits;
    let defaults = plan.gate.limits();
    let seconds = |seconds| Limit::At(Duration::from_secs(seconds));
    let (idle, stall) = match (plan.service, &plan.program) {
        (Some(_), _) => (defaults.idle, defaults.stall),
        (None, Some(_)) => (defaults.idle, seconds(300)),
        (None, None) => (Limit::Off, seconds(300)),
    };
    Limits {
        message: flags.message_timeout.unwrap_or(defaults.message),
        first_message: flags.first_message.unwrap_or(Limit::Off),
        idle: flags.idle.unwrap_or(idle),
        stall: flags.stall.unwrap_or(stall),
        max_time: flags.max_time.unwrap_or(Limit::Off),
        handshake: args.tls.handshake_timeout.unwrap_or(defaults.handshake),
        ..defaults
    }
}

/// `    open to others: adit serve echo :7000`
fn next_step(endpoint: &Endpoint, plan: &Plan) -> String {
    let scheme = if endpoint.transport() == Transport::Udp { "udp://" } else { "" };
    let (Reach::Loopback, Some(address)) = (endpoint.reach(), endpoint.socket_addr()) else {
        return String::new();
    };
    let port = address.port();
    let serve = match (plan.service, &plan.program) {
        (Some(service), _) => format!("{} {scheme}:{port}", service.name()),
        (None, Some(_)) => format!("--open {scheme}:{port} -- .."),
        (None, None) => format!("{scheme}:{port}"),
    };
    format!("    open to others: adit serve {serve}")
}

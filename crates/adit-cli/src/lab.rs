//! `adit lab cut LISTEN TARGET`: connections go on to a target and are cut on the way, as a seed says.

use adit::event::Payload;
use adit::{Address, Running};
use adit_lab::cut::{self, Decided, Mode};

use crate::args::{Cut, CutMode, Experiment, Lab, Tls};
use crate::complaint::usage;
use crate::exit::Exit;
use crate::forward::{limits, users_limits};
use crate::house::{Exposure, Gate, House, Ready, Taken, announce};
use crate::say::{Part, Voice};
use crate::{resolve, runtime};

/// Runs the command.
pub(crate) fn run(args: &Lab) -> Exit {
    let Experiment::Cut(args) = &args.what;
    // Before anything else is opened, which could get the number.
    let taken = Taken::of(&args.house, &[]);
    let voice = Voice::new(&args.say, Part::Relay, Payload::None);
    let ended = taken.split(&args.house).and_then(|(ready, _)| {
        let (listen, target) = resolve::pair(&args.words, &args.net, "lab cut")?;
        // It cuts what goes over a socket.
        let target = target.socket()?;
        let gate = Gate::of(&args.house, None)?;
        let relay = relay(args, &gate, listen, &target)?;
        // With the old limit it carries fewer, that is all.
        drop(adit::system::descriptors::raise_limit());
        runtime::block_on(carry(args, (relay, gate), ready, &voice))?
    });
    let exit = ended.unwrap_or_else(|error| {
        voice.error(&error);
        Exit::of(error.code())
    });
    voice.end(exit)
}

/// From where to where.
fn relay(
    args: &Cut,
    gate: &Gate,
    listen: Vec<Address>,
    target: &Address,
) -> adit::Result<cut::Cut> {
    if let Some(datagrams) = listen.iter().chain([target]).find(|at| at.transport.is_datagram()) {
        let what = format!("{} is for datagrams, and only streams are cut", datagrams.spoken());
        return Err(usage(what, "TCP and Unix sockets have streams: leave -u and udp:// out"));
    }
    if let Some(secured) = listen.iter().chain([target]).find(|at| at.tls) {
        let what = format!("{}: what is cut are the bytes on the way", secured.spoken());
        return Err(usage(what, "TLS goes through as it is: write tcp://"));
    }
    let limits = limits((&args.limits, &Tls::default()), gate);
    let dial = resolve::dial(&args.net, &args.client, &Tls::default()).stall(limits.stall);
    let mode = match args.mode {
        CutMode::Gentle => Mode::Gentle,
        CutMode::Reset => Mode::Reset,
        CutMode::Truncate => Mode::Truncate,
    };
    let mut relay = cut::Cut::to(target)?.dial(dial).limits(limits).mode(mode);
    if let Some(behind) = args.at {
        relay = relay.at(behind);
    }
    if args.house.once {
        relay = relay.once();
    }
    Ok(listen.into_iter().fold(gate.guard_cut(relay), cut::Cut::listen))
}

async fn carry(
    args: &Cut,
    (relay, gate): (cut::Cut, Gate),
    ready: Ready,
    voice: &Voice,
) -> adit::Result<Exit> {
    // Short enough to be typed again.
    let seed = args.seed.unwrap_or_else(|| adit::system::jitter_u64() >> 32);
    let mut house = House::new(&args.house, users_limits((&args.limits, &Tls::default())), voice);
    let log = voice.clone();
    let relay = relay.seed(seed).on_decision(move |decided| tell(&log, decided));
    let servers: Vec<Running> = vec![relay.observe(house.observer()).start()?];
    let exposure = Exposure { gate: &gate, passed: Vec::new(), program: None, is_open: false };
    announce(&servers, ready, voice, &exposure, |_| String::new())?;
    voice.record("seed", &format!(",\"seed\":{seed}"));
    match args.at {
        Some(behind) => voice.note(&format!("cuts       behind byte {behind} of each way")),
        None => voice.note(&format!("cuts       as seed {seed} says; again: --seed {seed}")),
    }
    let ended = house.until_told(&servers).await;
    house.close(servers, ended).await
}

/// `cut 1 up 17 B: stall 12ms`
fn tell(voice: &Voice, decided: &Decided) {
    let Decided { seed, connection, way, behind, decision, .. } = decided;
    let (way, word) = (way.word(), decision.word());
    let time = decision.time().map(|time| format!(",\"us\":{}", time.as_micros()));
    voice.record(
        "cut",
        &format!(
            ",\"conn\":{connection},\"dir\":\"{way}\",\"off\":{behind},\"do\":\"{word}\"{},\"seed\":{seed}",
            time.unwrap_or_default()
        ),
    );
    if !voice.is_json() && voice.has_breath() {
        voice.note(&format!("cut {connection} {way} {behind} B: {decision}"));
    }
}

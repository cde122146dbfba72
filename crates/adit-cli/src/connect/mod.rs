//! `adit connect`: standard input to one peer, its answer to standard output; or a program in their place.
//!
//! Exit 0 means: the peer's system acknowledged every byte we sent, we wrote out every byte it sent,
//! and both directions ended cleanly.

mod cmd;
mod datagrams;
mod input;
mod output;
mod pump;
mod settle;

use std::time::Duration;

use adit::tls::Info;
use adit::{Address, Blame, Code, Conn, Dial, Error, Limit, Process, Program, What};

use crate::args::{Connect, End, Retry};
use crate::exit::Exit;
use crate::resolve::Target;
use crate::runtime::{self, Patience, Signals};
use crate::say::{Part, Voice};
use crate::{complaint, forward, program, resolve, secure, wait};

use cmd::Cmd;
pub(crate) use input::Crlf;
use input::Input;
pub(crate) use output::Failure;
use output::Output;
pub(crate) use pump::size;
use pump::{Session, Settings};

/// Runs the command.
pub(crate) fn run(args: &Connect) -> Exit {
    let voice = Voice::of(&args.talk.say, Part::Client, &args.watch);
    let connected = voice.begin_files(&args.watch).and_then(|()| start(args, &voice));
    let exit = connected.unwrap_or_else(|error| {
        voice.error(&error);
        let by_user = match error.code() {
            Code::ConnectTimeout => args.client.connect_timeout.is_some(),
            Code::HandshakeTimeout => args.tls.handshake_timeout.is_some(),
            // There is none but the user's before there is a connection.
            Code::IdleTimeout | Code::MaxTime => true,
            _ => false,
        };
        Exit::limit(error.code(), by_user)
    });
    voice.end(exit)
}

fn start(args: &Connect, voice: &Voice) -> adit::Result<Exit> {
    let mut target = resolve::one(&args.words, &args.net)?;
    if let Target::Socket(address) = &mut target {
        secure::clients([address], &args.tls, voice)?;
    }
    if args.probe && !args.run.cmd.is_empty() {
        return Err(complaint::usage(
            "-z sends nothing, so -- CMD has no use",
            "leave one of them out",
        ));
    }
    if args.probe {
        let address = target.socket()?;
        return wait::probe(&address, args, voice)
            .map_err(|error| resolve::advise(error, &address));
    }
    let program = the_program(args, &target, voice)?;
    let peer = peer(args, target)?;
    let dial = resolve::dial(&args.net, &args.client, &args.tls)
        .stall(pump::stall(args))
        .observe(voice.clone());
    runtime::block_on(async {
        let mut signals = Signals::ends(Patience::NONE);
        tokio::select! {
            exit = connect(args, (peer, program), &dial, voice) => exit,
            signal = signals.end() => Ok(Exit::signal(signal)),
        }
    })?
}

/// Who is at the other end.
enum Peer {
    Socket(Address),
    /// A program of ours, its name in messages, and its process.
    Program(Program, String, Option<Box<Process>>),
}

/// The peer; a program has to be there before anything begins.
fn peer(args: &Connect, target: Target) -> adit::Result<Peer> {
    match target {
        Target::Socket(address) => Ok(Peer::Socket(address)),
        Target::Program(exec) => {
            forward::no_socket(&args.client, Some(&args.tls), &exec)?;
            let program = program::of_address(&exec, &args.run.env);
            program.ready().map_err(|error| error.with_hint("not connecting"))?;
            Ok(Peer::Program(program, exec.spoken(), None))
        }
    }
}

/// The program of `-- CMD`, which has to be there before anybody is called.
fn the_program(args: &Connect, target: &Target, voice: &Voice) -> adit::Result<Option<Program>> {
    let Some(program) = program::of(&args.run, voice)? else {
        return match target {
            Target::Socket(_) => {
                program::no_flags(&args.run.env, None, program::BEHIND).map(|()| None)
            }
            Target::Program(_) => Ok(None),
        };
    };
    if let Target::Socket(address) = target
        && address.transport.is_datagram()
    {
        let what = format!("-- CMD is for streams, and {} is for datagrams", address.spoken());
        return Err(complaint::usage(
            what,
            "a program for each datagram: adit serve udp://PORT -- CMD",
        ));
    }
    program.ready().map_err(|error| error.with_hint("not connecting"))?;
    Ok(Some(program))
}

async fn connect(
    args: &Connect,
    (peer, program): (Peer, Option<Program>),
    dial: &Dial,
    voice: &Voice,
) -> adit::Result<Exit> {
    if let Peer::Socket(address) = &peer
        && address.transport.is_datagram()
    {
        let talked = datagrams::talk(args, address, dial, voice).await;
        return talked.map_err(|error| resolve::advise(error, address));
    }
    if let Some(frame) = args.frame.as_deref()
        && frame != "raw"
    {
        return Err(not_for_streams(frame));
    }
    let mut link = Link {
        args,
        peer,
        dial,
        voice,
        ends: match &program {
            None => {
                Some(Ends { input: Input::new(args), output: Output::new(voice, args.talk.raw) })
            }
            Some(_) => None,
        },
        program,
        cmd: None,
        tries: 0,
        lost: 0,
    };
    link.keep_up().await
}

/// A frame for a stream.
pub(crate) fn not_for_streams(frame: &str) -> Error {
    let frame = adit::escape::escape_line(frame.as_bytes(), 40);
    let what = format!("--frame {frame} is for datagrams: a stream has no messages");
    complaint::usage(what, "leave it out, or use UDP: -u")
}

/// A client that may come and go: the same input and output over one connection after the other.
struct Link<'a> {
    args: &'a Connect,
    peer: Peer,
    dial: &'a Dial,
    voice: &'a Voice,
    /// None before the program that is to have them has started.
    ends: Option<Ends>,
    program: Option<Program>,
    cmd: Option<Cmd>,
    /// Failed tries since the last connection that carried a byte.
    tries: u32,
    /// Bytes that were sent and never acknowledged, over all connections.
    lost: u64,
}

/// Where bytes come from and go to on our side.
struct Ends {
    input: Input,
    output: Output,
}

impl Peer {
    async fn reach(&mut self, dial: &Dial) -> adit::Result<Conn> {
        match self {
            Self::Socket(address) => dial.connect(&*address).await,
            Self::Program(program, _, running) => {
                // The one before makes room for it.
                *running = None;
                let (conn, process) = dial.program(program).await?;
                *running = Some(Box::new(process));
                Ok(conn)
            }
        }
    }

    fn advise(&self, error: Error) -> Error {
        match self {
            Self::Socket(address) => resolve::advise(error, address),
            Self::Program(..) => error,
        }
    }

    fn spoken(&self) -> String {
        match self {
            Self::Socket(address) => address.spoken(),
            Self::Program(_, spoken, _) => spoken.clone(),
        }
    }

    /// How the program has ended. One that has broken off has ended, or is not waited for.
    async fn verdict(&mut self, exit: Exit) -> adit::Result<()> {
        let Self::Program(program, _, running) = self else { return Ok(()) };
        let Some(mut process) = running.take() else { return Ok(()) };
        let patience = if exit.code.is_clean() { None } else { Some(HASTY) };
        let ended = match patience {
            None => Some(process.ended().await),
            Some(patience) => tokio::time::timeout(patience, process.ended()).await.ok(),
        };
        ended.map_or(Ok(()), |ended| program.verdict(ended, ""))
    }
}

impl Link<'_> {
    /// Connects, and connects again as `--retry` says, until the conversation is over.
    async fn keep_up(&mut self) -> adit::Result<Exit> {
        loop {
            let conn = match self.call().await {
                Ok(conn) => conn,
                Err(error) if self.may_retry() && is_passing(error.code()) => {
                    self.voice.detail(&format!("{error}; trying again"));
                    self.wait().await;
                    continue;
                }
                Err(error) => return Err(self.peer.advise(error)),
            };
            let ended = self.hold(conn).await?;
            self.lost += ended.unconfirmed;
            let is_over = self.ends.as_ref().is_none_or(|ends| ends.input.is_over());
            let goes_on = ended.is_lost_link && self.may_retry() && !is_over;
            if !goes_on {
                if !ended.exit.code.is_clean() && !ended.is_said {
                    self.voice.warn(&ended.text);
                }
                return Ok(self.finish(ended.exit).await);
            }
            self.voice.warn(&format!("{}; connecting again", ended.text));
            self.wait().await;
        }
    }

    /// Connects. A peer that is mute in the handshake of TLS is as mute as one behind it: the user's limits
    /// hold there too.
    async fn call(&mut self) -> adit::Result<Conn> {
        let (limits, connect) = (&self.args.limits, self.args.client.connect_timeout);
        let limits = [
            (connect.filter(|_| self.args.tls.handshake_timeout.is_none()), Code::ConnectTimeout),
            (limits.idle.and_then(Limit::at), Code::IdleTimeout),
            (limits.max_time.and_then(Limit::at), Code::MaxTime),
        ];
        let set = limits.into_iter().filter_map(|(limit, code)| Some((limit?, code)));
        let is_tls = matches!(&self.peer, Peer::Socket(address) if address.tls);
        let Some((limit, code)) = set.min_by_key(|(limit, _)| *limit).filter(|_| is_tls) else {
            return self.peer.reach(self.dial).await;
        };
        let reached = tokio::time::timeout(limit, self.peer.reach(self.dial)).await;
        reached.unwrap_or_else(|_| {
            let spoken = self.peer.spoken();
            let place = spoken.split_once(' ').map_or(&*spoken, |(_, place)| place);
            let what = format!("no TLS answer from {place} within {limit:?}");
            Err(Error::new(code, Blame::Peer, what))
        })
    }

    /// One connection from its first byte to its last.
    async fn hold(&mut self, conn: Conn) -> adit::Result<pump::Ended> {
        let look = conn.look();
        self.voice.emit(
            Some((look.number(), look.remote())),
            What::Open { local: look.local(), via: None, tls: look.tls().map(|tls| tls.version) },
        );
        if self.voice.is_verbose() {
            let from = look.local().map(|local| format!(" from {}", local.place_text()));
            let (from, tls) =
                (from.unwrap_or_default(), look.tls().map_or_else(String::new, shown));
            self.voice.note(&format!("connected to {}{from}{tls}", look.remote()));
            if look.tls().is_some_and(|tls| tls.version == "1.2") {
                // Whoever gets the closing message may drop what it has to say (RFC 5246, section 7.2.1).
                self.voice
                    .note("TLS 1.2: the end of our input may cost the answer; --eof hold keeps it");
            }
        }
        if let (Some(program), None) = (&self.program, &self.cmd) {
            let (cmd, from, to) = Cmd::start(program, &conn).await?;
            let input = Input::of_program(from, self.args);
            self.ends = Some(Ends { input, output: Output::of_program(self.voice, to) });
            self.cmd = Some(cmd);
        }
        let settings = Settings::of(self.args, self.may_retry());
        let ends = self.ends.get_or_insert_with(|| Ends {
            input: Input::new(self.args),
            output: Output::new(self.voice, self.args.talk.raw),
        });
        let (input, output) = (&mut ends.input, &mut ends.output);
        let session = Session::new(settings, self.voice, input, output, look);
        let ended = Box::pin(session.run(conn)).await;
        if ended.bytes_in + ended.bytes_out > 0 {
            self.tries = 0;
        }
        Ok(ended)
    }

    fn may_retry(&self) -> bool {
        match self.args.retry {
            Retry::Forever => true,
            Retry::Times(times) => self.tries < times,
        }
    }

    async fn wait(&mut self) {
        let random = adit::system::jitter_u64();
        tokio::time::sleep(self.args.backoff.wait(self.tries, random)).await;
        self.tries = self.tries.saturating_add(1);
    }

    /// Everything is written out; says what was lost on the way.
    async fn finish(&mut self, exit: Exit) -> Exit {
        let written = match &mut self.ends {
            Some(ends) => ends.output.finish().await,
            None => Ok(()),
        };
        let exit = match written {
            Err(code) if exit.signal.is_none() => Exit::of(code),
            _ => exit,
        };
        // One whose conversation failed is not waited for; it is told to end.
        if let Some(mut cmd) = self.cmd.take().filter(|_| exit.code.is_clean())
            && let Err(error) = cmd.finish().await
        {
            self.voice.error(&error);
            return Exit::of(error.code());
        }
        if let Err(error) = self.peer.verdict(exit).await {
            self.voice.error(&error);
            return Exit::of(error.code());
        }
        if self.lost > 0 && exit.code.is_clean() {
            let (lost, peer) = (self.lost, self.peer.spoken());
            let what = format!("{lost} B were sent and never acknowledged by {peer}");
            self.voice.error(&Error::new(Code::Lost, Blame::Peer, what));
            return Exit::of(Code::Lost);
        }
        exit
    }
}

/// `, TLS 1.3, TLS_AES_256_GCM_SHA384, X25519MLKEM768, certificate sha256:9f..`
fn shown(tls: &Info) -> String {
    let mut text = format!(", TLS {}, {}, {}", tls.version, tls.cipher, tls.key_exchange);
    if let Some(alpn) = &tls.alpn {
        text.push_str(&format!(", {}", adit::escape::escape_line(alpn, 40)));
    }
    if let Some(certificate) = &tls.peer {
        text.push_str(&format!(", certificate {}", certificate.pin.word()));
    }
    text
}

/// May it be different in a moment?
fn is_passing(code: Code) -> bool {
    use Code::{Config, Denied, TlsClientCertificate, TlsExpired, TlsName, TlsUntrusted, Usage};
    let lasts = [Usage, Config, Denied, TlsUntrusted, TlsName, TlsExpired, TlsClientCertificate];
    !lasts.contains(&code)
}

/// What ends the command when nothing is said: on a terminal the peer, else both directions.
fn default_end(is_terminal: bool) -> End {
    if is_terminal { End::Peer } else { End::Both }
}

/// How long to look back for a hasty close: some servers take the end of our input for a hang-up.
const HASTY: Duration = Duration::from_millis(100);

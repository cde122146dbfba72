//! The command line: one definition feeds the parser, `--help`, the man page and the completions.
//! Long because: a table, of every flag of every command.

use std::net::IpAddr;
use std::time::Duration;

use adit::address::{parse_duration, parse_size};
use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::complaint::BadValue;

/// The first screen of `adit --help`: what there is, and three lines to paste.
const OVERVIEW: &str = "\
{about}

  adit serve upper 7000       a server on this machine: lines come back in capitals
  adit 7000                   a client: keyboard -> socket -> screen
  adit explain 9000 7000      in between: what each side says, drawn

{all-args}

ADDR: 8080, HOST:PORT, udp://53; adit help addresses|eof|udp|tls|programs|service|exit-codes|json
";

/// Client/server programs over TCP, UDP and Unix sockets.
#[derive(Debug, Parser)]
#[command(
    name = "adit",
    version,
    help_template = OVERVIEW,
    disable_help_subcommand = true,
    infer_subcommands = false,
    arg_required_else_help = true,
    max_term_width = 100
)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) verb: Verb,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Carry standard input, or a program, to one peer and its answer back [also: adit ADDR]
    Connect(Box<Connect>),
    /// Serve many clients at once: a service, a program, or talk to them by hand
    Serve(Box<Serve>),
    /// Forward connections or datagrams from LISTEN to TARGET, every end as it is
    Forward(Box<Forward>),
    /// Draw what each side said: a relay from LISTEN to TARGET, or a saved trace
    Explain(Box<Explain>),
    /// Wait until a port is open, closed or answering
    Wait(Box<Wait>),
    /// Try out bad days: a relay that splits, delays and breaks streams where a seed says
    Lab(Lab),
    /// Run a server and five clients on your own lines and show what happens
    Demo(Demo),
    /// Print the completion script for a shell
    Completions {
        /// Which shell.
        shell: Shell,
    },
    /// Explain a topic
    Help {
        /// What to explain, or a command; without one, the overview.
        topic: Option<Topic>,
    },
}

/// The shells that completions are made for.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Shell {
    Bash,
    Zsh,
    Fish,
}

/// The topics of `adit help`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Topic {
    /// How addresses are written.
    Addresses,
    /// What happens at the end of input.
    Eof,
    /// What is different over datagrams.
    Udp,
    /// Certificates, and whom to trust.
    Tls,
    /// Programs behind connections: -- CMD.
    Programs,
    /// A server among services: passed sockets, signals, reload.
    Service,
    /// What the exit status says.
    ExitCodes,
    /// The events of --json.
    Json,
}

/// `adit connect`
#[derive(Debug, Args)]
pub(crate) struct Connect {
    /// Where to connect: HOST:PORT, HOST PORT, PORT, udp://HOST:PORT, a Unix socket's path; or a program,
    /// exec:./PROGRAM,arg=ARGUMENT
    #[arg(required = true, num_args = 1.., value_name = "ADDR")]
    pub(crate) words: Vec<String>,
    #[command(flatten)]
    pub(crate) net: Net,
    #[command(flatten)]
    pub(crate) tls: Tls,
    #[command(flatten)]
    pub(crate) client: Client,
    #[command(flatten)]
    pub(crate) limits: Limits,
    #[command(flatten)]
    pub(crate) talk: Talk,
    #[command(flatten)]
    pub(crate) watch: Watch,
    /// Which end of input ends the command [default: both; from a terminal: peer]
    #[arg(long, value_name = "WHO", help_heading = "The end of input")]
    pub(crate) end: Option<End>,
    /// At the end of input: pass it on at once, or keep sending open until the peer ends
    #[arg(long, value_name = "WHAT", default_value = "send", help_heading = "The end of input")]
    pub(crate) eof: Eof,
    /// Wait so long for the answer after the end of input [default: for ever; datagrams: 5s]
    #[arg(long, value_name = "TIME", value_parser = parse_time, allow_negative_numbers = true, help_heading = "The end of input")]
    pub(crate) linger: Option<Duration>,
    /// How input becomes messages and messages become output (adit help udp)
    #[arg(long, value_name = "FRAME", help_heading = "What is said")]
    pub(crate) frame: Option<String>,
    /// Send LF as CRLF
    #[arg(short = 'C', long, help_heading = "What is said")]
    pub(crate) crlf: bool,
    /// Connect again so often when the connection fails or is lost; `forever`
    #[arg(long, value_name = "N", value_parser = parse_retry, allow_negative_numbers = true, default_value = "0", help_heading = "Connecting")]
    pub(crate) retry: Retry,
    /// Random waits between tries: from nothing to A, doubling up to B
    #[arg(long, value_name = "A..B", value_parser = parse_backoff, allow_negative_numbers = true, default_value = "100ms..30s", help_heading = "Connecting")]
    pub(crate) backoff: adit::Backoff,
    /// Only send: read nothing, and over datagrams expect no answer
    #[arg(long, conflicts_with = "recv_only", help_heading = "The end of input")]
    pub(crate) send_only: bool,
    /// Only receive: standard input is not read
    #[arg(long, help_heading = "The end of input")]
    pub(crate) recv_only: bool,
    /// Only see whether the port is open, as `adit wait --once`
    #[arg(short = 'z', help_heading = "Connecting")]
    pub(crate) probe: bool,
    #[command(flatten)]
    pub(crate) run: Run,
}

/// `adit serve`
#[derive(Debug, Args)]
pub(crate) struct Serve {
    /// A service (echo upper discard daytime time chargen chat) and where to serve it; without a
    /// service, talk to all clients by hand; without an address, at the sockets that were passed
    #[arg(num_args = 1.., value_name = "[SERVICE] ADDR")]
    pub(crate) words: Vec<String>,
    #[command(flatten)]
    pub(crate) net: Net,
    #[command(flatten)]
    pub(crate) tls: Tls,
    #[command(flatten)]
    pub(crate) limits: Limits,
    #[command(flatten)]
    pub(crate) talk: Talk,
    #[command(flatten)]
    pub(crate) watch: Watch,
    #[command(flatten)]
    pub(crate) house: House,
    /// How typed lines become messages to datagram clients, and theirs become output
    #[arg(long, value_name = "FRAME", help_heading = "What is said")]
    pub(crate) frame: Option<String>,
    /// Send typed LF as CRLF
    #[arg(short = 'C', long, help_heading = "What is said")]
    pub(crate) crlf: bool,
    #[command(flatten)]
    pub(crate) run: Run,
    #[command(flatten)]
    pub(crate) behind: Behind,
}

/// Flags of a program behind what listens: -- CMD of serve, exec: of forward.
#[derive(Debug, Args)]
#[command(next_help_heading = "Programs")]
pub(crate) struct Behind {
    /// Programs at once; newcomers wait in the kernel's queue [default: 40]
    #[arg(long, value_name = "N", value_parser = parse_children, allow_negative_numbers = true)]
    pub(crate) max_children: Option<usize>,
    /// Let everyone who can reach the address have the program run
    #[arg(long)]
    pub(crate) open: bool,
    /// Run the program as this user, with its groups and no way back
    #[arg(long, value_name = "NAME")]
    pub(crate) user: Option<String>,
    /// Keep the program to limits and to a part of the machine, which is said at start
    #[arg(long)]
    pub(crate) sandbox: bool,
    /// Give the program the socket itself: limits, counts and the close are then the program's
    #[arg(long)]
    pub(crate) fd: bool,
    /// One program for all peers, in frames: --frame len32 (adit help programs)
    #[arg(long)]
    pub(crate) worker: bool,
}

/// A program in the place of the keyboard, or of a service.
#[derive(Debug, Args)]
#[command(next_help_heading = "Programs")]
pub(crate) struct Run {
    /// Pass a variable of the environment on to the program, besides those it has anyway
    #[arg(long, value_name = "NAME")]
    pub(crate) env: Vec<String>,
    /// Have a shell read the program: sh -c CMD
    #[arg(long)]
    pub(crate) sh: bool,
    /// A program instead: what comes is its input, what it prints is sent (adit help programs)
    #[arg(last = true, value_name = "CMD", help_heading = None::<&str>)]
    pub(crate) cmd: Vec<String>,
}

/// `adit forward`
#[derive(Debug, Args)]
pub(crate) struct Forward {
    /// Where to listen, and where to go on to: an address, or a program, exec:./PROGRAM,arg=ARGUMENT
    #[arg(required = true, num_args = 1.., value_name = "LISTEN TARGET")]
    pub(crate) words: Vec<String>,
    #[command(flatten)]
    pub(crate) net: Net,
    #[command(flatten)]
    pub(crate) tls: Tls,
    #[command(flatten)]
    pub(crate) client: Client,
    #[command(flatten)]
    pub(crate) limits: ForwardLimits,
    #[command(flatten)]
    pub(crate) say: Say,
    #[command(flatten)]
    pub(crate) watch: Watch,
    #[command(flatten)]
    pub(crate) house: House,
    /// Begin every connection to the target with a PROXY header that names the client
    #[arg(long, value_name = "v1|v2", value_parser = parse_proxy_version)]
    pub(crate) proxy_out: Option<adit::ProxyVersion>,
    /// Pass a variable of the environment on to the program of exec:
    #[arg(long, value_name = "NAME", help_heading = "Programs")]
    pub(crate) env: Vec<String>,
    #[command(flatten)]
    pub(crate) behind: Behind,
}

/// `adit explain`
#[derive(Debug, Args)]
pub(crate) struct Explain {
    /// Where to listen and where to go on to; or one trace, or the traces of both ends
    #[arg(required = true, num_args = 1.., value_name = "LISTEN TARGET | FILE [FILE]")]
    pub(crate) words: Vec<String>,
    /// Which picture
    #[arg(long, value_name = "VIEW", default_value = "sequence")]
    pub(crate) view: View,
    /// Draw into a file: its name ends in .txt .svg .html .jsonl .pcapng or .mmd
    #[arg(long, value_name = "FILE")]
    pub(crate) out: Option<std::path::PathBuf>,
    /// The lecture's names for sockets and streams, or plain ones
    #[arg(long, value_name = "WHOSE", default_value = "lecture")]
    pub(crate) names: Names,
    /// Only the conversation with this number
    #[arg(long, value_name = "N")]
    pub(crate) conn: Option<u64>,
    /// First bytes of payload that are kept: a number, or none
    #[arg(long, value_name = "N|none", value_parser = parse_payload, default_value = "64")]
    pub(crate) payload: adit::event::Payload,
    #[command(flatten)]
    pub(crate) net: Net,
    #[command(flatten)]
    pub(crate) tls: Tls,
    #[command(flatten)]
    pub(crate) client: Client,
    #[command(flatten)]
    pub(crate) limits: ForwardLimits,
    #[command(flatten)]
    pub(crate) say: Say,
    #[command(flatten)]
    pub(crate) house: House,
    /// Begin every connection to the target with a PROXY header that names the client
    #[arg(long, value_name = "v1|v2", value_parser = parse_proxy_version)]
    pub(crate) proxy_out: Option<adit::ProxyVersion>,
}

/// The pictures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum View {
    /// Two lifelines and an arrow for each message.
    Sequence,
    /// The same as steps of two programs, without times and ports.
    Steps,
    /// Writes and reads on one scale of bytes.
    Ruler,
    /// Keyboard, streams and sockets with byte counts.
    Streams,
    /// Process, door and kernel.
    Layers,
    /// Hosts, programs and sockets.
    Hosts,
}

/// Whose names sockets and streams have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Names {
    Lecture,
    Plain,
}

/// `adit lab`
#[derive(Debug, Args)]
#[command(disable_help_subcommand = true)]
pub(crate) struct Lab {
    #[command(subcommand)]
    pub(crate) what: Experiment,
}

/// What the lab has.
#[derive(Debug, Subcommand)]
pub(crate) enum Experiment {
    /// Carry connections from LISTEN to TARGET and cut them: split, join, delay, break
    Cut(Box<Cut>),
}

/// `adit lab cut`
#[derive(Debug, Args)]
// Datagrams are refused with a reason; there is no use in naming the flag.
#[command(mut_arg("udp", |udp| udp.hide(true)))]
pub(crate) struct Cut {
    /// Where to listen, and where to go on to
    #[arg(required = true, num_args = 1.., value_name = "LISTEN TARGET")]
    pub(crate) words: Vec<String>,
    /// What decides where to cut and how: the same number, the same decisions [default: any, and said]
    #[arg(long, value_name = "N", value_parser = parse_seed, allow_negative_numbers = true)]
    pub(crate) seed: Option<u64>,
    /// What may happen to a stream
    #[arg(long, value_name = "MODE", default_value = "gentle")]
    pub(crate) mode: CutMode,
    /// Cut each way behind byte N and nowhere else
    #[arg(long, value_name = "N", value_parser = parse_behind, allow_negative_numbers = true)]
    pub(crate) at: Option<u64>,
    #[command(flatten)]
    pub(crate) net: Net,
    #[command(flatten)]
    pub(crate) client: Client,
    #[command(flatten)]
    pub(crate) limits: ForwardLimits,
    #[command(flatten)]
    pub(crate) say: Say,
    #[command(flatten)]
    pub(crate) house: House,
}

/// What may happen to a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum CutMode {
    /// Writes are split, joined and delayed, ends come late; nothing is lost.
    Gentle,
    /// That, and both ends are reset in the middle.
    Reset,
    /// That, and the receiver reads a clean end in the middle, the sender a reset.
    Truncate,
}

/// `adit demo`
#[derive(Debug, Args)]
pub(crate) struct Demo {
    /// Draw what happened into a file: its name ends in .html .svg .txt .jsonl .pcapng or .mmd
    #[arg(long, value_name = "FILE")]
    pub(crate) out: Option<std::path::PathBuf>,
}

/// Flags of everything that listens.
#[derive(Debug, Args)]
#[command(next_help_heading = "Serving")]
pub(crate) struct House {
    /// Connections at once; what becomes of newcomers says --when-full
    #[arg(long, value_name = "N|off", value_parser = parse_count, allow_negative_numbers = true, default_value = "1024")]
    pub(crate) max_conns: adit::Limit<usize>,
    /// How long conversations may take to finish after SIGTERM
    #[arg(long, value_name = "TIME", value_parser = parse_time, allow_negative_numbers = true, default_value = "30s")]
    pub(crate) drain: Duration,
    /// Serve one conversation, then exit with its code
    #[arg(long)]
    pub(crate) once: bool,
    /// Write a line per socket to descriptor N once it can be connected to, then close it
    #[arg(long, value_name = "N", value_parser = parse_descriptor, allow_negative_numbers = true)]
    pub(crate) ready_fd: Option<i32>,
    /// Write the same lines to standard output
    #[arg(long)]
    pub(crate) print_addr: bool,
    /// Let SIGHUP read certificates and the files of --allow and --deny again, as without a terminal
    #[arg(long)]
    pub(crate) reload: bool,
    #[command(flatten)]
    pub(crate) gate: Gate,
}

/// Flags that say who is let in.
#[derive(Debug, Args)]
#[command(next_help_heading = "Who may come")]
pub(crate) struct Gate {
    #[command(flatten)]
    pub(crate) access: AccessRules,
    /// At --max-conns and under load newcomers wait, are refused, or one makes room (adit help service)
    #[arg(long, value_name = "WHAT", default_value = "wait")]
    pub(crate) when_full: WhenFull,
    /// Connections at once of one IPv4 address or IPv6 /64; not counted on this machine
    #[arg(long, value_name = "N|off", value_parser = parse_count, allow_negative_numbers = true, default_value = "100")]
    pub(crate) per_source: adit::Limit<usize>,
    /// New connections a second of one such source, twice as many at once; not counted on this machine
    #[arg(long, value_name = "N|off", value_parser = parse_rate, allow_negative_numbers = true, default_value = "50")]
    pub(crate) conn_rate: adit::Limit<adit::Rate>,
    /// Bytes a second of one such source, each way, on this machine too: it is slowed, datagrams dropped
    #[arg(long, value_name = "RATE|off", value_parser = parse_byte_rate, allow_negative_numbers = true, default_value = "off")]
    pub(crate) byte_rate: adit::Limit<adit::ByteRate>,
    /// Connections begin with a PROXY header (v1 or v2) that names the client; needs --proxy-from
    #[arg(long)]
    pub(crate) proxy_in: bool,
    /// Where proxies are: an address or a network; nobody else may connect [repeatable]
    #[arg(long, value_name = "NETWORK", value_parser = parse_network)]
    pub(crate) proxy_from: Vec<adit::Network>,
}

/// What becomes of newcomers at the limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum WhenFull {
    Wait,
    Refuse,
    Shed,
}

/// `--allow` and `--deny`, in the order in which they were written.
#[derive(Debug, Default)]
pub(crate) struct AccessRules(pub(crate) Vec<(adit::Access, Networks)>);

impl AccessRules {
    /// Is it written who may come? Then nobody else may.
    pub(crate) fn says_who(&self) -> bool {
        self.0.iter().any(|(access, _)| *access == adit::Access::Allow)
    }
}

/// What stands behind `--allow` or `--deny`.
#[derive(Clone, Debug)]
pub(crate) enum Networks {
    One(adit::Network),
    /// A file with one a line.
    File(std::path::PathBuf),
}

const ACCESS_FLAGS: [(&str, adit::Access, &str); 2] = [
    (
        "allow",
        adit::Access::Allow,
        "Let these in, and nobody else: an address, a network, or a file with one a line. Of --allow \
         and --deny the first that fits decides [repeatable]",
    ),
    (
        "deny",
        adit::Access::Deny,
        "Keep these out; without --allow everybody else may come [repeatable]",
    ),
];

/// Written by hand: a derived struct does not keep the order of two flags.
impl Args for AccessRules {
    fn augment_args(command: clap::Command) -> clap::Command {
        let flag = |(name, _, help): (&'static str, adit::Access, &'static str)| {
            clap::Arg::new(name)
                .long(name)
                .value_name("NETWORK|@FILE")
                .value_parser(parse_networks)
                .action(clap::ArgAction::Append)
                .help(help)
        };
        command.args(ACCESS_FLAGS.map(flag))
    }

    fn augment_args_for_update(command: clap::Command) -> clap::Command {
        Self::augment_args(command)
    }
}

impl clap::FromArgMatches for AccessRules {
    fn from_arg_matches(matches: &clap::ArgMatches) -> Result<Self, clap::Error> {
        let mut rules = Self::default();
        rules.update_from_arg_matches(matches)?;
        Ok(rules)
    }

    fn update_from_arg_matches(&mut self, matches: &clap::ArgMatches) -> Result<(), clap::Error> {
        let mut placed = Vec::new();
        for (name, access, _) in ACCESS_FLAGS {
            let places = matches.indices_of(name).into_iter().flatten();
            let values = matches.get_many::<Networks>(name).into_iter().flatten();
            placed.extend(places.zip(values).map(|(at, value)| (at, (access, value.clone()))));
        }
        placed.sort_by_key(|(at, _)| *at);
        self.0 = placed.into_iter().map(|(_, rule)| rule).collect();
        Ok(())
    }
}

/// Limits of what is forwarded; `adit help exit-codes` says what happens when one expires.
#[derive(Debug, Args)]
#[command(next_help_heading = "Limits")]
pub(crate) struct ForwardLimits {
    /// No byte either way for so long [default: 300s]
    #[arg(long, value_name = "TIME", value_parser = parse_limit)]
    pub(crate) idle: Option<adit::Limit<Duration>>,
    /// One side takes nothing of what the other has sent for so long [default: 300s]
    #[arg(long, value_name = "TIME", value_parser = parse_limit)]
    pub(crate) stall: Option<adit::Limit<Duration>>,
    /// The whole conversation [default: off]
    #[arg(long, value_name = "TIME", value_parser = parse_limit)]
    pub(crate) max_time: Option<adit::Limit<Duration>>,
}

/// `adit wait`
#[derive(Debug, Args)]
pub(crate) struct Wait {
    /// What to wait for
    #[arg(required = true, num_args = 1.., value_name = "ADDR")]
    pub(crate) words: Vec<String>,
    #[command(flatten)]
    pub(crate) net: Net,
    #[command(flatten)]
    pub(crate) tls: Tls,
    #[command(flatten)]
    pub(crate) client: Client,
    /// Give up after this time, with exit status 124
    #[arg(long = "for", value_name = "TIME", value_parser = parse_time, allow_negative_numbers = true, default_value = "30s")]
    pub(crate) period: Duration,
    /// What has to be true of the port [default: open; datagrams: reply]
    #[arg(long, value_name = "STATE")]
    pub(crate) until: Option<Until>,
    /// One of the addresses is enough
    #[arg(long)]
    pub(crate) any: bool,
    /// Look once; do not wait
    #[arg(long)]
    pub(crate) once: bool,
    /// What to send to a datagram server every 250 ms
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub(crate) send: String,
    #[command(flatten)]
    pub(crate) talk: Say,
}

/// Flags of everything that opens sockets.
#[derive(Debug, Args)]
#[command(next_help_heading = "Addresses")]
pub(crate) struct Net {
    /// Over UDP
    #[arg(short = 'u')]
    pub(crate) udp: bool,
    /// Over a Unix socket
    #[arg(short = 'U')]
    pub(crate) unix: bool,
    /// Over IPv4 only
    #[arg(short = '4', conflicts_with = "v6")]
    pub(crate) v4: bool,
    /// Over IPv6 only
    #[arg(short = '6')]
    pub(crate) v6: bool,
    /// Look up no names
    #[arg(short = 'n')]
    pub(crate) numeric: bool,
}

/// TLS. What an address says itself counts more.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "TLS")]
pub(crate) struct Tls {
    /// Over TLS, as tls:// says; trust: verify, pin:sha256:HEX or insecure; a server's certificate: auto
    #[arg(long, value_name = "HOW", num_args = 0..=1, require_equals = true, default_missing_value = "verify")]
    pub(crate) tls: Option<String>,
    /// A PEM file with our certificate, and its key unless --key names another
    #[arg(long, value_name = "FILE")]
    pub(crate) cert: Option<String>,
    /// The PEM file with the key of --cert
    #[arg(long, value_name = "FILE")]
    pub(crate) key: Option<String>,
    /// Trust the authorities of a PEM file instead of the system's [clients]
    #[arg(long, value_name = "FILE")]
    pub(crate) ca: Option<String>,
    /// Let in only clients with a certificate of these authorities [servers]
    #[arg(long, value_name = "FILE")]
    pub(crate) client_ca: Option<String>,
    /// Ask for this name instead of the host, and want a certificate for it [clients]
    #[arg(long, value_name = "NAME")]
    pub(crate) sni: Option<String>,
    /// Protocols to agree on, the preferred first: h2+http/1.1
    #[arg(long, value_name = "NAMES")]
    pub(crate) alpn: Option<String>,
    /// Time for the TLS handshake, with the PROXY header before it in total [default: 10s]
    #[arg(long, value_name = "TIME", value_parser = parse_limit, allow_negative_numbers = true)]
    pub(crate) handshake_timeout: Option<adit::Limit<Duration>>,
}

/// Flags of everything that connects.
#[derive(Debug, Args)]
#[command(next_help_heading = "Connecting")]
pub(crate) struct Client {
    /// Our own address
    #[arg(short = 's', value_name = "ADDR", value_parser = parse_ip)]
    pub(crate) source: Option<IpAddr>,
    /// Our own port
    #[arg(short = 'p', value_name = "PORT", value_parser = parse_port, allow_negative_numbers = true)]
    pub(crate) source_port: Option<u16>,
    /// Time for names, addresses and connecting, in total [default: 10s]
    #[arg(short = 'w', long, value_name = "TIME", value_parser = parse_time, allow_negative_numbers = true)]
    pub(crate) connect_timeout: Option<Duration>,
}

/// Limits of a conversation; `adit help exit-codes` says what happens when one expires.
#[derive(Debug, Args)]
#[command(next_help_heading = "Limits")]
pub(crate) struct Limits {
    /// A started message has to be whole in this time [default: 30s; serve]
    #[arg(long, value_name = "TIME", value_parser = parse_limit, allow_negative_numbers = true)]
    pub(crate) message_timeout: Option<adit::Limit<Duration>>,
    /// The first byte has to come in this time [default: off; serve]
    #[arg(long, value_name = "TIME", value_parser = parse_limit, allow_negative_numbers = true)]
    pub(crate) first_message: Option<adit::Limit<Duration>>,
    /// No byte either way for so long [default: 300s; connect, by hand: off]
    #[arg(long, value_name = "TIME", value_parser = parse_limit, allow_negative_numbers = true)]
    pub(crate) idle: Option<adit::Limit<Duration>>,
    /// The peer takes nothing it is owed for so long [default: 30s; connect 120s, by hand 300s]
    #[arg(long, value_name = "TIME", value_parser = parse_limit, allow_negative_numbers = true)]
    pub(crate) stall: Option<adit::Limit<Duration>>,
    /// The whole conversation [default: off]
    #[arg(long, value_name = "TIME", value_parser = parse_limit, allow_negative_numbers = true)]
    pub(crate) max_time: Option<adit::Limit<Duration>>,
}

/// How the command talks.
#[derive(Debug, Args)]
#[command(next_help_heading = "What is said")]
pub(crate) struct Talk {
    #[command(flatten)]
    pub(crate) say: Say,
    /// Who said a line: address and number, one of them, or nothing
    #[arg(long, value_name = "HOW", default_value = "auto")]
    pub(crate) label: Label,
    /// Colour on a terminal
    #[arg(long, value_name = "WHEN", default_value = "auto")]
    pub(crate) color: Color,
    /// Let control characters of the peer reach the terminal
    #[arg(long)]
    pub(crate) raw: bool,
}

/// Flags to see what happens on the sockets.
#[derive(Debug, Args)]
#[command(next_help_heading = "What is seen")]
pub(crate) struct Watch {
    /// Say each socket call: socket, bind, listen, accept, connect, read, write, close
    #[arg(long)]
    pub(crate) steps: bool,
    /// Dump the bytes that go each way, in hexadecimal and as text, to standard error
    #[arg(long)]
    pub(crate) hex: bool,
    /// Copy what the peers send to FILE, as it is
    #[arg(long, value_name = "FILE")]
    pub(crate) tee: Option<std::path::PathBuf>,
    /// Write every event to FILE, to be drawn by `adit explain FILE`
    #[arg(long, value_name = "FILE")]
    pub(crate) trace: Option<std::path::PathBuf>,
    /// First bytes of payload in events and steps: a number, or none [default: none; steps: 32]
    #[arg(long, value_name = "N|none", value_parser = parse_payload, allow_negative_numbers = true)]
    pub(crate) payload: Option<adit::event::Payload>,
}

/// How much the command says.
#[derive(Debug, Args)]
#[command(next_help_heading = "What is said")]
pub(crate) struct Say {
    /// Events as JSON lines, on standard error where standard output is payload; =stdout: instead of it
    #[arg(
        long,
        value_name = "stdout",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "stderr",
        hide_possible_values = true
    )]
    pub(crate) json: Option<Json>,
    /// Say more
    #[arg(short = 'v', long, overrides_with = "verbose")]
    pub(crate) verbose: bool,
    /// Say only what went wrong
    #[arg(long, conflicts_with = "verbose")]
    pub(crate) quiet: bool,
}

/// Where JSON goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Json {
    Stderr,
    Stdout,
}

/// Which end of input ends a `connect`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum End {
    Both,
    Peer,
    Local,
}

/// What the end of input does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Eof {
    Send,
    Hold,
}

/// Labels in front of lines of peers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Label {
    Auto,
    Addr,
    Number,
    None,
}

/// Colour on a terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Color {
    Auto,
    Never,
    Always,
}

/// What to wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Until {
    Open,
    Closed,
    Reply,
}

/// How often to connect again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Retry {
    Times(u32),
    Forever,
}

fn parse_time(text: &str) -> Result<Duration, BadValue> {
    Ok(parse_duration(text)?)
}

fn parse_limit(text: &str) -> Result<adit::Limit<Duration>, BadValue> {
    match text {
        "off" => Ok(adit::Limit::Off),
        text => Ok(adit::Limit::At(parse_duration(text)?)),
    }
}

fn parse_ip(text: &str) -> Result<IpAddr, BadValue> {
    let bad = || BadValue::new(text, "IP address", "write one of this host's, as 192.0.2.7");
    text.parse().map_err(|_no_address| bad())
}

fn parse_port(text: &str) -> Result<u16, BadValue> {
    let bad = || BadValue::new(text, "port", "write a number from 0 to 65535");
    text.parse().map_err(|_no_port| bad())
}

fn parse_descriptor(text: &str) -> Result<i32, BadValue> {
    let bad = || BadValue::new(text, "descriptor", "write its number, as in --ready-fd 3 3>FILE");
    text.parse().ok().filter(|number| *number >= 0).ok_or_else(bad)
}

fn parse_count(text: &str) -> Result<adit::Limit<usize>, BadValue> {
    match text {
        "off" => Ok(adit::Limit::Off),
        text => match text.parse() {
            Ok(0) | Err(_) => Err(BadValue::new(text, "limit", "write a number from 1, or off")),
            Ok(count) => Ok(adit::Limit::At(count)),
        },
    }
}

fn parse_children(text: &str) -> Result<usize, BadValue> {
    let bad = || BadValue::new(text, "count", "write how many may run at once, from 1 to 65536");
    text.parse().ok().filter(|count| (1..=1 << 16).contains(count)).ok_or_else(bad)
}

fn parse_rate(text: &str) -> Result<adit::Limit<adit::Rate>, BadValue> {
    let hint = "write a number from 1, as in 50 or 50/s, or off";
    match text {
        "off" => Ok(adit::Limit::Off),
        text => match text.strip_suffix("/s").unwrap_or(text).parse::<u32>() {
            Ok(0) | Err(_) => Err(BadValue::new(text, "rate", hint)),
            Ok(per_second) => {
                let burst = per_second.saturating_mul(2);
                Ok(adit::Limit::At(adit::Rate { per_second, burst }))
            }
        },
    }
}

fn parse_byte_rate(text: &str) -> Result<adit::Limit<adit::ByteRate>, BadValue> {
    let hint = "write bytes a second, as in 64kB/s or 1MB/s, or off";
    match text {
        "off" => Ok(adit::Limit::Off),
        text => match parse_size(text.strip_suffix("/s").unwrap_or(text)) {
            Ok(0) | Err(_) => Err(BadValue::new(text, "rate", hint)),
            Ok(bytes) => Ok(adit::Limit::At(adit::ByteRate::per_second(bytes))),
        },
    }
}

fn parse_network(text: &str) -> Result<adit::Network, BadValue> {
    Ok(text.parse::<adit::Network>()?)
}

fn parse_networks(text: &str) -> Result<Networks, BadValue> {
    match text.strip_prefix('@') {
        Some(file) => Ok(Networks::File(file.into())),
        None => Ok(Networks::One(parse_network(text)?)),
    }
}

fn parse_proxy_version(text: &str) -> Result<adit::ProxyVersion, BadValue> {
    match text {
        "v1" => Ok(adit::ProxyVersion::V1),
        "v2" => Ok(adit::ProxyVersion::V2),
        text => Err(BadValue::new(text, "version of the PROXY header", "write v1 or v2")),
    }
}

fn parse_seed(text: &str) -> Result<u64, BadValue> {
    text.parse().map_err(|_no_number| BadValue::new(text, "seed", "write any number from 0"))
}

fn parse_behind(text: &str) -> Result<u64, BadValue> {
    let hint = "write how many bytes go before the cut, from 0";
    text.parse().map_err(|_no_number| BadValue::new(text, "number of bytes", hint))
}

fn parse_retry(text: &str) -> Result<Retry, BadValue> {
    match text {
        "forever" => Ok(Retry::Forever),
        text => {
            let bad = || BadValue::new(text, "count", "write a number below 4 billion, or forever");
            text.parse().map(Retry::Times).map_err(|_no_number| bad())
        }
    }
}

fn parse_backoff(text: &str) -> Result<adit::Backoff, BadValue> {
    let hint = "write two times, the shorter one first: 100ms..30s";
    let (first, max) =
        text.split_once("..").ok_or_else(|| BadValue::new(text, "range of times", hint))?;
    let backoff = adit::Backoff { first: parse_duration(first)?, max: parse_duration(max)? };
    if backoff.first > backoff.max {
        return Err(BadValue::said(format!("{first} is longer than {max}"), hint));
    }
    Ok(backoff)
}

fn parse_payload(text: &str) -> Result<adit::event::Payload, BadValue> {
    match text {
        "none" => Ok(adit::event::Payload::None),
        text => {
            let bytes = parse_size(text)?;
            Ok(adit::event::Payload::First(usize::try_from(bytes).unwrap_or(usize::MAX)))
        }
    }
}

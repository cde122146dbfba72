//! `adit help TOPIC`.

use crate::args::Topic;

/// The text of a topic.
pub(crate) fn text(topic: Topic) -> &'static str {
    match topic {
        Topic::Addresses => ADDRESSES,
        Topic::Eof => EOF,
        Topic::Udp => UDP,
        Topic::Tls => TLS,
        Topic::Programs => PROGRAMS,
        Topic::Service => SERVICE,
        Topic::ExitCodes => EXIT_CODES,
        Topic::Json => JSON,
    }
}

const ADDRESSES: &str = "\
Addresses, the same in every subcommand:

  8080               this machine: 127.0.0.1 and [::1]
  :8080, *:8080      every network, IPv4 and IPv6; to connect to: this machine
  HOST:80, HOST 80   a name or an IPv4 address
  [::1]:80, ::1 80   an IPv6 address
  :http              a port by its name
  0, :0              listen on any free port
  udp://HOST:53      over UDP; also with -u. tcp:// is what is meant without a scheme
  /run/a, ./a, @a    a Unix socket: by path, or by an abstract name
  unix-dgram:./a     a Unix datagram socket
  tls://HOST:443     over TLS; also with --tls. tls+unix:/run/a over a Unix socket (adit help tls)
  exec:./p,arg=-x    a program without a shell, as a target of connect and forward (adit help programs)
  systemd:NAME, fd:3 for a server: a socket that was passed to it (adit help service)

Options follow a comma: udp://HOST:53,ttl=1,broadcast
  sndbuf= rcvbuf=    buffers, as in 64kB          ttl= tos=      IP header fields
  v6only             [::] leaves IPv4 alone       broadcast      allow broadcast
  mode=600           permissions of a Unix socket amplify=3      UDP bytes answered per byte
  ca= pin= sni=      whom a client trusts         cert= key=     our certificate, as PEM files
  client-ca=         whom a server lets in        alpn=h2+..     protocols  tls=insecure|auto
A comma inside a path or an argument is written %2C.
";

const EOF: &str = "\
The end of input:

  Standard input ends (Ctrl-D, end of a pipe or file): our direction of the connection ends, the
  peer reads an end of stream, and its answer is awaited for as long as it takes.
  The peer ends: on a terminal the command ends; from a pipe, sending goes on until input ends.

  --end both|peer|local   which end of input ends the command
  --eof send|hold         pass the end on, or keep our direction open until the peer ends: for
                          servers that take a half-close for a hang-up
  --linger TIME           give up waiting for the answer after so long (exit 124)

  A reset is never a clean end: what came is printed, then exit 1 with code=reset. Nor is a TLS stream
  that ends without its closing message: code=truncated.
  Exit 0 means: the peer's system acknowledged every byte we sent, we wrote out every byte it
  sent, and both directions ended cleanly.
";

const UDP: &str = "\
Datagrams keep their edges, and are not promised to arrive:

  Each line of input is one datagram, an empty line an empty one; each answer is a line of output.
  --frame line-nl | delim:TEXT | null | len32 | fixed:N | json | hex | chunk:N | whole
                          other ways to cut input into messages; output has the same form
  Longer than 65,507 bytes: code=too-big, nothing of it is sent; --frame chunk:1200 cuts.

  Nothing on the wire says that input has ended. The first answer is awaited for 5 s
  (--linger), further ones until 1 s of quiet. No answer at all: exit 1, code=no-answer.
  --send-only expects none. A port where nobody listens: exit 1, code=refused.

  A server answers from the address that was asked. The sender of a datagram is only claimed, so off
  this machine a source is sent at most 3 bytes per byte received (amplify=N), 100 answers a second,
  200 at once; it may have 100 ports at once (--per-source). Never answered are a server's own
  address and the ports 0 7 17 19 53 111 123 137 138 161 389 500; 1900 5353 11211 at 10 a second.
  53 and 123 are answered with amplify=N and by forward, which has no cap.
  Two servers that answer each other are stopped: of datagrams that bring back the last answer, one
  in 100 is dropped (limit loop), one in 10,000 from a client's port of this machine.
  What the kernel, or a limit, drops is counted: limit events with --json, dropped in the summary.
";

const TLS: &str = "\
TLS 1.3 and 1.2 over TCP and Unix sockets: connect, serve, wait, both ends of forward and explain

  adit tls://HOST:443              its certificate is for HOST, by an authority of this system
    --ca FILE                      or by one of these, as PEM; or it is one of these itself
    --tls=pin:sha256:HEX           or it is this very one, whatever it says
    --tls=insecure                 or anybody's: warns every time
    --sni NAME                     ask for this name, and want a certificate for it
    --cert FILE --key FILE         our own, for servers that want one
  adit serve echo :7000 --tls=auto     makes a certificate (90 days, kept) and prints its pin
  adit serve echo :7000 --tls --cert FILE --key FILE
    --client-ca FILE               lets in only clients with a certificate of these authorities
  adit forward tls://:443,cert=FILE,key=FILE 8080     takes TLS off
  adit forward 8080 tls://HOST:443                    puts it on

  The same stand in addresses: tls://HOST:443,pin=sha256:..  What an address says counts more.
  A key that everybody can read is refused. Certificates are PEM, the server's own first.

  At the end of input a closing message goes out, and the answer is awaited. A stream that ends
  without one has been cut: exit 1, code=truncated. Over TLS 1.2 the end of our input may cost the
  answer: --eof hold keeps it.
  --handshake-timeout TIME (10 s) bounds the handshake; -w, --idle and --max-time hold there, too.

  tls-untrusted tls-name tls-expired   of the server: nobody vouches for it; other names; dates
  tls-client-cert                      a client without the certificate that its server wants
  tls-plain-peer                       the other side speaks no TLS
  tls-version tls-alert                nothing in common; broken off
  A plain client of a TLS port is reset. -v names version, cipher and certificate. Programs behind
  TLS learn ADIT_TLS_VERSION, and ADIT_TLS_PEER_SHA256 of a client that has shown a certificate.
";

const PROGRAMS: &str = "\
A program in any language, one process for each connection or datagram:

  adit serve 7000 -- ./answer --slowly     its standard input and output are the connection
  adit serve udp://7000 -- ./answer        one datagram is its input, what it prints is the answer
  adit HOST 7000 -- ./ask                  the same on the client's side
  adit forward 7000 exec:./answer,arg=-x   a target: a process for each connection, no shell
  adit exec:./answer                       standard input and output to a program, its status counts

  The peer's end is the end of its input; it may go on writing. When it ends, what it has written is
  sent, then our direction ends. Any status but 0 is told: code=handler; the server lives on.
  No shell reads the words; --sh -- 'CMD | CMD' asks for one.

  --max-children N   at once (40); newcomers wait in the kernel's queue
  --env NAME         pass a variable on. Always there: PATH HOME USER LOGNAME SHELL LANG LC_* TZ TMPDIR
  --allow NETWORK    who may have it run, where others than this machine can reach the address;
  --open             or everybody; as root also:
  --user NAME        run it as this user (--user root if it has to be)
  --idle, --max-time end what takes too long; see adit serve --help
  --fd               the socket itself is its input and output: limits on silence and stalls, counts,
                     and the close are the program's
  --sandbox          60 s of a processor, 1 GiB, 256 descriptors, 1,024 processes of its user; with
                     Landlock it reads /usr /lib /lib64 /bin /etc/ssl and itself, writes the current
                     folder, and its signals stay inside; calls that trace, mount, make namespaces and
                     the like are refused to it and to the server. The lines at the start say what
                     holds here
  --worker           one process for all peers, started again when it ends; --frame len32, which means

    4 bytes length of the rest, 8 bytes number of the conversation, 1 letter, payload; high byte first
    O  to it: a conversation begins; its variables, each with a NUL behind it
    D  both ways: bytes of the peer or for the peer; of datagrams, one whole one
    E  to it: the peer has ended its direction. From it: all is said
    C  to it: the conversation is over, the last of its number. From it: it has failed
    T  to it: the peer has taken so many bytes more (8 bytes); 1 MiB may be ahead of a peer

  Its environment tells of the peer, in numbers: PROTO (TCP UDP UNIX), TCPLOCALIP TCPLOCALPORT
  TCPREMOTEIP TCPREMOTEPORT (UDP..; UNIXLOCALPATH UNIXREMOTEEUID UNIXREMOTEEGID UNIXREMOTEPID),
  ADIT_SCHEME ADIT_CONN ADIT_PEER_ADDR ADIT_PEER_PORT ADIT_LOCAL_ADDR ADIT_LOCAL_PORT.
  It has descriptors 0, 1 and 2 and a process group. The group ends with the conversation: SIGTERM,
  then SIGKILL. Once the program has ended, others of its group may write on: a second without a
  word is the end (with --fd a second in any case). Nothing it has started outlives the server, not
  even by kill -9.
";

const SERVICE: &str = "\
A server among services:

  Sockets that are passed (LISTEN_FDS, as by a .socket unit) are served without an address;
  systemd:NAME and fd:N name some of them. They outlive the server: whoever connects while it is
  started again waits.

    adit serve upper                     all that were passed
    adit serve upper systemd:web 7000    those of one name, and port 7000
    adit forward HOST:80                 all that were passed, on to one target

  NOTIFY_SOCKET is told READY=1 once every socket listens, RELOADING=1, STOPPING=1, and WATCHDOG=1 as
  long as every I/O thread answers.

  SIGTERM  ends within --drain (30s), everybody to the end; a second one at once
  SIGHUP   without a terminal, or with --reload: reads certificates, their keys and authorities, and
           the files of --allow and --deny again, and what forward trusts and shows at its target. A
           bad one leaves the old one in force. New ones are for those who come; those who are there
           stay. From a terminal it ends the server, 129
  SIGUSR1  prints counts

  --byte-rate 1MB/s   bytes of each source, each way: connections are slowed, datagrams dropped
  --allow --deny --per-source --conn-rate --max-conns   who may come, and how many
  --when-full   what newcomers meet at --max-conns, at a thread that is late, and near the end of
                descriptors:
    wait        they wait in the kernel's queue
    refuse      they are closed at once (code=full)
    shed        so they are, but at --max-conns somebody makes room (code=shed): who owes a PROXY header
                or a handshake, the first who came before the others; else who is idle for longest

  The first lines say who can reach the server and what it lays open; -v adds its caps.

  Where something is short a line says what is done about it, and its last word what it is:
  memory         what all hold together: who holds much is not read, then newcomers wait, then some
                 are cut (code=shed), first whose peer does nothing
  lag            a thread is more than 100 ms late for its work: fewer newcomers, a few always
  descriptors    nine tenths are in use: what is left is for those who are there
  accept-queue   newcomers came faster than they are taken, and the kernel has dropped some: they
                 try again by themselves
";

const EXIT_CODES: &str = "\
Exit status, and the code= words that go with it:

  0    ok, drained: everything arrived and both directions ended cleanly
       (datagrams: everything was handed over and, unless --send-only, answered)
  1    the network: refused unreachable name no-answer self-connect no-ports, in-use no-address
       denied, reset truncated dead-peer lost full shed not-allowed rate-limited, tls-plain-peer
       tls-untrusted tls-name tls-expired tls-version tls-client-cert tls-alert, too-big
       bad-frame bad-proxy-header, no-fds no-memory handler panic internal
       (handler: with --once, or CMD of connect)
  2    usage, config, unsafe
  124  a limit that was set expired: connect-timeout handshake-timeout message-timeout idle-timeout
       stall-timeout linger-timeout max-time wait-timeout
       (a built-in limit that expires: 1 with the same word)
       (in close events also drain-timeout and stopped: cut by the end of the server)
  126, 127  cannot-run, not-found: the program of -- CMD
  141  the reader of standard output left, as in | head -1
  128+n  ended by signal n

A server's exit status is about the server: one bad conversation does not change it, except with
--once.
";

const JSON: &str = "\
--json: one event per line. connect and serve write them to standard error, or with --json=stdout to
standard output, payload included; forward, explain and wait, which have none, to standard output.

  {\"v\":1,\"n\":4,\"t\":51234,\"ev\":\"data\",\"conn\":2,\"peer\":\"127.0.0.1:4711\",\"dir\":\"in\",\"seq\":3,\"len\":5}

  v  version of the schema      n  number of the line, from 0     t  microseconds since start
  ev trace listen open data truncated half_close close lost limit error drain reload counts summary
  conn, peer   the conversation and its other end        dir  in | out, as seen from here
  listen  addr, reach (loopback host lan all)            open  local, via (a proxy)
  close   code, in, out (bytes), dt (microseconds)       lost  unconfirmed (bytes)
  limit   name, value, action, count; refuse: code       error code, text, where, fatal
  summary conns, in, out, errors, dropped, exit, code    drop   count: lines nobody read in time
  counts  (SIGUSR1) conns, in, out, errors, dropped; open, refused, lag (microseconds)
  in and out are missing where a program has the socket itself (--fd): nobody counts them.
  --payload N adds the first N bytes, as text or b64. The exit status is set as without --json.
  --steps adds the calls: socket bind listen accept connect close, with fd (and layer and by in files).
  --trace FILE writes the same for adit explain, with role (server client), off (bytes of the stream)
  or msg (number of the datagram), and nanoseconds behind the point of t and dt.
  lab cut adds seed (seed) and cut (conn, dir: up down, off: bytes before it, do, us: how long, seed).
  Readers pass over what they do not know.
";

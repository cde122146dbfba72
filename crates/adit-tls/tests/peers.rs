//! The other end is somebody else's: openssl, ncat, socat and curl, in both roles.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;
#[path = "common/tools.rs"]
mod tools;

use std::io::Write as _;
use std::net::SocketAddr;
use std::process::Command;

use adit_proto::code::Code;
use adit_proto::error::{Error, code_of};
use adit_tls::{ClientTls, HandshakeError, Info, Pin, ServerTls, TlsStream};
use common::{Authority, SOON, Scratch, expired, is_here, within};
use rcgen::DnType;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tools::{Ran, Theirs, own_address, run, tool};

/// The versions that adit speaks, as openssl calls them.
const VERSIONS: [(&str, &str); 2] = [("-tls1_2", "1.2"), ("-tls1_3", "1.3")];

/// Our server, waiting for one client.
struct Ours {
    listener: TcpListener,
    address: SocketAddr,
    tls: ServerTls,
}

impl Ours {
    async fn listen(tls: ServerTls) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        Self { listener, address, tls }
    }

    async fn accept(&self) -> Result<TlsStream<TcpStream>, HandshakeError<TcpStream>> {
        let (io, peer) = within(self.listener.accept()).await.unwrap();
        Box::pin(self.tls.accept(io, peer, SOON)).await
    }

    /// Reads a line, answers it in capitals, ends, and reads on to the end of the client.
    async fn answer(&self) -> Result<(Info, Result<Vec<u8>, Code>), Error> {
        let mut stream = self.accept().await?;
        let mut line = Vec::new();
        while !line.ends_with(b"\n") {
            line.push(within(stream.read_u8()).await.unwrap());
        }
        stream.write_all(&line.to_ascii_uppercase()).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut rest = Vec::new();
        let ended = within(stream.read_to_end(&mut rest)).await;
        Ok((stream.info(), ended.map(|_| rest).map_err(|error| code_of(&error))))
    }

    /// The same with a client of theirs on the other side.
    async fn serve(&self, words: &[&str], input: &str) -> (Ran, Result<Info, Error>) {
        let (ran, ours) = tokio::join!(run(tool(words, self.address), input), self.answer());
        (ran, ours.map(|(info, _)| info))
    }
}

/// Our client at a server of theirs.
async fn connect(tls: &ClientTls, address: SocketAddr) -> Result<TlsStream<TcpStream>, Error> {
    let io = within(TcpStream::connect(address)).await.unwrap();
    let peer = format!("localhost:{}", address.port());
    Ok(Box::pin(tls.connect(io, "localhost", peer, SOON)).await?)
}

fn s_server<'a>(files: &'a common::Files, more: &[&'a str]) -> Vec<&'a str> {
    let mut words = vec!["openssl", "s_server", "-accept", "HOST:PORT"];
    words.extend(["-cert", &files.cert, "-key", &files.key]);
    words.extend(more);
    words
}

#[tokio::test]
async fn openssl_as_client_is_served() {
    if !is_here("openssl") {
        return;
    }
    let authority = Authority::new();
    let ours = Ours::listen(authority.server().alpn(["adit"]).unwrap()).await;
    for (flag, version) in VERSIONS {
        let mut words = vec!["openssl", "s_client", "-connect", "HOST:PORT", flag, "-quiet"];
        words.extend(["-CAfile", &authority.ca, "-verify_return_error"]);
        words.extend(["-servername", "localhost", "-verify_hostname", "localhost"]);
        words.extend(["-alpn", "adit"]);
        let (ran, info) = ours.serve(&words, "hello\n").await;
        assert_eq!((ran.status, &*ran.out), (Some(0), "HELLO\n"), "{}", ran.err);
        let info = info.unwrap();
        assert_eq!(info.version, version);
        assert_eq!(info.alpn.as_deref(), Some(&b"adit"[..]));
        assert_eq!(info.server_name.as_deref(), Some("localhost"));
        assert!(info.cipher.starts_with("TLS_"), "{}", info.cipher);
    }
}

#[tokio::test]
async fn openssl_as_client_refuses_and_we_say_why() {
    if !is_here("openssl") {
        return;
    }
    let authority = Authority::new();
    let other = Authority::named("Another Authority");
    let old = authority.issue_with(&["localhost"], expired);
    let old = Ours::listen(ServerTls::files(&old.cert, &old.key).unwrap()).await;
    let good = Ours::listen(authority.server()).await;
    for (flag, _) in VERSIONS {
        let words = |ca| {
            let words = ["openssl", "s_client", "-connect", "HOST:PORT", flag, "-quiet"];
            [&words[..], &["-CAfile", ca, "-verify_return_error"]].concat()
        };
        let (ran, error) = good.serve(&words(&other.ca), "hello\n").await;
        assert_eq!(ran.status, Some(1));
        let error = error.unwrap_err();
        assert_eq!(error.code(), Code::TlsAlert);
        assert!(error.to_string().contains("alert unknown_ca"), "{error}");
        let (ran, error) = old.serve(&words(&authority.ca), "hello\n").await;
        assert_eq!(ran.status, Some(1));
        assert!(error.unwrap_err().to_string().contains("alert certificate_expired"));
    }
}

#[tokio::test]
async fn openssl_as_client_with_and_without_a_certificate() {
    if !is_here("openssl") {
        return;
    }
    let authority = Authority::new();
    let own = authority.issue_with(&["worker.example"], |params| {
        params.distinguished_name.push(DnType::CommonName, "worker");
    });
    let ours = Ours::listen(authority.server().client_ca(&authority.ca).unwrap()).await;
    for (flag, version) in VERSIONS {
        let words = ["openssl", "s_client", "-connect", "HOST:PORT", flag, "-quiet"];
        let with = [&words[..], &["-cert", &own.cert, "-key", &own.key]].concat();
        let (ran, info) = ours.serve(&with, "hello\n").await;
        assert_eq!((ran.status, &*ran.out), (Some(0), "HELLO\n"), "{}", ran.err);
        let info = info.unwrap();
        let peer = info.peer.unwrap();
        assert_eq!((info.version, &*peer.subject), (version, "CN=worker"));
        assert_eq!(peer.pin, Pin::of(&own.der));
        let (ran, error) = ours.serve(&words, "hello\n").await;
        assert_eq!((ran.status, &*ran.out), (Some(1), ""), "{}", ran.err);
        assert_eq!(error.unwrap_err().code(), Code::TlsClientCertificate);
        assert!(ran.err.contains("certificate required"), "{}", ran.err);
    }
}

/// A file that makes openssl do what no flag of its does.
fn openssl_conf(scratch: &Scratch, setting: &str) -> String {
    let text = format!("openssl_conf=a\n[a]\nssl_conf=b\n[b]\nsystem_default=c\n[c]\n{setting}\n");
    scratch.write("openssl.cnf", &text)
}

#[tokio::test]
async fn old_versions_are_refused_on_both_sides() {
    if !is_here("openssl") {
        return;
    }
    let authority = Authority::new();
    let scratch = Scratch::new();
    let no_ems = openssl_conf(&scratch, "Options = -ExtendedMasterSecret");
    let weak = ["-cipher", "DEFAULT@SECLEVEL=0"];
    let ours = Ours::listen(authority.server()).await;
    let old = [&["-tls1_1"][..], &weak].concat();
    for (flags, conf, expected) in [
        (&old[..], "/dev/null", "speaks neither TLS 1.3 nor 1.2"),
        (&["-tls1_2"], &no_ems, "without the extended master secret"),
    ] {
        let words = [&["openssl", "s_client", "-connect", "HOST:PORT"][..], flags].concat();
        let mut command = tool(&words, ours.address);
        command.env("OPENSSL_CONF", conf);
        let (ran, error) = tokio::join!(run(command, ""), ours.answer());
        let error = error.unwrap_err();
        assert_eq!((ran.status, error.code()), (Some(1), Code::TlsVersion), "{error:?}");
        assert!(error.to_string().contains(expected), "{error}");

        let address = own_address();
        let files = authority.issue(&["localhost"]);
        let mut command = tool(&s_server(&files, flags), address);
        command.env("OPENSSL_CONF", conf);
        let _theirs = Theirs::start(command, "ACCEPT");
        let error = connect(&authority.client(), address).await.unwrap_err();
        assert_eq!(error.code(), Code::TlsVersion, "{error:?}");
        assert!(error.to_string().contains(expected), "{error}");
    }
}

#[tokio::test]
async fn openssl_as_server_answers_after_our_end() {
    if !is_here("openssl") {
        return;
    }
    let authority = Authority::new();
    let files = authority.issue(&["localhost"]);
    for (flag, version) in VERSIONS {
        let address = own_address();
        let theirs = Theirs::listen(&s_server(&files, &["-rev", flag]), address, "ACCEPT");
        let mut stream = connect(&authority.client(), address).await.unwrap();
        stream.write_all(b"hello\nworld\n").await.unwrap();
        stream.shutdown().await.unwrap();
        let mut answer = Vec::new();
        within(stream.read_to_end(&mut answer)).await.unwrap();
        assert_eq!(answer, b"olleh\ndlrow\n", "{flag}");
        assert_eq!(stream.info().version, version);
        theirs.wait_for("CONNECTION CLOSED");
    }
}

#[tokio::test]
async fn openssl_as_server_with_every_fault_of_a_certificate() {
    if !is_here("openssl") {
        return;
    }
    let authority = Authority::new();
    let other = Authority::named("Another Authority");
    let cases = [
        (authority.issue(&["a.example"]), Code::TlsName),
        (authority.issue_with(&["localhost"], expired), Code::TlsExpired),
        (authority.self_signed(&["localhost"], |_| {}), Code::TlsUntrusted),
        (other.issue(&["localhost"]), Code::TlsUntrusted),
    ];
    for (files, code) in cases {
        for (flag, _) in VERSIONS {
            let address = own_address();
            let theirs = Theirs::listen(&s_server(&files, &["-rev", flag]), address, "ACCEPT");
            let error = connect(&authority.client(), address).await.unwrap_err();
            assert_eq!(error.code(), code, "{error:?}");
            // The pin says it all, whatever the fault is.
            theirs.wait_for("CONNECTION FAILURE");
            let pinned = ClientTls::pinned(Pin::of(&files.der)).unwrap();
            let mut stream = connect(&pinned, address).await.unwrap();
            stream.write_all(b"ab\n").await.unwrap();
            let mut answer = [0; 3];
            within(stream.read_exact(&mut answer)).await.unwrap();
            assert_eq!(answer, *b"ba\n");
        }
    }
}

#[tokio::test]
async fn openssl_as_server_wants_a_certificate() {
    if !is_here("openssl") {
        return;
    }
    let authority = Authority::new();
    let files = authority.issue(&["localhost"]);
    let own = authority.issue(&["worker.example"]);
    let strange = Authority::named("Another Authority");
    let strange = strange.issue(&["worker.example"]);
    let with = |own: &common::Files| authority.client().certificate(&own.cert, &own.key).unwrap();
    for (flag, _) in VERSIONS {
        let address = own_address();
        let flags =
            ["-rev", flag, "-Verify", "1", "-verify_return_error", "-CAfile", &authority.ca];
        let theirs = Theirs::listen(&s_server(&files, &flags), address, "ACCEPT");
        for client in [authority.client(), with(&strange)] {
            // TLS 1.2 tells at once, 1.3 at the first read.
            let refusal = match connect(&client, address).await {
                Err(error) => error,
                Ok(mut stream) => {
                    let error = within(stream.read_u8()).await.unwrap_err();
                    assert_eq!(code_of(&error), Code::TlsClientCertificate, "{error}");
                    *error.into_inner().unwrap().downcast().unwrap()
                }
            };
            assert_eq!(refusal.code(), Code::TlsClientCertificate, "{refusal:?}");
            theirs.wait_for("CONNECTION FAILURE");
        }
        let mut stream = connect(&with(&own), address).await.unwrap();
        stream.write_all(b"ab\n").await.unwrap();
        stream.shutdown().await.unwrap();
        let mut answer = Vec::new();
        within(stream.read_to_end(&mut answer)).await.unwrap();
        assert_eq!(answer, b"ba\n");
    }
}

#[tokio::test]
async fn a_peer_that_is_killed_is_a_stream_that_was_cut() {
    if !is_here("openssl") {
        return;
    }
    let authority = Authority::new();
    let files = authority.issue(&["localhost"]);
    for (flag, _) in VERSIONS {
        let address = own_address();
        let mut theirs = Theirs::listen(&s_server(&files, &[flag]), address, "ACCEPT");
        let mut stream = connect(&authority.client(), address).await.unwrap();
        theirs.input().write_all(b"half\n").unwrap();
        let mut half = [0; 5];
        within(stream.read_exact(&mut half)).await.unwrap();
        theirs.kill();
        let error = within(stream.read_u8()).await.unwrap_err();
        assert_eq!((half, code_of(&error)), (*b"half\n", Code::Truncated), "{error}");
    }
    let ours = Ours::listen(authority.server()).await;
    let words = ["openssl", "s_client", "-connect", "HOST:PORT", "-quiet"];
    let mut theirs = Theirs::start(tool(&words, ours.address), "");
    let mut stream = ours.accept().await.unwrap();
    theirs.input().write_all(b"half\n").unwrap();
    let mut half = [0; 5];
    within(stream.read_exact(&mut half)).await.unwrap();
    theirs.kill();
    let error = within(stream.read_u8()).await.unwrap_err();
    assert_eq!((half, code_of(&error)), (*b"half\n", Code::Truncated), "{error}");
}

#[tokio::test]
async fn ncat_in_both_roles() {
    if !is_here("ncat") {
        return;
    }
    let authority = Authority::new();
    let ours = Ours::listen(authority.server()).await;
    let words = ["ncat", "--ssl", "--ssl-trustfile", &authority.ca, "--ssl-verify"];
    let words = [&words[..], &["--ssl-servername", "localhost", "127.0.0.1", "PORT"]].concat();
    let (ran, info) = ours.serve(&words, "hello\n").await;
    assert_eq!((ran.status, &*ran.out), (Some(0), "HELLO\n"), "{}", ran.err);
    assert_eq!(info.unwrap().version, "1.3");

    let files = authority.issue(&["localhost"]);
    let address = own_address();
    let words = ["ncat", "-v", "-l", "HOST", "PORT", "--ssl", "--ssl-cert", &files.cert];
    let words = [&words[..], &["--ssl-key", &files.key, "--exec", "/bin/cat"]].concat();
    let _theirs = Theirs::listen(&words, address, "Listening on");
    let mut stream = connect(&authority.client(), address).await.unwrap();
    stream.write_all(b"hello\n").await.unwrap();
    let mut answer = [0; 6];
    within(stream.read_exact(&mut answer)).await.unwrap();
    assert_eq!(answer, *b"hello\n");
    stream.shutdown().await.unwrap();
    let ended = within(stream.read_u8()).await.unwrap_err();
    let version = run(tool(&["ncat", "--version"], address), "").await;
    if (version.out + &version.err).contains("7.93") {
        // It closes without the closing message, as measured.
        assert_eq!(code_of(&ended), Code::Truncated);
    }
}

#[tokio::test]
async fn socat_in_both_roles() {
    if !is_here("socat") {
        return;
    }
    let authority = Authority::new();
    let ours = Ours::listen(authority.server()).await;
    let to = format!("OPENSSL:HOST:PORT,cafile={},commonname=localhost", authority.ca);
    let (ran, info) = ours.serve(&["socat", "-t5", "-", &to], "hello\n").await;
    assert_eq!((ran.status, &*ran.out), (Some(0), "HELLO\n"), "{}", ran.err);
    assert_eq!(info.unwrap().version, "1.3");

    let files = authority.issue(&["localhost"]);
    let address = own_address();
    let (cert, key) = (&files.cert, &files.key);
    let at = format!("OPENSSL-LISTEN:PORT,bind=HOST,cert={cert},key={key},verify=0");
    let words = ["socat", "-d", "-d", "-t5", &at, "EXEC:/bin/cat"];
    let _theirs = Theirs::listen(&words, address, "listening on");
    let mut stream = connect(&authority.client(), address).await.unwrap();
    stream.write_all(b"hello\n").await.unwrap();
    stream.shutdown().await.unwrap();
    let mut answer = Vec::new();
    within(stream.read_to_end(&mut answer)).await.unwrap();
    assert_eq!(answer, b"hello\n");
}

#[tokio::test]
async fn curl_over_tls_and_by_mistake_without() {
    if !is_here("curl") {
        return;
    }
    let authority = Authority::new();
    let ours = Ours::listen(authority.server().alpn(["http/1.1"]).unwrap()).await;
    let https = ["curl", "-sS", "--cacert", &authority.ca, "https://localhost:PORT/"];
    let server = async {
        let mut stream = ours.accept().await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(within(stream.read_u8()).await.unwrap());
        }
        let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nConnection: close\r\n\r\nok\n";
        stream.write_all(answer).await.unwrap();
        stream.shutdown().await.unwrap();
        stream.info()
    };
    let (ran, info) = tokio::join!(run(tool(&https, ours.address), ""), server);
    assert_eq!((ran.status, &*ran.out), (Some(0), "ok\n"), "{}", ran.err);
    assert_eq!(info.alpn.as_deref(), Some(&b"http/1.1"[..]));

    let http = ["curl", "-sS", "-w", "%{http_code}", "http://HOST:PORT/"];
    let server = async {
        let (error, io) = ours.accept().await.err().unwrap().into_parts();
        let mut io = io.unwrap();
        // The close of every connection: our end, then what the peer still sends.
        io.shutdown().await.unwrap();
        within(io.read_to_end(&mut Vec::new())).await.unwrap();
        error
    };
    let (ran, error) = tokio::join!(run(tool(&http, ours.address), ""), server);
    assert_eq!(error.code(), Code::TlsPlainPeer);
    assert!(error.to_string().contains("(first bytes \"GET / HT\")"), "{error}");
    assert_eq!(ran.out, "This port speaks TLS. Is it https://?\n400", "{}", ran.err);
}

#[tokio::test]
async fn plain_ncat_in_both_roles_is_told_from_tls() {
    if !is_here("ncat") {
        return;
    }
    let authority = Authority::new();
    let ours = Ours::listen(authority.server()).await;
    let words = ["ncat", "127.0.0.1", "PORT"];
    let (ran, error) = ours.serve(&words, "hello\n").await;
    let error = error.unwrap_err();
    assert_eq!((error.code(), &*ran.out), (Code::TlsPlainPeer, ""), "{error}");

    let address = own_address();
    let words = ["ncat", "-v", "-l", "HOST", "PORT", "--exec", "/bin/echo 220 mail"];
    let _theirs = Theirs::listen(&words, address, "Listening on");
    let error = connect(&authority.client(), address).await.unwrap_err();
    let said = error.to_string();
    assert!(said.contains("is not speaking TLS (first bytes \"220 mail\")"), "{said}");
}

/// What `openssl req -x509` makes calls itself an authority, and its keys come in many forms.
#[tokio::test]
async fn certificates_and_keys_as_openssl_makes_them() {
    if !is_here("openssl") {
        return;
    }
    let scratch = Scratch::new();
    let at = |name: &str| scratch.path().join(name).into_os_string().into_string().unwrap();
    let openssl = |line: &str| {
        let mut command = Command::new("openssl");
        command.args(line.split(' ')).env("OPENSSL_CONF", "/etc/ssl/openssl.cnf");
        async move {
            let ran = run(command, "").await;
            assert_eq!(ran.status, Some(0), "{}", ran.err);
            ran.out
        }
    };
    for (kind, forms) in [
        ("rsa:2048", &["pkey -traditional", "pkey"][..]),
        ("ec -pkeyopt ec_paramgen_curve:P-256", &["ec", "pkey", "ecparam"]),
        ("ec -pkeyopt ec_paramgen_curve:P-384", &["pkey"]),
        ("ed25519", &["pkey"]),
    ] {
        let (cert, key, other) = (at("cert.pem"), at("key.pem"), at("other.pem"));
        let names = "-subj /CN=localhost -addext subjectAltName=DNS:localhost";
        openssl(&format!(
            "req -x509 -nodes -newkey {kind} -keyout {key} -out {cert} -days 9 {names}"
        ))
        .await;
        let fingerprint = openssl(&format!("x509 -noout -fingerprint -sha256 -in {cert}")).await;
        for form in forms {
            let (tool, flag) = form.split_once(' ').unwrap_or((form, ""));
            if tool == "ecparam" {
                // A file as many were made: the parameters stand in front of the key.
                let parameters = openssl("ecparam -name prime256v1").await;
                let old = std::fs::read_to_string(&other).unwrap();
                std::fs::write(&other, parameters + &old).unwrap();
            } else {
                openssl(format!("{tool} {flag} -in {key} -out {other}").replace("  ", " ").trim())
                    .await;
            }
            let server = ServerTls::files(&cert, &other).unwrap();
            let (_, printed) = fingerprint.trim().split_once('=').unwrap();
            assert_eq!(server.pin().to_string(), printed);
            assert_eq!(printed.parse::<Pin>().unwrap(), server.pin());
            for client in [ClientTls::ca(&cert), ClientTls::pinned(server.pin())] {
                Box::pin(common::shaken(&client.unwrap(), &server)).await;
            }
        }
        openssl(&format!("pkey -in {key} -out {other} -aes256 -passout pass:x")).await;
        let error = ServerTls::files(&cert, &other).unwrap_err();
        assert!(error.to_string().contains("is locked with a password"), "{error}");
    }
    // And one of ours is read by openssl.
    let server = ServerTls::auto(scratch.path()).unwrap();
    let file = at("tls-auto.pem");
    let said = openssl(&format!("x509 -noout -fingerprint -sha256 -ext subjectAltName -in {file}"));
    let said = said.await;
    assert!(said.contains(&server.pin().to_string()), "{said}");
    assert!(said.contains("DNS:localhost, IP Address:127.0.0.1"), "{said}");
    openssl(&format!("pkey -noout -check -in {file}")).await;
}

//! Both ends are adit's: what is settled, what is refused and with which words, how streams end.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use std::future::poll_fn;
use std::io;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt};
use std::pin::pin;
use std::time::Duration;

use adit_proto::code::Code;
use adit_proto::error::{Error, code_of};
use adit_tls::{ClientTls, Pin, ServerTls, TlsStream};
use common::{Authority, Scratch, expired, pair, shake, shake_over, shaken, within};
use rcgen::{BasicConstraints, DnType, IsCa};
use tokio::io::{
    AsyncRead as _, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf, duplex,
};
use tokio::net::TcpStream;

/// What a side says that failed.
fn said<T>(end: Result<T, Error>) -> (Code, String) {
    let error = end.err().expect("it succeeded");
    (error.code(), format!("{error:?}"))
}

async fn read_all(
    stream: &mut TlsStream<impl tokio::io::AsyncRead + AsyncWrite + Unpin>,
) -> Vec<u8> {
    let mut all = Vec::new();
    within(stream.read_to_end(&mut all)).await.unwrap();
    all
}

#[tokio::test]
async fn a_handshake_settles_what_both_sides_then_say() {
    let authority = Authority::new();
    let server = authority.server().alpn(["adit", "http/1.1"]).unwrap();
    let client = authority.client().alpn(["http/1.1", "adit"]).unwrap();
    let (near, far) = shaken(&client, &server).await;
    let (at_client, at_server) = (near.info(), far.info());
    assert_eq!(at_client.version, "1.3");
    assert_eq!(at_client.cipher, "TLS_AES_256_GCM_SHA384");
    assert_eq!(at_client.key_exchange, "X25519MLKEM768");
    assert_eq!(at_client.alpn.as_deref(), Some(&b"adit"[..]));
    assert_eq!(at_client.server_name.as_deref(), Some("localhost"));
    let certificate = at_client.peer.unwrap();
    assert_eq!(certificate.pin, server.pin());
    assert_eq!(certificate.names, ["localhost", "127.0.0.1"]);
    assert_eq!(certificate.issuer, "CN=Test Authority");
    assert_eq!(at_server.cipher, at_client.cipher);
    assert_eq!(at_server.server_name.as_deref(), Some("localhost"));
    assert_eq!(at_server.peer, None);
}

#[tokio::test]
async fn an_address_is_no_name_to_ask_for_but_one_to_check() {
    let authority = Authority::new();
    let (near, far) = shake(&authority.client(), &authority.server(), "127.0.0.1").await;
    assert_eq!(near.unwrap().info().server_name, None);
    assert_eq!(far.unwrap().info().server_name, None);
    let (near, _) = shake(&authority.client(), &authority.server(), "127.0.0.2").await;
    assert_eq!(said(near).0, Code::TlsName);
}

#[tokio::test]
async fn a_certificate_for_other_names_is_refused_with_the_names() {
    let authority = Authority::new();
    let files = authority.issue(&["a.example", "*.b.example", "c\u{7f}.example"]);
    let server = ServerTls::files(&files.cert, &files.key).unwrap();
    let (near, far) = shake(&authority.client(), &server, "localhost").await;
    let (code, text) = said(near);
    assert_eq!(code, Code::TlsName);
    assert!(
        text.starts_with(
            "certificate of server:1 is not for \"localhost\" but for \
             a.example, *.b.example, c\\x7f.example (code=tls-name); "
        ),
        "{text}"
    );
    let (code, text) = said(far);
    assert_eq!(code, Code::TlsAlert);
    assert!(text.contains("alert bad_certificate"), "{text}");
    // Under the name it has it is good.
    let client = authority.client().sni("x.b.example").unwrap();
    let (near, far) = shake(&client, &server, "localhost").await;
    near.unwrap();
    assert_eq!(far.unwrap().info().server_name.as_deref(), Some("x.b.example"));
}

#[tokio::test]
async fn dates_are_checked_and_told() {
    let authority = Authority::new();
    let old = authority.issue_with(&["localhost"], expired);
    let server = ServerTls::files(&old.cert, &old.key).unwrap();
    let (near, far) = shake(&authority.client(), &server, "localhost").await;
    let (code, text) = said(near);
    assert_eq!(code, Code::TlsExpired);
    assert!(text.starts_with("certificate of server:1 expired "), "{text}");
    assert!(text.ends_with(" days ago, 2021-12-31 00:00 UTC (code=tls-expired)"), "{text}");
    let (_, text) = said(far);
    assert!(text.contains("certificate_expired") && text.contains("has expired"), "{text}");

    let early = authority.issue_with(&["localhost"], |params| {
        params.not_before = rcgen::date_time_ymd(2080, 2, 29);
    });
    let server = ServerTls::files(&early.cert, &early.key).unwrap();
    let (near, _) = shake(&authority.client(), &server, "localhost").await;
    let (code, text) = said(near);
    assert_eq!(code, Code::TlsExpired);
    assert!(text.contains("is not valid before 2080-02-29 00:00 UTC"), "{text}");
    // Who pins has decided.
    let pinned = ClientTls::pinned(Pin::of(&old.der)).unwrap();
    let server = ServerTls::files(&old.cert, &old.key).unwrap();
    shaken(&pinned, &server).await;
}

#[tokio::test]
async fn a_self_signed_certificate_is_trusted_by_pin_or_file_and_not_otherwise() {
    let authority = Authority::new();
    // As rcgen makes one, and as openssl does, which calls it an authority.
    let servers = authority.self_signed(&["localhost"], |_| {});
    let openssls = authority.self_signed(&["localhost"], |params| {
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "localhost");
    });
    for files in [servers, openssls] {
        let server = ServerTls::files(&files.cert, &files.key).unwrap();
        let pin = server.pin();
        let (near, far) = shake(&authority.client(), &server, "localhost").await;
        let expected = format!(
            "certificate of server:1 not trusted: self-signed (code=tls-untrusted); \
             pin it: --tls=pin:sha256:{pin:x}   or --ca FILE"
        );
        assert_eq!(said(near), (Code::TlsUntrusted, expected));
        assert_eq!(said(far).0, Code::TlsAlert);

        shaken(&ClientTls::pinned(pin).unwrap(), &server).await;
        shaken(&ClientTls::insecure().unwrap(), &server).await;
        let by_file = ClientTls::ca(&files.cert).unwrap();
        shaken(&by_file, &server).await;
        // The name counts all the same.
        let (near, _) = shake(&by_file, &server, "other.example").await;
        assert_eq!(said(near).0, Code::TlsName);

        let other = Pin::of(b"other");
        let (near, _) = shake(&ClientTls::pinned(other).unwrap(), &server, "localhost").await;
        let (code, text) = said(near);
        assert_eq!(code, Code::TlsUntrusted);
        assert!(text.contains(&format!("is not the pinned one, it has sha256:{pin:x}")), "{text}");
    }
}

#[tokio::test]
async fn an_unknown_issuer_is_named_and_its_controls_are_shown() {
    let (known, unknown) = (Authority::new(), Authority::named("Test Authority 1"));
    let (near, _) = shake(&known.client(), &unknown.server(), "localhost").await;
    let (code, text) = said(near);
    assert_eq!(code, Code::TlsUntrusted);
    assert!(
        text.contains("not trusted: its issuer \"CN=Test Authority 1\" is not known here"),
        "{text}"
    );
    // One that has the name of a known one, and another key.
    let (near, _) = shake(&known.client(), &Authority::new().server(), "localhost").await;
    assert!(said(near).1.contains("not signed by the \"CN=Test Authority\" that is known here"));
    let hostile = unknown.issue_with(&["localhost\u{1b}[2J"], |params| {
        params.distinguished_name.push(DnType::CommonName, "\u{1b}]52;c;AAAA\u{7}\n\u{202e}");
    });
    let server = ServerTls::files(&hostile.cert, &hostile.key).unwrap();
    for client in [known.client(), unknown.client()] {
        let (near, far) = shake(&client, &server, "localhost").await;
        for text in [said(near).1, said(far).1] {
            assert!(!text.chars().any(adit_proto::escape::is_unsafe), "{text:?}");
        }
    }
}

#[tokio::test]
async fn the_authorities_of_the_system_trust_none_of_ours() {
    let Ok(client) = ClientTls::system() else {
        common::skipped("this system has no authorities");
        return;
    };
    let authority = Authority::new();
    let (near, _) = shake(&client, &authority.server(), "localhost").await;
    assert_eq!(said(near).0, Code::TlsUntrusted);
}

#[tokio::test]
async fn a_server_that_wants_certificates_lets_in_whom_it_knows() {
    let authority = Authority::new();
    let server = authority.server().client_ca(&authority.ca).unwrap();
    assert!(server.wants_client_certificates());
    let own = authority.issue_with(&["worker.example"], |params| {
        params.distinguished_name.push(DnType::CommonName, "worker 7");
    });
    let client = authority.client().certificate(&own.cert, &own.key).unwrap();
    let (mut near, mut far) = shaken(&client, &server).await;
    let peer = far.info().peer.unwrap();
    assert_eq!(peer.pin, Pin::of(&own.der));
    assert_eq!(peer.subject, "CN=worker 7");
    assert_eq!(peer.names, ["worker.example"]);
    far.write_all(b"welcome").await.unwrap();
    far.shutdown().await.unwrap();
    assert_eq!(read_all(&mut near).await, b"welcome");
}

/// The client's handshake succeeds in TLS 1.3; the refusal meets its first read, or its write.
#[tokio::test]
async fn a_client_that_is_refused_learns_why() {
    let authority = Authority::new();
    let server = authority.server().client_ca(&authority.ca).unwrap();
    let strange = authority.self_signed(&["x.example"], |_| {});
    let old = authority.issue_with(&["x.example"], expired);
    let none = authority.client();
    let strange = authority.client().certificate(&strange.cert, &strange.key).unwrap();
    let late = authority.client().certificate(&old.cert, &old.key).unwrap();
    let cases = [
        (
            none,
            "has shown no client certificate",
            "wants a client certificate: alert certificate_required",
        ),
        (
            strange,
            "not accepted: its issuer is not known here",
            "does not accept our certificate: alert unknown_ca",
        ),
        (
            late,
            "not accepted: expired ",
            "does not accept our certificate: alert certificate_expired",
        ),
    ];
    for (client, at_server, at_client) in cases {
        for writes_first in [false, true] {
            let (near, far) = shake(&client, &server, "localhost").await;
            let (code, text) = said(far);
            assert_eq!(code, Code::TlsClientCertificate);
            assert!(text.contains(at_server), "{text}");
            let mut near = near.unwrap();
            let error = refusal(&mut near, writes_first).await;
            assert_eq!(code_of(&error), Code::TlsClientCertificate, "{error}");
            assert!(error.to_string().contains(at_client), "{error}");
            // The other direction says the same.
            let error = within(near.read_u8()).await.unwrap_err();
            assert!(error.to_string().contains(at_client), "{error}");
        }
    }
}

async fn refusal(stream: &mut TlsStream<TcpStream>, writes_first: bool) -> io::Error {
    let mut byte = [0];
    if writes_first {
        // Writes may be taken before the refusal comes.
        loop {
            if let Err(error) = within(stream.write_all(&[0; 1000])).await {
                return error;
            }
        }
    }
    within(stream.read_exact(&mut byte)).await.unwrap_err()
}

#[tokio::test]
async fn protocols_that_do_not_meet_are_refused_and_none_is_fine() {
    let authority = Authority::new();
    let server = authority.server().alpn(["adit"]).unwrap();
    let client = authority.client().alpn(["h2"]).unwrap();
    let (near, far) = shake(&client, &server, "localhost").await;
    let (code, text) = said(near);
    assert_eq!(code, Code::TlsAlert);
    assert!(text.contains("alert no_application_protocol"), "{text}");
    assert!(said(far).1.contains("no protocol of ALPN in common"));
    let (near, _far) = shaken(&authority.client(), &server).await;
    assert_eq!(near.info().alpn, None);
}

#[tokio::test]
async fn each_direction_ends_on_its_own() {
    let authority = Authority::new();
    for client_first in [true, false] {
        let (near, far) = shaken(&authority.client(), &authority.server()).await;
        let (mut one, mut other) = if client_first { (near, far) } else { (far, near) };
        one.write_all(b"question").await.unwrap();
        one.shutdown().await.unwrap();
        assert_eq!(read_all(&mut other).await, b"question");
        // The end of ours is there, and the other way is as open as before.
        for _ in 0..100 {
            other.write_all(&[7; 10_000]).await.unwrap();
            let mut piece = [0; 10_000];
            within(one.read_exact(&mut piece)).await.unwrap();
        }
        let error = one.write_all(b"more").await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
        other.shutdown().await.unwrap();
        other.shutdown().await.unwrap();
        assert_eq!(read_all(&mut one).await, b"");
        assert_eq!(read_all(&mut other).await, b"");
    }
}

#[tokio::test]
async fn a_stream_that_is_cut_is_truncated_after_all_that_came() {
    let authority = Authority::new();
    for client_cuts in [true, false] {
        let (near, far) = shaken(&authority.client(), &authority.server()).await;
        let (mut one, mut other) = if client_cuts { (near, far) } else { (far, near) };
        one.write_all(b"half an answ").await.unwrap();
        one.flush().await.unwrap();
        drop(one);
        let mut came = Vec::new();
        let error = within(other.read_to_end(&mut came)).await.unwrap_err();
        assert_eq!(came, b"half an answ");
        assert_eq!(
            (error.kind(), code_of(&error)),
            (io::ErrorKind::UnexpectedEof, Code::Truncated)
        );
        let said = error.to_string();
        assert_eq!(said, "TLS stream ended without its closing message (code=truncated)");
    }
}

/// With session tickets, which such a client leaves unread, its close is a reset that overtakes bytes.
#[tokio::test]
async fn a_client_that_never_reads_loses_nothing() {
    const BYTES: usize = 200_000;
    let authority = Authority::new();
    let (mut near, mut far) = shaken(&authority.client(), &authority.server()).await;
    let send = async {
        near.write_all(&[1; BYTES]).await.unwrap();
        near.shutdown().await.unwrap();
        drop(near);
    };
    // The server is behind: it reads only when the client has gone.
    let receive = async {
        let mut first = vec![0; BYTES / 10];
        within(far.read_exact(&mut first)).await.unwrap();
        tokio::task::yield_now().await;
        first.len() + read_all(&mut far).await.len()
    };
    let ((), received) = within(async { tokio::join!(send, receive) }).await;
    assert_eq!(received, BYTES);
}

#[tokio::test]
async fn a_reset_stays_a_reset() {
    let authority = Authority::new();
    let (near, mut far) = shaken(&authority.client(), &authority.server()).await;
    adit_net::stream::reset_on_close(near.get_ref()).unwrap();
    drop(near);
    let error = within(far.read_u8()).await.unwrap_err();
    assert_eq!(code_of(&error), Code::Reset);
}

#[tokio::test]
async fn what_a_write_left_behind_goes_out_while_reading() {
    let authority = Authority::new();
    let ends =
        Box::pin(shake_over(duplex(4096), &authority.client(), &authority.server(), "localhost"))
            .await;
    let (mut near, mut far) = (ends.0.unwrap(), ends.1.unwrap());
    // Taken into the buffer as far as it goes, although the stream beneath has room for less.
    let sent = poll_fn(|cx| pin!(&mut near).poll_write(cx, &[7; 30_000])).await.unwrap();
    assert!(sent > 4096 && !near.is_flushed());
    let mut got = vec![0; sent];
    let ours = async { near.read_u8().await.unwrap() };
    let theirs = async {
        far.read_exact(&mut got).await.unwrap();
        far.write_u8(9).await.unwrap();
        far.flush().await.unwrap();
    };
    let (answer, ()) = within(async { tokio::join!(ours, theirs) }).await;
    assert_eq!(answer, 9);
    assert!(near.is_flushed() && got == vec![7; sent]);
}

/// Two tasks on each side, a stream beneath that takes little at a time: nobody's waker is lost.
#[tokio::test]
async fn both_directions_at_once_from_separate_tasks() {
    const BYTES: usize = 3_000_000;
    let authority = Authority::new();
    let ends =
        Box::pin(shake_over(duplex(500), &authority.client(), &authority.server(), "localhost"))
            .await;
    let mut tasks = Vec::new();
    for end in [ends.0.unwrap(), ends.1.unwrap()] {
        let (mut reader, mut writer) = tokio::io::split(end);
        tasks.push(tokio::spawn(async move {
            let mut all = Vec::new();
            reader.read_to_end(&mut all).await.unwrap();
            all.len()
        }));
        tasks.push(tokio::spawn(async move {
            for piece in vec![3; BYTES].chunks(70_001) {
                writer.write_all(piece).await.unwrap();
            }
            writer.shutdown().await.unwrap();
            BYTES
        }));
    }
    for task in tasks {
        assert_eq!(within(task).await.unwrap(), BYTES);
    }
}

#[tokio::test]
async fn what_is_decrypted_and_not_read_is_counted() {
    let authority = Authority::new();
    let (mut near, mut far) = shaken(&authority.client(), &authority.server()).await;
    far.write_all(&[5; 1000]).await.unwrap();
    let mut byte = [0];
    within(near.read_exact(&mut byte)).await.unwrap();
    assert_eq!(near.unread(), 999);
    // Nothing is asked for, so nothing is waited for.
    let nothing = poll_fn(|cx| pin!(&mut near).poll_read(cx, &mut ReadBuf::new(&mut []))).await;
    nothing.unwrap();
    let mut rest = vec![0; 2000];
    assert_eq!(within(near.read(&mut rest)).await.unwrap(), 999);
    assert_eq!(near.unread(), 0);
}

#[tokio::test]
async fn a_reload_is_for_newcomers_and_a_bad_one_changes_nothing() {
    let authority = Authority::new();
    let (old, new) = (authority.issue(&["localhost"]), authority.issue(&["localhost"]));
    let server = ServerTls::files(&old.cert, &old.key).unwrap();
    let clone = server.clone();
    let (mut near, mut far) = shaken(&authority.client(), &server).await;
    assert_eq!(near.info().peer.unwrap().pin, Pin::of(&old.der));

    // The certificate alone: its key is still the old one.
    std::fs::copy(&new.cert, &old.cert).unwrap();
    let (code, text) = said(server.reload());
    assert_eq!(code, Code::Config);
    let expected =
        format!("the key in {} does not belong to the certificate in {}", old.key, old.cert);
    assert!(text.starts_with(&expected), "{text}");
    assert_eq!(server.pin(), Pin::of(&old.der));
    let (other, _far) = shaken(&authority.client(), &server).await;
    assert_eq!(other.info().peer.unwrap().pin, Pin::of(&old.der));

    std::fs::copy(&new.key, &old.key).unwrap();
    server.reload().unwrap();
    let (other, _far) = shaken(&authority.client(), &clone).await;
    assert_eq!(other.info().peer.unwrap().pin, Pin::of(&new.der));
    assert_eq!(clone.pin(), Pin::of(&new.der));
    // The connection that was there lives on.
    far.write_all(b"still here").await.unwrap();
    far.shutdown().await.unwrap();
    assert_eq!(read_all(&mut near).await, b"still here");

    for (bad, why) in
        [("", "no certificate in it"), ("-----BEGIN CERTIFICATE-----\n!", "damaged PEM")]
    {
        std::fs::write(&old.cert, bad).unwrap();
        let (_, text) = said(server.reload());
        assert!(text.contains(why), "{text}");
    }
    std::fs::remove_file(&old.cert).unwrap();
    assert!(said(server.reload()).1.contains("no such file"));
    assert_eq!(server.pin(), Pin::of(&new.der));
}

#[tokio::test]
async fn a_certificate_of_ones_own_is_made_once_and_kept_private() {
    let scratch = Scratch::new();
    let folder = scratch.path().join("data");
    let server = ServerTls::auto(&folder).unwrap();
    let file = folder.join("tls-auto.pem");
    assert_eq!(file.metadata().unwrap().mode() & 0o777, 0o600);
    assert_eq!(folder.metadata().unwrap().mode() & 0o777, 0o700);
    assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 1);
    let certificate = server.certificate();
    let days = (certificate.not_after_s.unwrap() - certificate.not_before_s.unwrap()) / 86_400;
    assert_eq!(days, 91);
    assert!(certificate.self_signed);
    let (near, _far) = shaken(&ClientTls::pinned(server.pin()).unwrap(), &server).await;
    assert_eq!(near.info().peer.unwrap().pin, server.pin());
    shaken(&ClientTls::ca(&file).unwrap(), &server).await;
    // The same again, also after a reload.
    assert_eq!(ServerTls::auto(&folder).unwrap().pin(), server.pin());
    let before = server.pin();
    server.reload().unwrap();
    assert_eq!(server.pin(), before);

    std::fs::set_permissions(&file, PermissionsExt::from_mode(0o640)).unwrap();
    let (code, text) = said(ServerTls::auto(&folder));
    assert_eq!(code, Code::Unsafe);
    assert!(text.contains("is open to others (mode 640)"), "{text}");
    std::fs::set_permissions(&file, PermissionsExt::from_mode(0o600)).unwrap();

    // One that has expired is made anew.
    let old = Authority::new();
    let expired = old.self_signed(&["localhost"], expired);
    let text = std::fs::read_to_string(&expired.cert).unwrap()
        + &std::fs::read_to_string(&expired.key).unwrap();
    std::fs::write(&file, text).unwrap();
    server.reload().unwrap();
    assert!(server.pin() != before && server.pin() != Pin::of(&expired.der));
    assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 1);
}

#[test]
fn servers_that_start_at_once_agree_on_their_certificate() {
    let scratch = Scratch::new();
    let folder = scratch.path();
    let pins = std::thread::scope(|scope| {
        let threads: Vec<_> =
            (0..8).map(|_| scope.spawn(|| ServerTls::auto(folder).unwrap().pin())).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect::<Vec<_>>()
    });
    assert!(pins.iter().all(|pin| *pin == pins[0]), "{pins:?}");
    assert_eq!(std::fs::read_dir(folder).unwrap().count(), 1);
}

#[tokio::test]
async fn a_peer_that_speaks_something_else_is_quoted() {
    let authority = Authority::new();
    // The server is the one that is plain.
    for (greeting, code, text) in [
        (
            &b"SSH-2.0-OpenSSH_9.2\r\n"[..],
            Code::TlsPlainPeer,
            "server:1 is not speaking TLS (first bytes \"SSH-2.0-\"); did you mean tcp://? (code=tls-plain-peer)",
        ),
        (
            b"+O",
            Code::TlsPlainPeer,
            "server:1 is not speaking TLS (first bytes \"+O\"); did you mean",
        ),
        (b"\x1b]52;c", Code::TlsPlainPeer, "(first bytes \"\\x1b]52;c\")"),
        (b"", Code::Truncated, "server:1 closed the connection before the TLS handshake"),
        (
            b"\x16\x03\x03",
            Code::Truncated,
            "server:1 closed the connection in the middle of the TLS handshake",
        ),
    ] {
        let (near, mut far) = pair().await;
        let client = authority.client();
        let ours = client.connect(near, "localhost", "server:1", common::SOON);
        let theirs = async {
            far.write_all(greeting).await.unwrap();
            far.shutdown().await.unwrap();
            let mut sink = Vec::new();
            far.read_to_end(&mut sink).await.unwrap();
        };
        // The stream is closed with the error that holds it, and only then the other side ends.
        let ours = async { Box::pin(ours).await.map(drop).map_err(Error::from) };
        let (ours, ()) = within(async { tokio::join!(ours, theirs) }).await;
        let (found, words) = said(ours);
        assert!(found == code && words.contains(text), "{words}");
    }
    // The client is: it gets nothing, or an answer if it is one of HTTP.
    for (request, text, answer) in [
        (
            &b"GET / HTTP/1.1\r\n\r\n"[..],
            "client:1 is not speaking TLS (first bytes \"GET / HT\") (code=tls-plain-peer)",
            &b"HTTP/1.1 400 "[..],
        ),
        (b"hello\n", "(first bytes \"hello\\n\")", b""),
        (b"h", "(first bytes \"h\")", b""),
    ] {
        let (mut near, far) = pair().await;
        near.write_all(request).await.unwrap();
        near.shutdown().await.unwrap();
        let failed = within(authority.server().accept(far, "client:1", common::SOON)).await;
        let (error, io) = failed.err().unwrap().into_parts();
        assert_eq!(error.code(), Code::TlsPlainPeer);
        assert!(error.to_string().contains(text), "{error}");
        drop(io);
        let mut got = Vec::new();
        within(near.read_to_end(&mut got)).await.unwrap();
        assert!(got.starts_with(answer) && got.is_empty() == answer.is_empty(), "{got:?}");
    }
}

#[tokio::test]
async fn an_echo_is_known_by_our_own_greeting() {
    let authority = Authority::new();
    let (near, mut far) = pair().await;
    let echo = tokio::spawn(async move {
        let (mut reader, mut writer) = far.split();
        drop(tokio::io::copy(&mut reader, &mut writer).await);
    });
    let ours = within(authority.client().connect(near, "localhost", "h:7", common::SOON)).await;
    let error = ours.err().unwrap();
    let said = error.to_string();
    assert!(said.starts_with("h:7 is not speaking TLS (it sends back what it gets)"), "{said}");
    drop(error);
    within(echo).await.unwrap();
}

#[tokio::test]
async fn a_peer_that_says_nothing_meets_the_limit() {
    let authority = Authority::new();
    let limit = Duration::from_millis(50);
    let (near, _far) = duplex(10_000);
    let failed = authority.client().connect(near, "localhost", "db:443", limit).await;
    let (error, io) = failed.err().unwrap().into_parts();
    assert_eq!(error.to_string(), "no TLS answer from db:443 within 50ms (code=handshake-timeout)");
    assert!(io.is_none() && error.limit() == Some("handshake-timeout"));
    let (near, mut far) = duplex(10_000);
    far.write_all(b"* OK").await.unwrap();
    let failed = authority.client().connect(near, "localhost", "db:443", limit).await;
    assert_eq!(failed.err().unwrap().error().code(), Code::TlsPlainPeer);

    let (_near, far) = duplex(10_000);
    let failed = authority.server().accept(far, "127.0.0.1:9", limit).await;
    let (error, _) = failed.err().unwrap().into_parts();
    let said = error.to_string();
    assert_eq!(said, "no TLS handshake from 127.0.0.1:9 within 50ms (code=handshake-timeout)");
    let (mut near, far) = duplex(10_000);
    near.write_all(b"EHLO").await.unwrap();
    let failed = authority.server().accept(far, "127.0.0.1:9", limit).await;
    assert_eq!(failed.err().unwrap().error().code(), Code::TlsPlainPeer);
}

#[test]
fn settings_and_streams_go_to_other_threads_and_tell_no_secrets() {
    fn goes<T: Send + Sync + 'static>(_: &T) {}
    fn is_sent<T: Send>(_: &T) {}
    let authority = Authority::new();
    let files = authority.issue(&["localhost"]);
    let server = ServerTls::files(&files.cert, &files.key).unwrap();
    let client = authority.client().certificate(&files.cert, &files.key).unwrap();
    goes(&server);
    goes(&client);
    let (near, far) = duplex(1);
    is_sent(&client.connect(near, "h", "h:1", common::SOON));
    is_sent(&server.accept(far, "h:1", common::SOON));
    let key = std::fs::read_to_string(&files.key).unwrap();
    let line = key.lines().nth(1).unwrap();
    let shown = format!("{server:?} {client:?} {server:#?} {client:#?}");
    assert!(!shown.contains(&line[..20]) && shown.contains("pin"), "{shown}");
}

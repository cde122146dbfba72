//! Whom a client believes, and whom a server.

use crate::common::{Authority, Files, Server, adit, run};
use crate::serve_tls;

fn place(server: &Server) -> String {
    format!("tls://localhost:{}", server.tcp().port())
}

/// A server with a certificate of its own making, in a folder of the test's.
#[track_caller]
fn serve_auto(trust: &Authority, words: &[&str]) -> Server {
    let folder = trust.scratch.path().display();
    let script = format!("export XDG_DATA_HOME={folder}; exec \"$@\" 3>\"$READY\"");
    Server::start(&script, &[&["--tls=auto"], words].concat())
}

/// The pin that a server has said.
fn pin_of(server: &Server) -> String {
    let said = server.program.err.wait_for("pin sha256:");
    let pin = said.split("pin sha256:").nth(1).unwrap();
    pin.chars().take(64).collect()
}

#[test]
fn a_certificate_of_ones_own_is_known_by_its_pin_and_by_nothing_else() {
    let trust = Authority::new();
    let server = serve_auto(&trust, &["upper", "127.0.0.1:0"]);
    let (pin, place) = (pin_of(&server), place(&server));
    let flag = format!("--tls=pin:sha256:{pin}");
    run(&mut adit(&[&place, &flag]), b"hello\n").assert_clean("HELLO\n");
    let key = format!("{place},pin=sha256:{pin}");
    run(&mut adit(&[&key]), b"hello\n").assert_clean("HELLO\n");
    // As openssl writes it.
    let bytes: Vec<_> =
        pin.as_bytes().chunks(2).map(|pair| std::str::from_utf8(pair).unwrap()).collect();
    let flag = format!("--tls=pin:sha256:{}", bytes.join(":").to_uppercase());
    run(&mut adit(&[&place, &flag]), b"hello\n").assert_clean("HELLO\n");

    let wrong = format!("--tls=pin:sha256:{}", "9f".repeat(32));
    let ran = run(&mut adit(&[&place, &wrong]), b"hello\n");
    ran.assert_failed(1, "tls-untrusted");
    assert!(
        ran.err.contains(&format!("is not the pinned one, it has sha256:{pin}")),
        "{}",
        ran.err
    );
    // Who does not know it is told it, and what to do; nothing was said to the server.
    let ran = run(adit(&[&place]).env("SSL_CERT_FILE", &trust.ca), b"hello\n");
    ran.assert_failed(1, "tls-untrusted");
    let hint =
        format!("not trusted: self-signed (code=tls-untrusted); pin it: --tls=pin:sha256:{pin}");
    assert!(ran.err.contains(&hint) && ran.out.is_empty(), "{ran:?}");

    // The next server has the same one.
    drop(server);
    assert_eq!(pin_of(&serve_auto(&trust, &["upper", "127.0.0.1:0"])), pin);
}

#[test]
fn whoever_trusts_anybody_is_warned_even_when_quiet() {
    let trust = Authority::new();
    let server = serve_tls(&trust.here(), &["upper", "127.0.0.1:0"]);
    let ran = run(&mut adit(&[&place(&server), "--tls=insecure", "--quiet"]), b"hello\n");
    assert_eq!((ran.status, ran.text().as_str()), (0, "HELLO\n"));
    let warned = "adit: insecure: whoever stands between here and tls localhost:";
    assert!(ran.err.starts_with(warned) && ran.err.lines().count() == 1, "{}", ran.err);
}

#[test]
fn authorities_names_and_dates_are_checked() {
    let trust = Authority::new();
    let here = trust.here();
    let elsewhere = trust.issue("elsewhere", &["db.example"]);
    let old = trust.issue_expired("old", &["localhost"]);
    let server = serve_tls(&here, &["upper", "127.0.0.1:0"]);
    let place_here = place(&server);
    run(&mut adit(&[&place_here, "--ca", &trust.ca]), b"hello\n").assert_clean("HELLO\n");
    // The system's authorities are those of this file here.
    run(adit(&[&place_here]).env("SSL_CERT_FILE", &trust.ca), b"hello\n").assert_clean("HELLO\n");
    let address = format!("tls://127.0.0.1:{},ca={}", server.tcp().port(), trust.ca);
    run(&mut adit(&[&address]), b"hello\n").assert_clean("HELLO\n");
    let ran = run(adit(&[&place_here]).env("SSL_CERT_FILE", &Authority::new().ca), b"hello\n");
    ran.assert_failed(1, "tls-untrusted");

    let server = serve_tls(&elsewhere, &["upper", "127.0.0.1:0"]);
    let ran = run(&mut adit(&[&place(&server), "--ca", &trust.ca]), b"hello\n");
    ran.assert_failed(1, "tls-name");
    assert!(ran.err.contains("is not for \"localhost\" but for db.example"), "{}", ran.err);
    let words = [&*place(&server), "--ca", &trust.ca, "--sni", "db.example"];
    run(&mut adit(&words), b"hello\n").assert_clean("HELLO\n");

    let server = serve_tls(&old, &["upper", "127.0.0.1:0"]);
    let ran = run(&mut adit(&[&place(&server), "--ca", &trust.ca]), b"hello\n");
    ran.assert_failed(1, "tls-expired");
    assert!(ran.err.contains("2021-12-31"), "{}", ran.err);
    // The same is true however often it is tried.
    let words = [&*place(&server), "--ca", &trust.ca, "--retry=forever"];
    run(&mut adit(&words), b"hello\n").assert_failed(1, "tls-expired");
}

#[test]
fn clients_show_certificates_where_a_server_wants_them() {
    let trust = Authority::new();
    let (here, ann) = (trust.here(), trust.issue("ann", &["ann.example"]));
    let server = serve_tls(&here, &["upper", "127.0.0.1:0", "--client-ca", &trust.ca]);
    server.program.err.wait_for(", TLS, clients need a certificate");
    let Files { cert, key, .. } = &ann;
    let place = place(&server);
    let words = [&*place, "--ca", &trust.ca, "--cert", cert, "--key", key];
    run(&mut adit(&words), b"hello\n").assert_clean("HELLO\n");

    let ran = run(&mut adit(&[&place, "--ca", &trust.ca]), b"hello\n");
    ran.assert_failed(1, "tls-client-cert");
    assert!(ran.err.contains("wants a client certificate"), "{}", ran.err);
    assert!(ran.err.contains("give it one: --cert FILE --key FILE"), "{}", ran.err);
    server.program.err.wait_for(" has shown no client certificate (code=tls-client-cert)");
    let others = Authority::new();
    let Files { cert, key, .. } = others.issue("ann", &["ann.example"]);
    let words = [&*place, "--ca", &trust.ca, "--cert", &cert, "--key", &key];
    let ran = run(&mut adit(&words), b"hello\n");
    ran.assert_failed(1, "tls-client-cert");
    assert!(ran.err.contains("does not accept our certificate"), "{}", ran.err);
}

#[test]
fn who_knows_all_clients_may_serve_a_program_and_it_learns_who_they_are() {
    let trust = Authority::new();
    let (here, ann) = (trust.here(), trust.issue("ann", &["ann.example"]));
    let Files { cert, key, sha256 } = &ann;
    let tells = ["--", "sh", "-c", "echo $ADIT_TLS_VERSION $ADIT_TLS_PEER_SHA256; cat"];
    let is_root = rustix::process::geteuid().is_root();
    let user: &[&str] = if is_root { &["--user", "nobody"] } else { &[] };
    let with_clients = ["0.0.0.0:0", "--client-ca", &trust.ca];
    let server = serve_tls(&here, &[&with_clients, user, &tells].concat());
    let place = format!("tls://localhost:{}", server.tcp().port());
    let words = [&*place, "--ca", &trust.ca, "--cert", cert, "--key", key];
    run(&mut adit(&words), b"and\n").assert_clean(&format!("1.3 {sha256}\nand\n"));

    // A certificate of the server's alone keeps nobody out.
    let alone = ["serve", "--tls", "--cert", &here.cert, "--key", &here.key, "0.0.0.0:0"];
    let ran = run(&mut adit(&[&alone[..], user, &tells].concat()), b"");
    ran.assert_failed(2, "unsafe");
    if is_root {
        let words = [&alone[..], &["--client-ca", &trust.ca], &tells].concat();
        let ran = run(&mut adit(&words), b"");
        ran.assert_failed(2, "unsafe");
        assert!(ran.err.contains("would run as root for everyone"), "{}", ran.err);
    }
    let server = serve_tls(&here, &[&["127.0.0.1:0"][..], &tells].concat());
    let place = format!("tls://localhost:{}", server.tcp().port());
    run(&mut adit(&[&place, "--ca", &trust.ca]), b"").assert_clean("1.3\n");
}

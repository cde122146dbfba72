//! TLS: openssl, ncat, socat and curl, as servers and as clients, with their questions, ends and cuts.

use std::process::Command;

use rustix::process::Signal;

use crate::common::{Authority, Files, Program, Ran, Server, adit, noise, run, serve};
use crate::peers::{
    assert_done, assert_served, is_here, is_measured, listening, own_address, tool,
};

const MB: usize = 1_000_000;

/// An authority, and a certificate of its for `localhost` and the address of a test's own servers.
struct Trust {
    authority: Authority,
    here: Files,
}

impl Trust {
    fn new() -> Self {
        let authority = Authority::new();
        let here = authority.issue("here", &["localhost", "127.0.0.1"]);
        Self { authority, here }
    }

    /// `adit serve` with the certificate.
    fn serve(&self, words: &[&str]) -> Server {
        serve(&[&["--tls", "--cert", &self.here.cert, "--key", &self.here.key], words].concat())
    }

    /// `adit` to an address of theirs, which the certificate calls localhost.
    fn adit(&self, address: std::net::SocketAddr, more: &[&str]) -> Command {
        let place = format!("tls://{address}");
        let words = [&place, "--sni", "localhost", "--ca", &self.authority.ca];
        adit(&[&words[..], more].concat())
    }

    /// A server of theirs, with its own words behind; FILES of each stand where they want them.
    fn server(&self, program: &str, more: &str) -> Vec<String> {
        let Files { cert, key, .. } = &self.here;
        let line = match program {
            "openssl" => {
                format!("openssl s_server -accept HOST:PORT -cert {cert} -key {key} {more}")
            }
            "ncat" => format!("ncat -lnv HOST PORT --ssl --ssl-cert {cert} --ssl-key {key} {more}"),
            _ => {
                let at = format!(
                    "OPENSSL-LISTEN:PORT,bind=HOST,reuseaddr,cert={cert},key={key},verify=0"
                );
                format!("socat -d -d -t30 {at} {more}")
            }
        };
        line.split_whitespace().map(str::to_owned).collect()
    }

    /// A client of theirs that passes the end of its input on, or has to be ended.
    fn client(&self, program: &str) -> Vec<String> {
        let ca = &self.authority.ca;
        let line = match program {
            "openssl" => format!(
                "openssl s_client -connect HOST:PORT -quiet -CAfile {ca} -verify_return_error"
            ),
            "ncat" => format!("ncat -4 --ssl --ssl-trustfile {ca} --ssl-verify localhost PORT"),
            _ => format!("socat -t30 - OPENSSL:HOST:PORT,cafile={ca},commonname=localhost"),
        };
        line.split_whitespace().map(str::to_owned).collect()
    }
}

fn words(line: &[String]) -> Vec<&str> {
    line.iter().map(String::as_str).collect()
}

#[test]
fn what_adit_asks_openssl_answers_also_over_1_2_after_our_end() {
    if !is_here("openssl") {
        return;
    }
    let trust = Trust::new();
    for (flag, version) in [("-tls1_3", "1.3"), ("-tls1_2", "1.2")] {
        let address = own_address();
        let _theirs = listening(&words(&trust.server("openssl", &format!("-rev {flag}"))), address);
        run(&mut trust.adit(address, &[]), b"question\n").assert_clean("noitseuq\n");
        let ran = run(&mut trust.adit(address, &["-v", "--eof=hold", "--idle=1s"]), b"question\n");
        assert_eq!(ran.text(), "noitseuq\n", "{ran:?}");
        assert!(ran.err.contains(&format!(", TLS {version}, TLS_")), "{ran:?}");
        assert_eq!(ran.err.contains("--eof hold keeps it"), version == "1.2", "{ran:?}");
    }
}

#[test]
fn what_adit_asks_socat_answers() {
    if !is_here("socat") {
        return;
    }
    let (trust, address) = (Trust::new(), own_address());
    let line = trust.server("socat", "-");
    let mut theirs = listening(&words(&line), address);
    let mut client = Program::start(&mut trust.adit(address, &[]));
    client.write(b"question\n");
    client.end_input();
    theirs.out.wait_for("question\n");
    theirs.write(b"answer\n");
    theirs.end_input();
    client.wait().assert_clean("answer\n");
    assert_done(&theirs.wait(), "question\n", &words(&line));
}

#[test]
fn what_they_ask_adit_answers() {
    let trust = Trust::new();
    for program in ["ncat", "socat"].into_iter().filter(|program| is_here(program)) {
        let mut server = trust.serve(&["upper", "127.0.0.1:0", "--once"]);
        let line = trust.client(program);
        let ran = run(&mut tool(&words(&line), server.tcp()), b"question\nlast");
        assert_done(&ran, "QUESTION\nLAST", &words(&line));
        match program {
            // It leaves without the closing message; what it was asked to say is whole by luck only.
            "ncat" => server.program.wait().assert_failed(1, "truncated"),
            _ => assert_served(&mut server, "", &words(&line)),
        }
    }
}

/// Over TLS `-quiet` keeps the end of the input to itself.
#[test]
fn openssl_asks_and_never_ends_its_question() {
    if !is_measured_openssl() {
        return;
    }
    let trust = Trust::new();
    let server = trust.serve(&["upper", "127.0.0.1:0", "--idle=1s", "-v"]);
    let line = trust.client("openssl");
    let ran = run(&mut tool(&words(&line), server.tcp()), b"question\n");
    assert_eq!((ran.status, ran.text().as_str()), (0, "QUESTION\n"), "{ran:?}");
    server.program.err.wait_for("(code=idle-timeout)");
}

fn is_measured_openssl() -> bool {
    is_here("openssl")
        && run(Command::new("openssl").arg("version"), b"").text().starts_with("OpenSSL 3.")
}

#[test]
fn curl_gets_a_page_from_a_program_behind_adit() {
    if !is_here("curl") {
        return;
    }
    let trust = Trust::new();
    let page = "while read line && [ ${#line} -gt 1 ]; do :; done; \
        printf 'HTTP/1.1 200 OK\\r\\nContent-Length: 6\\r\\n\\r\\nhello\\n'";
    for flag in ["--tlsv1.3", "--tls-max=1.2"] {
        let flag: Vec<_> = flag.split('=').collect();
        let server = trust.serve(&["127.0.0.1:0", "--", "sh", "-c", page]);
        let url = format!("https://localhost:{}/", server.tcp().port());
        let mut command = Command::new("curl");
        command.args(["-sS", "--noproxy", "*", "--cacert", &trust.authority.ca]);
        let ran = run(command.args(flag).arg(&url), b"");
        assert_done(&ran, "hello\n", &["curl"]);
        assert_eq!(server.stop().err.matches("code=").count(), 0);
    }
    // Without the s: it learns what kind of port it is.
    let server = trust.serve(&["echo", "127.0.0.1:0"]);
    let url = format!("http://localhost:{}/", server.tcp().port());
    let ran = run(Command::new("curl").args(["-sS", "--noproxy", "*", &url]), b"");
    assert_done(&ran, "This port speaks TLS. Is it https://?\n", &["curl"]);
}

#[test]
fn ten_megabytes_go_each_way_at_once() {
    let trust = Trust::new();
    if !is_here("socat") {
        return;
    }
    let (ours, answer) = (noise(41, 10 * MB), noise(42, 10 * MB));
    let address = own_address();
    let mut theirs = listening(&words(&trust.server("socat", "-")), address);
    theirs.feed(answer.clone());
    let ran = run(&mut trust.adit(address, &[]), &ours);
    assert_eq!((ran.status, ran.err.as_str()), (0, ""));
    assert!(ran.out == answer, "{} bytes", ran.out.len());
    let ran = theirs.wait();
    assert!(ran.status == 0 && ran.out == ours, "{} bytes: {}", ran.out.len(), ran.err);

    let mut server = trust.serve(&["127.0.0.1:0", "--once"]);
    let mut client = Program::start(&mut tool(&words(&trust.client("socat")), server.tcp()));
    client.feed(answer.clone());
    server.program.feed(ours.clone());
    let ran = client.wait();
    assert!(ran.status == 0 && ran.out == ours, "{} bytes: {}", ran.out.len(), ran.err);
    let ran = server.program.wait();
    assert!(ran.status == 0 && ran.out == answer, "{} bytes: {}", ran.out.len(), ran.err);
}

/// Their server is killed: the kernel ends the stream, and no closing message of TLS is in front of it.
#[test]
fn a_server_of_theirs_that_is_killed_has_cut_its_answer() {
    let trust = Trust::new();
    for program in ["openssl", "ncat", "socat"].into_iter().filter(|program| is_here(program)) {
        let address = own_address();
        let more = if program == "socat" { "-" } else { "" };
        let mut theirs = listening(&words(&trust.server(program, more)), address);
        let mut client = Program::start(&mut trust.adit(address, &[]));
        client.write(b"question\n");
        theirs.out.wait_for("question\n");
        theirs.write(b"half an ans");
        // openssl sends whole lines.
        theirs.write(b"\n");
        client.out.wait_for("half an ans\n");
        theirs.signal(Signal::KILL);
        let ran = client.wait();
        ran.assert_failed(1, "truncated");
        assert_eq!(ran.text(), "half an ans\n", "{program}");
    }
}

#[test]
fn a_client_of_theirs_that_is_killed_has_cut_its_question() {
    let trust = Trust::new();
    for program in ["openssl", "ncat", "socat"].into_iter().filter(|program| is_here(program)) {
        let mut server = trust.serve(&["127.0.0.1:0", "--once"]);
        let mut client = Program::start(&mut tool(&words(&trust.client(program)), server.tcp()));
        client.write(b"half a question\n");
        server.program.out.wait_for("half a question\n");
        client.signal(Signal::KILL);
        let ran = server.program.wait();
        ran.assert_failed(1, "truncated");
        assert_eq!(ran.text(), "half a question\n", "{program}");
    }
}

// What they cannot do.

/// It ends as a stream ends that somebody has cut, so adit cannot tell that it is whole.
#[test]
fn ncat_as_a_server_ends_without_the_closing_message() {
    if !is_measured("ncat") {
        return;
    }
    let (trust, address) = (Trust::new(), own_address());
    let line = trust.server("ncat", "");
    let mut theirs = listening(&words(&line), address);
    let mut client = Program::start(&mut trust.adit(address, &[]));
    client.write(b"question\n");
    theirs.out.wait_for("question\n");
    theirs.write(b"answer\n");
    client.out.wait_for("answer\n");
    theirs.end_input();
    let ran = client.wait();
    ran.assert_failed(1, "truncated");
    assert_eq!(ran.text(), "answer\n");
}

#[test]
fn a_cut_is_a_success_to_ncat_and_socat() {
    let trust = Trust::new();
    let ca = &trust.authority.ca;
    let socat = format!("socat -u OPENSSL:HOST:PORT,cafile={ca},commonname=localhost -");
    let ncat =
        format!("ncat -4 --recv-only --ssl --ssl-trustfile {ca} --ssl-verify localhost PORT");
    for line in [socat, ncat] {
        let line: Vec<_> = line.split(' ').collect();
        if !is_measured(line[0]) {
            continue;
        }
        let mut server = trust.serve(&["127.0.0.1:0", "--once"]);
        let mut client = Program::start(&mut tool(&line, server.tcp()));
        server.program.write(b"half an ans");
        client.out.wait_for("half an ans");
        server.program.signal(Signal::KILL);
        let ran: Ran = client.wait();
        assert_eq!((ran.status, ran.text().as_str()), (0, "half an ans"), "{line:?}: {}", ran.err);
    }
}

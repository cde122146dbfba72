//! What clients say and what they hear, compared line by line with what is right.

use std::io::Write as _;
use std::time::Duration;

use adit::Result;
use adit::system::UDP_BYTES_MAX;

use super::input::Input;
use super::process::{Client, Server};
use super::table::thousands;
use super::{internal, wrong};

/// After so long without an answer a datagram is sent again.
const AGAIN: Duration = Duration::from_secs(1);
/// Lines that each UDP client asks, one after the other; more would only take longer.
const DATAGRAMS_MAX: usize = 10_000;

/// What a client was answered.
pub(super) struct Answers {
    pub(super) asked: usize,
    pub(super) right: usize,
    /// Lines with their answers.
    pub(super) shown: Vec<(Vec<u8>, Vec<u8>)>,
    /// What has to be said about it.
    pub(super) notes: Vec<String>,
    /// The client's own port.
    pub(super) port: Option<u16>,
}

/// Says everything over a stream, ends, and compares what comes back.
pub(super) fn stream(
    mut client: Client,
    name: &str,
    input: &Input,
    patience: Duration,
) -> Result<Answers> {
    let stdin = client.take_stdin();
    let output = std::thread::scope(|scope| {
        // Said and heard at the same time: whoever only talks fills the buffers and waits for ever.
        scope.spawn(move || {
            let Some(mut stdin) = stdin else { return };
            // A client that does not listen any more is found by what it did not answer.
            drop(stdin.write_all(&input.bytes));
        });
        client.output(patience)
    })?;
    client.finish(patience)?;
    let mut answers = Answers::of(input.lines.len());
    let mut heard = output.split(|byte| *byte == b'\n');
    for (index, line) in input.lines.iter().enumerate() {
        let expected = line.to_ascii_uppercase();
        match heard.next() {
            Some(answer) if answer == expected => answers.right += 1,
            Some(answer) => {
                let answer = adit::escape::escape_line(answer, 60);
                return Err(wrong(name, index + 1, &format!("a wrong answer, \"{answer}\"")));
            }
            None => return Err(wrong(name, index + 1, "no answer")),
        }
        answers.shown.push((line.clone(), expected));
    }
    if output.len() != input.bytes.len() {
        return Err(internal(&format!("client {name} heard {} bytes", output.len())));
    }
    Ok(answers)
}

/// Says line by line over datagrams, each once the answer to the one before has come.
pub(super) fn datagrams(
    client: &mut Client,
    name: &str,
    input: &Input,
    server: &mut Server,
    patience: Duration,
) -> Result<Answers> {
    let asked: Vec<&Vec<u8>> = input.lines.iter().take(DATAGRAMS_MAX).collect();
    let mut answers = Answers::of(0);
    if input.lines.len() > asked.len() {
        let note = format!("{name} asks the first {} lines, one by one", thousands(DATAGRAMS_MAX));
        answers.notes.push(note);
    }
    for (index, line) in asked.into_iter().enumerate() {
        // The line end is no part of a datagram, in either spelling.
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.len() > UDP_BYTES_MAX {
            let bytes = line.len();
            answers.notes.push(format!(
                "line {} has {} B: over TCP only, a datagram ends at {} B",
                thousands(index + 1),
                thousands(bytes),
                thousands(UDP_BYTES_MAX)
            ));
            continue;
        }
        answers.asked += 1;
        let expected = line.to_ascii_uppercase();
        let answer = ask(client, line, &mut answers.notes, name, patience)
            .map_err(|why| wrong(name, index + 1, &why))?;
        if answers.port.is_none() {
            answers.port = Some(server.next_open(patience)?);
        }
        if answer != expected {
            let answer = adit::escape::escape_line(&answer, 60);
            return Err(wrong(name, index + 1, &format!("a wrong answer, \"{answer}\"")));
        }
        answers.right += 1;
        answers.shown.push((line.to_vec(), expected));
    }
    // No more input; the client ends by itself after a second of quiet.
    drop(client.take_stdin());
    Ok(answers)
}

/// One datagram there, one back; the same again after a second without an answer.
fn ask(
    client: &mut Client,
    line: &[u8],
    notes: &mut Vec<String>,
    name: &str,
    patience: Duration,
) -> std::result::Result<Vec<u8>, String> {
    let typed = [line, b"\n"].concat();
    let tries = patience.as_secs().clamp(1, 5);
    for attempt in 0..tries {
        client.say(&typed).map_err(|error| error.to_string())?;
        if let Some(answer) = client.line(AGAIN) {
            return Ok(answer);
        }
        if attempt == 0 {
            notes.push(format!("{name} had no answer for 1 s and sent the same line again"));
        }
    }
    Err("no answer".to_owned())
}

//! Bytes that no honest peer sends, to both sides, in front of, in and behind the handshake.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use std::sync::OnceLock;
use std::time::Duration;

use adit_proto::code::Code;
use adit_proto::error::{Error, code_of};
use adit_tls::{ClientTls, HandshakeError, ServerTls, TlsStream};
use common::{Authority, SOON, within};
use proptest::prelude::*;
use tokio::io::{
    AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, DuplexStream, duplex,
};

/// One authority for all cases.
fn settings() -> &'static (Authority, ServerTls, ClientTls) {
    static SETTINGS: OnceLock<(Authority, ServerTls, ClientTls)> = OnceLock::new();
    SETTINGS.get_or_init(|| {
        let authority = Authority::new();
        let server = authority.server().client_ca(&authority.ca).unwrap();
        let own = authority.issue(&["worker.example"]);
        let client = authority.client().certificate(&own.cert, &own.key).unwrap();
        (authority, server, client)
    })
}

fn block_on<T>(what: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(within(what))
}

/// Gives these bytes to a client and to a server, and then the end of the stream.
fn fed(bytes: &[u8]) -> [Error; 2] {
    let (_, server, client) = settings();
    let feed = |mut far: DuplexStream| async move {
        drop(far.write_all(bytes).await);
        drop(far.shutdown().await);
        drop(tokio::io::copy(&mut far, &mut tokio::io::sink()).await);
    };
    block_on(async {
        let (near, far) = duplex(1 << 16);
        let ours = Box::pin(client.connect(near, "localhost", "h:1", SOON));
        let (at_client, ()) =
            tokio::join!(async { Error::from(ours.await.err().unwrap()) }, feed(far));
        let (near, far) = duplex(1 << 16);
        let ours = Box::pin(server.accept(near, "h:1", SOON));
        let (at_server, ()) =
            tokio::join!(async { Error::from(ours.await.err().unwrap()) }, feed(far));
        [at_client, at_server]
    })
}

/// Sentences are for people, whatever the peer has sent.
fn check(error: &Error) {
    let said = format!("{error:?}");
    assert!(
        !said.chars().any(|char| char != '\n' && adit_proto::escape::is_unsafe(char)),
        "{said:?}"
    );
    assert!(error.code() != Code::Internal, "{said}");
}

/// Carries bytes one way, and turns some bits of the byte at a place.
async fn relay(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    (at, bits): (usize, u8),
) {
    let (mut piece, mut done) = ([0; 4096], 0);
    while let Ok(bytes @ 1..) = from.read(&mut piece).await {
        if let Some(byte) = at.checked_sub(done).and_then(|at| piece[..bytes].get_mut(at)) {
            *byte ^= bits;
        }
        done += bytes;
        if to.write_all(&piece[..bytes]).await.is_err() {
            return;
        }
    }
    drop(to.shutdown().await);
}

/// What a conversation comes to: the bytes that a side reads, and the code of what ended it.
type Read = Result<(Vec<u8>, Option<Code>), Error>;

async fn converse(
    stream: Result<TlsStream<DuplexStream>, HandshakeError<DuplexStream>>,
    says: &[u8],
) -> Read {
    let mut stream = stream?;
    let sent = async |stream: &mut TlsStream<DuplexStream>| {
        stream.write_all(says).await?;
        stream.shutdown().await
    };
    let written = sent(&mut stream).await.err().map(|error| code_of(&error));
    let mut all = Vec::new();
    let read = stream.read_to_end(&mut all).await.err().map(|error| code_of(&error));
    Ok((all, read.or(written)))
}

/// A whole conversation with one byte changed on its way to the client or to the server.
fn changed(to_client: bool, change: (usize, u8)) -> [Read; 2] {
    const NO_CHANGE: (usize, u8) = (usize::MAX, 0);
    let (_, server, client) = settings();
    block_on(async {
        let ((near, left), (right, far)) = (duplex(1 << 16), duplex(1 << 16));
        let (left_in, left_out) = tokio::io::split(left);
        let (right_in, right_out) = tokio::io::split(right);
        let (there, back) = if to_client { (NO_CHANGE, change) } else { (change, NO_CHANGE) };
        let carried = tokio::spawn(relay(left_in, right_out, there));
        let back = tokio::spawn(relay(right_in, left_out, back));
        // A change may make a side wait for more than there is; then the limit ends it, and the end of
        // one side ends the other.
        let soon = Duration::from_millis(200);
        let ours = async {
            let stream = Box::pin(client.connect(near, "localhost", "h:1", soon)).await;
            tokio::time::timeout(soon, converse(stream, QUESTION)).await.ok()
        };
        let theirs = async {
            let stream = Box::pin(server.accept(far, "h:1", soon)).await;
            tokio::time::timeout(soon, converse(stream, ANSWER)).await.ok()
        };
        let (ours, theirs) = tokio::join!(Box::pin(ours), Box::pin(theirs));
        carried.abort();
        back.abort();
        let unfinished = || Ok((Vec::new(), Some(Code::HandshakeTimeout)));
        [ours.unwrap_or_else(unfinished), theirs.unwrap_or_else(unfinished)]
    })
}

const QUESTION: &[u8] = b"what is the answer?";
const ANSWER: &[u8] = &[42; 3000];

proptest! {
    #[test]
    fn any_bytes_are_an_error_with_a_sentence(
        bytes in prop::collection::vec(any::<u8>(), 0..600),
    ) {
        fed(&bytes).iter().for_each(check);
    }

    #[test]
    fn any_record_is_an_error_with_a_sentence(
        kind in 20..=23_u8,
        minor in 0..5_u8,
        body in prop::collection::vec(any::<u8>(), 0..600),
        length in prop::option::of(any::<u16>()),
        handshake in prop::option::of((0..25_u8, 0..700_u32)),
    ) {
        let mut message = Vec::new();
        if let Some((kind, length)) = handshake {
            message.push(kind);
            message.extend(&length.to_be_bytes()[1..]);
        }
        message.extend(body);
        let length = length.unwrap_or_else(|| u16::try_from(message.len()).unwrap());
        let mut record = vec![kind, 3, minor];
        record.extend(length.to_be_bytes());
        record.extend(message);
        fed(&record).iter().for_each(check);
    }

    /// Whatever is changed on the way, nobody reads what was not written.
    #[test]
    fn a_changed_byte_is_found(
        to_client in any::<bool>(),
        at in 0..8000_usize,
        bits in 1..=255_u8,
    ) {
        for (read, whole) in changed(to_client, (at, bits)).iter().zip([ANSWER, QUESTION]) {
            match read {
                Err(error) => check(error),
                Ok((all, None)) => prop_assert_eq!(&**all, whole),
                Ok((all, Some(_))) => prop_assert!(whole.starts_with(all)),
            }
        }
    }
}

#[test]
fn a_conversation_that_nobody_changes_is_whole() {
    let [at_client, at_server] = changed(true, (usize::MAX, 0));
    assert_eq!(at_client.unwrap(), (ANSWER.to_vec(), None));
    assert_eq!(at_server.unwrap(), (QUESTION.to_vec(), None));
}

/// A length is a claim: nothing is reserved for it (RFC 8446, section 4, allows 16 MiB).
#[test]
fn a_message_that_claims_megabytes_ends_the_handshake() {
    let mut record = vec![0x16, 3, 1, 0x40, 0, 1, 0xff, 0xff, 0xff];
    record.resize(5 + 0x4000, 0);
    let many: Vec<u8> = std::iter::repeat_n(record, 8).flatten().collect();
    for error in fed(&many) {
        check(&error);
        assert_eq!(error.code(), Code::TlsAlert, "{error:?}");
    }
}

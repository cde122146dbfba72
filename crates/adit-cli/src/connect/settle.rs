//! The last word of exit 0: has the peer's system acknowledged everything?

use std::io;
use std::time::Duration;

use adit::{Code, Limit, Look};

/// How often the kernel is asked.
const ASK_EVERY: Duration = Duration::from_millis(2);
const ASK_SELDOM: Duration = Duration::from_millis(50);

/// What became of what was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Settled {
    pub(crate) code: Code,
    pub(crate) unconfirmed: u64,
}

/// Waits until every byte is acknowledged, at most `patience`; says what happened instead if not.
///
/// The kernel has no event for "all acknowledged", so it is asked, soon and then less often.
pub(crate) async fn settle(
    look: &Look,
    stall: Limit<Duration>,
    patience: Option<Duration>,
) -> Settled {
    let start = tokio::time::Instant::now();
    let mut pause = ASK_EVERY;
    loop {
        let unconfirmed = unconfirmed(look);
        // A broken connection leaves its error behind, and what was on its way unacknowledged.
        if let Ok(Some(error)) = look.take_error()
            && !answers_our_end(look, unconfirmed)
        {
            return Settled { code: code_of(look, &error, stall), unconfirmed };
        }
        if unconfirmed == 0 {
            return Settled { code: Code::Ok, unconfirmed };
        }
        if patience.is_some_and(|patience| start.elapsed() > patience) {
            return Settled { code: Code::Lost, unconfirmed };
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(ASK_SELDOM);
    }
}

/// How a broken connection is called. TLS says it itself: cut, or refused.
pub(crate) fn code_of(look: &Look, error: &io::Error, stall: Limit<Duration>) -> Code {
    let is_of_tls = error.get_ref().is_some_and(|inner| inner.is::<adit::Error>());
    match look.code_of(error, stall) {
        code @ (Code::DeadPeer | Code::StallTimeout | Code::Unreachable) => code,
        code if is_of_tls => code,
        _ => Code::Reset,
    }
}

/// Is a reset only the answer to our closing message of TLS? A peer that has ended and closed before it came
/// has nobody left to read it. All that was said before it is acknowledged, and nothing is missing.
fn answers_our_end(look: &Look, unconfirmed: u64) -> bool {
    // Our end counts as one where a reset has come.
    unconfirmed <= 1 && look.peer_has_ended() && look.tls().is_some()
}

/// Bytes sent that nobody has acknowledged.
pub(crate) fn unconfirmed(look: &Look) -> u64 {
    // Where the system does not tell, nothing can be said against it.
    look.unacknowledged().unwrap_or(0) as u64
}

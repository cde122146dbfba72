//! Reload: files are read again while the servers run. What is wrong in a new one leaves the old one in
//! force, and is said.

use std::collections::BTreeSet;
use std::time::Duration;

use adit::{Running, What};

use super::gate;
use crate::args;
use crate::say::{Voice, error_text};

/// Longest time that threads may take to go by a new list; one that is held up gets it later.
const HAND_OVER: Duration = Duration::from_secs(5);

/// Something that was read again: what is in force now, or why it is the old one still. None if there was
/// nothing to read.
type Part = Option<adit::Result<String>>;

/// Reads everything again that the flags name files for.
pub(super) async fn reload(flags: &args::House, servers: &[Running], voice: &Voice) {
    // One line for each kind of file.
    let listed = access(&flags.gate.access, servers).await;
    let parts = [listed, certificates(servers)].into_iter().chain(servers.iter().map(target));
    let mut is_all_read = true;
    for part in parts.flatten() {
        match part {
            Ok(now) => voice.note(&format!("reloaded  {now}")),
            Err(error) => {
                is_all_read = false;
                let text = format!("not reloaded, the old one stays: {}", error_text(&error));
                if voice.is_json() {
                    let (code, place) = (error.code(), "reload");
                    voice.emit(None, What::Error { code, text: &text, place, fatal: false });
                } else {
                    voice.warn(&text);
                }
            }
        }
    }
    if is_all_read {
        voice.emit(None, What::Reload);
    }
}

/// Who may come: for those who come from now on.
async fn access(flags: &args::AccessRules, servers: &[Running]) -> Part {
    if !gate::has_files(flags) {
        return None;
    }
    let list = match gate::access(flags) {
        Ok(list) => list,
        Err(error) => return Some(Err(error)),
    };
    let words = list.as_ref().map_or_else(|| "everybody".to_owned(), gate::allowed);
    let hand_over = async {
        for server in servers {
            server.set_access(list.clone()).await;
        }
    };
    // It is on its way to every thread then.
    let _late = tokio::time::timeout(HAND_OVER, hand_over).await;
    Some(Ok(format!("allowed: {words}")))
}

/// What is shown to those who come from now on, and which authorities may vouch for them.
fn certificates(servers: &[Running]) -> Part {
    // All of them, whatever is wrong with one.
    let read: Vec<_> = servers.iter().map(Running::reload_tls).collect();
    match read.into_iter().sum() {
        Ok(0_usize) => return None,
        Ok(_) => {}
        Err(error) => return Some(Err(error)),
    }
    let settings =
        servers.iter().flat_map(|server| server.addrs().filter_map(|place| server.tls(place)));
    let pins: BTreeSet<_> = settings.map(|tls| tls.pin().word()).collect();
    let pins = pins.into_iter().collect::<Vec<_>>().join(", ");
    Some(Ok(format!("certificate with pin {pins}")))
}

/// What a relay trusts at its target, and shows it.
fn target(server: &Running) -> Part {
    let tls = match server.reload_target_tls() {
        Ok(tls) => tls?,
        Err(error) => return Some(Err(error)),
    };
    let own = tls.pin().map(|pin| format!(", our certificate with pin {}", pin.word()));
    Some(Ok(format!("TLS to the target{}", own.unwrap_or_default())))
}

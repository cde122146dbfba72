//! Judge: what must hold however a call fails.

use crate::scenes::{Life, Scene};
use crate::traced::Fault;

/// What came of a fault that was borne.
#[derive(Debug)]
pub(crate) struct Verdict {
    /// Did the call fail at all?
    pub(crate) is_reached: bool,
    pub(crate) is_whole: bool,
    pub(crate) status: i32,
    pub(crate) said: String,
}

/// The exit status of the command: clean, network, a limit of ours, standard output gone.
const STATUSES: [i32; 4] = [0, 1, 124, 141];

/// Plays the scene with the fault.
pub(crate) fn judge(scene: Scene, fault: &Fault) -> Result<Verdict, String> {
    let name = scene.name;
    let life = (scene.run)(fault);
    let complaint = complaint(fault, &life);
    if let Some(complaint) = complaint {
        return Err(format!("{name}, {fault}: {complaint}\n{life:#?}"));
    }
    let Life { ran, failed, is_whole, .. } = life;
    Ok(Verdict { is_reached: !failed.is_empty(), is_whole, status: ran.status, said: ran.err })
}

fn complaint(fault: &Fault, life: &Life) -> Option<&'static str> {
    let Life { ran, failed, .. } = life;
    if is_out_of_scope(life) {
        return None;
    }
    if ran.signal == Some(9) {
        return Some("it hangs");
    }
    if ran.err.contains("panicked at") {
        return Some("it panics");
    }
    if ran.signal.is_some() && !life.was_stopped {
        return Some("a signal ends it");
    }
    let is_known = STATUSES.contains(&ran.status) || life.was_stopped && ran.status == 143;
    if !is_known {
        return Some("its status is not in the table");
    }
    // Where writing fails it cannot say so.
    if ran.status == 1 && !ran.err.contains("(code=") && fault.call != "write" {
        return Some("it does not say why it ends");
    }
    if ran.status == 0 && !life.was_stopped && !life.is_whole {
        return Some("bytes are missing, or it does not serve on, and it calls that a success");
    }
    if failed.is_empty() && (ran.status != 0 || !life.is_whole) {
        return Some("it fails though no call did");
    }
    None
}

/// What failed is not of adit: the loader, before the first line of the program; the pair of sockets by
/// which tokio tells of signals, which no kernel lets fail in use, and without which tokio panics.
fn is_out_of_scope(life: &Life) -> bool {
    life.ran.err.contains("error while loading shared libraries")
        || life.ran.err.contains("failed to create UnixStream")
        || life.ran.err.contains("Bad read on self-pipe")
        || life.failed.contains("<UNIX-STREAM:")
}

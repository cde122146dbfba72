//! Many connections, one after another and at once: nothing is left of them. Alone in its process,
//! because it counts what the process has.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use adit_tls::{ClientTls, ServerTls};
use common::{Authority, shake, within};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// Memory of this process in KiB (proc(5)).
fn memory_kib() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

async fn rounds(count: usize, client: &ClientTls, stranger: &ClientTls, server: &ServerTls) {
    for round in 0..count {
        // Every tenth fails.
        let who = if round % 10 == 0 { stranger } else { client };
        let (near, far) = shake(who, server, "localhost").await;
        if let (Ok(mut near), Ok(mut far)) = (near, far) {
            near.write_all(b"ping").await.unwrap();
            let mut ping = [0; 4];
            within(far.read_exact(&mut ping)).await.unwrap();
        }
    }
}

#[tokio::test]
async fn a_thousand_handshakes_leave_nothing_behind() {
    let authority = Authority::new();
    let (server, client) = (authority.server(), authority.client());
    let stranger = Authority::named("Another Authority").client();
    rounds(300, &client, &stranger, &server).await;
    let before = (memory_kib(), descriptors());
    rounds(1000, &client, &stranger, &server).await;
    let after = (memory_kib(), descriptors());
    assert_eq!(before.1, after.1);
    assert!(after.0 < before.0 + 1024, "{} KiB before, {} KiB after", before.0, after.0);
}

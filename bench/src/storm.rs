//! Row 3: 5,000 clients lose their server, which is away for a while.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use adit::event::Call;
use adit::prelude::*;
use adit::{ClientOptions, Running};

use crate::report;

const CLIENTS: usize = 5000;
const AWAY: Duration = Duration::from_secs(2);
const SHARE_MAX: f64 = 0.05;
const BACK_WITHIN: Duration = Duration::from_secs(60);

/// When each try to connect was made.
static TRIES: Mutex<Vec<Instant>> = Mutex::new(Vec::new());

fn serve(address: &str) -> Running {
    let slow = task(async |msg: Bytes| {
        // A call is on its way at any time.
        tokio::time::sleep(Duration::from_secs(1)).await;
        Ok(msg)
    });
    Server::new(slow).listen(address, Lines::new()).start().unwrap()
}

pub(crate) fn storm() {
    let clients = clients_by_descriptors();
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let server = serve("tcp://127.0.0.1:0");
    let address = format!("tcp://{}", server.addr(0).socket_addr().unwrap());
    let (back, most, all) = runtime.block_on(async {
        let mut connected = Vec::with_capacity(clients);
        for _ in 0..clients {
            let dial = Dial::new().observe(Tries);
            let deadline = Duration::from_secs(120);
            let options = ClientOptions { dial, deadline, ..ClientOptions::default() };
            connected.push(Client::connect_with(&address, Lines::new(), options).await.unwrap());
        }
        let calls: Vec<_> = connected
            .iter()
            .map(|client| tokio::spawn(client.call("back").idempotent().send()))
            .collect();
        tokio::time::sleep(Duration::from_millis(500)).await;
        TRIES.lock().unwrap().clear();
        let lost = Instant::now();
        drop(server);
        tokio::time::sleep(AWAY).await;
        let server = serve(&address);
        for call in calls {
            call.await.unwrap().unwrap();
        }
        let back = lost.elapsed();
        drop(server);
        let tries = TRIES.lock().unwrap().clone();
        let mut buckets = vec![0_usize; 1200];
        for at in &tries {
            let tenths = at.saturating_duration_since(lost).as_millis() / 100;
            buckets[usize::try_from(tenths).unwrap().min(1199)] += 1;
        }
        (back, buckets.into_iter().max().unwrap_or(0), tries.len())
    });
    let share = most as f64 / all as f64;
    let text = format!(
        "{clients} clients back in {back:.1?}, {all} tries, {:.1} % in the fullest 100 ms",
        share * 100.0
    );
    let held = share <= SHARE_MAX && back <= BACK_WITHIN;
    report("storm", &text, held, "5 % at most, 60 s at most");
}

/// Notes each try to connect.
struct Tries;

impl Observer for Tries {
    fn event(&self, event: &Event<'_>) {
        if let What::Call { call: Call::Connect, .. } = event.what {
            TRIES.lock().unwrap().push(Instant::now());
        }
    }
}

/// As many as descriptors allow: both ends are here.
fn clients_by_descriptors() -> usize {
    drop(adit::system::descriptors::raise_limit());
    let limit = adit::system::descriptors::limit().map_or(1024, |limit| limit.soft);
    CLIENTS.min(usize::try_from(limit).unwrap_or(CLIENTS).saturating_sub(200) / 2)
}

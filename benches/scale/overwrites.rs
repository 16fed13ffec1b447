//! Overwrites and a compaction: a tenth as many keys as overwrites, values of 1 KiB, each written eleven times, in
//! transactions of 128 puts; then history is compacted at its end, and somebody puts and gets beside that for a minute.

use std::time::{Duration, Instant};

use super::{
    beside::Beside,
    server::{Program, Server},
};

const VALUE_BYTES: usize = 1 << 10;
const ROUNDS: usize = 10;
const WATCHED: Duration = Duration::from_mins(1);
/// Before it, for comparison.
const ALONE: Duration = Duration::from_secs(10);

pub(crate) async fn measure(program: &Program, overwrites: usize) -> anyhow::Result<()> {
    let server = Server::start(program).await?;
    let client = server.client().await?;
    let keys = overwrites / ROUNDS;
    let live_mib = (keys * VALUE_BYTES) as u64 >> 20;
    for _ in 0..=ROUNDS {
        client.load("key/", keys, VALUE_BYTES, 0).await?;
    }
    let alone = Beside::alone(server.client().await?, ALONE).await?;
    let before = server.disk_mib();
    let beside = Beside::start(server.client().await?);
    let begun = Instant::now();
    client.compact(client.put("last", 0).await?).await?;
    let mut back = None;
    while begun.elapsed() < WATCHED {
        if back.is_none() && server.disk_mib() <= 2 * live_mib {
            back = Some(begun.elapsed());
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    let (name, seen) = (program.name(), beside.stop().await?);
    let back = back.map_or("never".to_owned(), |span| format!("after {:.1} s", span.as_secs_f64()));
    println!(
        "{name:10} {live_mib} MiB live: disk {before} MiB before the compaction, {} MiB after a minute; twice the live data {back}",
        server.disk_mib()
    );
    println!("{name:10} alone:      {alone}");
    println!("{name:10} beside it:  {seen}");
    Ok(())
}

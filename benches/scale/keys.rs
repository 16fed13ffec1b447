//! Many small keys: values of 256 bytes, loaded in transactions of 128 puts. Restarts are by SIGTERM, timed from the start of
//! the new process to its first answer to a linearizable read; the median of five.

use std::time::Duration;

use super::server::{Program, Server};

const VALUE_BYTES: usize = 256;
const RESTARTS: usize = 5;
/// For what a server does behind the scenes.
const REST: Duration = Duration::from_secs(10);

pub(crate) async fn measure(program: &Program, keys: usize) -> anyhow::Result<()> {
    let mut server = Server::start(program).await?;
    let empty = server.resident_mib()?;
    server.client().await?.load("key/", keys, VALUE_BYTES, 0).await?;
    tokio::time::sleep(REST).await;
    let (loaded, disk) = (server.resident_mib()?, server.disk_mib());
    let mut restarts = Vec::new();
    for _ in 0..RESTARTS {
        restarts.push(server.restart().await?);
    }
    restarts.sort();
    tokio::time::sleep(REST).await;
    println!(
        "{:10} {keys} keys: memory {empty} MiB empty, {loaded} MiB loaded, {} MiB restarted; disk {disk} MiB; restart {:.2} s",
        program.name(),
        server.resident_mib()?,
        restarts[RESTARTS / 2].as_secs_f64(),
    );
    Ok(())
}

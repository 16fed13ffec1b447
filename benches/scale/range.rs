//! Everything read at once, in each way that there is: values of 16 KiB, and how far resident memory rises above what it was.

use std::time::{Duration, Instant};

use anyhow::ensure;

use super::{
    client::Client,
    server::{Program, Server},
};

const VALUE_BYTES: usize = 16 << 10;
/// For what a server does behind the scenes.
const REST: Duration = Duration::from_secs(5);

#[derive(Clone, Copy, Debug)]
enum Way {
    Streamed,
    Pages,
    Snapshot,
    Whole,
}

impl Way {
    async fn read(self, client: &Client) -> anyhow::Result<usize> {
        match self {
            Self::Streamed => client.streamed().await,
            Self::Pages => client.pages().await,
            Self::Snapshot => client.snapshot().await,
            Self::Whole => client.whole().await,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Streamed => "RangeStream",
            Self::Pages => "Range in pages of 1,000",
            Self::Snapshot => "Snapshot",
            Self::Whole => "one Range",
        }
    }
}

pub(crate) async fn measure(program: &Program, mib: usize) -> anyhow::Result<()> {
    let server = Server::start(program).await?;
    let keys = (mib << 20) / VALUE_BYTES;
    server.client().await?.load("key/", keys, VALUE_BYTES, 0).await?;
    for way in [Way::Streamed, Way::Pages, Way::Snapshot, Way::Whole] {
        // etcd has it since 3.7.
        if matches!((way, program), (Way::Streamed, Program::Etcd(_))) {
            continue;
        }
        tokio::time::sleep(REST).await;
        let client = server.client().await?;
        let before = server.resident_mib()?;
        server.forget_peak()?;
        let begun = Instant::now();
        let bytes = way.read(&client).await?;
        ensure!(bytes >= keys * VALUE_BYTES, "{} of {} bytes came", bytes, keys * VALUE_BYTES);
        println!(
            "{:10} {:24} {mib} MiB in {:5.1} s: memory {before} MiB before, {} MiB more at its peak",
            program.name(),
            way.name(),
            begun.elapsed().as_secs_f64(),
            server.peak_mib()?.saturating_sub(before),
        );
    }
    Ok(())
}

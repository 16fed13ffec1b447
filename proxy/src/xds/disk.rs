//! The last accepted configuration on disk: resources as received, with their versions.

use std::{io, time::Duration};

use prost::Message;
use proto::envoy::service::discovery::v3::{DeltaDiscoveryResponse, Resource};
use tokio_util::sync::CancellationToken;

use super::{Resources, resources::Saved};
use crate::{config::Kind, state_dir::StateDir};

const FILE: &str = "configuration.pb";
/// Changes that come close together are written together.
const SETTLE: Duration = Duration::from_millis(200);

/// Reads what an earlier run saved; nothing when there is no file.
///
/// # Errors
/// The file can not be read, or is not what was written.
pub(crate) fn load(dir: &StateDir) -> io::Result<Vec<Saved>> {
    let Some(bytes) = dir.read(FILE)? else { return Ok(Vec::new()) };
    let saved = DeltaDiscoveryResponse::decode(bytes.as_slice())
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
    let row = |resource: Resource| {
        let any = resource.resource?;
        Some((Kind::of_type_url(&any.type_url)?, resource.name, resource.version, any))
    };
    Ok(saved.resources.into_iter().filter_map(row).collect())
}

fn save(dir: &StateDir, rows: Vec<Saved>) -> io::Result<()> {
    let resource = |(_, name, version, any)| Resource { name, version, resource: Some(any), ..Resource::default() };
    let resources = rows.into_iter().map(resource).collect();
    dir.write(FILE, &DeltaDiscoveryResponse { resources, ..DeltaDiscoveryResponse::default() }.encode_to_vec())
}

/// Writes each change until told to stop, and then what is left.
pub(crate) async fn keep_on_disk(dir: StateDir, resources: Resources, stop: CancellationToken) {
    let mut changes = resources.changes();
    loop {
        let more = stop.run_until_cancelled(async {
            if changes.changed().await.is_ok() {
                tokio::time::sleep(SETTLE).await;
            }
        });
        let stopped = more.await.is_none();
        if stopped && !changes.has_changed().unwrap_or(false) {
            return;
        }
        changes.mark_unchanged();
        let (dir, rows) = (dir.clone(), resources.all());
        let written = tokio::task::spawn_blocking(move || save(&dir, rows)).await;
        if let Ok(Err(error)) = written {
            tracing::warn!(%error, "configuration not saved");
        }
        if stopped {
            return;
        }
    }
}

//! Those who watch.

use std::time::Duration;

use client::{ClientError, EventFilter, Watch, WatchBatch, WatchOptions};
use futures_util::StreamExt;
use rand::{RngExt, SeedableRng, rngs::StdRng};
use tokio::time::{Instant, sleep, timeout_at};
use types::Revision;

use crate::{
    calls::{event, range},
    clients::Ended,
    history::{Filter, Keys, Told, Watched},
    stage::Stage,
};

/// How often an observer looks whether it has been told everything.
const LOOK: Duration = Duration::from_millis(100);
/// A watch that says nothing for so long, not even how far it is, has nobody to ask any more: members change.
const SILENCE_MAX: Duration = Duration::from_secs(8);

/// Watches everything, from the first change to the last.
pub(crate) async fn observe(stage: Stage, who: u32) -> Ended {
    let mut from = Revision::FIRST;
    while !stage.is_told() {
        let watched = Watched { start: from.get(), ..Watched::everything() };
        let ended = watch(&stage, who, &watched, None).await;
        from = match ended {
            Err(ClientError::Compacted { oldest: Some(oldest), .. }) => oldest,
            Ok(reached) => Revision::new(reached).map_or(from, Revision::next),
            Err(_) => from,
        };
        sleep(LOOK).await;
    }
    Ok(())
}

/// Watches this and that, from somewhere on, for a while.
pub(crate) async fn glance(stage: Stage, who: u32) -> Ended {
    let mut rng = StdRng::seed_from_u64(stage.plan().seed.rotate_left(32) ^ u64::from(who));
    while !stage.is_calm() {
        let keys = match rng.random_range(0..3) {
            0 => Keys::One(format!("k{}", rng.random_range(0..stage.plan().keys))),
            1 => Keys::Prefix("k".to_owned()),
            _ => Keys::All,
        };
        let start = (stage.observed() + rng.random_range(-30..=10)).max(1);
        let filter = [None, None, Some(Filter::NoPut), Some(Filter::NoDelete)][rng.random_range(0..4)];
        let watched = Watched { keys, start, prev: rng.random_bool(0.5), filter };
        let until = Instant::now() + Duration::from_millis(rng.random_range(100..=3_000));
        drop(watch(&stage, who, &watched, Some(until)).await);
        sleep(LOOK).await;
    }
    Ok(())
}

/// Watches, and writes down what is told, until then or until everything is; gives the last revision told.
async fn watch(stage: &Stage, who: u32, watched: &Watched, until: Option<Instant>) -> Result<i64, ClientError> {
    let opened = stage.recorder().watch(who, "", watched.clone());
    let options = WatchOptions {
        start: Revision::new(watched.start),
        prev_kv: watched.prev,
        without: watched.filter.map(|filter| match filter {
            Filter::NoPut => EventFilter::Puts,
            Filter::NoDelete => EventFilter::Deletes,
        }),
        progress: true,
    };
    let client = stage.client(who as usize);
    let opening = client.watch(range(&watched.keys), options);
    let late = Instant::now() + Duration::from_secs(30);
    let Ok(watch) = timeout_at(until.unwrap_or(late), opening).await else { return Ok(watched.start - 1) };
    let tell = |told| stage.recorder().told(opened, told);
    follow(stage, &tell, watch?, until, watched).await
}

async fn follow(
    stage: &Stage,
    tell: &impl Fn(Told),
    mut watch: Watch,
    until: Option<Instant>,
    watched: &Watched,
) -> Result<i64, ClientError> {
    let is_observer = until.is_none();
    let (mut reached, mut heard) = (watched.start - 1, Instant::now());
    loop {
        let look = Instant::now() + LOOK;
        match timeout_at(until.map_or(look, |until| until.min(look)), watch.next()).await {
            Ok(Some(Ok(batch))) => {
                (reached, heard) = (batch.revision.get(), Instant::now());
                tell(told(&batch));
                if is_observer {
                    stage.observe(reached);
                }
            }
            Ok(Some(Err(error))) => {
                tell(Told::Ended { reason: error.to_string() });
                return Err(error);
            }
            Ok(None) => return Ok(reached),
            Err(_) if until.is_some_and(|until| Instant::now() >= until) || stage.is_told() => return Ok(reached),
            Err(_) if heard.elapsed() > SILENCE_MAX => return Ok(reached),
            Err(_) => {}
        }
    }
}

fn told(batch: &WatchBatch) -> Told {
    if batch.events.is_empty() {
        Told::Progress { revision: batch.revision.get() }
    } else {
        Told::Events { revision: batch.store_revision.get(), events: batch.events.iter().map(event).collect() }
    }
}

//! Leases: many that are kept alive from a few streams, each renewed every third of its time; half as many that end together,
//! each with a key, watched; one with very many keys, revoked. Somebody puts and gets beside each of it.
//!
//! A lease is early if its key goes before its time after its last renewal was asked for, and late by what its key is there
//! longer than its time after that renewal was answered.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use futures_util::{StreamExt, TryStreamExt, stream};
use proto::{
    etcdserverpb::{LeaseKeepAliveRequest, WatchCreateRequest, WatchRequest, watch_request::RequestUnion},
    mvccpb::event::EventType,
};
use tokio::{sync::mpsc, task::JoinSet};
use tokio_stream::wrappers::ReceiverStream;

use super::{
    beside::{Beside, latencies},
    client::Client,
    server::{Program, Server},
};

/// Of those that are kept alive, seconds.
const KEPT_TTL: i64 = 30;
/// How long they are.
const KEPT: Duration = Duration::from_mins(1);
const STREAMS: usize = 8;
/// Of those that end together, seconds: their renewal takes less.
const ENDING_TTL: i64 = 20;
const GRANTING: usize = 256;
/// Without an end of any of them for so long, no more is waited for.
const ENDING_MAX: Duration = Duration::from_mins(3);

pub(crate) async fn measure(program: &Program, leases: usize) -> anyhow::Result<()> {
    let server = Server::start(program).await?;
    kept(program, &server, leases).await?;
    drop(server);
    let server = Server::start(program).await?;
    ended(program, &server, leases / 2).await?;
    drop(server);
    let server = Server::start(program).await?;
    revoked(program, &server, leases).await
}

async fn grant(client: &Client, leases: usize, ttl: i64) -> anyhow::Result<()> {
    let grants = (1..=leases).map(|id| async move { client.grant(i64::try_from(id)?, ttl).await });
    stream::iter(grants).buffer_unordered(GRANTING).try_collect().await
}

/// Renews the leases of a slice in turn; when each was asked for and answered. Refuses an answer that a lease is gone.
async fn renew(client: &Client, ids: Vec<i64>) -> anyhow::Result<Vec<(Instant, Instant)>> {
    let (requests, queue) = mpsc::channel(64);
    let sending = tokio::spawn({
        let ids = ids.clone();
        async move {
            let mut asked = Vec::with_capacity(ids.len());
            for id in ids {
                asked.push(Instant::now());
                if requests.send(LeaseKeepAliveRequest { id }).await.is_err() {
                    break;
                }
            }
            asked
        }
    });
    let mut answers = client.lease().lease_keep_alive(ReceiverStream::new(queue)).await?.into_inner();
    let mut answered = Vec::with_capacity(ids.len());
    for id in ids {
        let answer = answers.message().await?.context("the stream ended")?;
        ensure!(answer.id == id && answer.ttl > 0, "lease {id} has ended before its time: {answer:?}");
        answered.push(Instant::now());
    }
    Ok(sending.await?.into_iter().zip(answered).collect())
}

async fn kept(program: &Program, server: &Server, leases: usize) -> anyhow::Result<()> {
    let client = server.client().await?;
    let begun = Instant::now();
    grant(&client, leases, KEPT_TTL).await?;
    let granted = begun.elapsed();
    let beside = Beside::start(server.client().await?);
    let (begun, third) = (Instant::now(), Duration::from_secs(KEPT_TTL.unsigned_abs()) / 3);
    let mut rounds = Vec::new();
    while begun.elapsed() < KEPT {
        let round = Instant::now();
        renew_all(server, leases).await?;
        rounds.push(round.elapsed());
        tokio::time::sleep(third.saturating_sub(round.elapsed())).await;
    }
    rounds.sort();
    let median = rounds[rounds.len() / 2].as_millis().max(1);
    println!(
        "{:10} {leases} leases of {KEPT_TTL} s: granted in {:.1} s; none ended in {} rounds of renewals, {} a second",
        program.name(),
        granted.as_secs_f64(),
        rounds.len(),
        leases as u128 * 1_000 / median,
    );
    println!("{:10} beside the renewals:       {}", program.name(), beside.stop().await?);
    Ok(())
}

/// Over several streams, each on a connection of its own.
async fn renew_all(server: &Server, leases: usize) -> anyhow::Result<Vec<(Instant, Instant)>> {
    let mut streams = JoinSet::new();
    for number in 0..STREAMS {
        let ids = (1..=leases)
            .skip(number * leases / STREAMS)
            .take((number + 1) * leases / STREAMS - number * leases / STREAMS);
        let ids = ids.map(i64::try_from).collect::<Result<Vec<_>, _>>()?;
        let client = server.client().await?;
        streams.spawn(async move { anyhow::Ok((number, renew(&client, ids).await?)) });
    }
    let mut renewed = streams.join_all().await.into_iter().collect::<anyhow::Result<Vec<_>>>()?;
    renewed.sort_by_key(|(number, _)| *number);
    Ok(renewed.into_iter().flat_map(|(_, renewed)| renewed).collect())
}

async fn ended(program: &Program, server: &Server, leases: usize) -> anyhow::Result<()> {
    let client = server.client().await?;
    // Long enough that none ends before all are renewed.
    grant(&client, leases, ENDING_TTL).await?;
    let puts = (1..=leases).map(|id| {
        let client = client.clone();
        async move { client.load(&format!("leased/{id:09}/"), 1, 1, i64::try_from(id)?).await }
    });
    let keep_alive =
        renew_until_loaded(server, leases, stream::iter(puts).buffer_unordered(GRANTING).try_collect::<()>());
    keep_alive.await?;
    let mut watch = watch(server).await?;
    let beside = Beside::start(server.client().await?);
    let renewed = renew_all(server, leases).await?;
    let ttl = Duration::from_secs(ENDING_TTL.unsigned_abs());
    let (mut early, mut late) = (0, Vec::with_capacity(leases));
    while late.len() < leases {
        let gone = tokio::time::timeout(ENDING_MAX, watch.recv()).await?.context("the watch ended")?;
        for (id, at) in gone {
            let (asked, answered) = renewed[id - 1];
            early += usize::from(at < asked + ttl);
            late.push(at.saturating_duration_since(answered + ttl));
        }
    }
    late.sort();
    println!(
        "{:10} {leases} leases with a key, renewed within {:.1} s, end: {early} early; late {}",
        program.name(),
        renewed.last().map_or(0.0, |(_, last)| last.duration_since(renewed[0].0).as_secs_f64()),
        latencies(&late),
    );
    println!("{:10} beside their end:          {}", program.name(), beside.stop().await?);
    Ok(())
}

/// Keeps the leases alive while they get their keys.
async fn renew_until_loaded(
    server: &Server,
    leases: usize,
    loading: impl Future<Output = anyhow::Result<()>>,
) -> anyhow::Result<()> {
    let renewing = async {
        loop {
            renew_all(server, leases).await?;
            tokio::time::sleep(Duration::from_secs(ENDING_TTL.unsigned_abs() / 5)).await;
        }
    };
    tokio::select! {
        loaded = loading => loaded,
        renewed = renewing => renewed,
    }
}

/// The leases whose keys go, and when each was told.
async fn watch(server: &Server) -> anyhow::Result<mpsc::Receiver<Vec<(usize, Instant)>>> {
    let (requests, queue) = mpsc::channel(1);
    let create = WatchCreateRequest { key: "leased/".into(), range_end: "leased0".into(), ..Default::default() };
    requests.send(WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) }).await?;
    let mut answers = server.client().await?.watch().watch(ReceiverStream::new(queue)).await?.into_inner();
    ensure!(answers.message().await?.is_some_and(|answer| answer.created), "no watch");
    let (gone, told) = mpsc::channel(1_000);
    tokio::spawn(async move {
        while let Ok(Some(answer)) = answers.message().await {
            let at = Instant::now();
            let deleted = answer.events.iter().filter(|event| event.r#type == i32::from(EventType::Delete));
            let key = |event: &proto::mvccpb::Event| event.kv.as_ref().map(|kv| kv.key.clone()).unwrap_or_default();
            let id = |event| String::from_utf8_lossy(&key(event)).split('/').nth(1)?.parse().ok();
            if gone.send(deleted.filter_map(id).map(|id| (id, at)).collect()).await.is_err() {
                break;
            }
        }
        // Its end would end the stream.
        drop(requests);
    });
    Ok(told)
}

async fn revoked(program: &Program, server: &Server, keys: usize) -> anyhow::Result<()> {
    let client = server.client().await?;
    client.grant(1, 3_600).await?;
    client.load("leased/", keys, 16, 1).await?;
    tokio::time::sleep(Duration::from_secs(5)).await;
    let alone = Beside::alone(server.client().await?, Duration::from_secs(5)).await?;
    let beside = Beside::start(server.client().await?);
    tokio::time::sleep(Duration::from_secs(1)).await;
    let begun = Instant::now();
    client.revoke(1).await?;
    let took = begun.elapsed();
    tokio::time::sleep(Duration::from_secs(10)).await;
    let (name, seen) = (program.name(), beside.stop().await?);
    println!("{name:10} a lease with {keys} keys is revoked in {:.0} ms", took.as_secs_f64() * 1000.0);
    println!("{name:10} alone:                     {alone}");
    println!("{name:10} beside the end of it:      {seen}");
    Ok(())
}

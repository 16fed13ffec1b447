//! After the trouble: everybody serves, each user what they may have; leases that nobody keeps end; all have the same, and
//! name the same members, of which one set votes.

use std::{collections::BTreeMap, time::Duration};

use client::Client;
use tokio::time::{Instant, sleep};
use types::Revision;

use crate::{
    calls::call,
    clients::Ended,
    history::{Keys, Request},
    leases,
    stage::Stage,
    users,
};

/// How long a cluster in peace may take until every member serves.
const RECOVERY_MAX: Duration = Duration::from_mins(1);
const PAUSE: Duration = Duration::from_millis(100);

/// Asks every member to serve, and holds them against each other.
pub(crate) async fn verify(stage: Stage, who: u32) -> Ended {
    let until = Instant::now() + RECOVERY_MAX;
    let mut puts = 0;
    loop {
        let members = members(&stage, until).await?;
        match all_serve(&stage, &members, who, &mut puts).await {
            Ok(()) => break,
            Err(why) if Instant::now() > until => return Err(why.into()),
            Err(_) => sleep(PAUSE).await,
        }
    }
    while stage.is_busy() {
        if Instant::now() > until {
            return Err("clients wait although everybody serves".into());
        }
        sleep(PAUSE).await;
    }
    if stage.plan().has_users {
        users::prove(&stage, &members(&stage, until).await?, until).await?;
    }
    leases::all_end(&stage, until).await?;
    let last = loop {
        let members = members(&stage, until).await?;
        match agree(&stage, &members, who).await {
            Ok(last) => break last,
            Err(why) if Instant::now() > until => return Err(why.into()),
            // Somebody may have been removed so late that they were still there.
            Err(_) => sleep(PAUSE).await,
        }
    };
    stage.finish_at(last);
    let until = Instant::now() + RECOVERY_MAX;
    while !stage.is_told() {
        if Instant::now() > until {
            return Err(format!("observers were told up to {}, and not to {last}", stage.observed()).into());
        }
        sleep(PAUSE).await;
    }
    Ok(())
}

/// Writes by way of every member.
async fn all_serve(stage: &Stage, members: &[String], who: u32, puts: &mut u32) -> Result<(), String> {
    for host in members {
        *puts += 1;
        let put = Request::put("v", format!("{who}.{puts}"));
        let put = call(stage, &stage.client_of(vec![host.clone()]), who, put).await;
        put.map_err(|error| format!("{host} does not serve: {error}"))?;
    }
    Ok(())
}

/// The hosts of those who are members.
pub(crate) async fn members(stage: &Stage, until: Instant) -> Result<Vec<String>, String> {
    let client = stage.client(0);
    loop {
        match client.member_list().await {
            Ok(list) => {
                let host = |url: &String| url.strip_prefix("https://")?.split(':').next().map(str::to_owned);
                let hosts = list.members.iter().filter_map(|member| member.peer_urls.first().and_then(host));
                // One that was added when its answer was lost is nobody's, and never started.
                let started = stage.hosts();
                return Ok(hosts.filter(|host| started.contains(host)).collect());
            }
            Err(error) if Instant::now() > until => return Err(format!("nobody serves: {error}")),
            Err(_) => sleep(PAUSE).await,
        }
    }
}

/// All members have the same at the last revision, which is given.
async fn agree(stage: &Stage, members: &[String], who: u32) -> Result<i64, String> {
    let (mut hashes, mut last) = (Vec::new(), None);
    for host in members {
        let client = stage.client_of(vec![host.clone()]);
        let read = Request::read(Keys::All);
        let response = call(stage, &client, who, read).await.map_err(|error| format!("{host}: {error}"))?;
        let last = *last.get_or_insert(response.revision);
        hashes.push((host, hash(&client, last).await.map_err(|error| format!("{host}: {error}"))?));
    }
    let last = last.ok_or("nobody is a member")?;
    one_membership(stage, members).await?;
    let first = hashes.first().map(|(_, hash)| *hash);
    if hashes.iter().any(|(_, hash)| Some(hash) != first.as_ref()) {
        return Err(format!("members differ at revision {last}: {hashes:?}"));
    }
    Ok(last)
}

/// No change of voters is left in the middle, and every member lists the same ones.
async fn one_membership(stage: &Stage, members: &[String]) -> Result<(), String> {
    if stage.changes_voters(members) {
        return Err("a change of voters is not complete".to_owned());
    }
    let mut first = None;
    for host in members {
        let list = stage.client_of(vec![host.clone()]).member_list_unconfirmed().await;
        let list = list.map_err(|error| format!("{host}: {error}"))?.members;
        let listed: BTreeMap<_, _> =
            list.into_iter().map(|member| (member.id, (member.name, member.is_learner))).collect();
        if first.get_or_insert_with(|| listed.clone()) != &listed {
            return Err(format!("members differ in who is one: {host} lists {listed:?}, and the first {first:?}"));
        }
    }
    Ok(())
}

/// Of all keys up to a revision, and what is compacted.
async fn hash(client: &Client, at: i64) -> Result<(u32, Option<Revision>), String> {
    let hash = client.hash_kv(Revision::new(at)).await.map_err(|error| error.to_string())?;
    Ok((hash.hash, hash.compact_revision))
}

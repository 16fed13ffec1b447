//! Members come and go.

use std::time::Duration;

use client::{Client, MemberInfo};
use raft::{ClusterId, MemberId};
use rand::{RngExt, SeedableRng, rngs::StdRng, seq::IndexedRandom};
use tokio::time::sleep;

use crate::{clients::Ended, seat::peer_urls, stage::Stage};

/// Most members that are added in one run.
const ADDED_MAX: usize = 2;

/// Adds and removes members until all is calm.
pub(crate) async fn churn(stage: Stage, who: u32) -> Ended {
    let mut rng = StdRng::seed_from_u64(stage.plan().seed.rotate_left(32) ^ u64::from(who));
    let client = stage.client(who as usize);
    let mut number = stage.plan().members;
    while !stage.is_calm() {
        sleep(Duration::from_millis(rng.random_range(300..=2_000))).await;
        if stage.is_calm() {
            break;
        }
        if rng.random_bool(0.6) && number < stage.plan().members + ADDED_MAX {
            number += 1;
            if let Some(ids) = add(&client, number).await {
                stage.add(number, ids);
            }
        } else {
            remove(&client, &mut rng).await;
        }
    }
    Ok(())
}

/// Adds a member, and gives its ids once it is certain that it is there.
async fn add(client: &Client, number: usize) -> Option<(ClusterId, MemberId)> {
    let urls = peer_urls(number);
    if let Ok(added) = client.member_add(urls.clone(), false).await {
        return Some((ClusterId(added.all.header.cluster_id), MemberId(added.member.id)));
    }
    let list = client.member_list().await.ok()?;
    let added = list.members.iter().find(|member| member.peer_urls == urls)?;
    Some((ClusterId(list.header.cluster_id), MemberId(added.id)))
}

/// Removes one member of several.
async fn remove(client: &Client, rng: &mut StdRng) {
    let Ok(list) = client.member_list().await else { return };
    let members: Vec<&MemberInfo> = list.members.iter().collect();
    if let Some(member) = members.choose(rng).filter(|_| members.len() > 1) {
        // If the answer is lost it is removed or not; it will notice.
        drop(client.member_remove(member.id).await);
    }
}

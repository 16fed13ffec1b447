//! Keeping a lease: renewed in time, and its loss told in time.

#![expect(clippy::unwrap_used, reason = "a test that meets the unexpected ends")]

mod fake;

use fake::{Fake, Node, until};
use meshstore_client::{Client, Config, LeaseLost};
use std::time::Duration;
use tokio::time::{Instant, timeout};
use types::LeaseId;

const TTL: Duration = Duration::from_secs(1);

fn lease() -> LeaseId {
    LeaseId::new(7).unwrap()
}

#[tokio::test]
async fn a_kept_lease_is_renewed_until_it_is_gone() {
    let fake = Fake::new();
    let client = Client::in_process(fake.routes());
    client.lease_grant(TTL, Some(lease())).await.unwrap();
    let mut keeper = client.lease_keep_alive(lease()).await.unwrap();
    assert_eq!(keeper.id(), lease());
    assert_eq!(keeper.renewed().await.unwrap().ttl, TTL);
    until("three renewals", || fake.state().renewals >= 3).await;
    client.lease_revoke(lease()).await.unwrap();
    assert_eq!(timeout(TTL, keeper.lost()).await.unwrap(), LeaseLost::Gone);
    assert_eq!(keeper.renewed().await, Err(LeaseLost::Gone));
}

#[tokio::test]
async fn a_lease_that_nobody_confirms_is_lost_within_its_ttl() {
    let fake = Fake::new();
    let mut node = Node::start(&fake);
    let client = Client::connect(&Config::new([node.endpoint()])).unwrap();
    client.lease_grant(TTL, Some(lease())).await.unwrap();
    let mut keeper = client.lease_keep_alive(lease()).await.unwrap();
    keeper.renewed().await.unwrap();
    node.kill();
    let killed = Instant::now();
    let lost = timeout(2 * TTL, keeper.lost()).await.unwrap();
    assert!(matches!(lost, LeaseLost::Unconfirmed(_)), "{lost:?}");
    assert!(killed.elapsed() <= TTL + Duration::from_millis(100), "told after {:?}", killed.elapsed());
}

#[tokio::test]
async fn a_keeper_survives_the_loss_of_one_endpoint() {
    let fake = Fake::new();
    let (mut first, second) = (Node::start(&fake), Node::start(&fake));
    let client = Client::connect(&Config::new([first.endpoint(), second.endpoint()])).unwrap();
    client.lease_grant(TTL, Some(lease())).await.unwrap();
    let mut keeper = client.lease_keep_alive(lease()).await.unwrap();
    first.kill();
    for _ in 0..3 {
        keeper.renewed().await.unwrap();
    }
}

#[tokio::test]
async fn a_dropped_keeper_renews_no_more() {
    let fake = Fake::new();
    let client = Client::in_process(fake.routes());
    client.lease_grant(TTL, Some(lease())).await.unwrap();
    let mut keeper = client.lease_keep_alive(lease()).await.unwrap();
    keeper.renewed().await.unwrap();
    drop(keeper);
    let renewals = fake.state().renewals;
    tokio::time::sleep(TTL).await;
    assert_eq!(fake.state().renewals, renewals);
}

#[tokio::test]
async fn an_unknown_lease_is_not_kept() {
    let client = Client::in_process(Fake::new().routes());
    assert!(client.lease_keep_alive(lease()).await.is_err());
}

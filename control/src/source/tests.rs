//! Following a store in memory.

use client::{Op, Put, Txn};
use tokio::time::timeout;

use super::*;
use crate::testing::{BOOKINFO, Store, read, trust_domain};

const PATIENCE: Duration = Duration::from_secs(30);

#[tokio::test]
async fn every_revision_is_shown_whole_and_the_unreadable_has_no_effect() {
    let store = Store::new();
    let client = store.client();
    let txn = read(BOOKINFO)
        .into_iter()
        .fold(Txn::new(), |txn, parsed| txn.then(Op::put(parsed.resource.id.key(), parsed.resource.to_json())));
    let loaded = client.txn(txn.clone()).await.expect("stored").revision;
    let (publish, mut compiled) = watch::channel(None);
    let stop = CancellationToken::new();
    let task = tokio::spawn(follow(client.clone(), trust_domain(), publish, stop.clone()));
    let mut reach = async |revision| {
        let is_there =
            |compiled: &Option<Arc<Compiled>>| compiled.as_ref().is_some_and(|now| now.revision() >= revision);
        let now = timeout(PATIENCE, compiled.wait_for(is_there)).await.expect("in time").expect("alive").clone();
        now.expect("there")
    };
    assert_eq!(reach(loaded).await.snapshot.iter().count(), 15);

    let written = client.put(Put::new("/mesh/config/core/Service/default/details", "{")).await.expect("stored");
    let now = reach(written.revision).await;
    assert_eq!((now.revision(), now.snapshot.iter().count()), (written.revision, 14));
    client.put(Put::new("/elsewhere", "x")).await.expect("stored");
    let again = client.txn(txn).await.expect("stored").revision;
    assert_eq!(reach(again).await.snapshot.iter().count(), 15);
    stop.cancel();
    timeout(PATIENCE, task).await.expect("in time").expect("ends");
}

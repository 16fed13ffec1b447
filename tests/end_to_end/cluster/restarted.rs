//! A rolling restart under load fails no request but such as may be made again.

use super::load::Load;
use crate::harness::Cluster;

#[tokio::test(flavor = "multi_thread")]
async fn a_rolling_restart_fails_no_request_for_good() {
    let mut cluster = Cluster::of_three().await;
    let load = Load::start(&cluster);
    for at in 0..3 {
        load.more(100).await;
        assert_eq!(cluster.stop(at).await, Some(0));
        cluster.start(at).await;
        cluster.voters(3).await;
    }
    load.end(&cluster).await;
}

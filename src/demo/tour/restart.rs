//! The server is killed and started again while people visit the page.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use tokio::sync::watch;

use super::{
    report::Row,
    routes::reviews_change,
    visitors::{Visitors, Visits},
};
use crate::demo::{bookinfo::Bookinfo, console::milliseconds, examples};

/// Visitors at once.
const VISITORS: usize = 4;
/// Visits before the server is killed, while it is down, and after the new route took effect.
const VISITS_PER_PHASE: usize = 200;

/// What the scenario found beside the visits.
#[derive(Clone, Copy, Debug)]
struct Restart {
    while_down: usize,
    back: Duration,
    effect: Duration,
}

/// SIGKILL, visits without a server, restart, and a route change that must take effect; no visit may fail.
pub(super) async fn under_traffic(bookinfo: &mut Bookinfo, visitors: &Visitors) -> anyhow::Result<Row> {
    let on = AtomicBool::new(true);
    let (count, counted) = watch::channel(0_usize);
    let traffic = async {
        let visited = || count.send_modify(|visits| *visits += 1);
        let each = (0..VISITORS).map(|_| visitors.keep_visiting(|| on.load(Ordering::Relaxed), visited));
        let mut all = Visits::default();
        join_all(each).await.into_iter().for_each(|visits| all.merge(visits));
        all
    };
    let scenario = async {
        let result = kill_and_restart(bookinfo, counted).await;
        on.store(false, Ordering::Relaxed);
        result
    };
    let (visits, restart) = tokio::join!(traffic, scenario);
    Ok(row(&visits, restart?))
}

async fn kill_and_restart(bookinfo: &mut Bookinfo, mut counted: watch::Receiver<usize>) -> anyhow::Result<Restart> {
    more_visits(&mut counted).await?;
    bookinfo.kill_server().await?;
    let while_down = more_visits(&mut counted).await?;

    let since = Instant::now();
    bookinfo.restart_server().await?;
    let back = since.elapsed();
    let effect = reviews_change(bookinfo, examples::REVIEWS_V3, None, 1, "reviews-v3").await?;
    more_visits(&mut counted).await?;
    Ok(Restart { while_down, back, effect })
}

/// Waits for another phase's worth of visits, and says how many there were.
async fn more_visits(counted: &mut watch::Receiver<usize>) -> anyhow::Result<usize> {
    let before = *counted.borrow_and_update();
    let after = *counted.wait_for(|visits| *visits >= before + VISITS_PER_PHASE).await?;
    Ok(after - before)
}

fn row(visits: &Visits, restart: Restart) -> Row {
    let after = visits.by("reviews-v3");
    Row {
        step: "server killed and restarted under traffic",
        expected: "no failed visit; a route change after the restart takes effect".to_owned(),
        measured: format!(
            "{} visits, {} while it was down; {}; back after {}; {after} by reviews-v3 after the change",
            visits.total(),
            restart.while_down,
            if visits.failed() == 0 { "0 failed".to_owned() } else { visits.summary() },
            milliseconds(restart.back)
        ),
        effect: Some(restart.effect),
        passed: visits.failed() == 0 && after > 0,
    }
}

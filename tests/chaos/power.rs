//! Power losses: whatever was not synced is gone, and nothing that was acknowledged is.
//!
//! Asked for are 20; CI makes them all.

use std::time::Duration;

use rand::RngExt;

use crate::{
    run::{Run, a_while, times},
    volume::Volume,
};

const LOSSES: u64 = 20;
const UP_MAX: Duration = Duration::from_millis(800);
const DOWN_MAX: Duration = Duration::from_millis(200);

#[tokio::test(flavor = "multi_thread")]
async fn power_losses_lose_nothing_acknowledged() {
    let volumes: Option<Vec<_>> = (0..3).map(|_| Volume::ext4()).collect();
    let Some(volumes) = volumes else { return };
    let folders: Vec<_> = volumes.iter().map(Volume::path).collect();
    let mut run = Run::start_on("power_losses_lose_nothing_acknowledged", &folders).await;
    let mut losses = 0;
    while losses < times(LOSSES) {
        a_while(&mut run.dice, UP_MAX).await;
        // Half of them are everybody's: then no other member has what this one lost.
        let dark: Vec<_> = if run.dice.random() { run.members() } else { vec![run.dice.random_range(0..3)] };
        for &at in &dark {
            volumes[at].cut_power();
        }
        losses += 1;
        for &at in &dark {
            run.kill(at);
        }
        a_while(&mut run.dice, DOWN_MAX).await;
        for &at in &dark {
            volumes[at].power_on();
            run.spawn(at);
        }
        run.serves("when the power is back").await;
        run.everybody_lives();
    }
    eprintln!("{losses} power losses");
    run.finish().await;
}

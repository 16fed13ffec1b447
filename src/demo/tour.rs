//! The tour: the steps of Istio's, with real traffic, each measured against what it should show.
//!
//! Owns: the steps and their order. What was expected and measured becomes one row each of the closing table.
//!
//! - A row is marked failed, and the tour with it, when the measure is not what was expected; an error that keeps a
//!   step from being measured at all ends the tour.
//! - Every route change is timed: from sending the apply call to the first answer that only the new route can give.

mod effect;
mod metrics;
mod mutual_tls;
mod report;
mod restart;
mod routes;
mod visitors;

use anyhow::bail;

use self::{report::Report, visitors::Visitors};
use super::{bookinfo::Bookinfo, console::Console};

/// Takes every step, prints the table.
///
/// # Errors
/// When a step did not show what it should, or could not be taken.
pub(crate) async fn take(bookinfo: &mut Bookinfo, console: Console) -> anyhow::Result<()> {
    console.heading("The tour");
    let visitors = Visitors::new(bookinfo.layout.page);
    let mut report = Report::new(console);
    let jason = visitors.sign_in_as_jason().await?;

    report.add(routes::all_v1(bookinfo, &visitors).await?);
    report.add(routes::split(bookinfo, &visitors).await?);
    report.add(routes::by_user(bookinfo, &visitors, &jason).await?);
    report.add(routes::abort(bookinfo, &visitors, &jason).await?);
    report.add(routes::delay(bookinfo, &visitors, &jason).await?);
    report.add(mutual_tls::identities(bookinfo).await?);
    report.add(mutual_tls::plain_text_refused(bookinfo).await?);
    report.add(restart::under_traffic(bookinfo, &visitors).await?);

    report.print();
    match report.failures() {
        0 => Ok(()),
        failures => bail!("{failures} of {} steps of the tour did not show what they should", report.steps()),
    }
}

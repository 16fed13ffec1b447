//! Part two: members on four hosts.

use types::Release;

use super::{
    commands::Commands,
    site::{Site, ended, stop},
};
use crate::{
    cluster::compared::rewrite,
    harness::{Process, eventually},
};

/// Starts a member that has joined by a printed line, as the book has it for the second host.
const JOINED: &str = "meshstore server --data-dir default.meshstore --initial-cluster-state existing";
const REPORT: &str = "meshstore cluster members";

/// The cluster's hosts, and the servers that run on them.
struct Hosts<'a> {
    site: &'a Site,
    servers: [Option<Process>; 4],
}

impl Hosts<'_> {
    async fn serve(&mut self, host: usize, command: &str) {
        self.servers[host - 1] = Some(self.site.serve(host, command).await);
    }

    fn server(&mut self, host: usize) -> Process {
        self.servers[host - 1].take().unwrap()
    }

    /// SIGKILL, and nothing is left on its disk.
    fn lose(&mut self, host: usize) {
        drop(self.server(host));
        self.site.wipe(host);
    }

    /// A member joins by a line that was printed last, and serves.
    async fn join(&mut self, host: usize, printed: &str) {
        let line = printed.lines().last().unwrap();
        assert!(line.starts_with("meshstore cluster join "), "{printed}");
        self.site.until(host, line).await;
        self.serve(host, JOINED).await;
    }
}

pub(super) async fn story(book: &mut Commands) {
    let (site, prepared) = (Site::new(), Prepared::of(book));
    prepared.on(&site);
    // It is upgraded later.
    site.set("ETCD_AS_RELEASE", Release::THIS.before().to_string());
    site.set("ETCD_CORRUPT_CHECK_TIME", "500ms");
    let mut hosts = Hosts { site: &site, servers: [const { None }; 4] };
    founded(book, &mut hosts).await;
    grown(book, &mut hosts).await;
    replaced(book, &mut hosts).await;
    compared(book, &mut hosts).await;

    site.until(1, &book.next("meshstore cluster remove d")).await;
    assert_ne!(ended(hosts.server(4)).await, Some(0), "the removed server says why it ends");
    voters(&site, 3).await;

    upgraded(book, &mut hosts).await;
    site.done(1, &book.next("meshstore snapshot save backup.db")).await;
    assert!(!site.done(1, &book.next("meshstore snapshot status backup.db")).await.is_empty());
    forced(book, &mut hosts).await;
    restored(book, &mut hosts).await;
    drop(hosts);
    etcds_way(book, &prepared).await;
}

/// What the shells on all hosts begin with.
struct Prepared {
    servers: [String; 2],
    administrators: [String; 3],
}

impl Prepared {
    fn of(book: &mut Commands) -> Self {
        Self { servers: book.all("export ETCD_"), administrators: book.all("export ") }
    }

    /// Each host has the server's variables with its own address.
    fn on(&self, site: &Site) {
        for host in 1..=4 {
            let own = |export: &String| export.replace("10.0.0.1", &format!("10.0.0.{host}"));
            let exports = self.servers.iter().map(own).chain(self.administrators.iter().cloned());
            exports.for_each(|export| site.export(host, &export));
        }
    }
}

/// Waits until there are so many voters, all well.
async fn voters(site: &Site, count: usize) {
    let well = || async {
        let report = site.run(1, REPORT).await.ok()?;
        let whole = report.contains(&format!("{count} of {count} voter"));
        (whole && report.matches("healthy").count() == count).then_some(())
    };
    eventually(&format!("{count} voters"), well).await;
}

async fn put(site: &Site, key: &str, value: &str) {
    site.until(1, &format!("meshstore put {key} '{value}'")).await;
}

/// The value of a key, as one host's member has it, and the revision by which it was written.
async fn got(site: &Site, host: usize, key: &str) -> (String, i64) {
    let told = site.until(host, &format!("meshstore get {key} -w fields --endpoints https://10.0.0.{host}:2379")).await;
    let field = |name: &str| {
        let line = told.lines().find_map(|line| line.strip_prefix(&format!("\"{name}\" : ")));
        line.unwrap_or_else(|| panic!("no {name} in {told}")).trim_matches('"').to_owned()
    };
    (field("Value"), field("Revision").parse().unwrap())
}

async fn founded(book: &mut Commands, hosts: &mut Hosts<'_>) {
    let site = hosts.site;
    let printed = site.done(1, &book.next("meshstore cluster bootstrap")).await;
    hosts.serve(1, &book.next("meshstore server")).await;
    let (join, line) = (site.here(&book.next("meshstore cluster join")), site.here(printed.lines().last().unwrap()));
    assert!(is_like(&line, &join), "{line} is not like {join}");
    assert_eq!(book.next("meshstore server"), JOINED);
    hosts.join(2, &printed).await;
    voters(site, 2).await;
    put(site, "kept", "as it was written").await;
}

/// Whether a line that was printed is the book's, but for what is secret.
fn is_like(printed: &str, book: &str) -> bool {
    let (printed, book) = (printed.split(' ').collect::<Vec<_>>(), book.split(' ').collect::<Vec<_>>());
    printed.len() == book.len()
        && printed.iter().zip(book).all(|(printed, book)| match book.strip_suffix('…') {
            Some(begins) => begins == "5f" || printed.starts_with(begins),
            None => *printed == book,
        })
}

async fn grown(book: &mut Commands, hosts: &mut Hosts<'_>) {
    let site = hosts.site;
    let line = site.until(1, &book.next("meshstore cluster add c")).await;
    hosts.join(3, &line).await;
    voters(site, 3).await;
    let line = site.until(1, &book.next("meshstore cluster add d --learner")).await;
    hosts.join(4, &line).await;
    site.until(1, &book.next("meshstore cluster promote d")).await;
    voters(site, 4).await;
    let report = site.done(1, &book.next(REPORT)).await;
    assert!(report.contains("member-2") && report.contains("of 4 voters answer"), "{report}");

    site.until(1, &book.next("meshstore cluster transfer c")).await;
    eventually("c leads", || async { (leader(site).await == "c").then_some(()) }).await;
}

/// Who leads.
async fn leader(site: &Site) -> String {
    let leads = |line: &str| {
        let mut cells = line.split_whitespace();
        cells.next().filter(|_| cells.next() == Some("leader")).map(str::to_owned)
    };
    eventually("a leader", || async { site.run(1, REPORT).await.ok()?.lines().find_map(leads) }).await
}

async fn replaced(book: &mut Commands, hosts: &mut Hosts<'_>) {
    hosts.lose(2);
    let printed = hosts.site.until(1, &book.next("meshstore cluster replace member-2")).await;
    hosts.join(2, &printed).await;
    voters(hosts.site, 4).await;
    assert_eq!(got(hosts.site, 2, "kept").await.0, "as it was written");
}

/// A member's keys are others.
async fn compared(book: &mut Commands, hosts: &mut Hosts<'_>) {
    let site = hosts.site;
    stop(hosts.server(3)).await;
    rewrite(&site.folder(3).join("default.meshstore"), b"as it was written", b"as it was made up");
    hosts.serve(3, JOINED).await;
    site.told(1, &book.next(REPORT), "alarm CORRUPT at c").await;
    assert!(site.run(1, "meshstore put kept 'something else'").await.unwrap_err().contains("corrupt cluster"));

    hosts.lose(3);
    let printed = site.until(1, &book.next("meshstore cluster replace c")).await;
    hosts.join(3, &printed).await;
    site.until(1, &book.next("meshstore alarm disarm")).await;
    voters(site, 4).await;
    assert_eq!(got(site, 3, "kept").await.0, "as it was written");
}

/// The leader last.
async fn upgraded(book: &mut Commands, hosts: &mut Hosts<'_>) {
    let site = hosts.site;
    site.unset("ETCD_AS_RELEASE");
    let (first, report) = (book.next("meshstore server"), book.next(REPORT));
    let leader = leader(site).await;
    let mut order = [("a", 1, first.as_str()), ("member-2", 2, JOINED), ("c", 3, JOINED)];
    order.sort_by_key(|(name, ..)| *name == leader);
    for (_, host, command) in order {
        stop(hosts.server(host)).await;
        hosts.serve(host, command).await;
        site.told(1, &report, "3 of 3 voters answer").await;
        voters(site, 3).await;
    }
    let probed = site.until(1, &book.next("meshstore cluster probe")).await;
    assert!(probed.starts_with(&format!("the cluster at {} agreed", Release::THIS)), "{probed}");
}

/// Two of three are lost, and the third has everything.
async fn forced(book: &mut Commands, hosts: &mut Hosts<'_>) {
    let site = hosts.site;
    put(site, "late", "1").await;
    let (_, before) = got(site, 1, "late").await;
    hosts.lose(2);
    hosts.lose(3);
    site.done(1, &book.next("meshstore snapshot save rescue.db")).await;
    stop(hosts.server(1)).await;
    hosts.serve(1, &book.next("meshstore server")).await;
    site.told(1, &book.next(REPORT), "1 of 1 voter answers").await;
    assert_eq!(got(site, 1, "late").await, ("1".to_owned(), before));
    let line = site.until(1, &book.next("meshstore cluster add c")).await;
    hosts.join(3, &line).await;
    voters(site, 2).await;
    assert_eq!(got(site, 3, "late").await.0, "1");
}

/// That one is lost, too, and the snapshot is there.
async fn restored(book: &mut Commands, hosts: &mut Hosts<'_>) {
    let site = hosts.site;
    let (_, before) = got(site, 1, "late").await;
    hosts.lose(3);
    drop(hosts.server(1));
    site.done(1, &book.next("meshstore snapshot restore rescue.db")).await;
    site.done(1, &book.next("cp -R")).await;
    let printed = site.done(1, &book.next("meshstore cluster bootstrap")).await;
    hosts.serve(1, &book.next("meshstore server")).await;
    hosts.join(2, &printed).await;
    voters(site, 2).await;
    for (host, key) in [(1, "kept"), (1, "late"), (2, "kept"), (2, "late")] {
        let (_, revision) = got(site, host, key).await;
        assert!(revision >= before + 1_000_000_000, "nothing that clients saw comes again");
    }
}

/// Another cluster, by the flags.
async fn etcds_way(book: &mut Commands, prepared: &Prepared) {
    let site = Site::new();
    prepared.on(&site);
    let command = book.next("meshstore server --name a");
    let mut servers = Vec::new();
    for (host, name) in [(1, "a"), (2, "b"), (3, "c")] {
        let own = command.replacen("--name a", &format!("--name {name}"), 1);
        let own = own.replacen("https://10.0.0.1", &format!("https://10.0.0.{host}"), 1);
        servers.push(site.serve(host, &own).await);
    }
    voters(&site, 3).await;
    let printed = site.until(1, &book.next("meshstore member add d")).await;
    for variable in printed.lines().filter(|line| line.starts_with("ETCD_")) {
        site.export(4, &format!("export {variable}"));
    }
    servers.push(site.serve(4, &book.next("meshstore server")).await);
    voters(&site, 4).await;
}

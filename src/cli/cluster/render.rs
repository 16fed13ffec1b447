//! The members as a person reads them, and as programs do.

use std::{io::Write, time::Duration};

use client::StatusResponse;
use serde_json::{Value, json};

use super::{
    report::{Answer, Cluster, Report, Silence},
    shown,
};
use crate::cli::{
    failure::Failure,
    mesh::{Output, pretty, yaml},
    output::{size, table},
};

/// A member that is so many entries behind is told so in its health.
const FAR_BEHIND: u64 = 10_000;

pub(super) fn print(cluster: &Cluster, output: Output, out: &mut dyn Write) -> Result<(), Failure> {
    match output {
        Output::Json => pretty(&document(cluster), out),
        Output::Yaml => yaml(&[document(cluster)], out),
        Output::Table | Output::Wide => {
            writeln!(out, "{}", verdict(cluster))?;
            let mut header = vec!["NAME", "ROLE", "HEALTH", "LAG", "VERSION", "DISK", "ROUND TRIP"];
            if output == Output::Wide {
                header.extend(["ID", "TERM", "INDEX", "PEER URLS", "CLIENT URLS"]);
            }
            let rows: Vec<_> = cluster.members.iter().map(|report| row(cluster, report, header.len())).collect();
            Ok(table::columns(&header, &rows, out)?)
        }
    }
}

/// What there is to know at a glance.
fn verdict(cluster: &Cluster) -> String {
    let (voters, well) = cluster.voters();
    let quorum = voters / 2 + 1;
    let spare = match well.checked_sub(quorum) {
        None => format!("NO QUORUM: {quorum} are needed"),
        Some(0) if voters == 1 => "a single member: no other takes over from it".to_owned(),
        Some(0) => "no other may be lost".to_owned(),
        Some(spare) => format!("{spare} more may be lost"),
    };
    let doubt = if cluster.unconfirmed { " (as one member knows it)" } else { "" };
    let of = if voters == 1 { "voter answers" } else { "voters answer" };
    let at = cluster.version().map_or_else(String::new, |version| format!(" at {version}"));
    format!("cluster {:x}{at}{doubt}: {well} of {voters} {of}, {spare}", cluster.id)
}

fn row(cluster: &Cluster, report: &Report, columns: usize) -> Vec<String> {
    let status = report.status();
    let known = |value: fn(&StatusResponse) -> String| status.map_or_else(dash, value);
    let took = report.answer.as_ref().ok().map(|answer| answer.took);
    let cells = [
        shown(&report.member),
        role(cluster, report).to_owned(),
        health(cluster, report),
        lag(cluster, report).map_or_else(dash, |lag| lag.to_string()),
        version(cluster, report).unwrap_or_else(dash),
        known(|status| size(status.db_size_bytes)),
        took.map_or_else(dash, milliseconds),
        format!("{:x}", report.member.id),
        known(|status| status.raft_term.to_string()),
        known(|status| status.raft_index.to_string()),
        report.member.peer_urls.join(","),
        report.member.client_urls.join(","),
    ];
    cells.into_iter().take(columns).collect()
}

/// The version that it runs, or the release that others have heard of; of an etcd its own.
fn version(cluster: &Cluster, report: &Report) -> Option<String> {
    let own = report.versions().map(|versions| versions.version.clone());
    let told = || cluster.release_of(report.member.id).filter(|_| report.answer.is_ok()).map(str::to_owned);
    own.or_else(told).or_else(|| report.status().map(|status| format!("etcd {}", status.version)))
}

fn dash() -> String {
    "-".to_owned()
}

fn milliseconds(span: Duration) -> String {
    format!("{:.1} ms", span.as_secs_f64() * 1000.0)
}

fn role(cluster: &Cluster, report: &Report) -> &'static str {
    match () {
        () if report.member.is_learner => "learner",
        () if cluster.leader() == Some(report.member.id) => "leader",
        () => "follower",
    }
}

/// Entries that it has not applied yet.
fn lag(cluster: &Cluster, report: &Report) -> Option<u64> {
    report.status().map(|status| cluster.last_index().saturating_sub(status.raft_applied_index))
}

fn health(cluster: &Cluster, report: &Report) -> String {
    match &report.answer {
        Err(Silence::Failed(_)) => "does not answer".to_owned(),
        Err(reason) => reason.to_string(),
        Ok(Answer { status, .. }) if !status.errors.is_empty() => {
            status.errors.iter().map(|error| told(cluster, error)).collect::<Vec<_>>().join(", ")
        }
        Ok(_) if cluster.is_astray(report) => "does not follow the leader".to_owned(),
        Ok(_) if lag(cluster, report).is_some_and(|lag| lag > FAR_BEHIND) => "far behind".to_owned(),
        Ok(_) => "healthy".to_owned(),
    }
}

/// An error of a member's, with the name of who has raised an alarm.
fn told(cluster: &Cluster, error: &str) -> String {
    let error = error.trim().trim_start_matches("etcdserver: ");
    let named = || {
        let (id, kind) = error.strip_prefix("memberID:")?.split_once(" alarm:")?;
        let id = id.parse::<u64>().ok()?;
        let report = cluster.members.iter().find(|report| report.member.id == id)?;
        Some(format!("alarm {kind} at {}", shown(&report.member)))
    };
    named().unwrap_or_else(|| error.to_owned())
}

fn document(cluster: &Cluster) -> Value {
    let members: Vec<_> = cluster.members.iter().map(|report| member(cluster, report)).collect();
    let (voters, well) = cluster.voters();
    json!({
        "cluster": format!("{:x}", cluster.id),
        "version": cluster.version(),
        "leader": cluster.leader().map(|leader| format!("{leader:x}")),
        "voters": voters,
        "votersAnswering": well,
        "quorum": cluster.has_quorum(),
        "confirmed": !cluster.unconfirmed,
        "members": members,
    })
}

fn member(cluster: &Cluster, report: &Report) -> Value {
    let mut value = json!({
        "id": format!("{:x}", report.member.id),
        "name": report.member.name,
        "role": role(cluster, report),
        "health": health(cluster, report),
        "peerURLs": report.member.peer_urls,
        "clientURLs": report.member.client_urls,
    });
    match &report.answer {
        Ok(Answer { status, took, .. }) => {
            value["lag"] = json!(lag(cluster, report));
            value["version"] = json!(version(cluster, report));
            value["etcdVersion"] = json!(status.version);
            value["diskBytes"] = json!(status.db_size_bytes);
            value["usedBytes"] = json!(status.db_size_in_use_bytes);
            value["roundTripMs"] = json!(took.as_secs_f64() * 1000.0);
            value["term"] = json!(status.raft_term);
            value["index"] = json!(status.raft_index);
            value["applied"] = json!(status.raft_applied_index);
        }
        Err(reason) => value["error"] = json!(reason.to_string()),
    }
    value
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use client::{Header, MemberInfo, Versions};
    use types::Revision;

    use super::{verdict as verdict_of, *};

    fn versions(version: &str, cluster_version: &str) -> Versions {
        let members = BTreeMap::from([(4, "0.1".to_owned())]);
        Versions { version: version.to_owned(), cluster_version: cluster_version.to_owned(), members }
    }

    fn report(id: u64, name: &str, applied: Option<u64>) -> Report {
        let status = |raft_applied_index| StatusResponse {
            header: Header { cluster_id: 0xc, member_id: id, raft_term: 3 },
            revision: Revision::new(5).unwrap(),
            version: "3.6.0".to_owned(),
            db_size_bytes: 20_480,
            db_size_in_use_bytes: 10_000,
            leader: 1,
            raft_index: 50,
            raft_term: 3,
            raft_applied_index,
            errors: vec![],
            is_learner: false,
        };
        let versions = versions("0.2.0", "0.2");
        let answer = applied.map(|applied| Answer {
            status: status(applied),
            took: Duration::from_micros(1_250),
            versions: Some(versions),
        });
        Report {
            member: MemberInfo {
                id,
                name: name.to_owned(),
                peer_urls: vec![format!("https://{name}:2380")],
                client_urls: vec![format!("http://{name}:2379")],
                is_learner: false,
            },
            answer: answer.ok_or_else(|| Silence::Failed("connection refused".to_owned())),
        }
    }

    fn printed(cluster: &Cluster, output: Output) -> String {
        let mut out = Vec::new();
        print(cluster, output, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_person_sees_at_a_glance_how_the_cluster_is() {
        let members = vec![report(1, "a", Some(50)), report(2, "b", Some(47)), report(3, "c", None)];
        let cluster = Cluster { id: 0xc, unconfirmed: false, members };
        assert_eq!(
            printed(&cluster, Output::Table),
            "cluster c at 0.2: 2 of 3 voters answer, no other may be lost\n\
             NAME   ROLE       HEALTH            LAG   VERSION   DISK    ROUND TRIP\n\
             a      leader     healthy           0     0.2.0     20 kB   1.2 ms\n\
             b      follower   healthy           3     0.2.0     20 kB   1.2 ms\n\
             c      follower   does not answer   -     -         -       -\n"
        );
        assert!(printed(&cluster, Output::Wide).contains("https://b:2380"));
        let value: Value = serde_json::from_str(&printed(&cluster, Output::Json)).unwrap();
        assert_eq!((&value["leader"], &value["members"][1]["lag"]), (&json!("1"), &json!(3)));
        assert!(printed(&cluster, Output::Yaml).contains("votersAnswering: 2"));
    }

    #[test]
    fn who_answers_and_does_not_follow_the_leader_is_not_healthy() {
        let mut members: Vec<_> = [(1, "a"), (2, "b"), (3, "c")].map(|(id, name)| report(id, name, Some(50))).into();
        let astray = &mut members[2].answer.as_mut().unwrap().status;
        (astray.leader, astray.raft_term) = (3, 2);
        let text = printed(&Cluster { id: 0xc, unconfirmed: false, members }, Output::Table);
        assert!(text.contains("2 of 3 voters answer, no other may be lost"), "{text}");
        assert!(text.contains("c      follower   does not follow the leader"), "{text}");
    }

    #[test]
    fn an_alarm_is_told_with_the_name_of_its_member() {
        let mut members = vec![report(1, "a", Some(50)), report(77, "b", Some(50)), report(3, "c", None)];
        let errors = ["memberID:77 alarm:CORRUPT ", "memberID:8 alarm:NOSPACE ", "etcdserver: no leader"];
        members[0].answer.as_mut().unwrap().status.errors = errors.map(str::to_owned).into();
        members[2].answer = Err(Silence::AnotherAnswers);
        let cluster = Cluster { id: 0xc, unconfirmed: false, members };
        let told = "alarm CORRUPT at b, memberID:8 alarm:NOSPACE, no leader";
        assert_eq!(health(&cluster, &cluster.members[0]), told);
        assert_eq!(health(&cluster, &cluster.members[2]), "another member answers at its client URLs");
    }

    #[test]
    fn in_the_middle_of_an_upgrade_each_member_shows_what_it_runs() {
        let mut members = vec![report(1, "a", Some(50)), report(2, "b", Some(50))];
        let answer = members[0].answer.as_mut().unwrap();
        answer.versions = Some(versions("0.10.1", "0.9"));
        members[1].answer.as_mut().unwrap().versions = None;
        let mut cluster = Cluster { id: 0xc, unconfirmed: false, members };
        let text = printed(&cluster, Output::Table);
        assert!(
            text.contains("cluster c at 0.9: ") && text.contains(" 0.10.1 ") && text.contains(" etcd 3.6.0 "),
            "{text}"
        );
        cluster.members.push(report(3, "c", Some(50)));
        cluster.members.push(report(4, "d", Some(50)));
        cluster.members[3].answer.as_mut().unwrap().versions = None;
        assert_eq!(version(&cluster, &cluster.members[3]).as_deref(), Some("0.1"), "others have heard of it");
        cluster.members[2].answer.as_mut().unwrap().versions.as_mut().unwrap().cluster_version = "0.10".to_owned();
        assert_eq!(cluster.version(), Some("0.10"), "one member may have yet to hear of it");
    }

    #[test]
    fn the_verdict_says_what_may_still_be_lost() {
        let verdict = |well: usize, all: usize| {
            let members = (0..all).map(|at| report(at as u64 + 1, "x", (at < well).then_some(50))).collect();
            verdict_of(&Cluster { id: 0xc, unconfirmed: false, members })
        };
        assert!(verdict(1, 1).ends_with("a single member: no other takes over from it"));
        assert!(verdict(3, 3).ends_with("1 more may be lost"));
        assert!(verdict(2, 3).ends_with("no other may be lost"));
        assert!(verdict(1, 3).ends_with("NO QUORUM: 2 are needed"));
        assert!(verdict(5, 5).ends_with("2 more may be lost"));
    }
}

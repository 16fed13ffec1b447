use std::{ffi::OsString, path::PathBuf, time::Duration};

use super::*;

#[derive(clap::Parser)]
struct Line {
    #[command(flatten)]
    args: Args,
}

fn resolved(flags: &[&str]) -> Result<Settings, Failure> {
    parsed(flags)?.resolve()
}

fn parsed(flags: &[&str]) -> Result<Args, Failure> {
    let words = without_empty_flags(["server"].iter().chain(flags).map(OsString::from));
    let line = <Line as clap::Parser>::try_parse_from(words).map_err(|error| Failure::bad_args(error.to_string()))?;
    Ok(line.args)
}

fn refusal(flags: &[&str]) -> String {
    resolved(flags).map(|_| ()).unwrap_err().to_string()
}

#[test]
fn no_flag_at_all_is_the_defaults_on_loopback() {
    let settings = resolved(&[]).unwrap();
    assert_eq!(format!("{:?}", settings.member), format!("{:?}", server::Config::default()));
    let [listener] = settings.listeners[..] else { panic!("{:?}", settings.listeners) };
    assert_eq!((listener.address, listener.secure), ("127.0.0.1:2379".parse().unwrap(), false));
    assert_eq!(listener.purpose, Purpose::Clients);
    assert_eq!(settings.listen_mesh, "127.0.0.1:15012".parse().unwrap());
    assert!(settings.client_tls.is_none() && !settings.insecure_plaintext && settings.gateway);
}

#[test]
fn a_port_is_plain_or_tls_and_says_so() {
    let tls = ["--cert-file", "c", "--key-file", "k"];
    let cases: [(&[&str], &[&str], bool); 9] = [
        (&["--listen-client-urls", "http://localhost:1"], &[], true),
        (&["--listen-client-urls", "http://127.0.0.1:1,http://[::1]:2"], &[], true),
        (&["--listen-client-urls", "https://127.0.0.1:1"], &tls, true),
        (&["--listen-client-urls", "https://127.0.0.1:1,http://127.0.0.1:2"], &tls, true),
        (&["--listen-client-urls", "https://127.0.0.1:1"], &[], false),
        (&["--listen-client-urls", "http://127.0.0.1:1"], &tls, false),
        (&["--listen-client-urls", "127.0.0.1:1"], &[], false),
        (&["--listen-client-urls", "http://0.0.0.0:1"], &[], false),
        (&["--listen-client-urls", "http://0.0.0.0:1", "--advertise-client-urls", "http://10.0.0.1:1"], &[], true),
    ];
    for (urls, more, valid) in cases {
        let flags: Vec<_> = urls.iter().chain(more).copied().collect();
        assert_eq!(resolved(&flags).is_ok(), valid, "{flags:?}");
    }
    let told = resolved(&["--listen-client-urls", "http://127.0.0.1:7"]).unwrap().member.advertise_client_urls;
    assert_eq!(told, ["http://127.0.0.1:7"]);
    assert!(resolved(&["--client-cert-auth"]).is_err());
    assert!(resolved(&["--cert-file", "c"]).is_err());
}

#[test]
fn a_certificate_is_made_where_none_is_named() {
    let made = ["--listen-client-urls", "https://127.0.0.1:1", "--auto-tls"];
    let certificate = |more: &[&str]| resolved(&[&made[..], more].concat()).unwrap().client_tls.unwrap().0;
    let years = |years: u64| ClientCertificate::SelfSigned { validity: Duration::from_hours(years * 365 * 24) };
    assert_eq!(certificate(&[]), years(1));
    assert_eq!(certificate(&["--self-signed-cert-validity", "3"]), years(3));
    let files = tls::web::ServerFiles::new("c".into(), "k".into());
    assert_eq!(certificate(&["--cert-file", "c", "--key-file", "k"]), ClientCertificate::Files(files));
    assert!(resolved(&["--listen-client-urls", "http://127.0.0.1:1", "--auto-tls"]).is_err());
    assert!(resolved(&[&made[..], &["--self-signed-cert-validity", "0"]].concat()).is_err());
}

#[test]
fn http_can_have_ports_of_its_own() {
    let flags = ["--listen-client-http-urls", "http://127.0.0.1:2", "--listen-metrics-urls", "http://0.0.0.0:3"];
    let purposes: Vec<_> = resolved(&flags).unwrap().listeners.iter().map(|one| one.purpose).collect();
    assert_eq!(purposes, [Purpose::Grpc, Purpose::Http, Purpose::Probes]);
}

#[test]
fn flags_reach_the_member() {
    let flags = ["--name", "a", "--data-dir", "/d", "--heartbeat-interval", "50", "--max-txn-ops", "9"];
    let member = resolved(&flags).unwrap().member;
    assert_eq!((member.name.as_str(), member.data_dir), ("a", PathBuf::from("/d")));
    assert_eq!((member.heartbeat, member.store.txn_ops_max), (Duration::from_millis(50), 9));
    let store = resolved(&["--quota-backend-bytes=-1", "--auto-compaction-retention", "5m"]).unwrap().member.store;
    assert_eq!(store.quota_backend_bytes, -1);
    assert_eq!(store.auto_compaction, Some(store::AutoCompaction::Periodic(Duration::from_mins(5))));
    assert_eq!(resolved(&["--as-release", "0.1"]).unwrap().member.release, types::Release::FIRST);
    assert!(refusal(&["--as-release", "9.9"]).contains("releases up to this one"));
    assert!(resolved(&["--metrics", "extensive"]).unwrap().member.extensive_metrics);
    let keeping = resolved(&["--grpc-keepalive-interval", "0s", "--max-concurrent-streams", "7"]).unwrap().keeping;
    assert_eq!((keeping.probe_interval, keeping.streams_max), (None, 7));
}

#[test]
fn what_makes_no_sense_is_refused_as_in_etcd() {
    for (flags, told) in [
        (&["--election-timeout", "60000"][..], "say at most 50000"),
        (&["--heartbeat-interval", "300"], "5 times --heartbeat-interval 300"),
        (&["--heartbeat-interval", "10", "--election-timeout", "49"], "--election-timeout 49"),
        (&["--tls-min-version", "TLS1.3", "--tls-max-version", "TLS1.2"], "--tls-min-version is newer"),
        (&["--cipher-suites", "TLS_RSA_WITH_RC4_128_SHA"], "no cipher suite TLS_RSA_WITH_RC4_128_SHA"),
    ] {
        assert!(refusal(flags).contains(told), "{flags:?}: {}", refusal(flags));
    }
    assert!(resolved(&["--heartbeat-interval", "10", "--election-timeout", "50"]).is_ok());
    let zeros = resolved(&["--snapshot-count", "0", "--max-concurrent-streams", "0"]).unwrap();
    assert_eq!((zeros.member.snapshot_count, zeros.keeping.streams_max), (10_000, 10_000));
    for (asked, taken) in [("1ms", 100), ("0s", 600_000), ("100ms", 100), ("1s", 1000)] {
        let member = resolved(&["--watch-progress-notify-interval", asked]).unwrap().member;
        assert_eq!(member.watch_progress_interval, Duration::from_millis(taken), "{asked}");
    }
}

#[test]
fn the_flag_that_named_a_file_is_told() {
    let tls = ["--cert-file", "c", "--key-file", "k", "--trusted-ca-file", "ca"];
    let keys = ["--listen-client-urls", "https://127.0.0.1:1", "--auth-token", "jwt,sign-method=RS256,pub-key=p"];
    let files = named_files(&resolved(&[&tls[..], &keys].concat()).unwrap());
    let unread = |path: &str| CredentialsError::Read { path: path.into(), source: std::io::ErrorKind::NotFound.into() };
    for (path, told) in
        [("c", "--cert-file: "), ("ca", "--trusted-ca-file: "), ("p", "--auth-token pub-key: "), ("x", "")]
    {
        for error in [anyhow::Error::from(unread(path)), anyhow::Error::from(ServerError::from(unread(path)))] {
            let text = files.blame(file_of(&error), chain(error.as_ref()));
            assert_eq!(text, format!("{told}cannot read {path}: entity not found"));
        }
    }
}

#[test]
fn users_are_recognized_as_the_flags_say() {
    let flags = ["--auth-token", "jwt,sign-method=HS256,priv-key=k", "--auth-token-ttl", "9", "--bcrypt-cost", "4"];
    let auth = resolved(&flags).unwrap().member.auth;
    assert!(matches!(auth.tokens, TokenConfig::Jwt(_)) && !auth.client_cert_auth);
    assert_eq!((auth.token_ttl, auth.bcrypt_cost), (Duration::from_secs(9), 4));
    let tls = ["--cert-file", "c", "--key-file", "k", "--trusted-ca-file", "ca", "--client-cert-auth"];
    let tls = [&tls[..], &["--listen-client-urls", "https://127.0.0.1:1"]].concat();
    assert!(resolved(&tls).unwrap().member.auth.client_cert_auth);
    assert!(resolved(&["--bcrypt-cost", "3"]).is_err() && resolved(&["--auth-token", "?"]).is_err());
}

#[test]
fn a_cluster_is_formed_or_joined_as_etcd_does() {
    let alone = ["--name", "a", "--initial-advertise-peer-urls", "http://10.0.0.1:2380"];
    let alone = resolved(&[&alone[..], &["--initial-cluster", "a=http://10.0.0.1:2380"]].concat()).unwrap();
    assert_eq!((alone.member.founding, alone.listen_peers), (server::Founding::Alone, vec![]));
    let own = ["--name", "a", "--initial-advertise-peer-urls", "https://10.0.0.1:2380"];
    let with = |more: &[&'static str]| [&own[..], more].concat();
    let two = "a=https://10.0.0.1:2380,b=https://10.0.0.2:2380";
    let formed = resolved(&with(&["--initial-cluster", two])).unwrap();
    assert!(matches!(&formed.member.founding, server::Founding::Among(all) if all.len() == 2));
    assert_eq!((formed.listen_peers, formed.demands_peer_port), (vec!["10.0.0.1:2380".parse().unwrap()], false));
    let joined = resolved(&with(&["--initial-cluster", two, "--initial-cluster-state", "existing"])).unwrap();
    assert!(matches!(joined.member.founding, server::Founding::Existing(_)));
    let made = resolved(&["--initial-cluster-state", "existing"]).unwrap();
    assert_eq!(made.member.founding, server::Founding::Never);
    for (cluster, told) in [
        ("b=https://10.0.0.2:2380", "does not name this member"),
        ("a=https://10.0.0.9:2380", "initial-advertise-peer-urls says"),
        ("a=https://10.0.0.1:2380,b=http://10.0.0.2:2380", "plain text"),
        ("a", "NAME=https://HOST:2380"),
    ] {
        assert!(
            format!("{:?}", resolved(&with(&["--initial-cluster", cluster])).unwrap_err()).contains(told),
            "{told}"
        );
    }
}

#[test]
fn other_members_are_listened_for_where_they_are_told_to_connect() {
    let listens = |flags: &[&str]| resolved(flags).map(|settings| settings.listen_peers).ok();
    let by_name = ["--initial-advertise-peer-urls", "https://a.example:2380"];
    assert_eq!(listens(&by_name), Some(vec!["0.0.0.0:2380".parse().unwrap()]));
    let said = [&by_name[..], &["--listen-peer-urls", "https://10.0.0.1:1,https://127.0.0.1:2"]].concat();
    assert_eq!(listens(&said).map(|all| all.len()), Some(2));
    assert_eq!(listens(&["--listen-peer-urls", "http://localhost:2380"]), Some(vec![]));
    assert_eq!(listens(&["--listen-peer-urls", "localhost"]), None);
    let files = ["--peer-cert-file", "c", "--peer-key-file", "k"];
    assert!(refusal(&files).contains("--peer-trusted-ca-file"));
    let files = [&files[..], &["--peer-trusted-ca-file", "ca", "--peer-client-cert-auth"]].concat();
    assert!(resolved(&files).unwrap().member.peer_files.is_some());
    let guarded = [&files[..], &["--peer-cert-allowed-cn", "a,b", "--peer-crl-file", "crl"]].concat();
    let guarded = resolved(&guarded).unwrap().member.peer_files.unwrap();
    assert_eq!((guarded.allowed_names.as_slice(), guarded.crl), (&["a".into(), "b".into()][..], Some("crl".into())));
    let both = ["--peer-cert-allowed-cn", "a", "--peer-cert-allowed-hostname", "b"];
    assert!(refusal(&[&files[..], &both].concat()).contains("cannot be used with"));
}

#[test]
fn what_etcd_has_and_we_have_not_is_told() {
    assert!(refusal(&["--discovery-srv", "example.com"]).contains("not discovered"));
    assert!(resolved(&["--logger=zap", "--log-outputs", "stderr", "--pre-vote=true"]).is_ok());
}

/// etcd's flags, each as `--FLAG=DEFAULT`.
fn etcds_flags() -> impl Iterator<Item = &'static str> {
    include_str!("etcd.flags").lines().filter(|line| line.starts_with("--"))
}

#[test]
fn every_flag_of_etcds_is_taken_at_its_default() {
    for word in etcds_flags() {
        let taken = resolved(&[word]).map(drop).map_err(|failure| failure.to_string());
        assert_eq!(taken, Ok(()), "{word}");
    }
    let all: Vec<_> = etcds_flags().collect();
    assert!(all.len() > 100 && resolved(&all).is_ok(), "{}", refusal(&all));
}

#[test]
fn an_empty_value_is_none() {
    let command = <Args as clap::Args>::augment_args(clap::Command::new("server"));
    for flag in command.get_arguments().filter_map(clap::Arg::get_long) {
        assert!(resolved(&[format!("--{flag}=").as_str()]).is_ok(), "{flag}");
    }
    assert!(resolved(&["--tls-max-version", "", "--client-cert-allowed-hostname", "", "--cert-file", ""]).is_ok());
    assert!(resolved(&["--xyzzy="]).is_err());
}

#[test]
fn a_member_of_kubeadms_starts() {
    let common = [
        "--advertise-client-urls=https://10.0.0.1:2379",
        "--cert-file=server.crt",
        "--client-cert-auth=true",
        "--data-dir=/var/lib/etcd",
        "--initial-advertise-peer-urls=https://10.0.0.1:2380",
        "--initial-cluster=node=https://10.0.0.1:2380",
        "--key-file=server.key",
        "--listen-client-urls=https://127.0.0.1:2379,https://10.0.0.1:2379",
        "--listen-metrics-urls=http://127.0.0.1:2381",
        "--listen-peer-urls=https://10.0.0.1:2380",
        "--name=node",
        "--peer-cert-file=peer.crt",
        "--peer-client-cert-auth=true",
        "--peer-key-file=peer.key",
        "--peer-trusted-ca-file=ca.crt",
        "--snapshot-count=10000",
        "--trusted-ca-file=ca.crt",
    ];
    let of_35 = ["--experimental-initial-corrupt-check=true", "--experimental-watch-progress-notify-interval=5s"];
    let of_36 = ["--feature-gates=InitialCorruptCheck=true", "--watch-progress-notify-interval=5s"];
    for asked in [of_35, of_36] {
        let args = parsed(&[&common[..], &asked].concat()).unwrap();
        assert_eq!(args.gates.told().len(), 1);
        assert_eq!(args.resolve().unwrap().member.watch_progress_interval, Duration::from_secs(5));
    }
}

#[test]
fn a_flag_that_was_experimental_has_both_variables() {
    let (new, old) = ("ETCD_MAX_LEARNERS", "ETCD_EXPERIMENTAL_MAX_LEARNERS");
    for (set, read) in [(&[][..], new), (&[old], old), (&[new], new), (&[new, old], new)] {
        assert_eq!(set_variable("max-learners", |name| set.contains(&name)), read, "{set:?}");
    }
    let set =
        ["PATH", new, old, "ETCD_XYZZY", "ETCD_FEATURE_GATES", "ETCD_EXPERIMENTAL_CORRUPT_CHECK_TIME", "ETCDCTL_API"];
    assert_eq!(unknown_variables(set.into_iter().map(str::to_owned)), ["ETCD_XYZZY"]);
}

#[test]
fn what_is_not_here_is_in_the_document_and_nothing_else() {
    let document = include_str!("../../../docs/etcd-differences.md");
    let section = document.split("\n## ").find(|section| section.starts_with("Some of etcd's flags")).unwrap();
    let rows = section.lines().filter_map(|line| line.strip_prefix("| `")?.strip_suffix(" |")?.split_once("` | "));
    let rows = rows.flat_map(|(names, why)| names.split("`, `").map(move |name| (name.to_owned(), why)));
    let mut told: Vec<_> = rows.collect();
    let flags = absent::FLAGS.iter().map(|flag| (format!("--{}", flag.name), flag.advice));
    let gates = gates::refused().map(|(name, advice)| (name.to_owned(), advice));
    let refused = flags.chain(gates).map(|(name, advice)| (name, advice.trim_end_matches(": leave it out")));
    let mut refused: Vec<_> = refused.collect();
    told.sort_unstable();
    refused.sort_unstable();
    assert_eq!(told, refused);
}

#[test]
fn etcds_sample_file_says_what_it_says() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("etcd.conf.yml");
    std::fs::write(&path, include_str!("sample.conf.yml")).unwrap();
    let settings = file::read(&path).map_err(|failure| failure.to_string()).unwrap().resolve().unwrap();
    assert_eq!((settings.member.name.as_str(), settings.member.snapshot_count), ("infra", 20_000));
    assert_eq!(settings.member.watch_progress_interval, Duration::from_mins(1));
    let [listener] = settings.listeners[..] else { panic!("{:?}", settings.listeners) };
    assert!(listener.secure);
    let (ClientCertificate::Files(files), policy) = settings.client_tls.unwrap() else { panic!("no files") };
    assert_eq!(files.client_ca, Some(PathBuf::from("clients.crt")));
    assert_eq!((policy.min, policy.suites.len()), (tls::Version::Tls12, 2));
}

#[test]
fn a_file_that_asks_for_what_is_not_there_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("etcd.conf.yml");
    for (text, told) in
        [("discovery: http://x", "not discovered"), ("colour: red", ":1: colour"), ("name: [", "etcd.conf.yml:1")]
    {
        std::fs::write(&path, text).unwrap();
        let failure = file::read(&path).map(drop).unwrap_err().to_string();
        assert!(failure.contains(told), "{failure}");
    }
}

#[test]
fn every_flag_is_in_the_manual_and_no_other() {
    let manual = include_str!("../../../docs/operations.md");
    let table = manual.split("\n## ").find(|section| section.starts_with("Flags")).unwrap();
    let rows = table.lines().filter_map(|line| line.strip_prefix("| `--"));
    let mut told: Vec<_> = rows
        .flat_map(|row| row.split_once(" |").unwrap().0.split(", "))
        .map(|flag| flag.trim_matches('`').trim_start_matches("--").to_owned())
        .collect();
    let command = <Args as clap::Args>::augment_args(clap::Command::new("server"));
    let shown = command.get_arguments().filter(|argument| !argument.is_hide_set());
    let mut flags: Vec<_> = shown.filter_map(|argument| argument.get_long()).map(str::to_owned).collect();
    told.sort();
    flags.sort();
    assert_eq!(told, flags);
}

#[test]
fn every_flag_has_the_variable_that_etcd_reads() {
    let command = <Args as clap::Args>::augment_args(clap::Command::new("server"));
    for argument in command.get_arguments() {
        let flag = argument.get_long().unwrap();
        let name = argument.get_env().map(|name| name.to_string_lossy().into_owned());
        assert_eq!(name, Some(variable(flag)), "{flag}");
    }
}

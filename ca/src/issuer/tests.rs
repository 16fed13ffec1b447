use std::{fs, process::Command};

use parking_lot::Mutex;

use super::*;
use crate::{
    ledger::Outcome,
    testing::{House, Twin, csr, csr_of, genesis, id, time, trust_domain},
};

fn account(name: &str) -> (Namespace, ServiceAccount) {
    (Namespace::parse("default").unwrap(), ServiceAccount::parse(name).unwrap())
}

async fn token(house: &House, name: &str) -> JoinToken {
    let (namespace, account) = account(name);
    house.issuer.create_token(namespace, account, None).await.unwrap().0
}

#[tokio::test]
async fn a_token_is_turned_into_a_certificate_once() {
    let house = House::new();
    let token = token(&house, "reviews").await;
    let csr = csr();
    let first = house.issuer.join(&token, csr.clone(), None).await.unwrap();
    assert_eq!(first.record.spiffe_id, id("default", "reviews"));
    assert_eq!(first.record.not_after.since(first.record.not_before), Duration::from_mins(24 * 60 + 1));
    let again = house.issuer.join(&token, csr, None).await.unwrap();
    assert_eq!(first, again, "a lost reply costs nothing");
    let other = house.issuer.join(&token, crate::testing::csr(), None).await;
    assert!(matches!(other, Err(IssueError::Refused(Refusal::TokenUsed))), "{other:?}");
}

#[tokio::test]
async fn a_token_can_be_asked_with_at_the_same_time_and_one_wins() {
    let house = House::new();
    let token = token(&house, "reviews").await;
    let mut asking = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let (issuer, token) = (house.issuer.clone(), token.clone());
        asking.spawn(async move { issuer.join(&token, csr(), None).await.is_ok() });
    }
    let won = asking.join_all().await.into_iter().filter(|&won| won).count();
    assert_eq!((won, house.ledger.latest(10).unwrap().len()), (1, 1));
}

#[tokio::test]
async fn strangers_never_reach_the_log() {
    let house = House::new();
    let before = house.log.rows();
    let stranger = JoinToken::random().unwrap();
    let refused = house.issuer.join(&stranger, csr(), None).await;
    assert!(matches!(refused, Err(IssueError::Unauthenticated)));
    let renewed = house.issuer.renew(id("default", "a"), "no request".into(), None).await;
    assert!(matches!(renewed, Err(IssueError::Csr(CsrError::Malformed))));
    assert_eq!(house.log.rows(), before);
}

#[tokio::test]
async fn of_a_request_only_the_key_is_used() {
    let house = House::new();
    let mut params = rcgen::CertificateParams::new(vec!["admin.example".to_owned()]).unwrap();
    let admin = Issuer::admin_id(&trust_domain()).to_string();
    params.subject_alt_names.push(rcgen::SanType::URI(admin.as_str().try_into().unwrap()));
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let csr = csr_of(&rcgen::KeyPair::generate().unwrap(), &params);
    let issued = house.issuer.renew(id("default", "reviews"), csr, None).await.unwrap();
    for foreign in [&b"admin"[..], b"example"] {
        assert!(!issued.leaf.windows(foreign.len()).any(|window| window == foreign));
    }
}

#[tokio::test]
async fn lives_are_kept_within_bounds() {
    let house = House::new();
    for (asked, given) in [(Some(1), 60), (Some(3600), 3600), (Some(u64::MAX), 24 * 3600), (None, 24 * 3600)] {
        let asked = asked.map(Duration::from_secs);
        let record = house.issuer.renew(id("default", "a"), csr(), asked).await.unwrap().record;
        assert_eq!(record.not_after.since(record.not_before).as_secs(), given + 60);
    }
    let (namespace, account) = account("a");
    let long = house.issuer.create_token(namespace, account, Some(Duration::from_hours(1000))).await;
    assert!(matches!(long, Err(IssueError::Invalid(_))));
}

#[tokio::test]
async fn a_full_issuer_says_so() {
    let house = House::with(Config { requests_max: 0, ..Config::default() });
    let refused = house.issuer.renew(id("default", "a"), csr(), None).await;
    assert!(matches!(refused, Err(IssueError::Busy)));
}

/// Refuses the first serial numbers that it is offered.
struct Unlucky {
    twin: Arc<Twin>,
    refusals: Mutex<usize>,
}

#[tonic::async_trait]
impl Log for Unlucky {
    async fn propose(&self, command: LedgerCommand) -> Result<Outcome, LogError> {
        let mut refusals = self.refusals.lock();
        if *refusals > 0 {
            *refusals -= 1;
            return Ok(Err(Refusal::SerialTaken));
        }
        Ok(self.twin.apply_one(command))
    }
}

#[tokio::test]
async fn another_serial_is_drawn_if_one_is_taken() {
    for (refusals, issued) in [(2, true), (3, false)] {
        let house = House::new();
        let log = Arc::new(Unlucky { twin: house.log.clone(), refusals: Mutex::new(refusals) });
        let authority = Arc::new(Authority::open(&house.custody, house.ledger.clone()).unwrap());
        let issuer = Issuer::new(log, house.ledger.clone(), authority, Config::default());
        assert_eq!(issuer.renew(id("default", "a"), csr(), None).await.is_ok(), issued);
    }
}

#[tokio::test]
async fn the_ledger_catches_up_with_the_clock() {
    let (log, ledger) = Twin::new();
    timekeeper::catch_up(&log, &ledger, Time::now()).await.unwrap();
    assert_eq!(log.rows(), [], "nothing is founded, nothing is kept");
    log.apply_one(LedgerCommand::Genesis(genesis())).unwrap();
    let now = genesis().time.plus(Duration::from_hours(100));
    timekeeper::catch_up(&log, &ledger, now).await.unwrap();
    assert_eq!(ledger.time().unwrap(), now);
    let soon = now.plus(Duration::from_mins(9));
    timekeeper::catch_up(&log, &ledger, soon).await.unwrap();
    assert_eq!(ledger.time().unwrap(), now, "near enough");
    timekeeper::catch_up(&log, &ledger, time(5)).await.unwrap();
    assert_eq!(ledger.time().unwrap(), now);
}

/// Runs openssl; gives what it printed.
fn openssl(arguments: &[&str]) -> String {
    let output = Command::new("openssl").args(arguments).output().expect("openssl is installed");
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "openssl {arguments:?}: {text}");
    text
}

#[tokio::test]
async fn openssl_accepts_what_we_issue() {
    let house = House::new();
    let dns = vec!["node-1.example".to_owned()];
    let ips = vec![IpAddr::from([127, 0, 0, 1]), "::1".parse().unwrap()];
    let server = Issuer::server_id(&trust_domain());
    let credential = house.issuer.issue_own(server, dns, ips, Duration::from_hours(24)).await.unwrap();
    let path = |name: &str| house.dir.path().join(name).display().to_string();
    let certificate = credential.certificate();
    for (name, text) in ["leaf", "issuing", "root"].into_iter().zip(certificate.chain_pem()) {
        fs::write(path(name), text).unwrap();
    }
    fs::write(path("key"), credential.key_pem().as_bytes()).unwrap();

    for purpose in ["sslserver", "sslclient"] {
        let chain = ["-CAfile", &path("root"), "-untrusted", &path("issuing")];
        let strict = ["verify", "-x509_strict", "-check_ss_sig", "-purpose", purpose];
        openssl(&[&strict[..], &chain[..], &[&path("leaf")]].concat());
    }
    let text = openssl(&["x509", "-noout", "-text", "-in", &path("leaf")]);
    for expected in [
        "URI:spiffe://cluster.local/ns/meshstore-system/sa/server, DNS:node-1.example, IP Address:127.0.0.1",
        "X509v3 Subject Alternative Name: critical",
        "X509v3 Key Usage: critical\n                Digital Signature\n",
        "CA:FALSE",
        "TLS Web Server Authentication, TLS Web Client Authentication",
        "ecdsa-with-SHA256",
    ] {
        assert!(text.contains(expected), "{expected:?} is not in {text}");
    }
    let text = openssl(&["x509", "-noout", "-text", "-in", &path("issuing")]);
    assert!(text.contains("CA:TRUE, pathlen:0") && text.contains("URI:spiffe://cluster.local\n"), "{text}");
    openssl(&["pkey", "-noout", "-check", "-in", &path("key")]);
}

#[tokio::test]
async fn what_is_issued_is_a_credential_for_tls() {
    let house = House::new();
    let admin = Issuer::admin_id(&trust_domain());
    let credential = house.issuer.issue_own(admin.clone(), vec![], vec![], Duration::from_hours(1)).await.unwrap();
    let (bundle, svid) = credential.for_tls().unwrap();
    assert_eq!((bundle.trust_domain(), svid.id()), (&trust_domain(), &admin));
    assert_eq!(svid.chain().len(), 2);
    tls::Credentials::new(bundle, Some(svid)).unwrap();
}

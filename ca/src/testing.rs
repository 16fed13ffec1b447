//! A whole authority for tests: keys on disk, a ledger in memory, and a log of one member.

use std::sync::Arc;

use aws_lc_rs::{
    encoding::AsDer,
    signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair},
};
use bytes::Bytes;
use engine::{Batch, Durability, Engine, Read};
use parking_lot::Mutex;
use tempfile::TempDir;
use types::{SpiffeId, TrustDomain};

use crate::{
    Authority, Config, Custody, Issuer, Ledger, LedgerCommand, LedgerView, Log, LogError, Outcome, Time,
    ledger::Genesis,
};

/// A log of one member, which applies at once.
pub(crate) struct Twin {
    pub(crate) engine: Engine,
    applied: Mutex<(Ledger, u64)>,
}

impl Twin {
    pub(crate) fn new() -> (Self, LedgerView) {
        let engine = Engine::in_memory(Ledger::SPACES);
        let (ledger, view) = Ledger::open(engine.clone()).unwrap();
        (Self { engine, applied: Mutex::new((ledger, 0)) }, view)
    }

    /// Applies the commands in one batch; gives each one's outcome.
    pub(crate) fn apply(&self, commands: Vec<LedgerCommand>) -> Vec<Outcome> {
        let mut applied = self.applied.lock();
        let (ledger, index) = &mut *applied;
        let mut batch = Batch::new();
        let read_back = |command: LedgerCommand| LedgerCommand::decode(&command.encode()).unwrap();
        let apply = |command| {
            *index += 1;
            ledger.apply(&mut batch, *index, read_back(command)).unwrap()
        };
        let outcomes = commands.into_iter().map(apply).collect();
        self.engine.write(batch, Durability::Buffered).unwrap();
        ledger.publish();
        outcomes
    }

    pub(crate) fn apply_one(&self, command: LedgerCommand) -> Outcome {
        self.apply(vec![command]).pop().unwrap()
    }

    /// All rows, in order.
    pub(crate) fn rows(&self) -> Vec<(Vec<u8>, Vec<u8>)> {
        self.engine.rows(Ledger::SPACES[0]).unwrap()
    }
}

#[tonic::async_trait]
impl Log for Twin {
    async fn propose(&self, command: LedgerCommand) -> Result<Outcome, LogError> {
        Ok(self.apply_one(command))
    }
}

/// An authority that was founded just now.
pub(crate) struct House {
    pub(crate) dir: TempDir,
    pub(crate) custody: Custody,
    pub(crate) log: Arc<Twin>,
    pub(crate) ledger: LedgerView,
    pub(crate) issuer: Arc<Issuer>,
}

impl House {
    pub(crate) fn new() -> Self {
        Self::with(Config::default())
    }

    pub(crate) fn with(config: Config) -> Self {
        let (dir, custody) = empty_custody();
        let genesis = custody.found(&trust_domain(), Time::now()).unwrap();
        let (log, ledger) = Twin::new();
        log.apply_one(LedgerCommand::Genesis(genesis)).unwrap();
        let log = Arc::new(log);
        let authority = Arc::new(Authority::open(&custody, ledger.clone()).unwrap());
        let issuer = Arc::new(Issuer::new(log.clone(), ledger.clone(), authority, config));
        Self { dir, custody, log, ledger, issuer }
    }
}

pub(crate) fn empty_custody() -> (TempDir, Custody) {
    let dir = tempfile::tempdir().unwrap();
    let custody = Custody::new(dir.path().join("ca"), dir.path().join("kek"));
    (dir, custody)
}

pub(crate) fn trust_domain() -> TrustDomain {
    TrustDomain::parse("cluster.local").unwrap()
}

pub(crate) fn id(namespace: &str, account: &str) -> SpiffeId {
    SpiffeId::parse(&format!("spiffe://cluster.local/ns/{namespace}/sa/{account}")).unwrap()
}

pub(crate) fn time(seconds: u64) -> Time {
    Time::new(seconds).unwrap()
}

/// When the tests of the ledger alone take place: 2027-01-15T08:00:00Z.
pub(crate) const START: u64 = 1_800_000_000;

/// A genesis whose certificates nobody looks at. The issuing one ends 30 days after the start.
pub(crate) fn genesis() -> Genesis {
    Genesis {
        time: time(START),
        trust_domain: trust_domain(),
        root: Bytes::from_static(b"root"),
        issuing: Bytes::from_static(b"issuing"),
        issuer_key: [7; 20],
        issuer_not_after: time(START + 30 * 86_400),
    }
}

/// The public key that belongs to the private key 1: the curve's generator. For different keys, `number` is changed in.
pub(crate) fn spki(number: u8) -> Bytes {
    const GENERATOR: &str = "3059301306072a8648ce3d020106082a8648ce3d03010703420004\
        6b17d1f2e12c4247f8bce6e563a440f277037d812deb33a0f4a13945d898c296\
        4fe342e2fe1a7f9b8ee7eb4a7c0f9e162bce33576b315ececbb6406837bf51f5";
    let digit = |at: usize| u8::from_str_radix(&GENERATOR[at..at + 2], 16).unwrap();
    let mut bytes: Vec<u8> = (0..GENERATOR.len()).step_by(2).map(digit).collect();
    *bytes.last_mut().unwrap() ^= number;
    bytes.into()
}

/// A request without any name, signed by a fresh key.
pub(crate) fn csr() -> String {
    let key = rcgen::KeyPair::generate().unwrap();
    csr_of(&key, &rcgen::CertificateParams::default())
}

pub(crate) fn csr_of(key: &rcgen::KeyPair, params: &rcgen::CertificateParams) -> String {
    params.serialize_request(key).unwrap().pem().unwrap()
}

/// The private scalar and the public key of PKCS#8 in PEM, for finding traces of them.
pub(crate) fn traces_of(pkcs8: &[u8]) -> Vec<Vec<u8>> {
    let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, pkcs8).unwrap();
    let public = key.public_key().as_der().unwrap();
    let public = public.as_ref();
    let start = pkcs8.windows(2).position(|pair| pair == [0x04, 0x20]).unwrap() + 2;
    let scalar = &pkcs8[start..start + 32];
    assert!(!public.windows(32).any(|window| window == scalar));
    let hex = crate::profile::hex(scalar);
    vec![scalar.to_vec(), hex.to_uppercase().into_bytes(), hex.into_bytes(), format!("{scalar:?}").into_bytes()]
}

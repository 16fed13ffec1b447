//! Certificates and handshakes for tests.

use std::{
    io::{Cursor, Read, Write},
    sync::Arc,
    time::{Duration, SystemTime},
};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, SanType,
};
use rustls::{
    ClientConfig, ClientConnection, Connection, Error, ServerConfig, ServerConnection,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName},
};
use types::{SpiffeId, TrustDomain};

use crate::{Credentials, Svid, TrustBundle};

/// A root that can be told to issue anything.
pub(crate) struct Authority {
    trust_domain: TrustDomain,
    issuer: CertifiedIssuer<'static, KeyPair>,
}

/// A chain and its key, as PEM.
pub(crate) struct Issued {
    pub(crate) chain: String,
    pub(crate) key: String,
}

impl Authority {
    pub(crate) fn new(trust_domain: &str) -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, format!("root of {trust_domain}"));
        params.subject_alt_names = vec![uri(&format!("spiffe://{trust_domain}"))];
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        Self { trust_domain: TrustDomain::parse(trust_domain).unwrap(), issuer }
    }

    pub(crate) fn pem(&self) -> String {
        self.issuer.pem()
    }

    pub(crate) fn bundle(&self) -> TrustBundle {
        TrustBundle::from_pem(self.pem().as_bytes()).unwrap()
    }

    pub(crate) fn id(&self, account: &str) -> SpiffeId {
        SpiffeId::parse(&format!("spiffe://{}/ns/default/sa/{account}", self.trust_domain)).unwrap()
    }

    /// A leaf of the right profile, changed by `change`.
    pub(crate) fn issue(&self, account: &str, change: impl FnOnce(&mut CertificateParams)) -> Issued {
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.subject_alt_names = vec![uri(&self.id(account).to_string())];
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.not_before = (SystemTime::now() - Duration::from_mins(1)).into();
        params.not_after = (SystemTime::now() + Duration::from_hours(1)).into();
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        Issued { chain: params.signed_by(&key, &self.issuer).unwrap().pem(), key: key.serialize_pem() }
    }

    pub(crate) fn svid(&self, account: &str) -> Svid {
        self.issue(account, |_| ()).svid()
    }

    pub(crate) fn credentials(&self, account: &str) -> Credentials {
        Credentials::new(self.bundle(), Some(self.svid(account))).unwrap()
    }
}

impl Issued {
    pub(crate) fn svid(&self) -> Svid {
        Svid::from_pem(self.chain.as_bytes(), self.key.as_bytes()).unwrap()
    }

    pub(crate) fn der(&self) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
        let chain = crate::pem::certificates(self.chain.as_bytes(), "test").unwrap();
        (chain, crate::pem::private_key(self.key.as_bytes(), "test").unwrap())
    }
}

pub(crate) fn uri(uri: &str) -> SanType {
    SanType::URI(uri.try_into().unwrap())
}

/// Runs a handshake in memory. Gives what the server and what the client said against it.
pub(crate) fn handshake(
    server: Arc<ServerConfig>,
    client: Arc<ClientConfig>,
) -> Result<(ServerConnection, ClientConnection), Error> {
    let name = ServerName::try_from("not-checked.example").unwrap();
    let mut client = Connection::from(ClientConnection::new(client, name)?);
    let mut server = Connection::from(ServerConnection::new(server)?);
    while client.is_handshaking() || server.is_handshaking() {
        pass(&mut client, &mut server)?;
        pass(&mut server, &mut client)?;
    }
    // In TLS 1.3 the client is done before the server has judged its certificate.
    pass(&mut client, &mut server)?;
    match (server, client) {
        (Connection::Server(server), Connection::Client(client)) => Ok((server, client)),
        _ => unreachable!("built as such above"),
    }
}

fn pass(from: &mut Connection, to: &mut Connection) -> Result<(), Error> {
    let mut bytes = Vec::new();
    while from.wants_write() {
        from.write_tls(&mut bytes).unwrap();
    }
    let mut bytes = Cursor::new(bytes);
    while bytes.position() < bytes.get_ref().len() as u64 {
        to.read_tls(&mut bytes).unwrap();
        to.process_new_packets()?;
    }
    Ok(())
}

/// Says one word over the connection, so that a handshake is known to have been accepted by both sides.
pub(crate) fn say_hello(server: &mut ServerConnection, client: &mut ClientConnection) {
    client.writer().write_all(b"hello").unwrap();
    let mut bytes = Vec::new();
    client.write_tls(&mut bytes).unwrap();
    server.read_tls(&mut &bytes[..]).unwrap();
    server.process_new_packets().unwrap();
    let mut heard = [0; 5];
    server.reader().read_exact(&mut heard).unwrap();
    assert_eq!(&heard, b"hello");
}

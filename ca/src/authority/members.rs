//! The authority of the cluster's members, by whose certificates they know one another.
//!
//! Owns: its issuing key in memory.
//!
//! - It has a root and a trust domain of its own: no certificate of a workload passes for a member's, and none of a
//!   member's for a workload's.
//! - Each member signs its own certificate, with the key that it was given when it joined: it needs one before there is
//!   a log to ask, and when a quorum is lost. So who holds a member's disk can speak as any member, which every voter
//!   could by its vote.

use std::time::Duration;

use aws_lc_rs::signature::EcdsaKeyPair;
use bytes::Bytes;
use tls::{Svid, TrustBundle};
use types::{SpiffeId, TrustDomain};

use super::{AuthorityError, Custody, custody::ROOT_LIFE, generate, public_half, random_serial, sign_checked};
use crate::{
    ledger::Genesis,
    profile::{self, Leaf, Tier},
    time::Time,
};

/// How much earlier than it is made a certificate is valid, for members whose clocks are behind.
const BACKDATE: Duration = Duration::from_mins(5);

/// Signs members' certificates.
pub struct MemberAuthority {
    key: EcdsaKeyPair,
    genesis: Genesis,
}

impl MemberAuthority {
    /// Makes the authority of a cluster, named as a trust domain; if it is there already, as after an interrupted
    /// bootstrap, opens it.
    ///
    /// # Errors
    /// [`AuthorityError::TrustDomain`] if the one that is there is another cluster's; else the disk's.
    pub fn found(custody: &Custody, cluster: &TrustDomain, now: Time) -> Result<Self, AuthorityError> {
        // Its issuing certificate lives as long as its root: nothing would replace it before.
        let genesis = custody.found_for(cluster, now, ROOT_LIFE)?;
        Ok(Self { key: custody.issuing_key()?, genesis })
    }

    /// Unseals the authority's key; `None` if there is none.
    pub fn open(custody: &Custody) -> Result<Option<Self>, AuthorityError> {
        if !custody.exists() {
            return Ok(None);
        }
        Ok(Some(Self { key: custody.issuing_key()?, genesis: custody.genesis()? }))
    }

    /// The cluster that it is of.
    pub fn cluster(&self) -> &TrustDomain {
        &self.genesis.trust_domain
    }

    /// A fresh key and a certificate for it: whom to trust, and what to show. `id` is of [`Self::cluster`].
    ///
    /// # Errors
    /// [`AuthorityError::Crypto`] if something can not be made.
    pub fn issue(&self, id: &SpiffeId, ttl: Duration, now: Time) -> Result<(TrustBundle, Svid), AuthorityError> {
        let (key, pkcs8) = generate()?;
        let leaf = self.sign(id, &key, ttl, now)?;
        let shown = tls::certificate_pem(&leaf) + &tls::certificate_pem(&self.genesis.issuing);
        let unusable = |_| AuthorityError::Crypto("use a certificate of our own");
        let bundle = TrustBundle::from_pem(tls::certificate_pem(&self.genesis.root).as_bytes()).map_err(unusable)?;
        let key = tls::private_key_pem(pkcs8.as_ref());
        Ok((bundle, Svid::from_pem(shown.as_bytes(), key.as_bytes()).map_err(unusable)?))
    }

    fn sign(&self, id: &SpiffeId, key: &EcdsaKeyPair, ttl: Duration, now: Time) -> Result<Bytes, AuthorityError> {
        let (spki, subject_key) = public_half(key)?;
        let Genesis { issuer_key, issuer_not_after, .. } = &self.genesis;
        let tbs = profile::leaf_tbs(&Leaf {
            serial: &random_serial()?,
            issuer: &profile::authority_name(Tier::Issuing, issuer_key),
            issuer_key,
            not_before: now.minus(BACKDATE),
            not_after: now.plus(ttl).min(*issuer_not_after),
            spiffe_id: id,
            dns: &[],
            ips: &[],
            spki: &spki,
            subject_key: &subject_key,
        });
        let signature = sign_checked(&self.key, &tbs).ok_or(AuthorityError::Crypto("sign a member's certificate"))?;
        Ok(profile::certificate(&tbs, &signature).into())
    }
}

impl std::fmt::Debug for MemberAuthority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MemberAuthority").field("cluster", self.cluster()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::Handover;

    const DAY: Duration = Duration::from_hours(24);

    fn custody(dir: &Path, name: &str) -> Custody {
        Custody::new(dir.join(name), dir.join(format!("{name}.kek")))
    }

    fn cluster(name: &str) -> TrustDomain {
        TrustDomain::parse(name).unwrap()
    }

    fn id(cluster: &TrustDomain, member: &str) -> SpiffeId {
        SpiffeId::parse(&format!("spiffe://{cluster}/ns/meshstore-system/sa/{member}")).unwrap()
    }

    #[test]
    fn what_is_handed_over_signs_for_the_same_roots() {
        let dir = tempfile::tempdir().unwrap();
        let (here, there) = (custody(dir.path(), "here"), custody(dir.path(), "there"));
        let cluster = cluster("cdf81819.members");
        let first = MemberAuthority::found(&here, &cluster, Time::now()).unwrap();
        assert!(MemberAuthority::open(&there).unwrap().is_none());
        there.take_over(&here.hand_over().unwrap()).unwrap();
        let second = MemberAuthority::open(&there).unwrap().unwrap();
        let (bundle, one) = first.issue(&id(&cluster, "m-1"), DAY, Time::now()).unwrap();
        let (again, other) = second.issue(&id(&cluster, "m-2"), DAY, Time::now()).unwrap();
        assert_eq!((bundle.trust_domain(), bundle.roots()), (&cluster, again.roots()));
        assert_eq!((one.id(), other.id()), (&id(&cluster, "m-1"), &id(&cluster, "m-2")));
        assert!(second.genesis.issuer_not_after.since(Time::now()) > 3000 * DAY);
        let files: Vec<_> = std::fs::read_dir(dir.path().join("there")).unwrap().collect();
        assert_eq!(files.len(), 3, "the root's key stays where it was made");
    }

    #[test]
    fn an_authority_is_of_one_cluster() {
        let dir = tempfile::tempdir().unwrap();
        let here = custody(dir.path(), "here");
        MemberAuthority::found(&here, &cluster("one.members"), Time::now()).unwrap();
        MemberAuthority::found(&here, &cluster("one.members"), Time::now()).unwrap();
        let other = MemberAuthority::found(&here, &cluster("other.members"), Time::now());
        assert!(matches!(other, Err(AuthorityError::TrustDomain { .. })), "{other:?}");
    }

    #[test]
    fn a_key_that_is_not_the_certificates_is_not_taken() {
        let dir = tempfile::tempdir().unwrap();
        let (here, other, there) =
            (custody(dir.path(), "here"), custody(dir.path(), "other"), custody(dir.path(), "there"));
        MemberAuthority::found(&here, &cluster("one.members"), Time::now()).unwrap();
        MemberAuthority::found(&other, &cluster("one.members"), Time::now()).unwrap();
        let mixed = Handover { issuing_key: other.hand_over().unwrap().issuing_key, ..here.hand_over().unwrap() };
        assert!(there.take_over(&mixed).is_err() && !there.exists());
        assert_eq!(format!("{mixed:?}"), "Handover([redacted])");
    }
}

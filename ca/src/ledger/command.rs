//! What the ledger is told, and how it is written in the log.
//!
//! - `decode(encode(x)) == x`, and `encode(decode(b)) == b`: an entry has one spelling.
//! - Decoding never panics. A version or a kind that it does not know is an error, and never a guess.

use std::net::IpAddr;

use bytes::Bytes;
use types::{Release, SpiffeId, TrustDomain};

use crate::{
    codec::{DecodeError, Reader, Writer},
    profile::{KeyId, Serial},
    time::Time,
};

const VERSION: u8 = 1;

/// An intent, to be put in the log and applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LedgerCommand {
    /// Founds the authority. Accepted once.
    Genesis(Genesis),
    /// Makes a join token known.
    CreateToken(CreateToken),
    /// Orders a certificate.
    Issue(Issue),
    /// Makes an invitation of a new member known.
    Invite(Invite),
    /// Consumes an invitation.
    Admit(Admit),
    /// Moves the ledger's time towards the leader's clock, so that it follows where nothing is issued.
    Tick {
        /// The leader's clock.
        time: Time,
    },
}

/// An invitation of a new member, known by the hash of its secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invite {
    /// The proposer's clock.
    pub time: Time,
    /// SHA-256 of the secret's text.
    pub token_hash: [u8; 32],
    /// The name that the new member must bear.
    pub name: String,
    /// Whether it stays without a vote until somebody promotes it.
    pub learner: bool,
    /// From when on it is worthless.
    pub expires: Time,
}

/// What an invitation's bearer becomes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admit {
    /// The proposer's clock.
    pub time: Time,
    /// SHA-256 of the secret's text.
    pub token_hash: [u8; 32],
    /// Drawn by the bearer, so that its repeated request is known.
    pub nonce: [u8; 32],
    /// The member that it is to be.
    pub member: u64,
}

/// The authority's public half.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Genesis {
    /// When it was founded: where the ledger's time begins.
    pub time: Time,
    /// Whose members it vouches for.
    pub trust_domain: TrustDomain,
    /// The self-signed root, DER.
    pub root: Bytes,
    /// The issuing certificate, DER, signed by the root.
    pub issuing: Bytes,
    /// Names the issuing key.
    pub issuer_key: [u8; 20],
    /// When the issuing certificate ends; no leaf outlives it.
    pub issuer_not_after: Time,
}

/// A join token, known by its hash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CreateToken {
    /// The proposer's clock.
    pub time: Time,
    /// SHA-256 of the token's text.
    pub token_hash: [u8; 32],
    /// The identity that its bearer is given.
    pub spiffe_id: SpiffeId,
    /// From when on it is worthless.
    pub expires: Time,
}

/// A certificate that is to be issued.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issue {
    /// The proposer's clock.
    pub time: Time,
    /// What the certificate looks like, and how its bytes are made.
    pub profile: Profile,
    /// The issuing key that is to sign it.
    pub issuer_key: [u8; 20],
    /// By what proof it is asked for.
    pub caller: Caller,
    /// The identity.
    pub spiffe_id: SpiffeId,
    /// DNS names, for administrators and the cluster's members only.
    pub dns: Vec<String>,
    /// IP addresses, likewise.
    pub ips: Vec<IpAddr>,
    /// The `SubjectPublicKeyInfo`, DER, whose private half the caller has proven to hold.
    pub spki: Bytes,
    /// Drawn at random; the first octet is 0x01 to 0x7f.
    pub serial: [u8; 16],
    /// How long it is to live; the issuing certificate's end may cut it short.
    pub ttl_seconds: u32,
}

/// The make of a certificate. Each has one encoder, for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Profile {
    /// An X509-SVID for servers and clients alike, first version.
    SvidV1,
}

/// Who asks, as the face proved it. The identity that is asked for is checked against it at apply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Caller {
    /// The bearer of the join token with this hash.
    Token([u8; 32]),
    /// A workload that renews, by mTLS with its present certificate.
    Svid(SpiffeId),
    /// The cluster's administrator, or the member itself for its own certificate.
    Admin,
}

impl LedgerCommand {
    /// The first release that has such commands, which all members must run before one is proposed.
    pub fn since(&self) -> Release {
        match self {
            Self::Genesis(_)
            | Self::CreateToken(_)
            | Self::Issue(_)
            | Self::Invite(_)
            | Self::Admit(_)
            | Self::Tick { .. } => Release::FIRST,
        }
    }

    /// The command's bytes in the log.
    pub fn encode(&self) -> Bytes {
        let mut out = Writer::default();
        out.byte(VERSION);
        match self {
            Self::Genesis(genesis) => genesis.write(out.byte(0)),
            Self::CreateToken(token) => {
                out.byte(1).time(token.time).array(&token.token_hash).text(&token.spiffe_id).time(token.expires);
            }
            Self::Issue(issue) => issue.write(out.byte(2)),
            Self::Tick { time } => {
                out.byte(3).time(*time);
            }
            Self::Invite(Invite { time, token_hash, name, learner, expires }) => {
                out.byte(4).time(*time).array(token_hash).text(name).byte((*learner).into()).time(*expires);
            }
            Self::Admit(Admit { time, token_hash, nonce, member }) => {
                out.byte(5).time(*time).array(token_hash).array(nonce).u64(*member);
            }
        }
        out.finish()
    }

    /// Reads what [`LedgerCommand::encode`] wrote.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut input = Reader::new(bytes, "ledger command");
        if input.byte()? != VERSION {
            return Err(DecodeError("ledger command: unknown version"));
        }
        let command = match input.byte()? {
            0 => Self::Genesis(Genesis::read(&mut input)?),
            1 => Self::CreateToken(CreateToken {
                time: input.time()?,
                token_hash: input.array()?,
                spiffe_id: input.spiffe_id()?,
                expires: input.time()?,
            }),
            2 => Self::Issue(Issue::read(&mut input)?),
            3 => Self::Tick { time: input.time()? },
            4 => Self::Invite(Invite {
                time: input.time()?,
                token_hash: input.array()?,
                name: input.text()?,
                learner: input.flag()?,
                expires: input.time()?,
            }),
            5 => Self::Admit(Admit {
                time: input.time()?,
                token_hash: input.array()?,
                nonce: input.array()?,
                member: input.u64()?,
            }),
            _ => return Err(input.error()),
        };
        input.finish()?;
        Ok(command)
    }
}

impl Genesis {
    fn write(&self, out: &mut Writer) {
        let Self { time, trust_domain, root, issuing, issuer_key, issuer_not_after } = self;
        out.time(*time).text(trust_domain).bytes(root).bytes(issuing).array(issuer_key).time(*issuer_not_after);
    }

    fn read(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            time: input.time()?,
            trust_domain: input.trust_domain()?,
            root: input.bytes()?,
            issuing: input.bytes()?,
            issuer_key: input.array()?,
            issuer_not_after: input.time()?,
        })
    }

    pub(super) fn encode(&self) -> Bytes {
        let mut out = Writer::default();
        self.write(&mut out);
        out.finish()
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut input = Reader::new(bytes, "genesis row");
        let genesis = Self::read(&mut input)?;
        input.finish().map(|()| genesis)
    }
}

impl Issue {
    fn write(&self, out: &mut Writer) {
        let Self { time, profile, issuer_key, caller, spiffe_id, dns, ips, spki, serial, ttl_seconds } = self;
        let (issuer_key, serial): (&KeyId, &Serial) = (issuer_key, serial);
        out.time(*time).byte(profile.encode()).array(issuer_key);
        caller.encode(out);
        out.text(spiffe_id);
        out.list(dns, |out, name| {
            out.text(name);
        });
        out.list(ips, |out, ip| {
            out.ip(ip);
        });
        out.bytes(spki).array(serial).u32(*ttl_seconds);
    }

    fn read(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            time: input.time()?,
            profile: Profile::decode(input)?,
            issuer_key: input.array()?,
            caller: Caller::decode(input)?,
            spiffe_id: input.spiffe_id()?,
            dns: input.list(Reader::text)?,
            ips: input.list(Reader::ip)?,
            spki: input.bytes()?,
            serial: input.array()?,
            ttl_seconds: input.u32()?,
        })
    }
}

impl Profile {
    pub(super) fn encode(self) -> u8 {
        match self {
            Self::SvidV1 => 1,
        }
    }

    fn decode(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        match input.byte()? {
            1 => Ok(Self::SvidV1),
            _ => Err(input.error()),
        }
    }
}

impl Caller {
    pub(super) fn encode(&self, out: &mut Writer) {
        match self {
            Self::Token(hash) => out.byte(0).array(hash),
            Self::Svid(id) => out.byte(1).text(id),
            Self::Admin => out.byte(2),
        };
    }

    fn decode(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        match input.byte()? {
            0 => Ok(Self::Token(input.array()?)),
            1 => Ok(Self::Svid(input.spiffe_id()?)),
            2 => Ok(Self::Admin),
            _ => Err(input.error()),
        }
    }
}

//! Who is at the ends of a connection, as metrics label it.

use std::{collections::HashMap, sync::Arc};

use types::SpiffeId;

use crate::config::{Service, Workload};

/// One end of a connection that is not this proxy's own workload.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Party {
    pub(crate) workload: Workload,
    pub(crate) service: Service,
    /// SPIFFE ID; empty when none was proven.
    pub(crate) principal: String,
    pub(crate) mutual_tls: bool,
}

impl Party {
    /// A client of which only what it proved is known.
    pub(crate) fn client(identity: Option<&SpiffeId>) -> Self {
        Self {
            workload: Workload {
                namespace: identity.map(|id| id.namespace().to_string()).unwrap_or_default(),
                ..Workload::default()
            },
            service: Service::default(),
            principal: identity.map(ToString::to_string).unwrap_or_default(),
            mutual_tls: identity.is_some(),
        }
    }
}

/// This proxy's own workload.
#[derive(Clone, Debug, Default)]
pub(crate) struct Own {
    pub(crate) workload: Workload,
    pub(crate) principal: String,
}

/// The number of a [`Party`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct PartyId(u32);

impl PartyId {
    /// Of whom nothing is known.
    pub(crate) const UNKNOWN: Self = Self(0);
}

impl Default for PartyId {
    fn default() -> Self {
        Self::UNKNOWN
    }
}

/// All parties by number.
pub(super) struct Parties {
    numbers: HashMap<Arc<Party>, u32>,
    all: Vec<Arc<Party>>,
    max: usize,
}

impl Parties {
    pub(super) fn new(max: usize) -> Self {
        let unknown = Arc::new(Party::default());
        Self { numbers: HashMap::from([(unknown.clone(), 0)]), all: vec![unknown], max }
    }

    pub(super) fn intern(&mut self, party: Party) -> PartyId {
        if let Some(number) = self.numbers.get(&party) {
            return PartyId(*number);
        }
        let Some(number) = u32::try_from(self.all.len()).ok().filter(|_| self.all.len() < self.max) else {
            return PartyId::UNKNOWN;
        };
        let party = Arc::new(party);
        self.all.push(party.clone());
        self.numbers.insert(party, number);
        PartyId(number)
    }

    pub(super) fn get(&self, id: PartyId) -> Arc<Party> {
        self.all.get(id.0 as usize).unwrap_or(&self.all[0]).clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_parties_share_a_number_and_numbers_are_bounded() {
        let named = |principal: &str| Party { principal: principal.to_owned(), ..Party::default() };
        let mut parties = Parties::new(2);
        let one = parties.intern(named("one"));
        assert_eq!(parties.intern(named("one")), one);
        assert_eq!(parties.get(one).principal, "one");
        assert_eq!(parties.intern(named("two")), PartyId::UNKNOWN);
        assert_eq!(parties.intern(Party::default()), PartyId::UNKNOWN);
    }
}

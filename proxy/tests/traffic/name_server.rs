//! A name server, which says what a test wants.

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex},
};

use hickory_resolver::proto::{
    op::{Message, OpCode, ResponseCode},
    rr::{RData, Record, RecordType, rdata::A},
};
use tokio::{net::UdpSocket, task::JoinHandle};

use crate::app::local;

/// What it says of a name. Of a name that it does not know it says that there is none.
pub(crate) enum Says {
    /// Its addresses, and for how many seconds they hold.
    Addresses(Vec<Ipv4Addr>, u32),
    /// That it can not say.
    Fails,
    Nothing,
}

/// A server of names over UDP.
pub(crate) struct NameServer {
    pub(crate) address: SocketAddr,
    zone: Arc<Mutex<Zone>>,
    task: JoinHandle<()>,
}

#[derive(Default)]
struct Zone {
    names: BTreeMap<String, Says>,
    asked: usize,
}

impl Drop for NameServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl NameServer {
    pub(crate) async fn start() -> Self {
        let socket = UdpSocket::bind(local(0)).await.unwrap();
        let (address, zone) = (socket.local_addr().unwrap(), Arc::new(Mutex::new(Zone::default())));
        let asked = zone.clone();
        let task = tokio::spawn(async move {
            let mut packet = [0; 4_096];
            loop {
                let (length, client) = socket.recv_from(&mut packet).await.unwrap();
                if let Some(answer) = answer(&mut asked.lock().unwrap(), &packet[..length]) {
                    let _ = socket.try_send_to(&answer, client);
                }
            }
        });
        Self { address, zone, task }
    }

    pub(crate) fn says(&self, name: &str, says: Says) {
        self.zone.lock().unwrap().names.insert(name.to_owned(), says);
    }

    /// Addresses that hold for a minute.
    pub(crate) fn points(&self, name: &str, addresses: &[Ipv4Addr]) {
        self.says(name, Says::Addresses(addresses.to_vec(), 60));
    }

    pub(crate) fn forget(&self, name: &str) {
        self.zone.lock().unwrap().names.remove(name);
    }

    /// Questions so far.
    pub(crate) fn asked(&self) -> usize {
        self.zone.lock().unwrap().asked
    }
}

fn answer(zone: &mut Zone, packet: &[u8]) -> Option<Vec<u8>> {
    let query = Message::from_vec(packet).unwrap();
    let question = query.queries[0].clone();
    zone.asked += 1;
    let mut answer = Message::response(query.metadata.id, OpCode::Query);
    answer.add_query(question.clone());
    match zone.names.get(question.name().to_ascii().trim_end_matches('.')) {
        None => answer.metadata.response_code = ResponseCode::NXDomain,
        Some(Says::Nothing) => return None,
        Some(Says::Fails) => answer.metadata.response_code = ResponseCode::ServFail,
        Some(Says::Addresses(addresses, ttl)) if question.query_type() == RecordType::A => {
            for address in addresses {
                answer.add_answer(Record::from_rdata(question.name().clone(), *ttl, RData::A(A(*address))));
            }
        }
        Some(Says::Addresses(..)) => {}
    }
    Some(answer.to_vec().unwrap())
}

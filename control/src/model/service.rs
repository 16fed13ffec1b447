//! Kubernetes' `v1 Service`.

use std::{collections::BTreeMap, fmt};

use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{self, Visitor},
};

use super::field::{choice, message};

message! {
    /// A name that routes to the workloads of its namespace that `selector` picks.
    Service {
        r#type: ServiceType,
        ports: Vec<ServicePort>,
        /// Labels that a workload must all have; empty selects none.
        selector: BTreeMap<String, String>,
    }
}

choice! {
    ServiceType { ClusterIp = "ClusterIP", }
}

message! {
    ServicePort {
        /// Needed when there are several ports.
        name: String,
        port: u32,
        /// Where the workload listens; `port` when unset.
        target_port: Option<TargetPort>,
        protocol: Transport,
        /// For example `http`, `kubernetes.io/h2c`, `grpc`; else the name's prefix says it.
        app_protocol: String,
    }
}

choice! {
    Transport { Tcp = "TCP", }
}

/// A port by number, or by the name that a workload gives it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum TargetPort {
    Number(u32),
    Name(String),
}

impl Serialize for TargetPort {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Number(number) => serializer.serialize_u32(*number),
            Self::Name(name) => serializer.serialize_str(name),
        }
    }
}

impl<'de> Deserialize<'de> for TargetPort {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;
        impl Visitor<'_> for Either {
            type Value = TargetPort;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a port number or name")
            }

            fn visit_u64<E: de::Error>(self, value: u64) -> Result<TargetPort, E> {
                u32::try_from(value).map(TargetPort::Number).map_err(|_| E::custom("the port is out of range"))
            }

            fn visit_i64<E: de::Error>(self, value: i64) -> Result<TargetPort, E> {
                u32::try_from(value).map(TargetPort::Number).map_err(|_| E::custom("the port is out of range"))
            }

            fn visit_str<E: de::Error>(self, value: &str) -> Result<TargetPort, E> {
                Ok(TargetPort::Name(value.to_owned()))
            }
        }
        deserializer.deserialize_any(Either)
    }
}

//! Istio's `ServiceEntry` and `WorkloadEntry`.

use std::collections::BTreeMap;

use super::field::{choice, message};

message! {
    /// Hosts that are not Services, and where they are.
    ServiceEntry {
        hosts: Vec<String>,
        ports: Vec<EntryPort>,
        location: Location,
        resolution: Resolution,
        /// Exclusive with `workload_selector`.
        endpoints: Vec<WorkloadEntry>,
        workload_selector: Option<WorkloadSelector>,
        export_to: Vec<String>,
        /// Identities that an endpoint may have, as URIs; empty means those of the endpoints' accounts.
        subject_alt_names: Vec<String>,
    }
}

message! {
    EntryPort {
        number: u32,
        /// For example `HTTP`, `GRPC`, `TCP`; empty means that the name's prefix says it.
        protocol: String,
        name: String,
        target_port: u32,
    }
}

choice! {
    Location { MeshExternal = "MESH_EXTERNAL", MeshInternal = "MESH_INTERNAL", }
}

choice! {
    /// How endpoints' addresses are found. `Unset` is the API's `NONE`, which can not be written.
    Resolution { Unset = "", Static = "STATIC", Dns = "DNS", DnsRoundRobin = "DNS_ROUND_ROBIN", }
}

message! {
    WorkloadSelector {
        labels: BTreeMap<String, String>,
    }
}

message! {
    /// One instance of a workload.
    WorkloadEntry {
        /// An IP address; a DNS name only inside a `ServiceEntry` with DNS resolution.
        address: String,
        /// Port name to port.
        ports: BTreeMap<String, u32>,
        labels: BTreeMap<String, String>,
        /// `REGION/ZONE/SUBZONE`.
        locality: String,
        /// Share of the traffic; 0 means 1.
        weight: u32,
        service_account: String,
    }
}

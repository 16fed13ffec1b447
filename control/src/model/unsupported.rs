//! What is published but not built yet, and what the server alone writes.
//!
//! - A field or value listed here is refused by name. It is never silently dropped.
//! - A name leaves this table in the commit that builds it.

/// Published fields of the struct, or values of the enum, called `name` in `model` that are refused for now.
pub(super) fn fields(name: &str) -> &'static [&'static str] {
    match name {
        "Metadata" => {
            &["generateName", "finalizers", "ownerReferences", "deletionTimestamp", "deletionGracePeriodSeconds"]
        }
        "Service" => &[
            "clusterIP",
            "clusterIPs",
            "externalIPs",
            "sessionAffinity",
            "loadBalancerIP",
            "loadBalancerSourceRanges",
            "externalName",
            "externalTrafficPolicy",
            "healthCheckNodePort",
            "publishNotReadyAddresses",
            "sessionAffinityConfig",
            "ipFamilies",
            "ipFamilyPolicy",
            "allocateLoadBalancerNodePorts",
            "loadBalancerClass",
            "internalTrafficPolicy",
            "trafficDistribution",
        ],
        "ServiceType" => &["NodePort", "LoadBalancer", "ExternalName"],
        "ServicePort" => &["nodePort"],
        "Transport" => &["UDP", "SCTP"],
        "ServiceEntry" => &["addresses"],
        "Resolution" => &["NONE", "DYNAMIC_DNS"],
        "WorkloadEntry" => &["network"],
        "VirtualService" => &["tls"],
        "HttpRoute" => {
            &["delegate", "mirror", "mirrorPercent", "mirror_percent", "mirrorPercentage", "mirrors", "corsPolicy"]
        }
        "HttpMatch" => &["statPrefix"],
        "HttpRedirect" => &["derivePort"],
        "HttpBody" => &["bytes"],
        "HttpRetry" => &["retryRemoteLocalities"],
        "FaultDelay" => &["exponentialDelay"],
        "FaultAbort" => &["http2Error"],
        "L4Match" => &["destinationSubnets", "sourceSubnet"],
        "DestinationRule" => &["workloadSelector"],
        "TrafficPolicy" => &["tunnel", "proxyProtocol", "retryBudget"],
        "LoadBalancer" => {
            &["consistentHash", "localityLbSetting", "zoneAwareLbSetting", "warmup", "warmupDurationSecs"]
        }
        "SimpleLb" => &["PASSTHROUGH"],
        "TcpPool" => &["maxConnectionDuration", "idleTimeout"],
        "HttpPool" => &["useClientProtocol", "maxConcurrentStreams", "http2KeepAlive"],
        "OutlierDetection" => {
            &["splitExternalLocalOriginErrors", "consecutiveLocalOriginFailures", "outlierDetectionHttpErrorCodes"]
        }
        "ClientTls" => {
            &["clientCertificate", "privateKey", "caCertificates", "caCrl", "credentialName", "insecureSkipVerify"]
        }
        "ClientTlsMode" => &["SIMPLE", "MUTUAL"],
        "Server" => &["tls", "defaultEndpoint"],
        "Port" => &["targetPort"],
        "GatewayProtocol" => &["HTTPS", "TLS", "GRPC-WEB", "MONGO"],
        _ => &[],
    }
}

/// Whether a field is written by a server only, and therefore dropped where people repeat it.
pub(super) fn is_owned_by_server(name: &str, field: &str) -> bool {
    match name {
        "Metadata" => {
            matches!(
                field,
                "creationTimestamp" | "generation" | "managedFields" | "resourceVersion" | "selfLink" | "uid"
            )
        }
        "Document" => field == "status",
        _ => false,
    }
}

//! The two protocols' messages, to and from what they have in common.

use proto::envoy::{
    config::core::v3::{ControlPlane, Node},
    service::discovery::v3::{
        DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse, Resource,
    },
};

use super::session::{Names, Protocol, Request, Response};

/// What a response names itself by: the control plane of this cluster.
const CONTROL_PLANE: &str = concat!("meshstore/", env!("CARGO_PKG_VERSION"));

/// One of the two protocols.
pub(super) trait Flavor: 'static {
    const PROTOCOL: Protocol;
    type Request: Send + 'static;
    type Response: Send + 'static;

    fn node(request: &Self::Request) -> Option<&Node>;
    fn type_url(request: &Self::Request) -> &str;
    fn read(request: Self::Request) -> Request;
    fn write(response: Response) -> Self::Response;
    /// What is answered to a type that is not served; `None` is silence.
    fn unknown(request: Self::Request, nonce: String) -> Option<Self::Response>;
}

pub(super) struct Delta;
pub(super) struct StateOfTheWorld;

fn control_plane() -> ControlPlane {
    ControlPlane { identifier: CONTROL_PLANE.to_owned() }
}

impl Flavor for Delta {
    const PROTOCOL: Protocol = Protocol::Delta;
    type Request = DeltaDiscoveryRequest;
    type Response = DeltaDiscoveryResponse;

    fn node(request: &DeltaDiscoveryRequest) -> Option<&Node> {
        request.node.as_ref()
    }

    fn type_url(request: &DeltaDiscoveryRequest) -> &str {
        &request.type_url
    }

    fn read(request: DeltaDiscoveryRequest) -> Request {
        Request {
            nonce: request.response_nonce,
            error: request.error_detail.map(|error| error.message),
            names: Names::Change {
                subscribe: request.resource_names_subscribe,
                unsubscribe: request.resource_names_unsubscribe,
                held: request.initial_resource_versions.into_iter().collect(),
            },
        }
    }

    fn write(response: Response) -> DeltaDiscoveryResponse {
        let resources = response.resources.iter().map(|resource| Resource {
            name: resource.name.clone(),
            version: resource.version.to_string(),
            resource: Some(resource.body.clone()),
            ..Default::default()
        });
        DeltaDiscoveryResponse {
            system_version_info: response.revision.to_string(),
            resources: resources.collect(),
            type_url: response.of.type_url().to_owned(),
            removed_resources: response.removed,
            nonce: response.nonce,
            control_plane: Some(control_plane()),
            ..Default::default()
        }
    }

    fn unknown(request: DeltaDiscoveryRequest, nonce: String) -> Option<DeltaDiscoveryResponse> {
        (!request.resource_names_subscribe.is_empty()).then(|| DeltaDiscoveryResponse {
            type_url: request.type_url,
            removed_resources: request.resource_names_subscribe,
            nonce,
            control_plane: Some(control_plane()),
            ..Default::default()
        })
    }
}

impl Flavor for StateOfTheWorld {
    const PROTOCOL: Protocol = Protocol::StateOfTheWorld;
    type Request = DiscoveryRequest;
    type Response = DiscoveryResponse;

    fn node(request: &DiscoveryRequest) -> Option<&Node> {
        request.node.as_ref()
    }

    fn type_url(request: &DiscoveryRequest) -> &str {
        &request.type_url
    }

    fn read(request: DiscoveryRequest) -> Request {
        Request {
            nonce: request.response_nonce,
            error: request.error_detail.map(|error| error.message),
            names: Names::All(request.resource_names),
        }
    }

    fn write(response: Response) -> DiscoveryResponse {
        DiscoveryResponse {
            version_info: response.revision.to_string(),
            resources: response.resources.iter().map(|resource| resource.body.clone()).collect(),
            type_url: response.of.type_url().to_owned(),
            nonce: response.nonce,
            control_plane: Some(control_plane()),
            ..Default::default()
        }
    }

    fn unknown(_: DiscoveryRequest, _: String) -> Option<DiscoveryResponse> {
        None
    }
}

//! Requests for changes: names come and go by themselves, and each response is answered.

use std::time::Instant;

use super::{Session, same, status};
use crate::{Kind, wire};

impl Session {
    /// Answers first, then changes of what is wanted. The first request of a stream says which versions are held; none of
    /// them is missing there, refused ones included, so that the control plane can say what was deleted meanwhile.
    pub(super) fn delta_request(
        &mut self,
        kind: Kind,
        now: Instant,
    ) -> Option<wire::DeltaDiscoveryRequest> {
        let wanted = self.store.wanted(kind);
        let channel = &mut self.channels[kind.index()];
        let mut request = wire::DeltaDiscoveryRequest {
            type_url: kind.type_url().to_owned(),
            ..Default::default()
        };
        if let Some(answer) = channel.due(now) {
            request.response_nonce = answer.nonce;
            request.error_detail = answer.error.map(status);
        } else if !channel.asked {
            channel.asked = true;
            request.initial_resource_versions = self.store.versions(kind).collect();
            request.resource_names_subscribe = wanted.iter().cloned().collect();
            channel.told = wanted;
        } else if !same(&channel.told, &wanted) {
            request.resource_names_subscribe = wanted.difference(&channel.told).cloned().collect();
            request.resource_names_unsubscribe =
                channel.told.difference(&wanted).cloned().collect();
            channel.told = wanted;
            self.drop_unwanted(kind);
        } else {
            return None;
        }
        request.node = self.introduction();
        Some(request)
    }
}

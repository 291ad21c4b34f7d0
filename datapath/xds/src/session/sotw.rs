//! Requests for states of the world: each has the whole subscription and answers the last response.

use std::time::Instant;

use super::{Session, same, status};
use crate::{Kind, wire};

impl Session {
    /// A request is due if the type was not asked for, if an answer may be sent, or if other names are wanted and no
    /// answer is on its way, whose place this request would take.
    pub(super) fn sotw_request(
        &mut self,
        kind: Kind,
        now: Instant,
    ) -> Option<wire::DiscoveryRequest> {
        let wanted = self.store.wanted(kind);
        let channel = &mut self.channels[kind.index()];
        let mut error = None;
        if !channel.asked {
            channel.asked = true;
        } else if let Some(mut answer) = channel.due(now) {
            // Only the last nonce means anything to the control plane.
            while let Some(later) = channel.due(now) {
                answer = later;
            }
            error = answer.error;
        } else if !channel.answers.is_empty() || same(&channel.told, &wanted) {
            return None;
        }
        channel.told = wanted.clone();
        let request = wire::DiscoveryRequest {
            version_info: channel.accepted.clone(),
            resource_names: wanted.iter().cloned().collect(),
            type_url: kind.type_url().to_owned(),
            response_nonce: channel.nonce.clone(),
            error_detail: error.map(status),
            node: None,
        };
        self.drop_unwanted(kind);
        Some(wire::DiscoveryRequest {
            node: self.introduction(),
            ..request
        })
    }
}

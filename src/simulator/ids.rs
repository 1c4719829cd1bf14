//! Ids as the service writes them.

use uuid::Uuid;

use super::refusal::Refusal;

pub(super) fn random_id(rng: &mut fastrand::Rng) -> Uuid {
    uuid::Builder::from_random_bytes(rng.u128(..).to_be_bytes()).into_uuid()
}

/// An id in the only form the service writes it: 36 characters with hyphens.
pub(super) fn parse_id(text: &str) -> Result<Uuid, Refusal> {
    if text.len() != 36 {
        return Err(Refusal::bad_request());
    }
    Uuid::try_parse(text).map_err(|_| Refusal::bad_request())
}

//! What keeps a busy morning uneventful: small state machines without I/O, driven by `call.rs`.

pub(crate) mod budget;
pub(crate) mod history;
pub(crate) mod overload;
mod queue;
pub(crate) mod quota;
pub(crate) mod retry;
pub(crate) mod retry_after;
#[cfg(test)]
mod trials;

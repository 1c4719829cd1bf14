//! What a call waits for before it is sent: small state machines without I/O, driven by `call.rs`.

pub(crate) mod login;

//! The operations behind a bearer token, and what each asks of its caller.

use http::Method;

use crate::request::{self, OnHost};

/// An operation as the service knows it.
pub(super) struct Operation {
    pub(super) request: &'static request::Operation,
    /// As the official SDKs name it, where they have it.
    pub(super) name: &'static str,
    /// Permissions combine by ANY in the service; each operation here asks for just one.
    pub(super) permission: Option<&'static str>,
}

impl Operation {
    pub(super) fn is_script_read(&self) -> bool {
        std::ptr::eq(self.request, &request::GET_SCRIPT)
    }

    /// Whether the operation is on the api host, with its quota, faults and small JSON bodies,
    /// and not on the upload host.
    pub(super) fn is_api(&self) -> bool {
        self.request.host == OnHost::Api
    }

    pub(super) fn takes_json(&self) -> bool {
        self.is_api() && self.request.method == Method::POST
    }
}

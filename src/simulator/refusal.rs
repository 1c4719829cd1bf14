//! The service's error envelope.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::response::{IntoResponse, Response};
use http::header::RETRY_AFTER;
use http::{HeaderValue, StatusCode};
use serde::Serialize;

/// The id of one request: `ININ-Correlation-Id` on its answer, `contextId` in its error.
#[derive(Clone)]
pub(super) struct ContextId(pub(super) Arc<str>);

/// The largest body the JSON operations take (`request.bytes.max`).
pub(super) const MAX_BYTES: usize = 512_000;

/// Why a request is not done; becomes the envelope by [`Refusal::response`].
pub(super) struct Refusal {
    status: StatusCode,
    code: &'static str,
    // With `{name}` for each of `params`.
    template: &'static str,
    params: Vec<(&'static str, String)>,
    field: Option<String>,
    retry_after: Option<u64>,
}

impl Refusal {
    fn new(status: StatusCode, code: &'static str, template: &'static str) -> Self {
        Self { status, code, template, params: Vec::new(), field: None, retry_after: None }
    }

    fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.params.push((name, value.into()));
        self
    }

    pub(super) fn bad_request() -> Self {
        let text = "The request could not be understood by the server due to malformed syntax.";
        Self::new(StatusCode::BAD_REQUEST, "bad.request", text)
    }

    /// The refusal under load, and of a script that really is broken. The service spells this
    /// code with an underscore.
    pub(super) fn invalid_script_definition() -> Self {
        Self::new(StatusCode::BAD_REQUEST, "bad_request", "Invalid script definition")
    }

    pub(super) fn invalid_value(field: &str, value: &str, kind: &str, allowed: &str) -> Self {
        let text = "Value [{value}] is not valid for field type [{type}]. Allowable values are: {allowed}";
        let mut refusal = Self::new(StatusCode::BAD_REQUEST, "invalid.value", text)
            .with("value", value.chars().take(100).collect::<String>())
            .with("type", kind)
            .with("allowed", allowed);
        refusal.field = Some(field.to_owned());
        refusal
    }

    pub(super) fn authentication_required() -> Self {
        let text = "No authentication bearer token specified in authorization header.";
        Self::new(StatusCode::UNAUTHORIZED, "authentication.required", text)
    }

    pub(super) fn bad_credentials() -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "bad.credentials", "Invalid login credentials.")
    }

    pub(super) fn credentials_expired() -> Self {
        let text = "The supplied credentials are expired and cannot be used.";
        Self::new(StatusCode::UNAUTHORIZED, "credentials.expired", text)
    }

    pub(super) fn missing_any_permissions(permission: &str) -> Self {
        let text = "Unable to perform the requested action. You must have at least one of the \
                    following permissions assigned: {permissions}";
        Self::new(StatusCode::FORBIDDEN, "missing.any.permissions", text).with("permissions", permission)
    }

    pub(super) fn not_authorized() -> Self {
        Self::new(StatusCode::FORBIDDEN, "not.authorized", "You are not authorized to perform the requested action.")
    }

    pub(super) fn not_found() -> Self {
        Self::new(StatusCode::NOT_FOUND, "not.found", "The requested resource was not found.")
    }

    pub(super) fn method_not_allowed() -> Self {
        let text = "The requested method is not allowed for this resource.";
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "method.not.allowed", text)
    }

    pub(super) fn conflict() -> Self {
        let text = "The request could not be completed due to a conflict with the current state of the resource.";
        Self::new(StatusCode::CONFLICT, "conflict", text)
    }

    pub(super) fn client_timeout() -> Self {
        let text = "The client did not produce a request within the time the server was prepared to wait.";
        Self::new(StatusCode::REQUEST_TIMEOUT, "client.timeout", text)
    }

    pub(super) fn too_large(maximum: usize) -> Self {
        let text = "The request is over the size limit. Maximum bytes: {maximum}";
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "request.entity.too.large", text).with("maximum", maximum.to_string())
    }

    pub(super) fn unsupported_media_type() -> Self {
        let text = "Unsupported Media Type - Unsupported or incorrect media type, such as an \
                    incorrect Content-Type value in the header.";
        Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported.media.type", text)
    }

    pub(super) fn too_many_requests(seconds: u64) -> Self {
        let text = "Rate limit exceeded the maximum. Retry the request in [{seconds}] seconds";
        let mut refusal = Self::new(StatusCode::TOO_MANY_REQUESTS, "too.many.requests.retry.after", text)
            .with("seconds", seconds.to_string());
        refusal.retry_after = Some(seconds);
        refusal
    }

    pub(super) fn internal_server_error() -> Self {
        let text = "The server encountered an unexpected condition which prevented it from \
                    fulfilling the request.";
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal.server.error", text)
    }

    pub(super) fn service_unavailable() -> Self {
        let text = "Service Unavailable - The server is currently unavailable (because it is \
                    overloaded or down for maintenance).";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "service.unavailable", text)
    }

    pub(super) fn request_timeout() -> Self {
        Self::new(StatusCode::GATEWAY_TIMEOUT, "request.timeout", "The request timed out.")
    }

    pub(super) fn response(self, context: &ContextId) -> Response {
        let mut message = self.template.to_owned();
        for (name, value) in &self.params {
            message = message.replacen(&format!("{{{name}}}"), value, 1);
        }
        let with_params = !self.params.is_empty();
        let details = self.field.iter().map(|field| Detail { error_code: self.code, field_name: field });
        let envelope = Envelope {
            message: &message,
            code: self.code,
            status: self.status.as_u16(),
            message_with_params: with_params.then_some(self.template),
            message_params: self.params.iter().map(|(name, value)| (*name, value.as_str())).collect(),
            context_id: &context.0,
            details: details.collect(),
            errors: [],
        };
        let mut response = (self.status, Json(envelope)).into_response();
        if let Some(seconds) = self.retry_after {
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Envelope<'a> {
    message: &'a str,
    code: &'a str,
    status: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    message_with_params: Option<&'a str>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    message_params: BTreeMap<&'a str, &'a str>,
    context_id: &'a str,
    details: Vec<Detail<'a>>,
    errors: [(); 0],
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Detail<'a> {
    error_code: &'a str,
    field_name: &'a str,
}

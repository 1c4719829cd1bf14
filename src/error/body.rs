//! Stub.
/// The service's error body.
#[derive(Clone, Debug, Default)]
pub struct ErrorBody {
    code: Option<String>,
    message: Option<String>,
}
impl ErrorBody {
    pub(crate) fn parse(text: &str) -> Self {
        let value: serde_json::Value = serde_json::from_str(text).unwrap_or_default();
        let get = |k: &str| value.get(k).and_then(|v| v.as_str()).map(str::to_owned);
        Self {
            code: get("code").or_else(|| get("error")),
            message: get("message").or_else(|| get("error_description")).or_else(|| get("description")),
        }
    }
    /// The code.
    pub fn code(&self) -> Option<&str> {
        self.code.as_deref()
    }
    /// The message.
    pub fn message(&self) -> Option<&str> {
        self.message.as_deref()
    }
}

//! Stub.
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

pub(crate) struct LoginGate {
    _random: Arc<dyn Fn() -> f64 + Send + Sync>,
}
pub(crate) struct LoginPass<'a>(std::marker::PhantomData<&'a ()>);
pub(crate) struct GateRefused {
    pub(crate) possible_at: Option<Instant>,
}
impl LoginGate {
    pub(crate) fn new(random: Arc<dyn Fn() -> f64 + Send + Sync>) -> Self {
        Self { _random: random }
    }
    pub(crate) async fn admit(&self, _deadline: Instant) -> Result<LoginPass<'_>, GateRefused> {
        Ok(LoginPass(std::marker::PhantomData))
    }
}
impl LoginPass<'_> {
    pub(crate) fn accepted(self, _now: Instant) {}
    pub(crate) fn throttled(self, _now: Instant, _wait: Option<Duration>) {}
}

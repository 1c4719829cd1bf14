//! What `/metrics` answers: all that the process has counted and timed, as Prometheus reads it.

use std::convert::Infallible;
use std::sync::LazyLock;
use std::time::Duration;

use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};

/// Bounds of the histograms, which add up over several processes as quantiles do not. Seconds: OpenTelemetry's for HTTP, and those
/// of calls that wait. Requests left of a quota.
const SECONDS: [f64; 16] =
    [0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 30.0, 100.0];
const LEFT: [f64; 7] = [0.0, 10.0, 25.0, 50.0, 100.0, 200.0, 300.0];

/// What is measured is kept one by one until it is rendered or this is over.
const UPKEEP: Duration = Duration::from_secs(5);

/// A process has one recorder, whoever asks for it first, and however many backends.
static INSTALLED: LazyLock<Result<PrometheusHandle, BuildError>> = LazyLock::new(|| {
    PrometheusBuilder::new()
        .with_recommended_naming(true)
        .set_buckets_for_metric(Matcher::Suffix("duration".to_owned()), &SECONDS)?
        .set_buckets_for_metric(Matcher::Suffix("quota.remaining".to_owned()), &LEFT)?
        .install_recorder()
});

#[derive(Clone)]
pub(super) struct Metrics(PrometheusHandle);

impl Metrics {
    /// To be called before a client is built, which then says what each metric is.
    pub(super) fn installed() -> anyhow::Result<Self> {
        Ok(Self(INSTALLED.as_ref()?.clone()))
    }

    pub(super) fn answer(&self) -> Response {
        ([(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], self.0.render()).into_response()
    }

    /// What must be done as long as the process counts, whether or not anybody asks for the metrics.
    pub(super) async fn keep(self) -> Infallible {
        let mut tick = tokio::time::interval(UPKEEP);
        loop {
            tick.tick().await;
            self.0.run_upkeep();
        }
    }
}

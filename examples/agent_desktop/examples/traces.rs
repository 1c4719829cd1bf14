//! Traces by OpenTelemetry: how to export them, and what arrives. The names are those that the docs of
//! `genesys_scripts::observability` tell.
//!
//!     cargo run --example traces
//!
//! Here the spans arrive in memory and are printed. A service puts the exporter of `opentelemetry-otlp` in that place, by
//! `with_batch_exporter`, and shuts its provider down at the end, so that the last ones go out too.

use std::time::Duration;

use anyhow::Context as _;
use genesys_scripts::simulator::Simulator;
use genesys_scripts::{Client, Credentials, ScriptId};
use opentelemetry::trace::TracerProvider as _;
use opentelemetry_sdk::trace::{InMemorySpanExporter, SdkTracerProvider, SpanData, SpanExporter};
use tracing::level_filters::LevelFilter;
use tracing::{Instrument as _, Subscriber};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::{Layer as _, SubscriberExt as _};

/// `debug` is for the spans of each attempt; with `info` there are those of calls and logins alone.
fn exporting(exporter: impl SpanExporter + 'static) -> (SdkTracerProvider, impl Subscriber + Send + Sync) {
    let provider = SdkTracerProvider::builder().with_simple_exporter(exporter).build();
    let wanted =
        Targets::new().with_target("genesys_scripts", LevelFilter::DEBUG).with_target("traces", LevelFilter::INFO);
    let layer = tracing_opentelemetry::layer()
        .with_tracer(provider.tracer("agent-desktop"))
        // Which line of this crate, and which thread, has nothing to do with the call.
        .with_location(false)
        .with_threads(false)
        .with_tracked_inactivity(false);
    (provider, tracing_subscriber::registry().with(layer.with_filter(wanted)))
}

/// A login, a script whose first attempt fails, and one that nobody knows.
async fn first_screen(simulator: &Simulator) -> anyhow::Result<()> {
    let client = Client::builder(simulator.region()?).with_middleware(simulator.transport()).build()?;
    let agent = client.agent(Credentials::client("desktop", "simulator"));
    simulator.set_down(true);
    let until_it_failed = async {
        while simulator.stats().script_requests.is_empty() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        simulator.set_down(false);
    };
    let id: ScriptId = simulator.script_ids().first().context("there is no script")?.parse()?;
    let (script, ()) = tokio::join!(agent.script(&id), until_it_failed);
    println!("{:?}", script?.name);
    let unknown: ScriptId = "00000000-0000-4000-8000-000000000000".parse()?;
    if let Err(error) = agent.script(&unknown).await {
        println!("{error}");
    }
    Ok(())
}

async fn exported() -> anyhow::Result<Vec<SpanData>> {
    let exporter = InMemorySpanExporter::default();
    let (provider, subscriber) = exporting(exporter.clone());
    let _guard = tracing::subscriber::set_default(subscriber);
    let simulator = Simulator::builder().scripts(1).client_secret("simulator").in_process()?;
    first_screen(&simulator).instrument(tracing::info_span!("first screen")).await?;
    provider.force_flush()?;
    Ok(exporter.get_finished_spans()?)
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    for span in exported().await? {
        println!("\n{} ({:?}, {:?})", span.name, span.span_kind, span.status);
        println!(
            "  span {} of trace {}, under {}",
            span.span_context.span_id(),
            span.span_context.trace_id(),
            span.parent_span_id
        );
        for link in span.links.iter() {
            println!("  linked to {}", link.span_context.span_id());
        }
        for attribute in &span.attributes {
            println!("  {} = {}", attribute.key, attribute.value);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use opentelemetry::Value;
    use opentelemetry::trace::{SpanId, SpanKind, Status};

    use super::*;

    fn named<'a>(spans: &'a [SpanData], name: &str) -> Vec<&'a SpanData> {
        spans.iter().filter(|span| span.name == name).collect()
    }

    fn attribute(span: &SpanData, name: &str) -> Option<Value> {
        let attribute = span.attributes.iter().find(|attribute| attribute.key.as_str() == name)?;
        Some(attribute.value.clone())
    }

    fn text(span: &SpanData, name: &str) -> String {
        match attribute(span, name) {
            Some(Value::String(text)) => text.to_string(),
            other => panic!("{name} of {} is {other:?}", span.name),
        }
    }

    fn parent(span: &SpanData) -> (SpanId, opentelemetry::TraceId) {
        (span.parent_span_id, span.span_context.trace_id())
    }

    fn own(span: &SpanData) -> (SpanId, opentelemetry::TraceId) {
        (span.span_context.span_id(), span.span_context.trace_id())
    }

    #[tokio::test(start_paused = true)]
    async fn what_arrives_at_an_exporter_is_what_the_documentation_tells() {
        let spans = exported().await.unwrap();
        let screen = named(&spans, "first screen")[0];
        let [served, refused] = named(&spans, "get script")[..] else { panic!("{spans:#?}") };
        for call in [served, refused] {
            assert_eq!((&call.span_kind, parent(call)), (&SpanKind::Client, own(screen)));
            assert_eq!(text(call, "http.request.method"), "GET");
            assert_eq!(text(call, "url.template"), "/api/v2/scripts/{scriptId}");
            assert_eq!(text(call, "server.address"), "127.0.0.1");
            assert_eq!(attribute(call, "server.port"), Some(Value::I64(9)), "a number");
        }
        assert_eq!(attribute(served, "http.response.status_code"), Some(Value::I64(200)), "a number");
        assert!(matches!(attribute(served, "genesys_scripts.wait.login"), Some(Value::F64(seconds)) if seconds > 0.0));
        assert_eq!(served.status, Status::Unset);
        assert_eq!(attribute(served, "error.type"), None);

        let Status::Error { description } = &refused.status else { panic!("{refused:#?}") };
        assert!(description.contains("get script") && description.contains("404"), "{description}");
        assert_eq!(text(refused, "error.type"), "not_found");
        assert_eq!(attribute(refused, "http.response.status_code"), Some(Value::I64(404)));
        assert!(!text(refused, "genesys_scripts.correlation_id").is_empty());

        let attempts = named(&spans, "GET /api/v2/scripts/{scriptId}");
        let of_served: Vec<_> = attempts.iter().filter(|attempt| parent(attempt) == own(served)).collect();
        let [failed, .., last] = of_served[..] else { panic!("{attempts:#?}") };
        assert_eq!((&failed.span_kind, text(failed, "error.type").as_str()), (&SpanKind::Client, "503"));
        assert!(matches!(failed.status, Status::Error { .. }));
        assert_eq!(last.status, Status::Unset);
        for span in [served, last] {
            let before = Value::I64(of_served.len() as i64 - 1);
            assert_eq!(attribute(span, "http.request.resend_count"), Some(before), "a number");
        }

        let [login] = named(&spans, "login")[..] else { panic!("{spans:#?}") };
        assert_eq!((&login.span_kind, login.parent_span_id), (&SpanKind::Internal, SpanId::INVALID), "nobody's child");
        let links: Vec<_> = served.links.iter().map(|link| link.span_context.span_id()).collect();
        assert_eq!(links, [login.span_context.span_id()], "what it waited for");
        assert_eq!(named(&spans, "log in").iter().map(|call| parent(call)).collect::<Vec<_>>(), [own(login)]);

        let all = format!("{spans:?}");
        assert!(!all.contains("Bearer") && !all.contains("access_token"), "{all}");
    }
}

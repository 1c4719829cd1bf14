//! Response times as an HdrHistogram log: an interval histogram for each slice of time, tagged by the mode.

use std::time::SystemTime;

use anyhow::Context as _;
use base64::Engine as _;
use hdrhistogram::serialization::interval_log::{IntervalLogWriterBuilder, Tag};
use hdrhistogram::serialization::{Serializer as _, V2DeflateSerializer};
use hdrhistogram::{Counter, Histogram};

use crate::run::Run;

pub(crate) fn log(began_at: SystemTime, runs: &[Run]) -> anyhow::Result<Vec<u8>> {
    let mut log = Vec::new();
    let mut serializer = V2DeflateSerializer::new();
    let mut writer = IntervalLogWriterBuilder::new()
        .add_comment("genesys-load: response times in microseconds")
        .with_start_time(began_at)
        .with_base_time(began_at)
        .begin_log_with(&mut log, &mut serializer)
        .context("cannot begin the log")?;
    for run in runs {
        let before = run.began_at.duration_since(began_at).unwrap_or_default();
        let mut start = before;
        for slice in &run.timeline.slices {
            if !slice.response.is_empty() {
                let written = writer.write_histogram(&slice.response, start, run.timeline.width, Tag::new(run.mode));
                written.map_err(|error| anyhow::anyhow!("cannot write the log: {error:?}"))?;
            }
            start += run.timeline.width;
        }
    }
    Ok(log)
}

/// In the form that all libraries of HdrHistogram read.
pub(crate) fn encoded<C: Counter>(histogram: &Histogram<C>) -> anyhow::Result<String> {
    let mut bytes = Vec::new();
    let encoded = V2DeflateSerializer::new().serialize(histogram, &mut bytes);
    encoded.map_err(|error| anyhow::anyhow!("cannot encode the histogram: {error:?}"))?;
    Ok(base64::engine::general_purpose::STANDARD.encode(bytes))
}

/// For a plot: at these parts of all, this many milliseconds.
pub(crate) fn spectrum(run: &Run) -> Vec<(f64, f64)> {
    // Halving what is left each time, as percentile plots do, and no further than there are values.
    let mut points = Vec::new();
    let mut left = 1.0;
    while run.served > 0 && left * run.served as f64 >= 0.5 && points.len() < 400 {
        points.push((1.0 - left, run.latency_ms(1.0 - left)));
        left *= 0.9;
    }
    points
}

//! The page of a load test's results, in a headless Chromium: it says nothing on the console, nothing covers anything else, and
//! each axis has its unit; light and dark, wide and narrow, and whatever the numbers.

#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

#[path = "../../../tests/common/browser.rs"]
mod browser;

use std::path::{Path, PathBuf};
use std::process::Stdio;

use browser::Browser;
use serde_json::{Value, json};
use tokio::process::Command;

/// What is wrong with the page as it is shown.
const WRONG: &str = include_str!("page.js");

const UNITS: [&str; 6] = [
    "time since the start, in seconds",
    "response time, in milliseconds",
    "percentile of those served",
    "iterations ended per second",
    "iterations under way, at most",
    "milliseconds",
];

async fn is_well_made(page: &Path, runs: usize) {
    let Some(mut browser) = Browser::start().await else { return };
    for (scheme, width) in [("light", 1280), ("dark", 1280), ("light", 390), ("dark", 800)] {
        browser.look(width, scheme).await;
        browser.open(&format!("file://{}", page.display())).await;
        let wrong = browser.value(WRONG).await;
        assert_eq!(wrong, json!([]), "{scheme}, {width} px wide: {wrong:#}");
        assert_eq!(browser.complaints(), [""; 0], "{scheme}, {width} px wide");
        assert_eq!(browser.value("document.querySelectorAll('figure').length").await, runs * 5);
    }
    // Each axis says what it counts.
    let labels = "[...document.querySelectorAll('svg')].map(svg => svg.ariaLabel.split(': ').pop().split(' by '))";
    for axes in browser.value(labels).await.as_array().unwrap() {
        for axis in axes.as_array().unwrap() {
            assert!(UNITS.contains(&axis.as_str().unwrap()), "{axis}");
        }
    }
    let drawn = browser.value("[...document.querySelectorAll('svg')].every(svg => svg.ariaLabel.split(': ').pop().split(' by ').every(label => [...svg.querySelectorAll('text')].some(text => text.textContent === label)))").await;
    assert_eq!(drawn, true, "the labels are drawn");
    let schemes = "getComputedStyle(document.body).backgroundColor";
    let dark = browser.value(schemes).await;
    browser.look(800, "light").await;
    assert_ne!(browser.value(schemes).await, dark, "dark is not light");
    browser.close().await;
}

fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("page-{name}-{}.html", std::process::id()))
}

async fn load(page: &Path, args: &[&str]) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_genesys-load"));
    command.args(args).arg("--html").arg(page).stdin(Stdio::null()).kill_on_drop(true);
    let output = command.output().await.unwrap();
    assert!(page.is_file(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[tokio::test]
async fn the_page_of_both_ways_is_well_made() {
    let page = file("both");
    load(&page, &["--agents", "60"]).await;
    is_well_made(&page, 2).await;
    std::fs::remove_file(&page).unwrap();
}

/// With these runs in place of its own.
fn with(page: &str, runs: &Value) -> String {
    let (before, rest) = page.split_once("id=\"data\">").unwrap();
    let (_, after) = rest.split_once("</script>").unwrap();
    format!("{before}id=\"data\">{runs}</script>{after}")
}

/// A number for each slice.
fn run(slice_ms: u64, slices: usize, scale: f64, nines: i32, outcomes: &[&str]) -> Value {
    let each = |part: f64| -> Vec<f64> { (0..slices).map(|slice| (slice as f64 * part).sin().abs() * scale).collect() };
    let spectrum: Vec<_> = (0..=nines * 4)
        .map(|quarter| f64::from(quarter) / 4.0)
        .map(|nine| (1.0 - 10f64.powf(-nine), scale * (1.0 + nine)))
        .collect();
    let outcomes: serde_json::Map<_, _> = outcomes.iter().map(|name| ((*name).to_owned(), json!(each(0.5)))).collect();
    json!({
        "mode": "resilient", "spectrum": spectrum,
        "timeline": {
            "slice_ms": slice_ms, "served": each(0.1), "failed": each(0.2), "in_flight": each(0.3),
            "p50_ms": each(0.1), "p99_ms": each(0.2), "max_ms": each(0.3), "outcomes": outcomes,
        },
    })
}

#[tokio::test]
async fn the_page_is_well_made_whatever_the_numbers() {
    let page = file("odd");
    load(&page, &["--agents", "1", "--mode", "resilient"]).await;
    let made = std::fs::read_to_string(&page).unwrap();
    let causes = [
        "200",
        "400 the script is broken itself",
        "429",
        "503 Service Unavailable",
        "Timeout",
        "no answer",
        "400 bad.request: an id that nobody filled in",
        "connection refused",
        "401",
        "the queue of the client is full",
    ];
    let runs = json!([
        // Nothing at all; nothing served; a slice alone.
        {"mode": "naive", "spectrum": [], "timeline": {"slice_ms": 100, "served": [], "failed": [], "in_flight": [],
            "p50_ms": [], "p99_ms": [], "max_ms": [], "outcomes": {}}},
        {"mode": "naive", "spectrum": [], "timeline": {"slice_ms": 100, "served": [0, 0], "failed": [7, 3], "in_flight": [7, 3],
            "p50_ms": [null, null], "p99_ms": [null, null], "max_ms": [null, null], "outcomes": {"400": [7, 3]}}},
        run(100, 1, 3.0, 1, &["200"]),
        // Ten minutes at 2,000/s; a day; microseconds.
        run(1_000, 600, 2_000.0, 6, &causes),
        run(60_000, 1_440, 12_345_678.9, 9, &causes[..3]),
        run(100, 40, 0.000_123, 2, &causes[..1]),
    ]);
    std::fs::write(&page, with(&made, &runs)).unwrap();
    is_well_made(&page, 6).await;
    std::fs::remove_file(&page).unwrap();
}

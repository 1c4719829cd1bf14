//! Results as JMeter writes them, made from a mechanism.

use std::fmt::Write as _;
use std::path::PathBuf;

pub(crate) const HEADER: &str = "timeStamp,elapsed,label,responseCode,responseMessage,threadName,dataType,success,failureMessage,bytes,sentBytes,grpThreads,allThreads,URL,Latency,IdleTime,Connect";
pub(crate) const BEGIN: u64 = 1_700_000_000_000;

/// One row.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    pub(crate) at: u64,
    pub(crate) elapsed: u64,
    pub(crate) label: String,
    pub(crate) code: String,
    pub(crate) message: String,
    pub(crate) failure: String,
    pub(crate) thread: u64,
    pub(crate) threads: u64,
    pub(crate) url: String,
    pub(crate) connect: u64,
}

pub(crate) fn script(i: u64) -> String {
    format!("https://api.example.test/api/v2/scripts/0a1b2c3d-0000-4000-8000-{i:012}")
}

impl Row {
    /// A request that went well.
    pub(crate) fn well(at: u64, thread: u64, url: String) -> Self {
        Self {
            at,
            elapsed: 40 + at % 37,
            label: "GET script".into(),
            code: "200".into(),
            message: "OK".into(),
            failure: String::new(),
            thread,
            threads: 20,
            url,
            connect: 0,
        }
    }

    /// The same, and it failed.
    pub(crate) fn failed(mut self, code: &str, message: &str) -> Self {
        self.code = code.into();
        self.message = message.into();
        self
    }

    fn line(&self) -> String {
        let quoted = |text: &str| {
            if text.contains([',', '"', '\n']) { format!("\"{}\"", text.replace('"', "\"\"")) } else { text.to_owned() }
        };
        let well = self.code.starts_with(['2', '3']) && self.failure.is_empty();
        format!(
            "{},{},{},{},{},Agents 1-{},text,{well},{},900,240,{},{},{},{},0,{}",
            BEGIN + self.at,
            self.elapsed,
            quoted(&self.label),
            quoted(&self.code),
            quoted(&self.message),
            self.thread,
            quoted(&self.failure),
            self.threads,
            self.threads,
            quoted(&self.url),
            self.elapsed,
            self.connect
        )
    }
}

/// So many requests, of 20 threads for 40 scripts, each changed by what is the matter.
pub(crate) fn run(n: u64, mut matter: impl FnMut(u64, Row, &mut fastrand::Rng) -> Row) -> Vec<Row> {
    let mut rng = fastrand::Rng::with_seed(7);
    (0..n)
        .map(|i| {
            let row = Row::well(i * 37, i % 20 + 1, script(rng.u64(1..=40)));
            matter(i, row, &mut rng)
        })
        .collect()
}

/// Rows as a file with a header.
pub(crate) fn csv(rows: &[Row]) -> String {
    format!("{HEADER}\n{}", lines(rows))
}

pub(crate) fn lines(rows: &[Row]) -> String {
    rows.iter().fold(String::new(), |mut text, row| {
        let _ = writeln!(text, "{}", row.line());
        text
    })
}

/// A file of these bytes that goes away with the test.
pub(crate) struct Scratch(pub(crate) PathBuf);

impl Scratch {
    pub(crate) fn new(name: &str, bytes: impl AsRef<[u8]>) -> Self {
        let unique = format!("doctor-{}-{:?}-{name}", std::process::id(), std::thread::current().id());
        let path = std::env::temp_dir().join(unique.replace(['(', ')', '/', ' '], "-"));
        std::fs::write(&path, bytes).expect("the scratch file is written");
        Self(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

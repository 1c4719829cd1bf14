//! What must hold of any bytes: the properties that the fuzz targets (`fuzz/`) and plain `cargo test` both check.
//!
//! Each takes a file's bytes and panics where its promise is broken.

use crate::cause::{Cause, Finding};
use crate::feed::{Feed, Reading};
use crate::input::Unreadable;
use crate::plan::Plan;
use crate::rules::Rules;
use crate::{diagnose, jtl, jtl_xml};

/// A data file: rows and what is wrong with them, or an error with a line. One that the load test would take is the same,
/// row by row, to a reader of CSV.
pub fn feeder(bytes: &[u8]) {
    let two = ["scriptId", "token"].map(str::to_owned).to_vec();
    let in_path = vec!["scriptId".to_owned()];
    for reading in
        [Reading::default(), Reading { variables: two, in_path, quoted: true, known: true, ..Reading::default() }]
    {
        if let Err(why) = Feed::read(bytes, &reading) {
            explained(bytes, &why);
        }
    }
    let feed = match Feed::read(bytes, &Reading::strict(&["script_id"], &["agent"])) {
        Ok(feed) => feed,
        Err(why) => return explained(bytes, &why),
    };
    for defect in &feed.defects {
        told(bytes, defect.line, &defect.message);
    }
    if !feed.defects.is_empty() {
        return;
    }
    let mut reader = csv::ReaderBuilder::new().flexible(true).from_reader(bytes);
    let width = reader.headers().map_or(0, csv::StringRecord::len);
    assert_eq!(width, feed.named.len(), "the columns");
    let rows: Vec<_> = reader.records().map(|row| row.map_or(0, |row| row.len())).collect();
    assert!(rows.iter().all(|values| *values == width), "{rows:?}");
    assert_eq!(rows.len() as u64, feed.rows, "the rows");
}

/// Results, as rows or as XML: requests, findings and causes, or an error with a line.
pub fn jtl(bytes: &[u8]) {
    seen(bytes, results(bytes));
}

/// A plan: requests, findings and causes, or an error with a line.
pub fn jmx(bytes: &[u8]) {
    seen(bytes, plan(bytes));
}

/// What is to be said of a file, and what it comes to.
type Seen = Result<(Vec<Finding>, Vec<Cause>), Unreadable>;

fn results(bytes: &[u8]) -> Seen {
    let xml = bytes.iter().find(|b| !b.is_ascii_whitespace()) == Some(&b'<');
    let (results, mut findings) = if xml { jtl_xml::read(bytes, "results")? } else { jtl::read(bytes, "results")? };
    let diagnosis = diagnose::diagnose(&results, "results");
    findings.extend(diagnosis.findings);
    Ok((findings, diagnosis.causes))
}

fn plan(bytes: &[u8]) -> Seen {
    let plan = Plan::read(bytes)?;
    let ruled = Rules::of(&plan, "plan", &[]);
    Ok((ruled.findings, ruled.causes))
}

fn seen(bytes: &[u8], seen: Seen) {
    let (findings, causes) = match seen {
        Ok(seen) => seen,
        Err(why) => return explained(bytes, &why),
    };
    for finding in &findings {
        told(bytes, finding.line, &finding.message);
    }
    for cause in &causes {
        let share = cause.share.unwrap_or_default();
        assert!((0.0..=1.000_001).contains(&share), "{cause:?}");
        assert!(cause.evidence.iter().all(|evidence| is_printable(evidence)), "{cause:?}");
    }
}

fn explained(bytes: &[u8], why: &Unreadable) {
    told(bytes, why.line, &why.reason);
}

/// A line that is there, or the one after the last; and words that a terminal can be given.
fn told(bytes: &[u8], line: u64, words: &str) {
    let lines = 1 + bytes.iter().filter(|byte| matches!(byte, b'\n' | b'\r')).count() as u64;
    assert!((1..=lines + 1).contains(&line), "line {line} of {lines}: {words}");
    assert!(!words.is_empty() && is_printable(words), "{words:?}");
}

fn is_printable(text: &str) -> bool {
    !text.chars().any(char::is_control)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    /// Seeds are also the regressions: an input that the fuzzer found goes there.
    fn each_seed(target: &str, property: fn(&[u8])) {
        let seeds = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/seeds").join(target);
        let mut run = 0;
        for seed in std::fs::read_dir(&seeds).unwrap_or_else(|error| panic!("{}: {error}", seeds.display())) {
            let path = seed.expect("a directory entry").path();
            println!("{}", path.display());
            property(&std::fs::read(&path).expect("a seed"));
            run += 1;
        }
        assert!(run > 0, "{} has no seeds", seeds.display());
    }

    #[test]
    fn every_seed_of_feeder() {
        each_seed("feeder", super::feeder);
    }

    #[test]
    fn every_seed_of_jtl() {
        each_seed("jtl", super::jtl);
    }

    #[test]
    fn every_seed_of_jmx() {
        each_seed("jmx", super::jmx);
    }
}

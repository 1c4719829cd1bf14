//! The readers on bytes in memory: any bytes give rows and findings, or an error with a line.

use crate::cause::{Cause, Finding};
use crate::feed::{Feed, Reading};
use crate::input::Unreadable;
use crate::plan::Plan;
use crate::rules::Rules;
use crate::{diagnose, jtl, jtl_xml};

/// What was read, and what is to be said of it.
#[derive(Debug)]
#[non_exhaustive]
pub struct Seen {
    /// Rows of a data file, requests of results, or requests that a plan sends.
    pub rows: u64,
    /// What is to be said of places in it.
    pub findings: Vec<Finding>,
    /// What it comes to.
    pub causes: Vec<Cause>,
}

/// A data file, read as a guess and as a plan with two variables reads it. The rows, and how many defects.
///
/// # Errors
///
/// When a line is too long.
pub fn feeder(bytes: &[u8]) -> Result<(u64, usize), Unreadable> {
    let two = ["scriptId", "token"].map(str::to_owned).to_vec();
    let in_path = vec!["scriptId".to_owned()];
    let quoted = Reading { variables: two, in_path, quoted: true, known: true, ..Reading::default() };
    let guessed = Feed::read(bytes, &Reading::default())?;
    let read = Feed::read(bytes, &quoted)?;
    Ok((guessed.rows.max(read.rows), guessed.defects.len() + read.defects.len()))
}

/// Results, as rows or as XML.
///
/// # Errors
///
/// When they cannot be read.
pub fn results(bytes: &[u8]) -> Result<Seen, Unreadable> {
    let xml = bytes.iter().find(|b| !b.is_ascii_whitespace()) == Some(&b'<');
    let (results, mut findings) = if xml { jtl_xml::read(bytes, "results")? } else { jtl::read(bytes, "results")? };
    let diagnosis = diagnose::diagnose(&results, "results");
    findings.extend(diagnosis.findings);
    Ok(Seen { rows: diagnosis.requests, findings, causes: diagnosis.causes })
}

/// A plan.
///
/// # Errors
///
/// When it cannot be read.
pub fn plan(bytes: &[u8]) -> Result<Seen, Unreadable> {
    let plan = Plan::read(bytes)?;
    let ruled = Rules::of(&plan, "plan", &[]);
    Ok(Seen { rows: ruled.requests.unwrap_or_default(), findings: ruled.findings, causes: ruled.causes })
}

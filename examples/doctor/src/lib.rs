//! The doctor: why a load test failed, from the files that a tester already has.
//!
//! `genesys-doctor plan.jmx results.jtl agents.csv` takes a JMeter plan, results and data files, any of them, in any
//! order, told apart by what is in them. It explains the failures, and foretells them where there are no results yet.
//!
//! It exits with 0 when nothing was found, 1 when there are causes or too little evidence, 2 when a file cannot be read or
//! the report cannot be written.

pub mod cause;
mod clock;
mod diagnose;
mod examine;
mod explain;
mod expression;
pub mod feed;
pub mod fuzzing;
mod groups;
pub mod hypothesis;
mod input;
mod jtl;
mod jtl_xml;
mod layout;
mod operations;
pub mod page;
mod plan;
mod rivals;
mod rules;
mod sample;
mod signs;
pub mod text;
mod tree;
mod xml;

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser as _;
use serde_json::json;

use cause::Verdict;
pub use examine::{Failed, examine};
pub use input::{Kind, Unreadable, kind};

/// Explains why requests of a load test failed, or will fail.
///
/// Takes a JMeter test plan, results (JTL as CSV or XML) and data files, any of them, in any order: they are told apart
/// by what is in them.
///
/// Exits with 0 when nothing was found, 1 when there are causes or too little evidence, 2 when a file cannot be read or
/// the report cannot be written.
#[derive(Debug, clap::Parser)]
#[command(name = "genesys-doctor", version, max_term_width = 120)]
struct Args {
    /// The plan, the results and the data files.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,

    /// Print the report as JSON.
    #[arg(long)]
    json: bool,
}

/// Does what the command line says.
pub fn main() -> ExitCode {
    let args = Args::parse();
    let (text, code) = match examine(&args.files) {
        Ok(report) => {
            let code = if report.verdict == Verdict::NothingFound { 0 } else { 1 };
            let text = if args.json {
                serde_json::to_string_pretty(&report).unwrap_or_default()
            } else {
                page::page(&report, page::Style::of_stdout())
            };
            (text, code)
        }
        Err(failed) => {
            for Failed { file, why } in &failed {
                eprintln!("error: {file}:{}: {}", why.line, why.reason);
            }
            let errors: Vec<_> =
                failed.iter().map(|f| json!({"file": f.file, "line": f.why.line, "reason": f.why.reason})).collect();
            (if args.json { json!({"errors": errors}).to_string() } else { String::new() }, 2)
        }
    };
    let written = if text.is_empty() { Ok(()) } else { writeln!(std::io::stdout(), "{text}") };
    match written {
        // A reader that has gone away is no error of ours.
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            eprintln!("error: the report cannot be written: {error}");
            ExitCode::from(2)
        }
        _ => ExitCode::from(code),
    }
}

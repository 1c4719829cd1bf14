//! The report for people: what it was, how sure, the numbers, what to do.

use std::io::IsTerminal as _;

use crate::cause::{Certainty, Level, Report, Verdict};
use crate::examine::summary;
use crate::text::percent;

/// Notes beyond these are counted.
const NOTES: usize = 12;

/// How text stands out.
#[derive(Debug, Clone, Copy)]
pub struct Style {
    /// Whether it may be coloured.
    pub colour: bool,
}

impl Style {
    /// For stdout: colour on a terminal only, and none where `NO_COLOR` is set.
    pub fn of_stdout() -> Self {
        Self { colour: std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty()) }
    }

    fn paint(self, code: &str, text: &str) -> String {
        if self.colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

/// Whether nothing failed of what could be read.
fn nothing_failed(report: &Report) -> bool {
    let mut codes = report.read.iter().flat_map(|read| read.codes.keys());
    report.causes.is_empty() && codes.all(|code| code.len() == 3 && code.starts_with(['2', '3']))
}

/// The report as text.
pub fn page(report: &Report, style: Style) -> String {
    let mut lines: Vec<String> = report.read.iter().map(summary).collect();
    let experiment = report.read.iter().any(|read| read.kind == "experiment");
    lines.push(String::new());
    lines.push(match report.verdict {
        Verdict::Causes => style.paint("1", "What is the matter:"),
        Verdict::NothingFound if experiment => style.paint("1;32", "Nothing was found to be the matter."),
        Verdict::NothingFound => style.paint("1;32", "Nothing is the matter with what was read."),
        Verdict::NotEnoughEvidence if nothing_failed(report) => {
            let left = if experiment {
                "not all that is asked for was tried"
            } else {
                "not all rows could be read, or there are none"
            };
            style.paint("1;33", &format!("Nothing was found to be the matter, and {left}."))
        }
        Verdict::NotEnoughEvidence if experiment => {
            style.paint("1;33", "Requests failed, and the experiment does not tell of what.")
        }
        Verdict::NotEnoughEvidence => style.paint("1;33", "Requests failed, and these files do not tell of what."),
    });
    for cause in &report.causes {
        let sure = match cause.certainty {
            Certainty::Certain => style.paint("1;31", "certain"),
            Certainty::Likely => style.paint("1;33", "likely"),
            Certainty::Possible => style.paint("2", "possible"),
        };
        let share = cause.share.filter(|share| *share > 0.0).map_or(String::new(), |share| {
            let of = if report.read.iter().any(|read| matches!(read.kind, "results" | "experiment")) {
                "of the failures"
            } else {
                "of the requests"
            };
            format!(", {} {of}", percent(share))
        });
        lines.push(String::new());
        lines.push(format!("  {} ({sure}{share}): {}", style.paint("1", cause.name.name()), cause.name.words()));
        if let Some(first) = cause.follows {
            lines.push(format!("    follows from {}", first.name()));
        }
        lines.extend(cause.evidence.iter().map(|evidence| format!("    - {evidence}")));
        lines.push(format!("    What to do: {}", cause.advice));
    }
    let tested = report.causes.iter().flat_map(|cause| &cause.evidence).any(|evidence| evidence.contains("(p "));
    if tested {
        lines.push(String::new());
        lines.push("p is the chance to see so much if it were nothing, corrected for all that was asked.".to_owned());
    }
    findings(report, style, &mut lines);
    if !report.ruled_out.is_empty() {
        lines.push(String::new());
        lines.push("It was not:".to_owned());
        lines.extend(report.ruled_out.iter().map(|ruled| format!("  {}: {}", ruled.name.name(), ruled.why)));
    }
    if !report.not_tested.is_empty() {
        lines.push(String::new());
        lines.push("What could not be asked:".to_owned());
        lines.extend(report.not_tested.iter().map(|why| format!("  {why}")));
    }
    lines.join("\n")
}

fn findings(report: &Report, style: Style, lines: &mut Vec<String>) {
    if report.findings.is_empty() {
        return;
    }
    lines.push(String::new());
    lines.push("In the files:".to_owned());
    for finding in report.findings.iter().take(NOTES) {
        let level = match finding.level {
            Level::Error => style.paint("31", "error"),
            Level::Warning => style.paint("33", "warning"),
            Level::Note => "note".to_owned(),
        };
        lines.push(format!("  {}:{}: {level}: {}", finding.file, finding.line, finding.message));
    }
    if let Some(more) = report.findings.len().checked_sub(NOTES).filter(|more| *more > 0) {
        lines.push(format!("  and {more} more: --json has them all"));
    }
}

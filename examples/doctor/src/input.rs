//! Files, told apart by what is in them.

use std::cell::Cell;
use std::fmt;
use std::io::{self, BufRead, BufReader, Read};
use std::rc::Rc;

/// A file that cannot be read: where, and why.
#[derive(Debug, Clone)]
pub struct Unreadable {
    /// The line, from 1.
    pub line: u64,
    /// Why.
    pub reason: String,
}

impl Unreadable {
    pub(crate) fn new(line: u64, reason: impl Into<String>) -> Self {
        // It may name what stands in the file, and goes to a terminal.
        let plain = |c: char| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c };
        Self { line: line.max(1), reason: reason.into().chars().map(plain).collect() }
    }
}

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.reason)
    }
}

impl std::error::Error for Unreadable {}

/// What a file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A JMeter test plan.
    Plan,
    /// Results as rows.
    Rows,
    /// Results as XML.
    Elements,
    /// A data file, for a CSV Data Set.
    Data,
}

/// So much is looked at to tell what a file is.
pub(crate) const HEAD: usize = 64 << 10;

/// Tells what a file is by how it begins.
///
/// # Errors
///
/// When it is none of these: it is told what it is instead, where that can be seen.
pub fn kind(head: &[u8]) -> Result<Kind, Unreadable> {
    let refuse = |reason: &str| Err(Unreadable::new(1, reason));
    match head {
        [] => return refuse("the file is empty"),
        [0x1f, 0x8b, ..] => return refuse("compressed with gzip: unpack it first"),
        [b'P', b'K', 3, 4, ..] => return refuse("a zip archive or a spreadsheet: unpack it, or save the sheet as CSV"),
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => return refuse("UTF-16: save it as UTF-8"),
        _ => {}
    }
    let text = head.strip_prefix(b"\xef\xbb\xbf").unwrap_or(head);
    let first = text.iter().position(|b| !b.is_ascii_whitespace());
    let Some(begin) = first.and_then(|at| text.get(at..)) else { return refuse("there is nothing but blank lines") };
    if begin.first() == Some(&b'<') && !begin.starts_with(b"<EOF>") {
        return markup(begin);
    }
    if text.iter().take(4_096).any(|b| *b == 0) {
        return refuse("binary data, and no text: vegeta's own format, or a spreadsheet? Save the results as CSV");
    }
    if is_json(begin) {
        return json(begin);
    }
    if let Some(tool) = other_tool(begin) {
        return refuse(&format!("{tool}: another kind of file. Give JMeter's results (JTL), one row a request"));
    }
    if crate::layout::Layout::find(text).is_some() {
        return Ok(Kind::Rows);
    }
    // What is taken for a data file, and was none, would be said to be well.
    other_results(begin).map_or(Ok(Kind::Data), |reason| refuse(&reason))
}

/// An object or a list, and no template: `{{scriptId}},t0` or `[agent],t0` may be a row.
fn is_json(text: &[u8]) -> bool {
    let Some((first, rest)) = text.split_first() else { return false };
    let next = rest.iter().find(|b| !b.is_ascii_whitespace());
    match first {
        b'{' => next.is_none_or(|b| matches!(b, b'"' | b'}')),
        b'[' => next.is_none_or(|b| matches!(b, b'{' | b'[' | b'"' | b']' | b'-' | b'0'..=b'9')),
        _ => false,
    }
}

/// Names of columns that results have, and hardly any data file.
const RESULTS: &[&str] = &[
    "timestamp",
    "starttime",
    "elapsed",
    "elapsedtime",
    "elaptime",
    "sampletime",
    "responsetime",
    "resptime",
    "latency",
    "connecttime",
    "idletime",
    "responsecode",
    "statuscode",
    "responsemessage",
    "failuremessage",
    "threadname",
    "allthreads",
    "grpthreads",
    "samplerlabel",
    "samplecount",
    "errorcount",
    "sentbytes",
    "responsesize",
    "requestname",
    "totalassertions",
    "transrate",
    "datatrans",
];

/// Why these are results that cannot be read, where they are any.
fn other_results(text: &[u8]) -> Option<String> {
    let line = text.split(|b| matches!(b, b'\n' | b'\r')).next().unwrap_or_default();
    let line = String::from_utf8_lossy(line).to_lowercase();
    if line.starts_with("#software:")
        || line.starts_with("#fields:")
        || line.contains("http/1.")
        || line.contains("http/2")
    {
        return Some("a log of a server, and no results. Give JMeter's results (JTL), one row a request".to_owned());
    }
    let columns: Vec<&str> = line.split([',', ';', '\t', '|']).collect();
    let number = |column: &str| !column.is_empty() && column.bytes().all(|b| b.is_ascii_digit());
    let epoch = |column: &str| column.len() == 13 && column.starts_with('1') && number(column);
    let (first, rest) = columns.split_first()?;
    if rest.len() >= 10 && first.contains('.') && first.split('.').all(number) && rest.iter().skip(1).all(|c| number(c))
    {
        return Some("phout, results of Yandex.Tank: another kind. Give JMeter's results (JTL)".to_owned());
    }
    if epoch(first) && rest.first().is_some_and(|second| number(second)) {
        return Some(
            "rows that begin with times, as results do, and without a header: nothing tells what is in them".to_owned(),
        );
    }
    let plain = |column: &&str| {
        let name = column.split('(').next().unwrap_or_default();
        name.chars().filter(char::is_ascii_alphanumeric).collect::<String>()
    };
    let names: Vec<String> = columns.iter().map(plain).collect();
    let has = |wanted: &[&str]| names.iter().any(|name| wanted.contains(&name.as_str()));
    if names.iter().filter(|name| RESULTS.contains(&name.as_str())).count() < 2 {
        return None;
    }
    let outcome = has(&["responsecode", "rc", "statuscode", "success"]);
    let missing = match (outcome, has(&["timestamp", "elapsed", "elapsedtime"])) {
        (false, _) => "responseCode or success",
        (true, false) => "timeStamp or elapsed",
        (true, true) => "label, threadName or another that JMeter saves",
    };
    Some(format!(
        "results, and the columns do not tell all that is asked: no {missing}. Save JMeter's results with them"
    ))
}

fn markup(text: &[u8]) -> Result<Kind, Unreadable> {
    let shown = String::from_utf8_lossy(text);
    let mut rest = &*shown;
    loop {
        let Some(at) = rest.find('<') else {
            return Err(Unreadable::new(1, "XML without an element"));
        };
        rest = rest.get(at + 1..).unwrap_or_default();
        if let Some(comment) = rest.strip_prefix("!--") {
            rest = comment.split_once("-->").map_or("", |(_, after)| after);
        } else if !rest.starts_with(['?', '!']) {
            break;
        } else if rest.get(..8).is_some_and(|head| head.eq_ignore_ascii_case("!doctype")) && rest.contains("<!ENTITY") {
            let line = 1 + shown.get(..shown.find("<!ENTITY").unwrap_or(0)).map_or(0, |s| s.matches('\n').count());
            return Err(Unreadable::new(line as u64, ENTITY));
        }
    }
    let end = rest.find(|c: char| c.is_whitespace() || "/>".contains(c)).unwrap_or(rest.len());
    match rest.get(..end).unwrap_or_default() {
        "jmeterTestPlan" => Ok(Kind::Plan),
        "testResults" | "httpSample" | "sample" | "sampleResult" => Ok(Kind::Elements),
        // The beginning of a plan whose root is misspelt or another's is told by its parts.
        name if shown.contains("<hashTree") => Err(Unreadable::new(1, format!("<{name}> is no root of a test plan"))),
        name if name.eq_ignore_ascii_case("html") => Err(Unreadable::new(1, "a web page, and no results")),
        name => Err(Unreadable::new(
            1,
            format!("XML of another kind: <{}>, neither a JMeter plan nor results", crate::text::shown(name)),
        )),
    }
}

/// Why entities are not expanded.
pub(crate) const ENTITY: &str = "it declares an entity (<!ENTITY …>): entities are not expanded, since a few lines of them can fill the memory. \
     JMeter writes none: take it out";

fn json(text: &[u8]) -> Result<Kind, Unreadable> {
    let text = String::from_utf8_lossy(text);
    let has = |part: &str| text.contains(part);
    let tool = if has("\"attack\"") || has("\"bytes_in\"") {
        "results of Vegeta"
    } else if (has("\"type\"") && has("\"metric\"")) || has("http_req_duration") {
        "results of k6"
    } else if has("\"log\"") && has("\"entries\"") {
        "a recording of a browser (HAR)"
    } else if has("sampleCount") || has("\"transaction\"") {
        "sums of JMeter's dashboard (statistics.json)"
    } else if has("\"latencies\"") {
        "sums of Vegeta"
    } else {
        "JSON"
    };
    Err(Unreadable::new(1, format!("{tool}: another kind of file. Give JMeter's results (JTL), one row a request")))
}

/// The tools whose files are known by their first line.
fn other_tool(text: &[u8]) -> Option<&'static str> {
    let line = text.split(|b| matches!(b, b'\n' | b'\r')).next().unwrap_or_default();
    let line = String::from_utf8_lossy(line).to_lowercase().replace(['"', '\''], "");
    let columns: Vec<&str> = line.split([',', ';', '\t']).map(str::trim).collect();
    let has = |name: &str| columns.contains(&name);
    let begins = |names: &[&str]| columns.starts_with(names);
    if begins(&["metric_name", "timestamp"]) || (has("metric_name") && has("metric_value")) {
        return Some("results of k6");
    }
    if has("# requests") || (begins(&["type", "name"]) && has("request count")) {
        return Some("statistics of Locust, sums and no requests");
    }
    if begins(&["timestamp", "user count"]) {
        return Some("the history of a Locust run, sums and no requests");
    }
    if begins(&["method", "name", "error"]) || begins(&["count", "message", "traceback"]) {
        return Some("failures of Locust, sums and no requests");
    }
    let sums =
        ["average", "avg", "avg_rt", "mean", "median", "90% line", "aggregate_report_90%_line", "throughput", "avg_ct"];
    let summed = ["label", "sampler_label", "name", "transaction"];
    if columns.iter().any(|c| summed.contains(c)) && columns.iter().filter(|c| sums.contains(*c)).count() >= 2 {
        return Some("an aggregate report: sums, statistics and no requests");
    }
    if begins(&["response-time", "dns+dialup"]) || begins(&["request-start", "dns"]) {
        return Some("results of hey or oha");
    }
    if begins(&["elapsed time"])
        || begins(&["percentiles"])
        || begins(&["percentage served"])
        || line.contains("1/(1-percentile)")
    {
        return Some("the points of a graph: sums, statistics and no requests");
    }
    if begins(&["starttime", "seconds", "ctime"]) {
        return Some("results of ApacheBench");
    }
    if line.starts_with("run\t")
        || line.starts_with("run ") && line.contains("gatling")
        || line.starts_with("assertion\t")
    {
        return Some("a log of Gatling");
    }
    if line.starts_with("this is apachebench") {
        return Some("a summary of ApacheBench");
    }
    if line.starts_with("running ") && line.contains(" test @ ") {
        return Some("a summary of wrk");
    }
    if is_log(&line) {
        return Some("a log (jmeter.log?)");
    }
    is_vegeta(&columns).then_some("results of Vegeta")
}

fn is_log(line: &str) -> bool {
    line.starts_with(|c: char| c.is_ascii_digit())
        && [" info ", " warn ", " error ", " debug "].iter().any(|level| line.contains(level))
        && (line.contains("jmeter") || line.contains(": "))
        && !line.contains("true,")
        && !line.contains("false,")
}

/// Nanoseconds, status, latency in nanoseconds, bytes out and in.
fn is_vegeta(columns: &[&str]) -> bool {
    let number = |i: usize| columns.get(i).is_some_and(|c| !c.is_empty() && c.bytes().all(|b| b.is_ascii_digit()));
    columns.first().is_some_and(|c| c.len() == 19)
        && columns.get(1).is_some_and(|c| c.len() == 3 || *c == "0")
        && (0..5).all(number)
}

/// Fails when one row or element asks for more than it may have: `used` is set back after each.
#[derive(Debug)]
pub(crate) struct Bounded<R> {
    inner: R,
    used: Rc<Cell<u64>>,
    most: u64,
    why: &'static str,
}

impl<R: Read> Bounded<R> {
    pub(crate) fn new(inner: R, most: u64, why: &'static str, used: &Rc<Cell<u64>>) -> Self {
        Self { inner, used: Rc::clone(used), most, why }
    }
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.used.get() > self.most {
            return Err(io::Error::other(self.why));
        }
        let n = self.inner.read(into)?;
        self.used.set(self.used.get() + n as u64);
        Ok(n)
    }
}

/// Counts the lines that were read.
#[derive(Debug)]
pub(crate) struct Lines<R> {
    inner: BufReader<R>,
    line: u64,
}

impl<R: Read> Lines<R> {
    pub(crate) fn new(inner: R) -> Self {
        Self { inner: BufReader::with_capacity(HEAD, inner), line: 1 }
    }

    pub(crate) fn line(&self) -> u64 {
        self.line
    }
}

impl<R: Read> Read for Lines<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let n = self.fill_buf()?.read(into)?;
        self.consume(n);
        Ok(n)
    }
}

impl<R: Read> BufRead for Lines<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.inner.fill_buf()
    }

    fn consume(&mut self, amount: usize) {
        let read = self.inner.buffer().get(..amount).unwrap_or_default();
        self.line += read.iter().filter(|b| **b == b'\n').count() as u64;
        self.inner.consume(amount);
    }
}

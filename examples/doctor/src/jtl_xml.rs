//! Results as XML: a request that is in a transaction's sample, and one that has samples of its own, is counted once.

use std::io::Read;

use crate::cause::{Finding, Level};
use crate::clock::{self, Clock};
use crate::input::Unreadable;
use crate::sample::{Has, Raw, Results};
use crate::text;
use crate::xml::{Part, Xml};

/// Headers of a response that tell nodes apart.
const NODE_HEADERS: [&str; 8] =
    ["x-served-by", "x-node", "x-backend", "x-backend-server", "x-server", "x-instance", "x-host", "x-upstream"];
const LONG_NAMES: [(&str, &str); 7] = [
    ("t", "time"),
    ("ts", "timeStamp"),
    ("lb", "label"),
    ("rc", "responseCode"),
    ("rm", "responseMessage"),
    ("tn", "threadName"),
    ("s", "success"),
];
const SAMPLES: [&str; 3] = ["httpSample", "sample", "sampleResult"];
/// So much of a response is looked at.
const BODY: usize = 300;

/// A sample's attributes and what stands in it.
#[derive(Debug, Default)]
struct Element {
    attributes: Vec<(String, String)>,
    line: u64,
    url: String,
    failures: String,
    body: String,
    node: String,
    /// Of the headers Server and Via.
    speakers: [String; 2],
    /// What is in it is counted instead of it, if there is anything.
    transparent: bool,
    holds: bool,
    http: bool,
}

impl Element {
    /// By the short name, or the long one of JMeter before 2.1.
    fn get(&self, name: &str) -> &str {
        let long = LONG_NAMES.iter().find(|(short, _)| *short == name).map_or(name, |(_, long)| long);
        self.attributes.iter().find(|(key, _)| key == name || key == long).map_or("", |(_, value)| value)
    }

    fn number(&self, name: &str) -> Option<u32> {
        self.get(name).parse().ok()
    }
}

struct Elements<'a> {
    file: &'a str,
    results: Results,
    clock: Clock,
    open: Vec<Element>,
    /// The tags of what is open.
    path: Vec<String>,
    roots: u32,
    unknown: (u64, u64, String),
    findings: Vec<Finding>,
}

/// Reads results and what is to be said of the file itself.
///
/// # Errors
///
/// When it is not well-formed, other than by being cut.
pub(crate) fn read(input: impl Read, file: &str) -> Result<(Results, Vec<Finding>), Unreadable> {
    let mut xml = Xml::new(input);
    let mut elements = Elements {
        file,
        results: Results::new(["x-… header", "hn", "the header Server", "the header Via"].map(str::to_owned).to_vec()),
        clock: Clock::default(),
        open: Vec::new(),
        path: Vec::new(),
        roots: 0,
        unknown: (0, 0, String::new()),
        findings: Vec::new(),
    };
    elements.results.has = Has { time: true, elapsed: true, code: true, message: true, ..Has::default() };
    loop {
        match xml.next()? {
            Part::Begin { tag, attributes } => elements.begin(tag, attributes, xml.line()),
            Part::Text(text) => elements.text(&text),
            Part::End => elements.end(),
            Part::Declaration => {}
            Part::Done { whole } => return Ok(elements.done(whole, xml.line())),
        }
    }
}

impl Elements<'_> {
    fn begin(&mut self, tag: String, attributes: Vec<(String, String)>, line: u64) {
        if tag == "testResults" {
            self.roots += 1;
            if self.roots > 1 {
                self.unfinished(line);
                self.results.begin_run();
                self.clock = Clock::default();
            }
        } else if SAMPLES.contains(&tag.as_str()) {
            let mut element = Element { attributes, line, http: tag != "sample", ..Element::default() };
            element.transparent = !element.http
                && (element.get("rm").starts_with("Number of samples in transaction") || element.get("rc").is_empty());
            if let Some(outer) = self.open.last_mut() {
                outer.holds = true;
            }
            self.open.push(element);
        } else if self.open.is_empty() && self.path.last().is_some_and(|parent| parent == "testResults") {
            let (count, first, name) = &mut self.unknown;
            *count += 1;
            if *count == 1 {
                *first = line;
                name.clone_from(&tag);
            }
        }
        self.path.push(tag);
    }

    fn text(&mut self, text: &str) {
        let Some(element) = self.open.last_mut() else { return };
        let into = match self.path.last().map(String::as_str) {
            Some("java.net.URL") => &mut element.url,
            Some("failureMessage") => &mut element.failures,
            Some("responseData") => &mut element.body,
            Some("responseHeader") => {
                for line in text.lines() {
                    let Some((name, value)) = line.split_once(':') else { continue };
                    let (name, [server, via]) = (name.trim().to_lowercase(), &mut element.speakers);
                    match name.as_str() {
                        "server" => *server = value.trim().chars().take(BODY).collect(),
                        "via" => *via = value.trim().chars().take(BODY).collect(),
                        name if NODE_HEADERS.contains(&name) && element.node.len() < BODY => {
                            element.node.push_str(&format!("{name}: {} ", value.trim()));
                        }
                        _ => {}
                    }
                }
                return;
            }
            _ => return,
        };
        if into.len() < BODY {
            into.extend(text.chars().take(BODY));
        }
    }

    fn end(&mut self) {
        let tag = self.path.pop();
        if !tag.is_some_and(|tag| SAMPLES.contains(&tag.as_str())) {
            return;
        }
        let Some(element) = self.open.pop() else { return };
        // Within another request it is a part of it: a redirect, or an embedded resource.
        if self.open.iter().any(|outer| !outer.transparent) {
            return;
        }
        if element.transparent && element.holds && !element.get("rm").starts_with("Number of samples in transaction") {
            return;
        }
        let url = element.url.trim();
        let (thread, threads, connect) = (element.get("tn"), element.number("na"), element.number("ct"));
        let has = &mut self.results.has;
        has.url |= !url.is_empty();
        has.thread |= !thread.is_empty();
        has.threads |= threads.is_some();
        has.connect |= connect.is_some();
        let start = self.clock.read(element.get("ts").as_bytes());
        has.time &= start.is_some();
        let [server, via] = &element.speakers;
        let failure = format!("{}{}", element.failures.trim(), element.body.trim());
        self.results.add(&Raw {
            line: element.line,
            start: start.unwrap_or_default(),
            exact: clock::is_exact(element.get("ts").as_bytes()),
            elapsed: element.number("t").unwrap_or_default(),
            label: element.get("lb").as_bytes(),
            code: element.get("rc").as_bytes(),
            message: element.get("rm").as_bytes(),
            failure: failure.as_bytes(),
            success: element.get("s").parse().ok(),
            thread: thread.as_bytes(),
            url: url.as_bytes(),
            connect,
            threads,
            extras: [element.node.trim().as_bytes(), element.get("hn").as_bytes(), server.as_bytes(), via.as_bytes()],
        });
    }

    fn done(mut self, whole: bool, line: u64) -> (Results, Vec<Finding>) {
        let (count, first, name) = &self.unknown;
        if *count > 0 {
            let elements = text::many(*count, "element is", "elements are");
            let message =
                format!("{elements} not understood, the first <{}>: of a plugin's own? Not counted", text::shown(name));
            self.find("element", Level::Note, *first, message);
        }
        if !whole && (self.roots < 2 || !self.path.is_empty()) {
            self.cut(line, "the file is cut: it ends within an element. It is read up to there");
        }
        (self.results, self.findings)
    }

    /// What the document before did not finish has none of the samples of the one that begins.
    fn unfinished(&mut self, line: u64) {
        self.open.clear();
        if !self.path.is_empty() {
            self.path.clear();
            self.cut(line, "the document before this one is cut within an element. Both are read");
        }
    }

    fn cut(&mut self, line: u64, message: &str) {
        self.find("cut", Level::Warning, line, message.to_owned());
    }

    fn find(&mut self, rule: &'static str, level: Level, line: u64, message: String) {
        self.findings.push(Finding { rule, level, file: self.file.to_owned(), line, message });
    }
}

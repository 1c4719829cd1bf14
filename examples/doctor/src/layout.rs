//! Which column of a result file holds what, by its header or by what is in it.

use csv::{ByteRecord, ReaderBuilder};

use crate::clock::Clock;
use crate::sample::EXTRAS;

/// What a column holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    Time,
    Elapsed,
    Label,
    Code,
    Message,
    Thread,
    Success,
    Failure,
    Url,
    Connect,
    AllThreads,
    SampleCount,
    /// Known, and not looked at.
    Ignored,
}

const ROLES: usize = 12;
const DELIMITERS: &[u8] = b",;\t|^~#:\x01";

/// The columns of a result file.
#[derive(Debug, Clone)]
pub(crate) struct Layout {
    pub(crate) delimiter: u8,
    pub(crate) width: usize,
    pub(crate) header: bool,
    roles: [Option<usize>; ROLES],
    /// Columns of the user's own that tell something by their names.
    pub(crate) extras: Vec<(String, usize)>,
}

impl Layout {
    /// The column of this role.
    pub(crate) fn at(&self, role: Role) -> Option<usize> {
        self.roles.get(role as usize).copied().flatten()
    }

    /// Finds out the columns from the beginning of a file.
    pub(crate) fn find(head: &[u8]) -> Option<Self> {
        let head = head.strip_prefix(b"\xef\xbb\xbf").unwrap_or(head);
        let by_header = DELIMITERS.iter().filter_map(|delimiter| {
            let record = records(head, *delimiter, 1).into_iter().next()?;
            Self::of_header(&record, *delimiter)
        });
        by_header.max_by_key(Self::known).or_else(|| {
            DELIMITERS.iter().find_map(|delimiter| Self::of_rows(&records(head, *delimiter, 40), *delimiter))
        })
    }

    fn known(&self) -> usize {
        self.roles.iter().flatten().count()
    }

    /// The columns by the names in a header. None if it is no header of results.
    pub(crate) fn of_header(record: &ByteRecord, delimiter: u8) -> Option<Self> {
        let mut layout =
            Self { delimiter, width: record.len(), header: true, roles: [None; ROLES], extras: Vec::new() };
        let mut ignored = 0;
        for (i, name) in record.iter().enumerate() {
            let name = String::from_utf8_lossy(name).trim().trim_matches('"').to_owned();
            match role(&name.to_lowercase()) {
                Some(Role::Ignored) => ignored += 1,
                Some(role) => layout.set(role, i),
                None if told(&name).is_none() || layout.extras.len() >= EXTRAS => {}
                None => layout.extras.push((crate::text::shown(&name), i)),
            }
        }
        let outcome = layout.at(Role::Code).is_some() || layout.at(Role::Success).is_some();
        let when = layout.at(Role::Time).is_some() || layout.at(Role::Elapsed).is_some();
        (outcome && when && layout.known() + ignored >= 4).then_some(layout)
    }

    fn set(&mut self, role: Role, i: usize) {
        if let Some(place) = self.roles.get_mut(role as usize)
            && place.is_none()
        {
            *place = Some(i);
        }
    }

    /// The columns by what is in the rows, in the order in which JMeter writes them.
    fn of_rows(rows: &[ByteRecord], delimiter: u8) -> Option<Self> {
        let width = most_common(rows.iter().map(ByteRecord::len))?;
        let rows: Vec<&ByteRecord> = rows.iter().filter(|row| row.len() == width).collect();
        let all = |i: usize, test: fn(&[u8]) -> bool| rows.iter().all(|row| row.get(i).is_some_and(test));
        let some = |i: usize, test: fn(&[u8]) -> bool| rows.iter().any(|row| row.get(i).is_some_and(test));
        let success = (2..width).find(|i| all(*i, |v| matches!(v, b"true" | b"false")))?;
        let time = |v: &[u8]| Clock::default().read(v).is_some();
        let number = |v: &[u8]| !v.is_empty() && v.iter().all(u8::is_ascii_digit);
        if width < 5 || !all(0, time) || !all(1, number) {
            return None;
        }
        let mut layout = Self { delimiter, width, header: false, roles: [None; ROLES], extras: Vec::new() };
        layout.set(Role::Time, 0);
        layout.set(Role::Elapsed, 1);
        layout.set(Role::Success, success);
        let code = (2..success).find(|i| all(*i, is_code) && some(*i, |v| !v.is_empty()));
        if let Some(code) = code {
            layout.set(Role::Code, code);
            if code > 2 {
                layout.set(Role::Label, code - 1);
            }
            let thread = (code + 1..success).rev().find(|i| some(*i, is_thread));
            let thread = thread.or_else(|| (code + 1..success).rev().find(|i| all(*i, is_old_thread)));
            if let Some(thread) = thread {
                layout.set(Role::Thread, thread);
                if thread > code + 1 {
                    layout.set(Role::Message, thread - 1);
                }
            }
        }
        layout.after_success(success, |i| all(i, number), |i| some(i, is_address));
        Some(layout)
    }

    /// `[failureMessage,] bytes, [sentBytes,] grpThreads, allThreads, [URL,] Latency, [IdleTime,] [Connect]`.
    fn after_success(&mut self, success: usize, number: impl Fn(usize) -> bool, address: impl Fn(usize) -> bool) {
        let mut next = success + 1;
        if next < self.width && !number(next) {
            self.set(Role::Failure, next);
            next += 1;
        }
        let url = (next..self.width).find(|i| address(*i));
        let width = self.width;
        let numbers = |from: usize| (from..width).take_while(|i| number(*i)).count();
        match url {
            Some(url) => {
                self.set(Role::Url, url);
                if url >= next + 3 {
                    self.set(Role::AllThreads, url - 1);
                }
                // Latency, idle time, connect.
                if numbers(url + 1) == 3 {
                    self.set(Role::Connect, url + 3);
                }
            }
            // Without an address only these many are told apart.
            None => match numbers(next) {
                4 => self.set(Role::AllThreads, next + 2),
                6 => {
                    self.set(Role::AllThreads, next + 2);
                    self.set(Role::Connect, next + 5);
                }
                7 => {
                    self.set(Role::AllThreads, next + 3);
                    self.set(Role::Connect, next + 6);
                }
                _ => {}
            },
        }
    }
}

/// What a column of the user's own, or a header of the answer, tells by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Told {
    /// The machine that made the load.
    Generator,
    /// Who answered: one of several that do the same.
    Node,
    /// Who spoke last, and may be whoever refused for all nodes.
    Speaker,
    /// The script that was asked for.
    Script,
}

/// None where the name does not say that it is one of these: then the value may follow from the failure, or be a secret.
pub(crate) fn told(name: &str) -> Option<Told> {
    const NODES: [&str; 17] = [
        "node",
        "server",
        "backend",
        "pod",
        "instance",
        "upstream",
        "zone",
        "region",
        "host",
        "served",
        "handled",
        "replica",
        "cluster",
        "datacenter",
        "shard",
        "container",
        "machine",
    ];
    const OF_THE_ANSWER: [&str; 10] =
        ["status", "state", "error", "code", "message", "time", "latency", "duration", "bytes", "result"];
    let lower = name.trim().to_lowercase();
    if matches!(lower.as_str(), "hostname" | "hn") {
        return Some(Told::Generator);
    }
    if lower.starts_with("the header ") {
        return Some(Told::Speaker);
    }
    let words = crate::text::words(name);
    let words: Vec<&str> = words.split(' ').filter(|word| !word.is_empty()).collect();
    let any = |of: &[&str]| words.iter().any(|word| of.iter().any(|begin| word.starts_with(begin)));
    if crate::text::is_secret(name) || any(&OF_THE_ANSWER) {
        return None;
    }
    if words.first().is_some_and(|word| word.starts_with("script")) {
        return Some(Told::Script);
    }
    (any(&NODES) || words.contains(&"ip") || lower.starts_with("x-")).then_some(Told::Node)
}

fn role(name: &str) -> Option<Role> {
    Some(match name.replace([' ', '_'], "").as_str() {
        "timestamp" => Role::Time,
        "elapsed" | "elapsedtime" | "time" => Role::Elapsed,
        "label" | "samplerlabel" => Role::Label,
        "responsecode" | "rc" | "statuscode" => Role::Code,
        "responsemessage" => Role::Message,
        "threadname" => Role::Thread,
        "success" => Role::Success,
        "failuremessage" => Role::Failure,
        "url" => Role::Url,
        "connect" | "connecttime" => Role::Connect,
        "allthreads" => Role::AllThreads,
        "samplecount" => Role::SampleCount,
        "datatype" | "bytes" | "sentbytes" | "grpthreads" | "latency" | "idletime" | "encoding" | "filename"
        | "errorcount" => Role::Ignored,
        _ => return None,
    })
}

fn records(head: &[u8], delimiter: u8, most: usize) -> Vec<ByteRecord> {
    let reader = ReaderBuilder::new().delimiter(delimiter).has_headers(false).flexible(true).from_reader(head);
    reader.into_byte_records().map_while(Result::ok).take(most).collect()
}

fn most_common(widths: impl Iterator<Item = usize>) -> Option<usize> {
    let mut counts = std::collections::BTreeMap::new();
    for width in widths {
        *counts.entry(width).or_insert(0) += 1;
    }
    counts.into_iter().max_by_key(|(_, count)| *count).map(|(width, _)| width)
}

/// A status, what tools put there instead, or nothing.
fn is_code(value: &[u8]) -> bool {
    value.is_empty()
        || value == b"0"
        || value.starts_with(b"Non HTTP response code")
        || (value.len() == 3 && value.iter().all(u8::is_ascii_digit))
}

/// `Agents 1-6`.
fn is_thread(value: &[u8]) -> bool {
    let Some(dash) = value.iter().rposition(|b| *b == b'-') else { return false };
    let digits = |part: Option<&[u8]>| part.is_some_and(|part| !part.is_empty() && part.iter().all(u8::is_ascii_digit));
    digits(value.get(dash + 1..)) && digits(value.get(dash.saturating_sub(1)..dash))
}

/// `Agents-6`, as it was before 2.0.
fn is_old_thread(value: &[u8]) -> bool {
    let digits = |part: &[u8]| !part.is_empty() && part.iter().all(u8::is_ascii_digit);
    value.iter().rposition(|b| *b == b'-').is_some_and(|dash| dash > 0 && value.get(dash + 1..).is_some_and(digits))
}

pub(crate) fn is_address(value: &[u8]) -> bool {
    value.starts_with(b"http://") || value.starts_with(b"https://") || value == b"null"
}

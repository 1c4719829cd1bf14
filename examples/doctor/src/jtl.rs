//! Results as rows: JMeter's CSV of all ages.

use std::cell::Cell;
use std::io::Read;
use std::rc::Rc;

use csv::{ByteRecord, Reader, ReaderBuilder};

use crate::cause::{Finding, Level};
use crate::clock::{self, Clock};
use crate::input::{Bounded, Unreadable};
use crate::layout::{Layout, Role};
use crate::sample::{Has, Raw, Results};
use crate::text;

/// A row may be so long; longer is a quote that is never closed.
const LONGEST_ROW: u64 = 1 << 20;
/// With which JMeter's headers begin.
const TIME: &[u8] = b"timeStamp";
/// Rows that are no rows are named up to so many.
const NAMED: usize = 3;

/// Reads results and what is to be said of the file itself.
///
/// # Errors
///
/// When there is no telling which value belongs to which column, or the file cannot be read.
pub(crate) fn read(input: impl Read, file: &str) -> Result<(Results, Vec<Finding>), Unreadable> {
    let used = Rc::new(Cell::new(0));
    let mut input = Bounded::new(input, LONGEST_ROW, "a row of more than 1 MiB: a quote that is never closed?", &used);
    let mut head = vec![0; crate::input::HEAD];
    let filled = fill(&mut input, &mut head)?;
    head.truncate(filled);
    let layout = Layout::find(&head).ok_or_else(|| Unreadable::new(1, "no columns of results are found in it"))?;
    let begin = if head.starts_with(b"\xef\xbb\xbf") { 3 } else { 0 };
    let first_line = head.split(|byte| *byte == b'\n').next().unwrap_or_default();
    // A row ends at its CR for the reader of CSV, which counts the line at the LF behind it.
    let behind = u64::from(first_line.ends_with(b"\r") && first_line.len() < head.len());
    let reader = ReaderBuilder::new()
        .delimiter(layout.delimiter)
        .has_headers(false)
        .flexible(true)
        .buffer_capacity(256 << 10)
        .from_reader(head.get(begin..).unwrap_or_default().chain(input));
    Rows::new(file, layout).read(reader, &used, behind)
}

fn fill(input: &mut impl Read, into: &mut [u8]) -> Result<usize, Unreadable> {
    let mut filled = 0;
    while let Some(rest) = into.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match input.read(rest).map_err(|error| Unreadable::new(1, error.to_string()))? {
            0 => break,
            n => filled += n,
        }
    }
    Ok(filled)
}

struct Rows<'a> {
    file: &'a str,
    layout: Layout,
    results: Results,
    clock: Clock,
    findings: Vec<Finding>,
    good: u64,
    misfits: u64,
    sums: u64,
    /// The line of the last row, and its values, if it does not fit.
    cut: Option<(u64, usize)>,
}

impl<'a> Rows<'a> {
    fn new(file: &'a str, layout: Layout) -> Self {
        let mut results = Results::new(layout.extras.iter().map(|(name, _)| name.clone()).collect());
        results.has = has(&layout);
        Self {
            file,
            layout,
            results,
            clock: Clock::default(),
            findings: Vec::new(),
            good: 0,
            misfits: 0,
            sums: 0,
            cut: None,
        }
    }

    fn read<R: Read>(
        mut self,
        mut reader: Reader<R>,
        used: &Cell<u64>,
        behind: u64,
    ) -> Result<(Results, Vec<Finding>), Unreadable> {
        let mut record = ByteRecord::new();
        let mut first = self.layout.header;
        let mut after = 1;
        loop {
            let more = reader.read_byte_record(&mut record);
            used.set(0);
            match more {
                Ok(false) => break,
                Ok(true) => {}
                Err(error) => {
                    let line = error.position().map_or(after, csv::Position::line);
                    return Err(Unreadable::new(line, format!("the row cannot be read: {error}")));
                }
            }
            let begun = |at: &csv::Position| at.line() + if at.byte() > 0 { behind } else { 0 };
            let line = record.position().map_or(after, begun);
            after = reader.position().line() + behind;
            if std::mem::take(&mut first) {
                continue;
            }
            if !self.row(&record, line) {
                self.misfit(&record, line, after);
            }
        }
        self.end(after)
    }

    /// Takes a row. False if it is none.
    fn row(&mut self, record: &ByteRecord, line: u64) -> bool {
        let layout = &self.layout;
        let get = |role: Role| layout.at(role).and_then(|i| record.get(i)).unwrap_or_default();
        if record.len() != layout.width {
            return match self.joined(record) {
                Some(whole) => self.row(&whole, line),
                None => self.other_header(record, line),
            };
        }
        // A time that is written out reads as one though it is cut, and there is a header behind it.
        if get(Role::Time).ends_with(TIME) {
            return self.other_header(record, line);
        }
        let start = if layout.at(Role::Time).is_some() { self.clock.read(get(Role::Time)) } else { Some(0) };
        match start {
            Some(start) => self.take(record, line, start),
            None => return self.other_header(record, line),
        }
        true
    }

    /// The row as it was meant: a failure's message is the tester's own, and some tools do not quote it. None where it cannot
    /// be told that the values too many are the message's.
    fn joined(&self, record: &ByteRecord) -> Option<ByteRecord> {
        let (failure, surplus) = (self.layout.at(Role::Failure)?, record.len().checked_sub(self.layout.width)?);
        let mut whole = ByteRecord::new();
        for (i, value) in record.iter().enumerate() {
            if i <= failure || i > failure + surplus {
                whole.push_field(value);
            } else if i == failure + surplus {
                let parts: Vec<&[u8]> = record.iter().skip(failure).take(surplus + 1).collect();
                whole.truncate(failure);
                whole.push_field(&parts.join(&self.layout.delimiter));
            }
        }
        let fits =
            |role: Role, test: fn(&[u8]) -> bool| self.layout.at(role).is_none_or(|i| whole.get(i).is_some_and(test));
        let before = self.layout.at(Role::Success).is_some_and(|i| i < failure);
        let good = before
            && fits(Role::Success, |value| success(value).is_some())
            && fits(Role::Time, |value| Clock::default().read(value).is_some())
            && fits(Role::AllThreads, |value| number(value).is_some())
            && fits(Role::Connect, |value| number(value).is_some())
            && fits(Role::Url, crate::layout::is_address);
        good.then_some(whole)
    }

    /// A second header begins another run, and may have other columns. Where the run before it was killed within a row it
    /// stands behind what there is of that.
    fn other_header(&mut self, record: &ByteRecord, line: u64) -> bool {
        let row = record.get(0).and_then(<[u8]>::first).is_some_and(u8::is_ascii_digit);
        let cut = record.iter().rposition(|value| value.ends_with(TIME)).filter(|_| row);
        let behind = cut.map(|at| std::iter::once(TIME).chain(record.iter().skip(at + 1)).collect::<ByteRecord>());
        let Some(layout) = Layout::of_header(behind.as_ref().unwrap_or(record), self.layout.delimiter) else {
            return false;
        };
        if behind.is_some() {
            let message = "a row is cut, and behind it begins another run with its header. Not counted".to_owned();
            self.not_counted(line, message);
        }
        if self.layout.extras.iter().map(|(name, _)| name).ne(layout.extras.iter().map(|(name, _)| name)) {
            // What was read under other names is not mixed with these.
            self.results.extra_names.clear();
        }
        self.layout = layout;
        self.results.has = both(self.results.has, has(&self.layout));
        self.results.begin_run();
        self.clock = Clock::default();
        true
    }

    fn take(&mut self, record: &ByteRecord, line: u64, start: i64) {
        let layout = &self.layout;
        let get = |role: Role| layout.at(role).and_then(|i| record.get(i)).unwrap_or_default();
        let number = |role: Role| layout.at(role).and_then(|i| record.get(i)).and_then(number);
        let mut extras: [&[u8]; crate::sample::EXTRAS] = Default::default();
        for (extra, (_, i)) in extras.iter_mut().zip(&layout.extras) {
            *extra = record.get(*i).unwrap_or_default();
        }
        self.good += 1;
        self.cut = None;
        self.sums += u64::from(number(Role::SampleCount).is_some_and(|n| n > 1));
        self.results.add(&Raw {
            line,
            start,
            exact: clock::is_exact(get(Role::Time)),
            elapsed: number(Role::Elapsed).unwrap_or_default(),
            label: get(Role::Label),
            code: get(Role::Code),
            message: get(Role::Message),
            failure: get(Role::Failure),
            success: success(get(Role::Success)),
            thread: get(Role::Thread),
            url: get(Role::Url),
            connect: number(Role::Connect),
            threads: number(Role::AllThreads),
            extras,
        });
    }

    fn misfit(&mut self, record: &ByteRecord, line: u64, after: u64) {
        if record.iter().all(<[u8]>::is_empty) && record.len() <= 1 {
            return;
        }
        let (has, width) = (record.len(), self.layout.width);
        let message = if after > line + 2 {
            let lines = after - line;
            format!("a row of {lines} lines that does not fit its columns: a quote that is not closed? Not counted")
        } else if has != width {
            let more = if has > width { "more" } else { "fewer" };
            format!(
                "{has} values where the columns are {width}: {more} than there are columns, by a separator or a line \
                 break in a value that is not quoted. Not counted"
            )
        } else {
            "no time stands where the time should be. Not counted".to_owned()
        };
        // A quote that is never closed takes in the rows behind it.
        let begins_row = |line: &[u8]| {
            let at = self.layout.at(Role::Time);
            let time = at.and_then(|at| line.split(|byte| *byte == self.layout.delimiter).nth(at));
            time.is_some_and(|time| Clock::default().read(time).is_some())
        };
        let takes_in = record.iter().any(|value| value.split(|byte| *byte == b'\n').skip(1).any(begins_row));
        self.cut = (has <= width && !takes_in).then_some((line, has));
        self.not_counted(line, message);
    }

    fn not_counted(&mut self, line: u64, message: String) {
        self.misfits += 1;
        if self.findings.len() < NAMED {
            self.say("row", Level::Warning, line, message);
        }
    }

    fn end(mut self, last_line: u64) -> Result<(Results, Vec<Finding>), Unreadable> {
        if let Some((line, has)) = self.cut.filter(|_| self.good > 0) {
            self.findings.retain(|finding| finding.line != line);
            self.misfits -= 1;
            let width = self.layout.width;
            let message = format!("the file is cut: its last row has {has} of {width} values. It is read up to there");
            self.say("cut", Level::Warning, line, message);
        }
        let line = self.findings.first().map_or(last_line, |finding| finding.line);
        if self.good == 0 && self.misfits > 0 {
            let why = self.findings.first().map_or("", |finding| &finding.message);
            return Err(Unreadable::new(line, format!("no row fits the columns: {why}")));
        }
        if self.misfits > NAMED as u64 {
            let rows = text::many(self.misfits, "row does", "rows do");
            self.say(
                "row",
                Level::Warning,
                line,
                format!("{rows} not fit the columns, and are not counted; the first are named"),
            );
        }
        if self.sums > 0 {
            let rows = text::many(self.sums, "row", "rows");
            self.say(
                "sums",
                Level::Warning,
                1,
                format!("{rows} sum several samples each (SampleCount): counted as one request"),
            );
        }
        self.results.unread = self.misfits;
        Ok((self.results, self.findings))
    }

    fn say(&mut self, rule: &'static str, level: Level, line: u64, message: String) {
        self.findings.push(Finding { rule, level, file: self.file.to_owned(), line, message });
    }
}

fn has(layout: &Layout) -> Has {
    let at = |role| layout.at(role).is_some();
    Has {
        time: at(Role::Time),
        elapsed: at(Role::Elapsed),
        code: at(Role::Code),
        message: at(Role::Message),
        thread: at(Role::Thread),
        url: at(Role::Url),
        connect: at(Role::Connect),
        threads: at(Role::AllThreads),
    }
}

fn both(a: Has, b: Has) -> Has {
    Has {
        time: a.time && b.time,
        elapsed: a.elapsed && b.elapsed,
        code: a.code && b.code,
        message: a.message && b.message,
        thread: a.thread && b.thread,
        url: a.url && b.url,
        connect: a.connect && b.connect,
        threads: a.threads && b.threads,
    }
}

fn number(text: &[u8]) -> Option<u32> {
    // As numbers are saved that have been a column with gaps.
    let text = text.strip_suffix(b".0").unwrap_or(text);
    if text.is_empty() || text.len() > 9 {
        return None;
    }
    text.iter().try_fold(0_u32, |n, b| if b.is_ascii_digit() { Some(n * 10 + u32::from(b - b'0')) } else { None })
}

fn success(text: &[u8]) -> Option<bool> {
    match text {
        b"true" | b"TRUE" | b"True" | b"1" => Some(true),
        b"false" | b"FALSE" | b"False" | b"0" => Some(false),
        _ => None,
    }
}

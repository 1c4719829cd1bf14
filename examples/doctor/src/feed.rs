//! Data files, as a CSV Data Set or the load test reads them: rows, and what is wrong with them.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, Read};

use crate::cause::{Level, Name};
use crate::input::{Lines, Unreadable};
pub use crate::signs::is_uuid;
use crate::signs::{is_placeholder, is_template};
use crate::text;

/// A line may be so long.
const LONGEST_LINE: usize = 1 << 20;

/// How a plan reads a data file.
#[derive(Debug, Clone, Default)]
pub struct Reading {
    /// The variables, a column each. Empty: the first line names them.
    pub variables: Vec<String>,
    /// What stands between values; empty for a comma.
    pub delimiter: String,
    /// Whether the first line is no row.
    pub ignore_first_line: bool,
    /// Whether quotes around values are taken off.
    pub quoted: bool,
    /// Which variables stand in a path as they are, unencoded.
    pub in_path: Vec<String>,
    /// Which stand in a path encoded.
    pub encoded: Vec<String>,
    /// The words of the plan: what is called none of them is in no request. Empty where that is not known.
    pub used: BTreeSet<String>,
    /// Which hold words of people, where NULL or NAN may be a name.
    pub words: Vec<String>,
    /// Whether it is known how the file is read, or a guess.
    pub known: bool,
    /// Whether all readers of CSV must take it to be the same, line by line.
    pub strict: bool,
}

impl Reading {
    /// How the load test reads its feeder: a header, of whose columns these hold ids and those words of people.
    pub fn strict(ids: &[&str], words: &[&str]) -> Self {
        let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        Self { encoded: owned(ids), words: owned(words), quoted: true, known: true, strict: true, ..Self::default() }
    }

    /// Whether a column has ids.
    fn is_id(&self, variable: &str, column: usize) -> bool {
        let in_path = self.in_path.iter().chain(&self.encoded).any(|name| name == variable);
        in_path || (!self.known && column == 0)
    }

    /// What stands between values.
    fn between(&self) -> &str {
        match self.delimiter.as_str() {
            "" => ",",
            "\\t" => "\t",
            other => other,
        }
    }

    /// The same, where a reader of CSV can take it.
    fn byte(&self) -> Option<u8> {
        let delimiter = self.between();
        delimiter.bytes().next().filter(|b| delimiter.len() == 1 && b.is_ascii())
    }

    /// A column by its name, or its number.
    fn called(&self, variable: &str, column: usize) -> String {
        match variable {
            "" => format!("column {}", column + 1),
            _ if self.strict => text::shown(variable),
            _ => format!("${{{}}}", text::shown(variable)),
        }
    }
}

/// Something wrong with one line.
#[derive(Debug, Clone)]
pub struct Defect {
    /// What comes of it; None where no cause has that name.
    pub name: Option<Name>,
    /// How much it matters.
    pub level: Level,
    /// The first line with it.
    pub line: u64,
    /// What it is.
    pub message: String,
    /// How many rows have it.
    pub rows: u64,
}

/// A data file.
#[derive(Debug, Clone, Default)]
pub struct Feed {
    /// Lines that are read as rows, blank ones too.
    pub rows: u64,
    /// Blank lines among them.
    pub blank: u64,
    /// What is wrong: what is the same in many lines is told once.
    pub defects: Vec<Defect>,
    /// The variables that the first line names, where the plan names none.
    pub named: Vec<String>,
    /// Whether a value has a space in it.
    pub spaces: bool,
    /// Whether the line that names the variables is a row, and may hold secrets.
    nameless: bool,
    uuids: u64,
    /// Ids that look well and are no UUIDs: the first one's line, and how many.
    others: (u64, u64),
    /// Rows with fewer values than variables.
    short: u64,
    /// Of each cause the last line with it, and how many rows have it.
    wrong: BTreeMap<Name, (u64, u64)>,
}

impl Feed {
    /// Reads a data file as a plan reads it.
    ///
    /// # Errors
    ///
    /// When it cannot be read, or has a line of more than 1 MiB, or one that is not UTF-8 and the reading is strict.
    pub fn read(input: impl Read, reading: &Reading) -> Result<Self, Unreadable> {
        let mut lines = Lines::new(input);
        let mut feed = Self::default();
        let mut first_row: Option<(u64, Vec<String>)> = None;
        let mut ends_in_cr = None;
        let mut line = Vec::new();
        let mut number = 0;
        while next_line(&mut lines, &mut line, reading.strict)? {
            number += 1;
            let begun = number;
            number += feed.close_quote(&mut lines, &mut line, number, reading)?;
            if reading.strict && std::str::from_utf8(&line).is_err() {
                return Err(Unreadable::new(number, "not UTF-8; save the file as UTF-8"));
            }
            let text = String::from_utf8_lossy(&line);
            if number == 1 && text.starts_with('\u{feff}') {
                feed.bom(reading);
            }
            if reading.strict && !feed.ends_well(&text, number, &mut ends_in_cr) {
                continue;
            }
            let text = text.trim_start_matches('\u{feff}').trim_end_matches(['\r', '\n']);
            let header = reading.known && (reading.variables.is_empty() || reading.ignore_first_line);
            let heads = begun == 1 || (reading.strict && feed.named.is_empty());
            if header && heads && !(reading.strict && text.trim().is_empty()) {
                if let Some(what) = quotes(text, &split(text, reading)).filter(|_| reading.strict) {
                    feed.add(Some(Name::FeedQuotes), Level::Error, number, what.to_owned());
                }
                feed.named = split(text, reading).iter().map(|name| name.trim().to_owned()).collect();
                let is_row = || feed.named.iter().any(|name| is_uuid(name.trim_matches('"')));
                feed.nameless = reading.variables.is_empty() && is_row();
                first_row = Some((1, split(text, reading)));
                continue;
            }
            feed.row(text, begun, reading, &mut first_row);
        }
        if reading.strict {
            return Ok(feed);
        }
        feed.first_line(first_row, reading);
        feed.together(reading);
        if feed.rows == 0 {
            feed.add(
                None,
                Level::Error,
                number.max(1),
                "the data file has no rows: every variable is <EOF>".to_owned(),
            );
        }
        Ok(feed)
    }

    /// Reads on to the line in which a quote is closed, as a plan with quotedData does. How many lines more.
    fn close_quote<R: Read>(
        &mut self,
        lines: &mut Lines<R>,
        row: &mut Vec<u8>,
        line: u64,
        reading: &Reading,
    ) -> Result<u64, Unreadable> {
        let Some(delimiter) = reading.byte().filter(|_| reading.quoted && reading.known && !reading.strict) else {
            return Ok(0);
        };
        let mut open = is_open(false, row.strip_prefix(b"\xef\xbb\xbf").unwrap_or(row), delimiter);
        let (mut more, mut next) = (0, Vec::new());
        while open {
            if !next_line(lines, &mut next, false)? {
                self.add(Some(Name::FeedQuotes), Level::Error, line, "opens a quote that is never closed".to_owned());
                break;
            }
            more += 1;
            open = is_open(open, &next, delimiter);
            row.append(&mut next);
            if row.len() >= LONGEST_LINE {
                return Err(Unreadable::new(line, "a quote that is not closed within 1 MiB"));
            }
        }
        Ok(more)
    }

    fn bom(&mut self, reading: &Reading) {
        // JMeter takes it off only where no encoding is given; the first variable's name or value begins with it.
        let what = if reading.known && reading.variables.is_empty() { "name" } else { "value" };
        let message = format!(
            "begins with a byte order mark, which becomes part of the first {what}; save it as UTF-8 without one"
        );
        self.add(Some(Name::FeedBom), Level::Error, 1, message);
    }

    /// Line ends as the first one's, and no others.
    fn ends_well(&mut self, raw: &str, line: u64, ends_in_cr: &mut Option<bool>) -> bool {
        let mut content = raw;
        if let Some(ended) = raw.strip_suffix('\n') {
            content = ended.strip_suffix('\r').unwrap_or(ended);
            let cr = content.len() < ended.len();
            if *ends_in_cr.get_or_insert(cr) != cr {
                let (this, others) = if cr { ("CR LF", "LF") } else { ("LF", "CR LF") };
                self.add(None, Level::Error, line, format!("ends in {this}, and the lines before it in {others}"));
            }
        }
        if content.contains('\r') {
            self.add(None, Level::Error, line, "has a CR that is no line's end".to_owned());
        }
        !content.contains('\r')
    }

    /// What one reader of CSV takes in one way and the next in another, or what is no row.
    fn not_the_same(&self, text: &str, values: &[String]) -> Option<(Option<Name>, String)> {
        if let Some(what) = quotes(text, values) {
            return Some((Some(Name::FeedQuotes), what.to_owned()));
        }
        if values == self.named {
            let again = "the header again, which would be sent as data; take it out".to_owned();
            return Some((Some(Name::FeedHeaderRow), again));
        }
        let width = self.named.len();
        (values.len() != width).then(|| (None, format!("{} values for {width} columns", values.len())))
    }

    fn row(&mut self, text: &str, line: u64, reading: &Reading, first_row: &mut Option<(u64, Vec<String>)>) {
        self.rows += 1;
        // JMeter takes blanks for a value.
        if if reading.strict { text.trim().is_empty() } else { text.is_empty() } {
            self.blank += 1;
            let message =
                "is blank: a JMeter plan takes it for the end and sets every variable to <EOF>; take it out".to_owned();
            return self.add(Some(Name::FeedBlankLine), Level::Error, line, message);
        }
        let values = split(text, reading);
        if reading.strict
            && let Some((name, message)) = self.not_the_same(text, &values)
        {
            return self.add(name, Level::Error, line, message);
        }
        if first_row.is_none() {
            *first_row = Some((line, values.clone()));
        }
        let width = if reading.variables.is_empty() { self.named.len() } else { reading.variables.len() };
        if reading.known && values.len() < width {
            self.short += 1;
            let message =
                format!("{} of {width} values: the other variables keep those of the row before", values.len());
            self.add(None, Level::Warning, line, message);
        }
        for (i, value) in values.iter().enumerate() {
            if reading.known && i >= width {
                break;
            }
            let variable = if reading.variables.is_empty() { self.named.get(i) } else { reading.variables.get(i) };
            let variable = variable.filter(|_| !self.nameless).cloned().unwrap_or_default();
            if !variable.is_empty() && !reading.used.is_empty() && !reading.used.contains(&variable) {
                continue;
            }
            // Of a file by itself nobody knows the delimiter.
            let whole = reading.known && values.len() >= width;
            if whole && is_id_and_more(value) && reading.is_id(&variable, i) {
                let called = reading.called(&variable, i);
                let message = format!("{called} has more than its id, and all of it is sent: another delimiter?");
                self.add(Some(Name::FeedUnknownId), Level::Error, line, message);
                continue;
            }
            self.value(value, &variable, i, line, reading);
        }
    }

    fn value(&mut self, value: &str, variable: &str, column: usize, line: u64, reading: &Reading) {
        self.spaces |= value.contains(' ');
        let in_path = reading.in_path.iter().any(|name| name == variable);
        let id = reading.is_id(variable, column);
        let called = || reading.called(variable, column);
        if id {
            self.uuids += u64::from(is_uuid(value.trim()));
        }
        if value.trim().is_empty() {
            if id && !value.is_empty() && !reading.strict {
                let message = format!("{} is nothing but blanks, which are sent", called());
                self.add(Some(Name::FeedSpace), Level::Error, line, message);
            } else if id {
                self.add(
                    Some(Name::FeedEmptyId),
                    Level::Error,
                    line,
                    format!("{} is empty: the request asks for the list", called()),
                );
            } else {
                self.add(None, Level::Warning, line, format!("{} is empty", called()));
            }
            return;
        }
        let quoted = value.len() >= 2 && value.starts_with('"') && value.ends_with('"');
        if quoted && !reading.quoted {
            let message = format!("{} is in quotes, and quotedData is false: the quotes are sent", called());
            return self.add(
                Some(Name::FeedQuotes),
                if reading.known { Level::Error } else { Level::Warning },
                line,
                message,
            );
        }
        if value.trim() != value {
            self.add(
                Some(Name::FeedSpace),
                Level::Error,
                line,
                format!("{} has blanks around it, which are sent", called()),
            );
        }
        let value = value.trim();
        let of_words = reading.words.iter().any(|name| name == variable);
        if if of_words { is_template(value) } else { is_placeholder(value) } {
            let message = format!("{} is a placeholder that nobody filled in", called());
            return self.add(Some(Name::FeedPlaceholder), Level::Error, line, message);
        }
        if id && self.others.1 == 0 && !is_uuid(value) {
            self.others.0 = line;
        }
        self.others.1 += u64::from(id && !is_uuid(value));
        // A whole address may stand in the feed.
        let address = value.contains("://") || value.starts_with('/');
        if in_path
            && !address
            && value.contains(['/', '?', '#', '\\', '^', '|', '{', '}', '<', '>', '`', '"', ' ', '%'])
        {
            let message = format!("{} has a character that ends or breaks the path", called());
            self.others.1 = self.others.1.saturating_sub(u64::from(!is_uuid(value)));
            self.add(Some(Name::FeedUnencodedId), Level::Error, line, message);
        }
    }

    /// What only all rows together tell.
    fn together(&mut self, reading: &Reading) {
        if self.short > 0 && self.short == self.rows - self.blank {
            let last = reading.variables.last().map_or(String::new(), |last| text::shown(last));
            let message = format!("no row has a value for ${{{last}}}: another delimiter, or a column less");
            self.add_rows(Name::FeedPlaceholder, 1, self.rows, message);
        }
        let (line, others) = self.others;
        if others > 0 && others * 10 <= self.rows && self.uuids * 10 >= self.rows * 9 {
            let message = format!("{others} of {} ids are no UUIDs, and all others are", self.rows);
            self.add_rows(Name::FeedUnknownId, line, others, message);
        }
    }

    /// A header that is read as a row, and a row that is taken for a header.
    fn first_line(&mut self, first: Option<(u64, Vec<String>)>, reading: &Reading) {
        let Some((line, values)) = first else { return };
        let trimmed = || values.iter().map(|value| value.trim().trim_matches('"'));
        let names = trimmed().filter(|v| reading.variables.iter().any(|name| name.eq_ignore_ascii_case(v))).count();
        let words = trimmed().all(|v| {
            !v.is_empty() && v.bytes().all(|b| b.is_ascii_alphabetic() || b == b'_' || b == b'-' || b == b' ')
        });
        let ids = self.uuids * 10 >= self.rows * 7 && self.rows >= 2;
        let is_header = names > 0
            || (words && ids)
            || (words && values.len() > 1 && trimmed().any(|v| v.to_lowercase().ends_with("id")));
        let skipped = reading.known && reading.ignore_first_line && !reading.variables.is_empty();
        let heads = reading.known && reading.variables.is_empty();
        if is_header && !skipped && !heads {
            let level = if reading.known { Level::Error } else { Level::Note };
            let message = if reading.known {
                "the header is read as a row, since variableNames are given and ignoreFirstLine is false: its words are sent"
            } else {
                "the first line is a header: a CSV Data Set with variableNames must have ignoreFirstLine"
            };
            self.others.1 = self.others.1.saturating_sub(1);
            self.add(Some(Name::FeedHeaderRow), level, line, message.to_owned());
        } else if !is_header && skipped && trimmed().any(is_data) {
            let message =
                "ignoreFirstLine skips the first line, which is a row and no header: the first row is lost".to_owned();
            self.add(None, Level::Warning, line, message);
        } else if heads && trimmed().any(is_uuid) {
            let message =
                "without variableNames the first line names the variables, and it is a row of data".to_owned();
            self.add(Some(Name::FeedPlaceholder), Level::Error, line, message);
        }
    }

    /// What is known of so many rows at once, and was of none of them before.
    fn add_rows(&mut self, name: Name, line: u64, rows: u64, message: String) {
        let all = self.rows_with(name) + rows;
        self.add(Some(name), Level::Error, line, message);
        if let Some(defect) = self.defects.last_mut() {
            defect.rows = rows;
        }
        self.wrong.insert(name, (line, all));
    }

    /// How many rows have something wrong that comes to this.
    pub(crate) fn rows_with(&self, name: Name) -> u64 {
        self.wrong.get(&name).map_or(0, |(_, rows)| *rows)
    }

    fn add(&mut self, name: Option<Name>, level: Level, line: u64, message: String) {
        if let Some((last, rows)) = name.map(|name| self.wrong.entry(name).or_default()) {
            *rows += u64::from(std::mem::replace(last, line) != line);
        }
        let same = |defect: &Defect| defect.name == name && defect.level == level && defect.message == message;
        if let Some(at) = self.defects.iter().position(same) {
            if let Some(defect) = self.defects.get_mut(at) {
                defect.rows += 1;
            }
        } else if self.defects.len() < 64 {
            self.defects.push(Defect { name, level, line, message, rows: 1 });
        }
    }
}

/// Reads a line with what ends it: LF, CR LF or, as JMeter reads it, CR. False at the end of the file.
fn next_line<R: Read>(lines: &mut Lines<R>, into: &mut Vec<u8>, strict: bool) -> Result<bool, Unreadable> {
    into.clear();
    let at = lines.line();
    let failed = |error: std::io::Error| Unreadable::new(at, error.to_string());
    loop {
        let buffer = lines.fill_buf().map_err(failed)?;
        let end = buffer.iter().position(|b| *b == b'\n' || (*b == b'\r' && !strict));
        let n = end.map_or(buffer.len(), |end| end + 1);
        into.extend_from_slice(buffer.get(..n).unwrap_or_default());
        lines.consume(n);
        if into.len() >= LONGEST_LINE {
            return Err(Unreadable::new(at, "a line of more than 1 MiB: no data file"));
        }
        if n == 0 {
            return Ok(!into.is_empty());
        }
        if end.is_some() {
            if into.ends_with(b"\r") && lines.fill_buf().map_err(failed)?.first() == Some(&b'\n') {
                into.push(b'\n');
                lines.consume(1);
            }
            return Ok(true);
        }
    }
}

/// Whether a quote is open after this text, in which it was open or not. Only at the beginning of a value it opens one.
fn is_open(mut open: bool, text: &[u8], delimiter: u8) -> bool {
    let mut begins = !open;
    let mut bytes = text.iter().peekable();
    while let Some(byte) = bytes.next() {
        let before = open;
        if *byte == b'"' && open {
            // Two of them are one that is meant.
            open = bytes.next_if_eq(&&b'"').is_some();
        } else if *byte == b'"' {
            open = begins;
        }
        begins = !before && !open && *byte == delimiter;
    }
    open
}

/// An id, and what another delimiter would have kept apart from it.
fn is_id_and_more(value: &str) -> bool {
    let value = value.trim_start();
    value.get(..36).is_some_and(is_uuid) && value.get(36..).is_some_and(|rest| rest.starts_with([';', ',', '|', '\t']))
}

/// Whether a value is no name of a column: an id, a number, or what is numbered.
fn is_data(value: &str) -> bool {
    let digits = value.bytes().filter(u8::is_ascii_digit).count();
    is_uuid(value) || (digits > 0 && digits == value.len()) || (digits >= 3 && !value.contains(' '))
}

/// Quotes that one reader of CSV takes in one way and the next in another.
fn quotes(text: &str, values: &[String]) -> Option<&'static str> {
    if values.iter().any(|value| value.contains('"')) {
        return Some("a quote inside a value; quotes go around the whole value or nowhere");
    }
    (text.matches('"').count() % 2 == 1).then_some("a quote is opened and not closed on the same line")
}

fn split(text: &str, reading: &Reading) -> Vec<String> {
    // A reader of CSV is dear to make for a line, and where there are no quotes there is nothing to read.
    let quoted = reading.quoted && (text.is_empty() || text.contains(['"', '\r']));
    let Some(byte) = reading.byte().filter(|_| quoted) else {
        return text.split(reading.between()).map(str::to_owned).collect();
    };
    let mut reader =
        csv::ReaderBuilder::new().delimiter(byte).has_headers(false).flexible(true).from_reader(text.as_bytes());
    let record = reader.records().next().and_then(Result::ok).unwrap_or_default();
    record.iter().map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "0a1b2c3d-0000-4000-8000-000000000001";

    fn reading() -> Reading {
        Reading {
            variables: vec!["scriptId".into(), "token".into()],
            in_path: vec!["scriptId".into()],
            known: true,
            ..Reading::default()
        }
    }

    fn names(text: &str, reading: &Reading) -> Vec<(Option<Name>, u64)> {
        let feed = Feed::read(text.as_bytes(), reading).unwrap();
        feed.defects.iter().map(|defect| (defect.name, defect.line)).collect()
    }

    #[test]
    fn a_good_feed_has_nothing_wrong() {
        assert_eq!(names(&format!("{ID},t0\n{ID},t1\n"), &reading()), []);
        assert_eq!(names(&format!("{ID},t0\r\n{ID},t1"), &reading()), []);
    }

    #[test]
    fn each_defect_is_named_with_its_line() {
        for (text, name, line) in [
            (format!("{ID},t0\n\n{ID},t1\n"), Name::FeedBlankLine, 2),
            (format!("\u{feff}{ID},t0\n"), Name::FeedBom, 1),
            (format!("{ID},t0\n{ID} ,t1\n"), Name::FeedSpace, 2),
            (format!("{ID},t0\n\"{ID}\",t1\n"), Name::FeedQuotes, 2),
            (format!("scriptId,token\n{ID},t1\n"), Name::FeedHeaderRow, 1),
            (format!("{ID},t0\n${{scriptId}},t1\n"), Name::FeedPlaceholder, 2),
            (format!("{ID},t0\n<EOF>,t1\n"), Name::FeedPlaceholder, 2),
            (format!("{ID},t0\n,t1\n"), Name::FeedEmptyId, 2),
            (format!("{ID},t0\nx/y?z,t1\n"), Name::FeedUnencodedId, 2),
        ] {
            assert_eq!(names(&text, &reading()), [(Some(name), line)], "{text:?}");
        }
    }

    #[test]
    fn a_row_that_is_skipped_as_a_header_is_told() {
        let mut reading = reading();
        reading.ignore_first_line = true;
        assert_eq!(names(&format!("{ID},t0\n{ID},t1\n{ID},t2\n"), &reading), [(None, 1)]);
        assert_eq!(names(&format!("scriptId,token\n{ID},t1\n{ID},t2\n"), &reading), []);
    }
}

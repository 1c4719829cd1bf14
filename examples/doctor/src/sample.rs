//! What results come to: counts of all of them, and the rows of as many as memory is given to.

use std::collections::{HashMap, HashSet};

/// Rows kept. Of more, every second block is dropped, again and again: blocks spread over the whole run stay.
const KEPT: usize = 1 << 18;
const BLOCK: u64 = 1 << 10;
const LABELS: usize = 1_000;
const ANSWERS: usize = 500;
const ADDRESSES: usize = 50_000;
const THREADS: usize = 100_000;
/// Columns of the user's own, or headers, that are looked at.
pub(crate) const EXTRAS: usize = 4;
const EXTRA_VALUES: usize = 1_000;
/// Of the texts of one kind, all together.
const BYTES: usize = 4 << 20;
/// Rows come in the order of their ends, give or take some milliseconds: so far back is another run.
const BACK: i64 = 10_000;
/// So long nothing is asked in one run.
const PAUSE: i64 = 600_000;
/// No thread is said to pause for longer.
const DAY: i64 = 86_400_000;
/// So many beginnings of runs are known again.
const BEGINNINGS: usize = 10_000;
/// Times of so many rows that are whole seconds, whatever they are written to, are no more exact.
const WHOLE: u64 = 3;
/// A number that is not there.
pub(crate) const NONE: u32 = u32::MAX;
/// Texts longer than this are told apart by their beginning.
const TEXT: usize = 600;

/// Texts by number, up to a limit; all others are number 0.
#[derive(Debug, Default)]
pub(crate) struct Texts {
    by_text: HashMap<Box<[u8]>, u32>,
    texts: Vec<Box<str>>,
    limit: usize,
    bytes: usize,
    last: (Vec<u8>, u32),
}

impl Texts {
    fn new(limit: usize) -> Self {
        Self { texts: vec!["(others)".into()], limit, last: (vec![0xff], 0), ..Self::default() }
    }

    fn number(&mut self, text: &[u8]) -> u32 {
        let text = text.get(..TEXT).unwrap_or(text);
        if self.last.0 == text {
            return self.last.1;
        }
        let number = match self.by_text.get(text) {
            Some(number) => *number,
            None if self.texts.len() > self.limit || self.bytes > BYTES => 0,
            None => {
                let number = u32::try_from(self.texts.len()).unwrap_or_default();
                self.bytes += text.len();
                self.by_text.insert(text.into(), number);
                self.texts.push(String::from_utf8_lossy(text).into());
                number
            }
        };
        self.last.0.clear();
        self.last.0.extend_from_slice(text);
        self.last.1 = number;
        number
    }

    /// The text of this number.
    pub(crate) fn text(&self, number: u32) -> &str {
        self.texts.get(number as usize).map_or("", |text| text)
    }

    pub(crate) fn len(&self) -> usize {
        self.texts.len()
    }
}

/// One request, as a row or an element tells it.
#[derive(Debug, Default)]
pub(crate) struct Raw<'a> {
    pub(crate) line: u64,
    pub(crate) start: i64,
    /// Whether the start is to the millisecond.
    pub(crate) exact: bool,
    pub(crate) elapsed: u32,
    pub(crate) label: &'a [u8],
    pub(crate) code: &'a [u8],
    pub(crate) message: &'a [u8],
    pub(crate) failure: &'a [u8],
    pub(crate) success: Option<bool>,
    pub(crate) thread: &'a [u8],
    pub(crate) url: &'a [u8],
    pub(crate) connect: Option<u32>,
    pub(crate) threads: Option<u32>,
    pub(crate) extras: [&'a [u8]; EXTRAS],
}

/// One kind of answer.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) code: String,
    pub(crate) message: String,
    pub(crate) failure: String,
    pub(crate) fate: Fate,
    /// The first answer with the same code.
    pub(crate) code_number: u32,
}

/// How a request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    Well,
    /// Served, and failed by the plan's own check.
    Own,
    /// Failed with this status.
    Status(u16),
    /// Failed without one.
    NoAnswer,
    /// Failed, and nobody wrote down how.
    Unknown,
}

impl Fate {
    /// Told by the code: whether a sample counts as a success is up to the plan.
    fn of(code: &str, success: Option<bool>) -> Self {
        match code.trim().parse::<u16>() {
            Ok(status @ 400..=999) => Self::Status(status),
            // What tools write where there was no answer.
            Ok(..100) if success != Some(true) => Self::NoAnswer,
            Ok(_) if success == Some(false) => Self::Own,
            Ok(_) => Self::Well,
            // No request of HTTP, or a column that was not saved.
            Err(_) if matches!(code.trim(), "" | "null" | "OK" | "ok") => match success {
                Some(false) if code.trim().eq_ignore_ascii_case("ok") => Self::Own,
                Some(false) => Self::Unknown,
                _ => Self::Well,
            },
            Err(_) if code.starts_with("Non HTTP") || success != Some(true) => Self::NoAnswer,
            Err(_) => Self::Well,
        }
    }

    pub(crate) fn failed(self) -> bool {
        self != Self::Well
    }
}

/// A row that was kept.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sample {
    pub(crate) seq: u64,
    pub(crate) start: i64,
    pub(crate) elapsed: u32,
    pub(crate) answer: u32,
    pub(crate) label: u32,
    pub(crate) thread: u32,
    pub(crate) url: u32,
    pub(crate) connect: u32,
    pub(crate) threads: u32,
    /// The how manieth of its thread, from 0.
    pub(crate) nth: u32,
    /// The answer to what the thread asked before; 0 for none.
    pub(crate) before: u32,
    /// How long after that its thread asked this, in milliseconds.
    pub(crate) pause: u32,
    pub(crate) extras: [u16; EXTRAS],
}

impl Sample {
    /// Whether its connection was made for it, as far as that is told.
    pub(crate) fn on_new_connection(&self) -> bool {
        self.connect > 0 && self.connect != NONE
    }

    pub(crate) fn end(&self) -> i64 {
        self.start.saturating_add(i64::from(self.elapsed))
    }
}

/// One run of a test: results are appended to what is in the file.
#[derive(Debug, Clone)]
pub(crate) struct Run {
    pub(crate) first_line: u64,
    pub(crate) last_line: u64,
    pub(crate) start: i64,
    pub(crate) end: i64,
    rows: u64,
    most_threads: u32,
    first: u64,
    /// Whether a time was no whole second.
    in_parts: bool,
}

/// The runs of one file, of which there may be as many as rows: the last two, and how many.
#[derive(Debug, Default)]
pub(crate) struct Runs {
    pub(crate) before: Option<Run>,
    pub(crate) last: Option<Run>,
    pub(crate) count: usize,
    /// Rows of all of them.
    pub(crate) rows: u64,
    /// How they began.
    beginnings: HashSet<(i64, u64)>,
}

impl Runs {
    fn begin(&mut self, run: Run) {
        if self.beginnings.len() < BEGINNINGS {
            self.beginnings.insert((run.start, run.first));
        }
        self.count += 1;
        self.before = self.last.replace(run);
    }
}

#[derive(Debug, Clone, Copy, Default)]
struct Thread {
    asked: u32,
    before: u32,
    end: i64,
    /// The last row's fingerprint.
    last: u64,
}

/// The results of one file.
#[derive(Debug, Default)]
pub(crate) struct Results {
    pub(crate) labels: Texts,
    pub(crate) threads: Texts,
    pub(crate) urls: Texts,
    pub(crate) extra_names: Vec<String>,
    pub(crate) extras: Vec<Texts>,
    pub(crate) answers: Vec<Answer>,
    answer_numbers: HashMap<Box<[u8]>, u32>,
    last_answer: (Vec<u8>, u32),
    pub(crate) rows: Vec<Sample>,
    stride: u64,
    seq: u64,
    /// Of the last run, by label and answer.
    pub(crate) counts: HashMap<(u32, u32), u64>,
    /// Of the runs before it.
    pub(crate) earlier: HashMap<(u32, u32), u64>,
    pub(crate) runs: Runs,
    by_thread: Vec<Thread>,
    /// Rows that say again what the row before said.
    pub(crate) twins: u64,
    pub(crate) transactions: u64,
    /// Rows that could not be read, apart from a last one that is cut.
    pub(crate) unread: u64,
    pub(crate) has: Has,
    boundary: bool,
    repeats: bool,
}

/// Which columns there are.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Has {
    pub(crate) time: bool,
    pub(crate) elapsed: bool,
    pub(crate) code: bool,
    pub(crate) message: bool,
    pub(crate) thread: bool,
    pub(crate) url: bool,
    pub(crate) connect: bool,
    pub(crate) threads: bool,
}

impl Results {
    pub(crate) fn new(extra_names: Vec<String>) -> Self {
        Self {
            labels: Texts::new(LABELS),
            threads: Texts::new(THREADS),
            urls: Texts::new(ADDRESSES),
            extras: (0..EXTRAS).map(|_| Texts::new(EXTRA_VALUES)).collect(),
            extra_names,
            answers: vec![NO_ANSWER.clone()],
            last_answer: (vec![0xff], 0),
            stride: 1,
            boundary: true,
            ..Self::default()
        }
    }

    /// Whether all rows were kept.
    pub(crate) fn complete(&self) -> bool {
        self.stride == 1
    }

    pub(crate) fn answer(&self, number: u32) -> &Answer {
        self.answers.get(number as usize).or_else(|| self.answers.first()).unwrap_or(&NO_ANSWER)
    }

    /// What follows is another run.
    pub(crate) fn begin_run(&mut self) {
        self.boundary = true;
    }

    pub(crate) fn add(&mut self, raw: &Raw<'_>) {
        if raw.message.starts_with(b"Number of samples in transaction") {
            self.transactions += 1;
            return;
        }
        let answer = self.answer_number(raw);
        let label = self.labels.number(raw.label);
        let url = if self.has.url { self.urls.number(raw.url) } else { 0 };
        let thread = if self.has.thread { self.threads.number(raw.thread) } else { 0 };
        let fingerprint = fingerprint(raw, [answer, label, url, thread]);
        if self.boundary || self.is_other_run(raw, fingerprint, thread) {
            self.start_run(raw, fingerprint, thread);
        }
        let Some(run) = self.runs.last.as_mut() else { return };
        self.runs.rows += 1;
        run.rows += 1;
        run.in_parts |= raw.start % 1_000 != 0;
        let exact = raw.exact && (run.in_parts || run.rows < WHOLE);
        run.last_line = raw.line;
        run.end = run.end.max(raw.start.saturating_add(i64::from(raw.elapsed)));
        run.start = run.start.min(raw.start);
        run.most_threads = run.most_threads.max(raw.threads.unwrap_or_default());
        if self.repeats {
            self.twins += 1;
            return;
        }
        let served = self.answer(answer).fate != Fate::NoAnswer;
        let Some(thread_state) = self.thread_state(thread) else { return };
        // Of one thread no two requests that take a while begin at once; what never left it may.
        if thread > 0 && exact && raw.elapsed > 1 && served && thread_state.last == fingerprint {
            self.twins += 1;
            return;
        }
        let (nth, before) = (thread_state.asked, thread_state.before);
        let pause = if nth > 0 { raw.start.saturating_sub(thread_state.end).clamp(0, DAY) as u32 } else { 0 };
        let end = raw.start.saturating_add(i64::from(raw.elapsed));
        *thread_state = Thread { asked: nth.saturating_add(1), before: answer, end, last: fingerprint };
        *self.counts.entry((label, answer)).or_default() += 1;
        self.keep(
            raw,
            Sample {
                seq: 0,
                start: raw.start,
                elapsed: raw.elapsed,
                answer,
                label,
                thread,
                url,
                connect: raw.connect.unwrap_or(NONE),
                threads: raw.threads.unwrap_or(NONE),
                nth,
                before: if thread > 0 { before } else { 0 },
                pause,
                extras: [0; EXTRAS],
            },
        );
    }

    fn thread_state(&mut self, thread: u32) -> Option<&mut Thread> {
        let thread = thread as usize;
        if self.by_thread.len() <= thread {
            self.by_thread.resize(thread + 1, Thread::default());
        }
        self.by_thread.get_mut(thread)
    }

    /// A file of more than one run: the clock goes back, or nothing is asked for long and then it begins anew.
    fn is_other_run(&self, raw: &Raw<'_>, fingerprint: u64, thread: u32) -> bool {
        let Some(run) = &self.runs.last else { return true };
        let end = raw.start.saturating_add(i64::from(raw.elapsed));
        let gap = raw.start.saturating_sub(run.end);
        let anew = gap > run.end.saturating_sub(run.start)
            || raw.threads.is_some_and(|threads| threads.saturating_mul(4) <= run.most_threads);
        let back = end < run.start.saturating_sub(BACK);
        // The same run put to the file once more. Within one second, or of nobody knows which thread, rows look alike.
        let exact = raw.exact && run.in_parts && thread > 0;
        let again = exact && run.rows > 1 && raw.elapsed > 1 && raw.start == run.start && fingerprint == run.first;
        self.has.time && (back || again || (gap > PAUSE && anew))
    }

    fn start_run(&mut self, raw: &Raw<'_>, fingerprint: u64, thread: u32) {
        let told = (std::mem::take(&mut self.boundary) || thread > 0) && raw.exact;
        self.repeats = self.has.time && told && self.runs.beginnings.contains(&(raw.start, fingerprint));
        let (start, line) = (raw.start, raw.line);
        if !self.repeats {
            for (key, count) in self.counts.drain() {
                *self.earlier.entry(key).or_default() += count;
            }
            self.rows.clear();
            self.by_thread.clear();
            self.stride = 1;
            self.seq = 0;
        }
        self.runs.begin(Run {
            first_line: line,
            last_line: line,
            start,
            end: start,
            rows: 0,
            most_threads: 0,
            first: fingerprint,
            in_parts: false,
        });
    }

    fn keep(&mut self, raw: &Raw<'_>, mut sample: Sample) {
        sample.seq = self.seq;
        self.seq += 1;
        if !(sample.seq / BLOCK).is_multiple_of(self.stride) {
            return;
        }
        for (i, value) in raw.extras.iter().enumerate().take(self.extra_names.len()) {
            if let (Some(texts), Some(extra)) = (self.extras.get_mut(i), sample.extras.get_mut(i)) {
                *extra = u16::try_from(texts.number(value)).unwrap_or_default();
            }
        }
        if self.rows.len() >= KEPT {
            self.stride *= 2;
            let stride = self.stride;
            self.rows.retain(|row| (row.seq / BLOCK).is_multiple_of(stride));
            if !(sample.seq / BLOCK).is_multiple_of(stride) {
                return;
            }
        }
        self.rows.push(sample);
    }

    fn answer_number(&mut self, raw: &Raw<'_>) -> u32 {
        let parts = [raw.code, raw.message, raw.failure, success_byte(raw.success)];
        let parts = parts.map(|part| part.get(..TEXT).unwrap_or(part));
        if !is_joined(&self.last_answer.0, &parts) {
            let key = &mut self.last_answer.0;
            key.clear();
            for part in parts {
                key.extend_from_slice(part);
                key.push(0);
            }
            self.last_answer.1 = match self.answer_numbers.get(key.as_slice()) {
                Some(number) => *number,
                None => self.new_answer(raw),
            };
        }
        self.last_answer.1
    }

    fn new_answer(&mut self, raw: &Raw<'_>) -> u32 {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes.get(..TEXT).unwrap_or(bytes)).into_owned();
        let code = text(raw.code);
        let code = status(&code).to_owned();
        let fate = Fate::of(&code, raw.success);
        if self.answers.len() > ANSWERS {
            // One more with the same code and fate stands for it.
            let alike = |a: &Answer| a.code == code && a.fate == fate;
            return self.answers.iter().rposition(alike).and_then(|i| u32::try_from(i).ok()).unwrap_or(0);
        }
        let number = u32::try_from(self.answers.len()).unwrap_or_default();
        let alike = self.answers.iter().position(|a| a.code == code && a.fate == fate);
        let code_number = alike.and_then(|i| u32::try_from(i).ok()).unwrap_or(number);
        self.answers.push(Answer { code, message: text(raw.message), failure: text(raw.failure), fate, code_number });
        self.answer_numbers.insert(self.last_answer.0.as_slice().into(), number);
        number
    }
}

static NO_ANSWER: Answer =
    Answer { code: String::new(), message: String::new(), failure: String::new(), fate: Fate::Well, code_number: 0 };

/// `400` of `400.0`, which a column of numbers with gaps becomes when a table is saved.
fn status(code: &str) -> &str {
    let whole = code.trim().strip_suffix(".0").filter(|whole| whole.bytes().all(|b| b.is_ascii_digit()));
    whole.unwrap_or(code)
}

/// Whether a text is these parts, each with a zero after it.
fn is_joined(mut text: &[u8], parts: &[&[u8]]) -> bool {
    for part in parts {
        match text.strip_prefix(*part).and_then(|rest| rest.strip_prefix(&[0])) {
            Some(rest) => text = rest,
            None => return false,
        }
    }
    text.is_empty()
}

fn success_byte(success: Option<bool>) -> &'static [u8] {
    match success {
        Some(true) => b"1",
        Some(false) => b"0",
        None => b"",
    }
}

fn fingerprint(raw: &Raw<'_>, numbers: [u32; 4]) -> u64 {
    let mut hash = (raw.start as u64) ^ 0x9e37_79b9_7f4a_7c15;
    for number in [raw.elapsed, raw.connect.unwrap_or(NONE)].into_iter().chain(numbers) {
        hash = (hash.rotate_left(23) ^ u64::from(number)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    }
    hash | 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_runs_that_take_turns_only_as_many_are_kept_as_are_told() {
        let mut results = Results::new(Vec::new());
        results.has.time = true;
        for i in 0..300_000_i64 {
            let start = i / 2 * 40 + i % 2 * 3_600_000 + 1;
            results.add(&Raw { line: i as u64 + 2, start, exact: true, elapsed: 5, code: b"200", ..Raw::default() });
        }
        let counted: u64 = results.counts.values().chain(results.earlier.values()).sum();
        assert_eq!((counted, results.runs.rows), (300_000, 300_000));
        assert!(results.runs.count > 1_000 && results.runs.beginnings.len() <= BEGINNINGS);
    }

    #[test]
    fn of_a_long_file_blocks_from_all_over_it_are_kept_and_all_are_counted() {
        let mut results = Results::new(Vec::new());
        results.has.thread = true;
        let n = 3 * KEPT as i64;
        for i in 0..n {
            let thread = format!("Agents 1-{}", i % 50);
            let url = format!("https://api.example.test/{i}");
            let raw = Raw {
                start: i,
                elapsed: 5,
                code: b"200",
                thread: thread.as_bytes(),
                url: url.as_bytes(),
                ..Raw::default()
            };
            results.add(&raw);
        }
        assert_eq!(results.counts.values().sum::<u64>(), n as u64);
        assert!(!results.complete() && results.rows.len() <= KEPT && results.rows.len() > KEPT / 4);
        let late = results.rows.iter().filter(|row| row.start > n / 2).count();
        assert!(late * 5 > results.rows.len() * 2, "{late} of {}", results.rows.len());
        let beside = results.rows.windows(2).filter(|two| two[1].seq == two[0].seq + 1).count();
        assert!(beside * 100 > results.rows.len() * 99, "rows stand beside those they stood beside");
    }
}

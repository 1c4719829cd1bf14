//! Where a list ends. Every hint of the service is optional and each can be wrong, so all that are there must agree; and
//! what one of them promises must come.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};

use reqwest::Url;

use super::model::ScriptListing;
use super::query::ListScripts;
use crate::id::ScriptId;

/// So many pages in a row may bring nothing new while the service says that more follows.
const MOST_BARREN: u32 = 20;
/// A longer list is taken for one that never ends.
const MOST_SCRIPTS: usize = 1_000_000;

/// What came of a list so far.
pub(super) struct Course {
    /// The page it began with.
    first: u32,
    /// How many scripts a page has: the most that was asked for, said, or came.
    page_size: u64,
    /// The scripts that came. A script that moves to a later page while the list is read comes once.
    ids: HashSet<ScriptId>,
    /// The pages that came, each by its ids.
    pages: HashSet<u64>,
    skipped: usize,
    /// How many pages in a row brought nothing new.
    barren: u32,
    had_uri: bool,
}

/// What comes after a page.
#[derive(Debug, PartialEq)]
pub(super) enum Next {
    /// Another page: the service says so, or says nothing.
    Page,
    /// None, by one hint alone. It can be wrong, so another page is asked for; where there is none, that is the end.
    Doubtful,
    /// An error: the next page is one that came already.
    Circle(String),
    End,
}

impl Course {
    pub(super) fn new(query: &ListScripts) -> Self {
        Self {
            first: query.page_number,
            page_size: query.page_size.into(),
            ids: HashSet::new(),
            pages: HashSet::new(),
            skipped: 0,
            barren: 0,
            had_uri: false,
        }
    }

    pub(super) fn skipped(&self) -> usize {
        self.skipped
    }

    /// Takes a page, leaves in it what is new, and finds out what follows; or why the list cannot go on.
    pub(super) fn take(&mut self, number: u32, page: &mut ScriptListing) -> Result<Next, String> {
        if let Some(other) = page.page_number.filter(|other| i64::from(*other) > i64::from(number)) {
            return Err(format!(
                "page {number} was asked for, page {other} came; {} had come before",
                self.came_in_words()
            ));
        }
        if !page.entities.is_empty() && !self.pages.insert(fingerprint(page)) {
            let came = self.came_in_words();
            return Err(format!("page {number} repeats an earlier page, so the list would never end; {came} came"));
        }
        let rows = page.entities.len() + page.entities.skipped();
        page.entities.retain(|script| self.ids.insert(script.id.clone()));
        self.skipped += page.entities.skipped();
        self.barren = if page.entities.is_empty() { self.barren + 1 } else { 0 };
        let said = page.page_size.and_then(|size| u64::try_from(size).ok()).unwrap_or_default();
        self.page_size = self.page_size.max(said).max(rows as u64);
        let next = self.next(number, rows, page)?;
        match next {
            Next::End => Ok(next),
            _ if self.barren >= MOST_BARREN => {
                let came = self.came_in_words();
                Err(format!("{MOST_BARREN} pages in a row bring nothing new, and the list does not end; {came} came"))
            }
            _ if self.ids.len() > MOST_SCRIPTS => {
                Err(format!("more than {MOST_SCRIPTS} scripts came, and the list does not end"))
            }
            _ => Ok(next),
        }
    }

    fn next(&mut self, number: u32, rows: usize, page: &ScriptListing) -> Result<Next, String> {
        let came = (self.ids.len() + self.skipped) as u64;
        let total = page.total.and_then(|total| u64::try_from(total).ok());
        let before = u64::from(self.first.saturating_sub(1)).saturating_mul(self.page_size);
        let so_far = before.saturating_add(came);
        let missing = total.filter(|total| so_far < *total);
        let whole = total == Some(so_far);

        let count = page.page_count.and_then(|count| u32::try_from(count).ok());
        let more_pages = count.is_some_and(|count| count > number);
        let last_page = count.is_some_and(|count| count == number || count < number && rows == 0);

        let uri = next_uri(page);
        let uri_is_gone = uri.is_none() && self.had_uri;
        self.had_uri |= uri.is_some();
        if let Some(back) = uri.and_then(page_of).filter(|next| *next <= number) {
            let came = self.came_in_words();
            let why = format!(
                "the list leads round in a circle: after page {number} comes page {back} (`nextUri`); {came} came"
            );
            return Ok(Next::Circle(why));
        }
        // An empty page after all that are counted is the end, whatever it links to.
        let more_uris = uri.is_some() && !(rows == 0 && whole && came > 0);

        if more_pages || more_uris && !whole || missing.is_some() && !(rows == 0 && last_page) {
            return Ok(Next::Page);
        }
        match missing {
            Some(total) if rows == 0 => Err(self.remainder(number, total)),
            _ if rows == 0 || whole && last_page && !more_uris => Ok(Next::End),
            _ if whole || last_page || uri_is_gone => Ok(Next::Doubtful),
            _ => Ok(Next::Page),
        }
    }

    fn remainder(&self, number: u32, total: u64) -> String {
        let from = if self.first == 1 { String::new() } else { format!(" from page {} on", self.first) };
        format!(
            "{} of {total} came{from}, and page {number} is empty: the service counts what this token may not see, or the \
             list changed while it was read",
            self.came_in_words()
        )
    }

    fn came_in_words(&self) -> String {
        let scripts = format!("{} script{}", self.ids.len(), if self.ids.len() == 1 { "" } else { "s" });
        match self.skipped {
            0 => scripts,
            skipped => format!("{scripts} (and {skipped} that cannot be read)"),
        }
    }
}

/// The page's ids, in whatever order.
fn fingerprint(page: &ScriptListing) -> u64 {
    let each = page.entities.iter().map(|script| {
        let mut hasher = DefaultHasher::new();
        script.id.hash(&mut hasher);
        hasher.finish()
    });
    each.fold(0, u64::wrapping_add)
}

/// Where the service says that the list goes on, if it says so.
fn next_uri(page: &ScriptListing) -> Option<&str> {
    let uri = page.next_uri.as_deref()?.trim();
    let none = ["", "null", "false"].iter().any(|none| uri.eq_ignore_ascii_case(none));
    (!none).then_some(uri)
}

/// The page a URI names. No request goes there: it could lead anywhere.
fn page_of(uri: &str) -> Option<u32> {
    let url = Url::parse("http://localhost").and_then(|base| base.join(uri)).ok()?;
    url.query_pairs().find(|(name, _)| name == "pageNumber").and_then(|(_, number)| number.parse().ok())
}

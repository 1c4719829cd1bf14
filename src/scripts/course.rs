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
#[derive(Default)]
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
    /// Rows that showed a script once more, where the service may count each of them.
    doubled: usize,
    /// How many pages in a row brought nothing new.
    barren: u32,
    /// What was said last, and may be so.
    total: Option<u64>,
    /// The most that was said.
    page_count: Option<u32>,
    /// Whether the page before named a next one.
    leads_on: bool,
    /// Whether what was said changed while the list was read, and whether it did so that what never came may have moved to a
    /// page that was read before.
    changed: bool,
    moved: bool,
    /// What came before the list was begun again, if it was.
    before: Option<Before>,
}

#[derive(Default)]
struct Before {
    ids: HashSet<ScriptId>,
    skipped: usize,
}

/// What comes after a page.
#[derive(Debug, PartialEq)]
pub(super) enum Next {
    /// Another page: the service says so, or says nothing.
    Page,
    /// None, by one hint alone. It can be wrong, so another page is asked for; where there is none, that is the end.
    Doubtful,
    /// It is not the page that was asked for, and nothing of it was taken.
    Another(String),
    /// An error: the next page is one that came already.
    Circle(String),
    End,
}

impl Course {
    pub(super) fn new(query: &ListScripts) -> Self {
        Self { first: query.page_number, page_size: query.page_size.into(), ..Self::default() }
    }

    pub(super) fn skipped(&self) -> usize {
        self.before.as_ref().map_or(0, |before| before.skipped).max(self.skipped)
    }

    /// At the end: the page to begin again with, where scripts may have moved to pages that were read. That is done once.
    pub(super) fn again(&mut self) -> Option<u32> {
        if !self.moved || self.before.is_some() {
            return None;
        }
        let before = Before { ids: std::mem::take(&mut self.ids), skipped: self.skipped };
        *self = Self { first: self.first, page_size: self.page_size, before: Some(before), ..Self::default() };
        Some(self.first)
    }

    /// Takes a page, leaves in it what is new, and finds out what follows; or why the list cannot go on.
    pub(super) fn take(&mut self, number: u32, page: &mut ScriptListing) -> Result<Next, String> {
        if let Some(other) = page.page_number.filter(|other| i64::from(*other) > i64::from(number)) {
            let why = format!("page {number} was asked for, page {other} came; {} had come before", self.read());
            return Ok(Next::Another(why));
        }
        if !page.entities.is_empty() && !self.pages.insert(fingerprint(page)) {
            let read = self.read();
            let why = format!("page {number} repeats an earlier page, so the list would never end; {read} came");
            return Ok(Next::Another(why));
        }
        let rows = page.entities.len() + page.entities.skipped();
        self.retain_new(page);
        self.skipped += page.entities.skipped();
        let said = page.page_size.and_then(|size| u64::try_from(size).ok()).unwrap_or_default();
        self.page_size = self.page_size.max(said).max(rows as u64);
        match self.next(number, rows, page) {
            Ok(next @ (Next::End | Next::Circle(_))) => Ok(next),
            Ok(_) if self.barren >= MOST_BARREN => {
                Err(self
                    .remainder(&format!("{MOST_BARREN} pages in a row bring nothing new although more should follow")))
            }
            Ok(_) if self.ids.len() > MOST_SCRIPTS => {
                Err(format!("more than {MOST_SCRIPTS} scripts came, and the list does not end"))
            }
            next => next,
        }
    }

    /// Leaves in a page what did not come before.
    fn retain_new(&mut self, page: &mut ScriptListing) {
        let mut here = HashSet::new();
        page.entities.retain(|script| {
            let is_new = self.ids.insert(script.id.clone());
            if is_new {
                here.insert(script.id.clone());
            } else if self.before.is_some() || here.contains(&script.id) {
                self.doubled += 1;
            }
            is_new
        });
        self.barren = if page.entities.is_empty() { self.barren + 1 } else { 0 };
        if let Some(before) = &self.before {
            page.entities.retain(|script| !before.ids.contains(&script.id));
        }
    }

    fn next(&mut self, number: u32, rows: usize, page: &ScriptListing) -> Result<Next, String> {
        let came = self.came();
        let total = page.total.and_then(|total| u64::try_from(total).ok());
        if let (Some(now), Some(before)) = (total, self.total) {
            // So many may be gone that it is less than what came.
            self.changed |= now != before && came <= now.max(before);
            self.moved |= now.max(came) < before;
        }
        // Else one that is less than what came is wrong. What was said holds until something else is said.
        self.total = total.filter(|total| came <= *total).or(self.total);
        self.page_count = self.page_count.max(page.page_count.and_then(|count| u32::try_from(count).ok()));
        // While rows come, more may be new than were counted.
        let counted = came.saturating_add(if rows == 0 { self.doubled as u64 } else { 0 });
        let missing = self.total.is_some_and(|total| counted < total);
        // That nothing came is no proof that nothing follows.
        let whole = came > 0 && self.total.is_some_and(|total| (came..=counted).contains(&total));
        let more_pages = self.page_count.is_some_and(|count| number < count);
        let last_page = self.page_count == Some(number);
        let uri = next_uri(page);
        let led_here = std::mem::replace(&mut self.leads_on, uri.is_some());
        if let Some(back) = uri.and_then(page_of).filter(|next| *next <= number) {
            let read = self.read();
            return Ok(Next::Circle(format!(
                "the list leads round in a circle: after page {number} comes page {back} (`nextUri`); {read} came"
            )));
        }
        if missing && self.changed && self.before.is_none() && rows == 0 && !more_pages && uri.is_none() {
            self.moved = true;
            return Ok(Next::End);
        }
        if more_pages || missing || uri.is_some() && !whole {
            return Ok(Next::Page);
        }
        // What was before the first page is reckoned by the size of pages, which may be smaller than asked unless that is said.
        let is_counted =
            self.first == 1 || page.page_size.is_some_and(|said| u64::try_from(said) == Ok(self.page_size));
        let promised = led_here || last_page && number > self.first;
        match rows {
            0 if promised && !whole => {
                Err(self.remainder(&format!("page {number}, which was said to follow, is empty")))
            }
            0 => Ok(Next::End),
            // Nothing that can be read, behind the last page: as of a service that answers every page alike.
            _ if self.barren > 0 && self.page_count.is_some_and(|count| count < number) => Ok(Next::End),
            // What cannot be read may not be counted, so that as many more scripts follow.
            _ if whole && last_page && uri.is_none() && self.skipped == 0 && is_counted => Ok(Next::End),
            _ if whole || last_page || led_here => Ok(Next::Doubtful),
            _ => Ok(Next::Page),
        }
    }

    fn remainder(&self, what: &str) -> String {
        format!(
            "{} came, and {what}: the service counts what this token may not see, or the list changed while it was read",
            self.read()
        )
    }

    /// How far into the list it is, by what came and what must have been before it.
    fn came(&self) -> u64 {
        let before = u64::from(self.first.saturating_sub(1)).saturating_mul(self.page_size);
        before.saturating_add((self.ids.len() + self.skipped) as u64)
    }

    /// How many scripts came, of how many.
    fn read(&self) -> String {
        let again = self.before.iter().flat_map(|before| &before.ids).filter(|id| !self.ids.contains(*id)).count();
        let scripts = match (self.total, self.ids.len() + again) {
            (Some(total), came) if self.came() < total => format!("{came} of {total} scripts"),
            (_, 1) => "1 script".to_owned(),
            (_, came) => format!("{came} scripts"),
        };
        let from = if self.first > 1 { format!(" from page {} on", self.first) } else { String::new() };
        match self.skipped {
            0 => format!("{scripts}{from}"),
            skipped => format!("{scripts}{from} (and {skipped} that cannot be read)"),
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
    url.query_pairs()
        .find(|(name, _)| name.eq_ignore_ascii_case("pageNumber"))
        .and_then(|(_, number)| number.parse().ok())
}

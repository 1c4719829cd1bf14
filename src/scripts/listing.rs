//! Lists as streams: one page at a time, and only when it is asked for.

use std::collections::HashSet;
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use std::vec;

use futures_util::Stream;
use futures_util::future::BoxFuture;

use super::model::{Script, ScriptListing};
use super::query::ListScripts;
use crate::agent::Agent;
use crate::error::{Error, ErrorKind};
use crate::json::decode;
use crate::request::{Operation, Spec};

/// A list of scripts, as a `Stream` of them: a page is fetched when the scripts of the one before are used up.
///
/// It ends after the last page, and after the first error; it never asks again for a page that repeats. A page's
/// scripts are all that it holds, however long the list is.
///
/// ```no_run
/// use futures_util::TryStreamExt;
/// use genesys_scripts::{Agent, ListScripts};
///
/// # async fn example(agent: Agent) -> Result<(), genesys_scripts::Error> {
/// let mut scripts = agent.scripts(ListScripts::default());
/// while let Some(script) = scripts.try_next().await? {
///     println!("{} {}", script.id, script.name.unwrap_or_default());
/// }
/// # Ok(())
/// # }
/// ```
#[must_use = "nothing is fetched until the stream is polled"]
pub struct Listing {
    pages: ListingPages,
    /// What is left of the page in hand, and its number.
    page: vec::IntoIter<Script>,
    number: u32,
}

impl Listing {
    pub(super) fn new(agent: Agent, operation: &'static Operation, query: ListScripts) -> Self {
        let number = query.page_number;
        Self { pages: ListingPages::new(agent, operation, query), page: Vec::new().into_iter(), number }
    }

    /// The same list as a stream of pages, with what each says of the whole: how many scripts there are, and
    /// how many pages. A page that has been begun comes again, whole.
    ///
    /// ```no_run
    /// # use futures_util::TryStreamExt;
    /// # async fn example(agent: genesys_scripts::Agent) -> Result<(), genesys_scripts::Error> {
    /// let mut pages = agent.scripts(genesys_scripts::ListScripts::default()).pages();
    /// if let Some(page) = pages.try_next().await? {
    ///     println!("{:?} scripts on {:?} pages", page.total, page.page_count);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn pages(self) -> ListingPages {
        match self.page_number() {
            Some(number) if !self.page.as_slice().is_empty() => self.pages.again_from(number),
            _ => self.pages,
        }
    }

    /// Where to resume: the page the next script is on, to be given as a new query's `page_number`. Scripts of
    /// that page which came already come again then. After an error it is the page that failed; `None` at the end.
    #[must_use]
    pub fn page_number(&self) -> Option<u32> {
        if self.page.as_slice().is_empty() { self.pages.page_number() } else { Some(self.number) }
    }
}

impl Stream for Listing {
    type Item = Result<Script, Error>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            if let Some(script) = self.page.next() {
                return Poll::Ready(Some(Ok(script)));
            }
            let number = self.pages.page_number();
            match ready!(Pin::new(&mut self.pages).poll_next(context)) {
                Some(Ok(page)) => {
                    self.page = page.entities.into_iter();
                    self.number = number.unwrap_or(self.number);
                }
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => return Poll::Ready(None),
            }
        }
    }
}

impl fmt::Debug for Listing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Listing").field("page_number", &self.page_number()).finish_non_exhaustive()
    }
}

/// A list of scripts, as a `Stream` of its pages. Made by [`Listing::pages`].
#[must_use = "nothing is fetched until the stream is polled"]
pub struct ListingPages {
    agent: Agent,
    operation: &'static Operation,
    query: Arc<ListScripts>,
    /// The page to fetch next; `None` after the last.
    next: Option<u32>,
    fetching: Option<BoxFuture<'static, Result<Page, Error>>>,
    /// The pages that came, by their scripts' ids: 8 bytes each.
    seen: HashSet<u64>,
    failed: bool,
}

/// A page as it came, and what that took.
struct Page {
    listing: ScriptListing,
    attempts: u32,
    elapsed: Duration,
}

impl ListingPages {
    fn new(agent: Agent, operation: &'static Operation, query: ListScripts) -> Self {
        let next = Some(query.page_number);
        Self { agent, operation, query: Arc::new(query), next, fetching: None, seen: HashSet::new(), failed: false }
    }

    fn again_from(mut self, number: u32) -> Self {
        self.next = Some(number);
        self.seen.clear();
        self
    }

    /// Where to resume: the page that comes next, to be given as a new query's `page_number`. After an error it
    /// is the page that failed; `None` at the end.
    #[must_use]
    pub fn page_number(&self) -> Option<u32> {
        self.next
    }

    fn fetch(&self, number: u32) -> BoxFuture<'static, Result<Page, Error>> {
        let (agent, operation, query) = (self.agent.clone(), self.operation, Arc::clone(&self.query));
        Box::pin(async move {
            query.check()?;
            let spec = Spec::of(operation, &[]).query(query.query(number));
            let answer = agent.run(&spec).await?;
            let listing = decode("a list of scripts", &spec, &answer)?;
            Ok(Page { listing, attempts: answer.attempts, elapsed: answer.elapsed })
        })
    }

    /// Takes the page that was asked for, and finds out whether there is another.
    fn accept(&mut self, number: u32, page: Page) -> Result<ScriptListing, Error> {
        let listing = page.listing;
        let repeats = |why: String| {
            Error::new(ErrorKind::UnexpectedAnswer, why).maybe_sent(true).ended(
                self.operation.name,
                None,
                page.attempts,
                page.elapsed,
            )
        };
        if let Some(other) = listing.page_number.filter(|other| i64::from(*other) != i64::from(number)) {
            return Err(repeats(format!("page {number} was asked for, page {other} came")));
        }
        if !listing.entities.is_empty() && !self.seen.insert(fingerprint(&listing)) {
            return Err(repeats(format!("page {number} repeats an earlier page, so the list would never end")));
        }
        self.next = number.checked_add(1).filter(|_| has_next(&listing, number, self.query.page_size));
        Ok(listing)
    }
}

/// Whether another page follows. What the service says of it is all optional, so the surest of what is there decides.
fn has_next(listing: &ScriptListing, number: u32, asked_size: u32) -> bool {
    let number = i64::from(number);
    let size = listing.page_size.filter(|size| *size > 0).map_or(i64::from(asked_size), i64::from);
    if listing.entities.is_empty() {
        false
    } else if let Some(count) = listing.page_count.filter(|count| *count > 0) {
        number < i64::from(count)
    } else if listing.next_uri.is_some() {
        true
    } else if let Some(total) = listing.total.filter(|total| *total > 0) {
        number.saturating_mul(size) < total
    } else {
        i64::try_from(listing.entities.len()).is_ok_and(|scripts| scripts >= size)
    }
}

fn fingerprint(listing: &ScriptListing) -> u64 {
    let mut hasher = DefaultHasher::new();
    for script in &listing.entities {
        script.id.hash(&mut hasher);
    }
    hasher.finish()
}

impl Stream for ListingPages {
    type Item = Result<ScriptListing, Error>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let Some(number) = self.next.filter(|_| !self.failed) else { return Poll::Ready(None) };
        let mut fetching = match self.fetching.take() {
            Some(fetching) => fetching,
            None => self.fetch(number),
        };
        let Poll::Ready(fetched) = fetching.as_mut().poll(context) else {
            self.fetching = Some(fetching);
            return Poll::Pending;
        };
        let page = fetched.and_then(|page| self.accept(number, page));
        self.failed = page.is_err();
        Poll::Ready(Some(page))
    }
}

impl fmt::Debug for ListingPages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ListingPages")
            .field("operation", &self.operation.name)
            .field("page_number", &self.next)
            .finish_non_exhaustive()
    }
}

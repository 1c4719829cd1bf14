//! Lists as streams: one page at a time, and only when it is asked for. Where they end is told by `course.rs`.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::vec;

use bytes::Bytes;
use futures_util::Stream;
use futures_util::future::BoxFuture;

use super::course::{Course, Next};
use super::model::{Script, ScriptListing};
use super::query::ListScripts;
use crate::agent::Agent;
use crate::answer::Answer;
use crate::error::{Envelope, Error, ErrorKind};
use crate::json::{decode_unless_error, unexpected};
use crate::request::{Operation, Spec};

/// A list of scripts, as a `Stream` of them: a page is fetched when the scripts of the one before are used up.
///
/// Each script comes once. The list ends where the service says so, or where nothing says that more follows and a page came
/// empty; a page with fewer scripts than were asked for is no end. `total`, `pageCount` and `nextUri` can each be missing or
/// wrong, so all that are there must agree: one that says that more follows is believed, and where one alone says that the list
/// ends, another page is asked for. Where `total` says that scripts went while the list was read, others may have moved to a page
/// that was read before: it is read once more then, for what did not come. It holds the scripts of one page, and the ids of those
/// that came.
///
/// What cannot be read (`null`, a script without an id) is left out with a `tracing` warning, and [counted](Self::skipped).
///
/// # Errors
///
/// The first error is the last item, and what came before it is good. Beside those of every call it is an
/// [`ErrorKind::UnexpectedAnswer`](crate::ErrorKind::UnexpectedAnswer) that says how many scripts came, where
/// - fewer come than `total` counts,
/// - a page comes twice, or `nextUri` leads back,
/// - 20 pages in a row bring nothing new and the list does not end.
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
    /// What is left of the page in hand.
    page: vec::IntoIter<Script>,
}

impl Listing {
    pub(super) fn new(agent: Agent, operation: &'static Operation, query: ListScripts) -> Self {
        Self { pages: ListingPages::new(agent, operation, query), page: Vec::new().into_iter() }
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
            Some(number) if !self.page.as_slice().is_empty() => self.pages.anew_from(number),
            _ => self.pages,
        }
    }

    /// How many there were so far that cannot be read, and were left out.
    ///
    /// ```no_run
    /// # use futures_util::TryStreamExt;
    /// # async fn example(agent: genesys_scripts::Agent) -> Result<(), genesys_scripts::Error> {
    /// let mut scripts = agent.scripts(genesys_scripts::ListScripts::default());
    /// let all: Vec<_> = (&mut scripts).try_collect().await?;
    /// println!("{} scripts, and {} that cannot be read", all.len(), scripts.skipped());
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn skipped(&self) -> usize {
        self.pages.skipped()
    }

    /// Where to resume: the page the next script is on, to be given as a new query's `page_number`. Scripts of
    /// that page which came already come again then. After an error it is the page that failed; `None` at the end.
    #[must_use]
    pub fn page_number(&self) -> Option<u32> {
        if self.page.as_slice().is_empty() { self.pages.page_number() } else { Some(self.pages.number) }
    }
}

impl Stream for Listing {
    type Item = Result<Script, Error>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            if let Some(script) = self.page.next() {
                return Poll::Ready(Some(Ok(script)));
            }
            match ready!(Pin::new(&mut self.pages).poll_next(context)) {
                Some(Ok(page)) => self.page = page.entities.into_iter(),
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

/// A list of scripts, as a `Stream` of its pages: each with the scripts that did not come before. Made by [`Listing::pages`].
#[must_use = "nothing is fetched until the stream is polled"]
pub struct ListingPages {
    agent: Agent,
    operation: &'static Operation,
    query: Arc<ListScripts>,
    /// The page that came last.
    number: u32,
    /// The page to fetch next; `None` after the last.
    next: Option<u32>,
    /// Whether the service said that there is none.
    doubtful: bool,
    /// Why there is no next page although there should be.
    broken: Option<Error>,
    fetching: Option<BoxFuture<'static, Fetched>>,
    course: Course,
    failed: bool,
}

/// A page; none where there is said to be none, and that is so.
type Fetched = Result<Option<(ScriptListing, Box<Answer>)>, Error>;

/// What a page of a list may say.
const KNOWN: [&str; 11] = [
    "entities",
    "pageSize",
    "pageNumber",
    "pageCount",
    "total",
    "firstUri",
    "nextUri",
    "previousUri",
    "lastUri",
    "selfUri",
    "truncatedDivisions",
];

impl ListingPages {
    fn new(agent: Agent, operation: &'static Operation, query: ListScripts) -> Self {
        Self {
            number: query.page_number,
            next: Some(query.page_number),
            course: Course::new(&query),
            agent,
            operation,
            query: Arc::new(query),
            doubtful: false,
            broken: None,
            fetching: None,
            failed: false,
        }
    }

    fn anew_from(self, page_number: u32) -> Self {
        Self::new(self.agent, self.operation, ListScripts { page_number, ..Arc::unwrap_or_clone(self.query) })
    }

    /// How many scripts there were so far that cannot be read, and were left out.
    #[must_use]
    pub fn skipped(&self) -> usize {
        self.course.skipped()
    }

    /// Where to resume: the page that comes next, to be given as a new query's `page_number`. After an error it
    /// is the page that failed; `None` at the end.
    #[must_use]
    pub fn page_number(&self) -> Option<u32> {
        self.next
    }

    fn fetch(&self, number: u32) -> BoxFuture<'static, Fetched> {
        let (agent, operation, query) = (self.agent.clone(), self.operation, Arc::clone(&self.query));
        let doubtful = self.doubtful;
        Box::pin(async move {
            query.check()?;
            let spec = Spec::of(operation, &[]).query(query.query(number));
            let mut answer = match agent.run(&spec).await {
                Err(error) if doubtful && is_refused(&error) => return Ok(None),
                result => result?,
            };
            if doubtful && is_nothing(&answer.body) {
                return Ok(None);
            }
            let is_blank = |page: &ScriptListing| page.entities.is_empty() && page.total.is_none();
            let page = decode_unless_error(&KNOWN, is_blank, "a list of scripts", &spec, &answer)?;
            answer.body = Bytes::new();
            Ok(Some((page, answer)))
        })
    }

    /// Takes the page that was asked for, and finds out whether there is another. None where it is no page after all.
    fn accept(
        &mut self,
        number: u32,
        mut page: ScriptListing,
        answer: &Answer,
    ) -> Result<Option<ScriptListing>, Error> {
        let token: Vec<&str> = answer.token().into_iter().collect();
        let unexpected = |why: String| unexpected(&why, &Spec::of(self.operation, &[]), answer, &token);
        let next = self.course.take(number, &mut page).map_err(unexpected)?;
        match &next {
            // For one that is said not to be there.
            Next::Another(_) if self.doubtful => return Ok(None),
            Next::Another(why) => return Err(unexpected(why.clone())),
            Next::Circle(why) => self.broken = Some(unexpected(why.clone())),
            _ => {}
        }
        (self.number, self.doubtful) = (number, next == Next::Doubtful);
        self.next = if next == Next::End { self.course.again() } else { number.checked_add(1) };
        Ok(Some(page))
    }

    /// What the page came to; none where there is no such page.
    fn ended(&mut self, number: u32, fetched: Fetched) -> Result<Option<ScriptListing>, Error> {
        let page = fetched.and_then(|came| came.map_or(Ok(None), |(page, answer)| self.accept(number, page, &answer)));
        match &page {
            Ok(None) => (self.next, self.doubtful) = (self.course.again(), false),
            Ok(Some(_)) => {}
            Err(_) => self.failed = true,
        }
        page.map_err(|error| if number > 1 { error.noted(&format!("page {number}")) } else { error })
    }
}

/// The service's word that there is no such page; a page of HTML is a gateway's, who does not know.
fn is_refused(error: &Error) -> bool {
    let is_page = error.body().is_some_and(|body| body.envelope == Envelope::Page);
    matches!(error.kind(), ErrorKind::NotFound | ErrorKind::BadRequest) && !error.is_retryable() && !is_page
}

/// A success that has nothing in it, or a few words.
fn is_nothing(body: &[u8]) -> bool {
    const FEW: usize = 100;
    let Ok(text) = std::str::from_utf8(body.trim_ascii()) else { return false };
    let is_words = text.starts_with(char::is_alphabetic) && text.len() <= FEW && !text.contains(char::is_control);
    is_words || matches!(text, "" | "[]" | "\"\"")
}

impl Stream for ListingPages {
    type Item = Result<ScriptListing, Error>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            let Some(number) = self.next.filter(|_| !self.failed) else { return Poll::Ready(None) };
            if let Some(error) = self.broken.take() {
                self.failed = true;
                return Poll::Ready(Some(Err(error)));
            }
            let mut fetching = match self.fetching.take() {
                Some(fetching) => fetching,
                None => self.fetch(number),
            };
            let Poll::Ready(fetched) = fetching.as_mut().poll(context) else {
                self.fetching = Some(fetching);
                return Poll::Pending;
            };
            if let Some(page) = self.ended(number, fetched).transpose() {
                return Poll::Ready(Some(page));
            }
        }
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

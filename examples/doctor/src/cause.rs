//! What can be the matter: names, how sure they are, and the report that holds them.

use std::collections::BTreeMap;

use serde::Serialize;

/// How sure a cause is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Certainty {
    /// It fits what was seen, as other causes do.
    Possible,
    /// It explains what was seen better than any other, beyond chance.
    Likely,
    /// The files leave no other explanation.
    Certain,
}

/// How much a finding matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Good to know.
    Note,
    /// Requests may fail of it.
    Warning,
    /// Requests fail of it.
    Error,
}

/// What it all comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Something is the matter, and the report names it.
    Causes,
    /// Nothing is the matter with what was read.
    NothingFound,
    /// Requests failed, and the files do not tell of what.
    NotEnoughEvidence,
}

macro_rules! names {
    ($($variant:ident $name:literal $words:literal $advice:literal)*) => {
        /// A cause of failed requests.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
        pub enum Name {
            $(#[doc = $words] #[serde(rename = $name)] $variant,)*
        }

        impl Name {
            /// The name as it stands in JSON.
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// What it means, in a few words.
            pub fn words(self) -> &'static str {
                match self { $(Self::$variant => $words,)* }
            }

            /// What to do about it.
            pub fn advice(self) -> &'static str {
                match self { $(Self::$variant => $advice,)* }
            }
        }
    };
}

names! {
    FeedExhausted "feed_exhausted" "the data file has fewer rows than the test reads"
        "Give the feed a row for each thread and loop, or set recycle to true; with stopThread a thread ends instead of asking for <EOF>."
    FeedBlankLine "feed_blank_line" "a blank line in the data file is read as its end"
        "Delete the blank lines: JMeter sets the variables to <EOF> for each."
    FeedBom "feed_bom" "the data file begins with a byte order mark"
        "Save the feed as UTF-8 without a byte order mark."
    FeedSpace "feed_space" "values of the data file have spaces around them"
        "Take the spaces out of the feed: JMeter does not trim values."
    FeedQuotes "feed_quotes" "values of the data file are quoted and read with their quotes"
        "Set quotedData to true, or take the quotes out of the feed."
    FeedHeaderRow "feed_header_row" "the header of the data file is read as a row"
        "Set ignoreFirstLine to true, or leave variableNames empty."
    FeedPlaceholder "feed_placeholder" "a variable was not filled in"
        "Look where the variable gets its value: its name in the plan and in the feed, the extractor before it, and the step that it extracts from."
    FeedEmptyId "feed_empty_id" "an id is empty"
        "Fill in the id: without one the request asks for the list of scripts."
    FeedUnencodedId "feed_unencoded_id" "an id has characters that a path cannot hold"
        "Correct the id in the feed, or encode it."
    FeedUnknownId "feed_unknown_id" "ids that the service does not know"
        "Look the ids up: deleted, of another organization, or mistyped."
    FeedOneRow "feed_one_row" "all threads use the same row of the data file"
        "Set shareMode to all threads, or give each thread a file of its own."
    HeaderMissing "header_missing" "a header is missing"
        "Add it to the Header Manager in scope of the sampler."
    HeaderWrong "header_wrong" "a header has a wrong value"
        "Correct the header; Authorization is the word Bearer, a space, and the token."
    HeaderDuplicate "header_duplicate" "a header is sent twice"
        "Keep one of them."
    HeaderDead "header_dead" "headers stand where JMeter does not read them"
        "Move them to a Header Manager: a sampler has no headers of its own."
    TokenMissing "token_missing" "requests have no token that is valid"
        "Add a Header Manager with Authorization: Bearer and the agent's token."
    TokenExpired "token_expired" "tokens expire during the run"
        "Fetch a new token when one expires, or log in again before a long run."
    TokenShared "token_shared" "one token serves all threads"
        "Give each thread a token of its own: quotas are counted per token."
    SessionConflict "session_conflict" "threads use the same session, and end it for each other"
        "Give each thread a user of its own."
    Quota "quota" "more requests than the quota allows"
        "Slow down to the quota, wait as Retry-After says, and spread the load over more tokens."
    LoginThrottled "login_throttled" "too many logins at once"
        "Log in before the test, at a few logins a second, and keep the tokens."
    LoginRefused "login_refused" "logins are refused"
        "Check the client's id and secret, its grant type, and its roles."
    WrongAddress "wrong_address" "what is asked for is not at this address"
        "Correct the host or the path."
    WrongScheme "wrong_scheme" "http where https is spoken, or the reverse"
        "Make protocol and port fit each other: https and 443."
    NotModified "not_modified" "conditional requests are answered without content"
        "Take the HTTP Cache Manager, or the If-… header, out of the plan."
    Redirected "redirected" "requests are redirected"
        "Ask the address that they are redirected to."
    NeverRuns "never_runs" "a part of the plan never runs"
        "Correct the condition: ${__jexl3(…)} or ${__groovy(…)} that comes to true."
    Overload "overload" "the service fails when too much is asked at once"
        "Ask for less at once, as many as went well, and let the rest wait; then tell the service's owner the number."
    BrokenScript "broken_script" "some scripts fail whenever they are asked for"
        "Open these scripts, correct and publish them; or take them out of the feed."
    AllRefused "all_refused" "every request is refused"
        "Make one such request by hand and read the answer's body: it is the request, and no matter of load."
    GatewayFailure "gateway_failure" "a gateway got no good answer from the service behind it"
        "Tell the service's owner the times; try again later with fewer at once."
    ServiceDown "service_down" "the service was down"
        "Repeat the test when the service is well."
    Timeout "timeout" "answers take longer than somebody waits"
        "See what is slow; raise the timeout only when slow answers are good enough."
    Burst "burst" "all threads start at once"
        "Give the threads a ramp-up of some seconds."
    AddressLimit "address_limit" "a limit on what one address may send"
        "Spread the load over more addresses, or slow down."
    ConnectionChurn "connection_churn" "a new connection for every request"
        "Keep connections alive: use_keepalive in the sampler or its defaults."
    ConnectionReuse "connection_reuse" "connections that the server has closed are used again"
        "Let the client close idle connections before the server does."
    ColdStart "cold_start" "the first requests fail"
        "Warm up with a few requests before the load."
    Transient "transient" "some requests fail, whatever is asked and by whom"
        "Try again what failed; tell the service's owner the share and the times."
    TimeWindow "time_window" "requests failed during one span of time only"
        "Ask what happened at the service then; repeat the test."
    Contention "contention" "several write to one object at the same time"
        "Give each thread an object of its own, or write one after the other."
    NodeFault "node_fault" "one of several nodes answers wrongly"
        "Tell the service's owner which; leave it out until it is mended."
    ClientMade "client_made" "the tool failed by itself, and no server was asked"
        "Correct the plan or the machine it runs on, as the message says."
    GeneratorLimited "generator_limited" "the machine that makes the load is at its limit"
        "Keep connections alive, raise the machine's limits, or use more machines."
    OwnAssertion "own_assertion" "the plan's own check failed an answer that the service served"
        "Look at the assertion: either it expects the wrong thing, or the service answers wrongly with a good status."
    MixedRuns "mixed_runs" "the result file holds more than one run, or each request more than once"
        "Write each run to a file of its own, with one listener."
}

/// A cause, with what speaks for it.
#[derive(Clone, Debug, Serialize)]
pub struct Cause {
    /// Which.
    pub name: Name,
    /// How sure.
    pub certainty: Certainty,
    /// Of the failures, 0 to 1; before any results of the requests that will fail. None where it cannot be told.
    pub share: Option<f64>,
    /// The cause that this one is a consequence of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub follows: Option<Name>,
    /// What speaks for it, counted.
    pub evidence: Vec<String>,
    /// What to do.
    pub advice: String,
    /// The setting of genesys-scripts that mends it, where one does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub setting: Option<Setting>,
}

/// A setting, and what to set it to.
#[derive(Clone, Debug, Serialize)]
pub struct Setting {
    /// The method of `ClientBuilder`.
    pub name: &'static str,
    /// Its argument.
    pub value: u64,
}

impl Cause {
    /// A cause with its usual advice.
    pub fn new(name: Name, certainty: Certainty, share: Option<f64>, evidence: impl Into<String>) -> Self {
        let share = share.map(|share| (share.clamp(0.0, 1.0) * 1e4).round() / 1e4);
        let advice = name.advice().to_owned();
        Self { name, certainty, share, follows: None, evidence: vec![evidence.into()], advice, setting: None }
    }
}

/// The surest first; what follows from another after what it follows from.
pub fn in_order(causes: &mut [Cause]) {
    causes.sort_by(|a, b| {
        let share = |cause: &Cause| cause.share.unwrap_or_default();
        let by_certainty = b.certainty.cmp(&a.certainty).then(a.follows.is_some().cmp(&b.follows.is_some()));
        by_certainty.then(share(b).total_cmp(&share(a)))
    });
}

/// Something to know about one place in a file.
#[derive(Clone, Debug, Serialize)]
pub struct Finding {
    /// The rule: a cause's name where there is one.
    pub rule: &'static str,
    /// How much it matters.
    pub level: Level,
    /// The file.
    pub file: String,
    /// The line in it, from 1.
    pub line: u64,
    /// What it is, what comes of it, and what to do.
    pub message: String,
}

/// A cause that the files speak against.
#[derive(Clone, Debug, Serialize)]
pub struct RuledOut {
    /// Which.
    pub name: Name,
    /// What speaks against it.
    pub why: String,
}

/// A file that was read, or an experiment that was made.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Read {
    /// Its name; of an experiment, what was asked.
    pub file: String,
    /// `plan`, `results`, `data` or `experiment`.
    pub kind: &'static str,
    /// How many requests it tells of.
    pub requests: u64,
    /// How they were answered.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub codes: BTreeMap<String, u64>,
    /// How many runs are in it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub runs: Option<usize>,
    /// How long the run that was looked at took.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seconds: Option<f64>,
    /// Rows of data.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rows: Option<u64>,
}

/// All there is to say.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// What it comes to.
    pub verdict: Verdict,
    /// The surest first.
    pub causes: Vec<Cause>,
    /// The gravest first.
    pub findings: Vec<Finding>,
    /// What it was not.
    pub ruled_out: Vec<RuledOut>,
    /// What could not be asked of these files, and why.
    pub not_tested: Vec<String>,
    /// What was read.
    pub read: Vec<Read>,
}

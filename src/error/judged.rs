//! The answers of `tests/data`, each judged as it would be told to a user.
//!
//! `answers.jsonl` has answers of servers, gateways and frameworks, each with where its wording is from and, in `right`,
//! what it supports and how sure that may be at most. In `unlike` are changes of its body with which it says nothing of the
//! kind any more, in `without` the header that says it.

use std::collections::{BTreeMap, BTreeSet};

use http::{HeaderMap, HeaderName, HeaderValue};
use serde::Deserialize;
use serde_json::Value;

use super::body::ErrorBody;
use super::cause::{BadRequest, Cause, Certainty, Endpoint, Evidence, RequestFacts, classify_by};
use super::rules::RULES;
use super::words::Words;

#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    name: String,
    from: String,
    /// Where its wording is from; empty where it was made up.
    url: String,
    #[serde(default)]
    at: Option<String>,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    /// JSON, or a string that is sent as it is.
    body: Value,
    #[serde(default)]
    sent: Sent,
    right: BTreeMap<String, String>,
    /// True, but less than the answer says.
    #[serde(default)]
    tolerated: BTreeMap<String, String>,
    #[serde(default)]
    words: Vec<String>,
    #[serde(default)]
    unlike: Vec<(String, String)>,
    #[serde(default)]
    without: Option<String>,
}

#[derive(Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Sent {
    of_script: bool,
    had_body: bool,
    odd_id: Option<String>,
    parameters: Vec<String>,
}

#[derive(Debug, PartialEq)]
enum Judged {
    Right,
    Tolerated,
    /// Another cause, said to be possible.
    Wrong,
    /// Another cause, or one surer than the answer.
    Invented,
}

impl Case {
    fn classified(&self, allowed: &dyn Fn(&str) -> bool) -> BadRequest {
        let wire = self.body.as_str().map_or_else(|| self.body.to_string(), str::to_owned);
        let mut headers = HeaderMap::new();
        for (name, value) in &self.headers {
            let name: HeaderName = name.to_ascii_lowercase().parse().unwrap();
            headers.insert(name, HeaderValue::from_str(value).unwrap());
        }
        let body = ErrorBody::read(&headers, wire.as_bytes(), &[]);
        let endpoint = match self.at.as_deref() {
            None => Endpoint::Api,
            Some("login") => Endpoint::Login,
            Some("signed_url") => Endpoint::SignedUrl,
            Some(other) => panic!("{other}"),
        };
        let parameters: Vec<&str> = self.sent.parameters.iter().map(String::as_str).collect();
        let request = RequestFacts {
            of_script: self.sent.of_script,
            had_body: self.sent.had_body,
            odd_id: self.sent.odd_id.as_deref(),
            parameters: &parameters,
        };
        classify_by(&Evidence { endpoint, headers: &headers, body: &body, request }, allowed)
    }

    fn judged(&self, found: &BadRequest) -> Judged {
        let is = |among: &BTreeMap<String, String>| {
            among.get(found.cause.name()).is_some_and(|most| found.certainty <= certainty(most))
        };
        match (is(&self.right), is(&self.tolerated), found.certainty) {
            (true, ..) => Judged::Right,
            (_, true, _) => Judged::Tolerated,
            (_, _, Certainty::Possible) => Judged::Wrong,
            _ => Judged::Invented,
        }
    }

    /// What the rules of words hear in it.
    fn heard(&self) -> BTreeSet<&'static str> {
        let heard = std::cell::RefCell::new(BTreeSet::new());
        for says in RULES.iter().flat_map(|(.., says)| says.iter()) {
            let silent = self.classified(&|_| false);
            let spoken = self.classified(&|other| other == *says);
            if spoken != silent {
                heard.borrow_mut().insert(*says);
            }
        }
        heard.into_inner()
    }

    fn changed(&self) -> Vec<(String, Self)> {
        let changed = self.unlike.iter().map(|(from, to)| {
            let text = self.body.as_str().map_or_else(|| self.body.to_string(), str::to_owned);
            assert!(text.contains(from.as_str()), "{}: no {from:?} in {text}", self.name);
            (from.clone(), to.clone())
        });
        let mut all = self.clone();
        for (from, to) in changed {
            let text = all.body.as_str().map_or_else(|| all.body.to_string(), str::to_owned);
            all.body = Value::String(text.replace(&from, &to));
        }
        if let Some(header) = &self.without {
            assert!(all.headers.remove(header).is_some(), "{}: no {header}", self.name);
        }
        let any = !self.unlike.is_empty() || self.without.is_some();
        any.then(|| (self.name.clone(), all)).into_iter().collect()
    }
}

fn certainty(name: &str) -> Certainty {
    match name {
        "possible" => Certainty::Possible,
        "likely" => Certainty::Likely,
        "certain" => Certainty::Certain,
        other => panic!("{other}"),
    }
}

fn cases() -> Vec<Case> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/answers.jsonl");
    let answers = std::fs::read_to_string(path).unwrap();
    answers.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect()
}

fn of_source(cases: &[Case]) -> BTreeMap<&str, Vec<&Case>> {
    let mut sources: BTreeMap<&str, Vec<&Case>> = BTreeMap::new();
    for case in cases {
        sources.entry(&case.from).or_default().push(case);
    }
    sources
}

#[test]
fn every_answer_is_judged_as_expected_and_its_words_are_quoted() {
    let mut wrong = Vec::new();
    for case in cases() {
        let found = case.classified(&|_| true);
        let judged = case.judged(&found);
        let shown = found.to_string();
        if judged != Judged::Right || !case.words.iter().all(|words| shown.contains(words.as_str())) {
            wrong.push(format!("{}: {judged:?}: {shown}\n    {:?}", case.name, case.right));
        }
    }
    assert!(wrong.is_empty(), "{} of {}\n{}", wrong.len(), cases().len(), wrong.join("\n"));
}

#[test]
fn with_one_thing_changed_no_claim_survives() {
    let cases = cases();
    let changed: Vec<_> = cases.iter().flat_map(Case::changed).collect();
    let mut wrong = Vec::new();
    for (name, case) in &changed {
        let found = case.classified(&|_| true);
        if !matches!(found.cause, Cause::Unknown | Cause::Gateway) {
            wrong.push(format!("{name}: {found}"));
        }
    }
    assert!(wrong.is_empty(), "{} of {}\n{}", wrong.len(), changed.len(), wrong.join("\n"));
}
